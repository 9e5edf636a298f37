"""The fast path with an installation in which `import transformers` fails."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from conftest import GOLDEN, IMAGES, expected
from qsit_metric import QSiT

PICTURE = IMAGES / "square_512.png"
BLOCKED = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("transformers", "accelerate", "torchvision"):
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Blocked())
"""
EVERYTHING = """
import torch
from qsit_metric import QSiT, QSiTLoss, create_metric

picture = sys.argv[1]
for model in sys.argv[2:]:
    metric = QSiT(model, device="cpu")
    print(float(metric.score(picture)))
    print(list(metric.ask(picture, "Is it sharp?", max_new_tokens=12).tokens))
    metric.ask(picture, "Is it sharp?", choices=["Yes", "No"], method="texts")
    with metric.open(picture) as view:
        view.score(), view.ask(["Is it sharp?", "Is it noisy?"], max_new_tokens=2)
    metric.map(picture, window=512)
    x = torch.rand(1, 3, 40, 40, requires_grad=True)
    QSiTLoss(metric)(x).backward()
    assert x.grad.abs().sum() > 0
    create_metric(model, device="cpu")(x.detach())
    assert metric.info["transformers"]
from qsit_metric.cli import main
sys.argv = ["qsit", "score", picture, "-m", model, "--format", "csv"]
try:
    main()
except SystemExit as stop:
    assert not stop.code
assert not [name for name in sys.modules if name.partition(".")[0] in ("transformers", "accelerate")]
"""


def test_scores_answers_maps_and_a_loss_step_without_transformers():
    command = [sys.executable, "-c", BLOCKED + EVERYTHING, str(PICTURE), "q-sit-nano", str(GOLDEN / "tied")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    want = expected("tied")["images"][PICTURE.name]
    assert float(lines[2]) == pytest.approx(want["score15"], abs=1e-4)
    assert lines[-1].startswith(str(PICTURE))


def test_one_metric_serves_many_threads():
    """Scores, questions and one view, asked from several threads at once, are what one thread gets."""
    metric, names = QSiT("q-sit-nano", device="cpu"), ["square_512.png", "gray_256.png", "tiny_7x5.png"]
    pictures = [IMAGES / name for name in names]
    with metric.open(pictures[0]) as view, ThreadPoolExecutor(4) as pool:
        scores = [float(metric.score(picture)) for picture in pictures]
        answers = [metric.ask(picture, "Is it sharp?", max_new_tokens=4) for picture in pictures]
        seen = view.ask("Is it noisy?", max_new_tokens=4)
        work = [pool.submit(metric.score, picture) for picture in pictures * 4]
        asked = [pool.submit(metric.ask, picture, "Is it sharp?", max_new_tokens=4) for picture in pictures * 2]
        views = [pool.submit(view.ask, "Is it noisy?", max_new_tokens=4) for _ in range(4)]
        assert [float(one.result()) for one in work] == pytest.approx(scores * 4, abs=1e-5)
        assert [one.result() for one in asked] == answers * 2
        assert [one.result() for one in views] == [seen] * 4
