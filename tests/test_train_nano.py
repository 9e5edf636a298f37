"""What `python -m train nano` plans, cuts and compares; the whole run in small is a slow test."""

from __future__ import annotations

import itertools
import json
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from qsit_metric import QSiT
from qsit_metric.pixels import load
from qsit_metric.pixels.tiles import cut, plan
from train import prepared
from train.__main__ import build
from train.data.corruptions import CORRUPTIONS
from train.errors import DataError, RunError
from train.mixture import Sizes
from train.nano.data.dataset import make_picture, read_pictures
from train.nano.data.kadid import DISTORTIONS
from train.nano.data.pictures import Degradation, MadePicture
from train.nano.effort import (
    BEGUN,
    CPU,
    CUDA,
    FAST,
    FAST_ONWARD,
    FULL,
    LARGE,
    LEFT_OUT,
    NANO,
    ONWARD,
    TWINS,
    plan_run,
)
from train.nano.scratch import count_parameters
from train.nano.stages import BEFORE, MODEL, Stages, in_processes, take_over, taken
from train.nano.tower import KINDS, Windows, target
from train.nano.trials import scaled, shows, trials
from train.prepared import Prepared, cut_pictures


def test_the_model_is_small_enough_and_sees_large_photographs_in_detail() -> None:
    assert count_parameters(NANO) <= 8_000_000
    assert 2 * count_parameters(NANO) <= 16 * 2**20
    assert plan(NANO.geometry, 3000, 4000).fitted == (768, 1024)
    assert plan(NANO.geometry, 384, 512).fitted == (384, 512)
    assert set(LEFT_OUT) <= set(DISTORTIONS)


def _shot(*degradations: Degradation) -> MadePicture:
    made, _ = make_picture("d1", 0, seed=0)
    return MadePicture(made.image, made.name, made.facts, made.tone, degradations)


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


