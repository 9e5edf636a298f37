"""Choosing pictures so that good and bad ones are there equally often (paper Sec. III-B1, Table III). Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from ...errors import DataError

T = TypeVar("T")

TABLE_III: Mapping[str, int] = MappingProxyType(
    {
        "koniq": 5182,
        "spaq": 10797,
        "live-fb": 800,
        "live-itw": 200,
        "agiqa-3k": 400,
        "imagerewarddb": 584,
        "15-distortion-coco": 1012,
    }
)
"""Pictures that the paper takes of each source. They sum to 18,975; the paper prints 18,973."""


@dataclass(frozen=True)
class Moments:
    """A column group of Table III.

    Attributes:
        size: Number of pictures.
        mean: Of the MOS, on 0..100, higher is better; None where there is no MOS.
        std: Standard deviation of the MOS (population), on the same scale.
    """

    size: int
    mean: float | None = None
    std: float | None = None


@dataclass(frozen=True)
class Sample(Generic[T]):
    """The pictures chosen of one source, and its moments before and after.

    Attributes:
        items: The chosen ones, in their order.
        before: Size and MOS of the source.
        after: Size and MOS of what was chosen.
    """

    items: tuple[T, ...]
    before: Moments
    after: Moments


def balanced_sample(
    items: Sequence[T],
    target_size: int,
    mos: Sequence[float] | None,
    scale: tuple[float, float] = (0.0, 100.0),
    bins: int = 20,
    seed: int = 0,
) -> Sample[T]:
    """Choose pictures so that their MOS is spread as evenly as the source allows.

    A picture is chosen with a probability inverse to the density of its MOS, 1 at most: every bin gives equally many,
    except those that have fewer and give all. Which of a bin is drawn by seed.

    Args:
        items: The pictures, or whatever stands for them.
        target_size: How many to choose, at most as many as there are.
        mos: Their mean opinion scores, higher is better; None for a source without (all are equally likely).
        scale: Lowest and highest score of the source.
        bins: Parts of equal width into which the scale is cut.
        seed: Any whole number of 0 or more.

    Returns:
        The chosen items, and size, mean and deviation before and after.

    Raises:
        DataError: More are asked for than there are, or the scores do not fit the items or the scale.

    Example:
        >>> chosen = balanced_sample(range(100), 20, [10.0] * 90 + [90.0] * 10, bins=2)
        >>> round(chosen.before.mean), round(chosen.after.mean), round(chosen.after.std)
        (18, 50, 40)

    Reference:
        Table III of the paper; the number of bins and the rule are not given there. On the 9,056 published rows of
        KonIQ (58.7 +- 15.3) this gives 52.9 +- 17.8 at the paper's share, the paper has 49.5 +- 15.7.
    """
    if not 0 <= target_size <= len(items):
        raise DataError.about("target_size", target_size, f"0 to {len(items)}, the pictures at hand")
    rng = np.random.default_rng(seed)
    if mos is None:
        kept = np.sort(rng.permutation(len(items))[:target_size])
        return Sample(tuple(items[i] for i in kept), Moments(len(items)), Moments(target_size))
    unit = _unit(items, mos, scale)
    where = np.minimum((unit * bins).astype(int), bins - 1)
    quotas = _quotas(np.bincount(where, minlength=bins), target_size, rng)
    drawn = [rng.permutation(np.flatnonzero(where == part))[:quota] for part, quota in enumerate(quotas)]
    kept = np.sort(np.concatenate(drawn))
    return Sample(tuple(items[i] for i in kept), _moments(unit), _moments(unit[kept]))


def overall(parts: Sequence[Moments]) -> Moments:
    """Pool the sources; size counts all, mean and deviation those with a MOS.

    Example:
        >>> overall([Moments(2, 10.0, 0.0), Moments(2, 30.0, 0.0), Moments(6)])
        Moments(size=10, mean=20.0, std=10.0)
    """
    size = sum(part.size for part in parts)
    known = [(part.size, part.mean, part.std) for part in parts if part.mean is not None and part.std is not None]
    count = sum(n for n, _, _ in known)
    if not count:
        return Moments(size)
    mean = sum(n * m for n, m, _ in known) / count
    return Moments(size, mean, math.sqrt(sum(n * (s**2 + (m - mean) ** 2) for n, m, s in known) / count))


def _unit(items: Sequence[T], mos: Sequence[float], scale: tuple[float, float]) -> npt.NDArray[np.float64]:
    low, high = scale
    if not low < high:
        raise DataError.about("scale", scale, "low < high")
    if len(mos) != len(items):
        raise DataError.about("mos", f"<{len(mos)} scores>", f"one for each of the {len(items)} pictures")
    values = np.asarray(mos, dtype=np.float64)
    outside = np.flatnonzero(~((values >= low) & (values <= high)))
    if len(outside):
        first = int(outside[0])
        raise DataError.about(f"mos[{first}]", float(values[first]), f"a number in [{low}, {high}]", "Check `scale`.")
    return np.asarray((values - low) / (high - low))


def _quotas(counts: npt.NDArray[np.int64], target: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """How many each bin gives: the same number, or all it has; the rest goes to bins drawn by chance."""
    level = 0
    while level < counts.max(initial=0) and np.minimum(counts, level + 1).sum() <= target:
        level += 1
    quotas = np.minimum(counts, level)
    more = rng.permutation(np.flatnonzero(counts > level))[: target - int(quotas.sum())]
    quotas[more] += 1
    return np.asarray(quotas)


def _moments(unit: npt.NDArray[np.float64]) -> Moments:
    if not len(unit):
        return Moments(0)
    return Moments(len(unit), float(unit.mean() * 100), float(unit.std() * 100))
