"""Files of evaluation: read whole, written whole or not at all."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..files import Files, PathLike
from .errors import EvaluationError

__all__ = ["FILES", "PathLike", "read_json_list", "read_text", "write_atomic", "write_results"]

FILES = Files(EvaluationError)
read_text, write_atomic = FILES.text, FILES.write  # former names


def read_json_list(path: Path) -> list[Any]:
    """The elements of a JSON list that has some.

    Raises:
        EvaluationError: No JSON, no list, or an empty one.
    """
    expected = "a JSON list with at least one element"
    content: list[Any] = FILES.json(path, list, expected)
    if not content:
        raise EvaluationError.about("path", str(path), expected)
    return content


def write_results(path: PathLike, fields: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
    """Write results by the file's suffix: the whole record as .json, or its rows as .csv.

    Raises:
        EvaluationError: Another suffix, or the file cannot be written.
    """
    target = Path(path)
    if target.suffix.lower() == ".json":
        FILES.write_json(target, fields)
    elif target.suffix.lower() == ".csv":
        FILES.write(target, _csv(rows))
    else:
        raise EvaluationError.about("path", str(path), "a name that ends in .csv or .json")


def _csv(rows: Iterable[Mapping[str, Any]]) -> str:
    table = list(rows)
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(table[0]) if table else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    return text.getvalue()
