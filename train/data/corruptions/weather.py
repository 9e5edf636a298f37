"""Snow, frost and fog. Pictures are (H, W, 3) in 0..1."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.ndimage import gaussian_filter

from .blur import drag

Floats = npt.NDArray[np.float32]

# mean, deviation, size and threshold of the flakes; radius and sigma of their fall; what is left of the picture
_SNOW = (
    (0.1, 0.3, 3.0, 0.5, 10, 4.0, 0.8),
    (0.2, 0.3, 2.0, 0.5, 12, 4.0, 0.7),
    (0.55, 0.3, 4.0, 0.9, 12, 8.0, 0.7),
    (0.55, 0.3, 4.5, 0.85, 12, 8.0, 0.65),
    (0.55, 0.3, 2.5, 0.85, 12, 12.0, 0.55),
)
_FROST = ((1.0, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75))  # weights of the picture and of the ice
_FOG = ((1.5, 2.0), (2.0, 2.0), (2.5, 1.7), (2.5, 1.5), (3.0, 1.4))  # strength, decay of the fractal
_LUMA = np.array((0.299, 0.587, 0.114), dtype=np.float32)
_ICE = np.array((0.86, 0.95, 1.0), dtype=np.float32)  # colour of bright ice
_ICE_SIDE = 640  # larger pictures get this ice enlarged, as the benchmark enlarges its photographs


def snow(x: Floats, severity: int, rng: np.random.Generator) -> npt.NDArray[Any]:
    """Pale the picture and let flakes fall over it."""
    mean, deviation, size, threshold, radius, sigma, rest = _SNOW[severity - 1]
    height, width = x.shape[:2]
    small = rng.normal(mean, deviation, (math.ceil(height / size), math.ceil(width / size)))
    flakes = _resized(small, (height, width))
    flakes = np.clip(np.where(flakes < threshold, 0, flakes), 0, 1).astype(np.float32)
    flakes = drag(flakes, radius, sigma, rng.uniform(-135, -45))[..., np.newaxis]
    pale = np.maximum(x, (x @ _LUMA)[..., np.newaxis] * 1.5 + 0.5)
    return np.asarray(rest * x + (1 - rest) * pale + flakes + np.rot90(flakes, 2))


def frost(x: Floats, severity: int, rng: np.random.Generator) -> npt.NDArray[Any]:
    """Lay ice over the picture.

    The benchmark blends in one of six photographs of ice. We ship no photographs: the ice is drawn, with the same
    weights, as needles in the six directions of a crystal over a crust that follows a slow fractal.
    """
    kept, added = _FROST[severity - 1]
    height, width = x.shape[:2]
    share = min(1.0, _ICE_SIDE / max(height, width))
    ice = _ice(max(1, round(height * share)), max(1, round(width * share)), rng)
    return kept * x + added * _resized(ice, (height, width))[..., np.newaxis] * _ICE


def fog(x: Floats, severity: int, rng: np.random.Generator) -> npt.NDArray[Any]:
    """Add a cloudy fractal and darken the sum back to the picture's range."""
    strength, decay = _FOG[severity - 1]
    brightest = float(x.max())
    clouds = plasma(x.shape[0], x.shape[1], decay, rng)[..., np.newaxis]
    return (x + strength * clouds) * (brightest / (brightest + strength))


def plasma(height: int, width: int, decay: float, rng: np.random.Generator) -> Floats:
    """A fractal height map in 0..1 by the diamond-square algorithm on a torus.

    Args:
        height: Of the map.
        width: Of the map.
        decay: The random part shrinks by the square of this at each halving of the step; more is smoother.
        rng: Random numbers.
    """
    size = 1 << (max(height, width) - 1).bit_length()
    field = np.zeros((size, size), dtype=np.float32)
    step, amplitude = size, 1.0
    while step > 1:
        half = step // 2
        corners = field[::step, ::step]
        middles = _mean_of(corners, np.roll(corners, -1, 0), np.roll(corners, -1, 1), np.roll(corners, -1, (0, 1)))
        field[half::step, half::step] = middles + _wobble(middles, amplitude, rng)
        middles = field[half::step, half::step]
        above = _mean_of(corners, np.roll(corners, -1, 1), middles, np.roll(middles, 1, 0))
        beside = _mean_of(corners, np.roll(corners, -1, 0), middles, np.roll(middles, 1, 1))
        field[::step, half::step] = above + _wobble(above, amplitude, rng)
        field[half::step, ::step] = beside + _wobble(beside, amplitude, rng)
        step, amplitude = half, amplitude / decay**2
    field -= field.min()
    return np.asarray((field / field.max())[:height, :width])


def _mean_of(*fields: Floats) -> Floats:
    return np.asarray(sum(fields[1:], fields[0]) / len(fields))


def _wobble(like: Floats, amplitude: float, rng: np.random.Generator) -> Floats:
    return (amplitude * rng.uniform(-1, 1, like.shape)).astype(np.float32)


def _ice(height: int, width: int, rng: np.random.Generator) -> Floats:
    """(H, W) in 0..1: long and short needles over a crust that is thick in some places and thin in others."""
    turn = rng.uniform(0, 60)
    long = max(6, min(height, width) // 8)
    needles = np.maximum(_needles(height, width, long, turn, rng), 0.7 * _needles(height, width, long // 3, turn, rng))
    crust = gaussian_filter(rng.random((height, width), dtype=np.float32), 0.7)
    thick = np.clip(2 * plasma(height, width, 1.5, rng) - 0.4, 0, 1)
    ice = thick * (0.45 + 0.35 * crust) + (0.3 + 0.7 * thick) * needles
    return np.asarray(np.clip(ice, 0, 1))


def _needles(height: int, width: int, reach: int, turn: float, rng: np.random.Generator) -> Floats:
    """(H, W) in 0..1: strokes that fade along their length, in the six directions in which ice grows."""
    drawn: Floats = np.zeros((height, width), dtype=np.float32)
    for angle in range(0, 360, 60):
        seeds = rng.random((height, width), dtype=np.float32)
        share = np.float32(1.5 / reach**2)
        strokes = drag(np.where(seeds < share, seeds / share, 0), reach, reach / 1.5, turn + angle)
        drawn = np.maximum(drawn, gaussian_filter(strokes, 0.4))
    return np.asarray(drawn / max(float(drawn.max()), 1e-6))


def _resized(field: npt.NDArray[Any], shape: tuple[int, int]) -> Floats:
    picture = Image.fromarray(field.astype(np.float32))
    return np.asarray(picture.resize((shape[1], shape[0]), Image.Resampling.BILINEAR))
