"""Things in the wrong place (types 19, 20 and 23). Pictures are (H, W, 3) in 0..1. Pure.

Levels of one seed move the same pixels in the same directions; more patches and squares come on top of the earlier.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from ..corruptions import Floats

_ROUNDS = 5  # warps that the generator applies one after the other
_PATCH, _REACH = 16, 8  # side of a moved patch, and how far it goes, in pixels
_SQUARE = 32
_MOST_PATCHES, _MOST_SQUARES = 100, 10


def jitter(x: Floats, amount: float, rng: np.random.Generator) -> npt.NDArray[Any]:
    """Take every point from a normally distributed place around it.

    The generator warps five times by `amount` pixels; here it is one warp of the same total deviation.
    """
    from scipy.ndimage import map_coordinates

    shape = x.shape[:2]
    moved = rng.standard_normal((2, *shape), dtype=np.float32) * np.float32(amount * math.sqrt(_ROUNDS))
    places = np.indices(shape, dtype=np.float32) + moved
    channels = [map_coordinates(np.ascontiguousarray(x[..., c]), places, order=1, mode="nearest") for c in range(3)]
    return np.stack(channels, axis=2)


def non_eccentricity_patch(x: Floats, count: float, rng: np.random.Generator) -> npt.NDArray[Any]:
    """Copy small patches to a place nearby, one after the other."""
    changed = x.copy()
    tops, lefts = _corners(x, _PATCH, _MOST_PATCHES, rng)
    steps = rng.integers(-_REACH, _REACH + 1, (_MOST_PATCHES, 2))
    for top, left, (down, right) in list(zip(tops, lefts, steps, strict=True))[: round(count)]:
        to_top = min(max(top + down, 0), x.shape[0] - _PATCH)
        to_left = min(max(left + right, 0), x.shape[1] - _PATCH)
        patch = changed[top : top + _PATCH, left : left + _PATCH].copy()
        changed[to_top : to_top + _PATCH, to_left : to_left + _PATCH] = patch
    return changed


def color_block(x: Floats, count: float, rng: np.random.Generator) -> npt.NDArray[Any]:
    """Lay squares of random colours over the picture."""
    changed = x.copy()
    tops, lefts = _corners(x, _SQUARE, _MOST_SQUARES, rng)
    colours = rng.random((_MOST_SQUARES, 3), dtype=np.float32)
    for top, left, colour in list(zip(tops, lefts, colours, strict=True))[: round(count)]:
        changed[top : top + _SQUARE, left : left + _SQUARE] = colour
    return changed


def _corners(x: Floats, side: int, count: int, rng: np.random.Generator) -> tuple[list[int], list[int]]:
    tops = rng.integers(0, x.shape[0] - side + 1, count)
    lefts = rng.integers(0, x.shape[1] - side + 1, count)
    return tops.tolist(), lefts.tolist()
