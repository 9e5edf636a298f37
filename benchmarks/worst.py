"""The images on which a model is furthest from what people said, and small pictures of them."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.paper import number
from qsit_metric.errors import ImageError
from qsit_metric.evaluation import UndefinedError
from qsit_metric.evaluation.correlations import logistic_curve
from qsit_metric.images import load

SIDE = 160
"""Longest side of a small picture, in pixels."""

_QUALITY = 80


@dataclass(frozen=True)
class Worst:
    """An image and how far its score is from what people said.

    Attributes:
        set: The set it belongs to.
        image: Its name, for people.
        path: Where it lies.
        mos: Mean opinion score on the set's own scale, higher is better.
        score: The model's, 1..5.
        residual: `mos` less what the logistic curve makes of `score`, on the set's own scale; above 0, people liked it
            better than the model did.
    """

    set: str
    image: str
    path: Path
    mos: float
    score: float
    residual: float


def worst(rows: Sequence[Mapping[str, object]], count: int = 12) -> list[Worst]:
    """The images with the largest residuals, over all sets.

    Args:
        rows: One for each image, with "set", "image", "path", "mos" and "score" (None: not scored, so not here).
        count: How many.

    Returns:
        The worst first. Sets are compared by residual over the deviation of their scores; a set to which no curve can
        be fitted has none.
    """
    found: list[tuple[float, Worst]] = []
    for name in dict.fromkeys(str(row["set"]) for row in rows):
        found += _of_set([row for row in rows if row["set"] == name and row["score"] is not None])
    return [one for _, one in sorted(found, key=lambda pair: -pair[0])[:count]]


def _of_set(rows: Sequence[Mapping[str, object]]) -> list[tuple[float, Worst]]:
    score, mos = (np.array([number(row, key) for row in rows], dtype=np.float64) for key in ("score", "mos"))
    try:
        residuals = mos - logistic_curve(score, mos)(score)
    except UndefinedError:
        return []
    spread = float(mos.std())
    return [
        (abs(residual) / spread, Worst(str(row["set"]), str(row["image"]), Path(str(row["path"])), y, x, residual))
        for row, x, y, residual in zip(rows, score.tolist(), mos.tolist(), residuals.tolist(), strict=True)
    ]


def thumbnail(path: Path) -> bytes:
    """A small JPEG of an image as the model saw it: without the EXIF orientation, and without any words in the file.

    Returns:
        A JPEG of at most `SIDE` x `SIDE` pixels.

    Raises:
        OSError: There is no such file, or it cannot be opened.
        ImageError: It is no picture, or a damaged one.
    """
    # The content and not the path, which no message should carry into a page that others read.
    picture = load(path.read_bytes(), exif=False).pixels
    if not isinstance(picture, Image.Image):
        raise ImageError.about("path", "<a tensor>", "a picture file")
    small = picture.copy()
    small.thumbnail((SIDE, SIDE))
    small.info.clear()  # comments and profiles would be written along
    file = io.BytesIO()
    small.save(file, format="JPEG", quality=_QUALITY)
    return file.getvalue()
