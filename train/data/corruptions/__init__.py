"""The fifteen artificial distortions at five severities (paper Sec. III-B1).

Kinds and parameters: D. Hendrycks and T. Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and
Perturbations", ICLR 2019 (ImageNet-C), in the form for pictures of any size of C. Michaelis et al., "Benchmarking
Robustness in Object Detection", 2019 (imagecorruptions, "common"). The paper's own variant is not published. The code
is ours, on numpy, scipy and Pillow; where it departs from the benchmark, the function says so. Throughout, values are
rounded, not cut, to 8 bits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from ...errors import DataError
from . import blur, digital, noise, weather

Floats = npt.NDArray[np.float32]
ImageOrArray = TypeVar("ImageOrArray", Image.Image, npt.NDArray[np.uint8])

SEVERITIES = (1, 2, 3, 4, 5)
MIN_SIDE = 32

_FUNCTIONS: Mapping[str, Callable[[Floats, int, np.random.Generator], npt.NDArray[Any]]] = MappingProxyType(
    {
        "gaussian_noise": noise.gaussian_noise,
        "shot_noise": noise.shot_noise,
        "impulse_noise": noise.impulse_noise,
        "defocus_blur": blur.defocus_blur,
        "glass_blur": blur.glass_blur,
        "motion_blur": blur.motion_blur,
        "zoom_blur": blur.zoom_blur,
        "snow": weather.snow,
        "frost": weather.frost,
        "fog": weather.fog,
        "brightness": digital.brightness,
        "contrast": digital.contrast,
        "elastic_transform": digital.elastic_transform,
        "pixelate": digital.pixelate,
        "jpeg_compression": digital.jpeg_compression,
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
    pixels = _pixels(image)
    rng = np.random.default_rng([int(seed), CORRUPTIONS.index(kind)])
    unit = _FUNCTIONS[kind](pixels.astype(np.float32) / np.float32(255), int(severity), rng)
    changed: npt.NDArray[np.uint8] = np.rint(np.clip(unit, 0, 1) * 255).astype(np.uint8)
    return Image.fromarray(changed) if isinstance(image, Image.Image) else changed


def _pixels(image: object) -> npt.NDArray[np.uint8]:
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
