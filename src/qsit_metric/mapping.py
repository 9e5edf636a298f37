"""How a quality map is computed: a picture's windows as pictures of their own, or the gradient of its score."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from .errors import BackendError, QSiTError
from .pipeline import guarded
from .pixels import Picture
from .quality_map import QualityMap
from .windows import Box, Wanted, Windows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from .metric import QSiT
    from .results import Score

PREVIEW = 1280


def quality_map(metric: QSiT, picture: Picture, wanted: Wanted) -> QualityMap:
    """Compute the map of a picture; errors as for `QSiT.map`."""
    if wanted.method == "saliency" and not metric.backend.differentiable:
        expected = f"a backend with a gradient, not {metric.backend.name}"
        raise BackendError.about("method", wanted.method, expected, "Use method='windows': it works with all.")
    windows = wanted.windows(picture.height, picture.width, metric.backend.tile)
    score, values = (_scored if wanted.method == "windows" else _salient)(metric, picture, windows)
    return QualityMap(values, windows, score, wanted.method, picture.source, _preview(picture.pixels))


def part(picture: Picture, box: Box) -> Picture:
    """A window of a picture as a picture of its own."""
    pixels = picture.pixels
    if isinstance(pixels, Image.Image):
        return Picture(pixels.crop(box), picture.source)
    return Picture(pixels[:, box.top : box.bottom, box.left : box.right], picture.source)


def _scored(metric: QSiT, picture: Picture, windows: Windows) -> tuple[Score, NDArray[Any]]:
    """The whole and its windows in one stream, so that they fill batches together; a single window is the whole."""
    boxes = windows.boxes() if len(windows) > 1 else ()
    stream = itertools.chain([picture], (part(picture, box) for box in boxes))
    whole, *local = _scores(metric, stream)
    return whole, np.array(local or [whole], dtype=np.float32).reshape(windows.shape)


def _scores(metric: QSiT, pictures: Iterator[Any]) -> Iterator[Score]:
    for found in metric.score_iter(pictures, errors="return"):
        if isinstance(found, QSiTError):
            raise found  # without an index: it would be a window's
        yield found


def _salient(metric: QSiT, picture: Picture, windows: Windows) -> tuple[Score, NDArray[Any]]:
    """|d score / d pixel|, in score per grey level, summed over channels and over each window."""
    (score,) = _scores(metric, iter([picture]))
    # Whatever context the caller is in: a gradient is needed here, and autocast would compute it in half precision.
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(metric.device.type, enabled=False):
        x = _unit(picture.pixels, metric.device).requires_grad_()
        value = metric(x[None])
        with guarded():
            (gradient,) = torch.autograd.grad(value.sum(), x)
    if not bool(gradient.isfinite().all()):
        hint = "Half precision may have overflowed: try dtype='float32' or 'bfloat16'."
        raise BackendError.about("model", "<a gradient that is not finite>", "numbers", hint)
    strength = gradient.abs().sum(dim=0).cpu().double().numpy() / 255
    return score, windows.sums(strength)


def _unit(pixels: Image.Image | torch.Tensor, device: torch.device) -> torch.Tensor:
    """(3, H, W) in 0..1 on the device, with no history."""
    if isinstance(pixels, Image.Image):
        return torch.from_numpy(np.array(pixels)).to(device).permute(2, 0, 1).float() / 255
    return pixels.detach().to(device).clone() / 255


def _preview(pixels: Image.Image | torch.Tensor) -> Image.Image:
    if isinstance(pixels, Image.Image):
        small = pixels.copy()
        small.info.clear()  # an embedded profile or comment is the file's affair
    else:
        values = pixels.detach().round().to("cpu", torch.uint8)
        small = Image.fromarray(values.permute(1, 2, 0).contiguous().numpy())
    small.thumbnail((PREVIEW, PREVIEW), Image.Resampling.BICUBIC)
    return small
