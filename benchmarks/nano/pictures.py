"""Photographs of a folder and the degraded pictures that are made of them, ahead of need in processes of their own."""

from __future__ import annotations

import hashlib
import itertools
import multiprocessing
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from functools import lru_cache
from pathlib import Path

from PIL import Image

from benchmarks.nano.sample import Picture
from qsit_metric.errors import QSiTError
from qsit_metric.evaluation import EvaluationError
from train.processes import alone

_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
_AHEAD = 32  # pictures that wait for the model, beyond those in the making

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
        rest = iter(wanted)
        started = itertools.islice(rest, count + _AHEAD)
        waiting: deque[Future[Made]] = deque(pool.submit(_made, folder, one) for one in started)
        try:
            while waiting:
                done = waiting.popleft().result()
                waiting.extend(pool.submit(_made, folder, one) for one in itertools.islice(rest, 1))
                yield done
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
