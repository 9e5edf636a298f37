"""From finished runs to a ratio: performance, the regression of Algorithm 1, `fit.json` and `fit.png`.

The curve is a polynomial in log10 of the ratio (the paper does not say in which variable it fits; on its grid, a fit in
the ratio itself finds optima that are too low), and the figure is like the paper's Fig. 4.

Paper: Q-SiT, arXiv 2503.09197, Sec. III-C3, Eqs. 6 and 7, IV-B and Fig. 4 (degree 4). For step 1 the text names
LLVisionQA alone (IV-B, Fig. 4) and the mean with scoring (III-C3): the first is the default. Step 2 is the mean.
"""

from __future__ import annotations

import dataclasses
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from numpy.polynomial import Polynomial

from qsit_metric.errors import DependencyError, InputError

from ..errors import RunError
from .plan import FILES, Formula, Plan
from .runs import read_result

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ACCURACY = "accuracy"
CORRELATIONS = ("srcc", "plcc")
_SHOWN = 3
_NO_RESULT = "no result"
Array = npt.NDArray[np.float64]
_GRID = 513  # places at which a resampled curve is read; 0.4 % of the range apart, far below any interval
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


def performance(metrics: Mapping[str, float | None], step: int, formula: Formula = "accuracy") -> float:
    """The performance of a run as one number.

    Args:
        metrics: "accuracy" of LLVisionQA-dev, 0..1, and for the mean "srcc/SET" and "plcc/SET" of each IQA set, -1..1,
            None where undefined; other names are left alone.
        step: 1 or 2; step 2 always takes the mean.
        formula: Of step 1: "accuracy" alone, or "mean" as in step 2.

    Returns:
        accuracy, or 0.5 * accuracy + 0.5 * mean over sets of (SRCC + PLCC) / 2; higher is better.

    Raises:
        RunError: A metric is missing or undefined.

    Example:
        >>> performance({"accuracy": 0.5, "srcc/koniq": 0.75, "plcc/koniq": 0.25}, step=2)
        0.5

    Reference:
        Sec. IV-B of the paper.
    """
    accuracy = _metric(metrics, ACCURACY)
    if step == 1 and formula == "accuracy":
        return accuracy
    sets = sorted({name.partition("/")[2] for name in metrics if name.partition("/")[0] in CORRELATIONS})
    if not sets:
        names = ", ".join(sorted(metrics))
        raise RunError.about("metrics", f"<{names}>", "srcc/SET and plcc/SET of at least one IQA set")
    scoring = [sum(_metric(metrics, f"{kind}/{name}") for kind in CORRELATIONS) / 2 for name in sets]
    return 0.5 * accuracy + 0.5 * sum(scoring) / len(scoring)


def fit_folder(
    folder: Path,
    degree: int | None = None,
    *,
    allow_missing: bool = False,
    bootstrap: int = 1000,
    level: float = 0.9,
    seed: int = 0,
) -> Fit:
    """Fit the curve of a sweep and write `fit.json` and `fit.png` beside its plan.

    Args:
        folder: The sweep's folder.
        degree: Degree of the polynomial; default: the plan's.
        allow_missing: Fit without runs that have no result or an undefined one; `fit.json` names them.
        bootstrap: Number of resamples.
        level: Nominal coverage of the interval.
        seed: Seed of the resamples.

    Returns:
        The fit; its `best_ratio` is r* after step 1 and q* after step 2.

    Raises:
        RunError: Runs are missing or undefined; the message names them.
        InputError: Too few distinct ratios, or no differences between runs.
    """
    plan = Plan.load(folder)
    points, left_out = _points(folder, plan)
    if left_out and not allow_missing:
        raise RunError(_lacking(folder, plan, left_out))
    fit = fit_curve(points, plan.degree if degree is None else degree, bootstrap, level, seed)
    picture = draw(fit, points, plan.step, plan.formula)
    FILES.write_json(folder / "fit.json", _record(plan, fit, points, left_out))
    FILES.write(folder / "fit.png", picture)
    return fit


def _metric(metrics: Mapping[str, float | None], name: str) -> float:
    value = metrics.get(name, "<missing>")
    if not isinstance(value, (int, float)) or not -1 <= value <= 1:  # NaN is not within either
        shown = "<undefined>" if value is None else value
        hint = "A correlation is undefined where all scores are equal: the run may have collapsed."
        raise RunError.about(f"metric {name}", shown, "a number within -1..1", hint)
    return float(value)


def _points(folder: Path, plan: Plan) -> tuple[list[Point], dict[int, str]]:
    """Points of the runs that have one, and why the others have none."""
    points, left_out = [], {}
    for run in plan.runs:
        result = read_result(folder, plan, run.index)
        try:
            if result is None:
                raise RunError(_NO_RESULT)
            points.append(Point(run.ratio, performance(result["metrics"], plan.step, plan.formula)))
        except RunError as error:
            left_out[run.index] = f"run {run.name} (ratio {run.ratio:.3g}): {str(error).rstrip('.')}"
    return points, left_out


