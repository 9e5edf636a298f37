"""The regression of Algorithm 1 (train/sweep/fit.py)."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qsit_metric.errors import InputError
from train.sweep.fit import Fit, Point, fit_curve

GRID = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]  # Sec. IV-B


def parabola(best: float, ratios=GRID, repeats: int = 1, noise: float = 0.0, seed: int = 0, curvature: float = 0.03):
    """Runs whose performance falls with the squared log distance from the best ratio."""
    rng = np.random.default_rng(seed)
    height = [0.6 - curvature * math.log10(ratio / best) ** 2 for ratio in ratios for _ in range(repeats)]
    values = np.array(height) + rng.normal(0, noise, len(height)) if noise else np.array(height)
    return [Point(r, float(v)) for r, v in zip(np.repeat(ratios, repeats).tolist(), values, strict=True)]


@pytest.mark.parametrize("best", [0.15, 0.5, 1.0, 2.42, 3.54, 8.0])
@pytest.mark.parametrize("degree", [2, 3, 4])
def test_recovers_the_optimum(best, degree):
    fit = fit_curve(parabola(best), degree)
    assert fit.best_ratio == pytest.approx(best, rel=1e-5)
    assert fit.performance == pytest.approx(0.6)
    assert (fit.edge, fit.warning) == (False, "")
    assert fit.residual_std < 1e-12
    assert fit.r_squared == pytest.approx(1)


def test_recovers_the_higher_of_two_maxima():
    """A curve of degree 4 with humps at 10^-0.6 and 10^0.5; the right one is higher."""
    x = np.log10(GRID)
    y = -((x + 0.6) ** 2) * (x - 0.5) ** 2 + 0.02 * x
    fit = fit_curve([Point(r, v) for r, v in zip(GRID, y.tolist(), strict=True)])
    dense = np.linspace(-1, 1, 200_001)
    truth = dense[np.argmax(-((dense + 0.6) ** 2) * (dense - 0.5) ** 2 + 0.02 * dense)]
    assert math.log10(fit.best_ratio) == pytest.approx(truth, abs=1e-4)


def test_coefficients_are_those_of_the_curve():
    fit = fit_curve(parabola(10**0.5))
    # 0.6 - 0.03 * (x - 0.5)^2 with x = log10(ratio)
    assert fit.coefficients == pytest.approx([0.5925, 0.03, -0.03, 0, 0], abs=1e-12)
    assert fit.predict([10**0.5, 10**1.5]) == pytest.approx([0.6, 0.57])


@pytest.mark.parametrize(("best", "end", "word"), [(40.0, 10, "highest"), (0.02, 0.1, "lowest")])
def test_warns_at_an_edge_and_keeps_it(best, end, word):
    fit = fit_curve(parabola(best, repeats=3, noise=0.001))
    assert fit.edge
    assert fit.best_ratio == pytest.approx(end)
    assert f"the {word} observed ratio, {end:g}" in fit.warning


def test_fits_all_runs_not_means():
    """A point with more repeats weighs more."""
    points = parabola(1.0, [0.1, 0.3, 1, 3, 10])
    heavy = points + [Point(3, 0.65)] * 9
    light = [*points, Point(3, 0.65)]
    assert fit_curve(heavy, 2).predict([3])[0] > fit_curve(light, 2).predict([3])[0]


def test_best_observed_is_a_mean():
    points = [*parabola(1.0, [0.1, 0.3, 1, 3, 10], repeats=2), Point(10, 0.61), Point(3, 0.62)]
    found = fit_curve(points, 2).best_observed
    assert (found.ratio, found.performance) == (
        pytest.approx(3),
        pytest.approx((2 * (0.6 - 0.03 * math.log10(3) ** 2) + 0.62) / 3),
    )


def test_residuals():
    """Against numpy's own least squares on the raw powers."""
    points = parabola(2.42, repeats=3, noise=0.004, seed=5)
    x, y = np.log10([p.ratio for p in points]), np.array([p.performance for p in points])
    left = y - np.polyval(np.polyfit(x, y, 4), x)
    fit = fit_curve(points)
    assert fit.residual_std == pytest.approx(math.sqrt((left**2).sum() / (57 - 5)))
    assert fit.r_squared == pytest.approx(1 - (left**2).sum() / ((y - y.mean()) ** 2).sum())


def test_the_interval_covers():
    """300 simulations of the published design: 19 ratios x 3 repeats, log-parabola truth, noise of 0.4 points."""
    covered = 0
    for seed in range(300):
        low, high = fit_curve(parabola(3.54, repeats=3, noise=0.004, seed=seed), bootstrap=400, seed=seed).interval
        covered += low <= 3.54 <= high
    assert 0.80 <= covered / 300 <= 0.97  # nominal 0.90; a band that covers always would say nothing


