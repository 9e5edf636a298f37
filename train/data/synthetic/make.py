"""Make the whole data set: pictures in parallel processes, rows about them, frozen like any other data.

Each picture follows from the seed, its set and its number alone; so the number of processes does not matter, and a run
that was cut goes on where it was: pictures are made in portions, and the record of a portion is written once all of its
pictures are there.
"""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from qsit_metric.files import write_atomic

from ...errors import DataError
from ...processes import alone
from ..frozen import Frozen, freeze
from .camera import photographed
from .contents import SIZES, Content, content, draw_name
from .photographs import Split
from .sets import Amounts, rows_of
from .shots import Degradation, Shot, draw_degradation, draw_degradations, tone_of

Format = Literal["png", "webp"]
PORTION = 50
_SETS = ("d1", "d2", "d3", "scoring", "questions")
_PRISTINE = 0.3  # share of untouched pictures in D1; a type has less
_SHARED = {"d1": 3}  # pictures in a row that are made of one content
_MOST_LOST = 2.0  # level up to which pictures about contents are degraded
_KEEPS_CONTENT = ("gaussian_blur", "jpeg", "white_noise", "jpeg2000", "lens_blur")
# Contents about which much can be asked, and their share in D3 beside the common draw.
_KNOWN, _KNOWN_SHARE = ("shapes", "shapes", "writing", "landscape"), 0.5


@dataclass(frozen=True)
class _Portion:
    """Some pictures of a set."""

    folder: Path
    name: str
    start: int
    stop: int
    seed: int
    form: Format

    @property
    def record(self) -> Path:
        return self.folder / "shots" / f"{self.name}-{self.start:07d}.jsonl"


def make_dataset(
    folder: Path, amounts: Amounts, seed: int = 0, workers: int = 0, *, form: Format = "png", quiet: bool = False
) -> Frozen:
    """Make pictures and rows and freeze them, or go on with a folder that was begun, or read one that is done.

    Args:
        folder: Gets `images/`, `shots/` (what is known of each picture) and `data/`.
        amounts: How much of each set.
        seed: Any whole number of 0 or more; equal arguments give equal files, whatever `workers` is.
        workers: Processes; 0 takes as many as there are cores, 1 works in this one.
        form: "png" (quick), or "webp" (lossless, about a third smaller, several times slower).
        quiet: No progress bar.

    Returns:
        The data, verified.

    Raises:
        DataError: The folder holds data of another seed, amount or form; or a number is off its range.
    """
    how = {"seed": seed, "form": form, **asdict(amounts)}
    _check(folder, how, workers)
    if (folder / "data" / "data.json").is_file():
        return Frozen.load(folder / "data")
    (folder / "shots").mkdir(parents=True, exist_ok=True)
    write_atomic(folder / "making.json", json.dumps(how, indent=1) + "\n")
    portions = list(_portions(folder, amounts, seed, form))
    _do([one for one in portions if not one.record.is_file()], workers or os.cpu_count() or 1, quiet)
    shots = {name: [shot for one in portions if one.name == name for shot in _read(one)] for name in _SETS}
    sets, validation = rows_of(shots, amounts, seed)
    roots = {name: Path(*(folder / "images").parts) for name in _SETS}
    return freeze(sets, validation, folder / "data", roots=roots, how=how)


def read_shots(folder: Path, name: str) -> list[Shot]:
    """What is known of the pictures of a set that was made.

    Args:
        folder: The folder of `make_dataset`.
        name: "d1", "d2", "d3", "scoring" or "questions".

    Raises:
        DataError: An unknown set, or its pictures are not all there.
    """
    if name not in _SETS:
        raise DataError.about("set", name, f"one of {', '.join(_SETS)}")
    how = json.loads((folder / "making.json").read_text(encoding="utf-8"))
    amounts = Amounts(**{one.name: how[one.name] for one in fields(Amounts)})
    portions = [one for one in _portions(folder, amounts, how["seed"], how["form"]) if one.name == name]
    if missing := [one.record.name for one in portions if not one.record.is_file()]:
        raise DataError.about("folder", str(folder), f"all pictures of {name}", f"{missing[0]} is not there.")
    return [shot for one in portions for shot in _read(one)]


