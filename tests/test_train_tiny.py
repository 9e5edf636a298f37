"""`train.nano.tiny`: drawn pictures, their rows, the tower's first stage, and the whole recipe in small."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qsit_metric import QSiT
from qsit_metric.evaluation import srcc
from train.data.frozen import Frozen
from train.data.scoring import level_in
from train.errors import DataError, RecipeError, RunError
from train.mixture import Sizes
from train.nano.tiny.data import SCALES, Amounts, Degraded, all_texts, asked, choice, feedback, make_data, question
from train.nano.tiny.pictures import DEGRADATIONS, SCENES, degrade, draw, quality, take_crops
from train.nano.tiny.run import FAST, FULL, run_tiny
from train.sweep import plan_step2, spread_ratios

FEW = Amounts(d1=64, d2=60, d3=60, questions=40, base=40)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Frozen, Frozen]:
    folder = tmp_path_factory.mktemp("tiny")
    return folder, *make_data(folder, FEW, seed=3)


@given(st.sampled_from(SCENES), st.integers(0, 2**31))
@settings(max_examples=20, deadline=None)
def test_pictures_have_edges_and_a_long_side_of_96(scene: str, seed: int) -> None:
    pixels = draw(np.random.default_rng(seed), scene).pixels
    assert max(pixels.shape) == 96
    assert min(pixels.shape[:2]) >= 64
    assert pixels.min() >= 0
    assert pixels.max() <= 1
    assert np.abs(np.diff(pixels, axis=1)).max() > 0.1


@pytest.mark.parametrize("kind", DEGRADATIONS)
def test_degradations_change_more_with_strength(kind: str) -> None:
    rng = np.random.default_rng(0)
    pixels = draw(rng, "leaves").pixels
    errors = [np.square(degrade(pixels, kind, strength, rng) - pixels).mean() for strength in (0.1, 0.4, 0.7, 1.0)]
    assert errors == sorted(errors)
    assert errors[-1] > 2 * errors[0]


@given(st.floats(0, 1), st.floats(0, 1))
def test_quality_falls_with_strength(first: float, second: float) -> None:
    assert 1 <= quality(first) <= 5
    assert (first <= second) == (quality(first) >= quality(second)) or quality(first) == quality(second)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: draw(np.random.default_rng(0), "sea"), "`scene`: got 'sea', expected one of leaves, texture, shapes"),
        (lambda: degrade(np.zeros((8, 8, 3)), "rain", 0.5, np.random.default_rng(0)), "`kind`: got 'rain'"),
        (lambda: degrade(np.zeros((8, 8, 3)), "blur", 1.5, np.random.default_rng(0)), "`strength`: got 1.5"),
    ],
)
def test_what_cannot_be_drawn_is_refused(call: Any, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        call()


def test_data_is_frozen_with_all_sets_and_every_picture(made: tuple[Path, Frozen, Frozen]) -> None:
    _, data, base = made
    assert list(data.counts) == [48, 60, 60]
    assert list(base.counts) == [0, 0, 40]
    assert len(data.val_scoring) == 16
    assert len(data.val_questions) == 40
    data.check_images()
    base.check_images()


def test_no_picture_is_in_two_sets(made: tuple[Path, Frozen, Frozen]) -> None:
    _, data, base = made
    used = [{row.image for row in data.rows(name)} for name in ("d1", "d2", "d3")]
    used += [{row.image for row in base.rows("d3")}, {row.image for row in data.val_scoring}]
    used.append({one.image for one in data.val_questions})
    assert sum(map(len, used)) == len(set.union(*used))


def test_both_sources_have_levels_on_their_own_scale(made: tuple[Path, Frozen, Frozen]) -> None:
    _, data, _ = made
    rows = [*data.rows("d1"), *data.val_scoring]
    assert Counter(row.source for row in rows) == {"north": 32, "south": 32}
    assert all(row.mos is not None and level_in(row) == SCALES[row.source].level(row.mos) for row in rows)
    assert max(row.mos or 0 for row in rows if row.source == "north") > 5
    assert len({level_in(row) for row in rows}) == 5


def test_equal_seeds_give_equal_data(made: tuple[Path, Frozen, Frozen], tmp_path: Path) -> None:
    _, data, base = made
    again, base_again = make_data(tmp_path / "again", FEW, seed=3)
    other, _ = make_data(tmp_path / "other", FEW, seed=4)
    assert (again.digest, base_again.digest) == (data.digest, base.digest)
    assert other.digest != data.digest
    first = next(iter(data.rows("d1"))).image
    assert (again.root("d1") / first).read_bytes() == (data.root("d1") / first).read_bytes()


def test_data_that_is_there_is_read_and_other_data_is_refused(made: tuple[Path, Frozen, Frozen]) -> None:
    folder, data, _ = made
    assert make_data(folder, FEW, seed=3)[0].digest == data.digest
    with pytest.raises(DataError, match=r"expected data made as now \(seed 5\), but it has seed 3. Use another folder"):
        make_data(folder, FEW, seed=5)


def test_too_little_data_is_refused() -> None:
    with pytest.raises(DataError, match="`amounts`: .* expected 40 or more of each"):
        Amounts(d1=10)


def test_feedback_names_the_degradation_by_its_strength() -> None:
    rng = np.random.default_rng(0)
    said = {s: dict(feedback(_shot("noise", s), rng).attributes)["noise"] for s in (0.05, 0.3, 0.9)}
    assert said == {0.05: "free of noise", 0.3: "slightly noisy", 0.9: "noisy"}
    assert feedback(_shot("blur", 0.9), rng).conclusion == "Thus, the quality of the image is bad."
    assert "compression" not in dict(feedback(_shot("blur", 0.9), rng).attributes)  # looks alike


def test_questions_have_their_options_in_order_and_every_place_about_equally_often() -> None:
    rng = np.random.default_rng(1)
    shots = [_shot(list(DEGRADATIONS)[rng.integers(5)], float(rng.uniform()), f"{n}.png") for n in range(240)]
    found = asked(shots, 200, seed=0)
    assert len(found) == 200
    assert {one.draft.kind for one in found} == {"yes_no", "what", "how"}
    assert all(one.options[one.place] == one.draft.answer for one in found)
    assert all(one.options == ("Yes", "No") for one in found if one.draft.kind == "yes_no")
    places = Counter(one.place for one in found if len(one.options) == 3)
    assert max(places.values()) < 2 * min(places.values())
    row, one = choice(found[0], 0), question(found[0], 0)
    assert row.turns[0][1] == "AB"[one.answer or 0]
    assert one.question in row.turns[0][0]


def test_texts_are_all_that_is_said(made: tuple[Path, Frozen, Frozen]) -> None:
    _, data, base = made
    said = set(all_texts(data, base))
    assert {data.rows("d2")[0].turns[0][1], base.rows("d3")[0].turns[0][0], data.val_questions[0].question} <= said


def test_a_tower_learns_to_see_in_seconds() -> None:
    from train.nano.scratch import Scratch, _model, initialise
    from train.nano.tokenizer import SPECIALS
    from train.nano.tower import Lessons, teach

    spec = Scratch(vision_width=48, vision_layers=1, vision_heads=2, vision_intermediate=64, text_layers=1)
    model = _model(spec, {token: place for place, token in enumerate(SPECIALS)})
    crops = take_crops(800, spec.tile, seed=0)
    initialise(model, spec, 0, crops.tiles.pixels / 127.5 - 1)
    before = model.model.language_model.layers[0].mlp.up_proj.weight.clone()
    seen = teach(model, crops, Lessons(150))
    assert seen.accuracy > 0.4
    assert seen.srcc > 0.3
    assert torch.equal(before, model.model.language_model.layers[0].mlp.up_proj.weight)


@given(st.integers(40, 900), st.integers(40, 900), st.integers(40, 900), st.floats(0.1, 15))
@settings(max_examples=60, deadline=None)
def test_ratios_of_step_2_never_fall_together(d1: int, d2: int, d3: int, r: float) -> None:
    counts = Sizes(d1, d2, d3)
    plan = plan_step2(counts, r, ratios=spread_ratios(counts, r, 7), repeats=1, degree=2)
    assert len({run.ratio for run in plan.runs}) == 7


@pytest.mark.long
def test_the_whole_recipe_runs_is_skipped_when_done_and_refuses_other_settings(tmp_path: Path) -> None:
    said: list[str] = []
    found = run_tiny(tmp_path / "tiny", 1, FAST, said.append)
    assert json.loads((tmp_path / "tiny" / "summary.json").read_text())["lambda"] == found["lambda"]
    assert found["lambda"] == pytest.approx(found["small"]["loss_scoring"] / found["small"]["loss_interpreting"])
    assert len(found["mixture"]) == FAST.primary_epochs
    for name in ("step1/fit.png", "step2/fit.json", "q-sit-tiny/README.md"):
        assert (tmp_path / "tiny" / name).is_file(), name
    assert 1 < float(QSiT(tmp_path / "tiny" / "q-sit-tiny").score(np.zeros((64, 96, 3), dtype=np.uint8))) < 5
    again = run_tiny(tmp_path / "tiny", 1, FAST)
    assert {**again, "seconds": 0} == {**found, "seconds": 0}
    with pytest.raises(RunError, match=r"expected a folder of a run made as now \(seed 2\), but it has seed 1"):
        run_tiny(tmp_path / "tiny", 2, FAST)


@pytest.mark.long
def test_tiny_learns_within_ten_minutes(tmp_path: Path) -> None:
    found = run_tiny(tmp_path / "tiny", 0, FULL)
    assert found["seconds"]["total"] < 600
    for model in ("small", "primary"):
        # Measured 0.37 to 0.50. Accuracy is within the noise of guessing at this size, so nothing is asked of it.
        assert min(found[model][f"srcc/{source}"] for source in SCALES) > 0.25, model
    data = Frozen.load(tmp_path / "tiny" / "data" / "data")
    metric = QSiT(tmp_path / "tiny" / "q-sit-tiny")
    rows = [row for row in data.val_scoring if row.source == "north"]
    scores = [float(metric.score(data.root("scoring") / row.image)) for row in rows]
    assert srcc(scores, [row.mos or 0.0 for row in rows]) > 0.25


def _shot(kind: str, strength: float, image: str = "a.png") -> Degraded:
    return Degraded(image, draw(np.random.default_rng(0), "leaves"), kind, strength)
