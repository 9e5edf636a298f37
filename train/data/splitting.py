"""The validation rows of D1: a seeded share of every source, with the levels in proportion. Pure.

The paper keeps a tenth of KonIQ's and SPAQ's training images for validation, but the published lists are not reduced
by it; so both readings are offered. Paper: Q-SiT, arXiv 2503.09197, Sec. IV-A.
"""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from qsit_metric.evaluation.errors import counted

from ..errors import DataError
from .rows import Row
from .scoring import level_in

Mode = Literal["holdout", "authors"]


@dataclass(frozen=True)
class Split:
    """D1 in two parts.

    Attributes:
        train: Rows to train on, in order; with the mode "authors" these are all.
        validation: Rows to validate on, in order.
    """

    train: tuple[Row, ...]
    validation: tuple[Row, ...]


def hold_out(rows: Sequence[Row], fraction: float = 0.1, seed: int = 0, mode: Mode = "holdout") -> Split:
    """Choose the validation rows.

    Of each source, `fraction` of its rows, rounded, are chosen; the five levels get their share by largest remainder.
    Which rows of a level these are depends on the seed and the rows' own names, not on their order.

    Args:
        rows: Scoring rows.
        fraction: Share, in (0, 1).
        seed: Any whole number.
        mode: "holdout" takes the rows out of training, "authors" leaves them in.

    Returns:
        Both parts.

    Raises:
        DataError: A fraction outside (0, 1), an unknown mode, a row that is no scoring row, or a source so small that
            it has no validation row.

    Example:
        >>> from qsit_metric.evaluation.manifest import Item
        >>> from train.data.scoring import Scale, scoring_row
        >>> rows = [scoring_row(Item(f"{i}.jpg", 1 + i / 10, str(i)), Scale(1, 5)) for i in range(40)]
        >>> split = hold_out(rows, 0.25)
        >>> len(split.train), len(split.validation)
        (30, 10)
    """
    if not 0 < fraction < 1:
        raise DataError.about("fraction", fraction, "a number between 0 and 1")
    if mode not in ("holdout", "authors"):
        raise DataError.about("mode", mode, "'holdout' or 'authors'")
    strata: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for index, row in enumerate(rows):
        strata[row.source][level_in(row)].append(index)
    chosen: set[int] = set()
    for source, levels in strata.items():
        for level, count in _shares(source, {name: len(found) for name, found in levels.items()}, fraction).items():
            chosen |= set(sorted(levels[level], key=lambda index: _rank(rows[index], seed))[:count])
    kept = [row for index, row in enumerate(rows) if mode == "authors" or index not in chosen]
    return Split(tuple(kept), tuple(rows[index] for index in sorted(chosen)))


def _shares(source: str, sizes: Mapping[str, int], fraction: float) -> dict[str, int]:
    """Whole numbers in proportion to the sizes, by largest remainder; ties go to the earlier name."""
    total = math.floor(fraction * sum(sizes.values()) + 0.5)
    if not total:
        found = f"<{counted(sum(sizes.values()), 'row')} of source {source!r}>"
        raise DataError.about(
            "fraction", fraction, f"enough for one validation row of {found}", "Raise it or add rows."
        )
    exact = {name: size * total / sum(sizes.values()) for name, size in sizes.items()}
    shares = {name: math.floor(share) for name, share in exact.items()}
    order = sorted(shares, key=lambda name: (shares[name] - exact[name], name))
    for name in order[: total - sum(shares.values())]:
        shares[name] += 1
    return shares


def _rank(row: Row, seed: int) -> str:
    return hashlib.sha256(f"{seed}\0{row.source}\0{row.image}\0{row.id}".encode("utf-8", "surrogatepass")).hexdigest()