def _lacking(folder: Path, plan: Plan, left_out: Mapping[int, str]) -> str:
    """The message about runs without performance: numbers of those not done, reasons of the first few others."""
    parts = []
    if missing := [f"{index:03d}" for index, reason in left_out.items() if reason.endswith(_NO_RESULT)]:
        parts.append(f"no result: {', '.join(missing)}")
    undefined = [reason for reason in left_out.values() if not reason.endswith(_NO_RESULT)]
    parts += undefined[:_SHOWN] + ["..."] * (len(undefined) > _SHOWN)
    hint = "Do them (remove an undefined run's result.json first), or pass --allow-missing to fit without them."
    return f"`{folder}`: {len(left_out)} of {len(plan.runs)} runs give no performance: {'; '.join(parts)}. {hint}"


def _record(plan: Plan, fit: Fit, points: list[Point], left_out: Mapping[int, str]) -> dict[str, Any]:
    return {
        "step": plan.step,
        **fit.as_dict(),
        "formula": plan.formula,
        "points": [[point.ratio, point.performance] for point in points],
        "left_out": list(left_out.values()),
        "plan_digest": plan.digest,
        "data_digest": plan.data_digest,
        "recipe_digest": plan.recipe_digest,
    }


@dataclass(frozen=True)
class Point:
    """A run: its ratio and its performance.

    Attributes:
        ratio: Its ratio of rows, above 0.
        performance: What it reached, higher is better.
    """

    ratio: float
    performance: float


@dataclass(frozen=True)
class Fit:
    """A fitted curve and its optimum.

    Attributes:
        best_ratio: Where the curve is highest inside the observed range.
        performance: Height of the curve there.
        interval: Bootstrap interval of `best_ratio`.
        level: Nominal coverage of the interval.
        edge: The curve is highest at an end of the observed range: the optimum may lie outside.
        warning: What to do about an edge; empty without one.
        best_observed: The observed ratio with the highest mean, and that mean.
        residual_std: Standard deviation of the runs around the curve, in units of performance.
        r_squared: Share of the runs' variance that the curve explains.
        coefficients: Of the polynomial in log10(ratio), constant first.
        degree: Degree of the polynomial.
        runs: Number of runs.
        ratios: Observed ratios, rising.
        bootstrap: Number of resamples.
        seed: Seed of the resamples.
    """

    best_ratio: float
    performance: float
    interval: tuple[float, float]
    level: float
    edge: bool
    warning: str
    best_observed: Point
    residual_std: float
    r_squared: float
    coefficients: tuple[float, ...]
    degree: int
    runs: int
    ratios: tuple[float, ...]
    bootstrap: int
    seed: int

    def predict(self, ratios: npt.ArrayLike) -> Array:
        """Height of the curve at some ratios above 0."""
        return np.asarray(Polynomial(self.coefficients)(np.log10(np.asarray(ratios, dtype=float))), dtype=float)

    def as_dict(self) -> dict[str, Any]:
        """Plain fields for result files."""
        return dataclasses.asdict(self)


def fit_curve(
    points: Sequence[Point], degree: int = 4, bootstrap: int = 1000, level: float = 0.9, seed: int = 0
) -> Fit:
    """Fit a polynomial to runs and find the ratio at which it is highest.

    The fit is to all runs, not to means. The interval is a percentile bootstrap: each point keeps its mean, and its
    runs get deviations drawn from those that repeats show within points, scaled by sqrt(n / (n - 1)) since they are
    taken around a mean of n. (Drawing a point's own 3 repeats instead would show two thirds of the variance, and the
    interval would be too short.) Where no point is repeated, runs are resampled around the curve.

    Args:
        points: The runs; repeats have equal ratios.
        degree: Degree of the polynomial, 1 or more.
        bootstrap: Number of resamples, 1 or more.
        level: Nominal coverage of the interval, between 0 and 1.
        seed: Seed of the resamples.

    Returns:
        The curve; an optimum at an end of the range is kept and marked.

    Raises:
        InputError: Fewer than degree + 2 distinct ratios, a ratio not above 0, performance that is not finite or that
            is the same in all runs, or a setting out of range.

    Example:
        >>> ratios = [0.1, 0.2, 0.5, 1, 2, 5, 10]
        >>> fit = fit_curve([Point(r, 0.7 - (math.log10(r) - 0.3) ** 2 / 10) for r in ratios], degree=2)
        >>> round(fit.best_ratio, 3), fit.edge
        (1.995, False)

    Reference:
        Sec. III-C3 of the paper.
    """
    ratios, y = _checked(points, degree)
    if bootstrap < 1 or not 0 < level < 1 or seed < 0:
        expected = "bootstrap of 1 or more, level between 0 and 1, seed of 0 or more"
        raise InputError.about("bootstrap, level, seed", (bootstrap, level, seed), expected)
    order = np.argsort(ratios, kind="stable")
    x, y = np.log10(ratios[order]), y[order]
    curve = Polynomial.fit(x, y, degree)
    best = _argmax(curve)
    edge = best in (x[0], x[-1])
    residuals = y - curve(x)
    tails = [(1 - level) / 2, (1 + level) / 2]
    low, high = np.quantile(_bootstrap(x, y, curve, bootstrap, seed), tails).tolist()
    seen, place = np.unique(x, return_inverse=True)
    means = np.bincount(place, y) / np.bincount(place)
    top = int(np.argmax(means))
    return Fit(
        best_ratio=float(10**best),
        performance=float(curve(best)),
        interval=(10**low, 10**high),
        level=level,
        edge=edge,
        warning=_warning(best, x) if edge else "",
        best_observed=Point(float(10 ** seen[top]), float(means[top])),
        residual_std=math.sqrt(float(residuals @ residuals) / (len(x) - degree - 1)),
        r_squared=1 - float(residuals @ residuals) / float(((y - y.mean()) ** 2).sum()),
        coefficients=tuple(curve.convert().coef.tolist()),
        degree=degree,
        runs=len(x),
        ratios=tuple(np.unique(ratios).tolist()),
        bootstrap=bootstrap,
        seed=seed,
    )