@pytest.fixture(scope="module")
def shots(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[MadePicture], Path]:
    root, found = tmp_path_factory.mktemp("pictures"), []
    for number in range(4):
        shot, image = make_picture("d1", number, seed=1)
        (root / shot.image).parent.mkdir(parents=True, exist_ok=True)
        image.save(root / shot.image)
        found.append(shot)
    return found, root


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures are cut by a thread of this process: starting others takes longer than cutting a few."""
    monkeypatch.setattr(prepared, "ProcessPoolExecutor", lambda count, *_, **__: ThreadPoolExecutor(count))


@pytest.mark.usefixtures("here")
def test_tiles_on_disk_are_those_that_the_model_sees(shots: tuple[list[MadePicture], Path], tmp_path: Path) -> None:
    images, root = [shot.image for shot in shots[0]], shots[1]
    store = cut_pictures(images, root, NANO.geometry, tmp_path / "tiles", workers=1)
    for image in images:
        picture = load(root / image)
        tiles, size = store.of(image)
        assert size == (picture.height, picture.width)
        assert torch.equal(tiles, cut(picture, NANO.geometry))
    again = cut_pictures(images, root, NANO.geometry, tmp_path / "tiles", workers=1)
    assert torch.equal(pickle.loads(pickle.dumps(again)).of(images[2])[0], store.of(images[2])[0])
    assert again.places == store.places
    grown = cut_pictures(images[:2], root, NANO.geometry, tmp_path / "grown", workers=1)
    grown = cut_pictures(images, root, NANO.geometry, tmp_path / "grown", workers=1)
    assert len(list((tmp_path / "grown").glob("*.npy"))) == 2
    for kept in (store, grown):
        whole, firsts = kept.array()
        for image in images:
            tiles, _ = store.of(image)
            assert np.array_equal(whole[firsts[image] : firsts[image] + len(tiles)], tiles.numpy())
    with pytest.raises(RunError, match=r"`data\.tiles`: .*tiles of the picture 'no\.png'"):
        store.of("no.png")
    with pytest.raises(RunError, match=r"`data\.tiles`: .*tiles made as now \(geometry .*\), but it has geometry"):
        Prepared.load(tmp_path / "tiles", "tiles", replace(NANO.geometry, max_tiles=NANO.max_tiles + 1))
    with pytest.raises(RunError, match=r"`data\.tiles`: .*a folder with tiles\.json"):
        Prepared.load(tmp_path, "tiles", NANO.geometry)


@pytest.mark.usefixtures("here")
def test_the_tower_learns_from_windows_anywhere_in_a_picture(
    shots: tuple[list[MadePicture], Path], tmp_path: Path
) -> None:
    images = [shot.image for shot in shots[0]]
    store = cut_pictures(images, shots[1], NANO.geometry, tmp_path / "tiles", workers=1)
    source = Windows(store, NANO.geometry, shots[0], shots[0][:2], torch.device("cpu"))
    held = source.held_out()
    assert torch.equal(held.pixels, torch.cat([store.of(image)[0] for image in images[:2]]))
    assert held.pictures.unique().tolist() == [0, 1]
    drawn = source.draw(60, np.random.default_rng(3))
    assert torch.equal(drawn.pixels, source.draw(60, np.random.default_rng(3)).pixels)
    told = drawn.values.isfinite()
    assert told.sum(dim=1).tolist() == [2] * 60  # the score, and the distance of its own kind
    assert told[torch.arange(60), 1 + drawn.kinds].all()
    for window, place in zip(drawn.pixels, drawn.pictures.tolist(), strict=True):
        assert _lies_in(window, store, images[place])


def _lies_in(window: torch.Tensor, store: Prepared, image: str) -> bool:
    """Whether a window is a part of a picture, its colours perhaps in another order."""
    tiles, (height, width) = store.of(image)
    rows, cols = plan(NANO.geometry, height, width).grid
    canvas = tiles[1:].unflatten(0, (rows, cols)).permute(2, 0, 3, 1, 4).flatten(1, 2).flatten(2, 3)
    for order in itertools.permutations(range(3)):
        own = window[list(order)]
        if torch.equal(own, tiles[0]):
            return True
        corners = (canvas[:, : -127 or None, : -127 or None] == own[:, :1, :1]).all(dim=0).nonzero().tolist()
        if any(torch.equal(canvas[:, y : y + 128, x : x + 128], own) for y, x in corners):
            return True
    return False


def test_what_another_run_has_finished_is_taken_over_once(tmp_path: Path) -> None:
    other, output = tmp_path / "other", tmp_path / "here"
    output.mkdir()
    with pytest.raises(RunError, match="`begin`: .*other', expected a folder with tower"):
        take_over(other, output, 0)
    assert not list(output.iterdir())
    for name in ("models/tower", "models/base/last", "models/base/models", "step1", "step2"):
        (other / name).mkdir(parents=True)
        (other / name / "file").write_text(name)
    (other / "step1" / "fit.json").write_text("{}")  # the second is not finished
    take_over(other, output, 0)
    found = {str(path.relative_to(output)) for path in output.rglob("*") if path.is_file()}
    assert found == {
        "models/tower/file", "models/base/last/file", "models/base/taken", "step1/file", "step1/fit.json", "step1/taken",
    }  # fmt: skip
    assert [taken(output / name) for name in ("models/base", "step1", "step2")] == [True, True, False]
    (output / "step1" / "taken").unlink()
    take_over(other, output, 0)
    assert not taken(output / "step1"), "what is there stays"
    (tmp_path / "third").mkdir()
    (other / "settings.json").write_text('{"seed": 3}')
    for begin in (other, other / "models"):
        with pytest.raises(RunError, match="`seed`: got 3, expected another one than that of .*other"):
            take_over(begin, tmp_path / "third", 3)
    take_over(other / "models", tmp_path / "third", 4)
    assert [path.name for path in (tmp_path / "third").iterdir()] == ["models"]


def test_a_run_in_stages_goes_on_with_its_own_settings_only(tmp_path: Path) -> None:
    settings = {"seed": 3, "effort": {"rows": 5}}
    with Stages(tmp_path / "run", settings, print).stage("data"):
        pass
    assert list(Stages(tmp_path / "run", settings, print).seconds) == ["data"]
    with pytest.raises(RunError, match=r"a folder of a run made as now \(effort\.rows 6\), but it has effort\.rows 5"):
        Stages(tmp_path / "run", {"seed": 3, "effort": {"rows": 6}}, print)
    for name in ("models/tower", "models/base/last"):
        (tmp_path / "run" / name).mkdir(parents=True)
    with pytest.raises(RunError, match="`seed`: got 3, expected another one than that of .*run"):
        take_over(tmp_path / "run", tmp_path / "next", 3)
    (tmp_path / "before").mkdir()
    (tmp_path / "before" / "settings.json").write_text(json.dumps(settings))  # as runs of before wrote it
    Stages(tmp_path / "before", settings, print)
    with pytest.raises(RunError, match="but it has seed 3"):
        Stages(tmp_path / "before", {**settings, "seed": 4}, print)


def test_the_first_error_ends_what_goes_on_beside_it() -> None:
    assert sorted(in_processes([(max, (1, 2)), (max, (3, 4))], 1)) == [2, 4]
    with pytest.raises(ValueError, match="empty"):
        list(in_processes([(max, ((),)), *[(max, (1, 2))] * 3], 1))


def test_a_finished_run_is_taken_over_with_its_model(tmp_path: Path) -> None:
    other, output = tmp_path / "other", tmp_path / "here"
    output.mkdir()
    for name in ("models/tower", "models/base/last", "model/models/step-9"):
        (other / name).mkdir(parents=True)
        (other / name / "file").write_text(name)
    for missing in ("model/last", "step1", "step2", "summary.json"):
        with pytest.raises(
            RunError, match=f"`begin`: .*other', expected a folder with {missing}. It is a run that is done"
        ):
            take_over(other, output, 0, onward=True)
        if missing == "model/last":
            (other / missing).symlink_to("models/step-9")
        elif missing == "summary.json":
            (other / missing).write_text('{"seed": 1}')
        else:
            (other / missing).mkdir()
            (other / missing / "fit.json").write_text("{}")
    assert not list(output.iterdir())
    take_over(other, output, 0, onward=True)
    assert (output / MODEL / "file").read_text() == "model/models/step-9"
    assert json.loads((output / BEFORE).read_text()) == {"seed": 1}
    assert [taken(output / name) for name in (MODEL, "models/base", "step1", "step2")] == [True] * 4
    shutil.rmtree(output / "models")  # killed before the last of it was there
    take_over(other, output, 0, onward=True)
    assert (output / "models" / "tower" / "file").is_file()


def test_what_is_taught_on_must_be_named(tmp_path: Path) -> None:
    found = CliRunner().invoke(build(), ["nano", "-o", str(tmp_path / "run"), "--onward"])
    assert found.exit_code == 2
    assert "`begin`: got None, expected the folder of a run, to be taught on. Pass it with --begin." in found.output
    assert not (tmp_path / "run").exists()


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


def test_a_type_that_is_left_out_is_not_there_under_another_name_either() -> None:
    first = Degradation("brighten", 2.0)
    assert shows(_shot(Degradation("jpeg", 2.0)), "jpeg")
    assert shows(_shot(first, Degradation("jpeg", 2.0)), "jpeg")
    assert shows(_shot(Degradation("jpeg_compression", 2.0, True)), "jpeg")
    assert shows(_shot(Degradation("shot_noise", 2.0, True)), "white_noise")
    assert not shows(_shot(Degradation("jpeg2000", 2.0)), "jpeg")
    assert not shows(_shot(first), "white_noise")
    assert not shows(_shot(), "gaussian_blur")
    assert set().union(*TWINS.values()) <= set(CORRUPTIONS)


def test_every_run_has_rows_for_its_steps() -> None:
    for fast, begun, onward in itertools.product((False, True), repeat=3):
        effort, device = plan_run(fast, begun, onward)
        assert (effort.onward is not None) == onward
        # A model that is taught on takes steps twice as large.
        assert 2 * device.batch <= sum(effort.onward) if effort.onward else device.batch <= effort.epoch_rows
        assert sum(effort.onward or (0,)) <= sum(count or 0 for count in asdict(effort.amounts).values())


def test_efforts_can_be_written_down() -> None:
    for effort in (FULL, FAST, FAST_ONWARD, LARGE, BEGUN, ONWARD):
        assert json.loads(json.dumps(asdict(effort)))["lessons"]["lr"] == effort.lessons.lr
    assert [asdict(device)["name"] for device in (CPU, CUDA)] == ["cpu", "cuda"]


def test_records_of_pictures_are_refused_where_they_are_not_whole(tmp_path: Path) -> None:
    from train.nano.data.dataset import Amounts, make_dataset

    made = make_dataset(tmp_path, Amounts(6, 8, 6, 6, 6, 6), workers=1, quiet=True)
    assert [shot.image for shot in read_pictures(tmp_path, "d1")] == [row.image for row in made.rows("d1")]
    with pytest.raises(DataError, match="`set`: got 'd9'"):
        read_pictures(tmp_path, "d9")
    next((tmp_path / "shots").glob("scoring-*")).unlink()
    with pytest.raises(DataError, match=r"`folder`: .*all pictures of scoring.*is not there"):
        read_pictures(tmp_path, "scoring")


@pytest.mark.long
def test_the_whole_run_in_small_and_again(tmp_path: Path) -> None:
    from train.nano.run import run_nano

    said: list[str] = []
    found = run_nano(tmp_path / "nano", 1, FAST, say=said.append)
    assert len(found["mixture"]["frozen"]) == FAST.epochs
    assert {row["folder"] for row in found["ablations"]["rows"]} >= {"without-d1", "fine"}
    assert 1 <= QSiT(tmp_path / "nano" / "q-sit-nano").score(torch.rand(3, 200, 300)) <= 5
    for kind in LEFT_OUT:
        folder = tmp_path / "nano" / "without" / kind / "data"
        for name in ("d1", "d2", "d3"):
            named = {kind, *TWINS[kind]}
            gone = {shot.image for shot in read_pictures(tmp_path / "nano" / "data", name)
                    if named & {one.kind for one in shot.degradations}}  # fmt: skip
            left = {json.loads(line)["image"] for line in (folder / f"{name}.jsonl").read_text().splitlines()}
            assert left
            assert not gone & left
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "nano").rglob("*.safetensors")}
    again = run_nano(tmp_path / "nano", 1, FAST)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert again["model"] == found["model"]
    more = run_nano(tmp_path / "more", 2, replace(FAST, epochs=1, onward=(16, 24, 16)), begin=tmp_path / "nano")
    assert more["mixture"]["model"] == [[16, 24, 16]]
    assert more["before"]["model"] == found["model"]
    assert QSiT(tmp_path / "more" / "q-sit-nano").score(torch.rand(3, 200, 300)) > 0


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
