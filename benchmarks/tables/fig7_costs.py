"""From what was counted and measured of a model to the rows of Fig. 7. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from types import MappingProxyType

from benchmarks.tables.fig7_clock import Clocked
from benchmarks.tables.fig7_counts import Counts
from benchmarks.tables.shared import Cells

SCORE, ANSWER, MEAN = "score", "answer", "mean of score and answer"
ONE, TWO = "score and answer, one model", "score and answer, two models"
RANDOM, GIVEN = "random", "given"

COLUMNS = (
    "model", "source", "weights", "task", "parameters", "weights_gib", "tflop", "flops_of_qsit", "latency",
    "latency_low", "latency_high", "latency_of_qsit", "memory_mib", "vram_of_qsit", "tiles", "image_tokens",
    "new_tokens", "others", "device", "dtype",
)  # fmt: skip
"""Latency in seconds, operations in 1e12; "..._of_qsit" is the share of what the reference needs for the same task."""

RATIOS: Mapping[str, str] = MappingProxyType(
    {"flops_of_qsit": "tflop", "latency_of_qsit": "latency", "vram_of_qsit": "memory_mib"}
)
"""Column of a share -> column of what it is a share of."""


@dataclass(frozen=True)
class Cost:
    """Of one task; None where it was neither counted nor measured."""

    tflop: float | None = None
    latency: float | None = None
    latency_low: float | None = None
    latency_high: float | None = None
    memory_mib: float | None = None


@dataclass(frozen=True)
class Found:
    """All about one model.

    Attributes:
        name: Its name.
        weights: `RANDOM` or `GIVEN`.
        parameters: Their number; 0 if it is not known.
        bytes: That they take.
        dtype: Their type.
        new_tokens: Of the answer.
        counts: What was counted, or None.
        clocked: What was measured, or None.
        device: Where.
    """

    name: str
    weights: str
    parameters: int
    bytes: int
    dtype: str
    new_tokens: int
    counts: Counts | None = None
    clocked: Clocked | None = None
    device: str | None = None

    def rows(self) -> list[Cells]:
        """A score, an answer, their mean, and both with one model and with two."""
        score, answer, both = (self._cost(task) for task in ("score", "answer", "both"))
        beside_it = self.bytes / 2**20  # of the model that waits
        return [
            self._row(SCORE, score, new_tokens=None),
            self._row(ANSWER, answer),
            self._row(MEAN, _joined(score, answer, fmean, fmean)),
            self._row(ONE, both),
            self._row(TWO, _joined(score, answer, sum, lambda peaks: max(peaks) + beside_it), models=2),
        ]

    def _cost(self, task: str) -> Cost:
        tflop = getattr(self.counts, task) if self.counts else None
        if self.clocked is None:
            return Cost(tflop)
        times = self.clocked.seconds[task]
        return Cost(tflop, median(times), min(times), max(times), self.clocked.memory[task])

    def _row(self, task: str, cost: Cost, models: int = 1, **changed: object) -> Cells:
        counts, clocked = self.counts, self.clocked
        cells: Cells = {
            "model": self.name, "source": "measured" if clocked else "counted", "weights": self.weights, "task": task,
            "parameters": models * self.parameters or None, "weights_gib": models * self.bytes / 2**30 or None,
            **vars(cost), "tiles": counts.tiles if counts else None, "image_tokens": counts.tokens if counts else None,
            "new_tokens": self.new_tokens, "others": clocked.others if clocked else None, "device": self.device,
            "dtype": self.dtype,
        }  # fmt: skip
        return {**cells, **changed}


def shares(rows: Sequence[Cells], reference: str) -> list[Cells]:
    """Add to each row its numbers over those of the reference model in the same task, in the columns of `RATIOS`."""
    base = {row["task"]: row for row in rows if row["model"] == reference}
    return [{**row, **_shares(row, base.get(row["task"], {}))} for row in rows]


def _shares(row: Mapping[str, object], base: Mapping[str, object]) -> Cells:
    pairs = {name: (row[column], base.get(column)) for name, column in RATIOS.items()}
    return {
        name: mine / theirs if isinstance(mine, (int, float)) and isinstance(theirs, (int, float)) and theirs else None
        for name, (mine, theirs) in pairs.items()
    }


Join = Callable[[Iterable[float]], float]


def _joined(first: Cost, second: Cost, how: Join, memory: Join) -> Cost:
    """Of two tasks; None as soon as one is."""
    return Cost(
        _of_both(how, first.tflop, second.tflop),
        _of_both(how, first.latency, second.latency),
        memory_mib=_of_both(memory, first.memory_mib, second.memory_mib),
    )


def _of_both(how: Join, first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else how((first, second))
