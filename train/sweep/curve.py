"""The regression of Algorithm 1: performance as a polynomial in the log of a ratio, and where it is highest. Pure.

Paper: Q-SiT, arXiv 2503.09197, Sec. III-C3, Eqs. 6 and 7, Fig. 4 (degree 4). The paper does not say in which
variable it fits; ours is log10 of the ratio. (On its grid, a fit in the ratio itself finds optima that are too low.)
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.polynomial import Polynomial

from qsit_metric.errors import InputError

Array = npt.NDArray[np.float64]

_GRID = 513  # places at which a resampled curve is read; 0.4 % of the range apart, far below any interval


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
