"""Fig. 7: what a picture costs each model: time, memory and operations, as bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

from benchmarks.figures.canvas import MUTED, colour, new_figure, plain
from benchmarks.paper import number
from qsit_metric.evaluation import EvaluationError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COSTS: Mapping[str, str] = MappingProxyType(
    {
        "latency": "latency\n(seconds per picture)",
        "memory": "peak memory\n(GiB)",
        "tflop": "operations\n($10^{12}$ per picture)",
    }
)
"""Column -> name and unit of its axis."""


def bars(rows: Sequence[Mapping[str, object]], costs: Mapping[str, str] = COSTS) -> Figure:
    """Draw the costs of several models; less is better.

    Args:
        rows: One for each model, with "model" and the columns of `costs`, 0 or above; None was not measured, and its
            place says so.
        costs: Column -> name and unit of its axis, a panel each.

    Returns:
        One panel for each cost, models from top to bottom.

    Raises:
        EvaluationError: No rows, or a negative cost.
        DependencyError: matplotlib is not installed.

    Example:
        >>> rows = [{"model": "7B", "latency": 0.4, "memory": 16.0, "tflop": 60.0}]
        >>> len(bars(rows).axes)
        3
    """
    if not rows:
        raise EvaluationError.about("rows", "<no rows>", "at least one model")
    figure = new_figure(3.4 * len(costs) + 1.2, 0.55 * len(rows) + 1.4)
    places = figure.subplots(1, len(costs), sharey=True, squeeze=False).ravel()
    for axes, (name, label) in zip(places, costs.items(), strict=True):
        _panel(axes, [None if row[name] is None else number(row, name) for row in rows])
        axes.set_xlabel(label, fontsize=10.5)
    places[0].set_yticks(range(len(rows)), [str(row["model"]) for row in rows], fontsize=10.5)
    places[0].set_ylim(len(rows) - 0.4, -0.6)  # the first on top
    return figure


def _panel(axes: Axes, values: Sequence[float | None]) -> None:
    if wrong := [value for value in values if value is not None and value < 0]:
        raise EvaluationError.about("rows", wrong[0], "costs of 0 or above")
    most = max((value for value in values if value is not None), default=0.0) or 1.0
    for place, value in enumerate(values):
        axes.barh(place, value or 0.0, height=0.62, color=colour(place))
        text, tint = ("not measured", MUTED) if value is None else (f"{value:.3g}", "black")
        axes.annotate(
            text, (value or 0.0, place), (4, 0), textcoords="offset points", va="center", fontsize=9.5, color=tint
        )
    axes.set_xlim(0, most * 1.22)  # room for the number behind the longest bar
    plain(axes)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
