"""The functions behind KADID-10k's 25 degradations; `kadid` has names and strengths. Pictures are (H, W, 3) in 0..1.

The noise of all strengths is one pattern, multiplied; so levels of one seed differ in strength only. They move the same
pixels in the same directions, and more patches and squares come on top of the earlier.
"""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from ...data.corruptions import LUMA, Floats, as_floats, as_picture

# RGB of Y, Cb and Cr in the video range of BT.601, all in units of 255.
_FROM_YCBCR = np.array(((1.1644, 0.0, 1.5960), (1.1644, -0.3918, -0.8130), (1.1644, 2.0172, 0.0)), dtype=np.float32)


def white_noise(x: Floats, variance: float, rng: np.random.Generator) -> npt.NDArray[Any]:
    """Add independent normal noise to every value."""
    return x + _normal(x, variance, rng)


def white_noise_color_component(x: Floats, variance: float, rng: np.random.Generator) -> npt.NDArray[Any]:
    """Add independent normal noise to Y, Cb and Cr; the way there and back is linear."""
    return np.asarray(x + _normal(x, variance, rng) @ _FROM_YCBCR.T)


def impulse_noise(x: Floats, density: float, rng: np.random.Generator) -> npt.NDArray[Any]:
    """Set some values, each channel for itself, to black or white."""
    drawn, white = rng.random(x.shape, dtype=np.float32), rng.random(x.shape, dtype=np.float32) < 0.5
    return np.where(drawn < density, white.astype(np.float32), x)


def multiplicative_noise(x: Floats, variance: float, rng: np.random.Generator) -> npt.NDArray[Any]:
    """Multiply every value by a uniform factor around 1."""
    reach = np.float32(math.sqrt(12 * variance))
    return np.asarray(x * (1 + reach * (rng.random(x.shape, dtype=np.float32) - np.float32(0.5))))


def denoise(x: Floats, variance: float, rng: np.random.Generator) -> npt.NDArray[Any]:
    """Add normal noise and remove it again, by non-local means; the generator has a network (DnCNN) for that."""
    from skimage.restoration import denoise_nl_means

    sigma = math.sqrt(variance)
    noisy = np.clip(x + _normal(x, variance, rng), 0, 1)
    return np.asarray(
        denoise_nl_means(
            noisy, patch_size=3, patch_distance=4, h=0.8 * sigma, sigma=sigma, fast_mode=True, channel_axis=2
        )
    )


def _normal(x: Floats, variance: float, rng: np.random.Generator) -> Floats:
    return np.float32(math.sqrt(variance)) * rng.standard_normal(x.shape, dtype=np.float32)


def gaussian_blur(x: Floats, sigma: float, rng: np.random.Generator) -> npt.NDArray[Any]:
    """Blur with a normal density; sigma in pixels."""
    return convolve(x, gaussian(sigma))


def lens_blur(x: Floats, radius: float, rng: np.random.Generator) -> npt.NDArray[Any]:
    """Spread every point over a disk with a soft rim; radius in pixels."""
    return convolve(x, disk(radius))


def motion_blur(x: Floats, length: float, rng: np.random.Generator) -> npt.NDArray[Any]:
    """Drag every point along a line of a length in pixels, centred on it, in a random direction."""
    return convolve(x, line(length, rng.uniform(0, 180)))


def convolve(x: Floats, kernel: Floats) -> Floats:
    """Convolve each channel, by FFT; the border is continued outward.

    Args:
        x: (H, W, C).
        kernel: Odd sides; sums to 1.
    """
    from scipy import fft

    rows, columns = kernel.shape[0] // 2, kernel.shape[1] // 2
    padded = np.pad(x, ((rows, rows), (columns, columns), (0, 0)), mode="edge")
    # Circular wrap falls into the margin, which is cut off.
    shape = [fft.next_fast_len(side, real=True) for side in padded.shape[:2]]
    spectrum = fft.rfft2(padded, shape, axes=(0, 1)) * fft.rfft2(kernel, shape)[..., np.newaxis]
    found = fft.irfft2(spectrum, shape, axes=(0, 1))
    return np.asarray(found[2 * rows : 2 * rows + x.shape[0], 2 * columns : 2 * columns + x.shape[1]])


def gaussian(sigma: float) -> Floats:
    """A square kernel out to three sigma and more."""
    reach = max(1, math.ceil(3.5 * sigma))
    steps = np.arange(-reach, reach + 1)
    profile = np.exp(-(steps**2) / (2 * sigma**2))
    return _unit(np.outer(profile, profile))


