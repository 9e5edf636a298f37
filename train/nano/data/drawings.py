"""Drawn pictures: 1/f noise, dead leaves, gradients, shapes, writing, landscapes, patterns; (H, W, 3) in 0..1. Pure.

The first have the statistics of natural pictures, about the others more is known. Dead leaves: A. Lee, D. Mumford,
J. Huang, "Occlusion Models for Natural Images", IJCV 2001 (sizes by the law r^-3).
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ...data.corruptions import Floats
from .pictures import COUNTS, PLACES, SHAPES, Facts

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
    field = _leaf_grain(rng, height, width) if texture is None else texture - texture.mean(axis=(0, 1))
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
    """Colour a leaf on its window: its colour, a piece of the texture, light from one side."""
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


def _leaf_grain(rng: np.random.Generator, height: int, width: int) -> Floats:
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


WORDS = (
    "harbour", "window", "summer", "bridge", "silver", "garden", "winter", "market", "orange", "camera", "planet",
    "river", "coffee", "ticket", "museum", "paper", "signal", "island", "forest", "music", "street", "north",
)  # fmt: skip
PAINTS = {
    "red": (0.82, 0.12, 0.10), "orange": (0.95, 0.55, 0.08), "yellow": (0.95, 0.85, 0.12), "green": (0.13, 0.60, 0.2),
    "blue": (0.12, 0.28, 0.82), "purple": (0.55, 0.18, 0.68), "black": (0.05, 0.05, 0.06), "white": (0.95, 0.95, 0.94),
}  # fmt: skip
_CENTRES = {"left": (0.5, 0.22), "right": (0.5, 0.78), "top": (0.22, 0.5), "bottom": (0.78, 0.5), "middle": (0.5, 0.5)}


def shapes(rng: np.random.Generator, height: int, width: int) -> tuple[Floats, Facts]:
    """Draw one to five shapes of one form and colour, side by side or below each other, on textured ground."""
    found, colour = _ground_and_colour(rng, height, width)
    form, count = SHAPES[rng.integers(len(SHAPES))], int(rng.integers(1, 6))
    place = PLACES[rng.integers(len(PLACES))]
    along_rows = place in ("left", "right") or (place == "middle" and height > width)
    length, depth = (height, width) if along_rows else (width, height)
    radius = min(0.4 * length / count, 0.16 * depth) * rng.uniform(0.75, 1)
    grain = _grain(rng, height, width)
    for number in range(count):
        along, across = length * (number + 0.5) / count, depth * _CENTRES[place][1 if along_rows else 0]
        centre = (along, across) if along_rows else (across, along)
        window, cover = stamp(form, (height, width), centre, radius, rng.uniform(-0.2, 0.2))
        paint(found, window, cover, leaf(rng, cover, np.array(PAINTS[colour]), grain, 1.0))
    name = shapes_subject(COUNTS[count - 1], colour, form)
    facts = Facts("shapes", name, shape=form, shape_colour=colour, count=COUNTS[count - 1], place=place)
    return clip(found), facts


def shapes_subject(count: str, colour: str, form: str) -> str:
    """How shapes are named.

    Example:
        >>> shapes_subject("two", "red", "disk")
        'two red disks'
    """
    return f"{count} {colour} {form}{'' if count == 'one' else 's'}"


def writing(rng: np.random.Generator, height: int, width: int) -> tuple[Floats, Facts]:
    """A large word with lines of small ones, on paper or on a gradient."""
    paper = 0.9 + 0.04 * fractal(rng, height, width, 0.6)[..., np.newaxis] + rng.normal(0, 0.02, 3)
    found = clip(paper) if rng.random() < 0.5 else gradient(rng, height, width)
    ink = np.array((0.08, 0.08, 0.1)) if found.mean() > 0.45 else np.array((0.96, 0.96, 0.94))
    word, place = WORDS[rng.integers(len(WORDS))], ("top", "middle", "bottom")[rng.integers(3)]
    mask = Image.new("L", (width, height), 0)
    _write(mask, word, place, rng)
    cover: Floats = np.asarray(mask, dtype=np.float32)[..., np.newaxis] / np.float32(255)
    facts = Facts("writing", f'the word "{word}"', writing="yes", word=word, place=place)
    return clip(found * (1 - cover) + ink * cover), facts


def landscape(rng: np.random.Generator, height: int, width: int) -> tuple[Floats, Facts]:
    """Sky with clouds, hills one behind the other, and on the nearest some houses."""
    y, _ = unit_grid(height, width)
    zenith, horizon = rng.uniform((0.15, 0.35, 0.6), (0.4, 0.6, 0.95)), rng.uniform((0.7, 0.6, 0.55), (0.95, 0.9, 0.95))
    found = (zenith + (horizon - zenith) * y[..., np.newaxis]).astype(np.float32)
    clouds = np.clip(fractal(rng, height, width, 1.4) - rng.uniform(-0.3, 1), 0, 1.5)[..., np.newaxis]
    found = found + (0.97 - found) * 0.6 * clouds
    level = rng.uniform(0.35, 0.55)
    for number in range(hills := int(rng.integers(2, 5))):
        near = (number + 1) / hills
        _hill(rng, found, level + (0.85 - level) * number / hills, near)
    count = int(rng.integers(0, 4))
    for number in range(count):
        _house(rng, found, (0.8 + rng.uniform(0, 0.08), (number + rng.uniform(0.3, 0.7)) / count))
    subject = (
        "hills under the sky" if not count else f"{COUNTS[count - 1]} house{'s' if count > 1 else ''} before hills"
    )
    return clip(found), Facts("landscape", subject)


def pattern(rng: np.random.Generator, height: int, width: int) -> tuple[Floats, Facts]:
    """Stripes, checks or dots in a random direction, worn by noise."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    angle, period = rng.uniform(0, math.pi), rng.uniform(10, 60)
    along = (math.cos(angle) * x + math.sin(angle) * y) * 2 * math.pi / period
    across = (math.cos(angle) * y - math.sin(angle) * x) * 2 * math.pi / period
    kind = ("stripes", "checks", "dots")[rng.integers(3)]
    wave = {"stripes": np.sin(along), "checks": np.sin(along) * np.sin(across)}.get(
        kind, np.cos(along) + np.cos(across) - 0.6
    )
    edge = np.clip(wave * period / (2 * math.pi) * rng.uniform(0.7, 1.0) + 0.5, 0, 1)[..., np.newaxis]
    low, high = random_colour(rng), random_colour(rng)
    while abs(float(low.mean() - high.mean())) < 0.2:
        high = random_colour(rng)
    light = fractal(rng, height, width, 1.1)[..., np.newaxis] * rng.uniform(0.02, 0.07)
    return clip(low + (high - low) * edge + light + _grain(rng, height, width)), Facts("pattern", kind)


