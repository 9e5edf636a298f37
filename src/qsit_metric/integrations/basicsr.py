"""Q-SiT in BasicSR: importing this module adds `calculate_qsit`, `QSiTLoss` and `QSiTPerceptual` to its registries.

Host: github.com/XPixelGroup/BasicSR (Apache-2.0), optional. It finds metrics and losses by name in registries that are
filled by imports, so a training script imports this module before it calls `train_pipeline`. No model is loaded until a
metric is calculated or a loss is built; one model serves all metrics and losses of a process that name it alike.
"""

from __future__ import annotations

import difflib
import inspect
from functools import cache
from typing import Any

import numpy as np
import torch

from ..errors import InputError
from ..metric import QSiT
from ..modules import loss
from ..modules.differentiable import Reduction
from ..packages import require

__all__ = ["QSiTLoss", "QSiTPerceptual", "calculate_qsit", "register"]

_MODEL = "q-sit-mini"


def calculate_qsit(
    img: np.ndarray[Any, Any],
    img2: object = None,
    crop_border: int = 0,
    input_order: str = "HWC",
    model: str = _MODEL,
    device: str | None = None,
    dtype: str | None = None,
    **kwargs: object,
) -> float:
    """Score a restored picture, as BasicSR's validation calls its metrics.

    Args:
        img: uint8 BGR (H, W, 3), or grey (H, W) or (H, W, 1), as `basicsr.utils.tensor2img` gives it.
        img2: The ground truth; not used, there is no reference.
        crop_border: Pixels that are cut off at each side first.
        input_order: "HWC" or "CHW"; of no matter for (H, W).
        model: A model, as `QSiT` takes it.
        device: Default: cuda if there is one, else cpu.
        dtype: Default: float16 on cuda, else float32.
        **kwargs: Other keys of the yml entry (`better`); they are BasicSR's. One that is nearly the name of an
            argument is refused as a slip.

    Returns:
        The score in 1..5, higher is better.

    Raises:
        InputError: Another kind of array, nothing left after the crop, or a misspelt argument.
        QSiTError: As for `QSiT`.

    Example:
        >>> calculate_qsit(tensor2img([output]), crop_border=4, model="q-sit-mini")  # doctest: +SKIP
        3.8712
    """
    _check_spelling(kwargs)
    return float(_metric(model, device, dtype).score(_rgb(img, crop_border, input_order)))


