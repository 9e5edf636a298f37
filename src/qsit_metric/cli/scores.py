"""Scores as lines of CSV or JSON, and the file of them that a later run goes on with."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeAlias

from ..errors import OutputError
from ..files import Files, Stamp, to_json
from ..journal import Appender, check_same, csv_line, whole_csv, whole_lines
from .inputs import is_url, key

if TYPE_CHECKING:
    from typing_extensions import Self

    from ..metric import QSiT
    from ..results import Score

IDENTITY = ("model", "revision", "recipe", "dtype", "exif")
"""What must agree for two scores to stand in one file."""

FILES = Files(OutputError, "--output")
_STAMP = ("size", "modified", "sha256")
_FIRST, _LAST = ("path", "score", "unit", "level"), ("note", *IDENTITY, *_STAMP)
_ANOTHER = "Use another file."


def provenance(metric: QSiT, *, exif: bool) -> dict[str, Any]:
    """What made a score, for result files."""
    info = metric.info
    names = ("model", "repo", "revision", "recipe", "dtype")
    return {**{name: info[name] for name in names}, "exif": exif, "qsit_metric": info["qsit_metric"]}


def identity(made: Mapping[str, Any]) -> dict[str, str]:
    """The fields of a provenance that must agree, as text."""
    return {name: "" if made.get(name) is None else str(made[name]) for name in IDENTITY}


def take_stamp(path: str, seen: tuple[int, str] | None = None) -> Stamp | None:
    """The stamp of a picture; None for a URL and for what cannot be read."""
    try:
        return None if is_url(path) else Stamp.of(Path(path), seen)
    except (OSError, ValueError):
        return None


def stamp_fields(stamp: Stamp | None) -> dict[str, Any]:
    """The fields of a stamp; none without one."""
    return asdict(stamp) if stamp else {}


def stamp_of(fields: Mapping[str, Any]) -> Stamp | None:
    """The stamp of a line that has one."""
    if not fields.get("size"):
        return None
    return Stamp(int(fields["size"]), str(fields["modified"]), str(fields["sha256"]))


def is_same(path: str, stamp: Stamp | None) -> bool:
    """Whether a picture is still the one that a result was made of, as far as that can be told."""
    return stamp is None or is_url(path) or stamp.holds(Path(path))


@dataclass(frozen=True)
class Record:
    """One scored picture; `probs` runs from the worst level to the best, `stamp` tells which file it was."""

    path: str
    score: float
    unit: float
    level: str
    probs: Mapping[str, float]
    note: str | None = None
    stamp: Stamp | None = None

    @classmethod
    def of(cls, path: str, score: Score, stamp: Stamp | None = None) -> Record:
        """Take down a score."""
        return cls(path, float(score), score.unit, score.level, score.probs, score.note, stamp)


@dataclass(frozen=True)
class Line:
    """A record that was read from a file, with the text of its provenance."""

    record: Record
    made: Mapping[str, str]

    @classmethod
    def of(cls, fields: Mapping[str, Any], probs: Mapping[str, Any]) -> Line:
        """Read the fields of a line.

        Raises:
            ValueError: They are no score; also KeyError, TypeError and AttributeError.
        """
        numbers = float(fields["score"]), float(fields["unit"]), str(fields["level"])
        levels = {str(name): float(value) for name, value in probs.items()}
        record = Record(str(fields["path"]), *numbers, levels, fields.get("note") or None, stamp_of(fields))
        return cls(record, identity(fields))


class Jsonl:
    """One JSON object a line, in full precision, with full provenance."""

    suffix = ".jsonl"
    start = b'{"path": "'
    """How a file begins; what cannot be continued to that is something else."""
    whole = staticmethod(whole_lines)

    def header(self, levels: Sequence[str]) -> str:
        """Nothing."""
        return ""

    def line(self, record: Record, made: Mapping[str, Any]) -> str:
        """`Score.as_dict()` between the path and the provenance, the stamp at the end."""
        fields = {"path": record.path, "score": record.score, "unit": record.unit, "level": record.level}
        note = {"note": record.note} if record.note else {}
        return to_json({**fields, "probs": dict(record.probs), **note, **made, **stamp_fields(record.stamp)}) + "\n"

    def read(self, content: bytes) -> Iterator[Line]:
        """Read whole lines; errors as in `Line.of`."""
        for text in filter(None, map(bytes.strip, content.split(b"\n"))):
            fields = json.loads(text)
            yield Line.of(fields, fields["probs"])


class Csv:
    """A header and one row per picture, numbers with four decimals.

    A file of before rows had stamps goes on without: `read` finds that out for the rows that follow.
    """

    suffix = ".csv"
    start = ",".join(_FIRST).encode()
    whole = staticmethod(whole_csv)

    def __init__(self) -> None:
        self._last: tuple[str, ...] = _LAST

    def header(self, levels: Sequence[str]) -> str:
        """The column names; those of the probabilities are the model's level words."""
        return csv_line([*_FIRST, *levels, *self._last])

    def line(self, record: Record, made: Mapping[str, Any]) -> str:
        """One row."""
        numbers = (f"{record.score:.4f}", f"{record.unit:.4f}", record.level)
        probs = (f"{value:.4f}" for value in record.probs.values())
        last = {"note": record.note, **identity(made), **stamp_fields(record.stamp)}
        return csv_line([record.path, *numbers, *probs, *(last.get(name) or "" for name in self._last)])

    def read(self, content: bytes) -> Iterator[Line]:
        """Read whole rows; errors as in `Line.of`, and csv.Error."""
        rows = csv.reader(io.StringIO(content.decode("utf-8-sig", "surrogateescape"), newline=""), strict=True)
        names = next(rows, [])
        self._last = _LAST if names[-len(_STAMP) :] == list(_STAMP) else _LAST[: -len(_STAMP)]
        levels = names[len(_FIRST) : -len(self._last)]
        if names != [*_FIRST, *levels, *self._last]:
            raise ValueError("the first line is not the header of a file of scores")
        for row in filter(None, rows):
            fields = dict(zip(names, row, strict=True))
            yield Line.of(fields, {level: fields[level] for level in levels})


