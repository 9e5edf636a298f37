"""What `python -m train nano` plans, cuts and compares; the whole run in small is a slow test."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from qsit_metric import QSiT
from qsit_metric.images import load
from qsit_metric.tiling import cut
from train.data.synthetic.distortions import DISTORTIONS
from train.data.synthetic.make import read_shots, shoot
from train.data.synthetic.shots import Degradation, Shot
from train.errors import DataError
from train.mixture import Sizes
from train.nano.spec import FAST, FULL, LEFT_OUT, NANO
from train.nano.tiles import KINDS, TileFile, cut_tiles, target
from train.nano.trials import scaled, trials
from train.scratch import count_parameters


def test_the_model_is_small_enough_and_sees_large_photographs_in_detail() -> None:
    assert count_parameters(NANO) <= 8_000_000
    assert 2 * count_parameters(NANO) <= 16 * 2**20
    from qsit_metric.tiling import plan

    assert plan(NANO.geometry, 3000, 4000).fitted == (768, 1024)
    assert plan(NANO.geometry, 384, 512).fitted == (384, 512)
    assert set(LEFT_OUT) <= set(DISTORTIONS)


def _shot(*degradations: Degradation) -> Shot:
    made, _ = shoot("d1", 0, seed=0)
    return Shot(made.image, made.name, made.facts, made.tone, degradations)


def test_what_is_told_of_a_tile() -> None:
    assert target(_shot()) == (0, (pytest.approx((4.61 - 1) / 3.93), 0.0))
    kind, (score, distance) = target(_shot(Degradation("gaussian_blur", 5.0)))
    assert (KINDS[kind], distance) == ("gaussian_blur", 1.0)
    assert score == pytest.approx((1.3027 - 1) / 3.93)
    sides = [target(_shot(Degradation("mean_shift", level))) for level in (1.0, 3.0, 5.0)]
    assert [KINDS[kind] for kind, _ in sides] == ["mean_shift+", "mean_shift-", "mean_shift-"]
    assert [distance for _, (_, distance) in sides] == [1.0, 0.0, 1.0]
    with pytest.raises(DataError, match="`shot`: .*a picture with a score"):
        target(_shot(Degradation("gaussian_blur", 2.0), Degradation("jpeg", 2.0)))


def test_tiles_on_disk_are_those_that_the_model_sees(tmp_path: Path) -> None:
    shots = []
    for number in range(3):
        shot, image = shoot("d1", number, seed=1)
        path = tmp_path / "images" / shot.image
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
        shots.append(shot)
    found = cut_tiles(shots, tmp_path / "images", NANO.geometry, tmp_path / "tiles", workers=1)
    whole = torch.cat([cut(load(tmp_path / "images" / shot.image), NANO.geometry) for shot in shots])
    held = TileFile(found.pixels, found.pictures, found.targets, found).held_out()
    assert torch.equal(held.pixels, whole)
    assert held.pictures.unique().tolist() == [0, 1, 2]
    drawn = found.draw(40, np.random.default_rng(3))
    assert torch.equal(drawn.pixels, found.draw(40, np.random.default_rng(3)).pixels)
    told = drawn.values.isfinite()
    assert told.sum(dim=1).tolist() == [2] * 40  # the score, and the distance of its own kind
    assert told[torch.arange(40), 1 + drawn.kinds].all()
    again = cut_tiles(shots, tmp_path / "images", NANO.geometry, tmp_path / "tiles", workers=1)
    assert again.pixels.shape == found.pixels.shape
    with pytest.raises(DataError, match="`folder`: .*Remove it, and they are cut again"):
        cut_tiles(shots[:2], tmp_path / "images", NANO.geometry, tmp_path / "tiles")
    with pytest.raises(DataError, match="none that are held out"):
        found.held_out()


@given(st.tuples(*[st.integers(50, 50_000)] * 3), st.integers(1000, 20_000))
def test_a_scaled_mixture_keeps_its_ratio(sizes: tuple[int, int, int], rows: int) -> None:
    mix = Sizes(*sizes)
    found = scaled(mix, rows)["sizes"]
    assert sum(found) == pytest.approx(rows, abs=2)
    assert found == pytest.approx([size * rows / mix.total for size in mix], abs=0.5)


def test_the_runs_of_the_ablation_table_see_equally_many_rows() -> None:
    counts, mix = Sizes(14000, 20000, 4000), Sizes(4000, 9000, 4000)
    planned = {trial.name: trial for trial in trials(counts, mix, 4000, 0.1)}
    assert list(planned) == ["without-d1", "without-d2", "without-d3", "all", "coarse", "fine"]
    rows = {}
    for name, trial in planned.items():
        epochs = trial.changes.get("stop", {"epochs": 1})["epochs"]
        rows[name] = epochs * sum(trial.changes["mixture"]["sizes"])
    assert all(count == pytest.approx(4000, abs=6) for count in rows.values()), rows
    for place, name in enumerate(("d1", "d2", "d3")):
        sizes = planned[f"without-{name}"].changes["mixture"]["sizes"]
        assert [size == 0 for size in sizes] == [index == place for index in range(3)]
    assert planned["fine"].changes["balance"] == {"reference": 0.1}
    assert planned["all"].changes["mixture"] == scaled(counts, 4000)


def test_efforts_can_be_written_down() -> None:
    for effort in (FULL, FAST):
        assert json.loads(json.dumps(asdict(effort)))["lessons"]["precision"] == "bf16"


def test_records_of_pictures_are_refused_where_they_are_not_whole(tmp_path: Path) -> None:
    from train.data.synthetic.make import make_dataset
    from train.data.synthetic.sets import Amounts

    made = make_dataset(tmp_path, Amounts(6, 8, 6, 6, 6, 6), workers=1, quiet=True)
    assert [shot.image for shot in read_shots(tmp_path, "d1")] == [row.image for row in made.rows("d1")]
    with pytest.raises(DataError, match="`set`: got 'd9'"):
        read_shots(tmp_path, "d9")
    next((tmp_path / "shots").glob("scoring-*")).unlink()
    with pytest.raises(DataError, match=r"`folder`: .*all pictures of scoring.*is not there"):
        read_shots(tmp_path, "scoring")


@pytest.mark.slow
def test_the_whole_run_in_small_and_again(tmp_path: Path) -> None:
    from train.nano.run import run_nano

    said: list[str] = []
    found = run_nano(tmp_path / "nano", 1, FAST, said.append)
    assert len(found["mixture"]["frozen"]) == FAST.epochs
    assert {row["folder"] for row in found["ablations"]["rows"]} >= {"without-d1", "fine"}
    assert 1 <= QSiT(tmp_path / "nano" / "q-sit-nano").score(torch.rand(3, 200, 300)) <= 5
    for kind in LEFT_OUT:
        data = tmp_path / "nano" / "without" / kind / "data" / "d1.jsonl"
        gone = {s.image for s in read_shots(tmp_path / "nano" / "data", "d1") if s.degradations[:1] and
                s.degradations[0].kind == kind}  # fmt: skip
        assert not gone & {json.loads(line)["image"] for line in data.read_text().splitlines()}
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "nano").rglob("*.safetensors")}
    again = run_nano(tmp_path / "nano", 1, FAST)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert again["model"] == found["model"]


def test_a_recipe_may_ask_for_whole_options(tmp_path: Path) -> None:
    from qsit_metric import Recipe
    from qsit_metric.evaluation import Question
    from train.model import load_parts
    from train.recipe import load_recipe
    from train.validation import question_row
    from training import small_base

    question = Question("1", "a.png", "Is it sharp?", ("Yes", "No"), 1, "yes-no", "distortion")
    assert question_row(question, "text").turns == (("Is it sharp?", "No"),)
    recipe = load_recipe("q-sit-nano")
    assert (recipe.chat.choices, recipe.validation.target) == ("texts", "text")
    base = small_base(tmp_path / "base")
    parts = load_parts(recipe.changed(model={"base": str(base)}).model, recipe.chat.scoring, recipe.chat.choices)
    parts.save(tmp_path / "saved")
    saved = Recipe.load(tmp_path / "saved")
    assert saved is not None
    assert saved.choices == "texts"
    assert QSiT(tmp_path / "saved").recipe.choices == "texts"
