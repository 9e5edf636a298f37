"""Weights are saved under the published names, whatever release saves them and whatever they came from."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from conftest import GOLDEN, IMAGES
from qsit_metric import QSiT
from qsit_metric.backends.training import published
from train import model
from train.model import load_parts, on_disk
from train.recipe import Model

SOURCES = ["tied", "untied"]


def names(folder: Path) -> set[str]:
    return {name for file in folder.glob("*.safetensors") for name in safe_open(file, "pt").keys()}  # noqa: SIM118


def newer(name: str) -> str:
    """As transformers 5 names the weights of a model that was made from a configuration."""
    name = name.replace("vision_tower.vision_model.", "vision_tower.").replace(
        "language_model.model.", "language_model."
    )
    return "lm_head.weight" if name == "language_model.lm_head.weight" else f"model.{name}"


def renamed(source: str, folder: Path) -> Path:
    """A golden checkpoint as transformers 5 would have written it."""
    shutil.copytree(GOLDEN / source, folder)
    weights = load_file(GOLDEN / source / "model.safetensors")
    save_file({newer(name): weight for name, weight in weights.items()}, folder / "model.safetensors", {"format": "pt"})
    return folder


@pytest.mark.parametrize("source", SOURCES)
def test_published_names_stay_and_others_become_them(source):
    for name in names(GOLDEN / source):
        assert on_disk(name) == name
        assert on_disk(published(name)) == on_disk(published(newer(name))) == name != newer(name)


@pytest.mark.parametrize("shard", ["5GB", "200KB"])
@pytest.mark.parametrize("source", SOURCES)
def test_a_checkpoint_of_any_release_is_saved_under_them_bit_for_bit(source, shard, tmp_path, monkeypatch):
    monkeypatch.setattr(model, "_SHARD", shard)
    parts = load_parts(Model(base=str(renamed(source, tmp_path / "newer"))), "train")
    parts.save(tmp_path / "saved")
    before = load_file(GOLDEN / source / "model.safetensors")
    after = {
        name: weight for file in (tmp_path / "saved").glob("*.safetensors") for name, weight in load_file(file).items()
    }
    if source == "tied":
        before.pop("language_model.lm_head.weight", None)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    for file in (tmp_path / "saved").glob("*.safetensors"):
        assert safe_open(file, "pt").metadata()["format"] == "pt"
    assert (tmp_path / "saved" / "model.safetensors.index.json").is_file() == (shard == "200KB")


@pytest.mark.parametrize("source", SOURCES)
def test_a_training_checkpoint_scores_as_its_base(source, tmp_path):
    parts = load_parts(Model(base=str(GOLDEN / source), gradient_checkpointing=False), "train")
    parts.save(tmp_path / "saved", {name: weight.clone() for name, weight in parts.model.state_dict().items()})
    picture = IMAGES / "tiny_7x5.png"
    assert float(QSiT(tmp_path / "saved").score(picture)) == pytest.approx(
        float(QSiT(GOLDEN / source, recipe="train").score(picture)), abs=1e-5
    )
