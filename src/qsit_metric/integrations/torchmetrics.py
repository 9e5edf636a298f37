"""Q-SiT as a metric of torchmetrics: `QSiTScore`, and `qsit_score` for one batch.

Host: github.com/Lightning-AI/torchmetrics. Importing this module imports torchmetrics.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial, wraps
from pathlib import Path
from typing import Any
from zlib import crc32

import torch
from torch import Tensor

from .. import levels
from ..errors import InputError
from ..gradients import eager
from ..metric import QSiT
from ..modules.differentiable import Handle, Reduction, reduced
from ..packages import require

require("torchmetrics", "torchmetrics", least="1.6", below="2")

from torchmetrics import Metric  # noqa: E402
from torchmetrics.utilities.data import dim_zero_cat  # noqa: E402

__all__ = ["QSiTScore", "qsit_score"]

_REDUCTIONS = ("mean", "sum", "none")


class QSiTScore(Metric):  # type: ignore[misc]
    """The quality of pictures as people would score it, over all batches and processes.

    Args:
        model: A catalog name, a Hub repository, a checkpoint folder or a `QSiT`. A name is looked up (and downloaded)
            at once and loaded at the first update, where the metric then is. The model is shared by clones and is in no
            state dict; a `QSiT` stays on its own device.
        reduction: What `compute` gives: the "mean" or "sum" of all scores, or "none" for each.
        **kwargs: Those of `torchmetrics.Metric`.

    `update` takes images (N, 3, H, W), RGB in [0, 1] or uint8, on the metric's device. `compute` returns float32, in
    1..5 for the mean, higher is better. Gradients do not pass: use `qsit_score` for one batch.

    Raises:
        ValueError: Another reduction, another shape, or values outside [0, 1].
        QSiTError: The model, as for `QSiT`.

    Example:
        >>> metric = QSiTScore("q-sit-mini")  # doctest: +SKIP
        >>> metric.update(torch.rand(4, 3, 224, 224))  # doctest: +SKIP
        >>> metric.compute()  # doctest: +SKIP
        tensor(1.6204)
    """

    is_differentiable = False
    higher_is_better = levels.HIGHER_IS_BETTER
    full_state_update = False  # one pass of the model for each forward, and states that can be merged
    plot_lower_bound, plot_upper_bound = levels.SCORE_RANGE

    model_bits: Tensor
    sum_scores: Tensor
    total: Tensor
    scores: list[Tensor]

    def __init__(self, model: str | Path | QSiT = "q-sit-mini", reduction: Reduction = "mean", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.reduction = _checked(reduction)
        self._handle = Handle(model)
        # A MetricCollection updates one of several metrics whose states are equal after the first batch, for all of
        # them. Two models may give it equal scores, and an empty one always does: this state keeps them apart.
        self.add_state("model_bits", default=_bits(model), dist_reduce_fx="max")
        if reduction == "none":
            self.add_state("scores", default=[], dist_reduce_fx="cat")
        else:
            self.add_state("sum_scores", default=torch.tensor(0.0), dist_reduce_fx="sum")
            self.add_state("total", default=torch.tensor(0), dist_reduce_fx="sum")

    def update(self, img: Tensor) -> None:
        """Add a batch."""
        if isinstance(img, Tensor) and img.device != self.device:  # torchmetrics adds what to do
            raise RuntimeError(f"Expected all tensors to be on the same device, but found {img.device}, {self.device}")
        with torch.no_grad():  # a state that holds a graph cannot be copied
            scores = _scores(img, self._handle)
        if self.reduction == "none":
            self.scores.append(scores)
        else:
            self.sum_scores += scores.sum()
            self.total += len(scores)

    def compute(self) -> Tensor:
        """The reduced scores of all batches: () for "mean" and "sum", (N,) for "none"."""
        if self.reduction == "none":
            return dim_zero_cat(self.scores) if len(self.scores) else torch.zeros(0, device=self.device)
        return self.sum_scores / self.total if self.reduction == "mean" else self.sum_scores

    def persistent(self, mode: bool = False) -> None:
        """Choose whether states go into state dicts; what tells the models apart never does."""
        super().persistent(mode)
        self._persistent["model_bits"] = False

    def plot(self, val: Any = None, ax: Any = None) -> Any:
        """Draw one value or several over steps; returns matplotlib's figure and axes."""
        return self._plot(val, ax)

    def _wrap_compute(self, compute: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """Torchmetrics drops the dimension of a result with one element; the scores of one picture keep theirs."""
        wrapped = super()._wrap_compute(compute)

        @wraps(compute)
        def kept(*args: Any, **kwargs: Any) -> Tensor:
            value: Tensor = wrapped(*args, **kwargs)
            return value.reshape(-1) if self.reduction == "none" else value

        return kept

    def _apply(self, fn: Callable[[Tensor], Tensor], exclude_state: Sequence[str] = "") -> QSiTScore:
        return super()._apply(partial(_moved, fn), exclude_state)  # type: ignore[no-any-return]


def qsit_score(img: Tensor, model: str | Path | QSiT = "q-sit-mini", reduction: Reduction = "mean") -> Tensor:
    """Score one batch; differentiable in `img` if it requires grad.

    Args:
        img: (N, 3, H, W) RGB, floating point in [0, 1], or uint8.
        model: As for `QSiTScore`. A name is loaded on the device of `img` at the first call; the two last used stay.
        reduction: "mean", "sum" or "none".

    Returns:
        () float32 on the device of `img`, or (N,) for "none"; a score is in 1..5, higher is better.

    Raises:
        ValueError: Another reduction, another shape, or values outside [0, 1].
        QSiTError: The model, as for `QSiT`.

    Example:
        >>> qsit_score(torch.rand(4, 3, 224, 224), reduction="none").shape  # doctest: +SKIP
        torch.Size([4])
    """
    checked = _checked(reduction)
    handle = Handle(model) if isinstance(model, QSiT) else _kept(model)
    return reduced(_scores(img, handle), checked)


def _moved(fn: Callable[[Tensor], Tensor], state: Tensor) -> Tensor:
    """Move a state where `fn` puts it, but keep its precision: a sum in half precision would soon stop growing."""
    found = fn(state)
    wider = state.is_floating_point() and torch.promote_types(found.dtype, state.dtype) == found.dtype
    return found if wider else state.to(found.device)


def _bits(model: str | Path | QSiT) -> Tensor:
    """(32,) zeros and ones, the same for the same model; whole numbers would be compared with a tolerance."""
    key = f"object {id(model)}" if isinstance(model, QSiT) else str(model)
    return torch.tensor([int(bit) for bit in f"{crc32(key.encode()):032b}"], dtype=torch.uint8)


@lru_cache(maxsize=2)
def _kept(model: str | Path) -> Handle:
    return Handle(model)


def _checked(reduction: str) -> str:
    if reduction not in _REDUCTIONS:
        raise ValueError(f"Argument `reduction` must be one of {_REDUCTIONS}, but got {reduction!r}.")
    return reduction


@eager
def _scores(img: Tensor, handle: Handle) -> Tensor:
    wanted = "Expected argument `img` to be a tensor of shape (N, 3, H, W) with values in [0, 1], but got"
    if not isinstance(img, Tensor) or img.ndim != 4 or img.shape[1] != 3:
        got = f"shape {tuple(img.shape)}" if isinstance(img, Tensor) else f"{type(img).__name__}"
        raise ValueError(f"{wanted} {got}.")
    metric = handle.on(img.device)
    try:
        return metric(img)
    except InputError as error:
        raise ValueError(f"{wanted} something else: {error}") from error
