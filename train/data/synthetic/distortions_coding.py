"""Coding and quantization (types 6, 9, 10, 21 and 22). Pictures are (H, W, 3) in 0..1. Pure."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..corruptions import Floats

_LUMA = np.array((0.299, 0.587, 0.114), dtype=np.float32)
_PALETTE_SIDE = 128  # the palette is chosen on a picture of this size: the time is in the choice


def color_quantization(x: Floats, colours: float, rng: np.random.Generator) -> npt.NDArray[Any]:
    """Leave a number of colours, chosen by median cut and k-means, and dither (Floyd-Steinberg) between them."""
    picture = _picture(x)
    small = picture.copy()
    small.thumbnail((_PALETTE_SIDE, _PALETTE_SIDE), Image.Resampling.NEAREST)
    palette = small.quantize(round(colours), Image.Quantize.MEDIANCUT, kmeans=1)
    return _floats(picture.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG).convert("RGB"))


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
    grey = np.rint(x @ _LUMA * 255).astype(np.intp)
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
    """For each place the pixel that stands there in the end."""
    nearest = np.minimum(((np.arange(small) + 0.5) * side / small).astype(np.intp), side - 1)
    coarse = np.minimum(((np.arange(side) + 0.5) * small / side).astype(np.intp), small - 1)
    return np.asarray(nearest[coarse])


def _recoded(x: Floats, name: str, options: dict[str, Any]) -> Floats:
    stream = io.BytesIO()
    _picture(x).save(stream, name, **options)
    with Image.open(stream) as decoded:
        return _floats(decoded.convert("RGB"))


def _picture(x: Floats) -> Image.Image:
    return Image.fromarray(np.rint(x * 255).astype(np.uint8))


def _floats(picture: Image.Image) -> Floats:
    return np.asarray(picture, dtype=np.float32) / np.float32(255)
