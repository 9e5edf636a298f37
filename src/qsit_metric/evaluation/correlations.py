"""Agreement of predicted scores with people: SRCC, PLCC, KRCC, RMSE and PLCC after a logistic fit. Pure.

Signed throughout: a metric that says the opposite of people has negative correlations. Ties are averaged (SRCC) or
counted as tau-b does (KRCC), both by scipy. What numbers do not have is undefined, with the reason, never NaN.

Sources: scipy.stats; the authors' `eval_scripts/` (Q-Future/Q-SiT at 4e4d1df) report SRCC and raw PLCC, without a fit;
the logistic curve is the four-parameter one of VQEG's "FR-TV Phase II" report (2003),
`low + (high - low) / (1 + exp(-(x - middle) / width))`. For a given middle and width the best two ends follow from a
straight line, and the fitted curve correlates with the scores as the bare sigmoid does, up to the sign. So only middle
and width are searched, and a relation that is almost a line, whose best curve has its ends at infinity, does not keep
the search from converging.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ..errors import EvaluationError
from ..errors import UndefinedError as UndefinedError  # noqa: PLC0414  # exported by the package

Array: TypeAlias = npt.NDArray[np.float64]
Numbers: TypeAlias = "Iterable[float] | npt.ArrayLike"
Statistic: TypeAlias = Callable[[Array, Array], float]

_LEAST, _LEAST_FITTED = 3, 5  # pairs; a curve with 4 parameters needs one more
_ROUNDING = 1e-12  # relative spread below which numbers differ by rounding only

# Middle and logarithm of the width, in standard deviations of the predictions.
_BOUNDS = ((-50.0, 50.0), (float(np.log(0.01)), float(np.log(50.0))))


@dataclass(frozen=True)
class Correlations:
    """Agreement of predicted scores with mean opinion scores.

    Attributes:
        n: Pairs.
        srcc: Spearman's rank correlation, -1..1, higher is better; like the others, None if it is undefined.
        plcc: Pearson's linear correlation of the raw scores, -1..1.
        krcc: Kendall's tau-b, -1..1.
        rmse: Root of the mean squared difference, as the two scales are; lower is better.
        plcc_fitted: PLCC after a four-parameter logistic fit, -1..1.
        undefined: Name -> reason for those that are None.
    """

    n: int
    srcc: float | None
    plcc: float | None
    krcc: float | None
    rmse: float | None
    plcc_fitted: float | None
    undefined: Mapping[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain fields for result files."""
        return asdict(self)


def srcc(predicted: Numbers, mos: Numbers) -> float:
    """Spearman's rank-order correlation; ties get their mean rank.

    Args:
        predicted: (N,) predicted scores, N >= 3.
        mos: (N,) mean opinion scores.

    Returns:
        -1..1; positive if the predictions rise with the scores.

    Raises:
        UndefinedError: Fewer than 3 pairs, a constant input, or numbers that are not finite.
        EvaluationError: Not two lists of numbers of one length.

    Example:
        >>> round(srcc([1, 2, 3, 4], [10, 20, 30, 25]), 4)
        0.8
    """
    from scipy.stats import spearmanr

    return _rounded(spearmanr(*_varied(predicted, mos)).statistic)


def plcc(predicted: Numbers, mos: Numbers) -> float:
    """Pearson's linear correlation of the raw scores, without a fit; see `srcc`.

    Raises:
        UndefinedError: As for `srcc`; or an input is constant up to rounding.

    Example:
        >>> plcc([1, 2, 3, 4], [2, 4, 6, 8])
        1.0
    """
    x, y = _varied(predicted, mos)
    for name, values in (("predicted", x), ("mos", y)):
        if np.ptp(values) <= _ROUNDING * np.abs(values).max():
            raise UndefinedError(f"{name} is constant up to rounding")
    return _pearson(x, y)


def krcc(predicted: Numbers, mos: Numbers) -> float:
    """Kendall's rank correlation, tau-b; see `srcc`.

    Raises:
        UndefinedError: As for `srcc`.

    Example:
        >>> round(krcc([1, 2, 3, 4], [10, 20, 30, 25]), 4)
        0.6667
    """
    from scipy.stats import kendalltau

    return _rounded(kendalltau(*_varied(predicted, mos), method="asymptotic").statistic)


def rmse(predicted: Numbers, mos: Numbers) -> float:
    """Root mean squared difference; it means something only if both are on one scale.

    Raises:
        UndefinedError: Fewer than 3 pairs, or numbers that are not finite. Constants have an RMSE.

    Example:
        >>> rmse([1, 2, 3], [1, 2, 6])
        1.7320508075688772
    """
    x, y = _pairs(predicted, mos)
    return _finite(float(np.sqrt(np.mean((x - y) ** 2))))


