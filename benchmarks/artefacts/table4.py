"""Table IV: how well scores agree with people, on each IQA set, and scores drawn against mean opinion scores."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from math import sqrt
from pathlib import Path
from statistics import fmean, pstdev
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.artefacts.shared import CONDITIONS, Cells, beside, by_model, failures, identity, of_kind, partial, state
from benchmarks.canvas import COLOURS, MUTED, new_figure, plain, save_png
from benchmarks.options import safe
from benchmarks.output import Table
from benchmarks.page import Page
from benchmarks.paper import number, printed
from benchmarks.runs import Results
from benchmarks.statistics import furthest
from qsit_metric.evaluation import Correlations, EvaluationError, UndefinedError, bootstrap_interval, correlate
from qsit_metric.evaluation.correlations import Array, logistic_curve
from qsit_metric.levels import SCORE_RANGE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from benchmarks.artefacts import Request

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


def page(request: Request) -> Page:
    """Both tables, a scatter plot of each model, and the images that are furthest off."""
    done = request.runs("scores")
    figures, off = {}, []
    for model, rows in images(done, request.images).items():
        path = request.options.output / f"table4-{safe(model)}.png"
        figures[f"{model}: scores against people's"] = save_png(scatter(rows, model), path)
        off += furthest(rows)
    return Page((make(done, paper=printed("table4")), details(done)), figures, tuple(off))


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
    """Notes on sets that were run whole, where the paper's numbers are of a part."""
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


_ACROSS = 3
_SIDE = 3.4  # inches
_FEW = 200  # dots that a curve could hide


def scatter(rows: Sequence[Mapping[str, object]], model: str = "the model") -> Figure:
    """Draw the scores of one model.

    Args:
        rows: One for each image, with "set", "score" (1..5) and "mos" (the set's own scale); an image whose score is
            None was not scored, and is counted in its panel's title.
        model: Its name, for the axes.

    Returns:
        Panels in the order in which the sets first appear, with SRCC and PLCC of the raw scores in the titles.

    Raises:
        EvaluationError: No rows.
        DependencyError: matplotlib is not installed.

    Example:
        >>> rows = [{"set": "KonIQ", "score": 1 + n / 5, "mos": n * n} for n in range(20)]
        >>> len(scatter(rows).axes)
        1
    """
    sets = list(dict.fromkeys(str(row["set"]) for row in rows))
    if not sets:
        raise EvaluationError.about("rows", "<no rows>", "at least one scored image")
    across = min(_ACROSS, len(sets))
    down = math.ceil(len(sets) / across)
    figure = new_figure(_SIDE * max(across, 1.5), (_SIDE + 0.2) * down)
    places = figure.subplots(down, across, squeeze=False).ravel()
    for axes, name in zip(places, sets, strict=False):
        _panel(axes, name, [row for row in rows if row["set"] == name])
    for axes in places[len(sets) :]:
        axes.remove()
    figure.supxlabel(f"score by {model}", fontsize=10.5)
    figure.supylabel("mean opinion score, on the set's own scale", fontsize=10.5)
    return figure


def _panel(axes: Axes, name: str, rows: Sequence[Mapping[str, object]]) -> None:
    good = [row for row in rows if row["score"] is not None]
    x, y = (np.array([number(row, key) for row in good], dtype=np.float64) for key in ("score", "mos"))
    # Many dots need to be faint for a crowd to show, and a curve above it; few would not be seen then.
    alpha = float(np.clip(15 / math.sqrt(max(len(x), 1)), 0.12, 0.8))
    size, layer = (18, 3) if len(x) < _FEW else (9, 1)
    axes.scatter(x, y, s=size, color=COLOURS["blue"], alpha=alpha, linewidths=0, zorder=layer)
    _curve(axes, x, y)
    lost = f", {len(rows) - len(good)} not scored" if len(good) < len(rows) else ""
    axes.set_title(f"{name}: {len(good)} images{lost}\n{_agreement(correlate(x, y))}", fontsize=10, loc="left")
    axes.set_xlim(SCORE_RANGE[0] - 0.08, SCORE_RANGE[1] + 0.08)  # dots at the ends are whole
    axes.set_xticks(range(int(SCORE_RANGE[0]), int(SCORE_RANGE[1]) + 1))
    plain(axes)


def _curve(axes: Axes, x: Array, y: Array) -> None:
    """Draw the fitted curve where there are scores: beyond them it is a guess."""
    try:
        curve = logistic_curve(x, y)
    except UndefinedError as reason:
        axes.annotate(f"no curve: {reason}", (0.03, 0.94), xycoords="axes fraction", fontsize=8, color=MUTED)
        return
    places = np.linspace(x.min(), x.max(), 200)
    axes.plot(places, curve(places), color="white", linewidth=3.6)
    axes.plot(places, curve(places), color=COLOURS["vermilion"], linewidth=2)


def _agreement(found: Correlations) -> str:
    shown = {"SRCC": found.srcc, "PLCC": found.plcc}
    return ", ".join(f"{name} {'undefined' if value is None else f'{value:.3f}'}" for name, value in shown.items())