def disk(radius: float) -> Floats:
    """A disk whose rim pixels weigh about what of them lies inside."""
    reach = math.ceil(radius)
    steps = np.arange(-reach, reach + 1)
    return _unit(np.clip(radius + 0.5 - np.hypot(steps[:, np.newaxis], steps), 0, 1))


def line(length: float, angle: float) -> Floats:
    """A line one pixel wide; a length of 1 is a point. The angle is in degrees, 0 is horizontal."""
    half = (length - 1) / 2
    reach = max(1, math.ceil(half + 1))
    steps = np.arange(-reach, reach + 1)
    down, right = math.sin(math.radians(angle)), math.cos(math.radians(angle))
    along = np.clip(steps[:, np.newaxis] * down + steps * right, -half, half)
    distance = np.hypot(steps[:, np.newaxis] - along * down, steps - along * right)
    return _unit(np.clip(1 - distance, 0, 1))


def _unit(kernel: npt.NDArray[Any]) -> Floats:
    return np.asarray(kernel / kernel.sum(), dtype=np.float32)


_PALETTE_SIDE = 128  # the palette is chosen on a picture of this size: the time is in the choice


def color_quantization(x: Floats, colours: float, rng: np.random.Generator) -> npt.NDArray[Any]:
    """Leave a number of colours, chosen by median cut and k-means, and dither (Floyd-Steinberg) between them."""
    picture = as_picture(x)
    small = picture.copy()
    small.thumbnail((_PALETTE_SIDE, _PALETTE_SIDE), Image.Resampling.NEAREST)
    palette = small.quantize(round(colours), Image.Quantize.MEDIANCUT, kmeans=1)
    return as_floats(picture.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG).convert("RGB"))


def jpeg2000(x: Floats, ratio: float, rng: np.random.Generator) -> npt.NDArray[Any]:
    """Encode as JPEG 2000 at a compression ratio and decode."""
    options = {"quality_mode": "rates", "quality_layers": [ratio], "irreversible": True}
    return _recoded(x, "JPEG2000", options)


def jpeg(x: Floats, quality: float, rng: np.random.Generator) -> npt.NDArray[Any]:
    """Encode as JPEG at a quality, rounded, and decode."""
    return _recoded(x, "JPEG", {"quality": round(quality)})


def pixelate(x: Floats, strength: float, rng: np.random.Generator) -> npt.NDArray[Any]:
    """Shrink by the factor 0.95 - strength^0.6 and enlarge again, both by the nearest pixel."""
    share = 0.95 - strength**0.6
    rows, columns = (_there_and_back(side, max(1, int(side * share))) for side in x.shape[:2])
    return x[rows[:, np.newaxis], columns]


def quantization(x: Floats, levels: float, rng: np.random.Generator) -> npt.NDArray[Any]:
    """Leave a number of values; thresholds by Otsu's criterion on the grey picture, the same for all channels."""
    grey = np.rint(x @ LUMA * 255).astype(np.intp)
    table = otsu_values(np.bincount(grey.ravel(), minlength=256)[:256], round(levels))
    return (table / np.float32(255))[np.rint(x * 255).astype(np.intp)]


def otsu_values(histogram: npt.NDArray[Any], classes: int) -> Floats:
    """Split 256 values into classes of least variance within, exactly; scikit-image's own is slow above five.

    Args:
        histogram: How often each value occurs.
        classes: How many.

    Returns:
        (256,): for each value the mean of its class.

    Reference:
        N. Otsu, 1979; the dynamic programme for several thresholds is that of W. Fisher, 1958.
    """
    # A trace of every value keeps the classes from being empty.
    weights = np.concatenate(([0.0], np.cumsum(histogram + 1e-6 * max(1, histogram.sum()))))
    sums = np.concatenate(([0.0], np.cumsum((histogram + 1e-6 * max(1, histogram.sum())) * np.arange(256))))
    weight = weights[np.newaxis, :] - weights[:, np.newaxis]
    total = sums[np.newaxis, :] - sums[:, np.newaxis]
    gain = np.where(weight > 0, total**2 / np.where(weight > 0, weight, 1), -np.inf)  # of a class from i up to j
    best, starts = gain[0], []
    for _ in range(classes - 1):
        candidates = best[:, np.newaxis] + gain
        starts.append(candidates.argmax(axis=0))
        best = candidates.max(axis=0)
    return _class_means(starts, total, weight)


