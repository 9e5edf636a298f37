"""The bases of the tiny run: untrained checkpoints whose vision tower has learned to see degradations."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from qsit_metric.files import commit_folder, write_atomic

from ..model import load_parts
from ..nano.scratch import Scratch, build_base
from ..nano.tower import Lessons, Seen, teach
from ..recipe import Model
from .eyes import take_crops

SEEN = "tower.json"


def make_base(spec: Scratch, texts: Sequence[str], folder: Path, *, crops: int, steps: int, seed: int) -> Path:
    """Write a base, or hand back the one that is there.

    Args:
        spec: Its sizes.
        texts: What its tokenizer is trained on.
        folder: Where it goes; whole or not there.
        crops: Crops that the tower sees.
        steps: Optimiser steps of the tower.
        seed: Of weights and crops.

    Returns:
        The folder; `tower.json` in it says what the tower can do.
    """
    if folder.is_dir():
        return folder
    taken = take_crops(crops, spec.tile, seed)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as place:
        blank = build_base(spec, texts, Path(place) / "blank", seed, taken.tiles.pixels[:512] / 127.5 - 1)
        parts = load_parts(Model(base=str(blank), gradient_checkpointing=False), "train")
        seen = teach(parts.model, taken, Lessons(steps, seed=seed))
        parts.save(Path(place) / "base")
        _note(Path(place) / "base", seen)
        return commit_folder(Path(place) / "base", folder)


def _note(folder: Path, seen: Seen) -> None:
    write_atomic(folder / SEEN, json.dumps(asdict(seen), indent=1) + "\n")
