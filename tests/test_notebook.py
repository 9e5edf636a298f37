"""The notebook runs from top to bottom, offline, with the model inside the package."""

from __future__ import annotations

import json
import socket

import pytest
from PIL import Image

from conftest import HERE
from qsit_metric import QSiT

EXAMPLES = HERE.parent / "examples"
NOTEBOOK = json.loads((EXAMPLES / "quickstart.ipynb").read_text(encoding="utf-8"))
CODE = ["".join(cell["source"]) for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]


def test_it_is_a_notebook_without_outputs():
    """Outputs would belong to one release of the weights, and every run would change the file."""
    assert (NOTEBOOK["nbformat"], NOTEBOOK["nbformat_minor"]) == (4, 5)
    ids = [cell["id"] for cell in NOTEBOOK["cells"]]
    assert len(set(ids)) == len(ids)
    for cell in NOTEBOOK["cells"]:
        assert cell["cell_type"] in ("markdown", "code")
        assert cell["source"]
        assert cell.get("outputs", []) == []
        assert cell.get("execution_count") is None


def test_it_shows_everything():
    text = "\n".join(CODE)
    for name in ("score(", "ask(", "describe(", "open(", "map(", "backward()", "evaluate(", "choices="):
        assert name in text


@pytest.fixture(scope="module")
def names():
    """What the cells leave behind, run in their order in one namespace."""
    refused = pytest.MonkeyPatch()
    refused.chdir(EXAMPLES)
    refused.setattr(socket.socket, "connect", lambda *_: pytest.fail("the network was asked"))
    found: dict[str, object] = {}
    try:
        for place, cell in enumerate(CODE):
            exec(compile(cell, f"quickstart.ipynb, code cell {place}", "exec"), found)
    finally:
        refused.undo()
    return found


def test_it_runs(names):
    assert isinstance(names["metric"], QSiT)
    assert 1 <= names["score"] <= 5
    assert names["answer"] in ("Blur", "Noise", "Compression artifacts")
    assert names["result"].n == len(names["radii"])
    assert isinstance(names["found"].overlay(), Image.Image)
    assert names["x"].grad.isfinite().all()


@pytest.mark.long
def test_it_says_what_is_so(names):
    """With the real weights: more blur is worse, the blurred quadrant is found, and a step helps."""
    scores = names["metric"].score(names["blurred"])
    assert scores[0] > scores[2] > scores[4]
    assert names["answer"] == "Blur"
    assert names["result"].correlations.srcc > 0.85
    left, top, right, bottom = names["found"].worst
    assert (left + right) / 2 < names["photo"].width / 2
    assert (top + bottom) / 2 > names["photo"].height / 2
    assert names["metric"](names["better"]) > names["metric"](names["x"].detach())