def _class_means(starts: list[npt.NDArray[Any]], total: npt.NDArray[Any], weight: npt.NDArray[Any]) -> Floats:
    values: Floats = np.zeros(256, dtype=np.float32)
    end = 256
    for found in [*reversed(starts), np.zeros(257, dtype=np.intp)]:
        begin = int(found[end])
        values[begin:end] = total[begin, end] / weight[begin, end]
        end = begin
    return values


def _there_and_back(side: int, small: int) -> npt.NDArray[np.intp]:
    """The source of each pixel, once a side was shrunk and enlarged again."""
    nearest = np.minimum(((np.arange(small) + 0.5) * side / small).astype(np.intp), side - 1)
    coarse = np.minimum(((np.arange(side) + 0.5) * small / side).astype(np.intp), small - 1)
    return np.asarray(nearest[coarse])


def _recoded(x: Floats, name: str, options: dict[str, Any]) -> Floats:
    stream = io.BytesIO()
    as_picture(x).save(stream, name, **options)
    with Image.open(stream) as decoded:
        return as_floats(decoded.convert("RGB"))


_EDGE_SIGMA = 4.0  # how far from an edge its colours still come apart, in pixels


def color_diffusion(x: Floats, amount: float, rng: np.random.Generator) -> npt.NDArray[Any]:
    """Let colours run: blur a and b of Lab with sigma 1.5 s + 2, and multiply them by s."""
    lab = to_lab(x)
    lab[..., 1:] = convolve(lab[..., 1:], gaussian(1.5 * amount + 2)) * np.float32(amount)
    return from_lab(lab)


def color_shift(x: Floats, distance: float, rng: np.random.Generator) -> npt.NDArray[Any]:
    """Move green in a random direction, as far as there are edges near: the weight is the blurred gradient."""
    from scipy.ndimage import shift

    angle = rng.uniform(0, 2 * math.pi)
    offset = distance * math.sin(angle), distance * math.cos(angle)
    green = shift(x[..., 1], offset, order=1, mode="nearest")
    near = _edges(x)
    changed = x.copy()
    changed[..., 1] = green * near + x[..., 1] * (1 - near)
    return changed


def color_saturation_hsv(x: Floats, factor: float, rng: np.random.Generator) -> npt.NDArray[Any]:
    """Multiply the saturation of HSV; below 0 the hues turn into their opposites.

    Hue and value fixed, each channel's distance from the largest one is in proportion to the saturation.
    """
    value = x.max(axis=2, keepdims=True)
    return np.asarray(value + np.float32(factor) * (x - value))


def color_saturation_lab(x: Floats, factor: float, rng: np.random.Generator) -> npt.NDArray[Any]:
    """Multiply a and b of Lab."""
    lab = to_lab(x)
    lab[..., 1:] *= np.float32(factor)
    return from_lab(lab)


def to_lab(x: Floats) -> Floats:
    """CIE Lab (D65) of sRGB."""
    from skimage.color import rgb2lab

    return np.asarray(rgb2lab(x), dtype=np.float32)


def from_lab(lab: Floats) -> Floats:
    """The inverse; colours that sRGB does not have are cut off, channel by channel."""
    import warnings

    from skimage.color import lab2rgb

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Conversion from CIE-LAB", category=UserWarning)
        return np.asarray(lab2rgb(lab), dtype=np.float32)


def _edges(x: Floats) -> Floats:
    """(H, W) in 0..1: strength of the edges around, from its first to its ninety-ninth percentile."""
    down, right = np.gradient(x @ LUMA)
    strength = convolve(np.hypot(down, right)[..., np.newaxis], gaussian(_EDGE_SIGMA))[..., 0]
    low, high = np.percentile(strength[::2, ::2], (1, 99))
    if high - low < 1e-6:
        return np.zeros_like(strength)
    return np.asarray(np.clip((strength - low) / (high - low), 0, 1), dtype=np.float32)


_SHARPEN_SIGMA = 3.0
_KNOT = 0.3  # tone at which the contrast curve is pinned, and its mirror 0.7
# Amount of contrast -> what it takes off the tone 0.3 (and adds to 0.7): as in the generator, (amount + 0.2) / 4, but
# nothing at 0, where the generator's curve still steepens a little.
_AMOUNTS = (-0.6, -0.4, 0.0, 0.15, 0.3)
_TAKEN = (-0.1, -0.05, 0.0, 0.0875, 0.125)


def brighten(x: Floats, amount: float, rng: np.random.Generator) -> npt.NDArray[Any]:
    """Bend the curve of Lab's L up: its middle 0.5 goes to 0.5 + amount / 2."""
    return _bent(x, amount)


