"""Correlations: agreement with scipy and with their definitions, signs, ties, and what is undefined."""

from __future__ import annotations

import json
import math
import warnings

import numpy as np
import pytest
import scipy.stats
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from qsit_metric.evaluation import (
    Correlations,
    EvaluationError,
    UndefinedError,
    bootstrap_interval,
    correlate,
    correlations,
    krcc,
    plcc,
    plcc_fitted,
    rmse,
    srcc,
)

NAMES = ("srcc", "plcc", "krcc", "rmse", "plcc_fitted")


def sample(seed, n=40, ties=True):
    rng = np.random.default_rng(seed)
    x = rng.normal(3, 1, n)
    y = 20 * x + rng.normal(0, 15, n)
    return (np.round(x, 1), np.round(y)) if ties else (x, y)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("ties", [True, False])
def test_scipy_agrees(seed, ties):
    x, y = sample(seed, ties=ties)
    assert srcc(x, y) == pytest.approx(scipy.stats.spearmanr(x, y).statistic, abs=1e-12)
    assert plcc(x, y) == pytest.approx(scipy.stats.pearsonr(x, y).statistic, abs=1e-12)
    assert krcc(x, y) == pytest.approx(scipy.stats.kendalltau(x, y).statistic, abs=1e-12)


def ranks(values):
    return [(sum(v < w for v in values) + sum(v <= w for v in values) + 1) / 2 for w in values]


def pearson(x, y):
    mx, my = sum(x) / len(x), sum(y) / len(y)
    top = sum((a - mx) * (b - my) for a, b in zip(x, y, strict=True))
    return top / math.sqrt(sum((a - mx) ** 2 for a in x) * sum((b - my) ** 2 for b in y))


def tau_b(x, y):
    pairs = [
        (a, b, c, d) for i, (a, b) in enumerate(zip(x, y, strict=True)) for c, d in list(zip(x, y, strict=True))[:i]
    ]
    top = sum(np.sign(a - c) * np.sign(b - d) for a, b, c, d in pairs)
    return top / math.sqrt(sum(a != c for a, _, c, _ in pairs) * sum(b != d for _, b, _, d in pairs))


@given(st.lists(st.tuples(st.integers(-5, 5), st.integers(-5, 5)), min_size=3, max_size=15))
def test_the_definitions_agree(pairs):
    x, y = zip(*pairs, strict=True)
    assume(len(set(x)) > 1 and len(set(y)) > 1)
    assert plcc(x, y) == pytest.approx(pearson(x, y), abs=1e-12)
    assert srcc(x, y) == pytest.approx(pearson(ranks(x), ranks(y)), abs=1e-12)
    assert krcc(x, y) == pytest.approx(tau_b(x, y), abs=1e-12)
    assert rmse(x, y) == pytest.approx(math.sqrt(sum((a - b) ** 2 for a, b in pairs) / len(pairs)), abs=1e-12)


def test_by_hand():
    """Five pairs with one tie on each side, computed on paper."""
    x, y = [1, 2, 2, 4, 5], [1, 3, 2, 3, 5]
    assert srcc(x, y) == pytest.approx(8.75 / 9.5)
    assert krcc(x, y) == pytest.approx(8 / 9)
    assert plcc(x, y) == pytest.approx(8.8 / math.sqrt(10.8 * 8.8))
    assert rmse(x, y) == pytest.approx(math.sqrt(2 / 5))