def _checked(points: Sequence[Point], degree: int) -> tuple[Array, Array]:
    ratios = np.array([point.ratio for point in points], dtype=float)
    y = np.array([point.performance for point in points], dtype=float)
    if degree < 1:
        raise InputError.about("degree", degree, "1 or more")
    for name, values, right in (
        ("ratio", ratios, np.isfinite(ratios) & (ratios > 0)),
        ("performance", y, np.isfinite(y)),
    ):
        if not right.all():
            wrong = int(np.argmin(right))
            expected = f"a finite number{' above 0' if name == 'ratio' else ''}"
            raise InputError.about(f"points[{wrong}].{name}", float(values[wrong]), expected)
    if (count := len(np.unique(ratios))) < degree + 2:
        hint = "A curve through as many points as it has coefficients says nothing about noise: lower the degree."
        raise InputError.about("points", f"<{count} distinct ratios>", f"degree + 2 = {degree + 2} or more", hint)
    if np.ptp(y) == 0:
        raise InputError.about("points", f"<performance {y[0]} in every run>", "runs that differ", "Look at the runs.")
    return ratios, y


def _argmax(curve: Polynomial) -> float:
    """The place where a curve is highest in its domain: at an end, or where its derivative is 0."""
    low, high = (float(end) for end in curve.domain)
    slope = curve.deriv()
    # A leading coefficient of rounding size would spoil all roots.
    roots = slope.trim(1e-10 * float(np.abs(slope.coef).max())).roots()
    inside = roots.real[(np.abs(roots.imag) < 1e-9) & (roots.real > low) & (roots.real < high)]
    candidates = np.array([low, high, *inside])
    return float(candidates[np.argmax(curve(candidates))])


def _bootstrap(x: Array, y: Array, curve: Polynomial, count: int, seed: int) -> Array:
    """(count,) places of the maximum in resamples. The design is the same in all: one pseudo-inverse solves them."""
    rng = np.random.default_rng(seed)
    centre, noise = _centre_and_noise(x, y, curve)
    drawn = centre + rng.choice(noise, (count, len(x)))
    degree = curve.degree()
    scaled = np.interp(x, curve.domain, (-1, 1))
    solve = np.linalg.pinv(np.vander(scaled, degree + 1, increasing=True))
    grid = np.linspace(-1, 1, _GRID)
    heights = drawn @ solve.T @ np.vander(grid, degree + 1, increasing=True).T
    places: Array = np.interp(grid[heights.argmax(axis=1)], (-1, 1), curve.domain)
    return places


def _centre_and_noise(x: Array, y: Array, curve: Polynomial) -> tuple[Array, Array]:
    """The values that resamples scatter around, and the deviations that they draw from."""
    _, place, repeats = np.unique(x, return_inverse=True, return_counts=True)
    means = (np.bincount(place, y) / repeats)[place]
    n = repeats[place]
    if not (n > 1).any():
        fitted = curve(x)
        return fitted, (y - fitted) * math.sqrt(len(x) / (len(x) - curve.degree() - 1))
    many = n > 1
    return means, (y - means)[many] * np.sqrt(n[many] / (n[many] - 1))


def _warning(best: float, x: Array) -> str:
    side = "lowest" if best == x[0] else "highest"
    return (
        f"The curve is highest at the {side} observed ratio, {10**best:.3g}: the optimum may lie beyond it. "
        "Add runs on that side before you rely on it."
    )


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
