"""Facts about the content of a picture: what it shows, its main colour, its layout. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from PIL import Image

from ...data.corruptions import Floats

COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "brown", "grey", "black", "white")
KINDS: Mapping[str, str] = MappingProxyType(
    {
        "person": "a person",
        "animal": "an animal",
        "object": "an object",
        "building": "a building",
        "flower": "a flower",
        "texture": "a texture",
        "sky": "the night sky",
        "eye": "the inside of an eye",
        "landscape": "a landscape",
        "writing": "writing",
        "shapes": "geometric shapes",
        "pattern": "a regular pattern",
        "leaves": "overlapping pieces",
        "noise": "cloudy noise",
        "gradient": "a smooth gradient",
    }
)
"""Kinds of subject, and how an answer names them."""

SHAPES = ("disk", "square", "triangle", "ring")
PLACES = ("left", "right", "top", "bottom", "middle")
LAYOUTS = ("wider than high", "higher than wide", "square")
COUNTS = ("one", "two", "three", "four", "five")
_CLEAR = 0.45  # share of the pixels that the dominant colour has at least, and twice as many as the next


@dataclass(frozen=True)
class Facts:
    """Facts about what a picture shows; "" is what is not known, or does not apply.

    Attributes:
        kind: A key of `KINDS`.
        subject: What is shown, with its article ("a cup of coffee").
        colour: The colour that most of the picture has, one of `COLOURS`.
        writing: "yes" or "no".
        word: The large word that is written.
        shape: One of `SHAPES`.
        shape_colour: Colour of the shapes.
        count: Number of shapes, of `COUNTS`.
        place: Where the shapes or the word are, of `PLACES`.
        layout: "wider than high", "higher than wide" or "square".
    """

    kind: str
    subject: str
    colour: str = ""
    writing: str = "no"
    word: str = ""
    shape: str = ""
    shape_colour: str = ""
    count: str = ""
    place: str = ""
    layout: str = ""


def dominant_colour(image: Image.Image) -> str:
    """The name of the colour that clearly covers most of a picture, or "".

    Example:
        >>> dominant_colour(Image.new("RGB", (64, 64), (200, 30, 20)))
        'red'
    """
    small: Floats = np.asarray(image.resize((48, 48), Image.Resampling.BOX), dtype=np.float32) / np.float32(255)
    shares = {name: float(np.mean(found)) for name, found in _named(small).items()}
    first, second = sorted(shares, key=lambda name: -shares[name])[:2]
    return first if shares[first] >= _CLEAR and shares[first] >= 2 * shares[second] else ""


def layout(image: Image.Image) -> str:
    """How the sides compare."""
    if image.width == image.height:
        return "square"
    return "wider than high" if image.width > image.height else "higher than wide"


def _named(x: Floats) -> dict[str, np.ndarray]:
    """Find which pixels have which colour; those between two names have none."""
    value, spread = x.max(axis=2), np.ptp(x, axis=2)
    saturation = spread / np.maximum(value, 1e-3)
    hue = _hue(x, value, spread)
    coloured = (saturation > 0.3) & (value > 0.2)
    grey = (saturation < 0.15) & ~coloured
    warm = coloured & ((hue < 45) | (hue >= 340))
    return {
        "red": warm & ((hue < 15) | (hue >= 340)) & (value > 0.35),
        "orange": warm & (hue >= 18) & (hue < 45) & (value > 0.65),
        "brown": warm & (hue >= 10) & (hue < 45) & (value < 0.6),
        "yellow": coloured & (hue >= 48) & (hue < 68) & (value > 0.5),
        "green": coloured & (hue >= 75) & (hue < 165),
        "blue": coloured & (hue >= 190) & (hue < 255),
        "purple": coloured & (hue >= 265) & (hue < 325),
        "grey": grey & (value > 0.25) & (value < 0.75),
        "black": value < 0.15,
        "white": grey & (value > 0.85),
    }


def _hue(x: Floats, value: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Degrees, 0 is red."""
    red, green, blue = np.moveaxis(x, 2, 0)
    safe = np.maximum(spread, 1e-6)
    found = np.where(
        value == red,
        ((green - blue) / safe) % 6,
        np.where(value == green, (blue - red) / safe + 2, (red - green) / safe + 4),
    )
    return np.asarray(60 * found)
