"""The network's linear layers: with what follows them in one product, and siblings as one matrix."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from . import products


class _Unset:
    """A layer that starts without numbers: they come from a file, and drawing some first would cost a second."""

    def reset_parameters(self) -> None:
        """Leave the weights as they are."""


class Linear(_Unset, nn.Linear):
    """A linear layer with what follows it in the same call; see `products.linear`."""

    def forward(
        self,
        x: torch.Tensor,
        act: str | None = None,
        times: torch.Tensor | None = None,
        plus: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """(..., in) -> (..., out)."""
        return products.linear(x, self.weight, self.bias, act, times, plus)

    def __getstate__(self) -> dict[str, Any]:
        """Weights of its own for a copy: a view would carry the whole matrix that it is part of."""
        own = {name: _alone(weight) for name, weight in self._parameters.items()}
        return {**self.__dict__, "_parameters": own}


def _alone(weight: nn.Parameter | None) -> nn.Parameter | None:
    if weight is None or weight.is_meta or weight.untyped_storage().nbytes() <= weight.nbytes:
        return weight
    return nn.Parameter(weight.detach().clone(), weight.requires_grad)


def through(
    layer: nn.Module,
    x: torch.Tensor,
    act: str | None = None,
    times: torch.Tensor | None = None,
    plus: torch.Tensor | None = None,
) -> torch.Tensor:
    """A linear layer with what follows it, also where an adapter or a quantised layer stands in its place."""
    if type(layer) is Linear:
        found: torch.Tensor = layer(x, act, times, plus)
        return found
    return products.follow(layer(x), act, times, plus)


class Conv2d(_Unset, nn.Conv2d):
    """See `_Unset`."""


class Embedding(_Unset, nn.Embedding):
    """See `_Unset`."""


class Compilable(nn.Module):
    """A layer that may have a compiled form beside its own, for inference; see `compiling`.

    Attributes:
        compiled: Takes the layer and the arguments of its forward; None where nothing is compiled. No copy has it.
    """

    compiled: Callable[..., torch.Tensor] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "compiled"}


class Fusable(nn.Module):
    """A module whose sibling projections can be one matrix product.

    The matrix is a derived form for inference: the projections' own weights become views of it, so it costs no memory
    and is in no state dict. It is forgotten when the module is moved or copied, and left aside as soon as a projection
    is more than its weights in it: trained, replaced, adapted, or watched by a hook.
    """

    siblings: tuple[str, ...] = ()
    _fused: tuple[torch.Tensor, torch.Tensor | None] | None = None

    def fuse(self) -> None:
        """Lay the projections' weights out as one matrix; for inference on one device."""
        parts = self._parts()
        if not all(_plain(part) for part in parts):
            return
        weight = torch.cat([part.weight.data for part in parts])
        bias = None if parts[0].bias is None else torch.cat([part.bias.data for part in parts])
        sizes = [part.out_features for part in parts]
        for part, rows in zip(parts, torch.split(weight, sizes), strict=True):
            part.weight.data = rows
        for part, row in zip(parts, torch.split(bias, sizes) if bias is not None else (), strict=False):
            part.bias.data = row
        self._fused = weight, bias

    def project(self, x: torch.Tensor) -> Sequence[torch.Tensor]:
        """What each projection makes of `x`."""
        parts = self._parts()
        if self._fused is None or not self._holds(parts, *self._fused):
            return [part(x) for part in parts]
        return torch.split(products.linear(x, *self._fused), [part.out_features for part in parts], dim=-1)

    def _parts(self) -> list[nn.Linear]:
        return [self.get_submodule(name) for name in self.siblings]  # type: ignore[misc]

    def _holds(self, parts: Sequence[nn.Linear], weight: torch.Tensor, bias: torch.Tensor | None) -> bool:
        """Whether the matrix still is what the projections do."""
        row = 0
        for part in parts:
            if not _plain(part):
                return False
            if not torch.compiler.is_compiling():  # who compiles has the weights that there are
                there = part.weight.data_ptr() == weight.data_ptr() + row * weight.stride(0) * weight.element_size()
                if not there or part.weight.dtype != weight.dtype:
                    return False
                if bias is not None and part.bias.data_ptr() != bias.data_ptr() + row * bias.element_size():
                    return False
            row += part.out_features
        return True

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        self._fused = None
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_fused": None}  # copies of parameters are views of nothing


def _plain(part: nn.Module) -> bool:
    """Whether a projection is nothing but frozen weights."""
    if type(part) is not Linear or part._forward_hooks or part._forward_pre_hooks or "forward" in vars(part):
        return False
    return not any(weight.requires_grad for weight in part.parameters(recurse=False))
