"""What a frozen tower says, read from disk: the same training, and one clear error where it does not fit."""

from __future__ import annotations

import json
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from qsit_metric import QSiT
from qsit_metric.errors import ImageError
from qsit_metric.evaluation import evaluate_questions
from small_data import small_data
from train import prepared
from train.data.frozen import Frozen
from train.errors import RecipeError, RunError
from train.loop import train
from train.model import Parts, load_parts
from train.prepared import Prepared, compute_states, cut_pictures, fingerprint
from train.recipe import Model
from train.validation import KeptPictures
from training import small_base, small_recipe, trainer


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Frozen, Path]:
    folder = tmp_path_factory.mktemp("states")
    base, frozen = small_base(folder / "base"), Frozen.load(small_data(folder / "data"))
    parts = load_parts(Model(base=str(base), gradient_checkpointing=False), "train")
    said: list[str] = []
    compute_states(parts, frozen, folder / "states", workers=1, say=said.append)
    assert said
    return base, frozen, folder / "states"


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures are cut by a thread of this process: starting others takes longer than cutting a few."""
    monkeypatch.setattr(prepared, "ProcessPoolExecutor", lambda count, *_, **__: ThreadPoolExecutor(count))


def states_of(folder: Path, parts: Parts) -> Prepared:
    return Prepared.load(folder, "states", parts.geometry, fingerprint(parts.model))


def _recipe(made: tuple[Path, Frozen, Path], states: str | None, frozen: bool = True):  # type: ignore[no-untyped-def]
    base, data, _ = made
    held = {"frozen": ["vision_tower"]} if frozen else {}
    return small_recipe(base, data.folder, model=held, data={"states": states})


def test_training_with_states_is_training_without(made: tuple[Path, Frozen, Path], tmp_path: Path) -> None:
    read = train(_recipe(made, str(made[2])), tmp_path / "read", quiet=True)
    live = train(_recipe(made, None), tmp_path / "live", quiet=True)
    for name, value in live.metrics.items():
        assert read.metrics[name] == pytest.approx(value, rel=2e-2), name  # half precision, and bfloat16 before it
    one, other = (load_file(outcome.last / "model.safetensors") for outcome in (read, live))
    assert all(torch.equal(one[name], other[name]) for name in one if "vision_tower" in name)
    moved = max(float((one[name] - other[name]).abs().max()) for name in one)
    assert 0 < moved < 5e-2


@pytest.mark.usefixtures("here")
def test_kept_tiles_and_states_give_the_scores_and_choices_of_the_files(
    made: tuple[Path, Frozen, Path], tmp_path: Path
) -> None:
    base, data, folder = made
    parts = load_parts(Model(base=str(base), gradient_checkpointing=False), "train")
    root, images = data.root("scoring"), [row.image for row in data.val_scoring]
    metric = QSiT(parts.backend())
    direct = [float(score) for score in metric.score([root / image for image in images], exif=False)]
    tiles = cut_pictures(images, root, parts.geometry, tmp_path / "tiles", workers=1)
    reader = states_of(folder, parts).of_set("scoring")
    for read, near in ((tiles.of, 1e-4), (reader, 2e-2)):
        found = KeptPictures(parts.backend(), metric.recipe, read).scores(images)
        assert found == pytest.approx(direct, abs=near)
    asked = [question for question in data.val_questions if question.answer is not None]
    right = [reply.correct for reply in evaluate_questions(metric, asked, data.root("questions")).replies]
    read = states_of(folder, parts).of_set("questions")
    assert KeptPictures(parts.backend(), metric.recipe, read).right(asked) == right


def test_states_of_another_tower_and_missing_ones_are_refused(made: tuple[Path, Frozen, Path], tmp_path: Path) -> None:
    base, data, folder = made
    parts = load_parts(Model(base=str(base), gradient_checkpointing=False), "train")
    kept = states_of(folder, parts)
    row = data.rows("d1")[0]
    tiles, size = kept.of(f"d1/{row.image}")
    assert tiles.dtype == torch.float16
    assert size[0] > 0
    with pytest.raises(RunError, match=r"states of the picture 'd1/no\.png'. Compute them again"):
        kept.of("d1/no.png")
    with pytest.raises(RunError, match=r"`data\.states`: .*a folder with states\.json.*python -m train states"):
        states_of(tmp_path, parts)
    finer = replace(parts, geometry=replace(parts.geometry, max_tiles=parts.geometry.max_tiles + 1))
    with pytest.raises(
        RunError,
        match=r"`data\.states`: .*states made as now \(geometry .*\), but it has geometry .*Compute them again in another",
    ):
        states_of(folder, finer)
    old = {"tower": kept.tower, "places": {"d1/a.png": [0, 1, 2, 3]}}
    (tmp_path / "states.json").write_text(json.dumps(old), encoding="utf-8")
    with pytest.raises(
        RunError, match=r"`data\.states`: .*states made as now \(format 2, .*\), but it has format none"
    ):
        states_of(tmp_path, parts)
    next(parts.model.model.vision_tower.parameters()).data.add_(1.0)
    assert fingerprint(parts.model) != kept.tower
    with pytest.raises(
        RunError, match=r"`data\.states`: .*states made as now \(tower .*\), but it has tower .*Compute them again"
    ):
        states_of(folder, parts)


def test_a_tower_that_learns_has_no_states(made: tuple[Path, Frozen, Path], tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"`data\.states`: .*as the vision tower learns. Add it to model\.frozen"):
        train(_recipe(made, str(made[2]), frozen=False), tmp_path / "run", quiet=True)


@pytest.mark.usefixtures("here")
def test_what_is_there_is_not_computed_again(
    made: tuple[Path, Frozen, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cut run goes on; a picture that was replaced is computed anew, and only that one."""
    base, data, folder = made
    parts = load_parts(Model(base=str(base), gradient_checkpointing=False), "train")
    whole = states_of(folder, parts)
    computed: list[int] = []

    def counted(parts: Any, tiles: Any) -> Any:
        if len(computed) == 2:
            raise KeyboardInterrupt
        computed.append(len(tiles))
        return real(parts, tiles)

    real = prepared._states
    monkeypatch.setattr(prepared, "_AT_ONCE", 2)
    monkeypatch.setattr(prepared, "_FILE_BYTES", {"states": 1})  # a picture each
    monkeypatch.setattr(prepared, "_states", counted)
    with pytest.raises(KeyboardInterrupt):
        compute_states(parts, data, tmp_path, workers=1)
    assert len(set(states_of(tmp_path, parts).places.values())) == 2
    monkeypatch.setattr(prepared, "_states", real)
    again = compute_states(parts, data, tmp_path, workers=1)
    assert again.places.keys() == whole.places.keys()
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.npy")}
    assert len(before) > 2
    name, image = next(iter(whole.places)).split("/", 1)
    for key in whole.places:
        one, other = (kept.of(key)[0] for kept in (whole, again))
        torch.testing.assert_close(one, other, atol=1e-2, rtol=1e-2)
    place = again.places[f"{name}/{image}"]
    stale = {key: found._replace(size=1) if found == place else found for key, found in again.places.items()}
    replace(again, places=stale).save()
    mended = compute_states(parts, data, tmp_path, workers=1)
    assert mended.places[f"{name}/{image}"] == place._replace(file=len(before), start=0)
    after = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.npy")}
    assert {key: after[key] for key in before} == before
    assert len(after) == len(before) + 1


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("changes", "anew"),
    [
        ({"modified": "2001-01-01T00:00:00.000000Z"}, False),  # touched: the content decides
        ({"modified": "2001-01-01T00:00:00.000000Z", "sha256": "0" * 64}, True),  # another of the same size
        ({"modified": "", "sha256": ""}, False),  # a record of the first release
        ({"modified": "", "sha256": "", "size": 1}, True),
    ],
)
def test_a_replaced_picture_is_found_out(
    made: tuple[Path, Frozen, Path], tmp_path: Path, changes: Any, anew: bool
) -> None:
    base, data, folder = made
    parts = load_parts(Model(base=str(base), gradient_checkpointing=False), "train")
    shutil.copytree(folder, tmp_path / "states")
    kept = states_of(tmp_path / "states", parts)
    place = next(iter(kept.places.values()))
    stale = {key: found._replace(**changes) if found == place else found for key, found in kept.places.items()}
    replace(kept, places=stale).save()
    again = compute_states(parts, data, tmp_path / "states", workers=1)
    files = len(list((tmp_path / "states").glob("*.npy")))
    assert files == len(list(folder.glob("*.npy"))) + anew
    assert (max(found.file for found in again.places.values()) > 0) == anew