def plcc_fitted(predicted: Numbers, mos: Numbers) -> float:
    """Pearson's correlation after the predictions went through the logistic curve that fits the scores best.

    The curve has four parameters: two ends, a middle and a width. It may rise or fall; the sign of the result is the
    direction of the curve, so that a fit never hides that a metric says the opposite of people.

    Raises:
        UndefinedError: As for `plcc`; fewer than 5 pairs; or no curve can be fitted.

    Example:
        >>> import numpy as np
        >>> x = np.linspace(1, 5, 50)
        >>> round(plcc_fitted(x, 100 / (1 + np.exp(-3 * (x - 3)))), 6)
        1.0
    """
    plcc(predicted, mos)  # raises for what neither correlation is defined for
    x, y = (_standardised(values) for values in _pairs(predicted, mos))
    if len(x) < _LEAST_FITTED:
        raise UndefinedError(f"{len(x)} pairs, a curve with 4 parameters needs {_LEAST_FITTED}")
    return _rounded(_curve_correlation(x, y, *_best(x, y)))


def logistic_curve(x: Array, y: Array) -> Callable[[Array], Array]:
    """Fit the logistic curve that comes nearest to y.

    Args:
        x: (N,) predicted scores, on any scale; finite, N >= 5.
        y: (N,) mean opinion scores, likewise.

    Returns:
        Predicted scores of any shape -> mean opinion scores that the curve gives them.

    Raises:
        UndefinedError: Fewer than 5 pairs, a constant input, or no curve that has anything to do with y.

    Example:
        >>> x = np.linspace(1, 5, 50)
        >>> curve = logistic_curve(x, 100 / (1 + np.exp(-3 * (x - 3))))
        >>> curve(np.array([2.0, 3.0, 4.0])).round(2).tolist()
        [4.74, 50.0, 95.26]
    """
    if len(x) < _LEAST_FITTED or not (np.ptp(x) and np.ptp(y)):
        raise UndefinedError("a curve needs 5 pairs that are not constant")
    middle, scale = x.mean(), x.std()
    place = _best((x - middle) / scale, (y - y.mean()) / y.std())
    rise, start = np.polyfit(_sigmoid((x - middle) / scale, *place), y, 1)
    return lambda at: np.asarray(start + rise * _sigmoid((at - middle) / scale, *place), dtype=np.float64)


STATISTICS: Mapping[str, Callable[[Numbers, Numbers], float]] = {
    "srcc": srcc,
    "plcc": plcc,
    "krcc": krcc,
    "rmse": rmse,
    "plcc_fitted": plcc_fitted,
}


def correlate(predicted: Numbers, mos: Numbers) -> Correlations:
    """Compute all statistics; those that are undefined are None and have a reason.

    Args:
        predicted: (N,) predicted scores.
        mos: (N,) mean opinion scores.

    Raises:
        EvaluationError: Not two lists of numbers of one length.

    Example:
        >>> found = correlate([3, 3, 3], [1, 2, 3])
        >>> found.srcc is None, found.undefined["srcc"]
        (True, 'predicted is constant')
    """
    x, y = _arrays(predicted, mos)
    values: dict[str, float | None] = {}
    undefined: dict[str, str] = {}
    for name, statistic in STATISTICS.items():
        try:
            values[name] = statistic(x, y)
        except UndefinedError as error:  # noqa: PERF203
            values[name], undefined[name] = None, str(error)
    return Correlations(len(x), **values, undefined=undefined)


def bootstrap_interval(
    predicted: Numbers,
    mos: Numbers,
    statistic: str | Statistic = "srcc",
    level: float = 0.95,
    seed: int = 0,
    rounds: int = 1000,
) -> tuple[float, float]:
    """Percentile bootstrap interval of a statistic over images: where it would fall on other images of the same kind.

    Args:
        predicted: (N,) predicted scores.
        mos: (N,) mean opinion scores.
        statistic: A key of `STATISTICS`, or a function of two arrays.
        level: Coverage, between 0 and 1.
        seed: Equal seeds give equal intervals.
        rounds: Resamples. One on which the statistic is undefined is drawn again.

    Returns:
        Lower and upper bound.

    Raises:
        UndefinedError: The statistic is undefined on these numbers, or on most of their resamples.
        EvaluationError: An argument that makes no sense.

    Example:
        >>> low, high = bootstrap_interval([1, 2, 3, 4, 5, 6], [1, 3, 2, 4, 6, 5])
        >>> low < 0.886 < high
        True
    """
    measure = _statistic(statistic)
    if not 0 < level < 1 or rounds < 1:
        raise EvaluationError.about("level, rounds", (level, rounds), "a level between 0 and 1 and 1 or more rounds")
    x, y = _arrays(predicted, mos)
    measure(x, y)
    rng = np.random.default_rng(seed)
    found: list[float] = []
    for _ in range(2 * rounds):
        picked = rng.integers(0, len(x), len(x))
        try:
            found.append(measure(x[picked], y[picked]))
        except UndefinedError:
            continue
        if len(found) == rounds:
            low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
            return float(low), float(high)
    raise UndefinedError(f"undefined on {2 * rounds - len(found)} of {2 * rounds} resamples")


