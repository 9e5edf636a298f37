"""The 25 degradations of KADID-10k at continuous levels, and the scores that people gave them.

Types and strengths: H. Lin, V. Hosu, D. Saupe, "KADID-10k: A Large-scale Artificially Distorted IQA Database",
QoMEX 2019, and its published generator (KADIS-700k). The code is ours. Strengths in pixels are meant for pictures of
about 512x384, so degrade after all cropping and resizing. Where the generator stretches a picture to the full range
before and after, we do not; values are rounded to 8 bits at the end, once.
`kadid_means.csv` has the 125 mean scores, and how far the scores of single pictures lie apart.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from ...data.corruptions import Floats, checked_pixels
from ...data.scoring import Scale
from ...errors import DataError
from . import distortions

LEVELS = (1, 2, 3, 4, 5)
Degrade = Callable[[Floats, float, np.random.Generator], npt.NDArray[Any]]


@dataclass(frozen=True)
class Distortion:
    """A degradation of KADID-10k.

    Attributes:
        apply: (picture (H, W, 3) in 0..1, strength, random numbers) -> picture.
        family: What it damages.
        strengths: At levels 1 to 5.
        between: How the strength runs between two levels: "log" in equal ratios, "linear" in equal steps.
        ordered: Whether each level damages more than the one before; where not, level 3 is the untouched picture.
    """

    apply: Degrade
    family: Literal["blur", "noise", "coding", "colour", "light", "place"]
    strengths: tuple[float, float, float, float, float]
    between: Literal["log", "linear"]
    ordered: bool = True

    def strength(self, level: float) -> float:
        """The strength at a level in 1..5; at whole levels the table's own."""
        if level == int(level):
            return self.strengths[int(level) - 1]
        low, share = self.strengths[int(level) - 1], level - int(level)
        high = self.strengths[int(level)]
        if self.between == "log":
            return float(low * (high / low) ** share)
        return low + (high - low) * share


# Sizes, counts, variances and qualities act by their ratio; factors that cross zero, and sums, by their difference.
_TABLE: Mapping[str, Distortion] = MappingProxyType(
    {
        "gaussian_blur": Distortion(distortions.gaussian_blur, "blur", (0.1, 0.5, 1, 2, 5), "log"),
        "lens_blur": Distortion(distortions.lens_blur, "blur", (1, 2, 4, 6, 8), "log"),
        "motion_blur": Distortion(distortions.motion_blur, "blur", (1, 2, 4, 6, 10), "log"),
        "color_diffusion": Distortion(distortions.color_diffusion, "colour", (1, 3, 6, 8, 12), "log"),
        "color_shift": Distortion(distortions.color_shift, "colour", (1, 3, 6, 8, 12), "log"),
        "color_quantization": Distortion(distortions.color_quantization, "coding", (64, 48, 32, 16, 8), "log"),
        "color_saturation_hsv": Distortion(
            distortions.color_saturation_hsv, "colour", (0.4, 0.2, 0.1, 0, -0.4), "linear"
        ),
        "color_saturation_lab": Distortion(distortions.color_saturation_lab, "colour", (1, 2, 3, 6, 9), "log"),
        "jpeg2000": Distortion(distortions.jpeg2000, "coding", (16, 32, 45, 120, 400), "log"),
        "jpeg": Distortion(distortions.jpeg, "coding", (43, 36, 24, 7, 4), "log"),
        "white_noise": Distortion(distortions.white_noise, "noise", (0.001, 0.002, 0.003, 0.005, 0.01), "log"),
        "white_noise_color_component": Distortion(
            distortions.white_noise_color_component, "noise", (0.0001, 0.0005, 0.001, 0.002, 0.003), "log"
        ),
        "impulse_noise": Distortion(distortions.impulse_noise, "noise", (0.001, 0.005, 0.01, 0.02, 0.03), "log"),
        "multiplicative_noise": Distortion(
            distortions.multiplicative_noise, "noise", (0.001, 0.005, 0.01, 0.02, 0.05), "log"
        ),
        "denoise": Distortion(distortions.denoise, "noise", (0.01, 0.03, 0.05, 0.1, 0.15), "log"),
        "brighten": Distortion(distortions.brighten, "light", (0.1, 0.2, 0.4, 0.7, 1.1), "log"),
        "darken": Distortion(distortions.darken, "light", (0.05, 0.1, 0.2, 0.4, 0.8), "log"),
        "mean_shift": Distortion(
            distortions.mean_shift, "light", (0.15, 0.08, 0, -0.08, -0.15), "linear", ordered=False
        ),
        "jitter": Distortion(distortions.jitter, "place", (0.05, 0.1, 0.2, 0.5, 1), "log"),
        "non_eccentricity_patch": Distortion(
            distortions.non_eccentricity_patch, "place", (20, 40, 60, 80, 100), "linear"
        ),
        "pixelate": Distortion(distortions.pixelate, "coding", (0.01, 0.05, 0.1, 0.2, 0.5), "log"),
        "quantization": Distortion(distortions.quantization, "coding", (20, 16, 13, 10, 7), "log"),
        "color_block": Distortion(distortions.color_block, "place", (2, 4, 6, 8, 10), "linear"),
        "high_sharpen": Distortion(distortions.high_sharpen, "light", (1, 2, 3, 6, 12), "log"),
        "contrast_change": Distortion(
            distortions.contrast_change, "light", (0.3, 0.15, 0, -0.4, -0.6), "linear", ordered=False
        ),
    }
)
DISTORTIONS = tuple(_TABLE)
"""Names in the order of KADID-10k's own numbers, 1 to 25."""

