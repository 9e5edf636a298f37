"""pyiqa's own `qrealign` on the checkpoint that this package reads: the same number, where both are asked the same.

It asks another question than the published lines ("Can you rate the quality of this picture?"), shrinks with
torchvision, and takes one picture at a time.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from qsit_metric import QSiT
from qsit_metric.prompts import AESTHETICS, Q_REALIGN
from tiny_models import tiny_qwen3_5

from .needed import host

host("pyiqa")
from pyiqa.archs.qrealign import qrealign_compat
from pyiqa.archs.qrealign_arch import TASKS, QReAlign

RECIPES = {"quality": Q_REALIGN, "aesthetic": AESTHETICS}


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """pyiqa's model and ours, with the image processor of this package: torchvision's operators are not here."""
    from qsit_metric.backends.processors import load_processor

    folder = tiny_qwen3_5(tmp_path_factory.mktemp("qrealign") / "model")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(qrealign_compat, "load_processor", lambda repo: load_processor(Path(repo)))
        theirs = QReAlign(model=str(folder), dtype="float32")
    return theirs, QSiT(folder, device="cpu", dtype="float32", recipe="q-realign")


@pytest.mark.parametrize("task", RECIPES)
def test_the_same_number_for_the_same_question(both, task):
    theirs, ours = both
    question, stem = TASKS[task]
    recipe = RECIPES[task]
    assert stem == recipe.answer_prefix
    assert question != recipe.question, "if pyiqa asks as the published lines do, say so in docs/models.md"
    asked = QSiT(ours.backend, recipe=dataclasses.replace(recipe, question=question))
    levels = torch.randint(0, 255, (3, 3, 70, 90), generator=torch.Generator().manual_seed(0))
    x = (levels.float() + 0.25) / 255  # pyiqa cuts off where this package rounds
    found = theirs(x, task_=task)
    expected = torch.tensor([score.unit for score in asked.score(x)])
    assert found.tolist() == pytest.approx(expected.tolist(), abs=1e-5)
