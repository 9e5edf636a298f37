"""Descriptions of images, as a run; for LLDescribe, whose judge reads them later."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qsit_metric.errors import QSiTError
from qsit_metric.evaluation.loop import Progress
from qsit_metric.pipeline import Timing
from qsit_metric.prompts import DESCRIBE

from .identity import digest, identity
from .process import Process
from .results import Results
from .run import Groups, carry_out

if TYPE_CHECKING:
    from qsit_metric import QSiT
    from qsit_metric.view import View


def describe_run(
    metric: QSiT,
    images: Sequence[str],
    root: Path,
    folder: Path,
    prompt: str = DESCRIBE,
    *,
    name: str = "lldescribe",
    exif: bool = False,
    max_new_tokens: int = 200,
    seed: int = 0,
    retry_failed: bool = False,
    progress: Progress | None = None,
    process: Process | None = None,
) -> Results:
    """Describe what has no description yet in the run's folder.

    Args:
        metric: Who describes.
        images: Paths below `root`, each once; they are the ids.
        root: Folder of the images.
        folder: Of this model on this set.
        prompt: What is asked of each image.
        name: Of the set.
        exif: See `score_run`.
        max_new_tokens: Limit of a description.
        seed: See `score_run`.
        retry_failed: Describe again what has failed before.
        progress: Called with (done, to do) of this process.
        process: See `score_run`.

    Returns:
        All rows so far, of all processes: "image", "reply", and "finished" (False if it was cut at the limit).

    Raises:
        EvaluationError: As for `score_run`.
    """
    ids = list(images)
    sha256 = digest([{"image": image} for image in ids])
    what = identity(
        "descriptions", metric, name, sha256, ids, exif=exif, prompt=prompt, max_new_tokens=max_new_tokens, seed=seed
    )

    def work(todo: Groups, timing: Timing) -> Iterator[dict[str, Any]]:
        from qsit_metric.view import opened

        places = [place for group in todo for place in group]
        views = opened(metric, (root / ids[place] for place in places), exif=exif, timing=timing)
        for place, view in zip(places, views, strict=True):
            row = {"id": ids[place], "place": place, "image": ids[place]}
            yield {**row, **_described(view, prompt, max_new_tokens)}

    return carry_out(
        folder, what, ids, [[place] for place in range(len(ids))], work,
        process=process, retry_failed=retry_failed, progress=progress,
    )  # fmt: skip


def _described(view: View | QSiTError, prompt: str, limit: int) -> dict[str, Any]:
    try:
        if isinstance(view, QSiTError):
            raise view
        with view:
            reply = view.ask(prompt, max_new_tokens=limit)
        return {"reply": str(reply), "finished": reply.finished, "error": ""}
    except QSiTError as error:
        return {"reply": None, "finished": None, "error": f"{type(error).__name__}: {error}"}