def _statistic(statistic: str | Statistic) -> Callable[[Array, Array], float]:
    if callable(statistic):
        return statistic
    if statistic not in STATISTICS:
        raise EvaluationError.about("statistic", statistic, f"a function or one of {', '.join(STATISTICS)}")
    return STATISTICS[statistic]


def _arrays(predicted: Numbers, mos: Numbers) -> tuple[Array, Array]:
    found = []
    for name, values in (("predicted", predicted), ("mos", mos)):
        try:
            array = np.asarray(values if hasattr(values, "__len__") else list(values), dtype=np.float64)  # type: ignore[arg-type]
        except (TypeError, ValueError) as error:
            raise EvaluationError.about(name, values, "a list of numbers") from error
        if array.ndim != 1:
            raise EvaluationError.about(name, f"<an array of shape {array.shape}>", "one dimension")
        found.append(array)
    if len(found[0]) != len(found[1]):
        raise EvaluationError.about("mos", f"<{len(found[1])} scores>", f"as many as predictions, {len(found[0])}")
    return found[0], found[1]


def _pairs(predicted: Numbers, mos: Numbers) -> tuple[Array, Array]:
    """Check that both are finite and have 3 or more values."""
    x, y = _arrays(predicted, mos)
    for name, values in (("predicted", x), ("mos", y)):
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            raise UndefinedError(f"{name} has {len(bad)} values that are not finite, the first at {bad[0]}")
    if len(x) < _LEAST:
        raise UndefinedError(f"{len(x)} pairs, it needs {_LEAST}")
    return x, y


def _varied(predicted: Numbers, mos: Numbers) -> tuple[Array, Array]:
    x, y = _pairs(predicted, mos)
    for name, values in (("predicted", x), ("mos", y)):
        if (values == values[0]).all():
            raise UndefinedError(f"{name} is constant")
    return x, y


def _standardised(values: Array) -> Array:
    return np.asarray((values - values.mean()) / values.std(), dtype=np.float64)


def _pearson(x: Array, y: Array) -> float:
    from scipy.stats import pearsonr

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of near-constant inputs, which `plcc` refuses by its own rule
        return _rounded(pearsonr(x, y).statistic)


def _rounded(value: float) -> float:
    """A correlation within -1..1, which rounding may have left by the last digit."""
    return min(1.0, max(-1.0, _finite(float(value))))


def _finite(value: float) -> float:
    if not np.isfinite(value):
        raise UndefinedError("the numbers are too large or too small to compute with")
    return value


def _best(x: Array, y: Array) -> Array:
    """Middle and logarithm of the width of the curve that comes nearest."""
    from scipy.optimize import minimize

    def lack(place: Array) -> float:
        return -(_curve_correlation(x, y, *place) ** 2)

    middles = (-20.0, -6.0, *np.linspace(-3, 3, 13), 6.0, 20.0)
    grid = [np.array([middle, width]) for middle in middles for width in np.linspace(*_BOUNDS[1], 10)]
    start = min(grid, key=lack)
    settings = {"xatol": 1e-7, "fatol": 1e-13, "maxiter": 2000}
    best = minimize(lack, start, method="Nelder-Mead", bounds=_BOUNDS, options=settings)
    if not best.fun < 0:
        raise UndefinedError("no logistic curve fits")
    return np.asarray(best.x, dtype=np.float64)


def _sigmoid(x: Array, middle: float, width: float) -> Array:
    from scipy.special import expit

    return np.asarray(expit((x - middle) / np.exp(width)), dtype=np.float64)


def _curve_correlation(x: Array, y: Array, middle: float, width: float) -> float:
    """Pearson's correlation of y with one sigmoid of x; 0 where that is flat on all of x."""
    sigmoid = _sigmoid(x, middle, width)
    centred = sigmoid - sigmoid.mean()
    size = float(np.sqrt(centred @ centred) * np.sqrt(y @ y))
    return float(centred @ y) / size if size > 1e-9 else 0.0
