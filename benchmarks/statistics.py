"""Wilson's interval of a share, and the images on which a model is furthest from what people said."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.paper import number
from qsit_metric.evaluation import UndefinedError
from qsit_metric.evaluation.correlations import logistic_curve

Interval = tuple[float, float]

_Z = 1.959963984540054  # of 95 %


def wilson(right: int, count: int) -> Interval:
    """95 % interval of a share, which stays within 0..1 also where all or none are right.

    Example:
        >>> low, high = wilson(75, 100)
        >>> round(low, 3), round(high, 3)
        (0.657, 0.825)
    """
    share, weight = right / count, _Z**2 / count
    middle = share + weight / 2
    half = _Z * math.sqrt(share * (1 - share) / count + weight / (4 * count))
    low, high = (middle - half) / (1 + weight), (middle + half) / (1 + weight)
    return (low if right else 0.0), (high if right < count else 1.0)  # which rounding would miss by a hair


@dataclass(frozen=True)
class Residual:
    """An image and how far its score is from what people said.

    Attributes:
        set: The set it belongs to.
        image: Its name, for people.
        path: Where it lies.
        mos: Mean opinion score on the set's own scale, higher is better.
        score: The model's, 1..5.
        residual: `mos` less what the logistic curve makes of `score`, on the set's own scale; above 0, people liked it
            better than the model did.
    """

    set: str
    image: str
    path: Path
    mos: float
    score: float
    residual: float


def furthest(rows: Sequence[Mapping[str, object]], count: int = 12) -> list[Residual]:
    """The images with the largest residuals, over all sets.

    Args:
        rows: One for each image, with "set", "image", "path", "mos" and "score" (None: not scored, so not here).
        count: How many.

    Returns:
        The furthest first. Sets are compared by residual over the deviation of their scores; a set to which no curve
        can be fitted has none.
    """
    found: list[tuple[float, Residual]] = []
    for name in dict.fromkeys(str(row["set"]) for row in rows):
        found += _of_set([row for row in rows if row["set"] == name and row["score"] is not None])
    return [one for _, one in sorted(found, key=lambda pair: -pair[0])[:count]]


def _of_set(rows: Sequence[Mapping[str, object]]) -> list[tuple[float, Residual]]:
    score, mos = (np.array([number(row, key) for row in rows], dtype=np.float64) for key in ("score", "mos"))
    try:
        residuals = mos - logistic_curve(score, mos)(score)
    except UndefinedError:
        return []
    spread = float(mos.std())
    return [
        (abs(residual) / spread, Residual(str(row["set"]), str(row["image"]), Path(str(row["path"])), y, x, residual))
        for row, x, y, residual in zip(rows, score.tolist(), mos.tolist(), residuals.tolist(), strict=True)
    ]
