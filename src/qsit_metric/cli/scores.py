"""Scores as lines of CSV or JSON, and the file of them that a later run goes on with."""

from __future__ import annotations

import codecs
import csv
import io
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from ..errors import InputError, OutputError
from ..files import Files, Stamp, escaped, to_json, unescaped
from ..journal import Appender, check_same, csv_line, whole_csv, whole_lines
from .inputs import is_url, key

if TYPE_CHECKING:
    from typing_extensions import Self

    from ..metric import QSiT
    from ..results import Score

IDENTITY = ("model", "revision", "recipe", "dtype", "exif")
"""What must agree for two scores to stand in one file."""
_READING = ("bits", "background", "icc")  # what else was asked of the reading; it stands beside `exif`

FILES = Files(OutputError, "--output")
_STAMP = ("size", "modified", "sha256")
_FIRST, _LAST = ("path", "score", "unit", "level"), ("note", *IDENTITY, *_STAMP)
_ANOTHER = "Use another file."


def provenance(metric: QSiT, *, exif: bool) -> dict[str, Any]:
    """What made a score, for result files."""
    return made_by({**metric.info, "reading": metric.reading.recorded()}, exif=exif)


def made_by(info: Mapping[str, Any], *, exif: bool) -> dict[str, Any]:
    """The same of a model that is elsewhere, from its `QSiT.info` and, as "reading", what its reading records."""
    names = ("model", "repo", "revision", "recipe", "dtype")
    return {
        **{name: info[name] for name in names},
        "exif": exif,
        **info["reading"],
        "qsit_metric": info["qsit_metric"],
    }


def identity(made: Mapping[str, Any]) -> dict[str, str]:
    """The fields of a provenance that must agree, as text.

    Example:
        >>> identity({"exif": True, "bits": 12, "icc": True})["exif"]
        'True, bits 12, icc True'
    """
    found = {name: "" if made.get(name) is None else str(made[name]) for name in IDENTITY}
    asked = (f"{name} {made[name]}" for name in _READING if made.get(name))
    return {**found, "exif": ", ".join([found["exif"], *asked])}


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

    @property
    def key(self) -> str:
        """What a later run knows it by."""
        return key(self.path)

    @property
    def worth(self) -> tuple[float, str]:
        """What records are ordered by: the score, then the path. What is no number is below everything."""
        return (-math.inf if math.isnan(self.score) else self.score), self.path

    @classmethod
    def of(cls, path: str, score: Score, stamp: Stamp | None = None) -> Record:
        """Take down a score."""
        return cls(path, float(score), score.unit, score.level, score.probs, score.note, stamp)

    @classmethod
    def read(cls, fields: Mapping[str, Any], probs: Mapping[str, Any]) -> Line[Record]:
        """Read the fields of a line.

        Raises:
            ValueError: They are no score; also KeyError, TypeError and AttributeError.
        """
        numbers = float(fields["score"]), float(fields["unit"]), str(fields["level"])
        levels = {str(name): float(value) for name, value in probs.items()}
        record = cls(str(fields["path"]), *numbers, levels, fields.get("note") or None, stamp_of(fields))
        return Line(record, identity(fields))


class Kept(Protocol):
    """What a file of results holds one of in each line."""

    @property
    def path(self) -> str:
        """The picture."""

    @property
    def key(self) -> Any:
        """What a later run knows it by."""

    @property
    def stamp(self) -> Stamp | None:
        """Which file it was."""


R = TypeVar("R", bound=Kept)


@dataclass(frozen=True)
class Line(Generic[R]):
    """A record that was read from a file, with the text of its provenance."""

    record: R
    made: Mapping[str, str]


class Format(Protocol[R]):
    """How records stand in a file; each ends with a newline, so that a torn one can be told."""

    @property
    def suffix(self) -> str:
        """How its files' names end."""

    @property
    def start(self) -> bytes:
        """How a file begins; what cannot be continued to that is something else."""

    @property
    def whole(self) -> Callable[[bytes], int]:
        """How many bytes of a file are whole records."""

    def header(self, levels: Sequence[str]) -> str:
        """What stands before the first."""

    def line(self, record: R, made: Mapping[str, Any]) -> str:
        """One of them."""

    def read(self, content: bytes) -> Iterator[Line[R]]:
        """Read whole lines; what is no record is a ValueError, KeyError, TypeError, AttributeError or csv.Error."""


