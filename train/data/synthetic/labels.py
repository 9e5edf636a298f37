"""Scores of degraded pictures: the mean human score of a type and level of KADID-10k. Pure, but for reading the table.

Source: H. Lin, V. Hosu, D. Saupe, "KADID-10k: A Large-scale Artificially Distorted IQA Database", QoMEX 2019;
`kadid_means.csv` has the 125 means.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType

import numpy as np

from ..scoring import Scale
from .distortions import DISTORTIONS, LEVELS, check_level, distortion

TABLE = Path(__file__).with_name("kadid_means.csv")
SCALE = Scale(1.0, 4.93, "eq1")
"""KADID-10k's scale: its lowest possible and its highest given score."""

PRISTINE = 4.61
"""Score of an untouched picture: the mean of Gaussian blur at level 1, which nobody can see."""


@cache
def means() -> Mapping[str, tuple[float, ...]]:
    """The five means of each type, level 1 first, on 1..5, higher is better."""
    lines = [line for line in TABLE.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    found = {(row["distortion"], int(row["level"])): float(row["mean_mos"]) for row in csv.DictReader(lines)}
    return MappingProxyType({kind: tuple(found[kind, level] for level in LEVELS) for kind in DISTORTIONS})


def mean_mos(kind: str | None, level: float = 1.0) -> float:
    """The score of a picture with one degradation.

    Args:
        kind: One of `DISTORTIONS`, or None for an untouched picture.
        level: 1.0 to 5.0; between whole levels the score runs linearly.

    Returns:
        The mean opinion score on 1..5, higher is better.

    Raises:
        DataError: An unknown kind, or a level off its range.

    Example:
        >>> mean_mos("jpeg", 1), round(mean_mos("jpeg", 4.5), 4), mean_mos(None)
        (4.338, 1.6478, 4.61)

    Reference:
        Lin, Hosu, Saupe, QoMEX 2019.
    """
    check_level(level)
    if kind is None:
        return PRISTINE
    distortion(kind)
    return float(np.interp(level, LEVELS, means()[kind]))
