"""One photograph under rising degradations, for a figure that the repository may ship: held out, public domain."""

from __future__ import annotations

from typing import Any

from PIL import Image

from benchmarks.nano.sample import pattern
from qsit_metric import QSiT
from train.nano.data.kadid import LEVELS, distort
from train.nano.data.photographs import load

PHOTOGRAPH = "rocket"
KINDS = ("gaussian_blur", "white_noise", "jpeg")
_BOX = (170, 127, 470, 427)  # the rocket and the lamps at its foot


def strip(seed: int) -> list[tuple[str, int, Image.Image]]:
    """(type, level, picture) of each place: for every type the untouched photograph as level 0, then levels 1 to 5.

    Raises:
        DataError: scikit-image is not installed.
    """
    whole = load(PHOTOGRAPH).crop(_BOX)
    own = pattern(PHOTOGRAPH, seed)
    return [
        (kind, level, distort(whole, kind, level, own) if level else whole) for kind in KINDS for level in (0, *LEVELS)
    ]


def score_strip(metric: QSiT, seed: int) -> list[dict[str, Any]]:
    """Score and most probable level of each place."""
    places = strip(seed)
    found = metric.score([image for _, _, image in places], exif=False)
    return [
        {"type": kind, "level": level, "score": float(score), "word": score.level}
        for (kind, level, _), score in zip(places, found, strict=True)
    ]
