"""The fast path in a process where transformers cannot be imported: scores, answers, maps, the loss, the command."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from conftest import GOLDEN, IMAGES
from qsit_metric import QSiT

PICTURE = IMAGES / "landscape_451x300.png"
QUESTION = "Is it sharp?"
EVERYTHING = """
import json, sys

sys.modules["transformers"] = None  # whoever imports it gets an ImportError

import torch
from typer.testing import CliRunner

from qsit_metric import QSiT, QSiTLoss, create_metric
from qsit_metric.cli import app


def everything(model, picture, question):
    metric = QSiT(model)
    with metric.open(picture) as view:
        found = {"score": float(view.score()), "answer": view.ask(question, max_new_tokens=5)}
        found["choice"] = view.ask(question, choices=["Yes", "No"]).choice
    found["map"] = metric.map(picture, window=200).values.shape
    batch = torch.rand(1, 3, 48, 64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    QSiTLoss(metric)(batch).backward()
    found["gradient"] = float(batch.grad.abs().sum())
    found["created"] = float(create_metric(model)(batch.detach()))
    found["transformers"] = metric.info["transformers"]
    found["command"] = CliRunner().invoke(app, ["score", "-m", model, picture]).exit_code
    return found


picture, question, *models = sys.argv[1:]
print(json.dumps([everything(model, picture, question) for model in models]))
"""


def test_everything_works_without_transformers():
    models = ["q-sit-nano", str(GOLDEN / "tied")]
    command = [sys.executable, "-c", EVERYTHING, str(PICTURE), QUESTION, *models]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for model, found in zip(models, json.loads(done.stdout), strict=True):
        here = QSiT(model)
        assert found["score"] == pytest.approx(float(here.score(PICTURE)), abs=1e-5)
        assert found["answer"] == here.ask(PICTURE, QUESTION, max_new_tokens=5)
        assert found["choice"] == here.ask(PICTURE, QUESTION, choices=["Yes", "No"]).choice
        assert min(found["map"]) > 1
        assert found["gradient"] > 0
        assert 1 <= found["created"] <= 5
        assert found["transformers"] == here.info["transformers"] is not None, "the version is read, not imported"
        assert found["command"] == 0


def test_another_engine_says_what_is_missing(monkeypatch):
    from qsit_metric import packages
    from qsit_metric.errors import DependencyError

    def absent(name):
        raise packages.PackageNotFoundError(name)

    monkeypatch.setattr(packages, "version", absent)
    assert QSiT("q-sit-nano").info["transformers"] is None
    with pytest.raises(DependencyError, match="`transformers`: got <not installed>, expected transformers >="):
        QSiT(GOLDEN / "tied", backend="transformers")