ORDERED = tuple(kind for kind, one in _TABLE.items() if one.ordered)
"""Those whose levels are ordered by damage: all but mean_shift and contrast_change."""


def distort(image: Image.Image, kind: str, level: float, seed: int = 0) -> Image.Image:
    """Degrade a picture in one of KADID-10k's 25 ways.

    Args:
        image: A PIL picture in mode "RGB"; both sides 64 pixels or more.
        kind: One of `DISTORTIONS`.
        level: 1.0 (mild) to 5.0 (strong); between whole levels the strength is interpolated. Levels of mean_shift and
            contrast_change run from more to less; their level 3 is the untouched picture.
        seed: Any whole number of 0 or more. Equal arguments give equal pictures; the levels of one seed share their
            random pattern (noise, direction, places).

    Returns:
        A new picture of the same size.

    Raises:
        DataError: An unknown kind, a level or seed off its range, or a picture of another form or too small.

    Example:
        >>> grey = Image.new("RGB", (96, 64), (100, 100, 100))
        >>> distort(grey, "mean_shift", 1).getpixel((0, 0)), distort(grey, "mean_shift", 3) == grey
        ((138, 138, 138), True)

    Reference:
        Lin, Hosu, Saupe, QoMEX 2019.
    """
    one = distortion(kind)
    check_level(level)
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise DataError.about("seed", seed, "a whole number of 0 or more")
    pixels = _checked(image)
    rng = np.random.default_rng([int(seed), DISTORTIONS.index(kind), 25])
    unit = one.apply(pixels.astype(np.float32) / np.float32(255), one.strength(float(level)), rng)
    return Image.fromarray(np.rint(np.clip(unit, 0, 1) * 255).astype(np.uint8))


def distortion(kind: str) -> Distortion:
    """The entry of the table for a name.

    Raises:
        DataError: An unknown kind.
    """
    if kind not in _TABLE:
        raise DataError.about("kind", kind, f"one of {', '.join(DISTORTIONS)}")
    return _TABLE[kind]


def check_level(level: float) -> None:
    """Refuse a level that is none.

    Raises:
        DataError: It is no number from 1 to 5.
    """
    number = isinstance(level, (int, float, np.integer, np.floating)) and not isinstance(level, bool)
    if not number or not math.isfinite(level) or not 1 <= level <= 5:
        raise DataError.about("level", level, "a number from 1 to 5")


def _checked(image: object) -> npt.NDArray[np.uint8]:
    if not isinstance(image, Image.Image):
        raise DataError.about("image", f"<{type(image).__name__}>", "a PIL picture in mode RGB")
    pixels = checked_pixels(image)
    if min(image.size) < 64:
        size = f"<{image.size[0]}x{image.size[1]} pixels>"
        raise DataError.about("image", size, "sides of 64 pixels or more", "Two blocks of 32 pixels must fit in.")
    return pixels


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