@pytest.mark.usefixtures("here")
def test_pictures_and_names_are_added(made: tuple[Path, Frozen, Path], tmp_path: Path) -> None:
    base, data, folder = made
    parts = load_parts(Model(base=str(base), gradient_checkpointing=False), "train")
    whole = states_of(folder, parts)
    compute_states(parts, data, tmp_path, workers=1)
    kept = states_of(tmp_path, parts)
    first, *others = kept.places
    shared = [name for name in others if kept.places[name] == kept.places[first]]
    for gone in ([first], [first, *shared]):
        replace(kept, places={name: kept.places[name] for name in kept.places if name not in gone}).save()
        files = len(list(tmp_path.glob("*.npy")))
        again = compute_states(parts, data, tmp_path, workers=1)
        assert again.places.keys() == whole.places.keys()
        assert len(list(tmp_path.glob("*.npy"))) == files + (gone == [first, *shared])
        one, other = (found.of(first)[0] for found in (whole, again))
        torch.testing.assert_close(one, other, atol=1e-2, rtol=1e-2)


def test_a_damaged_picture_is_named(made: tuple[Path, Frozen, Path], tmp_path: Path) -> None:
    base, data, _ = made
    parts = load_parts(Model(base=str(base), gradient_checkpointing=False), "train")
    root = data.root("d1")
    moved = shutil.copytree(root, tmp_path / "images")
    (moved / data.rows("d1")[1].image).write_bytes(b"no picture")
    damaged = Frozen.load(data.folder, {name: str(moved) for name in ("d1", "d2", "d3", "scoring", "questions")})
    with pytest.raises(ImageError, match=re.escape(data.rows("d1")[1].image)):
        compute_states(parts, damaged, tmp_path / "states", workers=1)


@pytest.mark.long
def test_the_command_writes_them(made: tuple[Path, Frozen, Path], tmp_path: Path) -> None:
    recipe = _recipe(made, None)
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe.as_dict()), encoding="utf-8")
    run = trainer("states", str(tmp_path / "recipe.yaml"), str(tmp_path / "states"), "--set", "data.workers=1")
    said, _ = run.communicate(timeout=120)
    assert run.returncode == 0, said
    assert "pictures" in said
    assert json.loads((tmp_path / "states" / "states.json").read_text())["tower"]
