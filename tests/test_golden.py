"""The golden set: 14 images x 2 checkpoints give the numbers of the authors' flow.

Provenance: the authors' scoring flow (Q-Future/Q-SiT at 4e4d1df) run with transformers 4.45.0, Pillow 11.3.0,
torch 2.13.0, float32, CPU; stored in `golden/*.expected.json`.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from conftest import CHECKPOINTS, GOLDEN_NAMES, IMAGES, expected
from qsit_metric import pixels
from qsit_metric.levels import expect
from qsit_metric.pixels.geometry import Geometry

pytestmark = pytest.mark.compat

BY_TENSOR = "portrait_300x449.jpg", "cmyk_427x640.jpg", "tiny_7x5.png", "square_512.png", "panorama_1600x200.jpg"
CASES = [(checkpoint, name) for checkpoint in CHECKPOINTS for name in GOLDEN_NAMES]


def pixels_of(name):
    return pixels.normalise(pixels.cut(pixels.load(IMAGES / name), Geometry()), Geometry())


@pytest.mark.parametrize("name", GOLDEN_NAMES)
def test_pixels_are_equal(name):
    want = expected("tied")["images"][name]
    pixels = pixels_of(name)
    assert len(pixels) == want["tiles"]
    flat = pixels.flatten()
    # Stored pixels agree to the bit; a JPEG decoder of another build may differ by a grey level here and there.
    slack = 0.0 if name.endswith(".png") else 2 / 255
    samples = flat[torch.linspace(0, len(flat) - 1, 16).long()]
    assert float((samples - torch.tensor(want["pixel_samples"])).abs().max()) <= 1e-7 + slack
    assert float(flat.double().sum()) == pytest.approx(want["pixel_sum"], abs=1e-6 + slack * len(flat) / 100)
    assert float(flat.double().abs().sum()) == pytest.approx(want["pixel_abs_sum"], abs=1e-6 + slack * len(flat) / 100)


def test_the_golden_set_holds_both_kinds_of_border():
    short = [any(pixels.plan(Geometry(), *pixels.load(IMAGES / name).size[::-1]).short) for name in GOLDEN_NAMES]
    assert True in short
    assert False in short


@pytest.mark.parametrize("name", BY_TENSOR)
def test_tensors_take_the_same_pixels(name):
    picture = pixels.load(IMAGES / name)
    tensor = torch.from_numpy(np.array(picture.pixels)).permute(2, 0, 1).float()
    again = pixels.normalise(pixels.cut(pixels.Picture(tensor, "tensor"), Geometry()), Geometry())
    assert torch.equal(again, pixels_of(name))


@pytest.mark.parametrize(("checkpoint", "name"), CASES)
def test_scores_and_answers(metrics, checkpoint, name):
    metric, stored = metrics[checkpoint], expected(checkpoint)
    want = stored["images"][name]
    prompt = metric.recipe.scoring()
    assert metric.backend._dialogue.render(prompt) == stored["chat_prompt"]
    ids = metric.backend._dialogue.ids(prompt)
    assert dict(zip(prompt.words, ids.words, strict=True)) == stored["level_token_ids"]

    with metric.open(IMAGES / name) as view:
        assert len(ids.before) + view._encoded.tokens + len(ids.after) == want["input_tokens"]
        score = view.score()
        answers = view.ask(list(want["answers"]), max_new_tokens=12)
    logits = {word.lower(): value for word, value in want["level_logits"].items()}
    assert score.logits == pytest.approx(logits, abs=1e-4)
    assert metric.score(IMAGES / name).logits == pytest.approx(logits, abs=1e-4)
    assert score == pytest.approx(want["score15"], abs=1e-4)
    assert score.unit == pytest.approx(want["score01"], abs=1e-4)
    assert [list(answer.tokens) for answer in answers] == list(want["answers"].values())


@pytest.mark.parametrize("checkpoint", CHECKPOINTS)
def test_the_whole_set_as_one_list(metrics, checkpoint):
    stored = expected(checkpoint)["images"]
    scores = metrics[checkpoint].score([IMAGES / name for name in GOLDEN_NAMES])
    for name, score in zip(GOLDEN_NAMES, scores, strict=True):
        assert score == pytest.approx(stored[name]["score15"], abs=1e-4), name
        assert score.probs == pytest.approx({k.lower(): v for k, v in stored[name]["probs"].items()}, abs=1e-4)


def test_the_published_check_converts():
    """The authors' README: level logits 11.953, 9.391, 11.039, 12.102, 15.398 (Excellent..Bad) are 0.0455 of 1."""
    _, score = expect(torch.tensor([15.398, 12.102, 11.039, 9.391, 11.953]), scale=(0.0, 1.0))
    assert float(score) == pytest.approx(0.0455, abs=5e-4)
