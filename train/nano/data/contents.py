"""Pristine pictures: parts of photographs and drawings, with what is known about each, and what cameras do to them.

A content is a function of its name, size and generator. Photographs are split by name (`photographs.PHOTOGRAPHS`);
drawings of the two splits differ by their random numbers only, except that leaves are cut from the split's photographs.

Contents straight from a drawing, or scaled down, are cleaner than any photograph that people call pristine. A model
that has seen only those takes grain, a camera's sharpening and its JPEG for degradations: `photographed` adds these.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

from ...data.corruptions import Floats
from ...errors import DataError
from . import drawings, photographs
from .photographs import PHOTOGRAPHS, Split
from .pictures import Facts, dominant_colour, layout

SIZES = (
    (512, 384), (512, 384), (384, 512), (512, 512), (448, 300), (384, 288), (480, 360), (400, 400), (384, 256),
    (640, 427), (600, 400), (360, 480), (640, 480), (480, 320), (320, 480),
)  # fmt: skip
"""(width, height) that pictures are made in; KADID-10k's own twice."""

LONG_SIDE = (384, 640)
SMALL_SIZES = ((96, 96), (96, 72), (72, 96), (96, 64), (64, 96))
"""Those of small pictures, for models that see no more: nothing is resized on the way to them."""

_PHOTO_LEAVES = "leaves of photographs"
_SCENE = "scene"
_RARE, _RARE_SHARE = ("hubble", "ihc", "retina"), 0.5  # little like what people photograph
_RESTYLED = 0.5  # share of photographs in clearly other colours and light
Draw = Callable[[np.random.Generator, int, int], "tuple[Floats, Facts]"]

_DRAWINGS: Mapping[str, Draw] = MappingProxyType(
    {
        "leaves": lambda rng, h, w: (drawings.leaves(rng, h, w), Facts("leaves", "overlapping pieces")),
        "noise": lambda rng, h, w: (drawings.coloured_noise(rng, h, w), Facts("noise", "cloudy noise")),
        "gradient": lambda rng, h, w: (drawings.gradient(rng, h, w), Facts("gradient", "a smooth gradient")),
        "shapes": drawings.shapes,
        "writing": drawings.writing,
        "landscape": drawings.landscape,
        "pattern": drawings.pattern,
    }
)
CONTENTS = (*PHOTOGRAPHS, *_DRAWINGS, _PHOTO_LEAVES, _SCENE)
"""Names of all contents."""

# How often a drawing is taken where contents are drawn at random; photographs share what is left.
_WEIGHTS = MappingProxyType(
    {"leaves": 0.04, "noise": 0.02, "gradient": 0.02, "shapes": 0.05, "writing": 0.04, "landscape": 0.05,
     "pattern": 0.02, _PHOTO_LEAVES: 0.06, _SCENE: 0.28}
)  # fmt: skip
_SOFTNESS = (0.25, 0.65)  # deviation of a blur, in pixels; KADID-10k's weakest one has 1
_GRAIN = (0.5, 4.5)  # deviation, in steps of 1/255; KADID-10k's weakest noise has 8
_FILM = (1.0, 6.5)  # the same of grain that reaches over pixels, which people mind less
_SHARPENED = (20, 150)  # percent of an unsharp mask
_CLARITY = (20, 80)  # the same with a wide radius: it brings out texture, not edges
_QUALITY = (82, 97)
_LIGHT = (0.8, 1.35)  # factors of contrast and saturation: slide film, and most cameras, make both stronger


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
        size: (width, height); the longer of them 384 to 640 pixels, or one of `SMALL_SIZES`.
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
        image, facts = photographs.scene(size, rng, split), Facts("leaves", "overlapping pieces")
    else:
        pixels, facts = _DRAWINGS[name](rng, size[1], size[0])
        image = _image(pixels * 255)
    return Content(image, name, replace(facts, colour=dominant_colour(image), layout=layout(image)))


def draw_name(rng: np.random.Generator, size: tuple[int, int], split: Split = "train") -> str:
    """Draw the name of a content that can be had in this size."""
    fitting = photographs.names(split, size)
    each = (1 - sum(_WEIGHTS.values())) / max(1, len(fitting))
    weights = dict(_WEIGHTS) | {one: each * (_RARE_SHARE if one in _RARE else 1) for one in fitting}
    share = np.array(list(weights.values()))
    return list(weights)[int(rng.choice(len(share), p=share / share.sum()))]


