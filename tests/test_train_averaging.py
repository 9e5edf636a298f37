"""`train.averaging`: the mean of two checkpoints of one model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from conftest import GOLDEN, IMAGES
from qsit_metric import QSiT
from qsit_metric.prompts import TRAIN
from train.averaging import average
from train.errors import RunError


@pytest.fixture
def both(tmp_path: Path) -> tuple[Path, Path]:
    """A checkpoint, and the same one after every weight has moved by its own tenth."""
    places = tmp_path / "before", tmp_path / "after"
    for place, factor in zip(places, (1.0, 1.1), strict=True):
        shutil.copytree(GOLDEN / "tied", place)
        weights = load_file(place / "model.safetensors")
        save_file({name: weight * factor for name, weight in weights.items()}, place / "model.safetensors")
        TRAIN.save(place)
        (place / "training.json").write_text(json.dumps({"metrics": {"loss": factor}, "step": 3}))
    return places


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_weights_lie_between(both, tmp_path, share):
    before, after = both
    made = average(before, after, tmp_path / "made", share)
    one, two, mean = (load_file(place / "model.safetensors") for place in (before, after, made))
    assert one.keys() == mean.keys()
    for name, weight in mean.items():
        torch.testing.assert_close(weight, (1 - share) * one[name] + share * two[name])
    assert json.loads((made / "training.json").read_text()) == {"metrics": {}, "step": 3, "averaged": share}
    assert 1 <= float(QSiT(made).score(IMAGES / "tiny_7x5.png")) <= 5
    assert sorted(path.name for path in made.iterdir()) == sorted(path.name for path in after.iterdir())


def test_one_that_is_there_stays(both, tmp_path):
    made = average(*both, tmp_path / "made")
    stamp = (made / "model.safetensors").stat().st_mtime_ns
    assert average(both[1], both[0], made) == made
    assert (made / "model.safetensors").stat().st_mtime_ns == stamp


def test_another_model_is_refused_and_nothing_is_left(both, tmp_path):
    with pytest.raises(RunError, match=r"`before`: .*untied', expected a checkpoint of the same model, with "):
        average(GOLDEN / "untied", both[1], tmp_path / "made")
    assert not (tmp_path / "made").exists()
