"""Drawn pictures and their degradations, by seed; crops of them, from which a tower learns to see. Pure.

Each picture has edges and fine texture, as blur, noise and blocks show only there. Its long side is 96 pixels, the
largest grid of the tiny model, so nothing is resized on the way to the model.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from scipy import ndimage

from ...errors import RecipeError
from ..tower import Tiles

Pixels = npt.NDArray[np.float64]  # (height, width, 3), 0..1

SIZES = ((96, 96), (72, 96), (96, 72), (64, 96), (96, 64))  # height, width
COLOURS: Mapping[str, tuple[float, float, float]] = MappingProxyType(
    {
        "red": (0.85, 0.15, 0.12),
        "green": (0.15, 0.65, 0.2),
        "blue": (0.15, 0.25, 0.85),
        "yellow": (0.92, 0.85, 0.15),
        "white": (0.95, 0.95, 0.95),
        "black": (0.05, 0.05, 0.05),
    }
)
SHAPES = ("disk", "square", "triangle")
PLACES = ("left", "middle", "right")
COUNTS = ("one", "two", "three")
SCENES = ("leaves", "texture", "shapes")
_PHASE = 8  # crops begin at multiples of it, as JPEG's blocks and the model's tiles do


@dataclass(frozen=True, eq=False)
class Drawing:
    """A pristine picture and what is known of it.

    Attributes:
        pixels: (height, width, 3), 0..1.
        scene: One of `SCENES`.
        colour: Colour of the shapes, or "" in other scenes.
        shape: Their shape, or "".
        count: How many there are, in words, or "".
        place: Where they are, or "".
    """

    pixels: Pixels
    scene: str
    colour: str = ""
    shape: str = ""
    count: str = ""
    place: str = ""


def draw(rng: np.random.Generator, scene: str | None = None) -> Drawing:
    """Draw a picture.

    Args:
        rng: Equal generators give equal pictures.
        scene: One of `SCENES`; None draws one.

    Example:
        >>> draw(np.random.default_rng(1), "shapes").pixels.shape[2]
        3
    """
    scene = scene or SCENES[rng.integers(len(SCENES))]
    if scene not in SCENES:
        raise RecipeError.about("scene", scene, f"one of {', '.join(SCENES)}")
    height, width = SIZES[rng.integers(len(SIZES))]
    if scene == "shapes":
        return _shapes(rng, height, width)
    pixels = _leaves(rng, height, width) if scene == "leaves" else _texture(rng, height, width)
    return Drawing(pixels, scene)


def _ground(rng: np.random.Generator, height: int, width: int) -> Pixels:
    """A smooth gradient between two dull colours, under faint texture."""
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[0:height, 0:width]
    ramp = np.cos(angle) * x / width + np.sin(angle) * y / height
    ramp = (ramp - ramp.min()) / np.ptp(ramp)
    ends = rng.uniform(0.3, 0.7, size=(2, 3))
    return _clip(ends[0] + ramp[..., None] * (ends[1] - ends[0]) + 0.1 * _fractal(rng, height, width)[..., None])


def _fractal(rng: np.random.Generator, height: int, width: int) -> Pixels:
    """Noise whose amplitude falls with the frequency, mean 0 and deviation 1."""
    spectrum = np.fft.rfft2(rng.standard_normal((height, width)))
    rows, cols = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    frequency = np.maximum(np.hypot(rows, cols), 1 / max(height, width))
    found = np.fft.irfft2(spectrum / frequency, s=(height, width))
    normal: Pixels = (found - found.mean()) / found.std()
    return normal


def _texture(rng: np.random.Generator, height: int, width: int) -> Pixels:
    """Stripes or checks of a random period and direction, coloured, over fractal light."""
    y, x = np.mgrid[0:height, 0:width]
    angle, period = rng.uniform(0, np.pi), rng.uniform(5, 14)
    along = np.sin((np.cos(angle) * x + np.sin(angle) * y) * 2 * np.pi / period)
    across = np.sin((np.cos(angle) * y - np.sin(angle) * x) * 2 * np.pi / period)
    pattern = np.sign(along) if rng.random() < 0.5 else np.sign(along * across)
    low, high = rng.uniform(0.1, 0.5, 3), rng.uniform(0.4, 0.9, 3)
    light = 0.08 * _fractal(rng, height, width)[..., None]
    return _clip(np.where(pattern[..., None] > 0, high, low) + light)


def _leaves(rng: np.random.Generator, height: int, width: int) -> Pixels:
    """Dead leaves: disks of all sizes that hide each other, each with a little texture."""
    pixels = _ground(rng, height, width)
    y, x = np.mgrid[0:height, 0:width]
    light = 0.05 * _fractal(rng, height, width)[..., None]
    for radius in np.sort(4 / np.sqrt(rng.uniform(0.02, 1, 70)))[::-1]:
        top, left = rng.uniform(0, height), rng.uniform(0, width)
        inside = (y - top) ** 2 + (x - left) ** 2 < radius**2
        pixels[inside] = rng.uniform(0.05, 0.95, 3)
    return _clip(pixels + light)


def _shapes(rng: np.random.Generator, height: int, width: int) -> Drawing:
    colour = list(COLOURS)[rng.integers(len(COLOURS))]
    shape = SHAPES[rng.integers(len(SHAPES))]
    count, place = int(rng.integers(1, 4)), int(rng.integers(len(PLACES)))
    pixels = _ground(rng, height, width)
    radius = min(height, width) / 8 * rng.uniform(0.9, 1.15)
    centre = width * (1 + 2 * place) / 6
    for number in range(count):
        top = height * (2 * number + 1) / (2 * count) + rng.uniform(-1, 1)
        pixels[_inside(shape, height, width, top, centre, radius)] = COLOURS[colour]
    return Drawing(pixels, "shapes", colour, shape, COUNTS[count - 1], PLACES[place])


def _inside(shape: str, height: int, width: int, top: float, left: float, radius: float) -> npt.NDArray[np.bool_]:
    y, x = np.mgrid[0:height, 0:width]
    y, x = (y - top) / radius, (x - left) / radius
    if shape == "disk":
        return np.asarray(x**2 + y**2 < 1)
    if shape == "square":
        return np.asarray(np.maximum(abs(x), abs(y)) < 0.9)
    return np.asarray((y < 0.9) & (y > 2 * abs(x) - 1))


def blur(pixels: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """Gaussian blur, sigma 0.3 to 2.3 pixels."""
    return np.asarray(ndimage.gaussian_filter(pixels, (0.3 + 2 * strength,) * 2 + (0,)))


def noise(pixels: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """White Gaussian noise, deviation 0.01 to 0.15."""
    return pixels + rng.normal(0, 0.01 + 0.14 * strength, pixels.shape)


def blocks(pixels: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """JPEG, quality 70 down to 4, in steps of equal ratio."""
    memory = io.BytesIO()
    as_image(pixels).save(memory, "JPEG", quality=round(70 * (4 / 70) ** strength))
    return np.asarray(Image.open(memory).convert("RGB"), dtype=np.float64) / 255


def fade(pixels: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """Lower contrast around the mean, down to 15 %."""
    mean = pixels.mean(axis=(0, 1))
    return np.asarray(mean + (pixels - mean) * (1 - 0.85 * strength))


def darken(pixels: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """Less light, down to 15 %."""
    return pixels * (1 - 0.85 * strength)


DEGRADATIONS: Mapping[str, Callable[[Pixels, float, np.random.Generator], Pixels]] = MappingProxyType(
    {"blur": blur, "noise": noise, "blocks": blocks, "fade": fade, "darken": darken}
)


def degrade(pixels: Pixels, kind: str, strength: float, rng: np.random.Generator) -> Pixels:
    """Degrade a picture.

    Args:
        pixels: (height, width, 3), 0..1.
        kind: A key of `DEGRADATIONS`.
        strength: 0 (barely there) to 1.
        rng: For noise.
    """
    if kind not in DEGRADATIONS:
        raise RecipeError.about("kind", kind, f"one of {', '.join(DEGRADATIONS)}")
    if not 0 <= strength <= 1:
        raise RecipeError.about("strength", strength, "a number from 0 to 1")
    return _clip(DEGRADATIONS[kind](pixels, strength, rng))


def quality(strength: float) -> float:
    """The score of a degraded picture on 1..5, higher is better: 5 without degradation, falling linearly to 1.

    Example:
        >>> quality(0.0), quality(0.25), quality(1.0)
        (5.0, 4.0, 1.0)
    """
    return 5.0 - 4.0 * strength


def as_image(pixels: Pixels) -> Image.Image:
    """An 8-bit RGB picture."""
    return Image.fromarray(np.round(_clip(pixels) * 255).astype(np.uint8))


def _clip(pixels: Pixels) -> Pixels:
    return np.asarray(np.clip(pixels, 0, 1))


_KINDS = tuple(DEGRADATIONS)


@dataclass(frozen=True, eq=False)
class Crops:
    """Crops in memory; a `train.nano.tower.Source`. The last tenth is held out.

    Attributes:
        tiles: Two crops of each picture; what is told of them is the strength of the degradation.
    """

    tiles: Tiles
    kinds: int = len(_KINDS)
    values: int = 1

    @property
    def learned(self) -> int:
        """Crops that are learned from; both crops of a picture are, or neither."""
        return len(self.tiles.kinds) - 2 * max(len(self.tiles.kinds) // 20, 1)

    def draw(self, count: int, rng: np.random.Generator) -> Tiles:
        """See `Source.draw`."""
        picks = torch.from_numpy(rng.integers(0, self.learned, count))
        return Tiles(*(part[picks] for part in self.tiles))

    def held_out(self) -> Tiles:
        """See `Source.held_out`."""
        return Tiles(*(part[self.learned :] for part in self.tiles))


def take_crops(count: int, tile: int, seed: int) -> Crops:
    """Cut crops out of freshly drawn and degraded pictures, two of each.

    Args:
        count: How many, an even number.
        tile: Their side in pixels, 64 at most.
        seed: Equal seeds give equal crops.
    """
    rng = np.random.default_rng([seed, 7])
    pixels, kinds, strengths = [], [], []
    for _ in range(count // 2):
        kind, strength = int(rng.integers(len(_KINDS))), float(rng.uniform())
        picture = degrade(draw(rng).pixels, _KINDS[kind], strength, rng)
        for _ in range(2):
            top, left = (_PHASE * rng.integers(0, (side - tile) // _PHASE + 1) for side in picture.shape[:2])
            crop = np.round(picture[top : top + tile, left : left + tile] * 255).astype(np.uint8)
            pixels.append(torch.from_numpy(crop).permute(2, 0, 1))
            kinds.append(kind)
            strengths.append(strength)
    places = torch.arange(count // 2).repeat_interleave(2)
    return Crops(Tiles(torch.stack(pixels), torch.tensor(kinds), torch.tensor(strengths).unsqueeze(1), places))
