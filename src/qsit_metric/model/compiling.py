"""Compiled forms of the network's layers, for scores and answers.

What stands between two attentions (norms, projections, rotation, the feed-forward part) is compiled once for all layers
of a kind and all sizes; attention itself, and the cache behind it, run as they are. Where a gradient is
computed the layers' own forward runs.

A processor's matrix products stay those of `products`, as the compiler's own are slower there. On CUDA a single token,
the step of an answer, goes through CUDA graphs: it is all launches and no work.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch

from . import products
from .layers import Compilable
from .network import LlavaOnevision, Reading, TextLayer, VisionLayer, rotate

Piece = Callable[..., Any]


class _Pieces(NamedTuple):
    """The two compiled parts of a layer, before its attention and behind it."""

    before: Piece
    behind: Piece


def attach(model: LlavaOnevision, *, graphs: bool = False) -> None:
    """Give every layer its compiled form; torch compiles at the first pass, which takes some seconds for each part.

    Args:
        model: On one device and not quantised.
        graphs: Use CUDA graphs for single tokens.
    """
    products.carry()
    tower, decoder = _tower(_compiled(_see, _seen)), _decoder(_compiled(_read, _told), _step(graphs))
    for module in model.modules():
        if isinstance(module, VisionLayer):
            module.compiled = tower
        elif isinstance(module, TextLayer):
            module.compiled = decoder


def detach(model: LlavaOnevision) -> None:
    """Take the compiled forms away."""
    for module in model.modules():
        if isinstance(module, Compilable):
            module.compiled = None


@lru_cache(maxsize=8)
def _compiled(before: Piece, behind: Piece) -> _Pieces:
    """Of all models: torch compiles again where one differs, and shares what does not."""
    return _Pieces(torch.compile(before, dynamic=True), torch.compile(behind, dynamic=True))


@lru_cache(maxsize=2)
def _step(graphs: bool) -> _Pieces:
    """For a single token, which torch would compile apart from longer texts."""
    if not graphs:
        return _Pieces(_read, _told)
    return _Pieces(*(torch.compile(piece, dynamic=False, mode="reduce-overhead") for piece in (_read, _told)))


def _tower(pieces: _Pieces) -> Callable[..., torch.Tensor]:
    def run(layer: VisionLayer, x: torch.Tensor) -> torch.Tensor:
        flat = x.flatten(0, 1)  # one tile or many are the same code then
        parts = [part.unflatten(0, x.shape[:2]) for part in pieces.before(layer, flat)]
        seen = layer.self_attn.attend(parts).flatten(0, 1)
        found: torch.Tensor = pieces.behind(layer, seen, flat)
        return found.view_as(x)

    return run


def _decoder(long: _Pieces, single: _Pieces) -> Callable[..., torch.Tensor]:
    def run(
        layer: TextLayer,
        x: torch.Tensor,
        cos: torch.Tensor,
        sin: torch.Tensor,
        reading: Reading,
        wanted: torch.Tensor | None,
    ) -> torch.Tensor:
        attention = layer.self_attn
        if len(x) == 1 and attention.index == 0:
            # What a graph gave in the pass before may be written over.
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        x = _own(x)
        q, k, v = (long if len(x) > 1 else single).before(layer, x, cos, sin)
        q, kept = (q, x) if wanted is None else (q[wanted], x[wanted])
        seen = _own(reading.attend(attention.index, q, k, v, 0.0))
        if not len(kept):
            return kept
        pieces = long if len(kept) > 1 else single if len(x) == 1 else _step(graphs=False)
        return pieces.behind(layer, seen, kept)  # type: ignore[no-any-return]

    return run


def _own(x: torch.Tensor) -> torch.Tensor:
    """A tensor that is no view: torch compiles apart for views."""
    return x.clone() if x._is_view() else x


def _see(layer: VisionLayer, x: torch.Tensor) -> Sequence[torch.Tensor]:
    return layer.self_attn.project(layer.layer_norm1(x))


def _seen(layer: VisionLayer, seen: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    x = layer.self_attn.close(seen, x)
    return layer.mlp(layer.layer_norm2(x), x)  # type: ignore[no-any-return]


def _read(layer: TextLayer, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> tuple[torch.Tensor, ...]:
    q, k, v = layer.self_attn.split(layer.input_layernorm(x))
    return rotate(q, cos, sin), rotate(k, cos, sin), v


def _told(layer: TextLayer, seen: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
    x = layer.self_attn.close(seen, kept)
    return layer.mlp(layer.post_attention_layernorm(x), x)  # type: ignore[no-any-return]
