"""Scores against mean opinion scores, one panel for each set, with the logistic curve that fits them best."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.figures.canvas import COLOURS, MUTED, new_figure, plain
from benchmarks.paper import number
from qsit_metric.evaluation import Correlations, EvaluationError, UndefinedError, correlate
from qsit_metric.evaluation.correlations import Array, logistic_curve
from qsit_metric.levels import SCORE_RANGE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

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
    """Only where there are scores: beyond them a curve is a guess."""
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
