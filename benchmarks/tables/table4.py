"""Table IV: how well scores agree with people, on each IQA set. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from benchmarks.output import Table
from benchmarks.runs import Results
from benchmarks.tables.shared import CONDITIONS, Cells, beside, by_model, failures, identity, of_kind, partial, state
from qsit_metric.evaluation import UndefinedError, bootstrap_interval, correlate

SETS = ("koniq", "spaq", "livec", "agiqa", "kadid")
"""The sets over which the paper averages."""

STATISTICS = {"SRCC": "srcc", "PLCC": "plcc", "PLCC fitted": "plcc_fitted", "KRCC": "krcc", "RMSE": "rmse"}
_PRINTED = ("SRCC", "PLCC")
_UNDEFINED = "undefined: "
_ROUNDS = 1000


def make(
    runs: Sequence[Results], *, paper: Sequence[Mapping[str, object]] = (), average: Sequence[str] = SETS
) -> Table:
    """One row a model, as the paper prints it: SRCC and raw PLCC of each set, both signed, and their mean.

    Args:
        runs: Of kind "scores", whole or not; runs that were made alike stand in one row.
        paper: Rows of the paper: "model", "average", and for a set "SET SRCC" and "SET PLCC"; SET as runs call it.
        average: The sets whose (SRCC + PLCC) / 2 are averaged. The cell is empty where one of them is not there, not
            whole, or undefined.

    Raises:
        EvaluationError: No such runs, one model and set twice, or paper rows with other columns.
    """
    found = of_kind(runs, "scores")
    sets = list(dict.fromkeys([*(one for row in paper for one in _sets_of(row)), *(str(r.run["set"]) for r in found)]))
    numbers = [f"{name} {statistic}" for name in sets for statistic in _PRINTED]
    columns = ("model", *numbers, "average", "failed", "partial", *CONDITIONS)
    rows = [_row(cells, group, average) for cells, group in by_model(found)]
    notes = (
        "SRCC and PLCC are signed; PLCC is of the raw scores, without a fit.",
        f"average: mean of (SRCC + PLCC) / 2 over {', '.join(average)}.",
        *failures(found),
    )
    title = "Table IV: agreement of scores with people"
    return Table("table4", title, columns, tuple(beside(rows, paper, columns)), notes, _made(found))


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
        "Correlations are signed. PLCC fitted is after a four-parameter logistic fit. RMSE is between the two scales as "
        "they are.",
        "Intervals: 95 %, percentile bootstrap over images.",
        "images/s: of one process, without loading the model; waiting: share of that time in which the model had no "
        "picture to work on.",
        *failures(found),
    )
    title = "Table IV: all statistics of each set"
    return Table("table4-details", title, tuple(rows[0]), tuple(rows), notes, _made(found), {"waiting": ".1%"})


def _sets_of(row: Mapping[str, object]) -> list[str]:
    return [name.removesuffix(" SRCC") for name in row if name.endswith(" SRCC")]


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
    return {
        name: f"{_UNDEFINED}{found.undefined[STATISTICS[name]]}" if value is None else float(value)
        for name, value in values.items()
    }


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
