"""Which degraded pictures are scored. Pure.

The sample has every type and level of KADID-10k equally often and every photograph equally often, so correlations over
it are those of the full set but for chance. The types whose levels are compared are completed beside it: their
additional pictures count for the levels and for the correlation of their own type, not for the overall one.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qsit_metric.evaluation import EvaluationError
from train.nano.data.kadid import DISTORTIONS, LEVELS, mean_mos
from train.nano.data.pictures import Degradation

MONOTONE = ("gaussian_blur", "white_noise", "jpeg", "jpeg2000", "pixelate")
"""Types of which every photograph is scored at every level."""


@dataclass(frozen=True)
class Picture:
    """A picture that is made from a photograph.

    Attributes:
        photograph: File name.
        degradations: In the order in which they are applied; none leaves the photograph as it is.
        seed: Of their random patterns.
    """

    photograph: str
    degradations: tuple[Degradation, ...] = ()
    seed: int = 0


@dataclass(frozen=True)
class Case:
    """A picture to be scored.

    Attributes:
        photograph: File name.
        kind: Type of the degradation, or None.
        level: 1 to 5; 0 without a degradation.
        sampled: Whether it is of the sample that the overall correlations are over.
    """

    photograph: str
    kind: str | None = None
    level: int = 0
    sampled: bool = True

    @property
    def key(self) -> str:
        """Its name in the record of a run."""
        return f"{self.photograph} {self.kind or 'pristine'} {self.level}"

    @property
    def label(self) -> float:
        """Mean score that people gave this type and level, on 1..5, higher is better."""
        return mean_mos(self.kind, self.level or 1)

    def picture(self, seed: int) -> Picture:
        """How it is made; all pictures of a photograph share their random pattern."""
        degradations = () if self.kind is None else (Degradation(self.kind, float(self.level)),)
        return Picture(self.photograph, degradations, pattern(self.photograph, seed))


def pattern(photograph: str, seed: int) -> int:
    """The seed of a photograph's degradations; it does not depend on which other photographs there are."""
    return int(np.random.default_rng([seed, zlib.crc32(photograph.encode())]).integers(1 << 31))


def cases(photographs: Sequence[str], images: int, seed: int) -> list[Case]:
    """All pictures to be scored, those of one photograph beside each other.

    Args:
        photographs: File names.
        images: Size of the sample; 0, or more than there are, is every photograph at every type and level.
        seed: Equal seeds give equal samples.

    Returns:
        The untouched photographs, the sample, and what completes the types of `MONOTONE`.

    Raises:
        EvaluationError: A negative number, or no photographs.

    Example:
        >>> found = cases(["a.jpg", "b.jpg"], 50, seed=0)
        >>> sum(one.sampled and one.kind is not None for one in found)
        50
    """
    if min(images, seed) < 0 or not photographs:
        raise EvaluationError.about("images, seed, photographs", (images, seed, len(photographs)), "0, 0 and 1 or more")
    names = sorted(photographs)
    taken = _sample(names, images, seed)
    every = [(name, kind, level) for name in names for kind in DISTORTIONS for level in LEVELS]
    wanted = [one for one in every if one in taken or one[1] in MONOTONE]
    degraded = [Case(*one, sampled=one in taken) for one in wanted]
    return sorted([*map(Case, names), *degraded], key=lambda case: case.photograph)  # stable: the untouched one first


def _sample(names: Sequence[str], images: int, seed: int) -> set[tuple[str, str, int]]:
    """Each cell of type and level gets the photographs that were taken least often so far, chance deciding ties."""
    rng = np.random.default_rng([seed, 1])
    cells = [(kind, level) for kind in DISTORTIONS for level in LEVELS]
    total = len(names) * len(cells)
    size = total if images == 0 else min(images, total)
    count = dict.fromkeys(names, 0)
    taken = set()
    for place, cell in enumerate(int(one) for one in rng.permutation(len(cells))):
        share = size // len(cells) + (place < size % len(cells))
        shuffled = [names[index] for index in rng.permutation(len(names))]
        for name in sorted(shuffled, key=count.__getitem__)[:share]:
            count[name] += 1
            taken.add((name, *cells[cell]))
    return taken
