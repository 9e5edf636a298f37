"""Fig. 4: performance against the ratio of the data, from the `fit.json` of sweeps, with the paper's optimum beside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.canvas import COLOURS, new_figure, save_png
from benchmarks.output import FILES
from benchmarks.page import Page
from benchmarks.paper import number, printed
from qsit_metric.evaluation import EvaluationError
from train.sweep.fit import Fit, Point, panel

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from benchmarks.artefacts import Request


def page(request: Request) -> Page:
    """The curves of sweeps."""
    path = save_png(mix(read_fits(request.sweep)), request.options.output / "fig4.png")
    return Page(figures={"Fig. 4: performance over the mix ratio": path})


def mix(fits: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw the fits of a sweep's steps side by side.

    Args:
        fits: The contents of `fit.json` of one or more sweeps, as `train.sweep.fit_folder` writes them.

    Returns:
        A panel for each: runs, their means, the curve, its optimum with the interval, and the paper's optimum. (The
        paper does not print its points.)

    Raises:
        EvaluationError: No fits, or one of another form.
        DependencyError: matplotlib is not installed.
    """
    if not fits:
        raise EvaluationError.about("fits", "<no fits>", "the content of at least one fit.json")
    read = [_fit(one) for one in fits]
    optima = {row["step"]: number(row, "best_ratio") for row in printed("fig4")}
    figure = new_figure(6.6 * len(fits), 4.9)
    places = figure.subplots(1, len(fits), squeeze=False).ravel()
    for axes, one, (fit, points) in zip(places, fits, read, strict=True):
        panel(axes, fit, points, one["step"], one["formula"])
        best = optima[one["step"]]
        axes.axvline(best, color=COLOURS["green"], linewidth=1.4, linestyle=":", label=f"the paper's optimum {best}")
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, frameon=False, fontsize=9)
    return figure


def read_fits(paths: Sequence[Path]) -> list[dict[str, Any]]:
    """The contents of fit files.

    Args:
        paths: Each `fit.json`, or the folder of a sweep that holds it.

    Raises:
        EvaluationError: No such file, or no JSON.
    """
    return [FILES.json(path / "fit.json" if path.is_dir() else path) for path in paths]


def _fit(one: Mapping[str, Any]) -> tuple[Fit, list[Point]]:
    try:
        known = {field.name: one[field.name] for field in fields(Fit)}
        known |= {name: tuple(one[name]) for name in ("interval", "coefficients", "ratios")}
        fit = Fit(**(known | {"best_observed": Point(**one["best_observed"])}))
        points = [Point(ratio, performance) for ratio, performance in one["points"]]
        usable = one["step"] in (1, 2) and one["formula"] in ("accuracy", "mean")
    except (KeyError, TypeError, ValueError) as error:
        usable, hint = False, f"{type(error).__name__}: {error}."
    else:
        hint = ""
    if not usable:
        expected = "the content of a fit.json, with step, formula, points and the fields of a fit"
        raise EvaluationError.about("fits", sorted(one), expected, hint)
    return fit, points
