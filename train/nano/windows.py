"""Windows of the size of a tile in pictures that are cut already: what the tower's first stage learns from.

What is to be told of a window: the kind of degradation (a type whose two sides look different counts twice), the score,
and how far the degradation is from none. The distance has a number of its own for each kind: one linear reading of all
of them would have to fit blur and noise alike. Pictures without a score are not used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from qsit_metric.pixels.geometry import Geometry
from qsit_metric.pixels.tiles import plan

from ..errors import DataError
from ..prepared import Prepared
from .data.kadid import DISTORTIONS, SCALE
from .data.pictures import MadePicture
from .tower import Tiles

_SIDED = ("mean_shift", "contrast_change")  # level 3 is the untouched picture, either side of it looks different
KINDS = ("none", *(kind for kind in DISTORTIONS if kind not in _SIDED), *(f"{k}{s}" for k in _SIDED for s in "+-"))
"""Kinds of degradation that a tile can have."""

_COLOURED = (
    "color_diffusion", "color_shift", "color_quantization", "color_saturation_hsv", "color_saturation_lab", "jpeg",
    "jpeg2000", "white_noise_color_component",
)  # fmt: skip
_MOVED = 0.5  # share of windows that lie between tiles
_SWAPPED = 0.5  # share of batches whose colours change places, in pictures whose degradation does not tell them apart


def target(picture: MadePicture) -> tuple[int, tuple[float, float]]:
    """What is to be told of a picture: index in `KINDS`, and (score, distance from the untouched one), both 0..1.

    Raises:
        DataError: The picture has no score.
    """
    if picture.mos is None:
        raise DataError.about("shot", picture.image, "a picture with a score")
    score = (picture.mos - SCALE.low) / (SCALE.high - SCALE.low)
    if not picture.degradations:
        return 0, (score, 0.0)
    one = picture.degradations[0]
    if one.kind in _SIDED:
        return KINDS.index(f"{one.kind}{'+' if one.level < 3 else '-'}"), (score, abs(one.level - 3) / 2)
    return KINDS.index(one.kind), (score, one.level / 5)


@dataclass(frozen=True, eq=False)
class _Table:
    """A table with a row for each tile of some pictures.

    Attributes:
        tiles: (N,) its place in the store.
        pictures: (N,) the picture that it was cut from.
        columns: (N,) tiles in a row of the grid.
        room: (N, 2) whether a window may reach down, and to the right, beyond the tile.
        targets: (P, 3) of each picture: kind, score, distance.
    """

    tiles: torch.Tensor
    pictures: torch.Tensor
    columns: torch.Tensor
    room: torch.Tensor
    targets: torch.Tensor

    @classmethod
    def of(cls, made: Sequence[MadePicture], store: Prepared, firsts: Mapping[str, int], geometry: Geometry) -> _Table:
        rows: list[tuple[int, int, int, bool, bool]] = []
        for number, one in enumerate(made):
            start, place = firsts[one.image], store.places[one.image]
            high, wide = plan(geometry, place.height, place.width).grid
            rows.append((start, number, wide, False, False))  # the whole picture in one tile
            rows += [
                (start + 1 + row * wide + col, number, wide, row + 1 < high, col + 1 < wide)
                for row in range(high)
                for col in range(wide)
            ]
        tiles, pictures, columns, down, right = (torch.tensor(column) for column in zip(*rows, strict=True))
        known = torch.tensor([(kind, *values) for kind, values in map(target, made)])
        return cls(tiles, pictures, columns, torch.stack([down, right], dim=1), known)


class Windows:
    """Windows of scored pictures; a `train.nano.tower.Source`.

    Half of them are tiles; the others lie anywhere in the picture, across up to four tiles.

    Args:
        store: Has the tiles of all pictures.
        geometry: How they were cut.
        taken: The pictures to learn from; each has a score.
        held: Pictures that are never learned from.
        device: On an accelerator, all tiles are kept there: to copy them at each step would take longer than the step.
    """

    kinds = len(KINDS)
    values = 1 + len(KINDS)

    def __init__(
        self,
        store: Prepared,
        geometry: Geometry,
        taken: Sequence[MadePicture],
        held: Sequence[MadePicture],
        device: torch.device,
    ) -> None:
        self._side = geometry.tile
        pixels, firsts = store.array()
        self._taken, self._held = (_Table.of(pictures, store, firsts, geometry) for pictures in (taken, held))
        self._pixels = torch.from_numpy(np.asarray(pixels)).to(device)
        self._swappable = torch.tensor([not kind.startswith(_COLOURED) for kind in KINDS])

    def draw(self, count: int, rng: np.random.Generator) -> Tiles:
        """See `Source.draw`."""
        picks = torch.from_numpy(np.sort(rng.integers(0, len(self._taken.tiles), count)))
        moves = torch.from_numpy(rng.integers(0, self._side, (count, 2)))
        moved = torch.from_numpy(rng.random(count) < _MOVED)
        moves = moves * self._taken.room[picks] * moved.unsqueeze(1)
        found = self._read(self._taken, picks, moves)
        if rng.random() < _SWAPPED:
            found = self._swapped(found, rng.permutation(3).tolist())
        return found

    def held_out(self) -> Tiles:
        """See `Source.held_out`."""
        picks = torch.arange(len(self._held.tiles))
        return self._read(self._held, picks)

    def _read(self, table: _Table, picks: torch.Tensor, moves: torch.Tensor | None = None) -> Tiles:
        pictures = table.pictures[picks]
        known = table.targets[pictures]
        kinds, rows = known[:, 0].long(), torch.arange(len(known))
        values = torch.full((len(known), self.values), torch.nan)
        values[:, 0], values[rows, 1 + kinds] = known[:, 1], known[:, 2]
        tiles = table.tiles[picks]
        if moves is None:
            pixels = self._pixels[tiles.to(self._pixels.device)]
        else:
            pixels = self._windows(tiles, table.columns[picks], moves)
        return Tiles(pixels, kinds, values, pictures)

    def _windows(self, tiles: torch.Tensor, columns: torch.Tensor, moves: torch.Tensor) -> torch.Tensor:
        """(N, 3, side, side): what stands `moves` pixels below and to the right of a tile's corner."""
        side, device = self._side, self._pixels.device
        tiles, columns, moves = (one.to(device) for one in (tiles, columns, moves))
        # A tile with those to its right and below it; where a window may not reach, anything serves.
        four = torch.stack([tiles, tiles + 1, tiles + columns, tiles + columns + 1], dim=1)
        around = self._pixels[four.clamp(max=len(self._pixels) - 1)]
        square = around.view(-1, 2, 2, 3, side, side).permute(0, 3, 1, 4, 2, 5).reshape(-1, 3, 2 * side, 2 * side)
        reach = torch.arange(side, device=device)
        down, right = (moves[:, axis, None] + reach for axis in (0, 1))
        rows = square.gather(2, down[:, None, :, None].expand(-1, 3, -1, 2 * side))
        found: torch.Tensor = rows.gather(3, right[:, None, None, :].expand(-1, 3, side, -1))
        return found

    def _swapped(self, found: Tiles, order: Sequence[int]) -> Tiles:
        swappable = self._swappable[found.kinds].to(found.pixels.device)[:, None, None, None]
        return found._replace(pixels=torch.where(swappable, found.pixels[:, list(order)], found.pixels))
