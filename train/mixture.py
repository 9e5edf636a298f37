"""Which rows an epoch sees: explicit sizes of D1, D2 and D3, drawn by seed, the same on every rank. Pure.

An epoch of `size` rows of a set with `n` takes `size // n` whole copies and a remainder; the remainder prefers rows
that the remainders of earlier epochs left out. So no row is seen a second time while another has not been seen once.

Paper: Q-SiT, arXiv 2503.09197, Sec. III-C; the authors' code draws once with an unseeded generator on every rank, so
that their subsets differ between ranks and runs. Ours does not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass

import numpy as np
import numpy.typing as npt

from .errors import RecipeError

SETS = ("d1", "d2", "d3")


@dataclass(frozen=True)
class Sizes:
    """Rows of D1 (scoring), D2 (interpreting) and D3 (general) in one epoch, or in the data at hand."""

    d1: int
    d2: int
    d3: int

    def __post_init__(self) -> None:
        if not all(isinstance(size, int) and size >= 0 for size in astuple(self)):
            raise RecipeError.about("sizes", astuple(self), "three whole numbers of 0 or more")

    def __iter__(self) -> Iterator[int]:
        return iter((self.d1, self.d2, self.d3))

    @property
    def total(self) -> int:
        """Rows of all sets."""
        return sum(self)


@dataclass(frozen=True, eq=False)
class Epoch:
    """One epoch's rows in the order in which they are seen.

    Attributes:
        sets: (total,) index into `SETS` of each row.
        rows: (total,) index of each row in its set.
        digest: SHA-256 of both, the same on every rank; for logs and checkpoints.
    """

    sets: npt.NDArray[np.int8]
    rows: npt.NDArray[np.int64]
    digest: str

    def __len__(self) -> int:
        return len(self.rows)


def draw_epoch(counts: Sizes, history: Sequence[Sizes], seed: int) -> Epoch:
    """Draw the last epoch of a history.

    Args:
        counts: Rows at hand in each set.
        history: Sizes of every epoch so far, the one to draw last.
        seed: Any whole number of 0 or more; equal arguments give equal epochs.

    Returns:
        The epoch, shuffled over all sets.

    Raises:
        RecipeError: Rows are asked of a set that has none, or the epoch is empty.

    Example:
        >>> epoch = draw_epoch(Sizes(4, 10, 10), [Sizes(6, 3, 2)], seed=1)
        >>> len(epoch), len(set(epoch.rows[epoch.sets == 0].tolist()))
        (11, 4)
    """
    sets, rows = [], []
    for index, (name, count) in enumerate(zip(SETS, counts, strict=True)):
        sizes = [tuple(sizes)[index] for sizes in history]
        picked = _draw(name, count, sizes, [seed, index])
        rows.append(picked)
        sets.append(np.full(len(picked), index, dtype=np.int8))
    order = np.random.default_rng([seed, len(SETS), len(history)]).permutation(sum(map(len, rows)))
    if not len(order):
        raise RecipeError.about("mixture", astuple(history[-1]), "at least one row in an epoch")
    all_sets, all_rows = np.concatenate(sets)[order], np.concatenate(rows)[order]
    digest = hashlib.sha256(all_sets.astype("<i1").tobytes() + all_rows.astype("<i8").tobytes()).hexdigest()
    return Epoch(all_sets, all_rows, digest)


def _draw(name: str, count: int, sizes: Sequence[int], key: list[int]) -> npt.NDArray[np.int64]:
    """Rows of one set in the last of the epochs: whole copies, then the rows seen least often in remainders."""
    if sizes[-1] and not count:
        raise RecipeError.about(
            f"mixture.{name}",
            sizes[-1],
            f"0, as there are no rows of {name}",
            f"Add rows, or leave the set out: --set 'mixture.without=[{name}]'.",
        )
    seen = np.zeros(count, dtype=np.int64)
    least = np.zeros(0, dtype=np.int64)
    for epoch, size in enumerate(sizes):
        noise = np.random.default_rng([*key, epoch]).random(count)
        least = np.lexsort((noise, seen))[: size % count if count else 0]
        seen[least] += 1
    copies = np.tile(np.arange(count), sizes[-1] // count if count else 0)
    return np.concatenate([copies, least])
