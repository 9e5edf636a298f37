"""The four-parameter logistic curve between predicted and mean opinion scores. Pure.

Source: VQEG's "FR-TV Phase II" report (2003): `low + (high - low) / (1 + exp(-(x - middle) / width))`. There
`width` has no sign of its own: which end is the higher one says whether the curve rises.
"""

from __future__ import annotations

import warnings
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from .errors import UndefinedError

Array: TypeAlias = npt.NDArray[np.float64]


# Of standardised numbers. A relation that is almost a line has no best curve: it would need ends at infinity.
_BOUNDS = ((-20.0, -20.0, -20.0, 1e-3), (20.0, 20.0, 20.0, 50.0))


def fit_logistic(x: Array, y: Array) -> tuple[bool, Array]:
    """The curve that comes nearest to y, from two starts: a steep one (VQEG's) and one that is almost a line.

    Args:
        x: (N,) predicted scores, standardised.
        y: (N,) mean opinion scores, standardised.

    Returns:
        Whether the curve rises, and its values at x.

    Raises:
        UndefinedError: Neither start leads to a curve.
    """
    sign = 1.0 if x @ y >= 0 else -1.0
    ends = float(np.abs(y).max())
    starts = ((-sign * min(ends, 19.0), sign * min(ends, 19.0), 0.0, 0.25), (-sign * 10.0, sign * 10.0, 0.0, 5.0))
    found = [curve for curve in (_from(start, x, y) for start in starts) if curve is not None]
    if not found:
        raise UndefinedError("no logistic curve could be fitted")
    return min(found, key=lambda one: float(((one[1] - y) ** 2).sum()))


def _from(start: tuple[float, ...], x: Array, y: Array) -> tuple[bool, Array] | None:
    """Where one start leads; None if it leads nowhere."""
    from scipy.optimize import curve_fit

    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")  # of a covariance that nobody reads
            ends = curve_fit(_logistic, x, y, p0=start, bounds=_BOUNDS, max_nfev=2000)[0]
    except (RuntimeError, ValueError, np.linalg.LinAlgError):
        return None
    return bool(ends[1] > ends[0]), _logistic(x, *ends)


def _logistic(x: Array, low: float, high: float, middle: float, width: float) -> Array:
    from scipy.special import expit

    return np.asarray(low + (high - low) * expit((x - middle) / width), dtype=np.float64)