@pytest.mark.parametrize("repeats", [1, 2])
def test_the_interval_covers_smaller_designs(repeats):
    ratios = [0.1, 0.25, 0.5, 1, 2, 4, 10]
    covered = 0
    for seed in range(200):
        points = parabola(2.42, ratios, repeats, noise=0.004, seed=seed, curvature=0.06)
        low, high = fit_curve(points, 2, bootstrap=300, seed=seed).interval
        covered += low <= 2.42 <= high
    assert 0.80 <= covered / 200 <= 0.98


def test_the_interval_widens_with_noise_and_level():
    def width(noise: float, level: float = 0.9) -> float:
        low, high = fit_curve(parabola(2.42, repeats=3, noise=noise, seed=1), level=level).interval
        return math.log(high / low)

    assert width(0.002) < width(0.008)
    assert width(0.004, 0.5) < width(0.004, 0.95)


def test_noise_at_one_point_is_noise_of_all():
    """Points without repeats get the deviations that the repeated ones show."""
    points = parabola(2.42, repeats=1, noise=0.0)
    points += [Point(1, points[9].performance + shift) for shift in (-0.01, 0.01)]
    low, high = fit_curve(points).interval
    assert low < 2.3 < 2.6 < high


def test_equal_seeds_give_equal_fits():
    points = parabola(2.42, repeats=3, noise=0.004)
    assert fit_curve(points, seed=3) == fit_curve(points, seed=3)
    assert fit_curve(points, bootstrap=50, seed=3).interval != fit_curve(points, bootstrap=50, seed=4).interval


@settings(max_examples=30, deadline=None)
@given(st.permutations(range(21)))
def test_the_order_of_runs_is_nothing(order):
    points = parabola(2.42, GRID[::3], repeats=3, noise=0.004)
    one, other = fit_curve(points, 3, bootstrap=5), fit_curve([points[i] for i in order], 3, bootstrap=5)
    assert one.best_ratio == pytest.approx(other.best_ratio, rel=1e-9)
    assert one.best_observed.ratio == other.best_observed.ratio


@given(st.floats(0.01, 100), st.floats(0.1, 10))
def test_scales_of_both_axes_are_nothing(shift, scale):
    points = parabola(1.5, GRID[::2])
    moved = [Point(p.ratio * shift, p.performance * scale) for p in points]
    assert fit_curve(moved, 2, bootstrap=1).best_ratio == pytest.approx(1.5 * shift, rel=1e-4)


def test_as_dict_is_plain():
    fit = fit_curve(parabola(2.42, repeats=2, noise=0.004))
    fields = json.loads(json.dumps(fit.as_dict(), allow_nan=False))
    best = Point(**fields.pop("best_observed"))
    tuples = {name: tuple(fields.pop(name)) for name in ("interval", "coefficients", "ratios")}
    assert Fit(**fields, **tuples, best_observed=best) == fit
    assert (fit.runs, fit.ratios, fit.degree) == (38, tuple(map(float, GRID)), 4)


@pytest.mark.parametrize(("degree", "enough"), [(2, 4), (4, 6)])
def test_refuses_too_few_ratios(degree, enough):
    few = parabola(1.0, GRID[: enough - 1], repeats=5)
    with pytest.raises(
        InputError, match=rf"`points`: got <{enough - 1} distinct ratios>, expected degree \+ 2 = {enough}"
    ):
        fit_curve(few, degree)
    fit_curve(parabola(1.0, GRID[:enough]), degree)


@pytest.mark.parametrize(
    ("point", "message"),
    [
        (Point(0.0, 0.5), r"`points\[19\].ratio`: got 0.0, expected a finite number above 0"),
        (Point(-1.0, 0.5), r"`points\[19\].ratio`"),
        (Point(math.inf, 0.5), r"`points\[19\].ratio`"),
        (Point(1.0, math.nan), r"`points\[19\].performance`: got nan, expected a finite number"),
        (Point(1.0, math.inf), r"`points\[19\].performance`"),
    ],
)
def test_refuses_points(point, message):
    with pytest.raises(InputError, match=message):
        fit_curve([*parabola(1.0), point])


def test_refuses_runs_without_differences():
    with pytest.raises(InputError, match="<performance 0.5 in every run>"):
        fit_curve([Point(ratio, 0.5) for ratio in GRID])


def test_refuses_no_runs():
    with pytest.raises(InputError, match="<0 distinct ratios>"):
        fit_curve([])


@pytest.mark.parametrize("settings", [{"bootstrap": 0}, {"level": 1.0}, {"level": 0.0}, {"seed": -1}, {"degree": 0}])
def test_refuses_settings(settings):
    with pytest.raises(InputError, match=next(iter(settings))):
        fit_curve(parabola(1.0), **settings)
