"""One scored picture as a line of CSV or JSON, and back. Pure."""

from __future__ import annotations

import csv
import io
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ..files import to_json

if TYPE_CHECKING:
    from ..results import Score

IDENTITY = ("model", "revision", "recipe", "dtype", "exif")
"""What must agree for two scores to stand in one file."""

_FIRST, _LAST = ("path", "score", "unit", "level"), ("note", *IDENTITY)


@dataclass(frozen=True)
class Record:
    """One scored picture; `probs` runs from the worst level to the best."""

    path: str
    score: float
    unit: float
    level: str
    probs: Mapping[str, float]
    note: str | None = None

    @classmethod
    def of(cls, path: str, score: Score) -> Record:
        """Take down a score."""
        return cls(path, float(score), score.unit, score.level, score.probs, score.note)


@dataclass(frozen=True)
class Line:
    """A record that was read from a file, with the text of its provenance."""

    record: Record
    made: Mapping[str, str]


def identity(made: Mapping[str, Any]) -> dict[str, str]:
    """The fields of a provenance that must agree, as text."""
    return {name: "" if made.get(name) is None else str(made[name]) for name in IDENTITY}


class Format(ABC):
    """How records stand in a file; every record ends with a newline, so that a torn one can be told."""

    suffix: ClassVar[str]

    @abstractmethod
    def header(self, levels: Sequence[str]) -> str:
        """What stands before the first record."""

    @abstractmethod
    def line(self, record: Record, made: Mapping[str, Any]) -> str:
        """One record with what made it."""

    @abstractmethod
    def whole(self, content: bytes) -> int:
        """How many bytes of a file are complete records; what follows is the rest of a broken-off write."""

    @abstractmethod
    def ours(self, torn: bytes) -> bool:
        """Whether a file that has not one complete line can be the beginning of a file of this format."""

    @abstractmethod
    def read(self, content: bytes) -> Iterator[Line]:
        """Read complete records.

        Raises:
            ValueError: This is not such a file; also KeyError, TypeError, AttributeError and csv.Error.
        """


class Jsonl(Format):
    """One JSON object a line, in full precision, with full provenance."""

    suffix = ".jsonl"
    _start = b'{"path": "'

    def header(self, levels: Sequence[str]) -> str:
        """Nothing."""
        return ""

    def line(self, record: Record, made: Mapping[str, Any]) -> str:
        """`Score.as_dict()` between the path and the provenance."""
        fields = {"path": record.path, "score": record.score, "unit": record.unit, "level": record.level}
        note = {"note": record.note} if record.note else {}
        return to_json({**fields, "probs": dict(record.probs), **note, **made}) + "\n"

    def whole(self, content: bytes) -> int:
        """Up to the last newline."""
        return content.rfind(b"\n") + 1

    def ours(self, torn: bytes) -> bool:
        """It begins as every record does."""
        return torn.startswith(self._start) or self._start.startswith(torn)

    def read(self, content: bytes) -> Iterator[Line]:
        """See `Format.read`."""
        for text in filter(None, map(bytes.strip, content.split(b"\n"))):
            fields = json.loads(text)
            probs = {str(name): float(value) for name, value in fields["probs"].items()}
            numbers = float(fields["score"]), float(fields["unit"]), str(fields["level"])
            yield Line(Record(str(fields["path"]), *numbers, probs, fields.get("note")), identity(fields))


class Csv(Format):
    """A header and one row per picture, numbers with four decimals."""

    suffix = ".csv"

    def header(self, levels: Sequence[str]) -> str:
        """The column names; those of the probabilities are the model's level words."""
        return _row([*_FIRST, *levels, *_LAST])

    def line(self, record: Record, made: Mapping[str, Any]) -> str:
        """One row."""
        numbers = (f"{record.score:.4f}", f"{record.unit:.4f}", record.level)
        probs = (f"{value:.4f}" for value in record.probs.values())
        return _row([record.path, *numbers, *probs, record.note or "", *identity(made).values()])

    def whole(self, content: bytes) -> int:
        """Up to the last newline outside quotes: a path may contain one."""
        end = position = quotes = 0
        for line in io.BytesIO(content):
            position, quotes = position + len(line), quotes + line.count(b'"')
            if line.endswith(b"\n") and quotes % 2 == 0:
                end = position
        return end

    def ours(self, torn: bytes) -> bool:
        """It is the beginning of a header."""
        start = ",".join(_FIRST).encode()
        return torn.startswith(start) or start.startswith(torn)

    def read(self, content: bytes) -> Iterator[Line]:
        """See `Format.read`."""
        rows = csv.reader(io.StringIO(content.decode("utf-8-sig", "surrogateescape"), newline=""), strict=True)
        names = next(rows, [])
        levels = names[len(_FIRST) : -len(_LAST)]
        if names != [*_FIRST, *levels, *_LAST] or not levels:
            raise ValueError("the first line is not the header of a file of scores")
        for row in filter(None, rows):
            fields = dict(zip(names, row, strict=True))
            probs = {level: float(fields[level]) for level in levels}
            numbers = float(fields["score"]), float(fields["unit"]), fields["level"]
            yield Line(Record(fields["path"], *numbers, probs, fields["note"] or None), identity(fields))


def _row(values: Sequence[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerow(values)  # so that older Pythons quote a path with a "\r", too
    return text.getvalue().removesuffix("\r\n") + "\n"


FORMATS: Mapping[str, Format] = {"csv": Csv(), "jsonl": Jsonl()}
