"""Files of evaluation: read whole, written whole or not at all."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from .. import files
from .errors import EvaluationError

PathLike: TypeAlias = "str | os.PathLike[str]"


def read_text(path: Path) -> str:
    """A text file in UTF-8, with or without the mark that Excel puts before it.

    Raises:
        EvaluationError: Not there, not readable, or in another encoding.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise EvaluationError.about("path", str(path), "a readable UTF-8 file", f"The system says: {error}.") from error


def read_json_list(path: Path) -> list[Any]:
    """The elements of a JSON list that has some.

    Raises:
        EvaluationError: No JSON, no list, or an empty one.
    """
    try:
        content = json.loads(read_text(path))
    except ValueError as error:
        if isinstance(error, EvaluationError):
            raise
        raise EvaluationError.about("path", str(path), "a JSON list", f"{error}.") from error
    if not isinstance(content, list) or not content:
        raise EvaluationError.about("path", str(path), "a JSON list with at least one element")
    return content


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a file so that it is there whole or not at all, also after a crash or on a full disk.

    Raises:
        EvaluationError: It cannot be written; a file that was there before is as it was.
    """
    try:
        files.write_atomic(path, content)
    except OSError as error:
        hint = f"The system says: {error.strerror or error}."
        raise EvaluationError.about("path", str(path), "a file that can be written", hint) from error


def write_results(path: PathLike, fields: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
    """Write results by the file's suffix: the whole record as .json, or its rows as .csv.

    Raises:
        EvaluationError: Another suffix, or the file cannot be written.
    """
    target = Path(path)
    if target.suffix.lower() == ".json":
        write_atomic(target, json.dumps(fields, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    elif target.suffix.lower() == ".csv":
        write_atomic(target, _csv(rows))
    else:
        raise EvaluationError.about("path", str(path), "a name that ends in .csv or .json")


def _csv(rows: Iterable[Mapping[str, Any]]) -> str:
    table = list(rows)
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(table[0]) if table else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    return text.getvalue()
