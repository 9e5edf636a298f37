"""Lightness, sharpening and contrast (types 16 to 18, 24 and 25). Pictures are (H, W, 3) in 0..1. Pure."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..corruptions import Floats
from .distortions_blur import convolve, gaussian
from .distortions_colour import from_lab, to_lab

_SHARPEN_SIGMA = 3.0
_KNOT = 0.3  # tone at which the contrast curve is pinned, and its mirror 0.7
# Amount of contrast -> what it takes off the tone 0.3 (and adds to 0.7): as in the generator, (amount + 0.2) / 4, but
# nothing at 0, where the generator's curve still steepens a little.
_AMOUNTS = (-0.6, -0.4, 0.0, 0.15, 0.3)
_TAKEN = (-0.1, -0.05, 0.0, 0.0875, 0.125)


def brighten(x: Floats, amount: float, rng: np.random.Generator) -> npt.NDArray[Any]:
    """Bend the curve of Lab's L up: its middle 0.5 goes to 0.5 + amount / 2."""
    return _bent(x, amount)


def darken(x: Floats, amount: float, rng: np.random.Generator) -> npt.NDArray[Any]:
    """Bend the curve of Lab's L down: its middle 0.5 goes to 0.5 - amount / 2."""
    return _bent(x, -amount)


def mean_shift(x: Floats, amount: float, rng: np.random.Generator) -> npt.NDArray[Any]:
    """Add a constant."""
    return x + np.float32(amount)


def high_sharpen(x: Floats, amount: float, rng: np.random.Generator) -> npt.NDArray[Any]:
    """Unsharp masking of Lab's L: add what a blur takes away, amount times."""
    lab = to_lab(x)
    lightness = lab[..., :1]
    detail = lightness - convolve(lightness, gaussian(_SHARPEN_SIGMA))
    lab[..., :1] = np.clip(lightness + np.float32(amount) * detail, 0, 100)
    return from_lab(lab)


def contrast_change(x: Floats, amount: float, rng: np.random.Generator) -> npt.NDArray[Any]:
    """A curve on every value through 0, 0.5 and 1: an S above an amount of 0, flatter in the middle below it."""
    taken = float(np.interp(amount, _AMOUNTS, _TAKEN))
    middle = x - np.float32(0.5)
    at_knot = (0.5 - _KNOT) * (1 - 4 * (0.5 - _KNOT) ** 2)
    return np.asarray(x + np.float32(taken / at_knot) * middle * (1 - 4 * middle * middle))


def _bent(x: Floats, amount: float) -> Floats:
    """The parabola through (0, 0), (0.5, 0.5 + amount / 2) and (1, 1), cut off at 0 and 1."""
    lab = to_lab(x)
    tone = lab[..., 0] / 100
    lab[..., 0] = 100 * np.clip(tone + np.float32(2 * amount) * tone * (1 - tone), 0, 1)
    return from_lab(lab)
