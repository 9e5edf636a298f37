"""`QSiTLoss`: the metric as a training objective for networks that make pictures.

Paper: Q-SiT, arXiv 2503.09197 (the scores; it does not train with them). The score knows no reference, so it must stand
beside a loss that does: alone it draws patterns that the model likes and people do not (`docs/loss.md`, measured).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn

from ..backends.base import Backend
from ..errors import BackendError, InputError
from ..gradients import level_logits
from ..levels import HIGHER_IS_BETTER, SCORE_RANGE, expect
from ..metric import QSiT
from ..results import level_names
from .differentiable import Reduction, check_finite, clamped, reduced

if TYPE_CHECKING:
    from typing_extensions import Self

Objective = Literal["score", "cross_entropy"]

_LOW, _HIGH = SCORE_RANGE


class QSiTLoss(nn.Module):
    """Loss that tells how far pictures are from looking excellent, or from a target level; lower is better.

    The metric is frozen, always in eval mode, and no part of the module: no parameters, no state, nothing in a
    `state_dict`. A copy shares it, and it follows `.to(device)` of the module or of a parent (not a dtype).

    Args:
        metric: A `QSiT`, or what `QSiT` takes as its model.
        weight: Factor of the result.
        reduction: "mean" or "sum" over the batch, or "none".
        target: None for the best; a level word of the metric's recipe ("good"), or a score on 1..5.
        objective: "score" minimises (5 - s) / 4, with a target |s - target| / 4. "cross_entropy" minimises
            -log p(level) of the best or of the target level; a score between two levels counts for both.
        checkpointing: Keep only the inputs of the model's layers and compute the rest again in the backward pass.
        max_tiles: Cut a picture into so many tiles at most, the squeezed whole included; it is seen smaller.
        crop: True looks at one random place of the size of a tile in each picture, a number at one of that side.
        generator: Where crops come from: a CPU generator or a seed; default: torch's own.
        check_finite: Look for NaN and infinities in every batch, which makes the host wait for the GPU.

    Attributes:
        metric: The metric.
        higher_is_better: False.

    Raises:
        InputError: An argument that makes no sense, or a model that is not known.
        BackendError: The metric's backend has no gradient, or not these memory options.

    Example:
        >>> criterion = QSiTLoss("q-sit-nano", weight=0.05)  # doctest: +SKIP
        >>> loss = pixel_loss(output, target) + criterion(output)  # doctest: +SKIP
        >>> loss.backward()  # doctest: +SKIP
    """

    higher_is_better = not HIGHER_IS_BETTER

    def __init__(
        self,
        metric: QSiT | str | Path | Backend = "q-sit-mini",
        weight: float = 1.0,
        reduction: Reduction = "mean",
        target: str | float | None = None,
        *,
        objective: Objective = "score",
        checkpointing: bool = False,
        max_tiles: int | None = None,
        crop: bool | int = False,
        generator: torch.Generator | int | None = None,
        check_finite: bool = True,
    ) -> None:
        super().__init__()
        reduced(torch.zeros(1), reduction)  # refuses another word
        if objective not in ("score", "cross_entropy"):
            raise InputError.about("objective", objective, "'score' or 'cross_entropy'")
        self.weight, self.reduction, self.objective = _finite("weight", weight), reduction, objective
        self.checkpointing, self.max_tiles, self.check_finite = bool(checkpointing), max_tiles, bool(check_finite)
        if max_tiles is not None and (isinstance(max_tiles, bool) or not isinstance(max_tiles, int) or max_tiles < 2):
            raise InputError.about("max_tiles", max_tiles, "2 or more: the squeezed whole and one tile")
        self.generator = _generator(generator)
        self.metric = metric if isinstance(metric, QSiT) else QSiT(metric)
        self.target = target
        self.crop = self._side(crop)
        self._check()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Judge a batch of pictures.

        Args:
            x: (N, 3, H, W) RGB with N of 1 or more, floating point, any memory format, meant for [0, 1]. Values outside
                count as 0 or 1, and their gradient passes, so that a network can come back.

        Returns:
            A float32 scalar, or (N,) with reduction "none", on the device of `x`: 0 (excellent) to `weight` for the
            score, 0 to infinity for the cross-entropy.

        Raises:
            InputError: Another shape or type, or NaN or infinite values.
            BackendError: The model failed, for example out of memory.
        """
        _check_batch(x)
        if self.check_finite:
            check_finite(x)
        with torch.autocast(x.device.type, enabled=False):
            pixels = clamped(self._cropped(x))
            prompt, metric = self.metric.recipe.scoring(), self.metric
            logits = level_logits(pixels, self._backend(), prompt, metric.budget, check=self.check_finite)
            each = self._each(logits)
            return self.weight * reduced(each, self.reduction)

    def extra_repr(self) -> str:
        """The settings, for `print(module)`."""
        names = ("weight", "reduction", "target", "objective", "checkpointing", "max_tiles", "crop")
        return ", ".join([repr(self.metric), *(f"{name}={getattr(self, name)!r}" for name in names)])

    def _each(self, logits: torch.Tensor) -> torch.Tensor:
        """The loss of each picture."""
        goal, step = self._goal(), (_HIGH - _LOW) / (logits.shape[1] - 1)
        if self.objective == "score":
            return (expect(logits)[1] - goal).abs() / (_HIGH - _LOW)
        places = torch.arange(logits.shape[1], device=logits.device)
        share = (1 - (places - (goal - _LOW) / step).abs()).clamp(min=0)
        return -(share * logits.log_softmax(dim=-1)).sum(dim=-1)

    def _goal(self) -> float:
        """The score that is aimed at; a word's value is its place on the scale."""
        if self.target is None:
            return _HIGH
        names = level_names(self.metric.recipe.words)
        if isinstance(self.target, str) and (word := self.target.strip().lower()) in names:
            return _LOW + (_HIGH - _LOW) * names.index(word) / (len(names) - 1)
        number = isinstance(self.target, (int, float)) and not isinstance(self.target, bool)
        if number and _LOW <= float(self.target) <= _HIGH:
            return float(self.target)
        raise InputError.about("target", self.target, f"one of {', '.join(names)}, or a number from {_LOW} to {_HIGH}")

    def _backend(self) -> Backend:
        """The metric's engine under the memory options; made anew as the metric may have changed."""
        return self.metric.backend.leaner(checkpointing=self.checkpointing, max_tiles=self.max_tiles)

    def _check(self) -> None:
        """Refuse what the metric cannot do before the first batch."""
        self._goal()
        if not self._backend().differentiable:
            name = self.metric.backend.name
            raise BackendError.about("metric", f"<a {name} backend>", "one with a gradient", "Use llava_onevision.")

    def _side(self, crop: object) -> int | None:
        """Side of a crop in pixels."""
        if crop is False:
            return None
        side = self.metric.backend.tile if crop is True else crop
        if isinstance(side, int) and not isinstance(side, bool) and side > 0:
            return side
        raise InputError.about("crop", crop, "False, True or a side in pixels")

    def _cropped(self, x: torch.Tensor) -> torch.Tensor:
        """A place of its own in each picture; sides that are smaller stay whole."""
        if self.crop is None:
            return x
        size = [min(self.crop, side) for side in x.shape[2:]]
        free = torch.tensor([side - cut + 1 for side, cut in zip(x.shape[2:], size, strict=True)])
        corners = (torch.rand(len(x), 2, generator=self.generator, dtype=torch.float64) * free).long().tolist()
        cut = [
            image[:, top : top + size[0], left : left + size[1]] for image, (top, left) in zip(x, corners, strict=True)
        ]
        return torch.stack(cut)

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> Self:
        """Move the metric where `fn` moves tensors of its device; whatever moves a module comes by here."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        here = self.metric.device
        there = fn(torch.empty(0, device=here)).device
        if there not in (here, torch.device("meta")):
            self.metric.to(there)
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """A loss of its own around the same metric: models are copied for averages and replicas, judges are not."""
        memo[id(self.metric)] = self.metric
        twin = self.__class__.__new__(self.__class__)
        memo[id(self)] = twin
        twin.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return twin


def _check_batch(x: object) -> None:
    good = isinstance(x, torch.Tensor) and x.ndim == 4 and x.shape[1] == 3 and x.numel() > 0 and x.is_floating_point()
    if not good:
        shown = f"<tensor of shape {tuple(x.shape)}, {x.dtype}>" if isinstance(x, torch.Tensor) else x
        hint = "Pictures in 0..255 are divided by 255, grey ones expanded to three channels."
        raise InputError.about("x", shown, "a floating-point tensor (N, 3, H, W) with at least one picture", hint)


def _finite(argument: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise InputError.about(argument, value, "a finite number")
    return float(value)


def _generator(given: object) -> torch.Generator | None:
    if isinstance(given, int) and not isinstance(given, bool):
        return torch.Generator().manual_seed(given)
    if given is None or (isinstance(given, torch.Generator) and given.device.type == "cpu"):
        return given
    raise InputError.about("generator", given, "a seed, a torch.Generator on the CPU, or None")
