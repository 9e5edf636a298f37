"""A file of scores that grows while pictures are scored, and that a later run goes on with.

Promises: a record is one append, so a killed run leaves at most its last record torn, and the next run cuts that off;
what one batch gave is on the disk before the next is computed; two runs never write at the same time; a file that
something else made is refused and left as it is.
"""

from __future__ import annotations

import csv
import logging
import os
from collections.abc import Mapping, Sequence
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ..errors import OutputError
from ..files import lock
from .inputs import key
from .records import FORMATS, Format, Line, Record, identity

if TYPE_CHECKING:
    from typing_extensions import Self

_LOG = logging.getLogger("qsit_metric")
_ANOTHER = "Use another file."


class ResultFile:
    """Appends records to a .csv or .jsonl file.

    An existing file is locked and read at once, so that whatever is wrong with it is known before a model is loaded. A
    new one is created by `begin`.

    Args:
        path: The file.

    Attributes:
        done: The records that were there already, by `inputs.key` of their path.

    Raises:
        OutputError: Unknown suffix, no such folder, in use by another run, or not a file of scores.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._format = self._suffix()
        self._file: FileIO | None = None
        self._lines: list[Line] = []
        self._whole = 0
        self._dirty = False
        self.done: dict[str, Record] = {}
        if path.exists():
            try:
                self._open()
            except OutputError:
                self.close()
                raise
        elif not path.parent.is_dir():
            raise self._error("a file in a folder that exists", f"Make the folder {str(path.parent)!r} first.")

    def begin(self, made: Mapping[str, Any], levels: Sequence[str]) -> None:
        """Make sure that the file holds scores of this model only, and bring it into shape.

        Raises:
            OutputError: It holds scores of another model, or cannot be written.
        """
        file = self._file or self._open()
        self._made, own = made, identity(made)
        for line in self._lines:
            # A local folder is known by its fingerprint, however its path is written.
            skipped = "model" if line.made.get("revision") == own["revision"] != "" else ""
            if differing := {name: text for name, text in line.made.items() if text != own[name] and name != skipped}:
                raise self._foreign(differing, own)
            if list(line.record.probs) != list(levels):
                raise self._error(f"a file with the levels of this model ({', '.join(levels)})", _ANOTHER)
        try:
            file.truncate(self._whole if self._lines else 0)
            if not self._lines:
                self._append(self._format.header(levels))
        except OSError as error:
            raise self._unwritable(error) from error

    def add(self, record: Record) -> None:
        """Append one record."""
        try:
            self._append(self._format.line(record, self._made))
        except OSError as error:
            raise self._unwritable(error) from error

    def sync(self) -> None:
        """Have the disk keep what was added."""
        if self._dirty and self._file:
            self._dirty = False
            try:
                os.fsync(self._file.fileno())
            except OSError as error:
                raise self._unwritable(error) from error

    def close(self) -> None:
        """Save and let go of the file, and with it of the lock."""
        if self._file:
            with self._file:
                self.sync()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _suffix(self) -> Format:
        for one in FORMATS.values():
            if self._path.suffix.lower() == one.suffix:
                return one
        raise self._error("a name that ends in .csv or .jsonl")

    def _open(self) -> FileIO:
        try:
            # The descriptor must append and read: what another program adds is never written over.
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
            file = self._file = FileIO(os.open(self._path, flags, 0o666), "r+")
            if not _locked(file.fileno()):
                raise self._error("a file that no other run is writing", "Wait for that run, or use another file.")
            content = file.readall()
        except OutputError:
            raise
        except OSError as error:
            raise self._unwritable(error) from error
        self._read(content)
        return file

    def _read(self, content: bytes) -> None:
        self._whole = self._format.whole(content)
        try:
            if not self._whole and not self._format.ours(content):
                raise ValueError("it has no complete line")
            if self._whole:
                self._lines = list(self._format.read(content[: self._whole]))
        except (ValueError, KeyError, TypeError, AttributeError, csv.Error) as error:
            expected = f"a {self._path.suffix} file that `qsit score` wrote"
            raise self._error(expected, f"It was left as it is ({error}). {_ANOTHER}") from error
        self.done = {key(line.record.path): line.record for line in self._lines}

    def _append(self, text: str) -> None:
        data = memoryview(text.encode("utf-8", "surrogateescape"))
        self._dirty = True
        while data and self._file:
            data = data[self._file.write(data) :]

    def _foreign(self, differing: Mapping[str, str], own: Mapping[str, str]) -> OutputError:
        theirs = ", ".join(f"{name} {text or 'none'}" for name, text in differing.items())
        ours = ", ".join(f"{name} {own[name] or 'none'}" for name in differing)
        return self._error(f"a file with scores made as now ({ours}), but it has {theirs}", _ANOTHER)

    def _unwritable(self, error: OSError) -> OutputError:
        return self._error("a file that can be written", f"The system says: {error.strerror or error}.")

    def _error(self, expected: str, hint: str = "") -> OutputError:
        return OutputError.about("--output", str(self._path), expected, hint)


def _locked(descriptor: int) -> bool:
    """Lock an open file until it is closed; False if somebody else has the lock."""
    try:
        return lock(descriptor)
    except OSError as error:
        _LOG.warning("this file system has no locks (%s): do not start a second run with the same --output", error)
    return True
