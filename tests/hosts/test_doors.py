"""The same picture has the same score through every door."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from conftest import GOLDEN, IMAGES, expected
from qsit_metric import create_metric
from qsit_metric.cli import app
from qsit_metric.integrations.pyiqa import register
from qsit_metric.pixels import load

from .needed import host
from .torchvision_ops import put_back

put_back()
pyiqa, torchmetrics, basicsr = host("pyiqa"), host("torchmetrics"), host("basicsr")
from qsit_metric.integrations.basicsr import calculate_qsit
from qsit_metric.integrations.torchmetrics import QSiTScore, qsit_score

TIED = str(GOLDEN / "tied")
NAMES = ("landscape_451x300.png", "rgba_300.png", "gray_256.png")
WANT = expected("tied")["images"]  # what the authors' own code gives


def by_command(paths, _pictures, _metric):
    result = CliRunner().invoke(app, ["score", *map(str, paths), "--model", TIED, "--format", "jsonl"])
    assert result.exit_code == 0, result.output
    return [json.loads(line)["score"] for line in result.stdout.splitlines()]


def by_pyiqa(paths, _pictures, _metric):
    register()
    metric = pyiqa.create_metric("q-sit-mini", device="cpu", model=TIED)
    return [metric(str(path)).item() for path in paths]


def by_basicsr(_paths, pictures, _metric):
    return [calculate_qsit(np.array(picture)[..., ::-1], model=TIED, device="cpu") for picture in pictures]


def tensors(pictures):
    return [torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float() / 255 for picture in pictures]


DOORS = {
    "paths": lambda paths, _pictures, metric: metric.score(paths),
    "bytes": lambda paths, _pictures, metric: metric.score([path.read_bytes() for path in paths]),
    "PIL": lambda paths, _pictures, metric: metric.score([Image.open(path) for path in paths]),
    "arrays": lambda _paths, pictures, metric: metric.score([np.array(picture) for picture in pictures]),
    "tensors": lambda _paths, pictures, metric: [metric(x).item() for x in tensors(pictures)],
    "create_metric": lambda paths, _pictures, metric: create_metric(metric, device="cpu")(paths).tolist(),
    "command": by_command,
    "pyiqa": by_pyiqa,
    "torchmetrics": lambda _paths, pictures, metric: [QSiTScore(metric)(x).item() for x in tensors(pictures)],
    "its twin": lambda _paths, pictures, metric: [qsit_score(x, metric).item() for x in tensors(pictures)],
    "BasicSR": by_basicsr,
}


@pytest.mark.parametrize("door", DOORS)
def test_the_same_picture_has_the_same_score(door, tied):
    paths = [IMAGES / name for name in NAMES]
    pictures = [load(path).pixels for path in paths]
    assert DOORS[door](paths, pictures, tied) == pytest.approx([WANT[name]["score15"] for name in NAMES], abs=1e-4)
