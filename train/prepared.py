"""What is computed of pictures once and read at every epoch: their tiles, or what a frozen tower says of these.

A tower that does not learn would compute the same states at every epoch of every run; reading them is several times
quicker. Tiles spare decoding, cutting and resizing. Either is kept in files of limited size, so that the work can be
cut and gone on with, and pictures can be added; one that was replaced is done anew.

states-00000.npy ...   (tiles of its pictures, side * side, D) float16; tiles: (..., 3, tile, tile) uint8
states.json            the pictures' places in them, the geometry, the tower's fingerprint; written after each file
"""

from __future__ import annotations

import functools
import hashlib
import json
import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import astuple, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.lib.format import open_memmap
from PIL import Image

from qsit_metric.backends.training import LlavaOnevision
from qsit_metric.files import Files, Stamp, write_atomic
from qsit_metric.journal import check_same
from qsit_metric.pixels import load
from qsit_metric.pixels.geometry import Geometry
from qsit_metric.pixels.tiles import cut, normalise, plan

from .data.frozen import Frozen
from .errors import RunError
from .mixture import SETS
from .model import Parts
from .processes import alone, in_order, keep_freed_memory, quick_in_bfloat16

Array = np.ndarray[Any, np.dtype[Any]]
Kind = Literal["states", "tiles"]
Say = Callable[[str], None]
_AT_ONCE = 16  # pictures in one pass of the tower
_FILE_BYTES = {"states": 2**28, "tiles": 2**40}  # tiles: one file, which the first stage of a tower reads as an array
_FORMAT = 2  # 1 had one file for all, and could not grow


class Place(NamedTuple):
    """Place of a picture's tiles in the files.

    Attributes:
        file: Number of the file.
        start: Its first tile there.
        tiles: How many it has.
        height: Of the picture, in pixels.
        width: Of the picture, in pixels.
        size: Bytes of the picture's file; with the next two a `files.Stamp`, by which a replaced picture is found out.
        modified: Its time; empty in records of the first release, which go by the size alone.
        sha256: Of its content; likewise.
    """

    file: int
    start: int
    tiles: int
    height: int
    width: int
    size: int
    modified: str = ""
    sha256: str = ""


@dataclass(frozen=True, eq=False)
class Prepared:
    """Store of tiles or tower states on disk.

    Attributes:
        folder: Where they are.
        kind: What they are.
        geometry: How the pictures were cut.
        tower: Fingerprint of the tower that gave the states; empty for tiles.
        places: Of each picture, by its name: "set/image" for states, the path below the image root for tiles.
    """

    folder: Path
    kind: Kind
    geometry: str
    tower: str
    places: Mapping[str, Place]

    @classmethod
    def load(cls, folder: str | Path, kind: Kind, geometry: Geometry, tower: str = "") -> Prepared:
        """Read what `compute_states` or `cut_pictures` wrote.

        Raises:
            RunError: There is none, or it was made with another tower or geometry.
        """
        folder, files = Path(folder), Files(RunError, f"data.{kind}")
        path = folder / f"{kind}.json"
        if not path.is_file():
            hint = "Write it with `python -m train states`." if kind == "states" else "`train.prepared` writes it."
            raise RunError.about(files.argument, str(folder), f"a folder with {path.name}", hint)
        fields = files.json(path)
        made = {"format": _FORMAT, "tower": tower, "geometry": repr(geometry)}
        hint = "Compute them again in another folder."
        check_same(folder, {name: fields.get(name) for name in made}, made, files, what=kind, hint=hint)
        places = {name: Place(*place) for name, place in fields["places"].items()}
        return cls(folder, kind, repr(geometry), tower, places)

    def save(self) -> None:
        """Write the record of what is there."""
        fields = {"format": _FORMAT, "tower": self.tower, "geometry": self.geometry, "places": self.places}
        write_atomic(self.folder / f"{self.kind}.json", json.dumps(fields) + "\n")

    def of(self, name: str) -> tuple[torch.Tensor, tuple[int, int]]:
        """(tiles, ...) of a picture, and its (height, width).

        Raises:
            RunError: It is not among them.
        """
        place = self.places.get(name)
        if place is None:
            hint = "Compute them again with this data."
            expected = f"{self.kind} of the picture {name!r}"
            raise RunError.about(f"data.{self.kind}", str(self.folder), expected, hint)
        stored = _opened(self.file(place.file))
        return torch.from_numpy(np.array(stored[place.start : place.start + place.tiles])), (place.height, place.width)

    def of_set(self, name: str) -> Callable[[str], tuple[torch.Tensor, tuple[int, int]]]:
        """`of` for the pictures of one set; goes to worker processes."""
        return partial(_of_set, self, name)

    def array(self) -> tuple[Array, Mapping[str, int]]:
        """All tiles as one array, not in memory if they are in one file, and the place of each picture's first."""
        count = 1 + max((place.file for place in self.places.values()), default=-1)
        files = [_opened(self.file(number)) for number in range(count)]
        starts = np.cumsum([0, *(len(file) for file in files)]).tolist()
        whole = files[0] if count == 1 else np.concatenate(files)
        return whole, {name: starts[place.file] + place.start for name, place in self.places.items()}

    def file(self, number: int) -> Path:
        """The path of a file."""
        return self.folder / f"{self.kind}-{number:05d}.npy"


