"""Noise and what a denoiser leaves (types 11 to 15). Pictures are (H, W, 3) in 0..1. Pure.

The noise of all strengths is one pattern, multiplied; so levels of one seed differ in strength only.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from ..corruptions import Floats

# RGB of Y, Cb and Cr in the video range of BT.601, all in units of 255.
_FROM_YCBCR = np.array(((1.1644, 0.0, 1.5960), (1.1644, -0.3918, -0.8130), (1.1644, 2.0172, 0.0)), dtype=np.float32)


def white_noise(x: Floats, variance: float, rng: np.random.Generator) -> npt.NDArray[Any]:
    """Add independent normal noise to every value."""
    return x + _normal(x, variance, rng)


def white_noise_color_component(x: Floats, variance: float, rng: np.random.Generator) -> npt.NDArray[Any]:
    """Add independent normal noise to Y, Cb and Cr; the way there and back is linear."""
    return np.asarray(x + _normal(x, variance, rng) @ _FROM_YCBCR.T)


def impulse_noise(x: Floats, density: float, rng: np.random.Generator) -> npt.NDArray[Any]:
    """Set some values, each channel for itself, to black or white."""
    drawn, white = rng.random(x.shape, dtype=np.float32), rng.random(x.shape, dtype=np.float32) < 0.5
    return np.where(drawn < density, white.astype(np.float32), x)


def multiplicative_noise(x: Floats, variance: float, rng: np.random.Generator) -> npt.NDArray[Any]:
    """Multiply every value by a uniform factor around 1."""
    reach = np.float32(math.sqrt(12 * variance))
    return np.asarray(x * (1 + reach * (rng.random(x.shape, dtype=np.float32) - np.float32(0.5))))


def denoise(x: Floats, variance: float, rng: np.random.Generator) -> npt.NDArray[Any]:
    """Add normal noise and remove it again, by non-local means; the generator has a network (DnCNN) for that."""
    from skimage.restoration import denoise_nl_means

    sigma = math.sqrt(variance)
    noisy = np.clip(x + _normal(x, variance, rng), 0, 1)
    return np.asarray(
        denoise_nl_means(
            noisy, patch_size=3, patch_distance=4, h=0.8 * sigma, sigma=sigma, fast_mode=True, channel_axis=2
        )
    )


def _normal(x: Floats, variance: float, rng: np.random.Generator) -> Floats:
    return np.float32(math.sqrt(variance)) * rng.standard_normal(x.shape, dtype=np.float32)
