"""The faster products of a processor: the numbers of the ordinary ones, and only where nothing needs a gradient."""

from __future__ import annotations

import time

import pytest
import torch

from qsit_metric.model import products
from qsit_metric.model.config import ACTIVATIONS

needs_onednn = pytest.mark.skipif(products._onednn() is None, reason="no oneDNN on this processor")
FORMS = [*({"act": name} for name in ACTIVATIONS), {"times": True}, {"plus": True}, {}]


def sample(dtype=torch.float32):
    generator = torch.Generator().manual_seed(5)
    x, weight = torch.randn(3, 50, 40, generator=generator), torch.randn(70, 40, generator=generator) / 6
    return (
        x.to(dtype),
        weight.to(dtype),
        torch.randn(70, generator=generator).to(dtype),
        torch.randn(3, 50, 70).to(dtype),
    )


def called(monkeypatch, form, dtype=torch.float32):
    """What a form of `linear` gives, quick and ordinary."""
    x, weight, bias, other = sample(dtype)
    form = {name: other if value is True else value for name, value in form.items()}
    with torch.no_grad():
        quick = products.linear(x, weight, bias, **form)
        with products.ordinary():
            return quick, products.linear(x, weight, bias, **form)


@needs_onednn
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_a_product_with_what_follows_it(monkeypatch, form):
    quick, plain = called(monkeypatch, form)
    assert float((quick - plain).abs().max()) <= 2e-6 * float(plain.abs().max())


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_bfloat16_products(monkeypatch, form):
    quick, plain = called(monkeypatch, form, torch.bfloat16)
    assert float((quick - plain).float().abs().max()) <= 0.02 * float(plain.float().abs().max())


@needs_onednn
def test_who_needs_a_gradient_gets_one():
    x, weight, bias, _ = sample()
    assert products.quick(x, weight)
    x.requires_grad_()
    assert not products.quick(x, weight)
    products.linear(x, weight, bias, "gelu_pytorch_tanh").sum().backward()
    assert x.grad.abs().sum() > 0
    with torch.no_grad():
        assert products.quick(x, weight)
    assert not products.quick(x.detach(), weight.clone().requires_grad_())
    assert products.quick(x.detach(), weight)


@needs_onednn
@pytest.mark.parametrize("part", ["bias", "times", "plus"])
def test_whatever_needs_a_gradient_gets_one(part):
    """Bias-only tuning, and an adapter on the gate alone: the product's own input and weight need none."""
    x, weight, bias, other = sample()
    given = (bias if part == "bias" else other).clone().requires_grad_()
    form = {} if part == "bias" else {part: given}
    products.linear(x, weight, given if part == "bias" else bias, **form).pow(2).sum().backward()
    assert given.grad is not None
    assert given.grad.abs().sum() > 0


@needs_onednn
def test_directional_derivatives_pass():
    x, weight, bias, _ = sample()

    def forward(y):
        return products.linear(y, weight, bias, "silu")

    _, got = torch.func.jvp(forward, (x,), (torch.ones_like(x),))
    with products.ordinary():
        _, want = torch.func.jvp(forward, (x,), (torch.ones_like(x),))
    torch.testing.assert_close(got, want)


@needs_onednn
def test_who_switches_onednn_off_is_obeyed():
    x, weight, _, _ = sample()
    enabled = torch._C._get_mkldnn_enabled()
    torch._C._set_mkldnn_enabled(False)
    try:
        assert not products.quick(x, weight)
    finally:
        torch._C._set_mkldnn_enabled(enabled)
    assert products.quick(x, weight)


def test_a_compiled_product_is_whole():
    x, weight, bias, _ = sample()
    compiled = torch.compile(lambda y: products.linear(y, weight, bias, "silu"), backend="eager", fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), products.linear(x, weight, bias, "silu"), atol=1e-5, rtol=1e-5)


@needs_onednn
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_other_types_take_the_ordinary_way(dtype):
    x, weight, bias, _ = sample(dtype)
    assert not products.quick(x, weight)
    assert products.linear(x, weight, bias).dtype == dtype


@needs_onednn
def test_autocast_is_obeyed():
    x, weight, bias, _ = sample()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert products.linear(x, weight, bias).dtype == torch.bfloat16


@needs_onednn
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 8e-3)])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("length", [100, 600, 1700])
def test_attention_of_short_and_long_sequences(monkeypatch, dtype, tolerance, causal, length):
    """Two heads to a group of keys; the long ones are read in pieces of a head."""
    generator, pieces, weighted = torch.Generator().manual_seed(2), [], products._weighted
    monkeypatch.setattr(products, "_weighted", lambda *of: pieces.append(1) or weighted(*of))
    q, k, v = (torch.randn(2, length, heads, 24, generator=generator).to(dtype) for heads in (4, 2, 2))
    with torch.no_grad():
        got = products.attention(*(part.transpose(1, 2) for part in (q, k, v)), 0.0, causal)
    wide = [part.transpose(1, 2).double().repeat_interleave(4 // part.shape[2], 1) for part in (q, k, v)]
    want = torch.nn.functional.scaled_dot_product_attention(*wide, is_causal=causal).transpose(1, 2).flatten(2)
    # Without instructions for bfloat16, that type is left to torch.
    assert len(pieces) == {100: 0, 600: 2 * 4, 1700: 2 * 4 * 3}[length] * (
        dtype == torch.float32 or products._bfloat16()
    )
    assert (got.shape, got.dtype) == ((2, length, 96), dtype)
    assert float((got.double() - want).abs().max()) <= tolerance * float(v.abs().max())


@needs_onednn
@torch.no_grad()
def test_long_attention_costs_no_more_than_the_ordinary():
    """Processor time; parts of matrices that oneDNN did not like once cost 190 times as much."""
    q, k, v = torch.randn(3, 1, 2, 1600, 64).unbind()

    def cost() -> float:
        start = time.process_time()
        products.attention(q, k, v, 0.0, causal=True)
        return time.process_time() - start

    quick = min(cost() for _ in range(3))
    with products.ordinary():
        assert quick < 10 * min(cost() for _ in range(3))


def test_the_gain_of_bfloat16_is_measured():
    assert 0.01 < products.bfloat16_gain() < 100
