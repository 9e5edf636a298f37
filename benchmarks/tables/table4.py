"""Table IV: how well scores agree with people, on each IQA set. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from math import sqrt
from pathlib import Path
from statistics import fmean, pstdev
from types import MappingProxyType

from benchmarks.output import Table
from benchmarks.runs import Results
from benchmarks.tables.shared import CONDITIONS, Cells, beside, by_model, failures, identity, of_kind, partial, state
from qsit_metric.evaluation import UndefinedError, bootstrap_interval, correlate

PARTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "koniq": ("koniq-qalign", "koniq-test", "koniq"), "spaq": ("spaq-qalign", "spaq"), "livec": ("livec",),
        "agiqa": ("agiqa",), "kadid": ("kadid", "kadid-test"),
    }
)  # fmt: skip
"""The sets over which the paper averages, and which of ours stands for each: the first that was run.

The paper trains on parts of KonIQ and SPAQ and tests on the others, which its code reads from Q-Align's lists.
"""

SETS = tuple(PARTS)
_LEARNT = ("koniq", "spaq")

STATISTICS = {"SRCC": "srcc", "PLCC": "plcc", "PLCC fitted": "plcc_fitted", "KRCC": "krcc", "RMSE": "rmse"}
_PRINTED = ("SRCC", "PLCC")
_UNDEFINED = "undefined: "
_ROUNDS = 1000


def make(
    runs: Sequence[Results],
    *,
    paper: Sequence[Mapping[str, object]] = (),
    paper_sets: Mapping[str, str] | None = None,
    average: Sequence[str] | None = None,
) -> Table:
    """One row a model, as the paper prints it: SRCC and raw PLCC of each set, both signed, and their mean.

    Args:
        runs: Of kind "scores", whole or not; runs that were made alike stand in one row.
        paper: Rows of the paper, with the columns "method", "training", "sft", "avg", "SET_srcc" and "SET_plcc".
        paper_sets: How runs call a SET of the paper, for example {"koniq": "koniq-test"}; default: see `PARTS`.
        average: The sets whose (SRCC + PLCC) / 2 are averaged; default: those that stand for the paper's. The cell is
            empty where one of them is not there, not whole, or undefined.

    Raises:
        EvaluationError: No such runs, one model and set twice, or a paper row without a model.
    """
    found = of_kind(runs, "scores")
    named = standing({str(run.run["set"]) for run in found}) if paper_sets is None else dict(paper_sets)
    averaged = [named.get(name, name) for name in SETS] if average is None else average
    printed = [_printed(row, named) for row in paper]
    theirs = [name.removesuffix(" SRCC") for row in printed for name in row if name.endswith(" SRCC")]
    sets = list(dict.fromkeys([*theirs, *(str(run.run["set"]) for run in found)]))
    numbers = [f"{name} {statistic}" for name in sets for statistic in _PRINTED]
    columns = ("model", "training", *numbers, "average", "failed", "partial", *CONDITIONS)
    rows = [_row(cells, group, averaged) for cells, group in by_model(found)]
    notes = (
        "SRCC and PLCC are signed; PLCC is of the raw scores, without a fit.",
        f"average: mean of (SRCC + PLCC) / 2 over {', '.join(averaged)}.",
        *_wholes(named, found),
        *failures(found),
    )
    title = "Table IV: agreement of scores with people"
    return Table("table4", title, columns, tuple(beside(rows, printed, columns)), notes, _made(found))


def standing(there: Collection[str]) -> dict[str, str]:
    """Which set of ours stands for each of the paper's.

    Args:
        there: The sets of a table.

    Returns:
        The first of each set's `PARTS` that is there; a set of which there is none keeps the paper's name.

    Example:
        >>> standing(["koniq", "koniq-test"])["koniq"]
        'koniq-test'
    """
    return {name: next((part for part in parts if part in there), name) for name, parts in PARTS.items()}


def details(runs: Sequence[Results], *, rounds: int = _ROUNDS) -> Table:
    """One row a model and set: all statistics, 95 % intervals, what was used and what failed, and how fast it went.

    Args:
        runs: See `make`.
        rounds: Of the bootstrap over images, which draws from the run's seed.

    Raises:
        EvaluationError: See `make`.
    """
    found = of_kind(runs, "scores")
    rows = [_details(run, rounds) for run in found]
    notes = (
        "Correlations are signed. PLCC fitted and RMSE fitted are after a four-parameter logistic fit, the latter on "
        "the set's own scale; RMSE is of the raw scores and says something only for a set on the scale 1..5.",
        "Intervals: 95 %, percentile bootstrap over images.",
        "images/s: of one process, without loading the model; waiting: share of that time in which the model had no "
        "picture to work on.",
        *failures(found),
    )
    title = "Table IV: all statistics of each set"
    return Table("table4-details", title, tuple(rows[0]), tuple(rows), notes, _made(found), {"waiting": ".1%"})


def images(runs: Sequence[Results], roots: Mapping[str, Path]) -> dict[str, list[Cells]]:
    """Model -> its images with "set", "image", "path", "mos" and "score", for plots and lists.

    Args:
        runs: Of kind "scores".
        roots: Set -> folder of its images.
    """
    found: dict[str, list[Cells]] = {}
    for run in runs:
        name = str(run.run["set"])
        found.setdefault(str(run.run["made"]["model"]), []).extend(
            {"set": name, "path": roots[name] / row["image"], **{key: row[key] for key in ("image", "mos", "score")}}
            for row in run.rows
        )
    return found


def _wholes(named: Mapping[str, str], runs: Iterable[Results]) -> list[str]:
    """What to know before a whole set is compared with the paper's numbers."""
    there = {run.run["set"] for run in runs}
    return [
        f"{name} is the whole set. The paper's models learnt from most of it and are tested on the rest: run "
        f"{' or '.join(PARTS[name][:-1])} to compare."
        for name in _LEARNT
        if named.get(name) == name and name in there
    ]


