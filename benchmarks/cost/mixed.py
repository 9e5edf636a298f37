"""Photographs of many sizes through a model, this checkout against another one.

What runs in the child uses the package's public calls alone, so that it runs with any state of it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from benchmarks.cost.child import Checkout, in_child

SMALLEST, LARGEST = (512, 384), (1800, 1350)


class Pace(NamedTuple):
    """What one checkout did.

    Attributes:
        rates: Pictures a second, of each round.
        peak: Most memory of the process, in MiB.
        scores: Of the pictures, 1..5.
    """

    rates: list[float]
    peak: float
    scores: list[float]


def photo(width: int, height: int, seed: int = 0) -> Image.Image:
    """A picture with large shapes, fine detail and noise, the same on every machine."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    shapes = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), dtype=np.int16)
    noise = rng.integers(-24, 25, (height, width, 3), dtype=np.int16)
    return Image.fromarray((shapes + noise).clip(0, 255).astype(np.uint8))


def mixed_sizes(count: int) -> list[tuple[int, int]]:
    """Sizes from `SMALLEST` to `LARGEST`, shuffled, every third on its side; equal counts give equal sizes.

    Example:
        >>> sorted(mixed_sizes(2))
        [(512, 384), (1800, 1350)]
    """
    shares = np.random.default_rng(0).permutation(np.linspace(0, 1, max(2, count))[:count]).tolist()
    (low, lower), (high, higher) = SMALLEST, LARGEST
    sizes = [(round(low + one * (high - low)), round(lower + one * (higher - lower))) for one in shares]
    return [(height, width) if place % 3 == 2 else (width, height) for place, (width, height) in enumerate(sizes)]


def compare(
    model: str, checkouts: Sequence[Checkout], *, device: str, dtype: str, images: int, repeats: int, threads: int
) -> list[Pace]:
    """Score one list of JPEG files with each checkout in turn, each time in a process of its own.

    Args:
        model: A name or a folder that all of them can load.
        checkouts: Whose package is measured.
        device: A torch device.
        dtype: Of the model.
        images: Photographs in the list.
        repeats: Rounds; in each, every checkout loads the model, scores the list once unmeasured and once measured.
        threads: Of the CPU; 0 leaves torch's choice.

    Returns:
        What each did, in the given order.
    """
    with tempfile.TemporaryDirectory() as folder:
        for place, (width, height) in enumerate(mixed_sizes(images)):
            photo(width, height, seed=place).save(Path(folder) / f"{place:04d}.jpg", quality=90)
        given = (f"{__name__}:score_files", model, device, dtype, folder, threads)
        rounds = [[in_child(*given, checkout=one) for one in checkouts] for _ in range(repeats)]
    return [
        Pace([images / one["seconds"] for one in mine], max(one["peak"] for one in mine), mine[0]["scores"])
        for mine in zip(*rounds, strict=True)
    ]


def score_files(model: str, device: str, dtype: str, folder: str, threads: int) -> dict[str, Any]:
    """Score the files of a folder twice: seconds of the second time, peak memory of it all in MiB, and the scores."""
    from benchmarks.cost.clock import peak_memory, seconds
    from qsit_metric import QSiT

    if threads:
        torch.set_num_threads(threads)
    paths = [str(path) for path in sorted(Path(folder).iterdir())]
    metric = QSiT(model, device=device, dtype=dtype)
    scores = [float(score) for score in metric.score(paths)]
    spent = seconds(lambda: metric.score(paths), torch.device(device))
    return {"seconds": spent, "peak": peak_memory(torch.device(device)), "scores": scores}


def apart(one: Sequence[float], other: Sequence[float]) -> float:
    """The largest difference of two lists of scores."""
    return max(abs(a - b) for a, b in zip(one, other, strict=True))
