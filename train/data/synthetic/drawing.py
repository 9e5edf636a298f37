"""Drawn pictures with the statistics of natural ones: 1/f noise, dead leaves with texture, gradients. Pure.

Dead leaves: A. Lee, D. Mumford, J. Huang, "Occlusion Models for Natural Images", IJCV 2001 (sizes by the law r^-3).
Pictures are (H, W, 3) in 0..1.
"""

from __future__ import annotations

import math

import numpy as np

from ..corruptions import Floats

Window = tuple[slice, slice]
_MOST_LEAVES = 1600


def fractal(rng: np.random.Generator, height: int, width: int, slope: float = 1.0) -> Floats:
    """(H, W) noise whose amplitude falls as frequency^-slope; mean 0, deviation 1."""
    from scipy import fft

    spectrum = fft.rfft2(rng.standard_normal((height, width), dtype=np.float32))
    frequency = np.hypot(fft.fftfreq(height)[:, np.newaxis], fft.rfftfreq(width)[np.newaxis])
    weight = np.maximum(frequency, 1 / max(height, width)) ** -slope
    found = fft.irfft2(spectrum * weight.astype(np.float32), s=(height, width))
    return np.asarray((found - found.mean()) / found.std(), dtype=np.float32)


def coloured_noise(rng: np.random.Generator, height: int, width: int) -> Floats:
    """Noise in light and, more smoothly, in colour, around a colour: sky, water, stone, cloth."""
    light = fractal(rng, height, width, rng.uniform(0.9, 1.4)) * rng.uniform(0.08, 0.2)
    tones = rng.normal(0, 1, (2, 3)).astype(np.float32) * np.float32(rng.uniform(0.01, 0.08))
    found = random_colour(rng) + light[..., np.newaxis]
    for tone in tones:
        found = found + fractal(rng, height, width, 1.4)[..., np.newaxis] * tone
    return clip(found)


def gradient(rng: np.random.Generator, height: int, width: int) -> Floats:
    """A smooth run between two or three colours, straight or round, under faint texture."""
    y, x = unit_grid(height, width)
    if rng.random() < 0.6:
        angle = rng.uniform(0, 2 * math.pi)
        ramp = math.cos(angle) * x + math.sin(angle) * y
    else:
        ramp = np.hypot(x - rng.uniform(0, 1), y - rng.uniform(0, 1))
    ramp = (ramp - ramp.min()) / np.ptp(ramp)
    stops = np.stack([random_colour(rng) for _ in range(rng.integers(2, 4))])
    places = np.linspace(0, 1, len(stops))
    found = np.stack([np.interp(ramp, places, stops[:, c]) for c in range(3)], axis=2)
    texture = fractal(rng, height, width, rng.uniform(0.8, 1.3)) * rng.uniform(0.005, 0.03)
    return clip(found + texture[..., np.newaxis])


def leaves(rng: np.random.Generator, height: int, width: int, texture: Floats | None = None) -> Floats:
    """Shapes of all sizes that hide each other, each with its colour, light and texture.

    Args:
        rng: Random numbers.
        height: Of the picture.
        width: Of the picture.
        texture: (H, W, 3), what the leaves are made of, such as a photograph; None takes noise.
    """
    found = coloured_noise(rng, height, width)
    field = _grain(rng, height, width) if texture is None else texture - texture.mean(axis=(0, 1))
    gain = rng.uniform(0.3, 1.0) if texture is None else rng.uniform(0.5, 1.0)
    palette = np.stack([random_colour(rng) for _ in range(rng.integers(4, 12))])
    if texture is not None:  # colours of the photograph, and some of others
        seen = texture.reshape(-1, 3)[rng.integers(0, texture.shape[0] * texture.shape[1], len(palette))]
        palette = 0.35 * palette + 0.65 * seen
    for radius in _radii(rng, height, width):
        form = ("disk", "square", "ellipse", "triangle")[rng.integers(4)]
        centre = rng.uniform(0, height), rng.uniform(0, width)
        window, cover = stamp(form, (height, width), centre, float(radius), rng.uniform(0, 2 * math.pi))
        if cover.size:
            colour = palette[rng.integers(len(palette))] + rng.normal(0, 0.05, 3)
            paint(found, window, cover, leaf(rng, cover, colour, field, gain))
    return clip(found)


