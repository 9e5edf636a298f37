"""Distortions of exposure, geometry and coding. Pictures are (H, W, 3) in 0..1."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.ndimage import gaussian_filter, map_coordinates

Floats = npt.NDArray[np.float32]

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
    small = _picture(x).resize((int(width * share), int(height * share)), Image.Resampling.BOX)
    return _floats(small.resize((width, height), Image.Resampling.NEAREST))


def jpeg_compression(x: Floats, severity: int, rng: np.random.Generator) -> npt.NDArray[Any]:
    """Encode as JPEG and decode."""
    stream = io.BytesIO()
    _picture(x).save(stream, "JPEG", quality=_QUALITIES[severity - 1])
    with Image.open(stream) as decoded:
        return _floats(decoded.convert("RGB"))


def _picture(x: Floats) -> Image.Image:
    return Image.fromarray(np.rint(x * 255).astype(np.uint8))


def _floats(picture: Image.Image) -> Floats:
    return np.asarray(picture, dtype=np.float32) / np.float32(255)