def _photo_leaves(size: tuple[int, int], rng: np.random.Generator, split: Split) -> Image.Image:
    fitting = photographs.names(split, size) or photographs.names(split, photographs.SMALLEST)
    cut = photographs.crop(fitting[rng.integers(len(fitting))], (384, 256), rng)
    texture = np.asarray(cut, dtype=np.float32) / np.float32(255)
    # Mirrored on, the piece is large enough for every leaf.
    texture = np.pad(texture, ((0, max(0, size[1] - 256)), (0, max(0, size[0] - 384)), (0, 0)), mode="symmetric")
    return _image(drawings.leaves(rng, size[1], size[0], texture) * 255)


def _image(x: Floats) -> Image.Image:
    """The picture of values in 0..255."""
    return Image.fromarray(np.rint(np.clip(x, 0, 255)).astype(np.uint8))


def _check(name: str, size: tuple[int, int], split: Split) -> None:
    if name not in CONTENTS:
        raise DataError.about("content", name, f"one of {', '.join(CONTENTS)}")
    large = LONG_SIDE[0] <= max(size) <= LONG_SIDE[1] and min(size) >= 128
    if not large and size not in SMALL_SIZES:
        raise DataError.about("size", size, "a long side of 384 to 640 pixels, and a short one of 128 or more")
    if name not in PHOTOGRAPHS:
        return
    one = PHOTOGRAPHS[name]
    if one.split != split:
        raise DataError.about("content", name, f"a photograph of the split {split!r}, not of {one.split!r}")
    if not photographs.fits(one, size):
        largest = f"{one.width * one.least:.0f}x{one.height * one.least:.0f}"
        raise DataError.about("size", size, f"{largest} pixels at most for {name}, which is not enlarged")


def photographed(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """The picture as a camera would give it: each step of its processing in some pictures, none of them strong.

    Args:
        image: Mode RGB, pristine.
        rng: Equal generators give equal pictures.

    Returns:
        A picture of the same size that people would still call pristine.

    Example:
        >>> photographed(Image.new("RGB", (64, 48), "olive"), np.random.default_rng(0)).size
        (64, 48)
    """
    steps = ((_tone, 0.6), (_clarity, 0.4), (_soften, 0.3), (_grain, 0.55), (_sharpen, 0.5), (_compress, 0.6))
    for step, share in steps:
        image = step(image, rng) if rng.random() < share else image
    return image


def _tone(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    for enhance in (ImageEnhance.Color, ImageEnhance.Contrast):
        image = enhance(image).enhance(float(rng.uniform(*_LIGHT)))
    return image


def _clarity(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    return image.filter(ImageFilter.UnsharpMask(float(rng.uniform(4, 25)), int(rng.integers(*_CLARITY)), 0))


def _soften(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(float(rng.uniform(*_SOFTNESS))))


def _grain(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Noise that is the same in all colours, in part, and reaches over a pixel or two, as in film."""
    x = np.asarray(image, dtype=np.float32)
    common = rng.standard_normal((*x.shape[:2], 1), dtype=np.float32)
    noise: Floats = common + np.float32(rng.uniform(0, 0.8)) * rng.standard_normal(x.shape, dtype=np.float32)
    film = rng.random() < 0.5
    noise = _neighbours(noise) if film else noise
    return _image(x + noise * (rng.uniform(*(_FILM if film else _GRAIN)) / noise.std()))


def _neighbours(noise: Floats) -> Floats:
    half = np.float32(0.5)
    across = noise + half * (np.roll(noise, 1, axis=0) + np.roll(noise, -1, axis=0))
    found: Floats = across + half * (np.roll(across, 1, axis=1) + np.roll(across, -1, axis=1))
    return found


def _sharpen(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    return image.filter(ImageFilter.UnsharpMask(float(rng.uniform(0.5, 1.0)), int(rng.integers(*_SHARPENED)), 0))


def _compress(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=int(rng.integers(*_QUALITY)), subsampling=2 if rng.random() < 0.5 else 0)
    with Image.open(file) as read:
        return read.convert("RGB")
