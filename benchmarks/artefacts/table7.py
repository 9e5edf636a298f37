"""Table VII: what each set and each step of the balance strategy brings. Pure but for reading the file.

Paper: Q-SiT, arXiv 2503.09197, Sec. IV-G. Ours come from `python -m train nano`: six runs with equally many rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from benchmarks.output import Table
from benchmarks.page import Page
from benchmarks.paper import beside, printed
from qsit_metric.evaluation import EvaluationError
from qsit_metric.files import Files

if TYPE_CHECKING:
    from benchmarks.artefacts import Request


ON = ("d1", "d2", "d3", "cgr", "fgr")
"""The columns that say which row of the paper a run belongs to."""

TRIALS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "without D1": ("no", "yes", "yes", "", ""),
        "without D2": ("yes", "no", "yes", "", ""),
        "without D3": ("yes", "yes", "no", "", ""),
        "all mixed as they are": ("yes", "yes", "yes", "no", "no"),
        "with the coarse ratio": ("yes", "yes", "yes", "yes", "no"),
        "with the fine-grained step": ("yes", "yes", "yes", "yes", "yes"),
    }
)
"""Name of a run, as `train.nano.trials` gives it -> which sets and steps it has; empty: the paper does not say."""


def page(request: Request) -> Page:
    """What each set and each step of the balance strategy brings."""
    path = request.given("ablation")
    return Page((make(read(path), paper=printed("table7"), made={"file": path.name}),))


def read(path: Path) -> list[dict[str, Any]]:
    """The runs of `ablation.json` (by `benchmarks.nano.trials`, on its pictures) or `ablations.json` (by training).

    Returns:
        "name", "srcc" and "plcc" (-1..1, in `ablations.json` means over the validation sets), "accuracy" (0..1) and
        "seconds" of each run; None where a statistic was undefined.

    Raises:
        EvaluationError: No such file.
    """
    try:
        return [_figures(row) for row in Files(EvaluationError, "file").json(path)["rows"]]
    except (KeyError, TypeError) as error:
        expected = '{"rows": [...]} with name, seconds, and srcc, plcc and accuracy or metrics in each'
        raise EvaluationError.about("file", str(path), expected) from error


def make(
    rows: Sequence[Mapping[str, Any]],
    *,
    paper: Sequence[Mapping[str, object]] = (),
    made: Mapping[str, object] | None = None,
) -> Table:
    """One row a run, the paper's numbers beside it where it has such a run.

    Args:
        rows: What `read` gives.
        paper: `benchmarks.paper.printed("table7")`.
        made: What the runs were made with.

    Raises:
        EvaluationError: No rows, or a name twice.

    Example:
        >>> rows = [{"name": "without D1", "srcc": 0.25, "plcc": 0.75, "accuracy": 0.5, "seconds": 9.0}]
        >>> make(rows).rows[0]["scoring"]
        0.5
    """
    names = [str(row["name"]) for row in rows]
    if not names or len(set(names)) < len(names):
        raise EvaluationError.about("rows", names, "at least one run, and each once")
    found = beside([_row(row) for row in rows], paper, ON)
    columns = tuple(found[0])
    strange = [name for name in names if name not in TRIALS]
    notes = (
        "scoring: mean of SRCC and PLCC; interpreting: share of right answers by likelihood.",
        "Ours: one run each of a small model on made pictures, with its own test pictures and questions; the paper's: "
        "Q-SiT on five IQA sets and LLVisionQA. Differences between rows compare, levels do not.",
        *((f"Not among the paper's rows: {', '.join(strange)}",) if strange else ()),
    )
    formats = {"seconds": ".0f"}
    title = "Table VII: ablation of the sets and of the balance strategy"
    return Table("table7", title, columns, tuple(found), notes, dict(made or {}), formats)


def _row(row: Mapping[str, Any]) -> dict[str, object]:
    marks = dict(zip(ON, TRIALS.get(str(row["name"]), ("",) * len(ON)), strict=True))
    both = (row["srcc"], row["plcc"])
    found = {
        "run": row["name"], **{name: mark or None for name, mark in marks.items()},
        "scoring": None if None in both else fmean(both), "interpreting": row["accuracy"],
        "srcc": row["srcc"], "plcc": row["plcc"], "seconds": row["seconds"],
    }  # fmt: skip
    return found if row["name"] in TRIALS else {**found, **dict.fromkeys(ON, "other")}


def _figures(row: Mapping[str, Any]) -> dict[str, Any]:
    if "metrics" not in row:
        return {name: row[name] for name in ("name", "srcc", "plcc", "accuracy", "seconds")}
    metrics = row["metrics"]
    means = {name: _mean(metrics, name) for name in ("srcc", "plcc")}
    return {"name": row["name"], **means, "accuracy": metrics["accuracy"], "seconds": row["seconds"]}


def _mean(metrics: Mapping[str, Any], statistic: str) -> float | None:
    """Mean over the sets; other recipes' statistics, whose names have something before, do not count."""
    values = [value for name, value in metrics.items() if name.startswith(f"{statistic}/")]
    return None if not values or None in values else fmean(values)
