"""Colour (types 4, 5, 7 and 8). Pictures are (H, W, 3) in 0..1. Pure."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from ..corruptions import Floats
from .distortions_blur import convolve, gaussian

_LUMA = np.array((0.299, 0.587, 0.114), dtype=np.float32)
_EDGE_SIGMA = 4.0  # how far from an edge its colours still come apart, in pixels


def color_diffusion(x: Floats, amount: float, rng: np.random.Generator) -> npt.NDArray[Any]:
    """Let colours run: blur a and b of Lab with sigma 1.5 s + 2, and multiply them by s."""
    lab = to_lab(x)
    lab[..., 1:] = convolve(lab[..., 1:], gaussian(1.5 * amount + 2)) * np.float32(amount)
    return from_lab(lab)


def color_shift(x: Floats, distance: float, rng: np.random.Generator) -> npt.NDArray[Any]:
    """Move green in a random direction, as far as there are edges near: the weight is the blurred gradient."""
    from scipy.ndimage import shift

    angle = rng.uniform(0, 2 * math.pi)
    offset = distance * math.sin(angle), distance * math.cos(angle)
    green = shift(x[..., 1], offset, order=1, mode="nearest")
    near = _edges(x)
    changed = x.copy()
    changed[..., 1] = green * near + x[..., 1] * (1 - near)
    return changed


def color_saturation_hsv(x: Floats, factor: float, rng: np.random.Generator) -> npt.NDArray[Any]:
    """Multiply the saturation of HSV; below 0 the hues turn into their opposites.

    Hue and value fixed, each channel's distance from the largest one is in proportion to the saturation.
    """
    value = x.max(axis=2, keepdims=True)
    return np.asarray(value + np.float32(factor) * (x - value))


def color_saturation_lab(x: Floats, factor: float, rng: np.random.Generator) -> npt.NDArray[Any]:
    """Multiply a and b of Lab."""
    lab = to_lab(x)
    lab[..., 1:] *= np.float32(factor)
    return from_lab(lab)


def to_lab(x: Floats) -> Floats:
    """CIE Lab (D65) of sRGB."""
    from skimage.color import rgb2lab

    return np.asarray(rgb2lab(x), dtype=np.float32)


def from_lab(lab: Floats) -> Floats:
    """The inverse; colours that sRGB does not have are cut off, channel by channel."""
    import warnings

    from skimage.color import lab2rgb

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Conversion from CIE-LAB", category=UserWarning)
        return np.asarray(lab2rgb(lab), dtype=np.float32)


def _edges(x: Floats) -> Floats:
    """(H, W) in 0..1: strength of the edges around, from its first to its ninety-ninth percentile."""
    down, right = np.gradient(x @ _LUMA)
    strength = convolve(np.hypot(down, right)[..., np.newaxis], gaussian(_EDGE_SIGMA))[..., 0]
    low, high = np.percentile(strength[::2, ::2], (1, 99))
    if high - low < 1e-6:
        return np.zeros_like(strength)
    return np.asarray(np.clip((strength - low) / (high - low), 0, 1), dtype=np.float32)
