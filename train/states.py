"""What a frozen vision tower says of each training picture, computed once and read at every epoch.

With a frozen tower, every epoch of every run of a sweep would compute the same states again; reading them is several
times quicker. They are kept in half precision.

states.npy    (tiles of all pictures, side * side, D) float16
states.json   the pictures' places in it, and a fingerprint of the tower; written last
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.format import open_memmap
from PIL import Image

from qsit_metric.backends.vision import tower_states
from qsit_metric.files import write_atomic
from qsit_metric.geometry import Geometry
from qsit_metric.images import load
from qsit_metric.tiling import cut, normalise, plan

from .children import alone
from .data.freezing import Frozen
from .errors import RunError
from .heap import keep_freed_memory, quick_in_bfloat16
from .mixture import SETS
from .model import Parts

_AT_ONCE = 16  # pictures in one pass of the tower
_RECORD = "states.json"


@dataclass(frozen=True, eq=False)
class TowerStates:
    """States on disk.

    Attributes:
        folder: Where they are.
        tower: Fingerprint of the tower that gave them.
        places: First tile and number of tiles, height and width of each picture, by "set/image".
    """

    folder: Path
    tower: str
    places: Mapping[str, Sequence[int]]

    @classmethod
    def load(cls, folder: str | Path, model: Any) -> TowerStates:
        """Read what `compute_states` wrote.

        Raises:
            RunError: There is none, or it is of another tower than the model's.
        """
        path = Path(folder) / _RECORD
        if not path.is_file():
            hint = "Write it with `python -m train states`."
            raise RunError.about("data.states", str(folder), f"a folder with {_RECORD}", hint)
        fields = json.loads(path.read_text(encoding="utf-8"))
        if fields["tower"] != (own := fingerprint(model)):
            hint = "Compute them again: the tower has changed."
            raise RunError.about(
                "data.states", f"<tower {fields['tower']}>", f"states of the model's tower {own}", hint
            )
        return cls(Path(folder), fields["tower"], fields["places"])

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
        start, count, height, width = place
        found = np.load(self.folder / "states.npy", mmap_mode="r")[start : start + count]
        return torch.from_numpy(np.array(found)), (height, width)

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
    """Compute the states of all pictures of the data, or read those that are there.

    Args:
        parts: The model; its tower is used where it is.
        frozen: The data.
        folder: Where they go.
        workers: Processes that read and cut pictures; 0 takes as many as there are cores.
        say: Told how far it is.

    Raises:
        RunError: The folder holds states of another tower.
        ImageError: A picture cannot be read.
    """
    if (folder / _RECORD).is_file():
        return TowerStates.load(folder, parts.model)
    if parts.model.device.type == "cpu":
        keep_freed_memory()
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {picture: frozen.root(picture[0]) / picture[1] for picture in _pictures(frozen)}
    paths = list(dict.fromkeys(pictures.values()))  # sets may share pictures
    sizes = [_size(path) for path in paths]
    counts = [plan(parts.geometry, *size).tiles for size in sizes]
    starts = [0, *np.cumsum(counts).tolist()]
    vision = parts.model.config.vision_config
    shape = (starts[-1], parts.geometry.side**2, vision.hidden_size)
    states = open_memmap(folder / "states.npy", "w+", np.float16, shape)
    for batch, found in _computed(parts, paths, workers):
        states[starts[batch] : starts[batch] + len(found)] = found
        if batch % (50 * _AT_ONCE) == 0:
            say(f"states of {batch} of {len(paths)} pictures")
    states.flush()
    known = {path: (start, n, *size) for path, start, n, size in zip(paths, starts[:-1], counts, sizes, strict=True)}
    places = {f"{name}/{image}": known[path] for (name, image), path in pictures.items()}
    write_atomic(folder / _RECORD, json.dumps({"tower": fingerprint(parts.model), "places": places}) + "\n")
    return TowerStates.load(folder, parts.model)


def _pictures(frozen: Frozen) -> list[tuple[str, str]]:
    """(set, image), each once."""
    named = [(name, row.image) for name in SETS for row in frozen.rows(name)]
    named += [("scoring", row.image) for row in frozen.val_scoring]
    named += [("questions", question.image) for question in frozen.val_questions]
    return list(dict.fromkeys(named))


def _size(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:  # the header only; it is read whole later
        return image.height, image.width


def _computed(
    parts: Parts, paths: Sequence[Path], workers: int
) -> Iterator[tuple[int, np.ndarray[Any, np.dtype[np.float16]]]]:
    """(first picture of a batch, its tiles' states)."""
    batches = [list(paths[start : start + _AT_ONCE]) for start in range(0, len(paths), _AT_ONCE)]
    context, device = multiprocessing.get_context("spawn"), parts.model.device
    with ProcessPoolExecutor(workers or os.cpu_count() or 1, context, initializer=alone) as pool:
        # A few batches ahead; more would fill the memory.
        for start in range(0, len(batches), 32):
            ahead = [pool.submit(_tiles, batch, parts.geometry) for batch in batches[start : start + 32]]
            for index, future in enumerate(ahead, start):
                yield index * _AT_ONCE, _states(parts, future.result(), device)


def _states(parts: Parts, tiles: torch.Tensor, device: torch.device) -> np.ndarray[Any, np.dtype[np.float16]]:
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=quick_in_bfloat16(device.type)):
        found = tower_states(parts.model, normalise(tiles.to(device), parts.geometry))
    half: np.ndarray[Any, np.dtype[np.float16]] = found.half().cpu().numpy()
    return half


def _tiles(paths: Sequence[Path], geometry: Geometry) -> torch.Tensor:
    return torch.cat([cut(load(path, exif=False), geometry) for path in paths])
