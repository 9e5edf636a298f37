"""The result lines of one process: appended as they come, read by all.

A line is one write, so a killed process leaves at most its last one torn. Readers skip a torn line; the next process
that writes to the file cuts it off first.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, cast

from qsit_metric.evaluation import EvaluationError
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
