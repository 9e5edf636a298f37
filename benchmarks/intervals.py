"""Intervals of measured numbers. Pure."""

from __future__ import annotations

import math

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
