"""Pristine pictures: parts of photographs and drawings, with what is known about each. Pure, but for the photographs.

A content is a function of its name, size and generator. Photographs are split by name (`photographs.PHOTOGRAPHS`);
drawings of the two splits differ by their random numbers only, except that leaves are cut from the split's photographs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
from PIL import Image

from ...errors import DataError
from ..corruptions import Floats
from . import drawing, drawing_scenes, photographs, scenes
from .facts import Facts, dominant_colour, layout
from .photographs import PHOTOGRAPHS, Split

SIZES = (
    (512, 384), (512, 384), (384, 512), (512, 512), (448, 300), (384, 288), (480, 360), (400, 400), (384, 256),
    (640, 427), (600, 400), (360, 480), (640, 480), (480, 320), (320, 480),
)  # fmt: skip
"""(width, height) that pictures are made in; KADID-10k's own twice."""

LONG_SIDE = (384, 640)
_PHOTO_LEAVES = "leaves of photographs"
_SCENE = "scene"
_RARE, _RARE_SHARE = ("hubble", "ihc", "retina"), 0.5  # little like what people photograph
_RESTYLED = 0.5  # share of photographs in clearly other colours and light
Draw = Callable[[np.random.Generator, int, int], "tuple[Floats, Facts]"]

_DRAWINGS: Mapping[str, Draw] = MappingProxyType(
    {
        "leaves": lambda rng, h, w: (drawing.leaves(rng, h, w), Facts("leaves", "overlapping pieces")),
        "noise": lambda rng, h, w: (drawing.coloured_noise(rng, h, w), Facts("noise", "cloudy noise")),
        "gradient": lambda rng, h, w: (drawing.gradient(rng, h, w), Facts("gradient", "a smooth gradient")),
        "shapes": drawing_scenes.shapes,
        "writing": drawing_scenes.writing,
        "landscape": drawing_scenes.landscape,
        "pattern": drawing_scenes.pattern,
    }
)
CONTENTS = (*PHOTOGRAPHS, *_DRAWINGS, _PHOTO_LEAVES, _SCENE)
"""Names of all contents."""

# How often a drawing is taken where contents are drawn at random; photographs share what is left.
_WEIGHTS = MappingProxyType(
    {"leaves": 0.04, "noise": 0.02, "gradient": 0.02, "shapes": 0.05, "writing": 0.04, "landscape": 0.05,
     "pattern": 0.02, _PHOTO_LEAVES: 0.06, _SCENE: 0.28}
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Content:
    """A pristine picture.

    Attributes:
        image: Mode RGB.
        name: One of `CONTENTS`.
        facts: What is known about it.
    """

    image: Image.Image
    name: str
    facts: Facts


def content(name: str, size: tuple[int, int], rng: np.random.Generator, split: Split = "train") -> Content:
    """Make a pristine picture.

    Args:
        name: One of `CONTENTS`.
        size: (width, height); the longer of them 384 to 640 pixels.
        rng: Equal generators give equal pictures.
        split: Which photographs leaves are cut from; a photograph itself must be of this split.

    Raises:
        DataError: An unknown name, a photograph of the other split, or a size that is out of range or too large.

    Example:
        >>> made = content("shapes", (384, 256), np.random.default_rng(1))
        >>> made.image.size, made.facts.kind, made.facts.layout
        ((384, 256), 'shapes', 'wider than high')
    """
    _check(name, size, split)
    if name in PHOTOGRAPHS:
        one = PHOTOGRAPHS[name]
        image = photographs.crop(name, size, rng)
        image = photographs.restyled(image, rng) if rng.random() < _RESTYLED else image
        facts = Facts(one.kind, one.subject, writing="" if one.text else "no")
    elif name == _PHOTO_LEAVES:
        image, facts = _photo_leaves(size, rng, split), Facts("leaves", "overlapping pieces")
    elif name == _SCENE:
        image, facts = scenes.scene(size, rng, split), Facts("leaves", "overlapping pieces")
    else:
        pixels, facts = _DRAWINGS[name](rng, size[1], size[0])
        image = _image(pixels)
    return Content(image, name, replace(facts, colour=dominant_colour(image), layout=layout(image)))


def draw_name(rng: np.random.Generator, size: tuple[int, int], split: Split = "train") -> str:
    """Draw the name of a content that can be had in this size."""
    fitting = photographs.names(split, size)
    each = (1 - sum(_WEIGHTS.values())) / max(1, len(fitting))
    weights = dict(_WEIGHTS) | {one: each * (_RARE_SHARE if one in _RARE else 1) for one in fitting}
    share = np.array(list(weights.values()))
    return list(weights)[int(rng.choice(len(share), p=share / share.sum()))]


def _photo_leaves(size: tuple[int, int], rng: np.random.Generator, split: Split) -> Image.Image:
    fitting = photographs.names(split, size) or photographs.names(split, (384, 256))
    cut = photographs.crop(fitting[rng.integers(len(fitting))], (384, 256), rng)
    texture = np.asarray(cut, dtype=np.float32) / np.float32(255)
    # Mirrored on, the piece is large enough for every leaf.
    texture = np.pad(texture, ((0, max(0, size[1] - 256)), (0, max(0, size[0] - 384)), (0, 0)), mode="symmetric")
    return _image(drawing.leaves(rng, size[1], size[0], texture))


def _image(pixels: Floats) -> Image.Image:
    return Image.fromarray(np.rint(pixels * 255).astype(np.uint8))


def _check(name: str, size: tuple[int, int], split: Split) -> None:
    if name not in CONTENTS:
        raise DataError.about("content", name, f"one of {', '.join(CONTENTS)}")
    if not LONG_SIDE[0] <= max(size) <= LONG_SIDE[1] or min(size) < 128:
        raise DataError.about("size", size, "a long side of 384 to 640 pixels, and a short one of 128 or more")
    if name not in PHOTOGRAPHS:
        return
    one = PHOTOGRAPHS[name]
    if one.split != split:
        raise DataError.about("content", name, f"a photograph of the split {split!r}, not of {one.split!r}")
    if not photographs.fits(one, size):
        largest = f"{one.width * one.least:.0f}x{one.height * one.least:.0f}"
        raise DataError.about("size", size, f"{largest} pixels at most for {name}, which is not enlarged")
