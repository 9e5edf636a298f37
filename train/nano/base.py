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

from ..data.freezing import Frozen
from ..data.synthetic.make import read_shots
from ..model import load_parts
from ..recipe import Model
from ..scratch import Scratch, build_base
from ..tower import Lessons, Say, Seen, teach
from .tiles import TileFile, cut_tiles

SEEN = "tower.json"
_CROPS = 512  # tiles that scale the filters of the patch embedding
_STATE = "tower.state"


def make_tower(spec: Scratch, data: Path, output: Path, lessons: Lessons, say: Say) -> Path:
    """Write the base, or hand back the one that is there; a stage that was cut goes on where it was.

    Args:
        spec: Its sizes.
        data: The folder of `make_dataset`: tiles are cut from its scored pictures, the tokenizer learns its texts.
        output: Gets `tiles/` and `models/`.
        lessons: How the tower is taught.
        say: Told how far it is.

    Returns:
        The folder; `tower.json` in it says what the tower can do.
    """
    folder, state = output / "models" / "tower", output / "models" / _STATE
    if folder.is_dir():
        return folder
    rows = Frozen.load(data / "data")
    tiles = _tiles(data, spec, output / "tiles")
    blank = output / "models" / "blank"
    if not blank.is_dir():
        build_base(spec, _texts(rows), blank, lessons.seed, _crops(tiles, lessons.seed))
    parts = load_parts(Model(base=str(blank), gradient_checkpointing=False, attention="eager"), "train")
    parts.model.to("cuda" if torch.cuda.is_available() else "cpu")
    seen = teach(parts.model, tiles, lessons, state, say)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".tower-") as place:
        parts.model.cpu()
        parts.save(Path(place) / "tower")
        write_atomic(Path(place) / "tower" / SEEN, json.dumps(_record(lessons, seen), indent=1) + "\n")
        commit_folder(Path(place) / "tower", folder)
    state.unlink(missing_ok=True)
    return folder


def _texts(rows: Frozen) -> Sequence[str]:
    return [text for name in ("d1", "d2", "d3") for row in rows.rows(name) for turn in row.turns for text in turn]


def _tiles(data: Path, spec: Scratch, folder: Path) -> TileFile:
    held = cut_tiles(read_shots(data, "scoring"), data / "images", spec.geometry, folder / "scoring")
    taken = cut_tiles(read_shots(data, "d1"), data / "images", spec.geometry, folder / "d1")
    return TileFile(taken.pixels, taken.pictures, taken.targets, held)


def _crops(tiles: TileFile, seed: int) -> torch.Tensor:
    return tiles.draw(_CROPS, np.random.default_rng(seed)).pixels / 127.5 - 1


def _record(lessons: Lessons, seen: Seen) -> dict[str, object]:
    return {**asdict(seen), "tiles": lessons.steps * lessons.batch, "lessons": asdict(lessons)}
