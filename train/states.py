"""What a frozen vision tower says of each training picture, computed once and read at every epoch.

With a frozen tower, every epoch of every run of a sweep would compute the same states again; reading them is several
times quicker. They are kept in half precision, in files of a quarter of a gigabyte, so that the work can be cut and
gone on with, and pictures can be added.

states-00000.npy ...   (tiles of its pictures, side * side, D) float16
states.json            the pictures' places in them, the geometry, a fingerprint of the tower; written after each file
"""

from __future__ import annotations

import hashlib
import json
import math
import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.lib.format import open_memmap
from PIL import Image

from qsit_metric.backends.vision import tower_states
from qsit_metric.files import write_atomic
from qsit_metric.geometry import Geometry
from qsit_metric.images import load
from qsit_metric.tiling import cut, normalise, plan

from .data.frozen import Frozen
from .errors import RunError
from .mixture import SETS
from .model import Parts
from .processes import alone, keep_freed_memory, quick_in_bfloat16

_AT_ONCE = 16  # pictures in one pass of the tower
_FILE_BYTES = 2**28
_FORMAT = 2  # 1 had one file for all, and could not grow
_RECORD = "states.json"
_Batch = tuple[list[Path], "Future[torch.Tensor]"]


class Place(NamedTuple):
    """Where the states of a picture are.

    Attributes:
        file: Number of the file.
        start: Its first tile there.
        tiles: How many it has.
        height: Of the picture, in pixels.
        width: Of the picture, in pixels.
        size: Bytes of the picture's file, by which most pictures that were replaced are found out.
    """

    file: int
    start: int
    tiles: int
    height: int
    width: int
    size: int


@dataclass(frozen=True, eq=False)
class TowerStates:
    """States on disk.

    Attributes:
        folder: Where they are.
        tower: Fingerprint of the tower that gave them.
        geometry: How the pictures were cut.
        places: Of each picture, by "set/image".
    """

    folder: Path
    tower: str
    geometry: str
    places: Mapping[str, Place]

    @classmethod
    def load(cls, folder: str | Path, parts: Parts) -> TowerStates:
        """Read what `compute_states` wrote.

        Raises:
            RunError: There is none, or it is of another tower or geometry than the model's.
        """
        path = Path(folder) / _RECORD
        if not path.is_file():
            hint = "Write it with `python -m train states`."
            raise RunError.about("data.states", str(folder), f"a folder with {_RECORD}", hint)
        fields = json.loads(path.read_text(encoding="utf-8"))
        if fields.get("format") != _FORMAT:
            expected = f"states of format {_FORMAT}"
            raise RunError.about("data.states", str(folder), expected, "Remove the folder, and compute them again.")
        hint = "Compute them again in another folder: {} has changed."
        if fields["tower"] != (own := fingerprint(parts.model)):
            expected = f"states of the model's tower {own}"
            raise RunError.about("data.states", f"<tower {fields['tower']}>", expected, hint.format("the tower"))
        if fields["geometry"] != repr(parts.geometry):
            expected = "states of pictures that were cut by the model's geometry"
            raise RunError.about("data.states", str(folder), expected, hint.format("the geometry"))
        places = {name: Place(*place) for name, place in fields["places"].items()}
        return cls(Path(folder), own, repr(parts.geometry), places)

    def of(self, name: str, image: str) -> tuple[torch.Tensor, tuple[int, int]]:
        """(tiles, side * side, D) float16 of a picture, and its (height, width).

        Raises:
            RunError: It is not among them.
        """
        place = self.places.get(f"{name}/{image}")
        if place is None:
            hint = "Compute them again with this data."
            raise RunError.about("data.states", str(self.folder), f"states of the picture {image!r} of {name}", hint)
        # Opened at each use: worker processes share the pages and not the handle.
        stored = np.load(_file(self.folder, place.file), mmap_mode="r")
        found = np.array(stored[place.start : place.start + place.tiles])
        return torch.from_numpy(found), (place.height, place.width)

    def reader(self, name: str) -> Callable[[str], tuple[torch.Tensor, tuple[int, int]]]:
        """`of` for the pictures of one set; goes to worker processes."""
        return partial(self.of, name)


