"""The photographs that scikit-image and scikit-learn bring along, with their licences; crops and scenes made of them.

Only files that lie in the installed packages are used (nothing is fetched), and only those whose licence the packages
state: `skimage/data/_fetchers.py` (scikit-image 0.24 to 0.26), `sklearn/datasets/images/README.txt` (scikit-learn 1.9).
Left out: the moon, the page, the motorcycle (no licence stated), the clock (blurred), and what is no photograph or too
small.

A scene puts parts of photographs together, at different depths: sharp things before what is out of focus. Few
photographs are at hand. Their textures in other colours and light, cut into other forms, and above all the plain,
unsharp regions that every photograph with a near subject has, keep a model from taking each of these for a fault.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from ...data.corruptions import Floats
from ...errors import DataError
from .drawings import fractal

Split = Literal["train", "held_out"]

# Dark and light ends of a tint, for photographs without colour: a grey picture looks like one whose colour is gone.
_TINTS = (
    ((0.10, 0.07, 0.04), (1.00, 0.93, 0.80)),
    ((0.03, 0.08, 0.02), (0.86, 1.00, 0.66)),
    ((0.02, 0.05, 0.12), (0.82, 0.93, 1.00)),
    ((0.14, 0.04, 0.02), (1.00, 0.80, 0.66)),
    ((0.06, 0.03, 0.10), (1.00, 0.86, 0.92)),
    ((0.00, 0.08, 0.09), (0.95, 0.95, 0.78)),
)
SMALLEST = (384, 256)
"""(width, height) of a crop that every photograph is large enough for."""
_FOCUS = (1.5, 9.0)  # deviation of the blur of what is far away, in pixels
_UNFOCUSED = 0.7  # share of pictures whose background is out of focus
_MOST_THINGS = 3
_COARSE = 48  # side of the noise that soft borders follow


@dataclass(frozen=True)
class Photograph:
    """A photograph that a package brings along.

    Attributes:
        file: Its name in the package's folder of pictures.
        subject: What it shows, to be named in an answer; with its article.
        kind: Kind of subject, a key of `pictures.KINDS`.
        licence: As the package states it.
        author: Who made or gave it.
        width: In pixels.
        height: In pixels.
        split: "train", or "held_out" for those that are never trained on.
        turnable: Whether it has no up and down, so that quarter turns are natural.
        least: Largest share of its size at which it is sharp.
        text: Whether there is writing in it.
        package: Module that brings it along, a key of `PACKAGES`.
    """

    file: str
    subject: str
    kind: str
    licence: str
    author: str
    width: int
    height: int
    split: Split = "train"
    turnable: bool = False
    least: float = 1.0
    text: bool = False
    package: str = "skimage"


PACKAGES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {"skimage": ("scikit-image", "data"), "sklearn": ("scikit-learn", "datasets/images")}
)
"""Distribution that holds each module, and where in the module its pictures lie."""

_PUBLIC = "No known copyright restrictions, public domain"
PHOTOGRAPHS: Mapping[str, Photograph] = MappingProxyType(
    {
        "astronaut": Photograph(
            "astronaut.png", "an astronaut", "person", _PUBLIC, "NASA", 512, 512, text=True
        ),
        "brick": Photograph("brick.png", "a brick wall", "texture", "CC0", "CC0Textures", 512, 512, turnable=True),
        "camera": Photograph("camera.png", "a man with a camera", "person", "CC0", "Lav Varshney", 512, 512),
        "chelsea": Photograph("chelsea.png", "a cat", "animal", "CC0", "Stefan van der Walt", 451, 300),
        "china": Photograph(
            "china.jpg", "an old palace", "building", "CC BY 2.0", "danielbuechele (Flickr)",
            640, 427, package="sklearn",
        ),
        "coffee": Photograph("coffee.png", "a cup of coffee", "object", "CC0", "Rachel Michetti", 600, 400),
        "coins": Photograph(
            "coins.png", "old coins", "object", "No known copyright restrictions", "Brooklyn Museum",
            384, 303, "held_out",
        ),
        "flower": Photograph(
            "flower.jpg", "a flower in bloom", "flower", "CC BY 2.0", "vultilion (Flickr)",
            640, 427, turnable=True, package="sklearn",
        ),
        "grass": Photograph("grass.png", "grass", "texture", "CC0", "linolafett", 512, 512, turnable=True),
        "gravel": Photograph(
            "gravel.png", "gravel", "texture", "CC0", "CC0Textures", 512, 512, "held_out", turnable=True
        ),
        "hubble": Photograph(
            "hubble_deep_field.jpg", "stars and galaxies", "sky", "Public domain", "NASA", 1000, 872,
            turnable=True, least=0.8,
        ),
        "ihc": Photograph(
            "ihc.png", "stained tissue under a microscope", "texture", "No known copyright restrictions", "CMMI",
            512, 512, turnable=True,
        ),
        "retina": Photograph(
            "retina.jpg", "the back of an eye", "eye", "CC0", "Mikael Häggström",
            1411, 1411, least=0.5,
        ),
        "rocket": Photograph(
            "rocket.jpg", "a rocket before its launch", "object", _PUBLIC, "SpaceX", 640, 427, "held_out"
        ),
    }
)  # fmt: skip


def names(split: Split, size: tuple[int, int] | None = None) -> list[str]:
    """Photographs of a split, in order.

    Args:
        split: "train" or "held_out".
        size: (width, height) of a crop that they must be large enough for; None is any.
    """
    found = [name for name, one in PHOTOGRAPHS.items() if one.split == split]
    return [name for name in found if size is None or fits(PHOTOGRAPHS[name], size)]


def fits(photograph: Photograph, size: tuple[int, int]) -> bool:
    """Whether a crop of this size needs no enlarging; an enlarged photograph would not be sharp."""
    width, height = photograph.width * photograph.least, photograph.height * photograph.least
    wide, high = size
    return (wide <= width and high <= height) or (photograph.turnable and wide <= height and high <= width)


def load(name: str) -> Image.Image:
    """A whole photograph in mode RGB.

    Raises:
        DataError: An unknown name, or the file is not in the installed package.
    """
    if name not in PHOTOGRAPHS:
        raise DataError.about("photograph", name, f"one of {', '.join(PHOTOGRAPHS)}")
    return _read(name).copy()


def crop(name: str, size: tuple[int, int], rng: np.random.Generator) -> Image.Image:
    """A part of a photograph at a random scale, perhaps mirrored or (where natural) turned, in slightly other light.

    Args:
        name: One of `PHOTOGRAPHS`.
        size: (width, height) of the result.
        rng: Equal generators give equal crops.

    Raises:
        DataError: An unknown name, or the photograph is too small.
    """
    image, one = load(name), PHOTOGRAPHS[name]
    if not fits(one, size):
        raise DataError.about("size", size, f"a part of {one.width}x{one.height} pixels times {one.least}")
    # Turned before the crop: the turned photograph must hold it, too.
    turns = [turn for turn in range(4) if turn == 0 or one.turnable]
    held = [t for t in turns if _holds(image.size[:: -1 if t % 2 else 1], size, one.least)]
    image = image.rotate(90 * held[rng.integers(len(held))], expand=True)
    if rng.random() < 0.5 and not one.text:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    most = min(image.width / size[0], image.height / size[1])
    share = float(np.exp(rng.uniform(-np.log(one.least), np.log(most))))  # source pixels per pixel
    wide, high = min(size[0] * share, image.width), min(size[1] * share, image.height)
    left, top = rng.uniform(0, image.width - wide), rng.uniform(0, image.height - high)
    if most == 1:
        left, top = float(int(left)), float(int(top))
    part = image.resize(size, Image.Resampling.LANCZOS, box=(left, top, left + wide, top + high))
    return _other_light(part, name, rng)


def _holds(whole: tuple[int, ...], part: tuple[int, int], least: float) -> bool:
    return part[0] <= whole[0] * least and part[1] <= whole[1] * least


def restyled(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """The same picture in clearly other colours, tone and contrast, all of them such as photographs have.

    Args:
        image: Mode RGB.
        rng: Equal generators give equal pictures.
    """
    angle, saturation = rng.normal(0, 0.6), np.exp(rng.normal(-0.05, 0.3))
    image = image.convert("RGB", tuple(_turned_hues(angle, saturation).ravel().tolist()))
    gamma, depth = np.exp(rng.normal(0, 0.35)), rng.uniform(-0.15, 0.45)
    low, high = rng.uniform(0, 0.06), rng.uniform(0.9, 1.06)
    tones = np.linspace(0, 1, 256) ** gamma
    tones = tones + depth * tones * (1 - tones) * (2 * tones - 1) * 2  # an S where the depth is above 0
    table = np.rint(np.clip(low + (high - low) * tones, 0, 1) * 255).astype(int).tolist()
    return image.point(table * 3)


def _turned_hues(angle: float, saturation: float) -> Floats:
    """(3, 4) matrix that turns the colours around grey and multiplies their distance from it."""
    to_yiq = np.array(((0.299, 0.587, 0.114), (0.596, -0.274, -0.322), (0.211, -0.523, 0.312)))
    cos, sin = saturation * np.cos(angle), saturation * np.sin(angle)
    turn = np.linalg.inv(to_yiq) @ np.array(((1, 0, 0), (0, cos, -sin), (0, sin, cos))) @ to_yiq
    return np.asarray(np.concatenate([turn, np.zeros((3, 1))], axis=1), dtype=np.float32)


def _other_light(image: Image.Image, name: str, rng: np.random.Generator) -> Image.Image:
    """Change tone and tint slightly; photographs without colour get one."""
    tones = np.repeat(np.linspace(0, 1, 256)[:, np.newaxis], 3, axis=1)
    if _is_grey(name):
        dark, light = (np.array(end) for end in _TINTS[rng.integers(len(_TINTS))])
        tones = dark + (light - dark) * tones
    tones = tones ** np.exp(rng.uniform(-0.15, 0.15)) * rng.uniform(0.95, 1.05, 3)
    return image.point(np.rint(np.clip(tones, 0, 1) * 255).astype(int).T.ravel().tolist())


def _is_grey(name: str) -> bool:
    return name in ("brick", "camera", "coins", "grass", "gravel")


@cache
def _read(name: str) -> Image.Image:
    one = PHOTOGRAPHS[name]
    distribution, folder = PACKAGES[one.package]
    found = importlib.util.find_spec(one.package)
    path = Path((found and found.origin) or one.package).parent / folder / one.file
    if not path.is_file():
        hint = "Install the train extra: pip install 'qsit-metric[train]'."
        raise DataError.about("photograph", name, f"the file {path.name} in the installed {distribution}", hint)
    with Image.open(path) as image:
        return image.convert("RGB")


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
    found = names(split, size) or names(split, SMALLEST)
    name = found[rng.integers(len(found))]
    part = restyled(crop(name, size if fits(PHOTOGRAPHS[name], size) else SMALLEST, rng), rng)
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
    """Draw the mask of a thing: a closed line of some waves around a centre, or what lies below a rough horizon."""
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
    """Lay light over the picture that changes slowly."""
    field: Floats = fractal(rng, _COARSE, _COARSE, 1.8) * np.float32(rng.uniform(0, 0.12))
    light = Image.fromarray(np.clip(np.rint(215 * (1 + field)), 0, 255).astype(np.uint8))
    wide = light.resize(image.size, Image.Resampling.BICUBIC)
    return ImageChops.multiply(image, Image.merge("RGB", (wide, wide, wide)))