def _of_set(kept: Prepared, name: str, image: str) -> tuple[torch.Tensor, tuple[int, int]]:
    return kept.of(f"{name}/{image}")


@functools.lru_cache(maxsize=64)
def _mapped(path: Path, _: int) -> Array:
    found: Array = np.load(path, mmap_mode="c")
    return found


def _opened(path: Path) -> Array:
    return _mapped(path, path.stat().st_mtime_ns)  # a file that was written anew is another one


def fingerprint(model: LlavaOnevision) -> str:
    """Short hash of the weights of a model's vision tower."""
    digest = hashlib.sha256()
    for name, weight in sorted(model.model.vision_tower.vision_model.state_dict().items()):
        digest.update(name.encode() + weight.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def compute_states(parts: Parts, frozen: Frozen, folder: Path, workers: int = 0, say: Say = lambda _: None) -> Prepared:
    """Compute the tower's states of all pictures of the data that are not there yet.

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
    if parts.device.type == "cpu":
        keep_freed_memory()
    shape = parts.geometry.side**2, int(parts.model.config.vision.hidden)
    pictures = {f"{name}/{image}": frozen.root(name) / image for name, image in _pictures(frozen)}
    made = _Maker("states", np.dtype(np.float16), shape, parts.geometry, partial(_states, parts))
    return made.fill(folder, fingerprint(parts.model), pictures, workers, say)


def cut_pictures(
    images: Sequence[str],
    root: Path,
    geometry: Geometry,
    folder: Path,
    workers: int = 0,
    say: Say = lambda _: None,
) -> Prepared:
    """Cut pictures into tiles, as far as they are not there yet.

    Args:
        images: Their paths below the root, each once.
        root: The folder below which they lie.
        geometry: How they are cut.
        folder: Where the tiles go.
        workers: Processes; 0 takes as many as there are cores.
        say: Told how far it is.

    Raises:
        RunError: The folder holds tiles that were cut in another way.
        ImageError: A picture cannot be read.
    """
    made = _Maker("tiles", np.dtype(np.uint8), (3, geometry.tile, geometry.tile), geometry, torch.Tensor.numpy)
    return made.fill(folder, "", {image: root / image for image in images}, workers, say)


class _Picture(NamedTuple):
    path: Path
    height: int
    width: int
    tiles: int


_Batch = tuple[Sequence[_Picture], torch.Tensor]


@dataclass(frozen=True)
class _Maker:
    """Maker of one kind of store.

    Attributes:
        kind: "states" or "tiles".
        dtype: Of the files.
        shape: Of what is kept of a tile.
        geometry: How pictures are cut.
        content: Makes it from tiles.
    """

    kind: Kind
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    geometry: Geometry
    content: Callable[[torch.Tensor], Array]

    def fill(self, folder: Path, tower: str, pictures: Mapping[str, Path], workers: int, say: Say) -> Prepared:
        """Add what is missing to a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / f"{self.kind}.json").is_file():
            Prepared(folder, self.kind, repr(self.geometry), tower, {}).save()
        kept = Prepared.load(folder, self.kind, self.geometry, tower)
        known = {path: kept.places[name] for name, path in pictures.items() if _has(kept, name, path)}
        paths = list(dict.fromkeys(path for path in pictures.values() if path not in known))  # sets may share pictures
        first, done = 1 + max((place.file for place in kept.places.values()), default=-1), 0
        context = multiprocessing.get_context("spawn")
        workers = workers or os.cpu_count() or 1
        with ProcessPoolExecutor(workers, context, initializer=alone) as pool:
            batches = partial(self._cut, pool, 2 * workers)
            try:
                for number, portion in enumerate(self._portions(paths), first):
                    known |= self._write(kept.file(number), number, portion, batches(portion))
                    _named(kept, pictures, known).save()
                    done += len(portion)
                    say(f"{self.kind} of {done} of {len(paths)} pictures")
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        kept = _named(kept, pictures, known)
        kept.save()
        return kept

    def _portions(self, paths: Sequence[Path]) -> Iterator[list[_Picture]]:
        """The pictures of each file."""
        of_tile = self.dtype.itemsize * int(np.prod(self.shape))
        portion: list[_Picture] = []
        size = 0
        for path in paths:
            picture = self._measured(path)
            if portion and size + picture.tiles * of_tile > _FILE_BYTES[self.kind]:
                yield portion
                portion, size = [], 0
            portion.append(picture)
            size += picture.tiles * of_tile
        if portion:
            yield portion

    def _measured(self, path: Path) -> _Picture:
        try:
            with Image.open(path) as image:  # the header only; it is read whole later
                height, width = image.height, image.width
        except OSError:
            picture = load(path, exif=False)  # says what is wrong
            height, width = picture.height, picture.width
        return _Picture(path, height, width, plan(self.geometry, height, width).tiles)

    def _write(
        self, target: Path, number: int, pictures: Sequence[_Picture], batches: Iterator[_Batch]
    ) -> dict[Path, Place]:
        """Write a file; it is there as a whole or not at all."""
        work = target.with_suffix(".part")
        shape = sum(picture.tiles for picture in pictures), *self.shape
        array, places, start = open_memmap(work, "w+", self.dtype, shape), {}, 0
        for batch, tiles in batches:
            stop = start + sum(picture.tiles for picture in batch)
            array[start:stop] = self.content(tiles)
            for path, height, width, count in batch:
                places[path] = Place(number, start, count, height, width, *astuple(Stamp.of(path)))
                start += count
        array.flush()
        work.replace(target)
        return places

    def _cut(self, pool: ProcessPoolExecutor, ahead: int, pictures: Sequence[_Picture]) -> Iterator[_Batch]:
        """Batches of pictures and their tiles, which worker processes cut ahead: a few, not all that memory holds."""
        batches = [pictures[start : start + _AT_ONCE] for start in range(0, len(pictures), _AT_ONCE)]
        return zip(batches, in_order(pool, partial(_tiles, geometry=self.geometry), batches, ahead), strict=True)


