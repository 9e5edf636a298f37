"""The model that everything starts from: an untrained one whose vision tower has learned to see degradations."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import torch

from qsit_metric.files import commit_folder

from ..data.frozen import Frozen
from ..mixture import SETS
from ..model import load_parts
from ..recipe import Model
from .scratch import Scratch, build_base
from .stages import FILES, Say
from .tower import Lessons, Source, teach

SEEN = "tower.json"
_STATE = "tower.state"


def make_tower(
    folder: Path,
    spec: Scratch,
    texts: Callable[[], Sequence[str]],
    tiles: Callable[[], torch.Tensor],
    source: Callable[[torch.device], Source],
    lessons: Lessons,
    *,
    device: str = "cpu",
    attention: Literal["sdpa", "eager"] | None = None,
    say: Say = lambda _: None,
    **record: Any,
) -> Path:
    """Write the base, or hand back the one that is there; a stage that was cut goes on where it was.

    Args:
        folder: Where it goes, whole or not there; beside it are the untrained model and the state of the teaching.
        spec: Its sizes.
        texts: What its tokenizer is trained on.
        tiles: Gives (N, 3, tile, tile) in -1..1, by which the filters of the patch embedding are scaled.
        source: What the tower is shown, on a device.
        lessons: How it is taught.
        device: Where it is taught.
        attention: How attention is computed.
        say: Told how far it is.
        record: More fields of `tower.json`.

    Returns:
        The folder; `tower.json` in it says what the tower can do.
    """
    state, blank = folder.parent / _STATE, folder.parent / "blank"
    if folder.is_dir():
        return folder
    if not blank.is_dir():
        build_base(spec, texts(), blank, lessons.seed, tiles())
    parts = load_parts(Model(base=str(blank), gradient_checkpointing=False, attention=attention), "train")
    parts.model.to(device)
    seen = teach(parts.model, source(parts.device), lessons, state, say)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".tower-") as place:
        written = Path(place) / folder.name
        parts.model.cpu()
        parts.save(written)
        shown = {"tiles": lessons.steps * lessons.batch, "lessons": asdict(lessons)}
        FILES.write_json(written / SEEN, {**asdict(seen), **record, **shown})
        commit_folder(written, folder)
    state.unlink(missing_ok=True)
    return folder


def texts_of(*frozen: Frozen) -> list[str]:
    """Every question and answer in the rows of some data, for the tokenizer."""
    rows = [row for one in frozen for name in SETS for row in one.rows(name)]
    return [text for row in rows for turn in row.turns for text in turn]
