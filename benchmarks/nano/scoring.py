"""Scores of degraded photographs, batch by batch, kept as they come."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.nano.log import Log
from benchmarks.nano.pictures import Made, pictures
from benchmarks.nano.sample import Case
from qsit_metric import QSiT
from qsit_metric.errors import QSiTError
from qsit_metric.results import Score

_KEPT = 16  # pictures after which results go to the disk

Tick = Callable[[int], object]


@dataclass(frozen=True)
class Scored:
    """A case with its score on 1..5 and the most probable level, or with the error in their place."""

    case: Case
    score: float | None
    level: str
    error: str = ""


def score_cases(
    metric: QSiT, cases: Sequence[Case], folder: Path, seed: int, log: Log, workers: int, tick: Tick
) -> list[Scored]:
    """Score what has no score yet.

    Args:
        metric: Who scores.
        cases: What is scored.
        folder: Of the photographs.
        seed: Of the random patterns.
        log: Has the scores of an earlier run, and takes those of this one.
        workers: Processes that make pictures, see `pictures`.
        tick: Called with the number of pictures after each batch.

    Returns:
        All cases in the given order.
    """
    open_cases = [case for case in cases if case.key not in log.done]
    tick(len(cases) - len(open_cases))
    stream = pictures(folder, [case.picture(seed) for case in open_cases], workers)
    for batch in _batched(zip(open_cases, stream, strict=True)):
        log.add(_lines(metric, batch))
        tick(len(batch))
    return [_scored(case, log.done[case.key]) for case in cases]


def _lines(metric: QSiT, batch: Sequence[tuple[Case, Made]]) -> Iterator[dict[str, Any]]:
    images = [made for _, made in batch if isinstance(made, Image.Image)]
    results: Iterator[Score | QSiTError] = iter(metric.score(images, exif=False, errors="return"))
    for case, made in batch:
        found = made if isinstance(made, QSiTError) else next(results)
        if isinstance(found, QSiTError):
            yield {"key": case.key, "score": None, "level": "", "error": f"{type(found).__name__}: {found}"}
        else:
            yield {"key": case.key, "score": float(found), "level": found.level, "error": ""}


def _scored(case: Case, line: dict[str, Any]) -> Scored:
    return Scored(case, line["score"], line["level"], line["error"])


def _batched(pairs: Iterator[tuple[Case, Made]]) -> Iterator[list[tuple[Case, Made]]]:
    while batch := list(islice(pairs, _KEPT)):
        yield batch