def _ground_and_colour(rng: np.random.Generator, height: int, width: int) -> tuple[Floats, str]:
    """A quiet ground and a colour that stands out from it."""
    found = gradient(rng, height, width) if rng.random() < 0.5 else coloured_noise(rng, height, width)
    found = np.asarray(0.5 + (found - 0.5) * 0.6, dtype=np.float32)
    far = {name: float(np.abs(found.mean(axis=(0, 1)) - np.array(rgb)).sum()) for name, rgb in PAINTS.items()}
    fitting = [name for name in PAINTS if far[name] > 0.75] or [max(far, key=lambda name: far[name])]
    return found, fitting[rng.integers(len(fitting))]


def _grain(rng: np.random.Generator, height: int, width: int) -> Floats:
    rough = fractal(rng, height, width, rng.uniform(0.7, 1.2)) * rng.uniform(0.01, 0.05)
    return np.repeat(rough[..., np.newaxis], 3, axis=2)


def _write(mask: Image.Image, word: str, place: str, rng: np.random.Generator) -> None:
    """The word as wide as three quarters of the mask at most, and small lines above or below it."""
    draw = ImageDraw.Draw(mask)
    size = rng.uniform(0.5, 0.8) * mask.width / (0.62 * len(word))
    fine = rng.uniform(11, 20)
    large, small = ImageFont.load_default(size=size), ImageFont.load_default(size=fine)
    row = {"top": 0.08, "middle": 0.5, "bottom": 0.92}[place] * mask.height
    row -= {"top": 0.0, "middle": 0.6, "bottom": 1.2}[place] * size
    draw.text((mask.width * rng.uniform(0.05, 0.2), row), word, fill=255, font=large)
    step, taken = fine * 1.5, (row - 0.5 * size, row + 1.5 * size)
    for number in range(int(mask.height / step)):
        top = (number + 0.4) * step
        if top + step < taken[0] or top > taken[1]:
            line = " ".join(WORDS[i] for i in rng.integers(0, len(WORDS), 12) if WORDS[i] != word)
            draw.text((mask.width * 0.05, top), line[: int(0.9 * mask.width / (0.55 * fine))], fill=255, font=small)


def _hill(rng: np.random.Generator, found: Floats, level: float, near: float) -> None:
    """A slope with grass or rock on it, paler the farther it is; in place."""
    height, width = found.shape[:2]
    outline = (level + 0.04 * fractal(rng, 1, width, 1.6)[0]) * height
    cover = np.clip(np.arange(height)[:, np.newaxis] - outline + 0.5, 0, 1)[..., np.newaxis].astype(np.float32)
    colour = rng.uniform((0.15, 0.2, 0.08), (0.5, 0.5, 0.3)) * near + np.array((0.6, 0.68, 0.78)) * (1 - near)
    texture = fractal(rng, height, width, rng.uniform(0.6, 1.0))[..., np.newaxis] * (0.12 * near)
    found[...] = found * (1 - cover) + (colour + texture) * cover


def _house(rng: np.random.Generator, found: Floats, place: tuple[float, float]) -> None:
    """A wall, a roof, a door and two windows; in place."""
    height, width = found.shape[:2]
    radius, grain = min(height, width) * rng.uniform(0.05, 0.09), _grain(rng, height, width)
    row, column = place[0] * height, place[1] * width
    parts = (
        ("square", (0.0, 0.0), 1.0, rng.uniform(0.5, 0.9, 3)),
        ("triangle", (-1.3, 0.0), 1.25, rng.uniform((0.35, 0.1, 0.05), (0.7, 0.3, 0.2))),
        ("square", (0.55, 0.0), 0.32, rng.uniform(0.1, 0.4, 3)),
        ("square", (-0.25, -0.45), 0.22, np.array((0.2, 0.25, 0.3))),
        ("square", (-0.25, 0.45), 0.22, np.array((0.2, 0.25, 0.3))),
    )
    for form, (down, right), share, colour in parts:
        centre = row + down * radius, column + right * radius
        window, cover = stamp(form, (height, width), centre, radius * share)
        if cover.size:
            paint(found, window, cover, leaf(rng, cover, colour, grain, 1.0))
