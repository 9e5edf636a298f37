"""`python -m train tiny`: its small pictures, and the whole recipe in small."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qsit_metric import QSiT
from qsit_metric.evaluation import srcc
from train.data.frozen import Frozen
from train.errors import DataError, RunError
from train.mixture import Sizes
from train.nano.data.contents import SMALL_SIZES, content
from train.nano.data.dataset import Amounts, make_dataset, make_picture, read_pictures
from train.nano.effort import Q_SIT_TINY, TINY, TINY_DEVICE, TINY_FAST, Effort
from train.nano.run import run_nano
from train.nano.scratch import count_parameters
from train.nano.stages import Say
from train.sweep import plan_step2, spread_ratios


def run_tiny(output: Path, seed: int, effort: Effort, say: Say = lambda _: None) -> dict[str, Any]:
    return run_nano(output, seed, effort, TINY_DEVICE, say=say, product=Q_SIT_TINY)


def test_small_pictures_fill_the_largest_grid_and_are_degraded_in_few_ways() -> None:
    made = [make_picture(name, number, 5, small=True) for name in ("d1", "d2", "questions") for number in range(20)]
    for picture, image in made:
        assert image.size in SMALL_SIZES
        assert max(image.size) == max(Q_SIT_TINY.spec.pinpoints[-1])
        assert not any(one.corruption for one in picture.degradations)
        assert all(one.kind in DEGRADED for one in picture.degradations)
    assert {one.kind for picture, _ in made for one in picture.degradations} == DEGRADED
    assert np.mean([np.abs(np.diff(np.asarray(image, float), axis=1)).max() > 25 for _, image in made]) > 0.8  # edges
    again, image = make_picture("d1", 3, 5, small=True)
    assert (again, image.tobytes()) == (made[3][0], made[3][1].tobytes())


DEGRADED = {"gaussian_blur", "white_noise", "jpeg", "darken", "color_saturation_hsv"}


def test_small_sizes_are_for_small_pictures_only() -> None:
    assert content("shapes", (96, 72), np.random.default_rng(0)).image.size == (96, 72)
    with pytest.raises(DataError, match="`size`: .*a long side of 384 to 640"):
        content("shapes", (100, 72), np.random.default_rng(0))


def test_small_data_is_other_data(tmp_path: Path) -> None:
    few = Amounts(6, 8, 6, 6, 6, 6, small=True)
    data = make_dataset(tmp_path, few, seed=3, workers=1, quiet=True)
    data.check_images()
    assert [shot.image for shot in read_pictures(tmp_path, "d1")] == [row.image for row in data.rows("d1")]
    used = [{row.image for row in data.rows(name)} for name in ("d1", "d3")]
    used += [{row.image for row in data.val_scoring}, {one.image for one in data.val_questions}]
    assert sum(map(len, used)) == len(set.union(*used)), "no picture is in two sets"
    with pytest.raises(DataError, match=r"expected data made as now \(small none\), but it has small True"):
        make_dataset(tmp_path, replace(few, small=None), seed=3, workers=1, quiet=True)


def test_the_primary_model_is_the_larger_one() -> None:
    assert Q_SIT_TINY.primary is not None
    assert count_parameters(Q_SIT_TINY.spec) < count_parameters(Q_SIT_TINY.primary) < 1_100_000
    assert Q_SIT_TINY.primary.geometry == Q_SIT_TINY.spec.geometry


@given(st.integers(40, 900), st.integers(40, 900), st.integers(40, 900), st.floats(0.1, 15))
@settings(max_examples=60, deadline=None)
def test_ratios_of_step_2_never_fall_together(d1: int, d2: int, d3: int, r: float) -> None:
    counts = Sizes(d1, d2, d3)
    plan = plan_step2(counts, r, ratios=spread_ratios(counts, r, 7), repeats=1, degree=2)
    assert len({run.ratio for run in plan.runs}) == 7


@pytest.mark.long
def test_the_whole_recipe_runs_is_skipped_when_done_and_refuses_other_settings(tmp_path: Path) -> None:
    said: list[str] = []
    found = run_tiny(tmp_path / "tiny", 1, TINY_FAST, said.append)
    assert json.loads((tmp_path / "tiny" / "summary.json").read_text())["lambda"] == found["lambda"]
    small = found["small"]
    assert found["lambda"] == pytest.approx(small["loss_scoring"] / small["loss_interpreting"])
    assert len(found["mixture"]["model"]) == TINY_FAST.epochs
    assert found["parameters"] > found["small_parameters"]
    for name in ("step1/fit.png", "step2/fit.json", "primary/models/tower/tower.json", "q-sit-tiny/README.md"):
        assert (tmp_path / "tiny" / name).is_file(), name
    assert 1 < float(QSiT(tmp_path / "tiny" / "q-sit-tiny").score(np.zeros((64, 96, 3), dtype=np.uint8))) < 5
    again = run_tiny(tmp_path / "tiny", 1, TINY_FAST)
    assert {**again, "seconds": 0} == {**found, "seconds": 0}
    with pytest.raises(RunError, match=r"expected a folder of a run made as now \(seed 2\), but it has seed 1"):
        run_tiny(tmp_path / "tiny", 2, TINY_FAST)


@pytest.mark.long
def test_tiny_learns_within_ten_minutes(tmp_path: Path) -> None:
    found = run_tiny(tmp_path / "tiny", 0, TINY)
    assert found["seconds"]["total"] < 600
    for model in ("small", "model"):
        assert found[model]["srcc/synthetic"] > 0.25, model
    data = Frozen.load(tmp_path / "tiny" / "data" / "data")
    metric = QSiT(tmp_path / "tiny" / "q-sit-tiny")
    scores = [float(metric.score(data.root("scoring") / row.image)) for row in data.val_scoring]
    assert srcc(scores, [row.mos or 0.0 for row in data.val_scoring]) > 0.25
