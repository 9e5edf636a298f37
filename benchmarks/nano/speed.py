"""Time and memory of the model, each in a process of its own.

Loading is timed in a new interpreter: once with everything that has to be imported, then again with that in place.
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.cost import child

if TYPE_CHECKING:
    from PIL import Image

    from qsit_metric import QSiT

TASKS = ("load", "large", "many")
REPEATS = 5
LARGE, COMMON, BATCH = (4000, 3000), (512, 384), 16


def measure_speed(model: str, device: str, photograph: Path, repeats: int = REPEATS) -> dict[str, Any]:
    """All tasks, one after the other, and the conditions.

    Args:
        model: Folder or catalog name.
        device: A torch device.
        photograph: What the pictures are made of.
        repeats: Measured rounds; results are medians over them.

    Returns:
        "load" (imports, first, whole, again; seconds), "large" (seconds, baseline, peak, increase; MiB), "many"
        (images a second in one batch, one by one, and in batches of the default size), "conditions".

    Raises:
        RuntimeError: A process failed; its last words are in the message.
    """
    import torch

    from benchmarks.cost.report import conditions

    with tempfile.TemporaryDirectory() as folder:
        # Made here: what making takes would hide a part of what scoring takes.
        pictures = {"load": photograph, "large": Path(folder) / "large.jpg", "many": Path(folder) / "common.png"}
        _fitted(photograph, LARGE).save(pictures["large"], quality=90)
        _fitted(photograph, COMMON).save(pictures["many"])
        found = {
            task: child.in_child(f"{__name__}:{task}", model, device, str(pictures[task]), repeats) for task in TASKS
        }
    place = torch.device(device)
    return {**found, "conditions": dataclasses.asdict(conditions(place, found["load"]["dtype"], Path(model).name))}


def load(model: str, device: str, _picture: str, repeats: int) -> dict[str, Any]:
    """Seconds: of the imports, of the first metric, of both, and of a metric once everything is imported (median)."""
    import torch

    from qsit_metric import QSiT

    imported = time.perf_counter()
    metric = QSiT(model, device=device)
    first = time.perf_counter()
    again = _seconds(lambda: QSiT(model, device=device), torch.device(device), repeats)
    return {
        "imports": imported - child.STARTED,
        "first": first - imported,
        "whole": first - child.STARTED,
        "again": again,
        "dtype": metric.info["dtype"],
    }


def large(model: str, device: str, path: str, repeats: int) -> dict[str, Any]:
    """Median seconds from the path of a 12-megapixel JPEG to its score, and the peak memory of all that, in MiB."""
    from benchmarks.cost.clock import memory_of

    metric, seconds = _metric(model, device), 0.0

    def work() -> None:
        nonlocal seconds
        metric.score(path)  # the first call has more to do; its memory counts, its time does not
        seconds = _seconds(lambda: metric.score(path), metric.device, repeats)

    found = memory_of(work, metric.device, fresh=True)
    before, peak = found or (0.0, 0.0)
    return {"seconds": seconds, "baseline": before, "peak": peak, "increase": peak - before}


def many(model: str, device: str, path: str, repeats: int) -> dict[str, Any]:
    """Images a second of a 512x384 picture in memory: 16 in one batch, 16 singles, and a list as the metric batches."""
    from statistics import median

    from PIL import Image

    from benchmarks.cost.clock import interleaved
    from qsit_metric.batching import Budget
    from qsit_metric.pixels import load as read

    with Image.open(path) as file:
        image = file.convert("RGB")
    metric = _metric(model, device)
    prepared, usual = metric.backend.prepare(read(image)), metric.budget

    def at_once(budget: Budget) -> Sequence[float]:
        metric.budget = budget
        return metric.score([image] * BATCH)

    flows = {
        "batch": lambda: at_once(Budget(BATCH * prepared.tiles, BATCH * prepared.tokens)),
        "singles": lambda: [metric.score(image) for _ in range(BATCH)],
        "default": lambda: at_once(usual),
    }
    rounds = interleaved(flows, repeats, metric.device)
    rates = {name: BATCH / median(times) for name, times in rounds.times.items()}
    return {**rates, "tiles": prepared.tiles, "others": rounds.others}


def _seconds(work: Callable[[], object], device: Any, repeats: int) -> float:
    from statistics import median

    from benchmarks.cost.clock import seconds

    return median(seconds(work, device) for _ in range(repeats))


def _metric(model: str, device: str) -> QSiT:
    from qsit_metric import QSiT

    return QSiT(model, device=device)


def _fitted(photograph: Path, size: tuple[int, int]) -> Image.Image:
    """The photograph enlarged or reduced until it covers the size, and cut to it."""
    from PIL import Image, ImageOps

    with Image.open(photograph) as image:
        return ImageOps.fit(image.convert("RGB"), size, Image.Resampling.BICUBIC)