def _printed(row: Mapping[str, object], names: Mapping[str, str]) -> Cells:
    """A row of the paper in our columns; of a model before fine-tuning the training set is that it had none."""
    training = row.get("training") if row.get("sft") != "before" else "before fine-tuning"
    cells: Cells = {"model": row.get("method"), "training": training, "average": row.get("avg")}
    for key, value in row.items():
        name, _, statistic = key.rpartition("_")
        if statistic.upper() in _PRINTED:
            cells[f"{names.get(name, name)} {statistic.upper()}"] = value
    return cells


def _row(cells: Cells, runs: Sequence[Results], average: Sequence[str]) -> Cells:
    found = {str(run.run["set"]): _statistics(run) for run in runs}
    numbers = {f"{name} {one}": statistics[one] for name, statistics in found.items() for one in _PRINTED}
    whole = {str(run.run["set"]) for run in runs if run.complete}
    halves = [found[name][one] for name in average if name in whole for one in _PRINTED]
    values = [value for value in halves if isinstance(value, float)]
    mean = fmean(values) if values and len(values) == 2 * len(average) else None
    failed = sum(len(run.failed) for run in runs)
    return {**cells, **numbers, "average": mean, "failed": failed, "partial": partial(runs)}


def _details(run: Results, rounds: int) -> Cells:
    cells = {"model": run.run["made"]["model"], "set": run.run["set"]}
    counts = {"N": len(run.good), "failed": len(run.failed), "partial": state(run)}
    speed = {"images/s": run.pace.per_second, "waiting": run.pace.waiting}
    return {
        **cells, **_statistics(run), **_interval(run, "SRCC", rounds), **_interval(run, "PLCC", rounds), **counts,
        **speed, **identity(run), "manifest": run.run["sha256"],
    }  # fmt: skip


def _statistics(run: Results) -> dict[str, float | str]:
    """Name -> value, or why there is none."""
    found = correlate(*_pairs(run))
    values = {name: getattr(found, field) for name, field in STATISTICS.items()}
    cells: dict[str, float | str] = {
        name: f"{_UNDEFINED}{found.undefined[STATISTICS[name]]}" if value is None else float(value)
        for name, value in values.items()
    }
    return {**cells, "RMSE fitted": _left_over(cells["PLCC fitted"], _pairs(run)[1])}


def _left_over(fitted: float | str, mos: Sequence[float]) -> float | str:
    """RMSE after the fit: its ends are those of a straight line, so it follows from the fitted correlation."""
    return fitted if isinstance(fitted, str) else pstdev(mos) * sqrt(max(0.0, 1 - fitted**2))


def _interval(run: Results, name: str, rounds: int) -> Cells:
    try:
        low, high = bootstrap_interval(*_pairs(run), STATISTICS[name], seed=int(run.run["seed"]), rounds=rounds)
    except UndefinedError as error:
        return {f"{name} low": f"{_UNDEFINED}{error}", f"{name} high": f"{_UNDEFINED}{error}"}
    return {f"{name} low": low, f"{name} high": high}


def _pairs(run: Results) -> tuple[list[float], list[float]]:
    return [row["score"] for row in run.good], [row["mos"] for row in run.good]


def _made(runs: Sequence[Results]) -> dict[str, object]:
    """The manifests; what differs between rows stands in the rows."""
    return {"manifests": {str(run.run["set"]): run.run["sha256"] for run in runs}}
