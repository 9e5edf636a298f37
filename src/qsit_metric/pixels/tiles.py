"""AnyRes tiles: which grid a picture is cut into, how many tokens that costs, and the cutting itself.

A picture is shown to the model twice: squeezed whole into one square tile, and fitted into a grid of tiles that keeps
its aspect ratio. The features of the grid are put together again, cleared of padding, sampled down when there are too
many, and written row by row with a newline embedding after each row.

Paper: Q-SiT, arXiv 2503.09197 (architecture of LLaVA-OneVision, arXiv 2408.03326).
Reference implementation that this follows number for number: transformers 4.45.0, the release that the Q-SiT authors
pin, `models/llava_onevision/{image_processing,processing,modeling}_llava_onevision.py` (Apache-2.0). Where the border
to fill is odd, that release leaves the canvas one pixel short and stretches the last strip of tiles by it; later
releases pad it instead. The published numbers come from the former, so it is kept.
The resize is always horizontal first, whatever Pillow is installed (`qsit_metric.pixels.resize`).
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from ..errors import ImageError
from .resize import resize_image, resize_tensor

if TYPE_CHECKING:
    from .geometry import Geometry
    from .read import Picture

_DOWNSAMPLE_ABOVE = 1.1  # modeling_llava_onevision.py: features are sampled down only past this ratio
_BAND = (
    2**19
)  # pixels: 2 MiB stay in the processor's cache; from two bands on, a second thread saves more than it costs

Spread: TypeAlias = "Callable[..., Iterator[Any]]"  # the signature of `map`


@dataclass(frozen=True)
class Plan:
    """Layout of one picture: grid, borders, feature map and cost. All pairs are (height, width).

    Attributes:
        size: The picture, in pixels.
        grid: Rows and columns of tiles.
        fitted: Size of the picture inside the grid, in pixels.
        offset: Top and left black border, in pixels; the bottom and right ones are equal, `short` aside.
        short: Pixels (0 or 1) by which the last strip of tiles is stretched.
        kept: Feature map without its border, in patches.
        trim: Patches cut off at the top and bottom, left and right.
        packed: Feature map that the model sees, in patches.
        tiles: Tiles to encode, the squeezed whole picture included.
        tokens: Image tokens in the prompt.
    """

    size: tuple[int, int]
    grid: tuple[int, int]
    fitted: tuple[int, int]
    offset: tuple[int, int]
    short: tuple[int, int]
    kept: tuple[int, int]
    trim: tuple[int, int]
    packed: tuple[int, int]
    tiles: int
    tokens: int

    @property
    def single(self) -> bool:
        """Whether the picture fills a grid of one tile, which then equals the squeezed whole."""
        return self.grid == (1, 1) and self.offset == self.short == (0, 0)


@lru_cache(maxsize=4096)
def plan(geometry: Geometry, height: int, width: int) -> Plan:
    """Decide how a picture of this size is cut.

    Args:
        geometry: The checkpoint's geometry.
        height: Height of the picture in pixels, at least 1.
        width: Width of the picture in pixels, at least 1.

    Returns:
        The plan; `plan(...).tokens` is the number of image tokens.

    Raises:
        ImageError: A side is smaller than one pixel.

    Example:
        >>> from qsit_metric.pixels.geometry import Geometry
        >>> p = plan(Geometry(), 1350, 1800)
        >>> p.grid, p.tiles, p.tokens
        ((4, 5), 21, 7309)
    """
    if height < 1 or width < 1:
        raise ImageError.about("image", f"<{width}x{height} pixels>", "at least one pixel on each side")
    target = _best_grid(geometry.grids, height, width)
    fitted = _fit(height, width, target)
    rows, cols = target[0] // geometry.tile, target[1] // geometry.tile
    kept, trim = _unpad((rows * geometry.side, cols * geometry.side), height, width)
    packed = _budget(kept, geometry)
    return Plan(
        size=(height, width),
        grid=(rows, cols),
        fitted=fitted,
        offset=((target[0] - fitted[0]) // 2, (target[1] - fitted[1]) // 2),
        short=((target[0] - fitted[0]) % 2, (target[1] - fitted[1]) % 2),
        kept=kept,
        trim=trim,
        packed=packed,
        tiles=1 + rows * cols,
        tokens=geometry.side**2 + packed[0] * (packed[1] + 1),
    )


def _best_grid(grids: tuple[tuple[int, int], ...], height: int, width: int) -> tuple[int, int]:
    """Largest effective resolution first, then the least wasted area; the first of equals wins."""
    best, most, least = grids[0], 0, math.inf
    for grid_height, grid_width in grids:
        scale = min(grid_width / width, grid_height / height)
        effective = min(int(width * scale) * int(height * scale), height * width)
        wasted = grid_height * grid_width - effective
        if effective > most or (effective == most and wasted < least):
            best, most, least = (grid_height, grid_width), effective, wasted
    return best


def _fit(height: int, width: int, target: tuple[int, int]) -> tuple[int, int]:
    """Size of the picture in the grid: one side full, the other rounded up."""
    scale_height, scale_width = target[0] / height, target[1] / width
    if scale_width < scale_height:
        return min(math.ceil(height * scale_width), target[0]), target[1]
    return target[0], min(math.ceil(width * scale_height), target[1])


def _unpad(current: tuple[int, int], height: int, width: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Feature map without its border, and how much is trimmed on each side of each axis."""
    rows, cols = current
    # Rounding to 7 decimals before `int` is the fix of transformers PR 34779: without it some sizes lose a row.
    # At least one row stays: the reference fails where an extreme picture meets an even number of patches.
    if width / height > cols / rows:
        top = (rows - max(int(round(height * (cols / width), 7)), 1)) // 2
        return (rows - 2 * top, cols), (top, 0)
    left = (cols - max(int(round(width * (rows / height), 7)), 1)) // 2
    return (rows, cols - 2 * left), (0, left)


