"""Descriptions that are composed from answers: right about the fault, at one with the score, the same through every door."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest
from PIL import Image

from qsit_metric import QSiT, Recipe, catalog
from qsit_metric.errors import CheckpointError, InputError
from qsit_metric.prompts import DESCRIBE, DESCRIBING_FILE, Describing

GOLDEN = Path(__file__).parent / "golden"
ROCKET = GOLDEN / "images" / "portrait_300x449.jpg"  # a photograph that no model was trained on
# What a person may call each of these faults; several types look alike.
NAMES = {
    "gaussian_blur": ("blurry", "out of focus", "lacking in detail"),
    "white_noise": ("noisy",),
    "jpeg": ("blocky", "marred by compression"),
    "pixelate": ("pixelated",),
    "motion_blur": ("smeared by motion", "blurry", "out of focus"),
}


@pytest.fixture(scope="module")
def metric() -> QSiT:
    return QSiT("q-sit-nano", device="cpu")


@pytest.fixture(scope="module")
def degraded() -> dict[tuple[str, int], Image.Image]:
    pytest.importorskip("skimage")
    from train.nano.data.kadid import distort

    photograph = Image.open(ROCKET).convert("RGB")
    return {(kind, level): distort(photograph, kind, level, seed=0) for kind in NAMES for level in (2, 5)}


def test_it_never_contradicts_the_score(metric: QSiT, degraded: dict[tuple[str, int], Image.Image]) -> None:
    pictures = [Image.new("RGB", (64, 64), "olive"), Image.open(ROCKET), *list(degraded.values())[:7]]
    for score, said in zip(metric.score(pictures), metric.describe(pictures), strict=True):
        *before, last = re.findall(r"[^.]+\.", said)
        assert last.strip() == f"The quality of the image is {score.level}."
        (first,) = before
        if score.level == "excellent":
            assert first == "No fault stands out."
        if score.level == "good":
            assert first == "No fault stands out." or "slightly" in first
        if score.level in ("poor", "bad"):
            assert "slightly" not in first


def test_it_names_the_fault(metric: QSiT, degraded: dict[tuple[str, int], Image.Image]) -> None:
    strong = {kind: image for (kind, level), image in degraded.items() if level == 5}
    said = dict(zip(strong, metric.describe(list(strong.values())), strict=True))
    for kind, text in said.items():
        assert any(name in text for name in NAMES[kind]), (kind, text)


def test_every_door_says_the_same(metric: QSiT, degraded: dict[tuple[str, int], Image.Image]) -> None:
    pictures = [degraded["gaussian_blur", 5], degraded["white_noise", 5]]
    many = metric.describe(pictures)
    assert [metric.describe(one) for one in pictures] == many
    with metric.open(pictures[0]) as view:
        before = float(view.score())
        assert view.describe() == many[0]
        assert float(view.score()) == pytest.approx(before, abs=1e-6)
    assert metric.describe(["nowhere.jpg", pictures[0]], errors="return")[1] == many[0]
    assert many[0].finished
    assert not many[0].tokens


def test_other_models_write_it() -> None:
    metric = QSiT(GOLDEN / "tied", device="cpu")
    assert metric.recipe.describing is None
    assert metric.describe(ROCKET, max_new_tokens=4) == metric.ask(ROCKET, DESCRIBE, max_new_tokens=4)


def test_the_model_of_the_package_is_asked_in_the_words_of_its_training() -> None:
    pytest.importorskip("skimage")
    from train.nano.data.pictures import describing

    record = catalog.find("q-sit-nano")
    assert record is not None
    folder = catalog.embedded_folder(record)
    assert folder is not None
    recipe = Recipe.load(folder)
    assert recipe is not None
    assert recipe.describing == describing()


def test_a_recipe_is_kept_with_it(tmp_path: Path, metric: QSiT) -> None:
    metric.recipe.save(tmp_path)
    assert Recipe.load(tmp_path) == metric.recipe
    dataclasses.replace(metric.recipe, describing=None).save(tmp_path)
    assert not (tmp_path / DESCRIBING_FILE).exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda fields: fields.pop("faults"), r"a question and faults to choose from"),
        (lambda fields: fields["faults"][0].pop("strong"), r"a question and faults to choose from"),
        (lambda fields: fields["faults"][0].update(strong="foggy"), r"got 'foggy', expected one of Blurry"),
        (lambda fields: fields.update(faults=fields["faults"][:1]), r"got <1 choices>"),
        (lambda fields: fields["faults"][1].update(name="Blur"), r"choices that differ"),
    ],
)
def test_a_composition_that_cannot_be_asked_is_refused(
    change: object, message: str, tmp_path: Path, metric: QSiT
) -> None:
    metric.recipe.save(tmp_path)
    fields = json.loads((tmp_path / DESCRIBING_FILE).read_text(encoding="utf-8"))
    change(fields)
    with pytest.raises(InputError, match=message):
        Describing.from_dict(fields)
    (tmp_path / DESCRIBING_FILE).write_text(json.dumps(fields), encoding="utf-8")
    with pytest.raises(CheckpointError, match=message):
        Recipe.load(tmp_path)
