"""Results that survive: what made them, records that are appended as they come, and going on where a run was stopped.

Everything that takes hours keeps its promises through this room:

- `check_same` refuses results that something else made, always in the same words: which field, what it is now, what it
  was, and the next step.
- `Marker` is a small JSON file beside an artefact that is made as a whole (a folder, a stage of a long command).
- `Appender` is a text file that grows by whole records. A record is one write, so a killed run leaves at most its last
  one torn, and the next run cuts that off; two runs never write at the same time; a lock ends with its process.
- `Journal` is such a file as JSON Lines, each with a key, under the identity of what made them.
- `Cache` keeps each reply under the hash of its request.

Whether a file is still the one that a result was made of is told by `files.Stamp`. Errors leave as the room's own
(`files.Files`).
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import logging
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, cast

from .errors import QSiTError
from .files import Files, close_in_children, lock, locked, to_json

if TYPE_CHECKING:
    from typing_extensions import Self

_LOG = logging.getLogger("qsit_metric")
_SYNC = 1.0  # seconds after which lines are not only with the system but on the disk, too
_PATIENCE = 10.0  # seconds that processes which start together wait for each other's marker
_MADE = "made"

Fields = dict[str, Any]


# ---- what made a result


def plain(value: Any) -> Any:
    """A value as it comes back from JSON: tuples are lists, keys are text."""
    return json.loads(json.dumps(value, allow_nan=False))


def digest(value: Any) -> str:
    """SHA-256 of a plain value, whatever the order of its keys; 64 hexadecimal digits.

    Example:
        >>> digest({"a": 1, "b": [2]}) == digest({"b": (2,), "a": 1})
        True
    """
    return hashlib.sha256(json.dumps(value, sort_keys=True, allow_nan=False).encode()).hexdigest()


def check_same(
    place: Path,
    found: Mapping[str, Any],
    made: Mapping[str, Any],
    files: Files,
    *,
    what: str = "results",
    hint: str = "Use another place, or remove it.",
) -> None:
    """Refuse results that were not made as this run would make them.

    Args:
        place: Where they are, for the message.
        found: What made them; nested fields are compared one by one.
        made: What this run is.
        files: Whose error is raised, about which argument.
        what: What is there, for example "a file with scores".
        hint: The next step.

    Raises:
        QSiTError: (of the room) They differ.

    Example:
        >>> from qsit_metric.errors import OutputError
        >>> room = Files(OutputError, "--output")
        >>> check_same(Path("a.csv"), {"dtype": "float16"}, {"dtype": "float32"}, room)
        Traceback (most recent call last):
            ...
        qsit_metric.errors.OutputError: `--output`: got 'a.csv', expected results made as now (dtype float32), but it \
