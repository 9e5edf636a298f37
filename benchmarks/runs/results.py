"""What a run has given so far: read from the parts of all processes, finished or not."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, cast

from qsit_metric.evaluation import EvaluationError
from qsit_metric.evaluation.files import write_atomic
from qsit_metric.files import close_in_children, lock

if TYPE_CHECKING:
    from typing_extensions import Self

_SYNC = 1.0  # seconds after which lines are not only with the system but on the disk, too

Row = dict[str, Any]


class Part:
    """The file that one process appends to; locked while it is open.

    Args:
        path: The file; made if it is not there.

    Raises:
        EvaluationError: Another run writes it, or it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._synced = time.monotonic()
        try:
            self._file: FileIO = path.open("a+b", buffering=0)
        except OSError as error:
            raise unwritable(path, error) from error
        try:
            close_in_children(cast("IO[Any]", self._file))
            self._hold()
            os.truncate(path, _whole(path.read_bytes()))
        except OSError as error:
            self._file.close()
            raise unwritable(path, error) from error
        except EvaluationError:
            self._file.close()
            raise

    def add(self, row: Mapping[str, Any]) -> None:
        """Append one line; a kill of this process no longer loses it.

        Raises:
            EvaluationError: The disk is full, or fails.
        """
        data = memoryview((json.dumps(dict(row), allow_nan=False) + "\n").encode())
        try:
            while data:
                data = data[self._file.write(data) :]
            if time.monotonic() - self._synced > _SYNC:
                self._sync()
        except OSError as error:
            raise unwritable(self._path, error) from error

    def _hold(self) -> None:
        try:
            held = lock(self._file.fileno())
        except OSError:  # a file system without locks
            held = True
        if not held:
            hint = "Wait for that run, or end it: one run writes to a folder at a time."
            raise EvaluationError.about("folder", str(self._path), "a file that no other run is writing", hint)

    def _sync(self) -> None:
        os.fsync(self._file.fileno())
        self._synced = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with self._file:
                self._sync()
        except OSError as failure:
            raise unwritable(self._path, failure) from failure


def read_part(path: Path) -> Iterator[Row]:
    """The whole lines of a file that may still be growing.

    Raises:
        EvaluationError: It cannot be read, or a line is none of a run's.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        hint = f"The system says: {error.strerror or error}."
        raise EvaluationError.about("folder", str(path), "a readable file", hint) from error
    for number, text in enumerate(content[: _whole(content)].splitlines(), start=1):
        try:
            row = json.loads(text)
            row["id"], row["place"], row["error"]
        except (ValueError, KeyError, TypeError) as error:
            shown = f"<line {number} of {path}>"
            raise EvaluationError.about("folder", shown, "a result of a run", "Remove that line.") from error
        yield row


def unwritable(path: Path, error: OSError) -> EvaluationError:
    """The error of a file that takes no more."""
    hint = f"The system says: {error.strerror or error}. What was written stays; a later run goes on."
    return EvaluationError.about("folder", str(path), "a file that can be written", hint)


def _whole(content: bytes) -> int:
    """How many bytes are whole lines."""
    return content.rfind(b"\n") + 1


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
        lines = [row for path in parts(folder) for row in read_part(path)]
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
        write_atomic(path, "".join(json.dumps(row, allow_nan=False) + "\n" for row in self.rows))
        return path


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
    path = folder / RUN_FILE
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        int(found["n"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EvaluationError.about("folder", str(folder), f"a run's folder, with a {RUN_FILE}") from error
    return dict(found)


def _resolved(lines: Iterable[Row]) -> dict[str, Row]:
    rows: dict[str, Row] = {}
    for row in lines:
        if row["id"] not in rows or rows[row["id"]]["error"]:
            rows[row["id"]] = row
    return rows