def fingerprint(model: Any) -> str:
    """Short hash of the weights of a model's vision tower."""
    digest = hashlib.sha256()
    for name, weight in sorted(model.model.vision_tower.state_dict().items()):
        digest.update(name.encode() + weight.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def compute_states(
    parts: Parts, frozen: Frozen, folder: Path, workers: int = 0, say: Callable[[str], None] = lambda _: None
) -> TowerStates:
    """Compute the states of all pictures of the data that are not there yet.

    Args:
        parts: The model; its tower is used where it is.
        frozen: The data.
        folder: Where they go; what an earlier or a cut run has left there is kept.
        workers: Processes that read and cut pictures; 0 takes as many as there are cores.
        say: Told how far it is.

    Raises:
        RunError: The folder holds states of another tower.
        ImageError: A picture cannot be read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / _RECORD).is_file():
        _record(TowerStates(folder, fingerprint(parts.model), repr(parts.geometry), {}))
    states = TowerStates.load(folder, parts)
    pictures = {f"{name}/{image}": frozen.root(name) / image for name, image in _pictures(frozen)}
    known = {path: states.places[name] for name, path in pictures.items() if _has(states, name, path)}
    paths = list(dict.fromkeys(path for path in pictures.values() if path not in known))  # sets may share pictures
    if paths and parts.model.device.type == "cpu":
        keep_freed_memory()
    first, done = 1 + max((place.file for place in states.places.values()), default=-1), 0
    for number, batches in enumerate(_files(paths, parts, workers), first):
        known |= _written(folder, number, batches, parts)
        _record(replace(states, places=_named(states, pictures, known)))
        done += sum(len(batch) for batch, _ in batches)
        say(f"states of {done} of {len(paths)} pictures")
    _record(replace(states, places=_named(states, pictures, known)))
    return TowerStates.load(folder, parts)


def _has(states: TowerStates, name: str, path: Path) -> bool:
    place = states.places.get(name)
    return place is not None and path.is_file() and place.size == path.stat().st_size


def _named(states: TowerStates, pictures: Mapping[str, Path], known: Mapping[Path, Place]) -> dict[str, Place]:
    return {**states.places, **{name: known[path] for name, path in pictures.items() if path in known}}


def _record(states: TowerStates) -> None:
    fields = {"format": _FORMAT, "tower": states.tower, "geometry": states.geometry, "places": states.places}
    write_atomic(states.folder / _RECORD, json.dumps(fields) + "\n")


def _file(folder: Path, number: int) -> Path:
    return folder / f"states-{number:05d}.npy"


def _written(folder: Path, number: int, batches: Sequence[_Batch], parts: Parts) -> dict[Path, Place]:
    """Compute the states of a file's pictures, and write it; it is there as a whole or not at all."""
    sizes = {path: _size(path) for batch, _ in batches for path in batch}
    counts = {path: plan(parts.geometry, *size).tiles for path, size in sizes.items()}
    shape = (sum(counts.values()), *_shape_of_tile(parts))
    target, work = _file(folder, number), _file(folder, number).with_suffix(".part")
    states, places, start = open_memmap(work, "w+", np.float16, shape), {}, 0
    for batch, tiles in batches:
        stop = start + sum(counts[path] for path in batch)
        states[start:stop] = _states(parts, tiles.result(), parts.model.device)
        for path in batch:
            places[path] = Place(number, start, counts[path], *sizes[path], path.stat().st_size)
            start += counts[path]
    states.flush()
    work.replace(target)
    return places


def _shape_of_tile(parts: Parts) -> tuple[int, int]:
    return parts.geometry.side**2, int(parts.model.config.vision_config.hidden_size)


def _pictures(frozen: Frozen) -> list[tuple[str, str]]:
    """(set, image), each once."""
    named = [(name, row.image) for name in SETS for row in frozen.rows(name)]
    named += [("scoring", row.image) for row in frozen.val_scoring]
    named += [("questions", question.image) for question in frozen.val_questions]
    return list(dict.fromkeys(named))


def _size(path: Path) -> tuple[int, int]:
    try:
        with Image.open(path) as image:  # the header only; it is read whole later
            return image.height, image.width
    except OSError:
        picture = load(path, exif=False)  # says what is wrong
        return picture.height, picture.width


def _files(paths: Sequence[Path], parts: Parts, workers: int) -> Iterator[list[_Batch]]:
    """The batches of each file, which worker processes cut ahead."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers or os.cpu_count() or 1, context, initializer=alone) as pool:
        try:
            for portion in _portions(paths, parts):
                batches = [portion[start : start + _AT_ONCE] for start in range(0, len(portion), _AT_ONCE)]
                yield [(batch, pool.submit(_tiles, batch, parts.geometry)) for batch in batches]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _portions(paths: Sequence[Path], parts: Parts) -> Iterator[list[Path]]:
    """The pictures of each file."""
    of_tile = 2 * math.prod(_shape_of_tile(parts))
    portion: list[Path] = []
    size = 0
    for path in paths:
        more = plan(parts.geometry, *_size(path)).tiles * of_tile
        if portion and size + more > _FILE_BYTES:
            yield portion
            portion, size = [], 0
        portion, size = [*portion, path], size + more
    if portion:
        yield portion


def _states(parts: Parts, tiles: torch.Tensor, device: torch.device) -> np.ndarray[Any, np.dtype[np.float16]]:
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=quick_in_bfloat16(device.type)):
        found = tower_states(parts.model, normalise(tiles.to(device), parts.geometry))
    half: np.ndarray[Any, np.dtype[np.float16]] = found.half().cpu().numpy()
    return half


def _tiles(paths: Sequence[Path], geometry: Geometry) -> torch.Tensor:
    return torch.cat([cut(load(path, exif=False), geometry) for path in paths])
