"""Answers as lines of CSV or JSON, and the file of them that a later run goes on with."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..files import Stamp, escaped, to_json, unescaped
from ..journal import csv_line, whole_csv, whole_lines
from .inputs import key
from .scores import IDENTITY, Format, Line, ResultFile, identity, stamp_fields, stamp_of

if TYPE_CHECKING:
    from ..results import Answer

_STAMP = ("size", "modified", "sha256")


@dataclass(frozen=True)
class Asked:
    """How questions were asked: what must be the same for an answer to be kept.

    Attributes:
        choices: The possible answers; none for a free question.
        method: How they were compared; empty for a free question.
        max_new_tokens: Limit of a written answer.
    """

    choices: tuple[str, ...] = ()
    method: str = ""
    max_new_tokens: int = 200

    @classmethod
    def of(cls, choices: Sequence[str], method: str, max_new_tokens: int) -> Asked:
        """What of it can change an answer."""
        return cls(tuple(choices), method if choices else "", max_new_tokens)


@dataclass(frozen=True)
class Told:
    """One answer to a question about a picture; `stamp` tells which file that was."""

    path: str
    question: str
    answer: str
    finished: bool
    choice: str | None
    probs: Mapping[str, float]
    asked: Asked
    stamp: Stamp | None = None

    @property
    def key(self) -> tuple[str, str, Asked]:
        """What a later run knows it by."""
        return key(self.path), self.question, self.asked

    @classmethod
    def of(cls, path: str, question: str, answer: Answer, asked: Asked, stamp: Stamp | None = None) -> Told:
        """Take down an answer."""
        return cls(path, question, str(answer), answer.finished, answer.choice, answer.probs, asked, stamp)

    @classmethod
    def read(cls, fields: Mapping[str, Any]) -> Line[Told]:
        """Read the fields of a line.

        Raises:
            ValueError: They are no answer; also KeyError, TypeError and AttributeError.
        """
        asked = Asked(tuple(fields["choices"]), str(fields["method"]), int(fields["max_new_tokens"]))
        path, question, answer = (str(fields[name]) for name in ("path", "question", "answer"))
        probs = {str(name): float(value) for name, value in fields["probs"].items()}
        said = path, question, answer, bool(fields["finished"])
        return Line(cls(*said, fields["choice"] or None, probs, asked, stamp_of(fields)), identity(fields))

    def fields(self) -> dict[str, Any]:
        """Plain fields, without what made it."""
        said = {"path": self.path, "question": self.question, "answer": self.answer, "finished": self.finished}
        how = {"choices": list(self.asked.choices), "method": self.asked.method}
        limit = {"max_new_tokens": self.asked.max_new_tokens}
        return {**said, "choice": self.choice, "probs": dict(self.probs), **how, **limit}


class Jsonl:
    """One JSON object a line, with full provenance."""

    suffix = ".jsonl"
    start = b'{"path": "'
    whole = staticmethod(whole_lines)

    def header(self, levels: Sequence[str]) -> str:
        """Nothing."""
        return ""

    def line(self, record: Told, made: Mapping[str, Any]) -> str:
        """Question and answer, how it was asked, the provenance, the stamp."""
        return to_json({**record.fields(), **made, **stamp_fields(record.stamp)}) + "\n"

    def read(self, content: bytes) -> Iterator[Line[Told]]:
        """Read whole lines; errors as in `Told.read`."""
        for text in filter(None, map(bytes.strip, content.split(b"\n"))):
            yield Told.read(json.loads(text))


class Csv:
    """A header and one row per answer; `choices` and `probs` are JSON in their cells."""

    suffix = ".csv"
    _own = ("path", "question", "answer", "finished", "choice", "probs", "choices", "method", "max_new_tokens")
    start = ",".join(_own).encode()
    whole = staticmethod(whole_csv)
    _columns = (*_own, *IDENTITY, *_STAMP)

    def header(self, levels: Sequence[str]) -> str:
        """The column names."""
        return csv_line(self._columns)

    def line(self, record: Told, made: Mapping[str, Any]) -> str:
        """One row."""
        fields = {**record.fields(), **identity(made), **stamp_fields(record.stamp)}
        fields |= {name: to_json(fields[name]) if fields[name] else "" for name in ("probs", "choices")}
        cells = (fields.get(name) for name in self._columns)
        return csv_line("" if cell is None else escaped(str(cell)) for cell in cells)

    def read(self, content: bytes) -> Iterator[Line[Told]]:
        """Read whole rows; errors as in `Told.read`, and csv.Error."""
        rows = csv.reader(io.StringIO(content.decode("utf-8-sig", "surrogateescape"), newline=""), strict=True)
        if next(rows, []) != list(self._columns):
            raise ValueError("the first line is not the header of a file of answers")
        for row in filter(None, rows):
            fields: dict[str, Any] = dict(zip(self._columns, map(unescaped, row), strict=True))
            fields |= {"probs": json.loads(fields["probs"] or "{}"), "choices": json.loads(fields["choices"] or "[]")}
            yield Told.read(fields | {"finished": fields["finished"] == "True"})


FORMATS: Mapping[str, Callable[[], Format[Told]]] = {"csv": Csv, "jsonl": Jsonl}


def answer_file(path: Path, *, overwrite: bool = False) -> ResultFile[Told]:
    """The file of `qsit ask` and `qsit describe`; see `ResultFile`."""
    return ResultFile(path, FORMATS, "answers", "qsit ask", overwrite=overwrite)