def _has(kept: Prepared, name: str, path: Path) -> bool:
    place = kept.places.get(name)
    if place is None or not path.is_file():
        return False
    if not place.sha256:
        return place.size == path.stat().st_size
    return Stamp(place.size, place.modified, place.sha256).holds(path)


def _named(kept: Prepared, pictures: Mapping[str, Path], known: Mapping[Path, Place]) -> Prepared:
    return replace(
        kept, places={**kept.places, **{name: known[path] for name, path in pictures.items() if path in known}}
    )


def _pictures(frozen: Frozen) -> list[tuple[str, str]]:
    """(set, image), each once."""
    named = [(name, row.image) for name in SETS for row in frozen.rows(name)]
    named += [("scoring", row.image) for row in frozen.val_scoring]
    named += [("questions", question.image) for question in frozen.val_questions]
    return list(dict.fromkeys(named))


def _states(parts: Parts, tiles: torch.Tensor) -> Array:
    device = parts.device
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=quick_in_bfloat16(device.type)):
        found = parts.model.states(normalise(tiles.to(device), parts.geometry))
    half: Array = found.half().cpu().numpy()
    return half


def _tiles(pictures: Sequence[_Picture], geometry: Geometry) -> torch.Tensor:
    return torch.cat([cut(load(picture.path, exif=False), geometry) for picture in pictures])
