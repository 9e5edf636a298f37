"""Drawn pictures about which more is known: shapes, writing, landscapes, patterns. (H, W, 3) in 0..1. Pure."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..corruptions import Floats
from .drawing import clip, coloured_noise, fractal, gradient, leaf, paint, random_colour, stamp, unit_grid
from .facts import COUNTS, PLACES, SHAPES, Facts

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
    """One to five shapes of one form and colour, side by side or below each other, on textured ground."""
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
