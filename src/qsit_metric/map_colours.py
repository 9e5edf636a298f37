"""Colours of a quality map: hue and colourfulness for the map, lightness for the photograph. Pure.

The space is OKLab (B. Ottosson, "A perceptual color space for image processing", 2020), in which equal steps look about
equal. Only its two matrices are taken from there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

_LMS = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)
_TO_RGB, _FROM_LAB = np.linalg.inv(_LMS), np.linalg.inv(_LAB)

_DARK, _LIGHT = 0.34, 0.86  # black and white would show no colour
_MIDDLE = 0.62  # lightness of the scale
_CHROMA = 0.15
_ORANGE, _BLUE = np.deg2rad((50.0, 252.0))


def tinted(picture: NDArray[np.uint8], share: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Colour a picture by a map.

    Args:
        picture: (H, W, 3) RGB.
        share: (H, W), 0 is orange, 0.5 grey, 1 blue; what lies outside is taken as the end.

    Returns:
        (H, W, 3) RGB, with the lightness of the picture in a smaller range.

    Example:
        >>> grey = np.full((1, 3, 3), 128, dtype=np.uint8)
        >>> red, _, blue = np.moveaxis(tinted(grey, np.array([[0.0, 0.5, 1.0]])).astype(int), -1, 0)
        >>> (red - blue).tolist()[0][0] > 100, (red - blue).tolist()[0][1], (red - blue).tolist()[0][2] < -80
        (True, 0, True)
    """
    return _rgb(_DARK + (_LIGHT - _DARK) * _lightness(picture), share)


def scale(count: int) -> NDArray[np.uint8]:
    """The colours from 0 to 1 at one lightness, (count, 3)."""
    share = np.linspace(0.0, 1.0, count)
    return _rgb(np.full(count, _MIDDLE), share)


def _lightness(picture: NDArray[np.uint8]) -> Floats:
    """OKLab's L, 0..1; the 256 values are made linear once."""
    values = np.arange(256) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    found: Floats = np.cbrt(linear[picture] @ _LMS.T) @ _LAB[0]
    return found


def _rgb(lightness: Floats, share: NDArray[np.floating]) -> NDArray[np.uint8]:
    side = np.clip(2 * share - 1, -1, 1)
    hue = np.where(side < 0, _ORANGE, _BLUE)
    chroma = _CHROMA * np.abs(side)
    lab = np.stack([lightness, chroma * np.cos(hue), chroma * np.sin(hue)], axis=-1)
    linear = np.clip((lab @ _FROM_LAB.T) ** 3 @ _TO_RGB.T, 0, 1)
    values = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    found: NDArray[np.uint8] = np.rint(255 * values).astype(np.uint8)
    return found
