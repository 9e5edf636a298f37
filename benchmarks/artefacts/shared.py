"""What tables of runs share: who made a row, which runs belong to it, and what is said under the table. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from benchmarks.runs import Results
from benchmarks.sets.catalog import SETS
from qsit_metric.evaluation import EvaluationError

Cells = dict[str, object]

CONDITIONS = (
    "source", "revision", "backend", "recipe", "dtype", "device", "exif", "qsit_metric", "torch", "transformers"
)  # fmt: skip
"""Columns that say what made a row; paper rows have "paper" as their source and no more."""

# Runs of before rows had a reason: the error without the file, which is named beside it.
_ABOUT_FILE = re.compile(r"^(\w+: )`image`: got '.*?', (expected )", re.DOTALL)
_NAMED, _REASONS = 5, 5  # of failures that are named under a table; results.jsonl has all


def of_kind(runs: Iterable[Results], kind: str) -> list[Results]:
    """The runs of a kind.

    Raises:
        EvaluationError: There are none, or one and the same model and set twice.
    """
    found = [run for run in runs if run.run["kind"] == kind]
    if not found:
        raise EvaluationError.about("runs", "<none of them>", f"at least one run of {kind}")
    seen: dict[object, Results] = {}
    for run in found:
        other = seen.setdefault((tuple(identity(run).items()), run.run["set"]), run)
        if other is not run:
            folders = f"<{other.folder} and {run.folder}, both {run.run['made']['model']} on {run.run['set']}>"
            raise EvaluationError.about("runs", folders, "one run of a model on a set")
    return found


def identity(run: Results) -> Cells:
    """Name of the model, and the columns of `CONDITIONS`."""
    made = run.run["made"]
    known: Mapping[str, object] = {**made, "source": "measured", "exif": run.run["exif"]}
    return {"model": made["model"], **{name: known.get(name) for name in CONDITIONS}}


def by_model(runs: Sequence[Results]) -> list[tuple[Cells, list[Results]]]:
    """Runs that were made alike, which stand in one row, in the order in which they come."""
    groups: list[tuple[Cells, list[Results]]] = []
    for run in runs:
        own = identity(run)
        group = next((held for cells, held in groups if cells == own), None)
        if group is None:
            groups.append((own, [run]))
        else:
            group.append(run)
    return groups


def state(run: Results) -> str:
    """Empty for a complete run of a whole set, else how far it is, or how much of the published set there was."""
    name = str(run.run["set"])
    if not run.complete:
        return f"{name}: {len(run.rows)} of {run.total}"
    there = _size(run)
    published = SETS[name].n if name in SETS else there
    return "" if there == published else f"{name}: {there} of the published {published}"


def _size(run: Results) -> int:
    """Images or questions of the set that was used; a run of a judge counts ratings, several an image."""
    if run.run["kind"] == "judgements":
        return int(run.run["images"]) + int(run.run["descriptions_failed"])
    return run.total


def partial(runs: Iterable[Results]) -> str:
    """Which of the runs, or of their sets, are incomplete; such a number is of those images only."""
    return "; ".join(filter(None, map(state, runs)))


def failures(runs: Iterable[Results]) -> tuple[str, ...]:
    """A line for each run in which something failed: the reasons, and for each the first few by name."""
    lines = []
    for run in runs:
        if run.failed:
            reasons: dict[str, list[str]] = {}
            for row in run.failed:
                reason = row.get("reason") or _ABOUT_FILE.sub(r"\1\2", row["error"])
                reasons.setdefault(str(reason), []).append(str(row["id"]))
            said = [f"{_some(names, _NAMED)} ({reason})" for reason, names in reasons.items()]
            more = f"; {len(said) - _REASONS} more reasons in the run's folder" if len(said) > _REASONS else ""
            head = f"{run.run['made']['model']} on {run.run['set']}: {len(run.failed)} failed and count in no number"
            lines.append(f"{head}: {'; '.join(said[:_REASONS])}{more}")
    return tuple(lines)


def _some(names: Sequence[str], count: int) -> str:
    rest = f" and {len(names) - count} more" if len(names) > count else ""
    return f"{', '.join(names[:count])}{rest}"


def beside(rows: Sequence[Cells], paper: Sequence[Mapping[str, object]], columns: Sequence[str]) -> list[Cells]:
    """Measured rows and, above them, those of the paper, all with the same columns; what a row has not is empty.

    Raises:
        EvaluationError: A row of the paper without a model.
    """
    if nameless := [row for row in paper if not row.get("model")]:
        raise EvaluationError.about("paper", nameless[0], "the paper's rows, each with the name of its model")
    return [
        {name: row.get(name) for name in columns} for row in [*({"source": "paper", **one} for one in paper), *rows]
    ]
