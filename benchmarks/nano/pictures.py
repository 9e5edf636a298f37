"""Photographs, and the degraded pictures that are made of them: which are scored, and how they are made.

The sample has every type and level of KADID-10k equally often and every photograph equally often, so correlations over
it are those of the full set but for chance. The types whose levels are compared are completed beside it: their
additional pictures count for the levels and for the correlation of their own type, not for the overall one. Pictures
are made ahead of need, in processes of their own.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.nano.training import DISTORTIONS, LEVELS, Degradation, alone, distort, in_order, mean_mos
from benchmarks.nano.training import photographs as shipped
from qsit_metric.errors import QSiTError
from qsit_metric.evaluation import EvaluationError

_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
_AHEAD = 32  # pictures that wait for the model, beyond those in the making
MONOTONE = ("gaussian_blur", "white_noise", "jpeg", "jpeg2000", "pixelate")
"""Types of which every photograph is scored at every level."""

_IN_SERIES = "rocket"
SERIES = ("gaussian_blur", "white_noise", "jpeg")
_BOX = (170, 127, 470, 427)  # the rocket and the lamps at its foot


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


Made = Image.Image | QSiTError


def photographs(folder: Path) -> list[str]:
    """File names of the pictures in a folder, in order.

    Raises:
        EvaluationError: No such folder, or no picture in it.
    """
    found = sorted(path.name for path in folder.glob("*") if path.suffix.lower() in _SUFFIXES)
    if not found:
        raise EvaluationError.about("--photos", str(folder), "a folder with pictures", "Name the photographs' folder.")
    return found


def fingerprint(folder: Path, names: Sequence[str]) -> str:
    """SHA-256 over names and contents: equal ones are the same photographs."""
    total = hashlib.sha256()
    for name in names:
        total.update(f"{name} {hashlib.sha256((folder / name).read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()


def make(folder: Path, wanted: Picture) -> Image.Image:
    """A degraded photograph; equal arguments give equal pictures.

    Raises:
        EvaluationError: The file cannot be read.
        DataError: A picture that cannot be degraded.
    """
    image = _photograph(folder / wanted.photograph)
    for place, one in enumerate(wanted.degradations):
        image = one.apply(image, wanted.seed + place)
    return image


def pictures(folder: Path, wanted: Sequence[Picture], workers: int = 0) -> Iterator[Made]:
    """Make pictures in the given order; in place of one that cannot be made there is its error.

    Args:
        folder: Of the photographs.
        wanted: What is made.
        workers: Processes; 0 takes as many as there are cores, 1 works in this one.
    """
    count = workers or os.cpu_count() or 1
    if count == 1 or len(wanted) < 2:
        yield from (_made(folder, one) for one in wanted)
        return
    # Forks of a process in which torch computes may hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(count, len(wanted)), mp_context=context, initializer=alone) as pool:
        try:
            yield from in_order(pool, partial(_made, folder), wanted, count + _AHEAD)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _made(folder: Path, wanted: Picture) -> Made:
    try:
        return make(folder, wanted)
    except QSiTError as error:
        return error


@lru_cache(maxsize=2)
def _photograph(path: Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise EvaluationError.about("photograph", path.name, "a readable picture", f"{error}.") from error


def series(seed: int) -> list[tuple[str, int, Image.Image]]:
    """One photograph under rising degradations, for a figure that the repository may ship: held out, public domain.

    Returns:
        (type, level, picture) of each place: for every type the untouched photograph as level 0, then levels 1 to 5.

    Raises:
        DataError: scikit-image is not installed.
    """
    whole = shipped.load(_IN_SERIES).crop(_BOX)
    own = pattern(_IN_SERIES, seed)
    return [
        (kind, level, distort(whole, kind, level, own) if level else whole) for kind in SERIES for level in (0, *LEVELS)
    ]
