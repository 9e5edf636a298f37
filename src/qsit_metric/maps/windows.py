"""Windows over a picture: where they lie, and how a number for each becomes one for each pixel. Pure.

Windows of one size are spread evenly, the first and the last flush with the edges, so every window lies inside the
picture and every pixel in a window. A pixel of the map is the mean of its windows, each weighted by how far inside it
the pixel lies: with half-overlapping windows that is linear interpolation between their centres.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from ..errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

MapMethod = Literal["windows", "saliency"]

MAX_WINDOWS = 20_000
"""More than these are refused: each is scored as a picture of its own."""

_TILES_ACROSS = 8  # of the shorter side: windows grow with the picture, and their number stays bounded
_FINER = 4  # a gradient knows its pixel, a score only its window: saliency is summed over smaller ones


class Box(NamedTuple):
    """A rectangle in pixels of the picture, right and bottom excluded, as `PIL.Image.crop` takes it."""

    left: int
    top: int
    right: int
    bottom: int


@dataclass(frozen=True)
class Windows:
    """Windows of one size over one picture.

    Attributes:
        height: Of the picture, in pixels.
        width: Of the picture, in pixels.
        window: (height, width) of a window in pixels; never larger than the picture.
        tops: Upper edges of the rows of windows, ascending.
        lefts: Left edges of the columns of windows, ascending.

    Example:
        >>> windows = Windows.over(300, 451, 128, 64)
        >>> windows.shape, windows.box(3, 0)
        ((4, 7), Box(left=0, top=172, right=128, bottom=300))
    """

    height: int
    width: int
    window: tuple[int, int]
    tops: tuple[int, ...]
    lefts: tuple[int, ...]

    @classmethod
    def over(cls, height: int, width: int, window: int, stride: int) -> Windows:
        """Spread windows over a picture.

        Args:
            height: Of the picture, at least 1.
            width: Of the picture, at least 1.
            window: Side of a window in pixels; cut to the picture where that is smaller.
            stride: Pixels from a window to the next at most, at least 1 and at most `window`.

        Raises:
            InputError: More than `MAX_WINDOWS` windows.
        """
        high, wide = min(window, height), min(window, width)
        rows, cols = (-(-(side - part) // stride) + 1 for side, part in ((height, high), (width, wide)))
        if rows * cols > MAX_WINDOWS:
            hint = "A larger stride or window gives fewer."
            raise InputError.about("stride", stride, f"at most {MAX_WINDOWS} windows, not {rows * cols}", hint)
        return cls(height, width, (high, wide), _edges(height - high, rows), _edges(width - wide, cols))

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of windows."""
        return len(self.tops), len(self.lefts)

    def __len__(self) -> int:
        return len(self.tops) * len(self.lefts)

    def box(self, row: int, col: int) -> Box:
        """The window in a row and a column."""
        top, left = self.tops[row], self.lefts[col]
        return Box(left, top, left + self.window[1], top + self.window[0])

    def boxes(self) -> Iterator[Box]:
        """All windows, row by row."""
        return (self.box(row, col) for row in range(len(self.tops)) for col in range(len(self.lefts)))

    def merge(self, values: NDArray[Any], size: tuple[int, int] | None = None) -> Floats:
        """Make a number for each window into one for each pixel.

        Args:
            values: (rows, cols), one for each window.
            size: (height, width) of the result, which spans the whole picture; None is the picture's own.

        Returns:
            (height, width), float32, between the smallest and the largest value.

        Example:
            >>> Windows.over(2, 4, 2, 2).merge(np.array([[1.0, 5.0]])).tolist()
            [[1.0, 1.0, 5.0, 5.0], [1.0, 1.0, 5.0, 5.0]]
        """
        high, wide = size or (self.height, self.width)
        down = _weights(self.tops, self.window[0], self.height, high)
        across = _weights(self.lefts, self.window[1], self.width, wide)
        merged = down @ np.asarray(values, dtype=np.float64) @ across.T
        return merged.astype(np.float32)

    def sums(self, pixels: NDArray[Any]) -> NDArray[np.float64]:
        """Sum a number for each pixel over each window.

        Args:
            pixels: (height, width) of the picture.

        Returns:
            (rows, cols).

        Example:
            >>> Windows.over(2, 4, 2, 2).sums(np.ones((2, 4))).tolist()
            [[4.0, 4.0]]
        """
        table = np.zeros((self.height + 1, self.width + 1))
        table[1:, 1:] = np.asarray(pixels, dtype=np.float64).cumsum(axis=0).cumsum(axis=1)
        top, left = np.array(self.tops)[:, None], np.array(self.lefts)[None]
        bottom, right = top + self.window[0], left + self.window[1]
        found: NDArray[np.float64] = table[bottom, right] - table[top, right] - table[bottom, left] + table[top, left]
        return found