def leaf(rng: np.random.Generator, cover: Floats, colour: np.ndarray, field: Floats, gain: float) -> Floats:
    """What a leaf looks like on its window: colour, a piece of the texture, light from one side."""
    high, wide = cover.shape
    top = rng.integers(0, field.shape[0] - high + 1)
    left = rng.integers(0, field.shape[1] - wide + 1)
    y, x = unit_grid(high, wide)
    angle, depth = rng.uniform(0, 2 * math.pi), rng.uniform(0, 0.25)
    light = 1 + depth * (math.cos(angle) * (x - 0.5) + math.sin(angle) * (y - 0.5))
    piece = field[top : top + high, left : left + wide] * np.float32(gain)
    return np.asarray((colour.astype(np.float32) + piece) * light[..., np.newaxis], dtype=np.float32)


def stamp(
    form: str, shape: tuple[int, int], centre: tuple[float, float], radius: float, angle: float = 0.0
) -> tuple[Window, Floats]:
    """How much of each pixel a form covers, on the window that holds it; edges are as soft as a pixel.

    Args:
        form: "disk", "square", "triangle", "ring" or "ellipse".
        shape: (height, width) of the picture.
        centre: (row, column).
        radius: In pixels.
        angle: In radians; 0 is upright.
    """
    reach = 1.5 * radius + 2
    top, bottom = max(0, int(centre[0] - reach)), min(shape[0], int(centre[0] + reach) + 1)
    left, right = max(0, int(centre[1] - reach)), min(shape[1], int(centre[1] + reach) + 1)
    y = np.arange(top, max(top, bottom), dtype=np.float32)[:, np.newaxis] - np.float32(centre[0])
    x = np.arange(left, max(left, right), dtype=np.float32)[np.newaxis] - np.float32(centre[1])
    cos, sin = np.float32(math.cos(angle)), np.float32(math.sin(angle))
    inside = np.clip(_depth(form, cos * y - sin * x, sin * y + cos * x, radius) + 0.5, 0, 1)
    return (slice(top, max(top, bottom)), slice(left, max(left, right))), inside.astype(np.float32)


def paint(picture: Floats, window: Window, cover: Floats, colours: Floats) -> None:
    """Lay colours over a window of a picture, in place, as far as they cover."""
    weight = cover[..., np.newaxis]
    picture[window] = picture[window] * (1 - weight) + colours * weight


def random_colour(rng: np.random.Generator) -> Floats:
    """A colour as frequent in the world: all lightnesses, mostly of little saturation."""
    hue, saturation, value = rng.uniform(0, 6), rng.beta(1.2, 2.8), rng.uniform(0.12, 0.92)
    pure = np.clip(np.abs((hue + np.array((0, 4, 2))) % 6 - 3) - 1, 0, 1)
    return np.asarray(value * (1 - saturation * (1 - pure)), dtype=np.float32)


def unit_grid(height: int, width: int) -> tuple[Floats, Floats]:
    """Row and column of each pixel, in 0..1."""
    y = np.linspace(0, 1, height, dtype=np.float32)[:, np.newaxis]
    x = np.linspace(0, 1, width, dtype=np.float32)[np.newaxis]
    return np.broadcast_to(y, (height, width)), np.broadcast_to(x, (height, width))


def clip(x: np.ndarray) -> Floats:
    """The picture in 0..1."""
    return np.asarray(np.clip(x, 0, 1), dtype=np.float32)


def _grain(rng: np.random.Generator, height: int, width: int) -> Floats:
    rough = fractal(rng, height, width, rng.uniform(0.75, 1.2)) * rng.uniform(0.02, 0.12)
    tone = 1 + rng.normal(0, 0.15, 3)
    return np.asarray(rough[..., np.newaxis] * tone, dtype=np.float32)


def _radii(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Radii by the density r^-3, in no order, enough of them to cover most of the picture."""
    least, most = rng.uniform(3, 14), min(height, width) * rng.uniform(0.2, 0.45)
    area = 2 * math.pi * math.log(most / least) / (1 / least**2 - 1 / most**2)
    count = min(_MOST_LEAVES, int(2 * height * width / area))
    drawn = rng.uniform(0, 1, count)
    return np.asarray((least**-2 - drawn * (least**-2 - most**-2)) ** -0.5)


def _depth(form: str, y: np.ndarray, x: np.ndarray, radius: float) -> np.ndarray:
    """How far inside the form each point lies, in pixels, near its edge."""
    if form == "square":
        return np.asarray(0.88 * radius - np.maximum(np.abs(y), np.abs(x)))
    if form == "triangle":
        return np.asarray(np.minimum(0.5 * radius - y, (radius + y) * 0.5 - np.abs(x) * 0.866))
    if form == "ellipse":
        return np.asarray((1 - np.hypot(y / (0.5 * radius), x / (1.3 * radius))) * 0.6 * radius)
    far = np.hypot(y, x)
    return np.asarray(0.22 * radius - np.abs(far - 0.78 * radius) if form == "ring" else radius - far)
