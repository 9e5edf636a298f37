"""The pictures of a data set, cut into the tiles that the model sees: one file, read at every epoch without decoding.

pixels.npy   (tiles of all pictures, 3, tile, tile) uint8
tiles.json   each picture's first tile, number of tiles, height and width; written last
"""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.format import open_memmap
from PIL import Image

from qsit_metric.files import write_atomic
from qsit_metric.geometry import Geometry
from qsit_metric.images import load
from qsit_metric.tiling import cut, plan

from .errors import DataError, RunError
from .processes import alone

_RECORD, _PIXELS = "tiles.json", "pixels.npy"
_PORTION = 50  # pictures that a process cuts at a time
Place = tuple[int, int, int, int]


@dataclass(frozen=True, eq=False)
class TileStore:
    """Tiles on disk.

    Attributes:
        folder: Where they are.
        places: First tile and number of tiles, height and width of each picture, by its path below the image root.
    """

    folder: Path
    places: Mapping[str, Place]

    @classmethod
    def load(cls, folder: str | Path, geometry: Geometry) -> TileStore:
        """Read what `cut_pictures` wrote.

        Raises:
            RunError: There is none, or it was cut in another way.
        """
        path = Path(folder) / _RECORD
        if not path.is_file():
            raise RunError.about("data.tiles", str(folder), f"a folder with {_RECORD}", "`train.tiles` writes it.")
        fields = json.loads(path.read_text(encoding="utf-8"))
        if fields["geometry"] != _said(geometry):
            raise RunError.about("data.tiles", str(folder), "tiles of the model's geometry", "Cut the pictures again.")
        return cls(Path(folder), {image: tuple(place) for image, place in fields["places"].items()})

    @cached_property
    def pixels(self) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """(N, 3, tile, tile), not in memory."""
        found: np.ndarray[Any, np.dtype[np.uint8]] = np.load(self.folder / _PIXELS, mmap_mode="c")
        return found

    def __call__(self, image: str) -> tuple[torch.Tensor, tuple[int, int]]:
        """(tiles, 3, tile, tile) uint8 of a picture, and its (height, width).

        Raises:
            RunError: It is not among them.
        """
        place = self.places.get(image)
        if place is None:
            hint = "Cut the pictures of this data again."
            raise RunError.about("data.tiles", str(self.folder), f"tiles of the picture {image!r}", hint)
        start, count, height, width = place
        return torch.from_numpy(np.array(self.pixels[start : start + count])), (height, width)

    def __getstate__(self) -> dict[str, Any]:
        """Worker processes open the file themselves."""
        return {"folder": self.folder, "places": self.places}


def cut_pictures(
    images: Sequence[str],
    root: Path,
    geometry: Geometry,
    folder: Path,
    workers: int = 0,
    say: Callable[[str], None] = lambda _: None,
) -> TileStore:
    """Cut pictures into tiles, or read those that are there.

    Args:
        images: Their paths below the root, each once.
        root: The folder below which they lie.
        geometry: How they are cut.
        folder: Where the tiles go.
        workers: Processes; 0 takes as many as there are cores.
        say: Told how far it is.

    Raises:
        DataError: The folder holds tiles of other pictures.
        RunError: It holds tiles that were cut in another way.
        ImageError: A picture cannot be read.
    """
    if (folder / _RECORD).is_file():
        store = TileStore.load(folder, geometry)
        if list(store.places) != list(images):
            raise DataError.about(
                "folder", str(folder), "tiles of these pictures", "Remove it, and they are cut again."
            )
        return store
    folder.mkdir(parents=True, exist_ok=True)
    sizes = [_size(root / image) for image in images]
    counts = [plan(geometry, *size).tiles for size in sizes]
    starts = [0, *np.cumsum(counts).tolist()]
    open_memmap(folder / _PIXELS, "w+", np.uint8, (starts[-1], 3, geometry.tile, geometry.tile)).flush()
    paths = [root / image for image in images]
    work = [
        (paths[at : at + _PORTION], geometry, folder / _PIXELS, starts[at]) for at in range(0, len(paths), _PORTION)
    ]
    with ProcessPoolExecutor(workers or os.cpu_count() or 1, multiprocessing.get_context("spawn"), alone) as pool:
        for done, future in enumerate(as_completed([pool.submit(_cut, *one) for one in work]), 1):
            future.result()
            if done % 100 == 0:
                say(f"tiles of {done * _PORTION} of {len(paths)} pictures")
    places = {
        image: (start, count, *size) for image, start, count, size in zip(images, starts, counts, sizes, strict=False)
    }
    write_atomic(folder / _RECORD, json.dumps({"geometry": _said(geometry), "places": places}) + "\n")
    return TileStore.load(folder, geometry)


def _said(geometry: Geometry) -> str:
    return repr(geometry)


def _size(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:  # the header only; it is read whole later
        return image.height, image.width


def _cut(paths: Sequence[Path], geometry: Geometry, file: Path, start: int) -> None:
    pixels = open_memmap(file, "r+")
    for path in paths:
        tiles = cut(load(path, exif=False), geometry).numpy()
        pixels[start : start + len(tiles)] = tiles
        start += len(tiles)
    pixels.flush()
