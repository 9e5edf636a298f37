"""Scores of degraded pictures: the human scores of a type and level of KADID-10k. Pure, but for reading the table.

Source: H. Lin, V. Hosu, D. Saupe, "KADID-10k: A Large-scale Artificially Distorted IQA Database", QoMEX 2019;
`kadid_means.csv` has the 125 means, and how far the scores of single pictures lie apart.
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
    return _column("mean_mos")


@cache
def spreads() -> Mapping[str, tuple[float, ...]]:
    """The five standard deviations of each type, level 1 first: of the scores of 81 pictures."""
    return _column("std_mos")


def _column(name: str) -> Mapping[str, tuple[float, ...]]:
    lines = [line for line in TABLE.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    found = {(row["distortion"], int(row["level"])): float(row[name]) for row in csv.DictReader(lines)}
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


def drawn_mos(kind: str | None, level: float, rng: np.random.Generator) -> float:
    """The score of one picture with a degradation: people do not judge all pictures alike.

    With the mean for every picture, Eq. 1 gives all slight degradations one word, and nothing tells a model which of
    them is worse; with the scores of single pictures, the share of each word follows the mean.

    Args:
        kind: One of `DISTORTIONS`, or None for an untouched picture, whose scores spread like those of Gaussian blur at
            level 1.
        level: 1.0 to 5.0; between whole levels mean and spread run linearly.
        rng: Equal generators give equal scores.

    Returns:
        A normally distributed opinion score, within `SCALE`, higher is better.

    Raises:
        DataError: An unknown kind, or a level off its range.

    Example:
        >>> 4 < drawn_mos(None, 1, np.random.default_rng(0)) < 4.93
        True

    Reference:
        Lin, Hosu, Saupe, QoMEX 2019.
    """
    mean = mean_mos(kind, level)
    spread = np.interp(level, LEVELS, spreads()[kind]) if kind else spreads()["gaussian_blur"][0]
    return float(np.clip(rng.normal(mean, spread), SCALE.low, SCALE.high))
