"""Which sets and models a command goes through; what was done before is read, and not done again."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchmarks import sets
from benchmarks.commands.options import RunOptions
from benchmarks.runs import Process, Results, awaited
from qsit_metric import console
from qsit_metric.evaluation import EvaluationError

if TYPE_CHECKING:
    from qsit_metric import QSiT

Names = Annotated[
    list[str] | None, typer.Option("--set", metavar="NAME", help="Repeat it; default: all that are in the data root.")
]

_PATIENCE = 900.0  # seconds without a result, after which the other processes are given up


def first() -> bool:
    """Whether this process writes what all have done."""
    return Process.current().rank == 0


def whole(done: Results) -> Results:
    """The results of all processes that share a run, once they are there; of those that have died, what there is."""
    return done if done.complete or Process.current().world == 1 else awaited(done.folder, _PATIENCE)


def found(options: RunOptions, kind: str) -> list[str]:
    """Sets of a kind that are in the data root, whole or not.

    Raises:
        EvaluationError: There are none.
    """
    there = [
        one.name for one in sets.status(options.data_root) if one.kind == kind and one.state != "missing" and one.n
    ]
    if not there:
        hint = "`python -m benchmarks data --data-root FOLDER` says what is missing."
        raise EvaluationError.about("--data-root", str(options.data_root), f"a folder with sets of {kind}", hint)
    return there


def runs(
    options: RunOptions, names: Iterable[str], one: Callable[[QSiT, str, Path], Results], ending: str = ""
) -> list[Results]:
    """Run each model on each set.

    Args:
        options: Which models, and where runs lie.
        names: Of the sets.
        one: Runs a model on a set, in a folder.
        ending: Of the folders' names.
    """
    done = []
    for model, metric in options.metrics():
        for name in names:
            result = whole(one(metric, name, options.folder(model, f"{name}{ending}")))
            console.say(f"{result.run['made']['model']} on {result.standing()}")
            done.append(result)
    return done
