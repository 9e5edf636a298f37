"""Rows of a measurement with the conditions they were made under: a CSV that survives a kill, and a table."""

from __future__ import annotations

import csv
import datetime
import io
import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

import torch

from benchmarks.cost.clock import BUSY, Rounds
from benchmarks.output import FILES
from qsit_metric import console

T = TypeVar("T")

RESULTS = Path(__file__).resolve().parents[1] / "results"
"""Where measurements are kept in the checkout."""


@dataclass(frozen=True)
class Conditions:
    """What a number depends on besides the code."""

    date: str
    cpu: str
    cores: int
    threads: int
    gpu: str
    python: str
    torch: str
    transformers: str
    pillow: str
    qsit_metric: str
    device: str
    dtype: str
    shape: str

    @property
    def machine(self) -> str:
        """What computed, for people."""
        return self.gpu or f"{self.cpu}, {self.threads} threads"


def conditions(device: torch.device, dtype: str, shape: str) -> Conditions:
    """The conditions in this process."""
    return Conditions(
        date=datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        cpu=_cpu_name(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        threads=torch.get_num_threads(),
        gpu=torch.cuda.get_device_name(device) if device.type == "cuda" else "",
        python=platform.python_version(),
        torch=version("torch"),
        transformers=version("transformers"),
        pillow=version("pillow"),
        qsit_metric=version("qsit-metric"),
        device=str(device),
        dtype=dtype,
        shape=shape,
    )


@dataclass
class Row:
    """One flow measured on one task.

    Attributes:
        what: Kind of measurement: pixels, score, session, memory or throughput.
        size: Width x height of the pictures.
        flow: Who did it.
        unit: Of the median, the minimum and the maximum.
        median: Over the repeats.
        minimum: Smallest.
        maximum: Largest.
        repeats: How often it was measured.
        batch: Pictures in one batch.
        ratio: How many times better than the authors' flow (less time or memory, more pictures); 1 for that flow.
        target: Least ratio that is asked for, or None.
        gap: Largest difference from the authors' flow: of a pixel, or of a score on 1..5.
        same_tokens: Share of generated tokens that equal those of the authors' flow.
        others: Cores that other processes kept busy meanwhile; times are only worth reading where it is near 0.
        baseline: Memory with the model loaded and nothing done yet, in the row's unit.
        tflop: Floating-point operations of one picture, in 1e12 (attention counted in full).
        peak_tflops: Measured peak of a matrix product on this device and in this type, in 1e12 operations a second.
        share_of_peak: Part of that peak which is reached.
    """

    what: str
    size: str
    flow: str
    unit: str
    median: float
    minimum: float
    maximum: float
    repeats: int
    batch: int = 1
    ratio: float = 1.0
    target: float | None = None
    gap: float | None = None
    same_tokens: float | None = None
    others: float | None = None
    baseline: float | None = None
    tflop: float | None = None
    peak_tflops: float | None = None
    share_of_peak: float | None = None

    @property
    def met(self) -> str:
        """Whether the target is reached; empty without one."""
        return "" if self.target is None else "yes" if self.ratio >= self.target else "no"

    def cells(self) -> dict[str, object]:
        """The columns of the CSV."""
        return {**asdict(self), "met": self.met}


def measured(what: str, size: str, flow: str, values: Sequence[float], *, unit: str = "s", batch: int = 1) -> Row:
    """A row from repeated measurements."""
    return Row(what, size, flow, unit, statistics.median(values), min(values), max(values), len(values), batch)


def timed(what: str, size: str, rounds: Rounds[T]) -> list[Row]:
    """A row for each flow of interleaved rounds, compared with the first."""
    rows = [measured(what, size, name, values) for name, values in rounds.times.items()]
    for row in rows:
        row.others = rounds.others
    return compared(rows)


def compared(rows: list[Row]) -> list[Row]:
    """Fill the ratios to the first row in, in the direction in which more is better."""
    for row in rows:
        factor = rows[0].median / row.median
        row.ratio = 1 / factor if row.unit == "images/s" else factor
    return rows


@dataclass
class Report:
    """All rows so far; every addition is written at once.

    Attributes:
        path: The CSV.
        conditions: Stand in every row.
    """

    path: Path
    conditions: Conditions
    rows: list[Row] = field(default_factory=list)

    def add(self, rows: Sequence[Row]) -> None:
        """Keep rows and replace the file in one step, so that a kill leaves the old or the new one."""
        self.rows.extend(rows)
        FILES.write(self.path, csv_text([row.cells() for row in self.rows], asdict(self.conditions)))

    def show(self) -> None:
        """Print the table, and which targets are met."""
        c = self.conditions
        title = f"{c.shape}, {c.dtype}, {c.machine}, torch {c.torch}, transformers {c.transformers}"
        console.out().print(console.table(_COLUMNS, [_shown(row) for row in self.rows], title=title))
        if busy := busy_note([row.others for row in self.rows]):
            console.write(busy)
        aimed = [row for row in self.rows if row.target is not None]
        for row in aimed:
            verdict = "met" if row.met == "yes" else "NOT met"
            console.write(f"{row.what} {row.size}: ratio {row.ratio:.2f}, target {row.target:.2f}: {verdict}")
        console.write(f"{sum(row.met == 'yes' for row in aimed)} of {len(aimed)} targets met; rows in {self.path}")


def csv_text(rows: Sequence[Mapping[str, object]], made: Mapping[str, object]) -> str:
    """Rows of equal columns, each followed by what it was made with."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [*rows[0], *made], lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: cell(value) for name, value in {**row, **made}.items()} for row in rows)
    return text.getvalue()


def cell(value: object) -> object:
    """A value as result files have it: six digits, and nothing for None."""
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else value


def busy_note(others: Sequence[float | None]) -> str:
    """What to say where other processes used the machine; else nothing."""
    busy = max((one or 0.0 for one in others), default=0.0)
    return f"Other processes kept {busy:.1f} cores busy: repeat this when the machine is quiet." if busy > BUSY else ""


_COLUMNS = (
    "what", "size", "flow", ">median", ">ratio", ">target", ">met", ">gap", ">same tokens", ">of peak", ">others"
)  # fmt: skip


def _shown(row: Row) -> list[str]:
    return [
        row.what,
        row.size,
        row.flow if row.batch == 1 else f"{row.flow}, batch {row.batch}",
        f"{row.median:.4g} {row.unit}",
        f"{row.ratio:.3g}",
        "" if row.target is None else f">= {row.target:.3g}",
        row.met,
        "" if row.gap is None else f"{row.gap:.2g}",
        "" if row.same_tokens is None else f"{row.same_tokens:.0%}",
        "" if row.share_of_peak is None else f"{row.share_of_peak:.0%}",
        "" if row.others is None else f"{row.others:.1f}",
    ]


def _cpu_name() -> str:
    """The processor's name as the system knows it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