has dtype float16. Use another place, or remove it.
    """
    before, now = dict(_flat(plain(found))), dict(_flat(plain(made)))
    names = [name for name in {**now, **before} if before.get(name) != now.get(name)]
    if names:
        ours, theirs = (", ".join(f"{name} {_said(one.get(name))}" for name in names) for one in (now, before))
        raise files.error.about(files.argument, str(place), f"{what} made as now ({ours}), but it has {theirs}", hint)


def _flat(fields: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in fields.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _said(value: object) -> str:
    text = "none" if value in ("", None) else str(value)
    return text if len(text) <= 60 else f"{text[:40]}...{text[-17:]}"


class Marker:
    """A JSON file that says what made the artefact beside it, and what came of it.

    Args:
        path: The file, for example `settings.json` in the artefact's folder. One without a field "made" is taken for
            an identity as a whole.
        made: What decides the result, as plain fields.
        files: Whose errors leave.
        what: What the artefact is, for the message.
        hint: What to do with one that something else made.
        bare: Whether the file is the identity and nothing else, even if that has a field "made".

    Example:
        >>> import tempfile
        >>> from qsit_metric.errors import OutputError
        >>> place = Path(tempfile.mkdtemp()) / "done.json"
        >>> marker = Marker(place, {"seed": 0}, Files(OutputError))
        >>> marker.read() is None
        True
        >>> marker.write(rows=12)
        >>> Marker(place, {"seed": 0}, Files(OutputError)).read()
        {'rows': 12}
    """

    def __init__(
        self,
        path: Path,
        made: Mapping[str, Any],
        files: Files,
        *,
        what: str = "results",
        hint: str = "Use another place, or remove it.",
        bare: bool = False,
    ) -> None:
        self._path, self._made, self._files, self._what, self._hint = path, plain(made), files, what, hint
        self._bare = bare

    def read(self) -> Fields | None:
        """What came of it; None if the file is not there.

        Raises:
            QSiTError: (of the room) It is of something else, or unreadable.
        """
        if not self._path.is_file():
            return None
        found: Fields = self._files.json(self._path)
        made = None if self._bare else found.pop(_MADE, None)
        made, found = (found, {}) if made is None else (made, found)
        check_same(self._path, made, self._made, self._files, what=self._what, hint=self._hint)
        return found

    def write(self, **fields: Any) -> None:
        """Write the file whole: the artefact is there."""
        self._files.write_json(self._path, self._made if self._bare else {_MADE: self._made, **fields})

    def claim(self) -> Fields:
        """Take the place for this identity, or agree with the one that is there; one process after the other.

        Returns:
            What came of it so far.

        Raises:
            QSiTError: (of the room) It is of something else, cannot be written, or another process does not let go.
        """
        end = time.monotonic() + _PATIENCE
        while time.monotonic() < end:
            with self._files.saving(self._path), locked(self._path.with_name(f".{self._path.name}.lock")) as held:
                if held:
                    if (found := self.read()) is None:
                        self.write()
                    return found or {}
            time.sleep(0.02)
        expected = "a place that another process has not locked"
        raise self._files.error.about(self._files.argument, str(self._path), expected)


# ---- records that are appended


def whole_lines(content: bytes) -> int:
    """How many bytes of a file are whole lines; what follows is the rest of a broken-off write."""
    return content.rfind(b"\n") + 1


def whole_csv(content: bytes) -> int:
    """How many bytes are whole rows: up to the last newline outside quotes, since a cell may contain one."""
    end = position = quotes = 0
    for line in io.BytesIO(content):
        position, quotes = position + len(line), quotes + line.count(b'"')
        if line.endswith(b"\n") and quotes % 2 == 0:
            end = position
    return end


def csv_line(values: Iterable[object]) -> str:
    """One row of CSV with its newline."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerow(values)  # so that older Pythons quote a path with a "\r", too
    return text.getvalue().removesuffix("\r\n") + "\n"