class Jsonl:
    """One JSON object a line, in full precision, with full provenance."""

    suffix = ".jsonl"
    start = b'{"path": "'
    whole = staticmethod(whole_lines)

    def header(self, levels: Sequence[str]) -> str:
        """Nothing."""
        return ""

    def line(self, record: Record, made: Mapping[str, Any]) -> str:
        """`Score.as_dict()` between the path and the provenance, the stamp at the end."""
        fields = {"path": record.path, "score": record.score, "unit": record.unit, "level": record.level}
        note = {"note": record.note} if record.note else {}
        return to_json({**fields, "probs": dict(record.probs), **note, **made, **stamp_fields(record.stamp)}) + "\n"

    def read(self, content: bytes) -> Iterator[Line[Record]]:
        """Read whole lines; errors as in `Record.read`."""
        for text in filter(None, map(bytes.strip, content.split(b"\n"))):
            fields = json.loads(text)
            if not fields.get("error"):
                yield Record.read(fields, fields["probs"])


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
        cells = [record.path, *numbers, *probs, *(last.get(name) or "" for name in self._last)]
        return csv_line(escaped(str(cell)) for cell in cells)

    def read(self, content: bytes) -> Iterator[Line[Record]]:
        """Read whole rows; errors as in `Record.read`, and csv.Error."""
        rows = csv.reader(io.StringIO(content.decode("utf-8-sig", "surrogateescape"), newline=""), strict=True)
        names = next(rows, [])
        end = names.index("note") if "note" in names else 0
        levels, self._last = names[len(_FIRST) : end], tuple(names[end:])
        # Files of before rows had stamps end earlier; those of shards have more columns.
        known = self._last[: len(_LAST)] in (_LAST, _LAST[: -len(_STAMP)])
        if names[: len(_FIRST)] != list(_FIRST) or not known:
            raise ValueError("the first line is not the header of a file of scores")
        for row in filter(None, rows):
            fields = dict(zip(names, map(unescaped, row), strict=True))
            if not fields.get("error"):  # a picture of a shard that failed has a row, and no score
                yield Record.read(fields, {level: fields[level] for level in levels})


FORMATS: Mapping[str, Callable[[], Format[Record]]] = {"csv": Csv, "jsonl": Jsonl}


