"""`QSiTModule`: the metric as a torch module without parameters or state, one model however often it is copied.

Host libraries treat a metric as any network: they move it, copy it, pickle it, put it into their checkpoints and switch
it to training. None of that may double a model in memory or change a score.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..gradients import eager, refuse_transformed
from ..hub import resolve
from ..metric import QSiT
from ..pixels import Reading

__all__ = ["Handle", "QSiTModule", "Reduction", "check_finite", "clamped", "reduced"]

Reduction = Literal["mean", "sum", "none"]

_REDUCE: Mapping[str, Callable[[Tensor], Tensor]] = {"mean": torch.mean, "sum": torch.sum, "none": lambda each: each}

_RESOLVING = ("revision", "cache_dir", "token", "local_files_only")


class Handle:
    """A metric that is loaded when its device is known, shared by all copies and left out of pickles.

    Args:
        model: A catalog name, a Hub repository, a checkpoint folder; or a `QSiT`, which is used as it is, where it is.
        **options: Those of `QSiT`, without `device`.

    Raises:
        TypeError: An option that `QSiT` has not.
        InputError: Options for a `QSiT`.
        QSiTError: As `QSiT` raises it; a wrong name and weights that are not to be had are found here already, whatever
            is wrong inside of the weights at the first use.
    """

    def __init__(self, model: str | Path | QSiT = "q-sit-mini", **options: Any) -> None:
        self._given = model if isinstance(model, QSiT) else None
        self._load: Callable[..., QSiT] = QSiT
        if not isinstance(model, QSiT):
            bound = inspect.signature(QSiT).bind(model, device=None, **options)
            Reading().replaced(**bound.arguments.get("reading", {}))
            resolve(model, **{name: options[name] for name in _RESOLVING if name in options})
            self._load = partial(QSiT, model, **options)
        elif options:
            raise InputError.about("options", options, "none with a QSiT, which has its own")
        self._loaded: dict[torch.device, QSiT] = {}

    def on(self, device: torch.device) -> QSiT:
        """The metric on this device, loaded at the first call."""
        if self._given is not None:
            return self._given
        if device not in self._loaded:
            self._loaded[device] = self._load(device=device)
        return self._loaded[device]

    def __copy__(self) -> Handle:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Handle:
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_loaded": {}}


class QSiTModule(nn.Module):
    """A frozen network that scores tensors.

    The weights are read at the first call, on the device where the module then is, in the floating-point type that
    `QSiT` takes there; `.half()` and `.train()` change nothing. `state_dict()` and `parameters()` are empty.

    Args:
        model: A catalog name, a Hub repository, a checkpoint folder or a `QSiT`.
        **options: As for `QSiT`, without `device`.

    Raises:
        QSiTError: As for `QSiT`.

    Example:
        >>> module = QSiTModule("q-sit-mini")  # doctest: +SKIP
        >>> module(torch.rand(2, 3, 224, 224)).shape  # doctest: +SKIP
        torch.Size([2])
    """

    _place: Tensor

    def __init__(self, model: str | Path | QSiT = "q-sit-mini", **options: Any) -> None:
        super().__init__()
        self._handle = Handle(model, **options)
        self.register_buffer("_place", torch.empty(0), persistent=False)  # torch moves it, and so tells the device
        self.eval()

    @property
    def metric(self) -> QSiT:
        """The metric on the module's device."""
        return self._handle.on(self._place.device)

    def train(self, mode: bool = True) -> QSiTModule:
        """Stay in evaluation mode, whatever a parent module asks for."""
        return super().train(False)

    @eager
    def forward(self, x: Tensor) -> Tensor:
        """Score a batch; differentiable in `x`.

        Args:
            x: (B, 3, H, W) RGB or (B, 1, H, W) grey, floating point. Values outside [0, 1] are clamped, and the
                gradient passes; uint8 works too.

        Returns:
            (B,) float32 in 1..5, higher is better.

        Raises:
            InputError: Wrong rank or channels, NaN or infinite values.
        """
        refuse_transformed(x)
        if x.ndim == 4 and x.shape[1] == 1:
            x = x.expand(-1, 3, -1, -1)
        if x.is_floating_point():
            check_finite(x)
            x = clamped(x)
        return self.metric(x)


class _Clamp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clamp(0, 1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0]


def clamped(x: Tensor) -> Tensor:
    """Clamp values to [0, 1]; the gradient passes, also of what lies outside, so that a network can come back."""
    result: Tensor = _Clamp.apply(x)  # type: ignore[no-untyped-call]
    return result


def check_finite(x: Tensor) -> None:
    """Refuse a batch with NaN or infinite values; the look at them makes the host wait for the GPU.

    Raises:
        InputError: It names the pictures.
    """
    bad = (~torch.isfinite(x.detach())).flatten(1).any(dim=1)
    if bool(bad.any()):
        which = ", ".join(str(index) for index in bad.nonzero().flatten().tolist())
        hint = "The network that made them has diverged, or its input was not finite: look there first."
        raise InputError.about("x", f"<NaN or infinite values in pictures {which}>", "finite values", hint)


def reduced(scores: Tensor, reduction: str, argument: str = "reduction") -> Tensor:
    """Reduce scores (B,) to their "mean" or "sum", or leave them ("none").

    Args:
        scores: (B,).
        reduction: Which of the three.
        argument: What its caller's argument is called, for the message.

    Raises:
        InputError: Another word.

    Example:
        >>> reduced(torch.tensor([2.0, 4.0]), "mean")
        tensor(3.)
    """
    if reduction not in _REDUCE:
        raise InputError.about(argument, reduction, "'mean', 'sum' or 'none'")
    return _REDUCE[reduction](scores)
