"""What a run has given so far: read from the parts of all processes, finished or not."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qsit_metric.errors import EvaluationError, QSiTError
from qsit_metric.files import Files
from qsit_metric.journal import read_rows

FILES = Files(EvaluationError, "folder", parents=True)
Row = dict[str, Any]

RUN_FILE, MERGED_FILE = "run.json", "results.jsonl"
_PAUSE = 0.5


@dataclass(frozen=True)
class Pace:
    """How fast a run was, over all its processes and all times it was started; loading the model does not count.

    Attributes:
        n: Results, failures included.
        seconds: Time that the processes took for them, added up.
        waited: Part of it in which a model had nothing to compute, since no picture was read, decoded and prepared yet;
            None if the metric reads files itself.
    """

    n: int
    seconds: float
    waited: float | None

    @classmethod
    def of(cls, rows: Iterable[Mapping[str, Any]]) -> Pace:
        """Add lines of parts up."""
        found = [(row["seconds"], row["waited"]) for row in rows]
        unknown = any(waited is None for _, waited in found)
        waited = None if unknown else sum(waited for _, waited in found)
        return cls(len(found), sum(seconds for seconds, _ in found), waited)

    @property
    def per_second(self) -> float | None:
        """Results a second of one process; None before the first."""
        return self.n / self.seconds if self.seconds > 0 else None

    @property
    def waiting(self) -> float | None:
        """Share of the time, 0..1, that was spent waiting for data; None if it is not known."""
        return None if self.waited is None or self.seconds <= 0 else self.waited / self.seconds


@dataclass(frozen=True)
class Results:
    """The results of a run.

    Attributes:
        folder: The run's folder.
        run: What is run: the content of `run.json`.
        rows: One for each image or question that is done, in the set's order. Each has "id", "place" (in the set) and
            "error" ("" if there was none) beside what its kind of run gives.
        repeated: Lines that are not among the rows: of an id with several, the first without an error counts, in the
            order of the parts; if all have one, the last.
        pace: Of all lines.
    """

    folder: Path
    run: Mapping[str, Any]
    rows: tuple[Row, ...]
    repeated: int
    pace: Pace

    @classmethod
    def read(cls, folder: Path) -> Results:
        """Read a folder, also while processes write to it.

        Raises:
            EvaluationError: It is no run's folder, or a file in it is damaged.
        """
        run = read_run(folder)
        lines = [row for path in parts(folder) for row in read_rows(path, FILES, "id")]
        rows = sorted(_resolved(lines).values(), key=lambda row: int(row["place"]))
        return cls(folder, run, tuple(rows), len(lines) - len(rows), Pace.of(lines))

    @property
    def total(self) -> int:
        """Images or questions in the set."""
        return int(self.run["n"])

    @property
    def complete(self) -> bool:
        """Whether nothing is missing; failures count as there."""
        return len(self.rows) == self.total

    @property
    def good(self) -> list[Row]:
        """The rows that have results."""
        return [row for row in self.rows if not row["error"]]

    @property
    def failed(self) -> list[Row]:
        """The rows that have an error in their place."""
        return [row for row in self.rows if row["error"]]

    def standing(self) -> str:
        """How far the run is, in one line."""
        text = f"{self.run['set']}: {len(self.rows)} of {self.total} done, {len(self.failed)} failed"
        return text if self.complete else f"{text}; the rest is with other processes, or for a later run"

    def merge(self) -> Path:
        """Write all rows into one file, in the set's order.

        Raises:
            EvaluationError: Some are missing, or the file cannot be written.
        """
        if not self.complete:
            expected = f"a run that has all its {self.total} results"
            raise EvaluationError.about("folder", str(self.folder), expected, f"{len(self.rows)} are there.")
        path = self.folder / MERGED_FILE
        FILES.write(path, "".join(json.dumps(row, allow_nan=False) + "\n" for row in self.rows))
        return path


def told(error: Exception) -> dict[str, str]:
    """Fields of a row about an error: all of it, and the reason without its file, so that equal reasons are one.

    Example:
        >>> from qsit_metric.errors import ImageError
        >>> told(ImageError.about("image", "a.jpg", "an existing file"))["reason"]
        'ImageError: expected an existing file.'
    """
    kind = type(error).__name__
    reason = error.reason if isinstance(error, QSiTError) and error.argument == "image" else error
    return {"error": f"{kind}: {error}", "reason": f"{kind}: {reason}"}


def awaited(folder: Path, patience: float) -> Results:
    """The results once all are there, or as they are when none has come for so many seconds."""
    found, since = Results.read(folder), time.monotonic()
    while not found.complete and time.monotonic() - since < patience:
        time.sleep(_PAUSE)
        before, found = len(found.rows), Results.read(folder)
        if len(found.rows) > before:
            since = time.monotonic()
    return found


def parts(folder: Path) -> list[Path]:
    """The files of the processes, in order."""
    return sorted(folder.glob("part-*.jsonl"))


def read_run(folder: Path) -> dict[str, Any]:
    """The content of a run's `run.json`.

    Raises:
        EvaluationError: There is none, or it is something else.
    """
    try:
        found = FILES.json(folder / RUN_FILE)
        int(found["n"])
    except (EvaluationError, ValueError, KeyError, TypeError) as error:
        raise EvaluationError.about("folder", str(folder), f"a run's folder, with a {RUN_FILE}") from error
    return dict(found)


def _resolved(lines: Iterable[Row]) -> dict[str, Row]:
    rows: dict[str, Row] = {}
    for row in lines:
        if row["id"] not in rows or rows[row["id"]]["error"]:
            rows[row["id"]] = row
    return rows
