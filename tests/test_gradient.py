"""The metric as a differentiable function of pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from conftest import GOLDEN, IMAGES
from qsit_metric import QSiT
from qsit_metric.errors import BackendError
from qsit_metric.pixels import load


def picture(name="landscape_451x300.png", size=(120, 90)):
    image = load(IMAGES / name).pixels.resize(size)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255


@pytest.fixture(scope="module")
def exact():
    """The tiny model in float64 with the linear resize, where finite differences mean something."""
    metric = QSiT(GOLDEN / "untied", dtype="float64")
    metric.backend.rounding = False
    return metric


def test_forward_equals_the_8_bit_path(tied):
    x = picture()
    by_tensor = tied(x.clone().requires_grad_())
    by_array = tied.score((x[0] * 255).round().byte())
    assert by_tensor.tolist() == pytest.approx([by_array], abs=1e-5)
    assert tied(x).tolist() == pytest.approx([by_array], abs=1e-5)


def test_gradient_is_finite_and_reaches_every_pixel(tied):
    x = torch.cat([picture(), picture("square_512.png")]).requires_grad_()
    y = tied(x)
    assert y.shape == (2,)
    assert y.dtype == torch.float32
    y.sum().backward()
    assert x.grad.isfinite().all()
    assert (x.grad.abs().amax(dim=1) > 0).float().mean() > 0.95
    assert all(parameter.grad is None for parameter in tied.backend.model.parameters())


def test_each_image_has_its_own_gradient(tied):
    both = torch.cat([picture(), picture("square_512.png")]).requires_grad_()
    tied(both)[0].backward()
    alone = picture().requires_grad_()
    tied(alone)[0].backward()
    assert both.grad[1].abs().max() == 0
    assert torch.allclose(both.grad[0], alone.grad[0], rtol=1e-3, atol=1e-6)


def test_finite_differences_agree(exact):
    """Along random halves of the pixels, in the direction that changes the score most.

    The norms of the language model compute in float32 whatever its weights are, so a slope must stand out of 1e-7.
    """
    generator = torch.Generator().manual_seed(0)
    x = picture(size=(60, 40)).double().clamp(0.01, 0.99).requires_grad_()
    (slope,) = torch.autograd.grad(exact(x).sum(), x)
    for _ in range(4):
        direction = slope.sign() * (torch.rand(x.shape, generator=generator) > 0.5)
        want, step = float((slope * direction).sum()), 2e-4
        high, low = (exact((x + sign * step * direction).detach().requires_grad_()).item() for sign in (1, -1))
        assert (high - low) / (2 * step) == pytest.approx(want, rel=5e-3)


def test_rounding_changes_no_gradient_where_it_changes_no_pixel():
    metric = QSiT(GOLDEN / "untied", dtype="float64")
    x = (picture("tile_384.png", (384, 384)) * 255).round().double() / 255  # cut without any resize: the same tiles
    gradients = []
    for rounding in (True, False):
        metric.backend.rounding = rounding
        x = x.detach().requires_grad_()
        metric(x).backward()
        gradients.append(x.grad)
    assert gradients[0].abs().max() > 0
    assert (gradients[0] - gradients[1]).norm() < 1e-4 * gradients[0].norm()


@pytest.mark.parametrize("checkpoint", ["tied", "untied"])
def test_a_step_of_gradient_ascent_raises_the_8_bit_score(metrics, checkpoint):
    metric, x = metrics[checkpoint], picture().requires_grad_()
    before = metric(x)
    before.backward()
    after = (x + 4 / 255 * x.grad.sign()).clamp(0, 1).detach()
    saved = (after[0] * 255).round().byte()
    assert metric.score(saved) > before.item() + 1e-3


def test_no_graph_without_need(tied):
    assert not tied(picture()).requires_grad
    x = picture().requires_grad_()
    with torch.no_grad():
        assert not tied(x).requires_grad
    assert isinstance(tied.score(x), list)


def test_a_backend_without_gradient_says_so(tied, monkeypatch):
    monkeypatch.setattr(type(tied.backend), "differentiable", False)
    with pytest.raises(BackendError, match="requires grad.*no gradient with llava_onevision"):
        tied(picture().requires_grad_())
    assert tied(picture()).shape == (1,)


def test_bfloat16_has_a_gradient():
    metric = QSiT(GOLDEN / "tied", dtype="bfloat16")
    x = picture().requires_grad_()
    metric(x).backward()
    assert x.grad.isfinite().all()
    assert x.grad.abs().max() > 0