class Appender:
    """A file that grows by whole records, locked while it is open.

    Args:
        path: The file; made if it is not there. Nothing of it is changed before the first `append`.
        files: Whose errors leave.
        whole: How many bytes of a content are whole records.
        every: Seconds after which an `append` also waits for the disk; default: only `sync` does.

    Attributes:
        content: The whole records that were there.
        torn: What follows them, which the first `append` cuts off.

    Raises:
        QSiTError: (of the room) Another run writes it, or it cannot be opened.
    """

    def __init__(
        self, path: Path, files: Files, whole: Callable[[bytes], int] = whole_lines, *, every: float = math.inf
    ) -> None:
        self._path, self._files, self._every = path, files, every
        self._synced, self._dirty, self._mended = time.monotonic(), False, False
        with files.saving(path):
            # The descriptor must append and read: what another program adds is never written over.
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
            self._file = FileIO(os.open(path, flags, 0o666), "r+")
            try:
                close_in_children(cast("IO[Any]", self._file))
                self._hold()
                content = self._file.readall()
            except BaseException:
                self._file.close()
                raise
        end = whole(content)
        self.content, self.torn = content[:end], content[end:]

    def restart(self) -> None:
        """Forget the content: the next `append` begins the file anew."""
        self.content, self._mended = b"", False

    def append(self, text: str) -> None:
        """Add records; a kill of this process no longer loses them.

        Raises:
            QSiTError: (of the room) The disk is full, or fails.
        """
        data = memoryview(text.encode("utf-8", "surrogateescape"))
        with self._files.saving(self._path):
            if not self._mended:
                self._file.truncate(len(self.content))
                self._mended = True
            self._dirty = True
            while data:
                data = data[self._file.write(data) :]
        if time.monotonic() - self._synced > self._every:
            self.sync()

    def sync(self) -> None:
        """Have the disk keep what was added; a power cut no longer loses it."""
        if self._dirty:
            self._dirty = False
            with self._files.saving(self._path):
                os.fsync(self._file.fileno())
            self._synced = time.monotonic()

    def close(self) -> None:
        """Save and let go of the file, and with it of the lock."""
        if not self._file.closed:
            with contextlib.closing(self._file):
                self.sync()

    def _hold(self) -> None:
        try:
            held = lock(self._file.fileno())
        except OSError as error:
            warning = "this file system has no locks (%s): do not start a second run that writes %s"
            _LOG.warning(warning, error, self._path)
            return
        if not held:
            expected, hint = "a file that no other run is writing", "Wait for that run, or use another file."
            raise self._files.error.about(self._files.argument, str(self._path), expected, hint)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Journal:
    """Results as JSON Lines, each with a key of its own; the first line says what made them.

    Args:
        path: The file; made if it is not there.
        made: What must agree for two results to stand in one file; None for a file without such a line (the parts of a
            run whose folder has a `Marker`).
        files: Whose errors leave.
        key: The field that names a result.
        what: What the file holds, for the message.
        hint: What to do with one that something else made.

    Attributes:
        done: The results so far, by their key; of several with one key the last counts.

    Raises:
        QSiTError: (of the room) Made with something else, no such file, in use, or not writable.

    Example:
        >>> import tempfile
        >>> from qsit_metric.errors import OutputError
        >>> place = Path(tempfile.mkdtemp()) / "scores.jsonl"
        >>> with Journal(place, {"model": "q-sit-nano"}, Files(OutputError)) as journal:
        ...     journal.add({"key": "a.png", "score": 3.5})
        >>> with Journal(place, {"model": "q-sit-nano"}, Files(OutputError)) as journal:
        ...     [name for name in ("a.png", "b.png") if name not in journal.done]
        ['b.png']
    """

    def __init__(
        self,
        path: Path,
        made: Mapping[str, Any] | None,
        files: Files,
        *,
        key: str = "key",
        what: str = "a file with results",
        hint: str = "Use another file, or remove it.",
    ) -> None:
        self._key = key
        self._file = Appender(path, files, every=_SYNC)
        try:
            rows = _rows(path, self._file.content, files)
            if made is not None and rows:
                first = rows.pop(0)
                check_same(path, first.get(_MADE, first), made, files, what=what, hint=hint)
            self.done: dict[Any, Fields] = {_key_of(row, key, path, files): row for row in rows}
            if made is not None and not self._file.content:
                self._file.append(to_json({_MADE: plain(made)}) + "\n")
        except BaseException:
            self._file.close()
            raise

    def add(self, *rows: Mapping[str, Any]) -> None:
        """Append results, in one write; numbers that JSON has no form for are refused with a ValueError."""
        self._file.append("".join(json.dumps(dict(row), allow_nan=False) + "\n" for row in rows))
        self.done |= {row[self._key]: dict(row) for row in rows}

    def sync(self) -> None:
        """Have the disk keep what was added."""
        self._file.sync()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def read_rows(path: Path, files: Files, key: str = "key") -> list[Fields]:
    """The results of a `Journal` that may still be growing, without the line of what made them; torn lines are skipped.

    Raises:
        QSiTError: (of the room) It cannot be read, or a line is not a result.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        said = f"The system says: {error.strerror or error}."
        raise files.error.about(files.argument, str(path), "a readable file", said) from error
    rows = _rows(path, content[: whole_lines(content)], files)
    rows = rows[1:] if rows and _MADE in rows[0] and key not in rows[0] else rows
    for row in rows:
        _key_of(row, key, path, files)
    return rows


def _rows(path: Path, content: bytes, files: Files) -> list[Fields]:
    rows = []
    for number, line in enumerate(content.split(b"\n"), start=1):
        if not line.strip(b" \t\r\0"):  # zeros are what a power cut leaves of a line
            continue
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict):
            raise _strange(path, f"line {number} of {path}", files)
        rows.append(row)
    return rows


def _key_of(row: Fields, key: str, path: Path, files: Files) -> Any:
    if key not in row:
        raise _strange(path, f"{json.dumps(row)[:40]} in {path}", files)
    return row[key]


def _strange(path: Path, shown: str, files: Files) -> QSiTError:
    return files.error.about(files.argument, f"<{shown}>", "a result of a run", f"Remove that line of {path.name}.")


class Cache:
    """Values under the hash of what was asked; each is there whole or not at all, so that processes may share a folder.

    Args:
        folder: Made with the first value.
        files: Whose errors leave.
        rescue: What to do about a value that cannot be read.
    """

    def __init__(self, folder: Path, files: Files, rescue: str = "Delete this file to ask again.") -> None:
        self._folder = folder
        self._files = Files(files.error, files.argument, parents=True, rescue=rescue)

    def path(self, key: str) -> Path:
        """Where a value is."""
        return self._folder / key[:2] / f"{key}.json"

    def get(self, key: str) -> Fields | None:
        """The value of a key, which `digest` makes of a request; None if it is not there.

        Raises:
            QSiTError: (of the room) What is there is no value.
        """
        path = self.path(key)
        return dict(self._files.json(path)) if path.is_file() else None

    def put(self, key: str, value: Mapping[str, Any]) -> None:
        """Keep a value."""
        self._files.write_json(self.path(key), dict(value))
