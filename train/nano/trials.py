"""Runs that the embedded model is compared with: a set left out, another mixture, a type without scores.

Paper: Q-SiT, arXiv 2503.09197, Table VII. All of them begin with the same base and tower and see equally many rows.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data.frozen import Frozen, Validation, freeze
from ..data.rows import Row
from ..loop import train
from ..mixture import SETS, Sizes
from ..recipe import TrainingRecipe
from .data.dataset import read_pictures
from .data.pictures import MadePicture
from .effort import LEFT_OUT, TWINS
from .stages import FILES, Stages

_SECONDS = "seconds.json"  # of the run's last part, if it was cut
_PARTS = 3  # epochs of the run whose mixture is adjusted


@dataclass(frozen=True)
class Trial:
    """A run that the model is compared with.

    Attributes:
        name: Its folder.
        title: Its row in the table.
        changes: Sections of the recipe.
    """

    name: str
    title: str
    changes: Mapping[str, Any]


def scaled(mix: Sizes, rows: int) -> dict[str, Any]:
    """A mixture of so many rows in the ratio of another.

    Example:
        >>> scaled(Sizes(20, 50, 30), 1000)
        {'sizes': [200, 500, 300]}
    """
    share = rows / mix.total
    return {"sizes": [round(size * share) for size in mix]}


def trials(counts: Sizes, mix: Sizes, rows: int, reference: float) -> list[Trial]:
    """The runs of the ablation table.

    Args:
        counts: Rows at hand.
        mix: The mixture that the sweeps found.
        rows: Rows of each run.
        reference: lambda of the fine-grained step.
    """
    found = []
    for left_out in SETS:
        kept = Sizes(*(0 if name == left_out else size for name, size in zip(SETS, mix, strict=True)))
        found.append(Trial(f"without-{left_out}", f"without {left_out.upper()}", {"mixture": scaled(kept, rows)}))
    found.append(Trial("all", "all mixed as they are", {"mixture": scaled(counts, rows)}))
    found.append(Trial("coarse", "with the coarse ratio", {"mixture": scaled(mix, rows)}))
    fine = {
        "mixture": scaled(mix, rows // _PARTS),
        "balance": {"reference": reference},
        "stop": {"epochs": _PARTS, "patience": None},
    }
    return [*found, Trial("fine", "with the fine-grained step", fine)]


def ablations(
    stages: Stages, output: Path, recipe: TrainingRecipe, mix: Sizes, rows: int, reference: float, abreast: int = 0
) -> None:
    """Do the runs of the ablation table, so many side by side, and write `ablations.json`."""
    counts = Frozen.load(recipe.data.folder).counts
    planned = trials(counts, mix, rows, reference)
    recipes = [_recipe(recipe, trial) for trial in planned]
    places = [output / "ablations" / trial.name for trial in planned]
    stages.side_by_side([(_run, one) for one in zip(recipes, places, strict=True)], abreast)
    rows_found = [_result(trial.title, place) for trial, place in zip(planned, places, strict=True)]
    FILES.write_json(output / "ablations.json", {"rows": rows_found})


def leave_outs(stages: Stages, output: Path, recipe: TrainingRecipe, mix: Sizes, rows: int, abreast: int = 0) -> None:
    """Do a run for each type that is left out: no row is about a picture with it, or with its twin (`TWINS`)."""
    work = []
    for kind in LEFT_OUT:
        place = output / "without" / kind
        data = _without(Frozen.load(recipe.data.folder), output / "data", kind, place / "data")
        trial = Trial(kind, kind, {"mixture": scaled(mix, rows), "data": {"folder": str(data.folder)}})
        work.append((_run, (_recipe(recipe, trial), place / "run")))
    stages.side_by_side(work, abreast)


def _recipe(recipe: TrainingRecipe, trial: Trial) -> TrainingRecipe:
    one = {"stop": {"epochs": 1, "patience": None}, "name": f"nano-{trial.name}"}
    return recipe.changed(**{**one, **trial.changes})


def _run(recipe: TrainingRecipe, place: Path) -> str:
    """Do one run, in a process of its own."""
    started = time.monotonic()
    if (place / "outcome.json").is_file():
        return f"{recipe.name}: was done"
    train(recipe, place, quiet=True)
    seconds = round(time.monotonic() - started, 1)
    FILES.write_json(place / _SECONDS, seconds)
    return f"{recipe.name}: {seconds:.0f} s"


def _result(title: str, place: Path) -> dict[str, Any]:
    outcome = json.loads((place / "outcome.json").read_text(encoding="utf-8"))
    clock = place / _SECONDS  # not of a run that was killed when it was done
    seconds = json.loads(clock.read_text(encoding="utf-8")) if clock.is_file() else None
    return {"name": title, "folder": place.name, "metrics": outcome["metrics"], "seconds": seconds}


def _without(frozen: Frozen, made: Path, kind: str, folder: Path) -> Frozen:
    """The data without one type of degradation; questions and scores to validate on stay."""
    if (folder / "data.json").is_file():
        return Frozen.load(folder)
    gone = {shot.image for name in SETS for shot in read_pictures(made, name) if shows(shot, kind)}
    sets: dict[str, Sequence[Row]] = {
        name: [row for row in frozen.rows(name) if row.image not in gone] for name in SETS
    }
    roots = {name: frozen.root(name) for name in (*sets, "scoring", "questions")}
    validation = Validation(frozen.val_scoring, frozen.val_questions)
    return freeze(sets, validation, folder, roots=roots, how={"without": kind})


def shows(shot: MadePicture, kind: str) -> bool:
    """Whether a picture has a type that is left out, or the corruption that looks like it."""
    return any(one.kind in (kind, *TWINS[kind]) for one in shot.degradations)
