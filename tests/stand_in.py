"""A metric whose score is the mean brightness, for tests of what a host does with scores."""

from __future__ import annotations

from typing import Any

import torch

from qsit_metric import QSiT


class Brightness(QSiT):
    """1 for black, 5 for white; differentiable, counts its calls, does not look at its inputs."""

    def __init__(self) -> None:
        self.calls = 0

    def __repr__(self) -> str:
        return "Brightness()"

    def __call__(self, x: torch.Tensor) -> Any:
        self.calls += 1
        return 1 + 4 * x.float().mean(dim=(1, 2, 3))


def pictures(*levels: float) -> torch.Tensor:
    """(N, 3, 4, 4) of even brightness."""
    return torch.tensor(levels).reshape(-1, 1, 1, 1).expand(-1, 3, 4, 4).clone()
