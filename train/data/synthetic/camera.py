"""What cameras do to every photograph, before anything else is done to it. Pure.

Contents straight from a drawing, or scaled down, are cleaner than any photograph that people call pristine. A model
that has seen only those takes grain, a camera's sharpening and its JPEG for degradations.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

from ..corruptions import Floats

_SOFTNESS = (0.25, 0.65)  # deviation of a blur, in pixels; KADID-10k's weakest one has 1
_GRAIN = (0.5, 4.5)  # deviation, in steps of 1/255; KADID-10k's weakest noise has 8
_FILM = (1.0, 6.5)  # the same of grain that reaches over pixels, which people mind less
_SHARPENED = (20, 150)  # percent of an unsharp mask
_CLARITY = (20, 80)  # the same with a wide radius: it brings out texture, not edges
_QUALITY = (82, 97)
_LIGHT = (0.8, 1.35)  # factors of contrast and saturation: slide film, and most cameras, make both stronger


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


def _image(x: Floats) -> Image.Image:
    return Image.fromarray(np.rint(np.clip(x, 0, 255)).astype(np.uint8))
