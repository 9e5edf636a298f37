"""The self-test of `qsit doctor`: does this installation compute what it promises? No network, no shipped pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL import Image

    from .options import ModelOptions

# (width, height) -> (tiles, image tokens): what transformers 4.45, the release that the authors pin, makes of them.
_LAYOUTS = {
    (7, 5): (2, 1261),
    (384, 384): (2, 1485),
    (451, 300): (3, 1836),
    (512, 512): (5, 3699),
    (120, 900): (4, 1701),
    (1600, 200): (6, 3041),
    (1800, 1350): (21, 7309),
}
_SIZES = ((64, 80), (31, 50), (150, 61), (96, 97))  # (height, width); the picture is 61 by 97
# Sums are ordered differently in a batch. In half precision a score moves with that, in single precision hardly.
_TOLERANCE = {"float32": 1e-4}
_TOLERANCE_HALF = 2e-2


@dataclass(frozen=True)
class Check:
    """One thing that was tried.

    Attributes:
        name: What.
        ok: Whether it is as it should be; None if it could not be tried.
        detail: What was measured.
    """

    name: str
    ok: bool | None
    detail: str


def run(options: ModelOptions, model: str | None) -> list[Check]:
    """Run all checks; `model` is the one that is loaded, if any."""
    found = [_tried("resizing", resizing), _tried("tiling", tiling)]
    if model is None:
        skipped = "no model given, none in the package; `qsit doctor --model NAME` loads one"
        return [*found, Check("scoring", None, skipped)]
    return [*found, _tried("scoring", lambda: scoring(options))]


def _tried(name: str, check: Callable[[], tuple[bool, str]]) -> Check:
    try:
        return Check(name, *check())
    except Exception as error:  # noqa: BLE001  # whatever breaks an installation is what this command is to report
        said = str(error) or type(error).__name__
        return Check(name, False, " ".join(said.split("\n")))


def picture(width: int, height: int, seed: int = 1) -> Image.Image:
    """Make the same colourful picture on every machine."""
    import numpy as np
    from PIL import Image

    rows, cols, channels = np.ogrid[:height, :width, :3]
    values = (rows * 7 * seed + cols * 5 + rows * cols * (channels + seed) + 80 * channels) % 256
    return Image.fromarray(values.astype(np.uint8))


def resizing() -> tuple[bool, str]:
    """Files and tensors must be resized to the same pixels, whatever Pillow is installed."""
    import numpy as np
    import torch

    from ..pixels.resize import resize_image, resize_tensor

    image = picture(61, 97)
    tensor = torch.from_numpy(np.array(image)).permute(2, 0, 1).float()
    worst = 0
    for size in _SIZES:
        of_image = torch.from_numpy(np.array(resize_image(image, size))).permute(2, 0, 1).float()
        worst = max(worst, int((resize_tensor(tensor, size) - of_image).abs().max()))
    return worst == 0, f"files and tensors differ by {worst} of 255 at most, in {len(_SIZES)} sizes"


def tiling() -> tuple[bool, str]:
    """Known sizes must give the known numbers of tiles and tokens."""
    from ..pixels.geometry import Geometry
    from ..pixels.tiles import plan

    wrong = []
    for (width, height), expected in _LAYOUTS.items():
        layout = plan(Geometry(), height, width)
        if (layout.tiles, layout.tokens) != expected:
            wrong.append(f"{width}x{height}: {layout.tiles} tiles, {layout.tokens} tokens, expected {expected}")
    return not wrong, "; ".join(wrong) or f"{len(_LAYOUTS)} known sizes have their tiles and tokens"


def scoring(options: ModelOptions) -> tuple[bool, str]:
    """A picture's score must not depend on the company it is scored in."""
    metric = options.load()
    images: list[Any] = [picture(320, 240), picture(500, 300, 2), picture(240, 320, 3)]
    alone, batch = metric.score(images[0]), metric.score(images)
    difference = abs(alone - batch[0])
    limit = _TOLERANCE.get(str(metric.info["dtype"]), _TOLERANCE_HALF)
    about = f"{metric!r} scores {alone:.4f} alone, {difference:.1e} off in a batch (allowed: {limit:g})"
    return difference <= limit, about
