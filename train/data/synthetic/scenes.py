"""Pictures put together from parts of photographs, at different depths: sharp things before what is out of focus. Pure.

Few photographs are at hand. Their textures in other colours and light, cut into other forms, and above all the plain,
unsharp regions that every photograph with a near subject has, keep a model from taking each of these for a fault.
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from ..corruptions import Floats
from . import photographs
from .drawing import fractal
from .photographs import Split

_FOCUS = (1.5, 9.0)  # deviation of the blur of what is far away, in pixels
_UNFOCUSED = 0.7  # share of pictures whose background is out of focus
_MOST_THINGS = 3
_COARSE = 48  # side of the noise that soft borders follow


def scene(size: tuple[int, int], rng: np.random.Generator, split: Split) -> Image.Image:
    """A background and some things before it, each a part of a photograph in light of its own.

    Args:
        size: (width, height).
        rng: Equal generators give equal pictures.
        split: Which photographs the parts are of.

    Returns:
        Mode RGB; some of it is sharp.

    Example:
        >>> scene((384, 256), np.random.default_rng(0), "train").size
        (384, 256)
    """
    image = _part(size, rng, split)
    if rng.random() < _UNFOCUSED:
        image = image.filter(ImageFilter.GaussianBlur(float(np.exp(rng.uniform(*np.log(_FOCUS))))))
    for _ in range(int(rng.integers(1, _MOST_THINGS + 1))):
        image = Image.composite(_part(size, rng, split), image, _form(size, rng))
    return _shaded(image, rng)


def _part(size: tuple[int, int], rng: np.random.Generator, split: Split) -> Image.Image:
    """A part of a photograph that fills the picture; one that is too small is mirrored on."""
    names = photographs.names(split, size) or photographs.names(split, (384, 256))
    name = names[rng.integers(len(names))]
    fitting = size if photographs.fits(photographs.PHOTOGRAPHS[name], size) else (384, 256)
    part = photographs.restyled(photographs.crop(name, fitting, rng), rng)
    if part.size == size:
        return part
    pixels = np.asarray(part)
    gaps = [(0, max(0, whole - own)) for whole, own in zip(size[::-1], pixels.shape[:2], strict=True)]
    while max(high for _, high in gaps) > 0:
        step = [(0, min(high, side)) for (_, high), side in zip(gaps, pixels.shape[:2], strict=True)]
        pixels = np.pad(pixels, (*step, (0, 0)), mode="symmetric")
        gaps = [(0, max(0, whole - own)) for whole, own in zip(size[::-1], pixels.shape[:2], strict=True)]
    return Image.fromarray(pixels[: size[1], : size[0]])


def _form(size: tuple[int, int], rng: np.random.Generator) -> Image.Image:
    """Where a thing is: a closed line of some waves around a centre, or what lies below a rough horizon."""
    if rng.random() < 0.25:
        return _below(size, rng)
    mask = Image.new("L", (2 * size[0], 2 * size[1]))
    angles = np.linspace(0, 2 * math.pi, 72, endpoint=False)
    radius = np.full(72, rng.uniform(0.12, 0.42) * min(size))
    for wave in range(2, 8):
        radius = radius * (1 + rng.normal(0, 0.5 / wave) * np.cos(wave * angles + rng.uniform(0, 2 * math.pi)))
    stretch = np.exp(rng.normal(0, 0.35))
    x = rng.uniform(0, size[0]) + radius * np.cos(angles) * stretch
    y = rng.uniform(0, size[1]) + radius * np.sin(angles) / stretch
    ImageDraw.Draw(mask).polygon([(2 * a, 2 * b) for a, b in zip(x.tolist(), y.tolist(), strict=True)], fill=255)
    return mask.resize(size, Image.Resampling.BOX)


def _below(size: tuple[int, int], rng: np.random.Generator) -> Image.Image:
    line = fractal(rng, 2, size[0], rng.uniform(0.8, 1.4))[0] * rng.uniform(2, 0.08 * size[1])
    rows = np.arange(size[1], dtype=np.float32)[:, np.newaxis]
    cover = np.clip(rows - (line + np.float32(rng.uniform(0.25, 0.85) * size[1])) + 0.5, 0, 1)
    return Image.fromarray(np.rint(cover * 255).astype(np.uint8))


def _shaded(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Light that changes slowly over the picture."""
    field: Floats = fractal(rng, _COARSE, _COARSE, 1.8) * np.float32(rng.uniform(0, 0.12))
    light = Image.fromarray(np.clip(np.rint(215 * (1 + field)), 0, 255).astype(np.uint8))
    wide = light.resize(image.size, Image.Resampling.BICUBIC)
    return ImageChops.multiply(image, Image.merge("RGB", (wide, wide, wide)))
