"""A finished table, and the three files it becomes: CSV for programs, JSON with everything, Markdown for people. Pure.

CSV and JSON have every digit; only Markdown rounds, and shortens hashes. None is an empty cell everywhere (null in
JSON).
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from qsit_metric.evaluation import EvaluationError
from qsit_metric.files import Files

FILES = Files(EvaluationError, parents=True)
"""How results are read and written: whole, into a folder that is made if it is not there."""

_FLOAT = ".3f"
_DIGEST = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class Table:
    """A finished table.

    Attributes:
        name: Stem of its files: letters, digits, dots, hyphens and underscores.
        title: One line above it.
        columns: Names, each once.
        rows: Each has the columns as keys, and values that are text, numbers, bool or None (an empty cell).
        notes: Lines under it.
        made: What it was made with (model, revision, dtype, recipe, versions ...); may be nested.
        formats: Column -> how its floats are shown, in the language of `format` (".2f", ".1%"); default ".3f".

    Raises:
        EvaluationError: A name that is no file's, a row with other keys, or a value that a result file cannot hold,
            such as NaN.

    Example:
        >>> table = Table("table7", "Ablation", ("mix", "SRCC"), ({"mix": "D2 + D3", "SRCC": 0.8004},))
        >>> print(markdown(table))
        ## Ablation
        <BLANKLINE>
        | mix | SRCC |
        | --- | ---: |
        | D2 + D3 | 0.800 |
        <BLANKLINE>
    """

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[Mapping[str, object], ...]
    notes: tuple[str, ...] = ()
    made: Mapping[str, object] = field(default_factory=dict)
    formats: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise EvaluationError.about("name", self.name, "letters, digits, dots, hyphens and underscores")
        if len(set(self.columns)) != len(self.columns):
            raise EvaluationError.about("columns", self.columns, "each name once")
        if strange := [name for name in self.formats if name not in self.columns]:
            raise EvaluationError.about("formats", strange, f"some of the columns {', '.join(self.columns)}")
        for place, row in enumerate(self.rows):
            _check_row(place, row, self.columns)
        for name, value in flat(self.made):
            _check_value(f"made: {name}", value)


def save(table: Table, folder: Path) -> list[Path]:
    """Write NAME.csv, NAME.json and NAME.md, each whole or not at all.

    Args:
        table: The table.
        folder: Is made if it is not there.

    Returns:
        The three paths.

    Raises:
        EvaluationError: A file cannot be written.
    """
    contents = {".csv": csv_text(table), ".json": json_text(table), ".md": markdown(table)}
    paths = [folder / f"{table.name}{suffix}" for suffix in contents]
    for path, content in zip(paths, contents.values(), strict=True):
        FILES.write(path, content)
    return paths


def csv_text(table: Table) -> str:
    """The rows as CSV; what the table was made with follows in columns "made.NAME", the same in every row."""
    made = {f"made.{name}": value for name, value in flat(table.made)}
    text = io.StringIO()
    writer = csv.DictWriter(text, [*table.columns, *made], lineterminator="\n")
    writer.writeheader()
    writer.writerows({**row, **made} for row in table.rows)
    return text.getvalue()


def json_text(table: Table) -> str:
    """Everything as one JSON object."""
    fields = {
        "name": table.name, "title": table.title, "columns": list(table.columns),
        "rows": [{name: row[name] for name in table.columns} for row in table.rows],
        "notes": list(table.notes), "made": table.made,
    }  # fmt: skip
    return json.dumps(fields, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def markdown(table: Table) -> str:
    """Title, table, notes, and one line that says what it was made with."""
    rows = [cells(table, row) for row in table.rows]
    notes = "\n".join(f"- {_escaped(note)}" for note in table.notes)
    made = f"Made with {_escaped(conditions(table))}." if table.made else ""
    parts = [f"## {_escaped(table.title)}", _pipes(table.columns, rows, right_columns(table)), notes, made]
    return "\n\n".join(part for part in parts if part) + "\n"


def cells(table: Table, row: Mapping[str, object]) -> list[str]:
    """A row as people read it: floats rounded as the table asks, None empty, bool as yes or no."""
    return [_shown(row[name], table.formats.get(name, _FLOAT)) for name in table.columns]


def right_columns(table: Table) -> list[bool]:
    """Whether each column holds numbers only, which stand on the right."""
    held = [[row[name] for row in table.rows if row[name] is not None] for name in table.columns]
    return [bool(values) and all(_is_number(value) for value in values) for values in held]


def conditions(table: Table) -> str:
    """What the table was made with, in one line.

    Example:
        >>> conditions(Table("t", "T", ("a",), (), made={"model": "m", "versions": {"torch": "2.9"}}))
        'model m, versions.torch 2.9'
    """
    return ", ".join(f"{name} {_shown(value, 'g')}" for name, value in flat(table.made) if value is not None)


def flat(fields: Mapping[str, object], above: str = "") -> Iterator[tuple[str, object]]:
    """Names and values of nested fields; lists count as one text.

    Example:
        >>> list(flat({"a": 1, "b": {"c": [1, 2]}}))
        [('a', 1), ('b.c', '1, 2')]
    """
    for name, value in fields.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{above}{name}.")
        elif isinstance(value, (list, tuple)):
            yield f"{above}{name}", ", ".join(map(str, value))
        else:
            yield f"{above}{name}", value


def _check_row(place: int, row: Mapping[str, object], columns: Sequence[str]) -> None:
    if set(row) != set(columns):
        odd = sorted(set(row) ^ set(columns))
        raise EvaluationError.about(f"row {place}", odd, f"the columns {', '.join(columns)} and no others")
    for name in columns:
        _check_value(f"row {place}: {name}", row[name])


def _check_value(what: str, value: object) -> None:
    plain = value is None or isinstance(value, (str, bool, int, float))
    if not plain or (isinstance(value, float) and not math.isfinite(value)):
        raise EvaluationError.about(what, value, "text, a finite number, bool, or None for an empty cell")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _shown(value: object, spec: str) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return format(value, spec)
    text = str(value)
    return text[:12] if _DIGEST.fullmatch(text) else text  # a hash is told from others by its beginning


def _escaped(text: str) -> str:
    """Text that Markdown shows as it is where it matters: cells stay cells, and no tag becomes one."""
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def _pipes(columns: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[bool]) -> str:
    rule = ["---:" if to_right else "---" for to_right in right]
    lines = [[_escaped(name) for name in columns], rule, *([_escaped(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