class QSiTLoss(loss.QSiTLoss):
    """`qsit_metric.QSiTLoss` with the arguments of BasicSR's losses; for `pixel_opt`.

    Args:
        loss_weight: Factor of the loss.
        reduction: "mean", "sum" or "none".
        model: A model, as `QSiT` takes it.
        device: Where it is loaded; BasicSR then moves the loss to the device that it trains on.
        dtype: Default: float16 where cuda is, else float32.
        **options: `target`, `objective`, `checkpointing`, `max_tiles`, `crop` ... of `qsit_metric.QSiTLoss`.

    Raises:
        InputError: An argument that makes no sense (a ValueError, as BasicSR's own losses raise).
        QSiTError: As for `QSiT`.

    Example:
        >>> criterion = QSiTLoss(loss_weight=0.01, model="q-sit-mini")  # doctest: +SKIP
        >>> criterion(output, ground_truth)  # doctest: +SKIP
    """

    def __init__(
        self,
        loss_weight: float = 1.0,
        reduction: Reduction = "mean",
        model: str = _MODEL,
        device: str | None = None,
        dtype: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(_metric(model, device, dtype), loss_weight, reduction, **options)

    def forward(  # type: ignore[override]  # BasicSR's signature
        self, pred: torch.Tensor, target: object = None, weight: object = None, **kwargs: object
    ) -> Any:
        """Judge a batch; the ground truth is not used.

        Args:
            pred: (N, 3, H, W) RGB or (N, 1, H, W) grey, meant for [0, 1].
            target: The ground truth that BasicSR passes; there is no reference.
            weight: None. A weight for each pixel has no meaning for a score of the whole picture.
            **kwargs: Whatever else BasicSR passes to losses.

        Returns:
            A float32 scalar, or (N,) with reduction "none"; lower is better.

        Raises:
            InputError: A weight, or a batch that cannot be judged.
        """
        if weight is not None:
            raise InputError.about("weight", weight, "None", "A score is of the picture as a whole, not of its pixels.")
        grey = isinstance(pred, torch.Tensor) and pred.ndim == 4 and pred.shape[1] == 1
        return super().forward(pred.expand(-1, 3, -1, -1) if grey else pred)


class QSiTPerceptual(QSiTLoss):
    """`QSiTLoss` for `perceptual_opt`, whose losses give a pair: beside a pixel loss in one `SRModel`."""

    def forward(  # type: ignore[override]  # BasicSR's signature
        self, pred: torch.Tensor, target: object = None, weight: object = None, **kwargs: object
    ) -> Any:
        """As `QSiTLoss.forward`, but returns (loss, None): there is no style loss."""
        return super().forward(pred, target, weight, **kwargs), None


def register() -> None:
    """Add the metric and the losses to BasicSR's registries; importing this module does it, and again is fine.

    Raises:
        DependencyError: BasicSR is not installed, in a version that is not supported, or cannot be imported.
        InputError: Something else of the same name is registered.
    """
    host = require("basicsr.utils.registry", "basicsr", "basicsr", least="1.4.2", below="1.5")
    _add(host.METRIC_REGISTRY, calculate_qsit)
    _add(host.LOSS_REGISTRY, QSiTLoss)
    _add(host.LOSS_REGISTRY, QSiTPerceptual)


def _add(registry: Any, thing: Any) -> None:
    """Register, unless it is there (`Registry.register` asserts that it is not)."""
    name = thing.__name__
    if name not in registry:
        registry.register(thing)
    elif registry.get(name).__module__ != __name__:
        raise InputError.about(name, registry.get(name), f"{name} of {__name__}", "Rename or remove the other one.")


@cache
def _metric(model: str, device: str | None, dtype: str | None) -> QSiT:
    """One model for all validations and losses of a process; BasicSR calls the metric for each picture anew."""
    return QSiT(model, device=device, dtype=dtype)


def _rgb(img: np.ndarray[Any, Any], crop_border: int, input_order: str) -> np.ndarray[Any, Any]:
    """BasicSR's array as ours: (H, W, 3) RGB or (H, W)."""
    if input_order not in ("HWC", "CHW"):
        raise InputError.about("input_order", input_order, "'HWC' or 'CHW'")
    pixels = np.moveaxis(img, 0, -1) if input_order == "CHW" and getattr(img, "ndim", 0) == 3 else img
    good = isinstance(pixels, np.ndarray) and pixels.dtype == np.uint8
    if not good or (pixels.ndim, *pixels.shape[2:]) not in ((2,), (3, 1), (3, 3)):
        shown = f"<{input_order} array of shape {img.shape}, {img.dtype}>" if isinstance(img, np.ndarray) else img
        raise InputError.about("img", shown, "uint8 BGR with 3 channels, or grey", "`tensor2img` makes such arrays.")
    height, width = pixels.shape[:2]
    if (
        isinstance(crop_border, bool)
        or not isinstance(crop_border, int)
        or not 0 <= 2 * crop_border < min(height, width)
    ):
        raise InputError.about("crop_border", crop_border, f"0 or more that leave some of {width}x{height} pixels")
    inner = pixels[crop_border : height - crop_border, crop_border : width - crop_border]
    return np.ascontiguousarray(inner[..., ::-1] if inner.ndim == 3 else inner)


def _check_spelling(others: dict[str, object]) -> None:
    known = [name for name in inspect.signature(calculate_qsit).parameters if name != "kwargs"]
    for name, value in others.items():
        if near := difflib.get_close_matches(name, known, n=1, cutoff=0.75):
            raise InputError.about(name, value, f"a known argument, {near[0]!r} perhaps")


register()
