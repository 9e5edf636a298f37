"""The fifteen artificial distortions at five severities (paper Sec. III-B1).

Kinds and parameters: D. Hendrycks and T. Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and
Perturbations", ICLR 2019 (ImageNet-C), in the form for pictures of any size of C. Michaelis et al., "Benchmarking
Robustness in Object Detection", 2019 (imagecorruptions, "common"). The paper's own variant is not published. The code
is ours, on numpy, scipy and Pillow; where it departs from the benchmark, the function says so. Throughout, values are
rounded, not cut, to 8 bits. Pictures within are (H, W, 3) in 0..1; what leaves the range is clipped at the end.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.ndimage import gaussian_filter, map_coordinates

from ..errors import DataError

Floats = npt.NDArray[np.float32]
ImageOrArray = TypeVar("ImageOrArray", Image.Image, npt.NDArray[np.uint8])

SEVERITIES = (1, 2, 3, 4, 5)
MIN_SIDE = 32

_GAUSSIAN = (0.08, 0.12, 0.18, 0.26, 0.38)  # standard deviation
_PHOTONS = (60.0, 25.0, 12.0, 5.0, 3.0)  # photons that make white
_IMPULSES = (0.03, 0.06, 0.09, 0.17, 0.27)  # share of the values that are hit


def gaussian_noise(x: Floats, severity: int, rng: np.random.Generator) -> npt.NDArray[Any]:
    """Add independent normal noise to every value."""
    return x + np.float32(_GAUSSIAN[severity - 1]) * rng.standard_normal(x.shape, dtype=np.float32)


def shot_noise(x: Floats, severity: int, rng: np.random.Generator) -> npt.NDArray[Any]:
    """Count photons: Poisson noise, stronger the fewer there are."""
    photons = _PHOTONS[severity - 1]
    return rng.poisson(x * photons) / photons


def impulse_noise(x: Floats, severity: int, rng: np.random.Generator) -> npt.NDArray[Any]:
    """Set some values, each channel for itself, to black or white (salt and pepper)."""
    drawn = rng.random(x.shape, dtype=np.float32)
    share = _IMPULSES[severity - 1]
    return np.where(drawn < share, np.where(drawn < share / 2, 0, 1), x)


_DISKS = ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5))  # radius, sigma that softens the rim
_GLASS = ((0.7, 1, 2), (0.9, 2, 1), (1.0, 2, 3), (1.1, 3, 2), (1.5, 4, 2))  # sigma, farthest step, rounds
_MOTION = ((10, 3.0), (15, 5.0), (15, 8.0), (15, 12.0), (20, 15.0))  # radius, sigma along the path
_ZOOMS = ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03))  # end, step


def defocus_blur(x: Floats, severity: int, rng: np.random.Generator) -> npt.NDArray[Any]:
    """Spread every point over a disk, as a lens out of focus does."""
    from scipy.signal import oaconvolve

    kernel = _disk(*_DISKS[severity - 1])
    margin = kernel.shape[0] // 2
    padded = np.pad(x, ((margin, margin), (margin, margin), (0, 0)), mode="reflect")
    return np.asarray(oaconvolve(padded, kernel[..., np.newaxis], mode="valid", axes=(0, 1)))


def glass_blur(x: Floats, severity: int, rng: np.random.Generator) -> npt.NDArray[Any]:
    """Shuffle points locally between two light blurs, as frosted glass does.

    The benchmark walks over the points one after the other and changes them in place, half a pixel more to one side.
    Here, in each round, all points at once take the value of a random neighbour up to the farthest step away.
    """
    sigma, reach, rounds = _GLASS[severity - 1]
    blurred = _soft(x, sigma)
    rows, columns = np.arange(x.shape[0])[:, np.newaxis], np.arange(x.shape[1])
    for _ in range(rounds):
        moved = rng.integers(-reach, reach + 1, size=(2, *x.shape[:2]))
        here = np.clip(rows + moved[0], 0, x.shape[0] - 1), np.clip(columns + moved[1], 0, x.shape[1] - 1)
        blurred = blurred[here]
    return _soft(blurred, sigma)


def motion_blur(x: Floats, severity: int, rng: np.random.Generator) -> npt.NDArray[Any]:
    """Drag every point along a line that is up to 45 degrees from the horizontal."""
    radius, sigma = _MOTION[severity - 1]
    return drag(x, radius, sigma, rng.uniform(-45, 45))


def zoom_blur(x: Floats, severity: int, rng: np.random.Generator) -> npt.NDArray[Any]:
    """Average the picture with enlargements of its middle, as a lens that zooms during the exposure does."""
    end, step = _ZOOMS[severity - 1]
    factors = np.arange(1, end, step)
    picture = as_picture(x)
    total = x.copy()
    for factor in factors:
        total += np.asarray(_enlarged(picture, float(factor)), dtype=np.float32) / 255
    return total / (len(factors) + 1)


def drag(x: Floats, radius: int, sigma: float, angle: float) -> Floats:
    """Blur along a line on one side of each point, with weights that fall off as a normal density.

    Args:
        x: (H, W) or (H, W, C).
        radius: The line has `2 * radius + 1` points.
        sigma: Of the weights, in points.
        angle: Direction in degrees, 0 is horizontal.

    Returns:
        The same shape; the border is continued outward (the benchmark loses light there in small pictures).
    """
    steps = np.arange(2 * radius + 1)
    weights = np.exp(-(steps**2) / (2 * sigma**2))
    weights /= weights.sum()
    down = -np.ceil(steps * math.sin(math.radians(angle)) - 0.5).astype(int)
    right = -np.ceil(steps * math.cos(math.radians(angle)) - 0.5).astype(int)
    margin = len(steps)
    border = [(margin, margin)] * 2 + [(0, 0)] * (x.ndim - 2)
    padded = np.pad(x, border, mode="edge")
    blurred = np.zeros_like(x)
    for weight, row, column in zip(weights, margin - down, margin - right, strict=True):
        blurred += np.float32(weight) * padded[row : row + x.shape[0], column : column + x.shape[1]]
    return blurred


def _soft(x: Floats, sigma: float) -> Floats:
    return np.asarray(gaussian_filter(x, (sigma, sigma, 0), mode="nearest"))


def _disk(radius: int, softness: float) -> Floats:
    half = max(radius, 8) + 2
    grid = np.arange(-half, half + 1)
    inside = (grid[:, np.newaxis] ** 2 + grid**2 <= radius**2).astype(np.float32)
    rim = gaussian_filter(inside, softness, radius=1 if radius <= 8 else 2)
    return np.asarray(rim / rim.sum())


def _enlarged(picture: Image.Image, factor: float) -> Image.Image:
    width, height = picture.size
    left, top = (width - width / factor) / 2, (height - height / factor) / 2
    return picture.resize(picture.size, Image.Resampling.BILINEAR, box=(left, top, width - left, height - top))


# mean, deviation, size and threshold of the flakes; radius and sigma of their fall; what is left of the picture
_SNOW = (
    (0.1, 0.3, 3.0, 0.5, 10, 4.0, 0.8),
    (0.2, 0.3, 2.0, 0.5, 12, 4.0, 0.7),
    (0.55, 0.3, 4.0, 0.9, 12, 8.0, 0.7),
    (0.55, 0.3, 4.5, 0.85, 12, 8.0, 0.65),
    (0.55, 0.3, 2.5, 0.85, 12, 12.0, 0.55),
)
_FROST = ((1.0, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75))  # weights of the picture and of the ice
_FOG = ((1.5, 2.0), (2.0, 2.0), (2.5, 1.7), (2.5, 1.5), (3.0, 1.4))  # strength, decay of the fractal
LUMA = np.array((0.299, 0.587, 0.114), dtype=np.float32)
_ICE = np.array((0.86, 0.95, 1.0), dtype=np.float32)  # colour of bright ice
_ICE_SIDE = 640  # larger pictures get this ice enlarged, as the benchmark enlarges its photographs


def snow(x: Floats, severity: int, rng: np.random.Generator) -> npt.NDArray[Any]:
    """Pale the picture and let flakes fall over it."""
    mean, deviation, size, threshold, radius, sigma, rest = _SNOW[severity - 1]
    height, width = x.shape[:2]
    small = rng.normal(mean, deviation, (math.ceil(height / size), math.ceil(width / size)))
    flakes = _resized(small, (height, width))
    flakes = np.clip(np.where(flakes < threshold, 0, flakes), 0, 1).astype(np.float32)
    flakes = drag(flakes, radius, sigma, rng.uniform(-135, -45))[..., np.newaxis]
    pale = np.maximum(x, (x @ LUMA)[..., np.newaxis] * 1.5 + 0.5)
    return np.asarray(rest * x + (1 - rest) * pale + flakes + np.rot90(flakes, 2))


def frost(x: Floats, severity: int, rng: np.random.Generator) -> npt.NDArray[Any]:
    """Lay ice over the picture.

    The benchmark blends in one of six photographs of ice. We ship no photographs: the ice is drawn, with the same
    weights, as needles in the six directions of a crystal over a crust that follows a slow fractal.
    """
    kept, added = _FROST[severity - 1]
    height, width = x.shape[:2]
    share = min(1.0, _ICE_SIDE / max(height, width))
    ice = _ice(max(1, round(height * share)), max(1, round(width * share)), rng)
    return kept * x + added * _resized(ice, (height, width))[..., np.newaxis] * _ICE


def fog(x: Floats, severity: int, rng: np.random.Generator) -> npt.NDArray[Any]:
    """Add a cloudy fractal and darken the sum back to the picture's range."""
    strength, decay = _FOG[severity - 1]
    brightest = float(x.max())
    clouds = plasma(x.shape[0], x.shape[1], decay, rng)[..., np.newaxis]
    return (x + strength * clouds) * (brightest / (brightest + strength))