@pytest.mark.parametrize("name", ["srcc", "plcc", "krcc", "plcc_fitted"])
@pytest.mark.parametrize("seed", range(3))
def test_the_sign_is_kept(name, seed):
    statistic = getattr(correlations, name)
    x, y = sample(seed)
    assert statistic(x, y) > 0.3
    assert statistic(-x, y) == pytest.approx(-statistic(x, y), abs=1e-5)
    assert statistic(x, -y) == pytest.approx(-statistic(x, y), abs=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_a_fit_straightens_a_curve_and_is_never_worse_than_a_line(seed):
    x, y = sample(seed, 200, ties=False)
    assert plcc_fitted(x, y) >= plcc(x, y) - 1e-4
    bent = 100 / (1 + np.exp(-4 * (x - 3)))
    assert plcc_fitted(x, bent) > 0.99999 > 0.97 > plcc(x, bent)


@pytest.mark.parametrize(("scale", "shift"), [(1e-6, 0), (1, 1000), (1e6, -1e7)])
def test_a_fit_does_not_depend_on_the_scales(scale, shift):
    x, y = sample(1, 100)
    assert plcc_fitted(x * scale + shift, y) == pytest.approx(plcc_fitted(x, y), abs=1e-5)
    assert plcc_fitted(x, y * scale + shift) == pytest.approx(plcc_fitted(x, y), abs=1e-5)


@pytest.mark.parametrize("seed", [7, 11, 21, 39])
def test_a_fit_finds_steps_away_from_the_middle(seed):
    """Scores in two heaps: a search that began with a line would stop at it (0.14 where 0.58 can be had)."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=80)
    step = (x > rng.uniform(-1.5, 1.5)) * 1.0
    y = step + rng.normal(size=80) * 0.2
    assert plcc_fitted(x, y) > scipy.stats.pearsonr(step, y).statistic - 0.01


def test_the_curve_is_the_published_one():
    """`scipy.optimize.curve_fit` on VQEG's formula from VQEG's start, without standardising."""
    from scipy.optimize import curve_fit

    x, y = sample(2, 300, ties=False)
    y = 90 / (1 + np.exp(-2.5 * (x - 2.8))) + np.random.default_rng(5).normal(0, 4, len(x))

    def curve(x, high, low, middle, width):
        return (high - low) / (1 + np.exp(-(x - middle) / abs(width))) + low

    ends = curve_fit(curve, x, y, p0=[y.max(), y.min(), x.mean(), x.std() / 4], maxfev=20000)[0]
    assert plcc_fitted(x, y) == pytest.approx(scipy.stats.pearsonr(curve(x, *ends), y).statistic, abs=1e-6)


@pytest.mark.parametrize(
    ("x", "y", "reasons"),
    [
        ([3, 3, 3, 3, 3], [1, 2, 3, 4, 5], dict.fromkeys(("srcc", "plcc", "krcc", "plcc_fitted"), "predicted is constant")),
        ([1, 2, 3, 4, 5], [3, 3, 3, 3, 3], dict.fromkeys(("srcc", "plcc", "krcc", "plcc_fitted"), "mos is constant")),
        ([1, 2], [1, 2], dict.fromkeys(NAMES, "2 pairs, it needs 3")),
        ([], [], dict.fromkeys(NAMES, "0 pairs, it needs 3")),
        ([1, 2, math.nan, math.inf], [1, 2, 3, 4], dict.fromkeys(NAMES, "predicted has 2 values that are not finite, the first at 2")),
        ([1, 2, 3], [-math.inf, 2, 3], dict.fromkeys(NAMES, "mos has 1 values that are not finite, the first at 0")),
        ([1, 2, 3], [1, 2, 3], {"plcc_fitted": "3 pairs, a curve with 4 parameters needs 5"}),
        ([1e6, 1e6 * (1 + 1e-15), 1e6, 1e6, 1e6 * (1 + 2e-15)], [1, 2, 3, 4, 5], dict.fromkeys(("plcc", "plcc_fitted"), "predicted is constant up to rounding")),
    ],
)  # fmt: skip
def test_what_numbers_do_not_have_is_undefined_with_a_reason(x, y, reasons):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = correlate(x, y)
    assert dict(found.undefined) == reasons
    assert {name for name in NAMES if getattr(found, name) is None} == set(reasons)
    assert found.n == len(x)
    for name, reason in reasons.items():
        with pytest.raises(UndefinedError, match=f"^{reason}$"):
            getattr(correlations, name)(x, y)


def test_rmse_of_constants_and_numbers_that_overflow():
    assert correlate([3, 3, 3], [1, 1, 1]).rmse == 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = correlate([1e308, -1e308, 1e308], [-1e308, 1e308, 0])
    assert found.undefined["rmse"] == "the numbers are too large or too small to compute with"


@settings(deadline=None)  # scipy is imported on the way
@given(st.lists(st.tuples(st.floats(), st.floats()), max_size=8))
def test_never_nan(pairs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = correlate([x for x, _ in pairs], [y for _, y in pairs])
    for name in NAMES:
        value = getattr(found, name)
        assert (value is None) == (name in found.undefined)
        assert value is None or math.isfinite(value)
        assert value is None or name == "rmse" or -1 <= value <= 1
    json.dumps(found.as_dict(), allow_nan=False)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        ([1, 2, 3], [1, 2], "`mos`: got <2 scores>, expected as many as predictions, 3"),
        ([[1, 2, 3]], [1, 2, 3], r"`predicted`: got <an array of shape \(1, 3\)>, expected one dimension"),
        (["a", "b", "c"], [1, 2, 3], "`predicted`: got .* expected a list of numbers"),
        ([1, 2, 3], None, "`mos`: got None, expected a list of numbers"),
        ([1, 2, 3], [1, None, "x"], "`mos`: got .* expected a list of numbers"),
        (3, [1, 2, 3], "`predicted`: got 3"),
    ],
)
def test_what_is_no_pair_of_lists_is_refused(x, y, message):
    for function in (srcc, plcc, krcc, rmse, plcc_fitted, correlate, bootstrap_interval):
        with pytest.raises(EvaluationError, match=message) as caught:
            function(x, y)
        assert not isinstance(caught.value, UndefinedError)


def test_generators_and_arrays_are_taken():
    assert srcc((i for i in range(4)), np.arange(4, dtype=np.float32)) == 1


def test_the_record_is_plain():
    found = correlate([1, 2, 3], [1, 2, 3])
    assert isinstance(found, Correlations)
    assert all(type(value) in (float, int, dict, type(None)) for value in found.as_dict().values())
    with pytest.raises(AttributeError):
        found.srcc = 1


def test_the_bootstrap_interval():
    x, y = sample(3)
    low, high = bootstrap_interval(x, y, "srcc", rounds=200)
    assert low < srcc(x, y) < high
    assert (low, high) == bootstrap_interval(x, y, srcc, rounds=200)
    assert (low, high) != bootstrap_interval(x, y, "srcc", rounds=200, seed=1)
    narrow = bootstrap_interval(x, y, "srcc", level=0.5, rounds=200)
    assert low < narrow[0] < narrow[1] < high
    more = np.tile(x, 16), np.tile(y, 16)
    wide = bootstrap_interval(*more, "srcc", rounds=200)
    assert (high - low) / (wide[1] - wide[0]) == pytest.approx(4, rel=0.3)


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    """Means of 30 standard normal numbers: 90 % intervals, 200 samples; the binomial spread is 2 %."""

    def mean(x, _):
        return float(x.mean())

    rng = np.random.default_rng(0)
    samples = [rng.normal(size=30) for _ in range(200)]
    intervals = [bootstrap_interval(x, x, mean, level=0.9, rounds=200) for x in samples]
    assert 0.82 <= np.mean([low <= 0 <= high for low, high in intervals]) <= 0.96


def test_resamples_without_a_statistic_are_drawn_again_or_said_to_be_too_many():
    low, high = bootstrap_interval([1, 2, 3, 4], [1, 2, 4, 3], "plcc", rounds=300)
    assert -1 <= low < high <= 1

    def only_of_the_whole(x, _):
        if len(set(x)) < 9:
            raise UndefinedError("some are missing")
        return 1.0

    with pytest.raises(UndefinedError, match="undefined on (99|100) of 100 resamples"):
        bootstrap_interval(range(9), range(9), only_of_the_whole, rounds=50)
    with pytest.raises(UndefinedError, match="predicted is constant"):
        bootstrap_interval([1, 1, 1], [1, 2, 3])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"statistic": "r2"}, "`statistic`: got 'r2', expected a function or one of srcc, plcc"),
        ({"level": 95}, r"`level, rounds`: got \(95, 1000\)"),
        ({"rounds": 0}, "1 or more rounds"),
    ],
)
def test_arguments_of_the_bootstrap(arguments, message):
    with pytest.raises(EvaluationError, match=message):
        bootstrap_interval([1, 2, 3], [1, 2, 3], **arguments)
