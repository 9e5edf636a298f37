"""`train.names`: weights are saved under the published names, whatever release saves them and whatever they came from."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from conftest import GOLDEN, IMAGES
from qsit_metric import QSiT
from train.model import INDEX, load_parts, publish_names, published
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
        assert published(name) == name
        assert published(newer(name)) == name != newer(name)


@pytest.mark.parametrize("source", SOURCES)
def test_a_folder_is_renamed_bit_for_bit(source, tmp_path):
    folder = renamed(source, tmp_path / "newer")
    publish_names(folder)
    before, after = (load_file(place / "model.safetensors") for place in (GOLDEN / source, folder))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert safe_open(folder / "model.safetensors", "pt").metadata() == {"format": "pt"}
    stamp = (folder / "model.safetensors").stat().st_mtime_ns
    publish_names(folder)
    assert (folder / "model.safetensors").stat().st_mtime_ns == stamp, "what is right is not written again"


def test_shards_and_their_index(tmp_path):
    folder = renamed("tied", tmp_path / "newer")
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    order, files = sorted(weights), ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    place = {name: files[position % 2] for position, name in enumerate(order)}
    for file in files:
        save_file({name: weights[name] for name in order if place[name] == file}, folder / file, {"format": "pt"})
    (folder / INDEX).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": place}))
    publish_names(folder)
    index = json.loads((folder / INDEX).read_text())
    assert index["metadata"] == {"total_size": 1}
    assert index["weight_map"].keys() == names(GOLDEN / "tied") == names(folder)
    assert all(name in safe_open(folder / file, "pt").keys() for name, file in index["weight_map"].items())  # noqa: SIM118


@pytest.mark.parametrize("source", SOURCES)
def test_a_training_checkpoint_is_written_under_them(source, tmp_path):
    parts = load_parts(Model(base=str(GOLDEN / source), gradient_checkpointing=False), "train")
    parts.save(tmp_path / "saved", {name: weight.clone() for name, weight in parts.model.state_dict().items()})
    assert names(tmp_path / "saved") - {"language_model.lm_head.weight"} == names(GOLDEN / source) - {
        "language_model.lm_head.weight"
    }
    picture = IMAGES / "tiny_7x5.png"
    assert float(QSiT(tmp_path / "saved").score(picture)) == pytest.approx(
        float(QSiT(GOLDEN / source, recipe="train").score(picture)), abs=1e-5
    )
