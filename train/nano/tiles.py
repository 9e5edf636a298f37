"""The tiles of made pictures in one file, cut as the model will see them, for the tower's first stage.

What is to be told of a tile: the kind of degradation (a type whose two sides look different counts twice), the score,
and how far the degradation is from none. The distance has a number of its own for each kind: one linear reading of all
of them would have to fit blur and noise alike. Pictures without a score are not used.
"""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.lib.format import open_memmap
from PIL import Image

from qsit_metric.files import write_atomic
from qsit_metric.geometry import Geometry
from qsit_metric.images import load
from qsit_metric.tiling import Plan, cut, plan

from ..children import alone
from ..data.synthetic.distortions import DISTORTIONS
from ..data.synthetic.labels import SCALE
from ..data.synthetic.shots import Shot
from ..errors import DataError
from ..tower import Tiles

_SIDED = ("mean_shift", "contrast_change")  # level 3 is the untouched picture, either side of it looks different
KINDS = ("none", *(kind for kind in DISTORTIONS if kind not in _SIDED), *(f"{k}{s}" for k in _SIDED for s in "+-"))
"""What a tile can be said to have."""
_PORTION = 200  # pictures that a process cuts at a time


def target(shot: Shot) -> tuple[int, tuple[float, float]]:
    """Index in `KINDS`, and (score, distance from the untouched picture), both 0..1.

    Raises:
        DataError: The picture has no score.
    """
    if shot.mos is None:
        raise DataError.about("shot", shot.image, "a picture with a score")
    score = (shot.mos - SCALE.low) / (SCALE.high - SCALE.low)
    if not shot.degradations:
        return 0, (score, 0.0)
    one = shot.degradations[0]
    if one.kind in _SIDED:
        return KINDS.index(f"{one.kind}{'+' if one.level < 3 else '-'}"), (score, abs(one.level - 3) / 2)
    return KINDS.index(one.kind), (score, one.level / 5)


@dataclass(frozen=True, eq=False)
class TileFile:
    """Tiles on disk; a `train.tower.Source`.

    Attributes:
        pixels: (N, 3, tile, tile) uint8, not in memory.
        pictures: (N,) the picture that each was cut from.
        targets: (P, 3) of each picture: kind, score, distance.
        held: The same of held-out pictures, or None.
    """

    pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]
    pictures: np.ndarray[tuple[int, ...], np.dtype[np.int64]]
    targets: np.ndarray[tuple[int, ...], np.dtype[np.float32]]
    held: TileFile | None = None

    kinds: int = len(KINDS)
    values: int = 1 + len(KINDS)

    def draw(self, count: int, rng: np.random.Generator) -> Tiles:
        """See `Source.draw`."""
        return self._take(np.sort(rng.integers(0, len(self.pictures), count)))

    def held_out(self) -> Tiles:
        """See `Source.held_out`."""
        if self.held is None:
            raise DataError("tiles: there are none that are held out.")
        return self.held._take(np.arange(len(self.held.pictures)))

    def _take(self, places: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> Tiles:
        pictures = self.pictures[places]
        known = torch.from_numpy(self.targets[pictures])
        pixels = torch.from_numpy(np.ascontiguousarray(self.pixels[places]))
        kinds, rows = known[:, 0].long(), torch.arange(len(known))
        values = torch.full((len(known), self.values), torch.nan)
        values[:, 0], values[rows, 1 + kinds] = known[:, 1], known[:, 2]
        return Tiles(pixels, kinds, values, torch.from_numpy(pictures))

    @classmethod
    def load(cls, folder: Path, held: TileFile | None = None) -> TileFile:
        """Read what `cut_tiles` wrote."""
        known = np.load(folder / "known.npz")
        return cls(np.load(folder / "pixels.npy", mmap_mode="r"), known["pictures"], known["targets"], held)


def cut_tiles(shots: Sequence[Shot], root: Path, geometry: Geometry, folder: Path, workers: int = 0) -> TileFile:
    """Cut pictures into tiles, or read those that are there.

    Args:
        shots: The pictures; each has a score.
        root: The folder below which they lie.
        geometry: How they are cut.
        folder: Gets `pixels.npy`, `known.npz` and, once all are there, `tiles.json`.
        workers: Processes; 0 takes as many as there are cores.

    Raises:
        DataError: The folder holds tiles of other pictures.
    """
    plans = [_plan_of(root / shot.image, geometry) for shot in shots]
    starts = np.concatenate([[0], np.cumsum([one.tiles for one in plans])])
    how = {"pictures": len(shots), "tiles": int(starts[-1]), "tile": geometry.tile, "first": shots[0].image}
    record = folder / "tiles.json"
    if record.is_file():
        if json.loads(record.read_text(encoding="utf-8")) != how:
            raise DataError.about("folder", str(folder), f"tiles of {how}", "Remove it, and they are cut again.")
        return TileFile.load(folder)
    folder.mkdir(parents=True, exist_ok=True)
    shape = (int(starts[-1]), 3, geometry.tile, geometry.tile)
    open_memmap(folder / "pixels.npy", "w+", np.uint8, shape).flush()
    known = [target(shot) for shot in shots]
    np.savez(
        folder / "known.npz",
        pictures=np.repeat(np.arange(len(shots)), np.diff(starts)),
        targets=np.array([(kind, *values) for kind, values in known], dtype=np.float32),
    )
    paths = [root / shot.image for shot in shots]
    work = [
        (paths[at : at + _PORTION], geometry, folder / "pixels.npy", int(starts[at]))
        for at in range(0, len(paths), _PORTION)
    ]
    with ProcessPoolExecutor(workers or os.cpu_count() or 1, multiprocessing.get_context("spawn"), alone) as pool:
        for future in [pool.submit(_cut, *one) for one in work]:
            future.result()
    write_atomic(record, json.dumps(how) + "\n")
    return TileFile.load(folder)


def _plan_of(path: Path, geometry: Geometry) -> Plan:
    with Image.open(path) as image:
        return plan(geometry, image.height, image.width)


def _cut(paths: Sequence[Path], geometry: Geometry, file: Path, start: int) -> None:
    pixels = open_memmap(file, "r+")
    for tiles in _cuts(paths, geometry):
        pixels[start : start + len(tiles)] = tiles
        start += len(tiles)
    pixels.flush()


def _cuts(paths: Sequence[Path], geometry: Geometry) -> Iterator[np.ndarray[tuple[int, ...], np.dtype[np.uint8]]]:
    for path in paths:
        yield cut(load(path, exif=False), geometry).numpy()