def darken(x: Floats, amount: float, rng: np.random.Generator) -> npt.NDArray[Any]:
    """Bend the curve of Lab's L down: its middle 0.5 goes to 0.5 - amount / 2."""
    return _bent(x, -amount)


def mean_shift(x: Floats, amount: float, rng: np.random.Generator) -> npt.NDArray[Any]:
    """Add a constant."""
    return x + np.float32(amount)


def high_sharpen(x: Floats, amount: float, rng: np.random.Generator) -> npt.NDArray[Any]:
    """Unsharp masking of Lab's L: add what a blur takes away, amount times."""
    lab = to_lab(x)
    lightness = lab[..., :1]
    detail = lightness - convolve(lightness, gaussian(_SHARPEN_SIGMA))
    lab[..., :1] = np.clip(lightness + np.float32(amount) * detail, 0, 100)
    return from_lab(lab)


def contrast_change(x: Floats, amount: float, rng: np.random.Generator) -> npt.NDArray[Any]:
    """A curve on every value through 0, 0.5 and 1: an S above an amount of 0, flatter in the middle below it."""
    taken = float(np.interp(amount, _AMOUNTS, _TAKEN))
    middle = x - np.float32(0.5)
    at_knot = (0.5 - _KNOT) * (1 - 4 * (0.5 - _KNOT) ** 2)
    return np.asarray(x + np.float32(taken / at_knot) * middle * (1 - 4 * middle * middle))


def _bent(x: Floats, amount: float) -> Floats:
    """The parabola through (0, 0), (0.5, 0.5 + amount / 2) and (1, 1), cut off at 0 and 1."""
    lab = to_lab(x)
    tone = lab[..., 0] / 100
    lab[..., 0] = 100 * np.clip(tone + np.float32(2 * amount) * tone * (1 - tone), 0, 1)
    return from_lab(lab)


_ROUNDS = 5  # warps that the generator applies one after the other
_PATCH, _REACH = 16, 8  # side of a moved patch, and how far it goes, in pixels
_SQUARE = 32
_MOST_PATCHES, _MOST_SQUARES = 100, 10


def jitter(x: Floats, amount: float, rng: np.random.Generator) -> npt.NDArray[Any]:
    """Take every point from a normally distributed place around it.

    The generator warps five times by `amount` pixels; here it is one warp of the same total deviation.
    """
    from scipy.ndimage import map_coordinates

    shape = x.shape[:2]
    moved = rng.standard_normal((2, *shape), dtype=np.float32) * np.float32(amount * math.sqrt(_ROUNDS))
    places = np.indices(shape, dtype=np.float32) + moved
    channels = [map_coordinates(np.ascontiguousarray(x[..., c]), places, order=1, mode="nearest") for c in range(3)]
    return np.stack(channels, axis=2)


def non_eccentricity_patch(x: Floats, count: float, rng: np.random.Generator) -> npt.NDArray[Any]:
    """Copy small patches to a place nearby, one after the other."""
    changed = x.copy()
    tops, lefts = _corners(x, _PATCH, _MOST_PATCHES, rng)
    steps = rng.integers(-_REACH, _REACH + 1, (_MOST_PATCHES, 2))
    for top, left, (down, right) in list(zip(tops, lefts, steps, strict=True))[: round(count)]:
        to_top = min(max(top + down, 0), x.shape[0] - _PATCH)
        to_left = min(max(left + right, 0), x.shape[1] - _PATCH)
        patch = changed[top : top + _PATCH, left : left + _PATCH].copy()
        changed[to_top : to_top + _PATCH, to_left : to_left + _PATCH] = patch
    return changed


def color_block(x: Floats, count: float, rng: np.random.Generator) -> npt.NDArray[Any]:
    """Lay squares of random colours over the picture."""
    changed = x.copy()
    tops, lefts = _corners(x, _SQUARE, _MOST_SQUARES, rng)
    colours = rng.random((_MOST_SQUARES, 3), dtype=np.float32)
    for top, left, colour in list(zip(tops, lefts, colours, strict=True))[: round(count)]:
        changed[top : top + _SQUARE, left : left + _SQUARE] = colour
    return changed


def _corners(x: Floats, side: int, count: int, rng: np.random.Generator) -> tuple[list[int], list[int]]:
    tops = rng.integers(0, x.shape[0] - side + 1, count)
    lefts = rng.integers(0, x.shape[1] - side + 1, count)
    return tops.tolist(), lefts.tolist()
