"""Quality map of a picture: `QualityMap`, its local values and where they belong, and `map_quality`, which computes it.

A map is computed from windows of the picture that are scored as pictures of their own, or from the gradient of its
score.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from PIL import Image

from ..errors import InputError, QSiTError
from ..levels import SCORE_RANGE
from ..pixels import Picture
from .windows import Box, MapMethod, MapRequest, Windows

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from ..results import Score

ScoreFunction: TypeAlias = "Callable[[Iterable[Picture]], Iterator[Score | QSiTError]]"
"""Pictures -> for each its score or its error, in order."""

GradientFunction: TypeAlias = "Callable[[Picture], NDArray[np.float64]]"
"""A picture -> (H, W): by how much its score moves, to first order, if all channels of a pixel move by one of 255 grey
levels in their better direction."""

_PREVIEW = 1280  # pixels of the longer side


@dataclass(frozen=True, eq=False, repr=False)
class QualityMap:
    """Local values of one picture; made by `QSiT.map`.

    It is an array for NumPy (`numpy.asarray(found)` is `found.values`), pickles, copies and compares with its fields.

    Attributes:
        values: (rows, cols), float32, one for each window. By "windows": its score on 1..5, higher is better. By
            "saliency": by how much the whole picture's score would move, to first order, if every channel of every
            pixel in the window moved by one of 255 grey levels in its better direction; 0 or more.
        windows: Where the windows lie, in pixels of the picture.
        score: The whole picture's.
        method: "windows" or "saliency".
        source: Where the picture came from.
        preview: The picture, at most 1280 pixels long, for `overlay`.

    Example:
        >>> found = metric.map("photo.jpg")  # doctest: +SKIP
        >>> found  # doctest: +SKIP
        QualityMap('photo.jpg', 5x7 windows of 128x128, 1.87..4.10, Score(3.4212, fair))
        >>> found.worst  # doctest: +SKIP
        Box(left=0, top=256, right=128, bottom=384)
        >>> found.overlay().save("map.png")  # doctest: +SKIP
    """

    values: NDArray[np.float32]
    windows: Windows
    score: Score
    method: MapMethod
    source: str
    preview: Image.Image

    def __post_init__(self) -> None:
        values = np.array(self.values, dtype=np.float32)  # a copy, so that nobody else can write into it
        if values.shape != self.windows.shape:
            shown = f"<array of shape {values.shape}>"
            raise InputError.about("values", shown, f"one for each window, shape {self.windows.shape}")
        object.__setattr__(self, "values", values)
        self._lock()

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of windows."""
        return self.windows.shape

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the picture in pixels, as `View.size`."""
        return self.windows.width, self.windows.height

    @property
    def worst(self) -> Box:
        """The window with the lowest score; by "saliency" the one in which a change of pixels moves the score most.

        `picture.crop(found.worst)` cuts it out; the first of equals is taken.
        """
        best = np.argmin(self.values) if self.method == "windows" else np.argmax(self.values)
        row, col = divmod(int(best), self.shape[1])
        return self.windows.box(row, col)

    @property
    def worst_value(self) -> float:
        """The value of `worst`."""
        return float(self.values.min() if self.method == "windows" else self.values.max())

    def resized(self, size: tuple[int, int] | None = None) -> NDArray[np.float32]:
        """The map in pixels: each is the mean of the windows that hold it, weighted by how far inside them it lies.

        Args:
            size: (height, width) of the result, which spans the whole picture; None is the picture's own.

        Returns:
            (height, width), float32.

        Raises:
            InputError: Not two whole numbers of 1 or more.
        """
        pair = isinstance(size, tuple) and len(size) == 2
        if size is not None and not (pair and all(isinstance(side, int) and side > 0 for side in size)):
            raise InputError.about("size", size, "(height, width), whole numbers of 1 or more")
        return self.windows.merge(self.values, size)

    def overlay(self, *, limits: tuple[float, float] | None = None) -> Image.Image:
        """Draw the map over the picture, with a scale, the whole picture's score, and a frame around `worst`.

        Lightness stays the photograph's. Hue and colourfulness are the map's: orange is bad, grey is the middle, blue
        is good; steps of equal difference look equal, and people who see no red or no green can tell both ends.

        Args:
            limits: Values that get the ends of the colours. Default: 1 and 5, so that maps of different pictures
                compare; by "saliency" 0 and the largest value.

        Returns:
            An RGB picture of at most about 1400 pixels.

        Raises:
            InputError: Limits that are no two ascending numbers.
        """
        from .drawing import Frame, Legend, draw

        low, high = limits if limits is not None else self._limits()
        if not (np.isfinite((low, high)).all() and low < high):
            raise InputError.about("limits", (low, high), "two numbers, the smaller one first")
        heading = (f"whole {float(self.score):.2f}", self.score.level)
        legend = Legend(heading, float(low), float(high), _ticks(self, low, high), self.method == "windows")
        frame = Frame(self.worst, self.size, _number(self.worst_value)) if len(self.windows) > 1 else None
        return draw(self.preview, self.resized, legend, frame)

    def as_dict(self) -> dict[str, Any]:
        """Plain fields for result files."""
        windows = self.windows
        return {
            **self.score.as_dict(), "method": self.method, "width": windows.width, "height": windows.height,
            "window": {"width": windows.window[1], "height": windows.window[0]},
            "tops": list(windows.tops), "lefts": list(windows.lefts),
            "values": [[round(float(value), 6) for value in row] for row in self.values],
            "worst": {**self.worst._asdict(), "value": round(self.worst_value, 6)},
        }  # fmt: skip

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False and dtype not in (None, np.float32, np.dtype(np.float32)):
            raise ValueError("a QualityMap holds float32; another type needs a copy")
        return self.values if dtype is None and not copy else np.array(self.values, dtype=dtype)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, QualityMap):
            return NotImplemented
        mine, theirs = ((one.windows, one.score, one.method, one.source, one.values.tobytes()) for one in (self, other))
        return mine == theirs

    __hash__ = None  # type: ignore[assignment]  # as an array

    def __repr__(self) -> str:
        (rows, cols), (high, wide) = self.shape, self.windows.window
        span = f"{self.values.min():.3g}..{self.values.max():.3g}" if rows * cols > 1 else f"{self.values[0, 0]:.3g}"
        kind = "windows" if self.method == "windows" else "windows (saliency)"
        return f"QualityMap({self.source!r}, {rows}x{cols} {kind} of {wide}x{high}, {span}, {self.score!r})"

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock()

    def _lock(self) -> None:
        self.values.setflags(write=False)

    def _limits(self) -> tuple[float, float]:
        if self.method == "windows":
            return SCORE_RANGE
        return 0.0, max(float(self.values.max()), float(np.finfo(np.float32).tiny))


def map_quality(
    picture: Picture, request: MapRequest, tile: int, score: ScoreFunction, gradient: GradientFunction
) -> QualityMap:
    """Compute the map of a picture with any function that scores pictures.

    Args:
        picture: The picture.
        request: Method and windows.
        tile: Side in pixels of a square that the model sees at the picture's own resolution.
        score: Gives scores, for both methods.
        gradient: Gives the gradient of a score, for "saliency".

    Raises:
        InputError: Windows that do not fit the picture, or too many of them.
        QSiTError: What the functions raise, and the error of a window.
    """
    windows = request.windows(picture.height, picture.width, tile)
    if request.method == "saliency":
        values = windows.sums(gradient(picture))
        (whole,) = _scores(score, [picture])
    else:
        # In one stream, so that the whole and its windows fill batches together; a single window is the whole.
        boxes = windows.boxes() if len(windows) > 1 else ()
        whole, *local = _scores(score, itertools.chain([picture], (part(picture, box) for box in boxes)))
        values = np.array(local or [whole]).reshape(windows.shape)
    return QualityMap(
        values.astype(np.float32), windows, whole, request.method, picture.source, _preview(picture.pixels)
    )


def part(picture: Picture, box: Box) -> Picture:
    """A window of a picture as a picture of its own."""
    pixels = picture.pixels
    if isinstance(pixels, Image.Image):
        return Picture(pixels.crop(box), picture.source)
    return Picture(pixels[:, box.top : box.bottom, box.left : box.right], picture.source)


def _scores(score: ScoreFunction, pictures: Iterable[Picture]) -> Iterator[Score]:
    for found in score(pictures):
        if isinstance(found, QSiTError):
            raise found  # without an index: it would be a window's
        yield found


def _preview(pixels: Image.Image | torch.Tensor) -> Image.Image:
    if isinstance(pixels, Image.Image):
        small = pixels.copy()
        small.info.clear()  # an embedded profile or comment is the file's affair
    else:
        small = Image.fromarray(pixels.detach().round().byte().cpu().permute(1, 2, 0).contiguous().numpy())
    small.thumbnail((_PREVIEW, _PREVIEW), Image.Resampling.BICUBIC)
    return small


def _ticks(found: QualityMap, low: float, high: float) -> list[tuple[float, str]]:
    if found.method == "saliency":
        return [(low, _number(low)), (high, _number(high))]
    names = list(found.score.probs) or [""]
    places = np.linspace(*SCORE_RANGE, len(names)).tolist()
    ticks = [(place, f"{place:.3g} {name}") for place, name in zip(places, names, strict=True) if low <= place <= high]
    return ticks or [(low, _number(low)), (high, _number(high))]


def _number(value: float) -> str:
    return f"{value:.2f}" if value == 0 or abs(value) >= 0.1 else f"{value:.2g}"
