"""Scores of the images of a manifest, as a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qsit_metric.evaluation import Item, Manifest
from qsit_metric.evaluation.loop import Progress, is_qsit, outcomes
from qsit_metric.pipeline import Timing

from .identity import identity
from .process import Process
from .results import Results
from .run import Groups, carry_out

if TYPE_CHECKING:
    from qsit_metric import QSiT


def score_run(
    metric: QSiT | Callable[[str], Any],
    manifest: Manifest,
    folder: Path,
    *,
    exif: bool = False,
    seed: int = 0,
    retry_failed: bool = False,
    progress: Progress | None = None,
    process: Process | None = None,
) -> Results:
    """Score what has no score yet in the run's folder.

    A batch depends on what is missing, so a run that was cut gives the scores of an undisturbed one up to the rounding
    of its dtype.

    Args:
        metric: A `QSiT`, or any function of a path that gives a number; see `qsit_metric.evaluation.evaluate`.
        manifest: The images; each id once.
        folder: Of this model on this set.
        exif: Apply the EXIF orientation; the authors' code does not.
        seed: Recorded, for who draws random numbers from it, as the tables do for their intervals.
        retry_failed: Score again what has failed before.
        progress: Called with (done, to do) of this process.
        process: Which of several this is; default: as `accelerate launch` says.

    Returns:
        All rows so far, of all processes: "image", "mos", "score" on the metric's scale, and of a `QSiT` "level",
        "probs" and "note", too.

    Raises:
        EvaluationError: The folder has results of something else or is in use, an id stands twice, or the disk is full.

    Example:
        >>> score_run(QSiT(), manifest, Path("out/q-sit-mini/livec")).standing()  # doctest: +SKIP
        'livec: 1169 of 1169 done, 0 failed'
    """
    items, ids = manifest.items, [item.id for item in manifest.items]
    applied = exif if is_qsit(metric) else None
    what = identity("scores", metric, manifest.name, manifest.sha256, ids, exif=applied, seed=seed)

    def work(todo: Groups, timing: Timing) -> Iterator[dict[str, Any]]:
        places = [place for group in todo for place in group]
        rest = Manifest(manifest.name, [items[place] for place in places], manifest.root)
        found, _ = outcomes(metric, rest, exif, timing)
        for place, result in zip(places, found, strict=True):
            yield _row(place, items[place], result)

    return carry_out(
        folder, what, ids, [[place] for place in range(len(ids))], work,
        timed=is_qsit(metric), process=process, retry_failed=retry_failed, progress=progress,
    )  # fmt: skip


def _row(place: int, item: Item, result: float | Exception) -> dict[str, Any]:
    row: dict[str, Any] = {"id": item.id, "place": place, "image": item.image, "mos": item.mos}
    if isinstance(result, Exception):
        return {**row, "score": None, "error": f"{type(result).__name__}: {result}"}
    said = {name: getattr(result, name) for name in ("level", "probs", "note") if hasattr(result, name)}
    return {**row, "score": float(result), **said, "error": ""}
