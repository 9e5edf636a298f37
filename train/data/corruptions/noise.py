"""Noise of a sensor and of a transmission. Pictures are (H, W, 3) in 0..1; what leaves the range is clipped later."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

_GAUSSIAN = (0.08, 0.12, 0.18, 0.26, 0.38)  # standard deviation
_PHOTONS = (60.0, 25.0, 12.0, 5.0, 3.0)  # photons that make white
_IMPULSES = (0.03, 0.06, 0.09, 0.17, 0.27)  # share of the values that are hit


def gaussian_noise(x: Floats, severity: int, rng: np.random.Generator) -> npt.NDArray[Any]:
    """Add independent normal noise to every value."""
    return x + np.float32(_GAUSSIAN[severity - 1]) * rng.standard_normal(x.shape, dtype=np.float32)


def shot_noise(x: Floats, severity: int, rng: np.random.Generator) -> npt.NDArray[Any]:
    """Count photons: Poisson noise, stronger the fewer there are."""
    photons = _PHOTONS[severity - 1]
    return rng.poisson(x * photons) / photons


def impulse_noise(x: Floats, severity: int, rng: np.random.Generator) -> npt.NDArray[Any]:
    """Set some values, each channel for itself, to black or white (salt and pepper)."""
    drawn = rng.random(x.shape, dtype=np.float32)
    share = _IMPULSES[severity - 1]
    return np.where(drawn < share, np.where(drawn < share / 2, 0, 1), x)
