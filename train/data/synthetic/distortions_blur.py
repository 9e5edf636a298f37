"""Blur (types 1 to 3), and the convolution that other types use. Pictures are (H, W, C) in 0..1. Pure."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from ..corruptions import Floats


def gaussian_blur(x: Floats, sigma: float, rng: np.random.Generator) -> npt.NDArray[Any]:
    """Blur with a normal density; sigma in pixels."""
    return convolve(x, gaussian(sigma))


def lens_blur(x: Floats, radius: float, rng: np.random.Generator) -> npt.NDArray[Any]:
    """Spread every point over a disk with a soft rim; radius in pixels."""
    return convolve(x, disk(radius))


def motion_blur(x: Floats, length: float, rng: np.random.Generator) -> npt.NDArray[Any]:
    """Drag every point along a line of a length in pixels, centred on it, in a random direction."""
    return convolve(x, line(length, rng.uniform(0, 180)))


def convolve(x: Floats, kernel: Floats) -> Floats:
    """Convolve each channel, by FFT; the border is continued outward.

    Args:
        x: (H, W, C).
        kernel: Odd sides; sums to 1.
    """
    from scipy import fft

    rows, columns = kernel.shape[0] // 2, kernel.shape[1] // 2
    padded = np.pad(x, ((rows, rows), (columns, columns), (0, 0)), mode="edge")
    # Circular wrap falls into the margin, which is cut off.
    shape = [fft.next_fast_len(side, real=True) for side in padded.shape[:2]]
    spectrum = fft.rfft2(padded, shape, axes=(0, 1)) * fft.rfft2(kernel, shape)[..., np.newaxis]
    found = fft.irfft2(spectrum, shape, axes=(0, 1))
    return np.asarray(found[2 * rows : 2 * rows + x.shape[0], 2 * columns : 2 * columns + x.shape[1]])


def gaussian(sigma: float) -> Floats:
    """A square kernel out to three sigma and more."""
    reach = max(1, math.ceil(3.5 * sigma))
    steps = np.arange(-reach, reach + 1)
    profile = np.exp(-(steps**2) / (2 * sigma**2))
    return _unit(np.outer(profile, profile))


def disk(radius: float) -> Floats:
    """A disk whose rim pixels weigh about what of them lies inside."""
    reach = math.ceil(radius)
    steps = np.arange(-reach, reach + 1)
    return _unit(np.clip(radius + 0.5 - np.hypot(steps[:, np.newaxis], steps), 0, 1))


def line(length: float, angle: float) -> Floats:
    """A line one pixel wide; a length of 1 is a point. The angle is in degrees, 0 is horizontal."""
    half = (length - 1) / 2
    reach = max(1, math.ceil(half + 1))
    steps = np.arange(-reach, reach + 1)
    down, right = math.sin(math.radians(angle)), math.cos(math.radians(angle))
    along = np.clip(steps[:, np.newaxis] * down + steps * right, -half, half)
    distance = np.hypot(steps[:, np.newaxis] - along * down, steps - along * right)
    return _unit(np.clip(1 - distance, 0, 1))


def _unit(kernel: npt.NDArray[Any]) -> Floats:
    return np.asarray(kernel / kernel.sum(), dtype=np.float32)