def plasma(height: int, width: int, decay: float, rng: np.random.Generator) -> Floats:
    """A fractal height map in 0..1 by the diamond-square algorithm on a torus.

    Args:
        height: Of the map.
        width: Of the map.
        decay: The random part shrinks by the square of this at each halving of the step; more is smoother.
        rng: Random numbers.
    """
    size = 1 << (max(height, width) - 1).bit_length()
    field = np.zeros((size, size), dtype=np.float32)
    step, amplitude = size, 1.0
    while step > 1:
        half = step // 2
        corners = field[::step, ::step]
        middles = _mean_of(corners, np.roll(corners, -1, 0), np.roll(corners, -1, 1), np.roll(corners, -1, (0, 1)))
        field[half::step, half::step] = middles + _wobble(middles, amplitude, rng)
        middles = field[half::step, half::step]
        above = _mean_of(corners, np.roll(corners, -1, 1), middles, np.roll(middles, 1, 0))
        beside = _mean_of(corners, np.roll(corners, -1, 0), middles, np.roll(middles, 1, 1))
        field[::step, half::step] = above + _wobble(above, amplitude, rng)
        field[half::step, ::step] = beside + _wobble(beside, amplitude, rng)
        step, amplitude = half, amplitude / decay**2
    field -= field.min()
    return np.asarray((field / field.max())[:height, :width])


