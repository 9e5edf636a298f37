"""The four-parameter logistic curve between predicted and mean opinion scores. Pure.

Curve: VQEG's "FR-TV Phase II" report (2003), `low + (high - low) / (1 + exp(-(x - middle) / width))`. For a given
middle and width the best two ends follow from a straight line, and the fitted curve correlates with the scores as the
bare sigmoid does, up to the sign. So only middle and width are searched, and a relation that is almost a line, whose
best curve has its ends at infinity, does not keep the search from converging.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from .errors import UndefinedError

Array: TypeAlias = npt.NDArray[np.float64]

# Middle and logarithm of the width, in standard deviations of the predictions.
_BOUNDS = ((-50.0, 50.0), (float(np.log(0.01)), float(np.log(50.0))))


def logistic_correlation(x: Array, y: Array) -> float:
    """Pearson's correlation of y with the logistic curve in x that comes nearest to it.

    Args:
        x: (N,) predicted scores, standardised.
        y: (N,) mean opinion scores, standardised.

    Returns:
        -1..1; negative if the curve falls.

    Raises:
        UndefinedError: No curve has anything to do with y.
    """
    return _correlation(x, y, *_best(x, y))


def logistic_curve(x: Array, y: Array) -> Callable[[Array], Array]:
    """The logistic curve that comes nearest to y.

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
    if len(x) < 5 or not (np.ptp(x) and np.ptp(y)):
        raise UndefinedError("a curve needs 5 pairs that are not constant")
    middle, scale = x.mean(), x.std()
    place = _best((x - middle) / scale, (y - y.mean()) / y.std())
    rise, start = np.polyfit(_sigmoid((x - middle) / scale, *place), y, 1)
    return lambda at: np.asarray(start + rise * _sigmoid((at - middle) / scale, *place), dtype=np.float64)


def _best(x: Array, y: Array) -> Array:
    """Middle and logarithm of the width of the curve that comes nearest."""
    from scipy.optimize import minimize

    def lack(place: Array) -> float:
        return -(_correlation(x, y, *place) ** 2)

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


def _correlation(x: Array, y: Array, middle: float, width: float) -> float:
    """With one sigmoid; 0 where it is flat on all of x."""
    sigmoid = _sigmoid(x, middle, width)
    centred = sigmoid - sigmoid.mean()
    size = float(np.sqrt(centred @ centred) * np.sqrt(y @ y))
    return float(centred @ y) / size if size > 1e-9 else 0.0
