"""The model that everything starts from: an untrained one whose vision tower has learned to see degradations."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from qsit_metric.files import commit_folder, write_atomic

from ..data.frozen import Frozen
from ..model import load_parts
from ..prepared import Prepared
from ..recipe import Model
from .data.dataset import read_pictures
from .data.pictures import MadePicture
from .scratch import Scratch, build_base
from .spec import Device
from .tiles import Windows
from .tower import Lessons, Say, Seen, teach

SEEN = "tower.json"
_CROPS = 512  # tiles that scale the filters of the patch embedding
_STATE = "tower.state"


def make_tower(
    spec: Scratch, data: Path, store: Prepared, output: Path, lessons: Lessons, device: Device, say: Say
) -> Path:
    """Write the base, or hand back the one that is there; a stage that was cut goes on where it was.

    Args:
        spec: Its sizes.
        data: The folder of `make_dataset`: its scored pictures are shown, the tokenizer learns its texts.
        store: The tiles of its pictures.
        output: Gets `models/`.
        lessons: How the tower is taught.
        device: Where it is taught.
        say: Told how far it is.

    Returns:
        The folder; `tower.json` in it says what the tower can do.
    """
    folder, state = output / "models" / "tower", output / "models" / _STATE
    if folder.is_dir():
        return folder
    taken, held = read_pictures(data, "d1"), read_pictures(data, "scoring")
    blank = output / "models" / "blank"
    if not blank.is_dir():
        build_base(spec, _texts(Frozen.load(data / "data")), blank, lessons.seed, _crops(store, taken, lessons.seed))
    parts = load_parts(Model(base=str(blank), gradient_checkpointing=False, attention=device.attention), "train")
    parts.model.to(device.name)
    source = Windows(store, spec.geometry, taken, held, parts.device)
    seen = teach(parts.model, source, lessons, state, say)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".tower-") as place:
        parts.model.cpu()
        parts.save(Path(place) / "tower")
        write_atomic(Path(place) / "tower" / SEEN, json.dumps(_record(lessons, seen, len(taken)), indent=1) + "\n")
        commit_folder(Path(place) / "tower", folder)
    state.unlink(missing_ok=True)
    return folder


def _texts(rows: Frozen) -> Sequence[str]:
    return [text for name in ("d1", "d2", "d3") for row in rows.rows(name) for turn in row.turns for text in turn]


def _crops(store: Prepared, shots: Sequence[MadePicture], seed: int) -> torch.Tensor:
    """(N, 3, tile, tile) in -1..1, the second tile of some pictures: the first is the whole, squeezed."""
    picks = np.random.default_rng(seed).integers(0, len(shots), _CROPS)
    pixels, firsts = store.array()
    starts = sorted({firsts[shots[pick].image] for pick in picks.tolist()})
    return torch.from_numpy(pixels[[start + 1 for start in starts]]) / 127.5 - 1


def _record(lessons: Lessons, seen: Seen, pictures: int) -> dict[str, object]:
    shown = lessons.steps * lessons.batch
    return {**asdict(seen), "pictures": pictures, "tiles": shown, "lessons": asdict(lessons)}