def _mean_of(*fields: Floats) -> Floats:
    return np.asarray(sum(fields[1:], fields[0]) / len(fields))


def _wobble(like: Floats, amplitude: float, rng: np.random.Generator) -> Floats:
    return (amplitude * rng.uniform(-1, 1, like.shape)).astype(np.float32)


def _ice(height: int, width: int, rng: np.random.Generator) -> Floats:
    """(H, W) in 0..1: long and short needles over a crust that is thick in some places and thin in others."""
    turn = rng.uniform(0, 60)
    long = max(6, min(height, width) // 8)
    needles = np.maximum(_needles(height, width, long, turn, rng), 0.7 * _needles(height, width, long // 3, turn, rng))
    crust = gaussian_filter(rng.random((height, width), dtype=np.float32), 0.7)
    thick = np.clip(2 * plasma(height, width, 1.5, rng) - 0.4, 0, 1)
    ice = thick * (0.45 + 0.35 * crust) + (0.3 + 0.7 * thick) * needles
    return np.asarray(np.clip(ice, 0, 1))


def _needles(height: int, width: int, reach: int, turn: float, rng: np.random.Generator) -> Floats:
    """(H, W) in 0..1: strokes that fade along their length, in the six directions in which ice grows."""
    drawn: Floats = np.zeros((height, width), dtype=np.float32)
    for angle in range(0, 360, 60):
        seeds = rng.random((height, width), dtype=np.float32)
        share = np.float32(1.5 / reach**2)
        strokes = drag(np.where(seeds < share, seeds / share, 0), reach, reach / 1.5, turn + angle)
        drawn = np.maximum(drawn, gaussian_filter(strokes, 0.4))
    return np.asarray(drawn / max(float(drawn.max()), 1e-6))


def _resized(field: npt.NDArray[Any], shape: tuple[int, int]) -> Floats:
    picture = Image.fromarray(field.astype(np.float32))
    return np.asarray(picture.resize((shape[1], shape[0]), Image.Resampling.BILINEAR))


_BRIGHTER = (0.1, 0.2, 0.3, 0.4, 0.5)  # added to the value of HSV
_CONTRASTS = (0.4, 0.3, 0.2, 0.1, 0.05)  # share of the contrast that is left
_ELASTIC = (12.5, 16.25, 21.25, 25.0, 30.0)  # gain on the smoothed random field
_PIXELATE = (0.6, 0.5, 0.4, 0.3, 0.25)  # share of the sides that is left
_QUALITIES = (25, 18, 15, 10, 7)  # of the JPEG encoder


def brightness(x: Floats, severity: int, rng: np.random.Generator) -> npt.NDArray[Any]:
    """Raise the value of HSV; hue and saturation stay."""
    value = x.max(axis=2, keepdims=True)
    raised = np.clip(value + _BRIGHTER[severity - 1], 0, 1)
    return np.asarray(np.where(value > 0, x * raised / np.where(value > 0, value, 1), raised))


def contrast(x: Floats, severity: int, rng: np.random.Generator) -> npt.NDArray[Any]:
    """Draw every channel towards its mean."""
    mean = x.mean(axis=(0, 1), keepdims=True)
    return np.asarray((x - mean) * _CONTRASTS[severity - 1] + mean)


def elastic_transform(x: Floats, severity: int, rng: np.random.Generator) -> npt.NDArray[Any]:
    """Warp the picture along a smooth random field."""
    shape = x.shape[:2]
    sigma = (shape[0] * 0.01, shape[1] * 0.01)
    far = shape[0] * 0.005
    fields = rng.uniform(-far, far, (2, *shape))
    moved = [gaussian_filter(field, sigma, mode="reflect", truncate=3) * _ELASTIC[severity - 1] for field in fields]
    places = np.indices(shape) + np.stack(moved)
    channels = [map_coordinates(x[..., c], places, order=1, mode="reflect") for c in range(x.shape[2])]
    return np.stack(channels, axis=2)


def pixelate(x: Floats, severity: int, rng: np.random.Generator) -> npt.NDArray[Any]:
    """Shrink the picture by averaging and enlarge it again without smoothing."""
    height, width = x.shape[:2]
    share = _PIXELATE[severity - 1]
    small = as_picture(x).resize((int(width * share), int(height * share)), Image.Resampling.BOX)
    return as_floats(small.resize((width, height), Image.Resampling.NEAREST))


def jpeg_compression(x: Floats, severity: int, rng: np.random.Generator) -> npt.NDArray[Any]:
    """Encode as JPEG and decode."""
    stream = io.BytesIO()
    as_picture(x).save(stream, "JPEG", quality=_QUALITIES[severity - 1])
    with Image.open(stream) as decoded:
        return as_floats(decoded.convert("RGB"))


def as_picture(x: Floats) -> Image.Image:
    """The 8-bit picture of values in 0..1."""
    return Image.fromarray(np.rint(x * 255).astype(np.uint8))


def as_floats(picture: Image.Image) -> Floats:
    """The values of an 8-bit picture, in 0..1."""
    return np.asarray(picture, dtype=np.float32) / np.float32(255)


_FUNCTIONS: Mapping[str, Callable[[Floats, int, np.random.Generator], npt.NDArray[Any]]] = MappingProxyType(
    {
        "gaussian_noise": gaussian_noise,
        "shot_noise": shot_noise,
        "impulse_noise": impulse_noise,
        "defocus_blur": defocus_blur,
        "glass_blur": glass_blur,
        "motion_blur": motion_blur,
        "zoom_blur": zoom_blur,
        "snow": snow,
        "frost": frost,
        "fog": fog,
        "brightness": brightness,
        "contrast": contrast,
        "elastic_transform": elastic_transform,
        "pixelate": pixelate,
        "jpeg_compression": jpeg_compression,
    }
)
CORRUPTIONS = tuple(_FUNCTIONS)


def corrupt(image: ImageOrArray, kind: str, severity: int, seed: int = 0) -> ImageOrArray:
    """Distort a picture in one of fifteen ways.

    Args:
        image: A PIL picture in mode "RGB", or an array (H, W, 3) of uint8; both sides 32 pixels or more.
        kind: One of `CORRUPTIONS`.
        severity: 1 (mild) to 5 (strong).
        seed: Any whole number of 0 or more. Equal arguments give equal pictures; the severities of one seed share
            their random pattern.

    Returns:
        A new picture of the same type and size.

    Raises:
        DataError: An unknown kind, a severity or seed off its range, or a picture of another form or too small.

    Example:
        >>> grey = np.full((32, 48, 3), 128, dtype=np.uint8)
        >>> bright = corrupt(grey, "brightness", 3)
        >>> bright.shape, int(bright.max())
        ((32, 48, 3), 205)

    Reference:
        Hendrycks and Dietterich, arXiv 1903.12261; Michaelis et al., arXiv 1907.07484.
    """
    if kind not in _FUNCTIONS:
        raise DataError.about("kind", kind, f"one of {', '.join(CORRUPTIONS)}")
    if isinstance(severity, bool) or severity not in SEVERITIES:
        raise DataError.about("severity", severity, "a whole number from 1 to 5")
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise DataError.about("seed", seed, "a whole number of 0 or more")
    pixels = checked_pixels(image)
    rng = np.random.default_rng([int(seed), CORRUPTIONS.index(kind)])
    unit = _FUNCTIONS[kind](pixels.astype(np.float32) / np.float32(255), int(severity), rng)
    changed: npt.NDArray[np.uint8] = np.rint(np.clip(unit, 0, 1) * 255).astype(np.uint8)
    return Image.fromarray(changed) if isinstance(image, Image.Image) else changed


def checked_pixels(image: object) -> npt.NDArray[np.uint8]:
    """The (H, W, 3) pixels of a picture or an array.

    Raises:
        DataError: Another form, or a side below 32 pixels.
    """
    if isinstance(image, Image.Image):
        if image.mode != "RGB":
            raise DataError.about("image", f"<mode {image.mode}>", "mode RGB", "Call image.convert('RGB') first.")
        array: npt.NDArray[Any] = np.asarray(image)
    elif isinstance(image, np.ndarray):
        array = image
    else:
        raise DataError.about("image", f"<{type(image).__name__}>", "a PIL picture or an array (H, W, 3) of uint8")
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
        raise DataError.about("image", f"<{array.dtype} array {array.shape}>", "uint8 and shape (H, W, 3)")
    if min(array.shape[:2]) < MIN_SIDE:
        size = f"<{array.shape[1]}x{array.shape[0]} pixels>"
        raise DataError.about("image", size, f"sides of {MIN_SIDE} pixels or more")
    return np.asarray(array)
