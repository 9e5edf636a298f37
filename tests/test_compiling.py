"""`QSiT(compile=True)`: the same scores for all sizes, said how long it took, and what happens without a compiler."""

from __future__ import annotations

import copy
import logging
import os
import re
import subprocess
import sys

import pytest
import torch
from PIL import Image
from torch._dynamo.testing import CompileCounter
from typer.testing import CliRunner

from conftest import GOLDEN, IMAGES
from qsit_metric import QSiT, QSiTLoss
from qsit_metric.cli import app
from qsit_metric.errors import BackendError
from qsit_metric.model import compiling
from qsit_metric.model.network import TextLayer
from qsit_metric.modules.differentiable import QSiTModule

TIED = str(GOLDEN / "tied")
PICTURE = IMAGES / "landscape_451x300.png"
SIZES = ((64, 64), (300, 40), (200, 120), (41, 33))
QUESTION = "Is it sharp?"


def pictures():
    return [Image.open(PICTURE).convert("RGB").resize(size) for size in SIZES]


def agrees(metric, tied):
    found, want = [[float(s) for s in m.score(pictures())] for m in (metric, tied)]
    assert found == pytest.approx(want, abs=1e-5)
    assert [float(metric.score(one)) for one in pictures()] == pytest.approx(want, abs=1e-5)
    assert metric.ask(PICTURE, [QUESTION, "And now?"], max_new_tokens=5) == tied.ask(
        PICTURE, [QUESTION, "And now?"], max_new_tokens=5
    )


def forget():
    compiling._compiled.cache_clear()
    compiling._step.cache_clear()
    torch._dynamo.reset()


@pytest.fixture(scope="module")
def traced():
    """A metric traced by torch without its compiler, which takes half a minute, and the parts that were traced."""
    seen = []

    def compile(piece, **settings):
        def backend(graph, examples):
            seen.append(piece.__name__)
            return graph.forward

        return original(piece, backend=backend, dynamic=settings["dynamic"])

    original = torch.compile
    forget()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "compile", compile)
        yield QSiT(TIED, compile=True), seen
    forget()


@pytest.mark.long
def test_each_part_is_compiled_once_for_all_layers_and_sizes(traced, tied):
    metric, seen = traced
    assert sorted(seen) == ["_read", "_see", "_seen", "_told"]
    agrees(metric, tied)
    assert len(seen) == 4


@pytest.mark.long
def test_gradients_take_the_ordinary_way_and_copies_are_not_compiled(traced, tied):
    metric, _ = traced
    x = torch.rand(1, 3, 40, 60, generator=torch.Generator().manual_seed(0)).requires_grad_()
    gradients = [torch.autograd.grad(m(x).sum(), x)[0] for m in (metric, tied)]
    assert torch.equal(*gradients)
    layers = [layer for layer in copy.deepcopy(metric.backend.model).modules() if isinstance(layer, TextLayer)]
    assert layers
    assert all(layer.compiled is None for layer in layers)
    assert metric.backend.model.state_dict().keys() == tied.backend.model.state_dict().keys()


def stand_in(monkeypatch, run):
    """Pieces that are not compiled but run so."""
    forget()
    monkeypatch.setattr(torch, "compile", lambda piece, **settings: lambda *args: run(piece, *args))


def test_the_time_is_said(monkeypatch, caplog):
    stand_in(monkeypatch, lambda piece, *args: piece(*args))
    caplog.set_level(logging.INFO, "qsit_metric")
    assert QSiT(TIED).compile() < 60
    assert re.fullmatch(r"Compiled .* for cpu in \d+ s", caplog.messages[-1])
    done = CliRunner().invoke(app, ["score", str(PICTURE), "-m", TIED, "--compile", "--format", "csv"])
    assert done.exit_code == 0
    assert re.search(r"Compiled in \d+ s", done.stderr)


def test_what_does_not_give_the_same_is_not_used(tied, monkeypatch):
    stand_in(monkeypatch, lambda piece, *args: args[2] if piece.__name__ == "_told" else piece(*args))
    metric = QSiT(TIED)
    with pytest.raises(BackendError, match=r"`compile`: got <logits off by"):
        metric.compile()
    assert float(metric.score(PICTURE)) == float(tied.score(PICTURE))


def test_without_a_compiler_it_says_so_and_scores(tied, monkeypatch, caplog):
    def run(piece, *args):
        raise RuntimeError("No working C++ compiler found\nin any place")

    stand_in(monkeypatch, run)
    metric = QSiT(TIED, compile=True)
    assert float(metric.score(PICTURE)) == float(tied.score(PICTURE))
    (message,) = caplog.messages
    assert "`compile`: got <No working C++ compiler found>, expected what torch compiles with" in message
    assert "apt install g++" in message


def test_what_cannot_be_compiled_is_refused():
    with pytest.raises(BackendError, match="`compile`: got True, expected False for a model that is spread"):
        QSiT(TIED, device={"": "cpu"}, compile=True)


# Compilers around us


@pytest.mark.parametrize("front", ["metric", *(pytest.param(n, marks=pytest.mark.long) for n in ("loss", "module"))])
def test_code_that_is_compiled_around_a_metric_gives_the_same_for_all_sizes(tied, front):
    torch._dynamo.reset()
    judge = {"metric": tied, "loss": QSiTLoss(tied, reduction="none"), "module": QSiTModule(tied)}[front]

    def step(x):
        return judge(x * 0.5 + 0.2) + 1

    counter = CompileCounter()
    compiled = torch.compile(step, backend=counter)
    for size in ((40, 60), (64, 64), (33, 80)):
        x = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0)).requires_grad_()
        found, want = compiled(x), step(x)
        assert torch.equal(found, want)
        gradients = [torch.autograd.grad(y.sum(), x)[0] for y in (found, want)]
        assert torch.equal(*gradients)
    assert counter.frame_count <= 4  # what stands around the call, for one size and for any
    torch._dynamo.reset()


@pytest.mark.long
def test_torchs_compiler_gives_the_same_scores_for_all_sizes(tied):
    forget()
    agrees(QSiT(TIED, compile=True), tied)


@pytest.mark.long
def test_a_machine_without_a_compiler_scores_all_the_same(tied, tmp_path):
    """The real message of torch, in a process in which no compiler is found."""
    environment = {**os.environ, "CXX": "no-such-compiler", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    command = [
        sys.executable,
        "-m",
        "qsit_metric.cli",
        "score",
        str(PICTURE),
        "-m",
        TIED,
        "--compile",
        "--format",
        "csv",
    ]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("`compile`: got") == 1
    assert f"{float(tied.score(PICTURE)):.4f}" in done.stdout


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_on_a_gpu_scores_and_answers_stay(dtype):
    own, metric = QSiT(TIED, device="cuda", dtype=dtype), QSiT(TIED, device="cuda", dtype=dtype, compile=True)
    wide = 1e-4 if dtype == "float32" else 5e-3
    found, want = [[float(s) for s in m.score(pictures())] for m in (metric, own)]
    assert found == pytest.approx(want, abs=wide)
    answers = [m.ask(PICTURE, QUESTION, max_new_tokens=20).tokens for m in (metric, own)]
    assert answers[0] == answers[1] or dtype == "float16"
    for _ in range(2):  # graphs are replayed
        assert metric.ask(PICTURE, QUESTION, max_new_tokens=20).tokens == answers[0]