Format: TypeAlias = "Csv | Jsonl"
"""How records stand in a file; each ends with a newline, so that a torn one can be told."""

FORMATS: Mapping[str, type[Csv] | type[Jsonl]] = {"csv": Csv, "jsonl": Jsonl}


class ScoreFile:
    """A file of scores that grows while pictures are scored, and that a later run goes on with.

    What one batch gave is on the disk before the next is computed; see `journal.Appender` for the other promises. An
    existing file is locked and read at once, so that whatever is wrong with it is known before a model is loaded. A
    new one is created by `begin`.

    Args:
        path: A .csv or .jsonl file.

    Attributes:
        done: The records that were there already, by `inputs.key` of their path; of several the last counts.

    Raises:
        OutputError: Unknown suffix, no such folder, in use by another run, or not a file of scores.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._format = self._suffix()
        self._file: Appender | None = None
        self._lines: list[Line] = []
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
        for theirs in {tuple(line.made.items()): line.made for line in self._lines}.values():
            # A local folder is known by its fingerprint, however its path is written.
            skipped = "model" if theirs.get("revision") == own["revision"] != "" else ""
            found, now = ({name: text for name, text in one.items() if name != skipped} for one in (theirs, own))
            check_same(self._path, found, now, FILES, what="a file with scores", hint=_ANOTHER)
        if any(list(line.record.probs) != list(levels) for line in self._lines):
            raise self._error(f"a file with the levels of this model ({', '.join(levels)})", _ANOTHER)
        if not self._lines:
            self._format = self._suffix()
            file.restart()
        file.append("" if self._lines else self._format.header(levels))

    def add(self, record: Record) -> None:
        """Append one record."""
        if self._file:
            self._file.append(self._format.line(record, self._made))

    def sync(self) -> None:
        """Have the disk keep what was added."""
        if self._file:
            self._file.sync()

    def close(self) -> None:
        """Save and let go of the file, and with it of the lock."""
        if self._file:
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _suffix(self) -> Format:
        for one in FORMATS.values():
            if self._path.suffix.lower() == one.suffix:
                return one()
        raise self._error("a name that ends in .csv or .jsonl")

    def _open(self) -> Appender:
        file = self._file = Appender(self._path, FILES, self._format.whole)
        try:
            start, torn = self._format.start, file.torn
            if not file.content and not (torn.startswith(start) or start.startswith(torn)):
                raise ValueError("it has no complete line")
            if file.content:
                self._lines = list(self._format.read(file.content))
        except (ValueError, KeyError, TypeError, AttributeError, csv.Error) as error:
            expected = f"a {self._path.suffix} file that `qsit score` wrote"
            raise self._error(expected, f"It was left as it is ({error}). {_ANOTHER}") from error
        self.done = {key(line.record.path): line.record for line in self._lines}
        return file

    def _error(self, expected: str, hint: str = "") -> OutputError:
        return OutputError.about("--output", str(self._path), expected, hint)
