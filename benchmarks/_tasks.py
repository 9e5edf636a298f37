"""What is measured: each task runs both flows on the same pictures and gives rows."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TypeVar

import torch

from benchmarks._flows import Authors, Ours, Result, photo
from benchmarks._measure import Rounds, interleaved, peak_tflops, tflop
from benchmarks._memory import in_subprocess
from benchmarks._model import DTYPES, SHAPES, build_backend
from benchmarks._report import Row, measured

T = TypeVar("T")
KINDS = ("pixels", "memory", "score", "session", "throughput")  # in the order in which they run
PIXEL_TARGETS = {"1024x768": 8.0, "4000x3000": 3.0}
TARGETS = {"score": 1 / 1.05, "session": 3.5, "memory": 1.0}  # for models of a real size
_PIXEL_REPEATS = 7  # times those of the other tasks: a picture takes milliseconds
_MATMUL_SIDE = {"cpu": 2048, "cuda": 8192}

Task = tuple[str, Callable[[], list[Row]]]


@dataclass(frozen=True)
class Settings:
    """What the command line asked for."""

    device: torch.device
    dtype: str
    shape: str
    sizes: tuple[str, ...]
    repeats: int
    kinds: tuple[str, ...]
    batches: tuple[int, ...]
    images: int


class Bench:
    """Both flows around one model, which is built when the first task needs it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def tasks(self) -> Iterator[Task]:
        """Every task with its label, memory before anything large is loaded here."""
        kinds, sizes = self.settings.kinds, self.settings.sizes
        for kind in (kind for kind in KINDS if kind in kinds):
            for size in dict.fromkeys([*sizes, *PIXEL_TARGETS]) if kind == "pixels" else sizes:
                yield f"{kind} {size}", lambda kind=kind, size=size: getattr(self, kind)(size)  # type: ignore[misc]

    def pixels(self, size: str) -> list[Row]:
        """From a decoded picture to what the vision tower reads."""
        image, authors, ours = photo(*wh(size)), Authors(), Ours()
        flows = {"authors": lambda: authors.pixels(image), "ours": lambda: ours.pixels(image)}
        repeats = self.settings.repeats * (1 if self.settings.shape == "tiny" else _PIXEL_REPEATS)
        rounds = interleaved(flows, repeats, torch.device("cpu"))
        rows = _rows("pixels", size, rounds)
        rows[1].gap = float((rounds.first["authors"] - rounds.first["ours"]).abs().max())
        rows[1].target = PIXEL_TARGETS.get(size)
        return rows

    def memory(self, size: str) -> list[Row]:
        """Peak memory of a score and four questions, each flow in a fresh process."""
        s, rows = self.settings, []
        place = {"device": str(s.device), "dtype": s.dtype, "shape": s.shape, "size": size}
        for flow in ("authors", "ours"):
            found = in_subprocess(flow, **place, threads=torch.get_num_threads())
            rows.append(measured("memory", size, flow, [found["peak"]], unit="MiB"))
            rows[-1].baseline = found["baseline"]
        return self._aimed(compared(rows), "memory")

    def score(self, size: str) -> list[Row]:
        """One score."""
        image, (authors, ours) = photo(*wh(size)), self._flows
        return self._timed("score", size, {"authors": lambda: authors.score(image), "ours": lambda: ours.score(image)})

    def session(self, size: str) -> list[Row]:
        """A score and four questions of eight new tokens; ours with the picture opened once, and with two calls."""
        image, (authors, ours) = photo(*wh(size)), self._flows
        flows = {
            "authors": lambda: authors.session(image),
            "ours": lambda: ours.session(image),
            "ours, two calls": lambda: ours.two_calls(image),
        }
        return self._timed("session", size, flows)

    def throughput(self, size: str) -> list[Row]:
        """Scores of JPEG files on disk, ours in batches, and how much of the device's matrix throughput that is."""
        s, (authors, ours) = self.settings, self._flows
        with tempfile.TemporaryDirectory() as folder:
            paths = _jpegs(Path(folder), wh(size), max(s.images, 2 * max(s.batches)))
            few = paths[: max(2, s.images // 4)]
            flows = {"authors": lambda: authors.files(few)}
            flows |= {f"batch {batch}": partial(ours.files, paths, batch) for batch in s.batches}
            rounds = interleaved(flows, s.repeats, s.device)
        rows = [_rates(size, "authors", len(few), rounds)]
        for batch in s.batches:
            rows.append(_rates(size, f"batch {batch}", len(paths), rounds))
            rows[-1].flow, rows[-1].batch = "ours", batch
        return self._of_peak(compared(rows), size)

    @cached_property
    def _flows(self) -> tuple[Authors, Ours]:
        s = self.settings
        backend = build_backend(SHAPES[s.shape], DTYPES[s.dtype], s.device)
        return Authors(backend.model), Ours(backend)

    @cached_property
    def _peak(self) -> float:
        s = self.settings
        side = 512 if s.shape == "tiny" else _MATMUL_SIDE.get(s.device.type, 2048)
        return peak_tflops(s.device, DTYPES[s.dtype], side)

    def _timed(self, kind: str, size: str, flows: dict[str, Callable[[], Result]]) -> list[Row]:
        rounds = interleaved(flows, self.settings.repeats, self.settings.device)
        rows = _rows(kind, size, rounds)
        for row in rows[1:]:
            agree(row, rounds.first["authors"], rounds.first[row.flow])
        return self._aimed(rows, kind)

    def _aimed(self, rows: list[Row], kind: str) -> list[Row]:
        """Set the target of our main flow; a toy model has none."""
        if self.settings.shape != "tiny":
            rows[1].target = TARGETS[kind]
        return rows

    def _of_peak(self, rows: list[Row], size: str) -> list[Row]:
        image, (_, ours) = photo(*wh(size)), self._flows
        cost = tflop(lambda: ours.score(image))
        for row in rows:
            row.tflop, row.peak_tflops = cost, self._peak
            row.share_of_peak = cost * row.median / self._peak
        return rows


def _rows(kind: str, size: str, rounds: Rounds[T]) -> list[Row]:
    rows = [measured(kind, size, name, values) for name, values in rounds.times.items()]
    for row in rows:
        row.others = rounds.others
    return compared(rows)


def _rates(size: str, name: str, count: int, rounds: Rounds[list[float]]) -> Row:
    """Pictures a second, and how far the scores of the first pictures are from the authors'."""
    row = measured("throughput", size, name, [count / t for t in rounds.times[name]], unit="images/s")
    row.others = rounds.others
    if name != "authors":
        row.gap = max(abs(a - b) for a, b in zip(rounds.first["authors"], rounds.first[name], strict=False))
    return row


def compared(rows: list[Row]) -> list[Row]:
    """Fill the ratios to the first row in, in the direction in which more is better."""
    for row in rows:
        factor = rows[0].median / row.median
        row.ratio = 1 / factor if row.unit == "images/s" else factor
    return rows


def agree(row: Row, theirs: Result, ours: Result) -> None:
    """Note how far a flow's results are from the authors'."""
    row.gap = abs(theirs.score - ours.score)
    pairs = [
        (a, b)
        for left, right in zip(theirs.answers, ours.answers, strict=True)
        for a, b in zip(left, right, strict=True)
    ]
    row.same_tokens = math.fsum(a == b for a, b in pairs) / len(pairs) if pairs else None


def wh(size: str) -> tuple[int, int]:
    """'512x384' -> (512, 384), width first."""
    width, _, height = size.partition("x")
    return int(width), int(height)


def _jpegs(folder: Path, size: tuple[int, int], count: int) -> list[Path]:
    paths = [folder / f"{number:04d}.jpg" for number in range(count)]
    for number, path in enumerate(paths):
        photo(*size, seed=number).save(path, quality=90)
    return paths