class ResultFile(Generic[R]):
    """A file of results that grows while they are made, and that a later run goes on with.

    What one batch gave is on the disk before the next is computed; see `journal.Appender` for the other promises. An
    existing file is locked and read at once, so that whatever is wrong with it is known before a model is loaded. A
    new one is created by `begin`.

    Args:
        path: A .csv or .jsonl file.
        formats: How it may stand there.
        what: What it holds, for messages.
        command: Which command writes it.
        overwrite: Forget what is in it, once the model is there.

    Attributes:
        done: The records that were there already, by their key; of several the last counts.

    Raises:
        OutputError: Unknown suffix, no such folder, in use by another run, or not such a file.
    """

    def __init__(
        self,
        path: Path,
        formats: Mapping[str, Callable[[], Format[R]]],
        what: str,
        command: str,
        *,
        overwrite: bool = False,
    ) -> None:
        self._path, self._overwrite = path, overwrite
        self._formats, self._what, self._command = formats, what, command
        self._format = self._suffix()
        self._file: Appender | None = None
        self._lines: list[Line[R]] = []
        self.done: dict[Any, R] = {}
        if path.exists():
            try:
                self._open()
            except OutputError:
                self.close()
                raise
        elif not path.parent.is_dir():
            raise self._error("a file in a folder that exists", f"Make the folder {str(path.parent)!r} first.")

    def begin(self, made: Mapping[str, Any], levels: Sequence[str]) -> None:
        """Make sure that the file holds results of this model only, and bring it into shape.

        Raises:
            OutputError: It holds results of another model, or cannot be written.
        """
        file = self._file or self._open()
        self._made, own = made, identity(made)
        for theirs in {tuple(line.made.items()): line.made for line in self._lines}.values():
            # A local folder is known by its fingerprint, however its path is written.
            skipped = "model" if theirs.get("revision") == own["revision"] != "" else ""
            found, now = ({name: text for name, text in one.items() if name != skipped} for one in (theirs, own))
            check_same(self._path, found, now, FILES, what=f"a file with {self._what}", hint=_ANOTHER)
        self._agree(levels)
        if not self._lines:
            self._format = self._suffix()
            file.restart()
        file.append("" if self._lines else self._format.header(levels))

    def add(self, record: R) -> None:
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

    def _agree(self, levels: Sequence[str]) -> None:
        """Refuse lines that do not fit the model's levels."""

    def _suffix(self) -> Format[R]:
        for one in self._formats.values():
            if self._path.suffix.lower() == (made := one()).suffix:
                return made
        raise self._error("a name that ends in .csv or .jsonl")

    def _open(self) -> Appender:
        file = self._file = Appender(self._path, FILES, self._format.whole)
        if self._overwrite:
            return file
        try:
            start, torn = self._format.start, file.torn
            if not file.content and not (torn.startswith(start) or start.startswith(torn)):
                raise ValueError("it has no complete line")
            if file.content:
                self._lines = list(self._format.read(file.content))
        except (ValueError, KeyError, TypeError, AttributeError, csv.Error) as error:
            expected = f"a {self._path.suffix} file that `{self._command}` wrote"
            raise self._error(expected, f"It was left as it is ({error}). {_ANOTHER}") from error
        self.done = {line.record.key: line.record for line in self._lines}
        return file

    def _error(self, expected: str, hint: str = "") -> OutputError:
        return OutputError.about("--output", str(self._path), expected, hint)


class ScoreFile(ResultFile[Record]):
    """The file of `qsit score`; arguments as for `ResultFile`."""

    def __init__(self, path: Path, *, overwrite: bool = False) -> None:
        super().__init__(path, FORMATS, "scores", "qsit score", overwrite=overwrite)

    def _agree(self, levels: Sequence[str]) -> None:
        if any(list(line.record.probs) != list(levels) for line in self._lines):
            raise self._error(f"a file with the levels of this model ({', '.join(levels)})", _ANOTHER)


def is_finished(path: str) -> bool:
    """Whether a path is by its name a file of results, and no picture."""
    return Path(path).suffix.lower() in {f".{name}" for name in FORMATS} and not is_url(path)


def is_of_scores(path: Path) -> bool:
    """Whether a file begins as one of scores does; a table of pictures has the same suffix."""
    start = FORMATS[path.suffix.lower().removeprefix(".")]().start
    try:
        with path.open("rb") as file:
            line = file.readline(1 << 16).removeprefix(codecs.BOM_UTF8)
    except OSError:
        return False
    return line.startswith(start) and b"score" in line


def finished(path: Path) -> list[Line[Record]]:
    """The scores of a file that `qsit score` wrote, each picture once; of several lines the last counts.

    Raises:
        InputError: It cannot be read, or holds something else.
    """
    form = FORMATS[path.suffix.lower().removeprefix(".")]()
    expected = f"a {form.suffix} file that `qsit score` wrote"
    try:
        content = path.read_bytes()
        lines = list(form.read(content[: form.whole(content)]))
    except OSError as error:
        raise InputError.about("PATHS", str(path), expected, f"The system says: {error.strerror or error}.") from error
    except (ValueError, KeyError, TypeError, AttributeError, csv.Error) as error:
        raise InputError.about("PATHS", str(path), expected, f"It holds something else ({error}).") from error
    if not lines:
        raise InputError.about("PATHS", str(path), f"{expected}, with at least one score")
    return list({line.record.key: line for line in lines}.values())
