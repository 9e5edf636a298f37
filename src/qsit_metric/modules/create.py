"""`create_metric`: the metric with pyiqa's calling convention, without pyiqa.

Code that was written for `pyiqa.create_metric` runs with `from qsit_metric import create_metric, list_models`.

Convention: github.com/chaofengc/IQA-PyTorch, 0.1.16 (`create_metric`, `InferenceModel`). What differs: a picture may
also be a `pathlib.Path`, a URL, an array or a list of these; the EXIF orientation is applied; `loss_weight` works.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import levels
from ..errors import InputError
from ..loading import default_device
from ..metric import QSiT
from .differentiable import QSiTModule, Reduction, reduced

__all__ = ["MetricModule", "create_metric"]

_TOLERANCE = 1e-6  # pyiqa's, for values just outside [0, 1]


def create_metric(
    metric_name: str | Path | QSiT,
    as_loss: bool = False,
    device: str | torch.device | None = None,
    *,
    loss_weight: float | None = None,
    loss_reduction: Reduction = "mean",
    check_input_range: bool = True,
    **options: Any,
) -> MetricModule:
    """Create a metric that is called as those of pyiqa.

    Args:
        metric_name: A catalog name (`list_models()`), a Hub repository, a checkpoint folder or a `QSiT`.
        as_loss: Keep the gradient and return one number for the batch. It is the score itself, higher is better, as in
            pyiqa: minimise `-metric(x)`.
        device: Default: cuda if there is one, else cpu.
        loss_weight: With `as_loss`, a factor.
        loss_reduction: With `as_loss`, "mean", "sum" or "none".
        check_input_range: Refuse tensors with values outside [0, 1]; otherwise, and always with `as_loss`, they are
            clamped.
        **options: As for `QSiT`: `dtype`, `recipe`, `revision` ...

    Returns:
        A module: tensor (B, 3|1, H, W) in [0, 1], path or picture -> (B,) float32 in 1..5, higher is better.

    Raises:
        InputError: An unknown `loss_reduction`.
        QSiTError: As for `QSiT`.

    Example:
        >>> metric = create_metric("q-sit-mini", device="cpu")  # doctest: +SKIP
        >>> metric("photo.jpg").item()  # doctest: +SKIP
        3.8712
    """
    module = MetricModule(metric_name, as_loss, loss_weight, loss_reduction, check_input_range, **options)
    return module.to(default_device() if device is None else device)


class MetricModule(QSiTModule):
    """Metric module with pyiqa's calling convention; `create_metric` explains the arguments.

    Attributes:
        metric_name: The name that was asked for.
        metric_mode: "NR", no reference.
        lower_better: False.
        score_range: "1, 5".
        as_loss: Whether a call returns one differentiable number for the batch.
        device: Where the module is.
    """

    metric_mode = QSiT.metric_mode
    lower_better = QSiT.lower_better
    score_range = levels.range_text()

    def __init__(
        self,
        metric_name: str | Path | QSiT,
        as_loss: bool = False,
        loss_weight: float | None = None,
        loss_reduction: Reduction = "mean",
        check_input_range: bool = True,
        **options: Any,
    ) -> None:
        reduced(torch.zeros(1), loss_reduction, "loss_reduction")  # refuses another word
        super().__init__(metric_name, **options)
        self.metric_name = str(metric_name)
        self.as_loss = as_loss
        self.loss_weight, self.loss_reduction = loss_weight, loss_reduction
        self.check_input_range = check_input_range and not as_loss

    @property
    def device(self) -> torch.device:
        """Where the module is."""
        return self._place.device

    def forward(self, target: Any, ref: Any = None) -> Tensor:
        """Score a batch of tensors, a file or a picture.

        Args:
            target: Tensor (B, 3, H, W) RGB or (B, 1, H, W) grey in [0, 1], or one picture without B;
                or a path, URL, bytes, PIL image, array, or a list of these.
            ref: Not used: the metric has no reference.

        Returns:
            (B,) float32 on the module's device, in 1..5, higher is better; with `as_loss` their mean (or as asked).

        Raises:
            InputError: Wrong shape, or values outside [0, 1].
            ImageError: A file that cannot be read.
        """
        with torch.set_grad_enabled(self.as_loss and torch.is_grad_enabled()):
            scores = self._tensors(target) if isinstance(target, Tensor) else self._pictures(target)
            if not self.as_loss:
                return scores
            weighted = scores if self.loss_weight is None else self.loss_weight * scores
            return reduced(weighted, self.loss_reduction)

    def _tensors(self, x: Tensor) -> Tensor:
        if x.ndim == 3 and x.shape[0] in (1, 3):
            x = x[None]
        if x.ndim != 4 or x.shape[1] not in (1, 3):
            raise InputError.about("target", f"<tensor of shape {tuple(x.shape)}>", "a tensor ([B,] 3|1, H, W)")
        if self.check_input_range and x.is_floating_point() and x.numel():
            low, high = (float(value) for value in x.detach().aminmax())
            if not (low > -_TOLERANCE and high < 1 + _TOLERANCE):
                raise InputError.about("target", f"<tensor with values in [{low}, {high}]>", "values in [0, 1]")
        return super().forward(x.to(self.device))

    def _pictures(self, target: Any) -> Tensor:
        scores = self.metric.score(target)
        many = scores if isinstance(scores, list) else [scores]
        return torch.tensor([float(score) for score in many], dtype=torch.float32, device=self.device)