def shoot(name: str, number: int, seed: int, form: Format = "png") -> tuple[Shot, Image.Image]:
    """Make one picture of a set, without a file.

    Args:
        name: "d1", "d2", "d3", "scoring" or "questions".
        number: Which one.
        seed: Of the whole data set.
        form: Ending of the path that it would have.

    Returns:
        What is known of it, and the picture; equal arguments give equal ones.

    Raises:
        DataError: An unknown set.

    Example:
        >>> shot, image = shoot("d1", 0, seed=0)
        >>> shot.image, image.mode, 1 <= shot.mos <= 5
        ('d1/0000/0000000.png', 'RGB', True)
    """
    if name not in _SETS:
        raise DataError.about("set", name, f"one of {', '.join(_SETS)}")
    rng = np.random.default_rng([seed, _SETS.index(name), number])
    degradations = _drawn(name, rng)
    made = _made(name, number // _SHARED.get(name, 1), seed)
    pristine = image = photographed(made.image, rng)
    for degradation in degradations:
        image = degradation.apply(image, int(rng.integers(1 << 31)))
    path = f"{name}/{number // 1000:04d}/{number:07d}.{form}"
    return Shot(path, made.name, made.facts, tone_of(pristine), degradations), image


@lru_cache(maxsize=1)
def _made(name: str, group: int, seed: int) -> Content:
    """The pristine content of a picture, or of some in a row: to draw one costs more than to degrade it."""
    rng = np.random.default_rng([seed, _SETS.index(name), group, 1])
    split: Split = "held_out" if name in ("scoring", "questions") else "train"
    size = SIZES[rng.integers(len(SIZES))]
    known = name == "d3" and rng.random() < _KNOWN_SHARE
    kind = _KNOWN[rng.integers(len(_KNOWN))] if known else draw_name(rng, size, split)
    return content(kind, size, rng, split)


def _take(portion: _Portion, number: int) -> Shot:
    shot, image = shoot(portion.name, number, portion.seed, portion.form)
    target = portion.folder / "images" / shot.image
    target.parent.mkdir(parents=True, exist_ok=True)
    options: dict[str, Any] = {"lossless": True, "method": 0, "quality": 20}
    image.save(target, **({"compress_level": 1} if portion.form == "png" else options))
    return shot


def _drawn(name: str, rng: np.random.Generator) -> tuple[Degradation, ...]:
    if name in ("d1", "scoring"):
        return () if rng.random() < _PRISTINE else (draw_degradation(rng),)
    if name == "d3":
        kind = _KEEPS_CONTENT[rng.integers(len(_KEEPS_CONTENT))]
        return () if rng.random() < 0.5 else (Degradation(kind, round(float(rng.uniform(1, _MOST_LOST)), 3)),)
    return draw_degradations(rng, pristine=0.06, corrupted=0.2, pairs=0.15)


def _portions(folder: Path, amounts: Amounts, seed: int, form: Format) -> Iterator[_Portion]:
    for name in _SETS:
        count = amounts.pictures(name)
        for start in range(0, count, PORTION):
            yield _Portion(folder, name, start, min(count, start + PORTION), seed, form)


def _fill(portion: _Portion) -> int:
    """Make the pictures of a portion, then its record."""
    shots = [_take(portion, number) for number in range(portion.start, portion.stop)]
    write_atomic(portion.record, "".join(json.dumps(shot.as_dict()) + "\n" for shot in shots))
    return len(shots)


def _read(portion: _Portion) -> list[Shot]:
    lines = portion.record.read_text(encoding="utf-8").splitlines()
    if len(lines) != portion.stop - portion.start:
        expected = f"{portion.stop - portion.start} lines"
        raise DataError.about("file", str(portion.record), expected, "Remove it, and the pictures are made again.")
    return [Shot.from_dict(json.loads(line)) for line in lines]


def _do(portions: Sequence[_Portion], workers: int, quiet: bool) -> None:
    """All portions, side by side; the first error ends the others."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = ("[progress.description]{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    total = sum(one.stop - one.start for one in portions)
    with Progress(*columns, console=Console(stderr=True), disable=quiet or not total) as bar:
        task = bar.add_task("pictures", total=total)
        for count in _done(portions, workers):
            bar.advance(task, count)


def _done(portions: Sequence[_Portion], workers: int) -> Iterator[int]:
    """How many pictures each portion had, as the portions get done."""
    if workers == 1 or len(portions) < 2:
        yield from map(_fill, portions)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(portions)), mp_context=context, initializer=alone) as pool:
        waiting = [pool.submit(_fill, portion) for portion in portions]
        try:
            for done in as_completed(waiting):
                yield done.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _check(folder: Path, how: dict[str, object], workers: int) -> None:
    seed = how["seed"]
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise DataError.about("seed", seed, "a whole number of 0 or more")
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < 0:
        raise DataError.about("workers", workers, "a whole number of 0 or more")
    if how["form"] not in ("png", "webp"):
        raise DataError.about("form", how["form"], "'png' or 'webp'")
    begun = folder / "making.json"
    if begun.is_file() and json.loads(begun.read_text(encoding="utf-8")) != how:
        raise DataError.about("folder", str(folder), f"one of {how}", "Name another folder.")