def _budget(kept: tuple[int, int], geometry: Geometry) -> tuple[int, int]:
    """Feature map after down-sampling to the budget of `max_tiles`."""
    ratio = math.sqrt(kept[0] * kept[1] / (geometry.max_tiles * geometry.side**2))
    return (int(kept[0] // ratio), int(kept[1] // ratio)) if ratio > _DOWNSAMPLE_ABOVE else kept


def cut(
    picture: Picture, geometry: Geometry, *, rounding: bool = True, device: torch.device | str | None = None
) -> torch.Tensor:
    """Resize a picture and cut it into tiles: the squeezed whole first, then the grid in row order.

    Args:
        picture: An RGB picture (`qsit_metric.pixels.load`).
        geometry: The checkpoint's geometry.
        rounding: False computes the linear resize without rounding to 8 bits, for finite differences; only for tensors.
        device: Where to resize. None takes Pillow for a PIL picture and a tensor's own device for a tensor. With a
            device, the bytes of a PIL picture are moved there and resized there in integers, to the same bits.

    Returns:
        (tiles, 3, tile, tile), in 0..255: uint8 for a PIL picture; floating point, with its autograd history, for a
        tensor.
    """
    layout = plan(geometry, picture.height, picture.width)
    pixels = picture.pixels
    if isinstance(pixels, torch.Tensor):
        return _cut_tensor(pixels.to(device), layout, geometry.tile, rounding=rounding)
    if device is not None:
        planes = torch.from_numpy(np.array(pixels)).to(device).permute(2, 0, 1)
        return _cut_tensor(planes, layout, geometry.tile, rounding=True)
    bands = min(math.ceil(pixels.width * pixels.height / _BAND), pixels.height)
    with _HELPERS.share(bands) as spread:
        return _cut_image(pixels, layout, geometry.tile, bands, spread)


class _Helpers:
    """Threads that resize parts of one picture: Pillow lets others run meanwhile.

    All pictures that are cut at one time share as many threads as torch may use, so that several pictures prepared
    ahead take one each and a single one takes them all. `torch.set_num_threads(1)` switches the helpers off.
    """

    most = 4  # more gain little: the parts wait for memory, and for each other

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pictures = 0

    @contextlib.contextmanager
    def share(self, parts: int) -> Iterator[Spread]:
        """A `map` over the parts of a picture; the ordinary one if there is one part, or no thread is free."""
        with self._lock:
            self._pictures += 1
            count = min(parts, self.most, torch.get_num_threads() // self._pictures)
        try:
            if count < 2:
                yield map
            else:
                with ThreadPoolExecutor(count, thread_name_prefix="qsit-cut") as pool:
                    yield pool.map
        finally:
            with self._lock:
                self._pictures -= 1


_HELPERS = _Helpers()


def _cut_image(image: Image.Image, layout: Plan, tile: int, bands: int, spread: Spread) -> torch.Tensor:
    """Change the widths in bands of rows, then the heights in columns of tiles: neither mixes what is apart."""
    rows, cols = layout.grid
    tiles = np.empty((1 + rows * cols, 3, tile, tile), dtype=np.uint8)
    cells = tiles[1:].reshape(rows, cols, 3, tile, tile)
    wide = _widths(image, {tile, layout.fitted[1]}, bands, spread)

    def fill(col: int) -> None:
        if col < 0:
            _fill(tiles[:1], resize_image(wide[tile], (tile, tile)))
        else:
            _fill(cells[:, col], _column(wide[layout.fitted[1]], layout, tile, col))

    list(spread(fill, range(-1, cols)))
    return torch.from_numpy(tiles)


def _widths(image: Image.Image, widths: set[int], bands: int, spread: Spread) -> dict[int, Image.Image]:
    """The picture at each width; a band of rows is small enough to stay in the processor's cache meanwhile."""
    result = {width: Image.new("RGB", (width, image.height)) for width in widths if width != image.width}
    edges = [image.height * n // bands for n in range(bands + 1)]

    def fill(top: int, bottom: int) -> None:
        rows = image if bands == 1 else image.crop((0, top, image.width, bottom))
        for width, canvas in result.items():
            canvas.paste(resize_image(rows, (rows.height, width)), (0, top))

    if result:
        list(spread(fill, edges[:-1], edges[1:]))
    return {image.width: image, **result}


def _column(wide: Image.Image, layout: Plan, tile: int, col: int) -> Image.Image:
    """One column of tiles, of the fitted picture in the middle of its grid, from the picture at its fitted width."""
    (height, width), (top, left), full = layout.fitted, layout.offset, layout.grid[0] * tile
    start, stop = max(0, col * tile - left), min(width, (col + 1) * tile - left)
    lacking = layout.short[1] if col == layout.grid[1] - 1 else 0
    column = Image.new("RGB", (tile - lacking, full))
    if start < stop:  # else it lies in the border: a checkpoint may have no grid that fits better
        part = wide.crop((start, 0, stop, wide.height))
        column.paste(resize_image(part, (height, stop - start)), (start + left - col * tile, top))
    column = resize_image(column, (full, tile))
    if layout.short[0]:
        strip = column.crop((0, full - tile, tile, full - 1))
        column.paste(resize_image(strip, (tile, tile)), (0, full - tile))
    return column


def _fill(cells: np.ndarray[Any, Any], column: Image.Image) -> None:
    """Write a column of tiles to (rows, 3, tile, tile): Pillow splits channels far faster than NumPy transposes."""
    for channel, plane in enumerate(column.split()):
        cells[:, channel] = np.asarray(plane).reshape(-1, column.width, column.width)


def _cut_tensor(pixels: torch.Tensor, layout: Plan, tile: int, *, rounding: bool) -> torch.Tensor:
    whole = resize_tensor(pixels, (tile, tile), rounding=rounding)
    fitted = resize_tensor(pixels, layout.fitted, rounding=rounding)
    (top, left), (rows, cols) = layout.offset, layout.grid
    canvas = functional.pad(fitted, (left, left, top, top))
    for axis, (top, left) in _short_strips(layout, tile):
        done, strip = canvas[:, :top] if axis == 0 else canvas[:, :, :left], canvas[:, top:, left:]
        stretched = resize_tensor(strip, (rows * tile - top, cols * tile - left), rounding=rounding)
        canvas = torch.cat([done, stretched], dim=1 + axis)
    return torch.cat([whole[None], _split(canvas, layout.grid, tile)])


def _short_strips(layout: Plan, tile: int) -> list[tuple[int, tuple[int, int]]]:
    """Axis and (top, left) corner of the strip of tiles that is a pixel short; one at most, as one side is full."""
    corners = ((layout.grid[0] - 1) * tile, 0), (0, (layout.grid[1] - 1) * tile)
    return [(axis, corners[axis]) for axis in (0, 1) if layout.short[axis]]


def _split(canvas: torch.Tensor, grid: tuple[int, int], tile: int) -> torch.Tensor:
    """(3, rows * tile, cols * tile) -> (rows * cols, 3, tile, tile), in row order."""
    rows, cols = grid
    tiles = canvas.reshape(3, rows, tile, cols, tile).permute(1, 3, 0, 2, 4)
    return tiles.reshape(rows * cols, 3, tile, tile)


def normalise(tiles: torch.Tensor, geometry: Geometry) -> torch.Tensor:
    """Scale pixels 0..255 to what the vision tower reads: `(x / 255 - mean) / std`, in float32 (float64 stays).

    Dividing by 255 in float32 gives, for all 256 values, exactly the numbers of the reference's
    `float32(x * 0.00392156862745098)`; so pixels agree to the bit on every device.
    """
    if tiles.dtype == torch.uint8 and tiles.device.type == "cpu":
        return _normalise_bytes(tiles, geometry)
    dtype = torch.float64 if tiles.dtype == torch.float64 else torch.float32
    mean = torch.tensor(geometry.mean, dtype=dtype, device=tiles.device)[:, None, None]
    std = torch.tensor(geometry.std, dtype=dtype, device=tiles.device)[:, None, None]
    if tiles.requires_grad:
        return (tiles.to(dtype) / 255 - mean) / std
    return tiles.to(dtype, copy=True).div_(255).sub_(mean).div_(std)


def _normalise_bytes(tiles: torch.Tensor, geometry: Geometry) -> torch.Tensor:
    """The same numbers, one plane at a time so that it stays in the processor's cache.

    NumPy, not torch: torch would share this little work with threads of its own, and whoever waits for them on a busy
    machine waits for the scheduler. NumPy also asks for huge pages, so fresh memory costs a tenth.
    """
    pixels = tiles.numpy()
    result = np.empty(pixels.shape, dtype=np.float32)
    for tile, scaled in zip(pixels, result, strict=True):
        for channel, (mean, std) in enumerate(zip(geometry.mean, geometry.std, strict=True)):
            plane = scaled[channel]
            plane[...] = tile[channel]
            plane /= np.float32(255)
            plane -= np.float32(mean)
            plane /= np.float32(std)
    return torch.from_numpy(result)


def pack(features: torch.Tensor, layout: Plan, newline: torch.Tensor) -> torch.Tensor:
    """Put the projected features of one picture in the order in which the language model reads them.

    Args:
        features: (tiles, side * side, D), the squeezed whole picture first.
        layout: The picture's plan.
        newline: (D,), the embedding that ends each row.

    Returns:
        (layout.tokens, D).
    """
    side = math.isqrt(features.shape[1])
    rows, cols = layout.grid
    grid = features[1:].view(rows, cols, side, side, -1).permute(4, 0, 2, 1, 3).flatten(1, 2).flatten(2, 3)
    (top, left), (height, width) = layout.trim, layout.kept
    grid = grid[:, top : top + height, left : left + width]
    if layout.packed != layout.kept:
        grid = functional.interpolate(grid[None], list(layout.packed), mode="bilinear")[0]
    grid = torch.cat([grid, newline.to(grid)[:, None, None].expand(-1, grid.shape[1], 1)], dim=-1)
    return torch.cat([features[0], grid.flatten(1).transpose(0, 1)])
