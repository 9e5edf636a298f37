"""Blur of the lens, of glass, of motion and of a zoom. Pictures are (H, W, 3) in 0..1."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.ndimage import gaussian_filter

Floats = npt.NDArray[np.float32]

_DISKS = ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5))  # radius, sigma that softens the rim
_GLASS = ((0.7, 1, 2), (0.9, 2, 1), (1.0, 2, 3), (1.1, 3, 2), (1.5, 4, 2))  # sigma, farthest step, rounds
_MOTION = ((10, 3.0), (15, 5.0), (15, 8.0), (15, 12.0), (20, 15.0))  # radius, sigma along the path
_ZOOMS = ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03))  # end, step


def defocus_blur(x: Floats, severity: int, rng: np.random.Generator) -> npt.NDArray[Any]:
    """Spread every point over a disk, as a lens out of focus does."""
    from scipy.signal import oaconvolve

    kernel = _disk(*_DISKS[severity - 1])
    margin = kernel.shape[0] // 2
    padded = np.pad(x, ((margin, margin), (margin, margin), (0, 0)), mode="reflect")
    return np.asarray(oaconvolve(padded, kernel[..., np.newaxis], mode="valid", axes=(0, 1)))


def glass_blur(x: Floats, severity: int, rng: np.random.Generator) -> npt.NDArray[Any]:
    """Shuffle points locally between two light blurs, as frosted glass does.

    The benchmark walks over the points one after the other and changes them in place, half a pixel more to one side.
    Here, in each round, all points at once take the value of a random neighbour up to the farthest step away.
    """
    sigma, reach, rounds = _GLASS[severity - 1]
    blurred = _soft(x, sigma)
    rows, columns = np.arange(x.shape[0])[:, np.newaxis], np.arange(x.shape[1])
    for _ in range(rounds):
        moved = rng.integers(-reach, reach + 1, size=(2, *x.shape[:2]))
        here = np.clip(rows + moved[0], 0, x.shape[0] - 1), np.clip(columns + moved[1], 0, x.shape[1] - 1)
        blurred = blurred[here]
    return _soft(blurred, sigma)


def motion_blur(x: Floats, severity: int, rng: np.random.Generator) -> npt.NDArray[Any]:
    """Drag every point along a line that is up to 45 degrees from the horizontal."""
    radius, sigma = _MOTION[severity - 1]
    return drag(x, radius, sigma, rng.uniform(-45, 45))


def zoom_blur(x: Floats, severity: int, rng: np.random.Generator) -> npt.NDArray[Any]:
    """Average the picture with enlargements of its middle, as a lens that zooms during the exposure does."""
    end, step = _ZOOMS[severity - 1]
    factors = np.arange(1, end, step)
    picture = Image.fromarray(np.rint(x * 255).astype(np.uint8))
    total = x.copy()
    for factor in factors:
        total += np.asarray(_enlarged(picture, float(factor)), dtype=np.float32) / 255
    return total / (len(factors) + 1)


def drag(x: Floats, radius: int, sigma: float, angle: float) -> Floats:
    """Blur along a line on one side of each point, with weights that fall off as a normal density.

    Args:
        x: (H, W) or (H, W, C).
        radius: The line has `2 * radius + 1` points.
        sigma: Of the weights, in points.
        angle: Direction in degrees, 0 is horizontal.

    Returns:
        The same shape; the border is continued outward (the benchmark loses light there in small pictures).
    """
    steps = np.arange(2 * radius + 1)
    weights = np.exp(-(steps**2) / (2 * sigma**2))
    weights /= weights.sum()
    down = -np.ceil(steps * math.sin(math.radians(angle)) - 0.5).astype(int)
    right = -np.ceil(steps * math.cos(math.radians(angle)) - 0.5).astype(int)
    margin = len(steps)
    border = [(margin, margin)] * 2 + [(0, 0)] * (x.ndim - 2)
    padded = np.pad(x, border, mode="edge")
    blurred = np.zeros_like(x)
    for weight, row, column in zip(weights, margin - down, margin - right, strict=True):
        blurred += np.float32(weight) * padded[row : row + x.shape[0], column : column + x.shape[1]]
    return blurred


def _soft(x: Floats, sigma: float) -> Floats:
    return np.asarray(gaussian_filter(x, (sigma, sigma, 0), mode="nearest"))


def _disk(radius: int, softness: float) -> Floats:
    half = max(radius, 8) + 2
    grid = np.arange(-half, half + 1)
    inside = (grid[:, np.newaxis] ** 2 + grid**2 <= radius**2).astype(np.float32)
    rim = gaussian_filter(inside, softness, radius=1 if radius <= 8 else 2)
    return np.asarray(rim / rim.sum())


def _enlarged(picture: Image.Image, factor: float) -> Image.Image:
    width, height = picture.size
    left, top = (width - width / factor) / 2, (height - height / factor) / 2
    return picture.resize(picture.size, Image.Resampling.BILINEAR, box=(left, top, width - left, height - top))
