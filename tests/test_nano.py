"""The model inside the package: complete, small, offline, and really able to tell a good picture from a bad one."""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from qsit_metric import QSiT, catalog
from qsit_metric.hub import fingerprint

pytestmark = pytest.mark.compat

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "nano"
IMAGES = ROOT / "tests" / "golden" / "images"
ROCKET = IMAGES / "portrait_300x449.jpg"  # a photograph that no model was trained on


@pytest.fixture(scope="module")
def folder() -> Path:
    record = catalog.find("q-sit-nano")
    assert record is not None
    found = catalog.embedded_folder(record)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def metric() -> QSiT:
    return QSiT("q-sit-nano", device="cpu")


def _degraded(kind: str, level: float) -> Image.Image:
    pytest.importorskip("skimage")
    from train.nano.data.kadid import distort

    return distort(Image.open(ROCKET).convert("RGB"), kind, level, seed=0)


def test_it_is_small_and_half_precision(folder: Path) -> None:
    path = folder / "model.safetensors"
    assert path.stat().st_size <= 16 * 2**20
    with safe_open(path, "pt") as file:
        weights = [file.get_tensor(name) for name in file.keys()]  # noqa: SIM118  # no mapping
    assert {weight.dtype for weight in weights} == {torch.float16}
    assert sum(weight.numel() for weight in weights) <= 8_000_000
    assert sum(path.stat().st_size for path in folder.rglob("*")) <= 20 * 2**20
    assert not list(folder.rglob("*.bin"))


def test_it_needs_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert 1 <= QSiT("q-sit-nano").score(ROCKET) <= 5


def test_it_tells_a_good_photograph_from_bad_ones(metric: QSiT) -> None:
    pytest.importorskip("skimage")
    from train.nano.data.kadid import distort
    from train.nano.data.photographs import load

    good = load("rocket")  # held out
    blurred, noisy = (distort(good, kind, 5, seed=0) for kind in ("gaussian_blur", "white_noise"))
    scores = metric.score([good, blurred, noisy])
    assert scores[0] > 4
    assert scores[0].level in ("good", "excellent")
    assert scores[0] - scores[1] > 2.5
    assert scores[0] - scores[2] > 1.5
    assert scores[1].level in ("bad", "poor")


def test_a_small_grainy_copy_is_still_better_than_it_is_degraded(metric: QSiT) -> None:
    copy, blurred, noisy = metric.score([ROCKET, _degraded("gaussian_blur", 5), _degraded("white_noise", 5)])
    assert copy - blurred > 1.5
    assert copy - noisy > 0.7


def test_the_demo_is_right(metric: QSiT) -> None:
    """A good photograph, it out of focus and it noisy: clearly different scores, and the right answers."""
    sys.path.insert(0, str(ROOT / "examples"))
    try:
        import demo
    finally:
        sys.path.pop(0)
    found = demo.pictures()
    good, blurred, noisy = (found[f"astronaut{name}"] for name in ("", ", heavy blur", ", heavy noise"))
    scores = sorted(float(score) for score in metric.score([good, blurred, noisy]))
    assert min(np.diff(scores)) > 0.3
    assert scores[-1] == pytest.approx(metric.score(good), abs=1e-3)
    sharp = metric.ask([good, blurred], demo.SHARP, choices=demo.YES_NO)
    assert [answer.choice for answer in sharp] == ["Yes", "No"]
    noise = metric.ask([good, blurred, noisy], demo.NOISY, choices=demo.YES_NO)
    assert [answer.choice for answer in noise] == ["No", "No", "Yes"]


def test_it_names_the_distortion(metric: QSiT) -> None:
    choices = ["Noise", "Blur", "Compression artifacts", "Overexposure"]
    question = "What distortion can be seen in this image?"
    for kind, right in (("gaussian_blur", "Blur"), ("white_noise", "Noise"), ("jpeg", "Compression artifacts")):
        for turn in range(4):  # wherever the right one stands
            answer = metric.ask(_degraded(kind, 5), question, choices=choices[turn:] + choices[:turn])
            assert answer.choice == right, (kind, turn, answer.probs)


def test_it_says_yes_and_no(metric: QSiT) -> None:
    question = "Is this image sharp?"
    assert metric.ask(_degraded("gaussian_blur", 5), question, choices=["Yes", "No"]).choice == "No"
    assert metric.ask(ROCKET, question, choices=["Yes", "No"]).choice == "Yes"


def test_a_batch_of_its_tiles_is_one_batch_and_changes_nothing(metric: QSiT) -> None:
    assert metric.budget.tiles >= 8 * 13
    paths = [IMAGES / name for name in ("landscape_451x300.png", "square_512.png", "gray_256.png", ROCKET.name)]
    assert metric.score(paths) == pytest.approx([metric.score(path) for path in paths], abs=1e-4)


def test_it_has_a_gradient_that_points_away_from_noise(metric: QSiT) -> None:
    noisy = torch.from_numpy(np.asarray(_degraded("white_noise", 4))).permute(2, 0, 1).float().unsqueeze(0) / 255
    x = noisy.clone().requires_grad_(True)
    before = metric(x)
    (gradient,) = torch.autograd.grad(before.sum(), x)
    assert torch.isfinite(gradient).all()
    better = (noisy + 0.5 / 255 * gradient.sign()).clamp(0, 1)
    assert metric(better) > before


def test_scores_are_those_of_the_release(metric: QSiT) -> None:
    """Whatever transformers is installed: `nano.json` has the 18 scores of the strip's pictures."""
    pytest.importorskip("skimage")
    from benchmarks.nano.pictures import series

    measured = json.loads((RESULTS / "nano.json").read_text(encoding="utf-8"))
    known = {(row["type"], row["level"]): row["score"] for row in measured["strip"]}
    for kind, level, image in series(measured["seed"]):
        assert metric.score(image) == pytest.approx(known[kind, level], abs=2e-3), (kind, level)


def test_card_and_results_belong_to_these_weights(folder: Path) -> None:
    """Every number of the card comes from the results, and those were measured with this folder's weights."""
    pytest.importorskip("skimage")
    from benchmarks.nano.ship import card

    measured, summary = (
        json.loads((RESULTS / name).read_text(encoding="utf-8")) for name in ("nano.json", "summary.json")
    )
    recipe = json.loads((folder / "training.json").read_text(encoding="utf-8"))["recipe"]
    assert measured["made"]["revision"] == fingerprint(folder)
    assert (folder / "README.md").read_text(encoding="utf-8") == card(measured, summary, recipe)
    assert measured["images"]["scored"] >= 1250
    assert not measured["failed"]
