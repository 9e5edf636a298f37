"""The figure of a fit, like the paper's Fig. 4: runs, their means, the curve, the optimum and its interval."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from qsit_metric.errors import DependencyError

from .curve import Fit, Point
from .plan import Formula

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIZE = (1080, 720)  # pixels
_DPI = 150
_RUN, _MEAN, _CURVE, _BEST = "#9aa5b1", "#1f2933", "#2563a8", "#c2410c"

_X = {
    1: "D2 : D3 (rows on image quality per row on general content)",
    2: "|D2* + D3*| : D1 (interpreting and general rows per scoring row)",
}
_Y = {
    "accuracy": "accuracy on the validation questions",
    "mean": "mean of the questions' accuracy\nand (SRCC + PLCC) / 2 on the validation pictures",
}


def draw(fit: Fit, points: Sequence[Point], step: int, formula: Formula) -> bytes:
    """Draw a fit as PNG.

    Args:
        fit: The curve.
        points: The runs that it was fitted to.
        step: 1 (D2 : D3) or 2 (|D2* + D3*| : D1); names the x axis.
        formula: What performance is; names the y axis.

    Returns:
        A PNG file of `SIZE` pixels.

    Raises:
        DependencyError: matplotlib is not installed.
    """
    figure = _figure()
    panel(figure.add_subplot(), fit, points, step, formula)
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def panel(axes: Axes, fit: Fit, points: Sequence[Point], step: int, formula: Formula) -> None:
    """Draw a fit into axes; arguments as for `draw`."""
    _data(axes, points)
    _curve(axes, fit)
    axes.set_xlabel(_X[step])
    axes.set_ylabel(_Y[formula])
    axes.set_title(
        f"Step {step}: polynomial of degree {fit.degree}, fitted to {fit.runs} runs", fontsize=11, loc="left"
    )
    _ticks(axes, fit.ratios)
    axes.grid(color="#e4e7eb", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9)


def _figure() -> Figure:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        hint = "matplotlib draws the fit: pip install 'qsit-metric[train]'"
        raise DependencyError(hint) from error
    # The object API: no state that a caller's own figures would share.
    figure = Figure(figsize=(SIZE[0] / _DPI, SIZE[1] / _DPI), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _data(axes: Axes, points: Sequence[Point]) -> None:
    ratios = np.array([point.ratio for point in points])
    values = np.array([point.performance for point in points])
    seen, place = np.unique(ratios, return_inverse=True)
    axes.plot(ratios, values, "o", color=_RUN, markersize=3.5, markeredgewidth=0, zorder=4, label="run")
    axes.plot(
        seen, np.bincount(place, values) / np.bincount(place), "D", color=_MEAN, markersize=5, zorder=3, label="mean"
    )


def _curve(axes: Axes, fit: Fit) -> None:
    x = np.geomspace(fit.ratios[0], fit.ratios[-1], 400)
    axes.plot(x, fit.predict(x), color=_CURVE, linewidth=1.8, label="fitted curve")
    low, high = fit.interval
    best = f"optimum {fit.best_ratio:.2f}" + (" (at the edge)" if fit.edge else "")
    axes.axvspan(
        low, high, color=_BEST, alpha=0.12, linewidth=0, label=f"{fit.level:.0%} interval {low:.2f} to {high:.2f}"
    )
    axes.axvline(fit.best_ratio, color=_BEST, linewidth=1.4, linestyle="--", label=best)


def _ticks(axes: Axes, ratios: Sequence[float]) -> None:
    """Plain numbers 1, 2, 5 of each decade; all nine digits where the range is short."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    axes.set_xscale("log")
    margin = (ratios[-1] / ratios[0]) ** 0.03
    low, high = ratios[0] / margin, ratios[-1] * margin
    axes.set_xlim(low, high)
    decades = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    for digits in ((1, 2, 5), range(1, 10)):
        ticks = [digit * 10.0**decade for decade in decades for digit in digits]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if len(ticks) >= 3:
            break
    axes.xaxis.set_major_locator(FixedLocator(ticks or [ratios[0], ratios[-1]]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