@dataclass(frozen=True)
class MapRequest:
    """Method and windows that a caller asks for; the arguments of `QSiT.map`.

    Raises:
        InputError: An unknown method, or window, stride and overlap that do not go together.
    """

    method: MapMethod = "windows"
    window: int | None = None
    stride: int | None = None
    overlap: int | None = None

    def __post_init__(self) -> None:
        if self.method not in ("windows", "saliency"):
            raise InputError.about("method", self.method, "'windows' or 'saliency'")
        if self.stride is not None and self.overlap is not None:
            raise InputError.about("overlap", self.overlap, "either a stride or an overlap, not both")
        for name, value, low in (("window", self.window, 1), ("stride", self.stride, 1), ("overlap", self.overlap, 0)):
            if value is not None:
                _whole(name, value, low)
        if self.window is not None:
            chosen(self.window, self.window, self.stride, self.overlap)

    def windows(self, height: int, width: int, tile: int) -> Windows:
        """Lay the windows over a picture of this size.

        Raises:
            InputError: A stride or an overlap that does not go with the window, or too many windows.
        """
        default = window_for(height, width, tile)
        if self.method == "saliency":
            default = max(1, default // _FINER)
        return Windows.over(height, width, *chosen(default, self.window, self.stride, self.overlap))


def window_for(height: int, width: int, tile: int) -> int:
    """The window that suits a model on a picture: whole tiles, about eight along the shorter side, one at least.

    Whole tiles are what a model sees at the picture's own resolution; anything between is enlarged first, and an
    enlarged picture looks soft.

    Args:
        height: Of the picture.
        width: Of the picture.
        tile: Side of the model's tile in pixels.

    Example:
        >>> window_for(384, 512, 128), window_for(3000, 4000, 128), window_for(3000, 4000, 384)
        (128, 384, 384)
    """
    across = _TILES_ACROSS * tile
    return tile * max(1, (min(height, width) + across // 2) // across)


def chosen(default: int, window: int | None, stride: int | None, overlap: int | None) -> tuple[int, int]:
    """Window and stride in pixels that follow from what a caller asked for.

    Args:
        default: The window if none is asked for.
        window: Side of a window, or None.
        stride: From a window to the next; None is half a window.
        overlap: What neighbours share, instead of a stride.

    Raises:
        InputError: No whole numbers, or a stride that leaves pixels out.

    Example:
        >>> chosen(128, None, None, None), chosen(128, 96, None, 32)
        ((128, 64), (96, 64))
    """
    side = _whole("window", default if window is None else window, 1)
    if overlap is not None:
        return side, side - _whole("overlap", overlap, 0, side - 1, "It must be smaller than the window.")
    if stride is not None:
        return side, _whole("stride", stride, 1, side, "A larger one leaves pixels out.")
    return side, max(1, side // 2)


def _whole(name: str, value: object, low: int, high: int | None = None, hint: str = "") -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < low or (high is not None and value > high):
        span = f"{low} or more" if high is None else f"{low} to {high}"
        raise InputError.about(name, value, f"a whole number of pixels, {span}", hint)
    return value


def _edges(room: int, count: int) -> tuple[int, ...]:
    """Where windows begin when `room` pixels are left beside one of them; no step is larger than the stride."""
    return tuple(index * room // (count - 1) for index in range(count)) if count > 1 else (0,)


def _weights(starts: tuple[int, ...], window: int, length: int, count: int) -> NDArray[np.float64]:
    """(count, windows): what each window contributes to each of `count` pixels along one side; rows sum to 1."""
    middles = (np.arange(count) + 0.5) * (length / count)
    begin = np.array(starts)[None]
    inside = np.minimum(middles[:, None] - begin, begin + window - middles[:, None])
    weights = np.where(inside >= 0, inside + 0.5, 0)  # a pixel on an edge counts, too
    found: NDArray[np.float64] = weights / weights.sum(axis=1, keepdims=True)
    return found
