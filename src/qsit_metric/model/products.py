"""Matrix products and attention: torch's own, and on a processor the faster ways that give the same numbers.

On x86, torch multiplies float32 with MKL, which copies the bias first and uses half of the vector width of AMD's
processors; and its fused attention does so inside. oneDNN, which torch carries along and its compiler calls, adds bias,
activation and shortcut while it multiplies. These calls have no gradient, so they serve scoring only: where a gradient
is asked for, and on every other device, the ordinary functions run.

Measured: docs/speed.md. Equal to the ordinary functions to 1e-6 of the largest value in float32
(`tests/test_model_products.py`).
"""

from __future__ import annotations

import contextlib
import platform
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

import torch
from torch.autograd import forward_ad
from torch.nn import functional

Activation = Callable[[torch.Tensor], torch.Tensor]

GAIN = 1.5
"""From how many times the speed of float32 on bfloat16 is worth a word."""

_CARRIED: list[str] = []  # see `carry`
_ORDINARY: ContextVar[bool] = ContextVar("qsit_metric_ordinary", default=False)
_LONG = 512  # tokens from which attention is quicker head by head
_AT_ONCE = 768  # queries of a head at once, whose weights stay in the processor's cache
_EPILOGUES = {  # oneDNN's name and algorithm of each activation that it adds to a product
    "gelu": ("gelu", "none"),
    "gelu_new": ("gelu", "tanh"),
    "gelu_pytorch_tanh": ("gelu", "tanh"),
    "relu": ("relu", ""),
    "silu": ("swish", ""),
    "swish": ("swish", ""),
    "tanh": ("tanh", ""),
}


def activation(name: str) -> Activation:
    """An activation function by its name in `config.json`.

    Example:
        >>> activation("quick_gelu")(torch.zeros(1))
        tensor([0.])
    """
    known: dict[str, Activation] = {
        "gelu": functional.gelu,
        "gelu_new": _tanh_gelu,
        "gelu_pytorch_tanh": _tanh_gelu,
        "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
        "relu": functional.relu,
        "silu": functional.silu,
        "swish": functional.silu,
        "tanh": torch.tanh,
    }
    return known[name]


def _tanh_gelu(x: torch.Tensor) -> torch.Tensor:
    return functional.gelu(x, approximate="tanh")


@contextlib.contextmanager
def ordinary() -> Iterator[None]:
    """Only torch's ordinary functions: for whoever counts operations, and for comparisons."""
    token = _ORDINARY.set(True)
    try:
        yield
    finally:
        _ORDINARY.reset(token)


@lru_cache(maxsize=1)
def _onednn() -> Any:
    """The operator that torch's compiler calls for linear layers, or None where it is not."""
    if platform.machine().lower() not in ("x86_64", "amd64") or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return None
    return getattr(torch.ops.mkldnn, "_linear_pointwise", None)


@lru_cache(maxsize=1)
def _bfloat16() -> bool:
    """Whether oneDNN multiplies bfloat16 on this processor."""
    supported = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    return bool(supported and supported())


@lru_cache(maxsize=1)
def bfloat16_gain() -> float:
    """How many times faster than float32 this processor multiplies bfloat16; measured once, in some milliseconds."""
    x, weight = torch.ones(256, 1024), torch.ones(1024, 1024)
    return _seconds(x, weight) / _seconds(x.bfloat16(), weight.bfloat16())


def _seconds(x: torch.Tensor, weight: torch.Tensor) -> float:
    """The shortest of a few products, after one that warms up."""
    times = []
    with torch.no_grad():
        for _ in range(6):
            start = time.perf_counter()
            linear(x, weight, None)
            times.append(time.perf_counter() - start)
    return min(times[1:])


def quick(x: torch.Tensor, *others: torch.Tensor | None) -> bool:
    """Whether these are computed by oneDNN: nothing that takes part needs a gradient of either direction."""
    if torch.compiler.is_compiling():
        return False  # see `carry` for what this package itself compiles
    if x.device.type != "cpu" or _ORDINARY.get() or _onednn() is None:
        return False
    if torch.is_autocast_enabled("cpu") or not torch._C._get_mkldnn_enabled():
        return False  # who trains asked for another type than that of the weights; who switched oneDNN off means it
    if forward_ad._current_level >= 0:
        return False  # directional derivatives travel in tensors that say they need no gradient
    parts = [x, *(part for part in others if part is not None)]
    if torch.is_grad_enabled() and any(part.requires_grad for part in parts):
        return False
    fits = x.dtype == torch.float32 or (x.dtype == torch.bfloat16 and _bfloat16())
    return fits and all(part.dtype == x.dtype for part in parts) and x.numel() > 0


def linear(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    act: str | None = None,
    times: torch.Tensor | None = None,
    plus: torch.Tensor | None = None,
) -> torch.Tensor:
    """A linear layer with what follows it.

    Args:
        x: (..., in).
        weight: (out, in).
        bias: (out,) or None.
        act: Name of an activation behind it, or None.
        times: (..., out), multiplied with the layer's product; or None.
        plus: (..., out), added to it; or None. At most one of the three is given.

    Returns:
        (..., out).

    Example:
        >>> linear(torch.ones(1, 2), torch.ones(1, 2), None, plus=torch.ones(1, 1))
        tensor([[3.]])
    """
    if torch.compiler.is_compiling() and x.device.type == "cpu" and _CARRIED and not torch.is_grad_enabled():
        return torch.ops.qsit_metric.linear(x, weight, bias, act, times, plus)  # type: ignore[no-any-return]
    if not quick(x, weight, bias, times, plus):
        return follow(functional.linear(x, weight, bias), act, times, plus)
    call = _onednn()
    if times is not None or plus is not None:
        other, name = (times, "mul") if times is not None else (plus, "add")
        return call.binary(x, other, weight, bias, name)  # type: ignore[no-any-return]
    name, algorithm = ("none", "") if act is None else _EPILOGUES.get(act, ("", ""))
    if not name:
        return activation(act or "")(call(x, weight, bias, "none", [], ""))
    return call(x, weight, bias, name, [], algorithm)  # type: ignore[no-any-return]


def carry() -> None:
    """Let code that is compiled from now on, where no gradient is computed, call `linear` on a processor as it is.

    The compiler's own products are those of torch, and it cannot look into oneDNN's.
    """
    if _CARRIED or _onednn() is None:
        return
    schema = "(Tensor x, Tensor weight, Tensor? bias, str? act, Tensor? times, Tensor? plus) -> Tensor"
    product = torch.library.custom_op("qsit_metric::linear", linear, mutates_args=(), schema=schema)
    product.register_fake(lambda x, weight, *_: x.new_empty((*x.shape[:-1], weight.shape[0])))
    _CARRIED.append("linear")


def follow(
    y: torch.Tensor, act: str | None, times: torch.Tensor | None = None, plus: torch.Tensor | None = None
) -> torch.Tensor:
    """What stands behind a product, by ordinary functions; see `linear`."""
    y = y if act is None else activation(act)(y)
    y = y if times is None else y * times
    return y if plus is None else plus + y


def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, dropout: float, causal: bool) -> torch.Tensor:
    """Attention of sequences to themselves, or with one query each to all of it.

    Args:
        q: (rows, heads, queries, head).
        k: (rows, groups, length, head), each read by as many heads as come to a group.
        v: (rows, groups, length, head).
        dropout: Share of the weights that training drops.
        causal: Whether a token sees its past only.

    Returns:
        (rows, queries, heads * head).
    """
    if q.shape[2] == k.shape[2] >= _LONG and not dropout and quick(q, k, v):
        return _by_heads(q, k, v, causal)
    repeats = q.shape[1] // k.shape[1]
    k, v = (part.repeat_interleave(repeats, dim=1) if repeats > 1 else part for part in (k, v))
    seen = functional.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=causal)
    return seen.transpose(1, 2).flatten(2)


def _by_heads(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, causal: bool) -> torch.Tensor:
    """One head and some queries after the other, so that their weights stay in the processor's cache.

    Weights are computed in float32, and the queries of a causal text look no further than their own end.
    """
    rows, heads, length, head = q.shape
    groups = k.shape[1]
    seen = q.new_empty(rows, length, heads, head)
    queries, keys, values = q.float() * head**-0.5, k.float(), v.transpose(2, 3).contiguous()
    future = torch.full((_AT_ONCE, _AT_ONCE), -torch.inf).triu(1) if causal else None
    for row in range(rows):
        for at in range(heads):
            own = keys[row, at * groups // heads].contiguous(), values[row, at * groups // heads]
            asked = queries[row, at].contiguous()
            for start in range(0, length, _AT_ONCE):
                stop = min(start + _AT_ONCE, length)
                seen[row, start:stop, at] = _weighted(asked, *own, start, stop, future)
    return seen.flatten(2)


def _weighted(
    q: torch.Tensor, k: torch.Tensor, turned: torch.Tensor, start: int, stop: int, future: torch.Tensor | None
) -> torch.Tensor:
    """What queries `start` to `stop` of one head see: (length, head), (length, head), (head, length) -> (n, head)."""
    call = _onednn()
    end = len(k) if future is None else stop
    weights = call(q[start:stop], k[:end], None, "none", [], "")
    if future is not None:
        weights[:, start:] += future[: stop - start, : stop - start]
    weights = torch.softmax(weights, dim=-1).to(turned.dtype)
    # oneDNN multiplies with a part of a larger matrix a thousand times slower.
    return call(weights, turned[:, :end].contiguous(), None, "none", [], "")  # type: ignore[no-any-return]
