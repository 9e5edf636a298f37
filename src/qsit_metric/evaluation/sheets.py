"""What label files are made of: columns of a table, sheets of an Excel file, variables of a MATLAB file."""

from __future__ import annotations

import csv
import io
import re
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from .errors import EvaluationError, missing
from .files import FILES

_HEAD = 65536
_ZIP = b"PK\x03\x04"
_SHEETS = "xl/workbook.xml"


def head(path: Path) -> bytes:
    """The first bytes of a file, by which its format is told; after those of an Excel file, its list of sheets.

    Raises:
        EvaluationError: It cannot be read.
    """
    try:
        with path.open("rb") as file:
            first = file.read(_HEAD).removeprefix(b"\xef\xbb\xbf")
        return first + _sheets(path) if first.startswith(_ZIP) else first
    except OSError as error:
        hint = f"The system says: {error.strerror or error}."
        raise EvaluationError.about("path", str(path), "a readable label file", hint) from error


def _sheets(path: Path) -> bytes:
    try:
        with zipfile.ZipFile(path) as archive, archive.open(_SHEETS) as file:
            return file.read(_HEAD)
    except (zipfile.BadZipFile, KeyError, zlib.error, NotImplementedError):
        return b""  # whoever reads it whole will say what is wrong


def excel_with(sheet: str | None = None) -> Callable[[bytes], bool]:
    """Whether a head is that of an Excel file; with a sheet of this name, or None: with any."""
    named = re.compile(rb'\bname="%s"' % (sheet or "").encode())
    return lambda first: first.startswith(_ZIP) and (sheet is None or named.search(first) is not None)


def matlab_with(*variables: str) -> Callable[[bytes], bool]:
    """Whether a head is that of a MATLAB file whose first variable has one of these names; none given: any name."""
    named = re.compile("|".join(variables).encode())
    return lambda first: first.startswith(b"MATLAB") and named.search(_variable(first)) is not None


def _variable(first: bytes) -> bytes:
    """The beginning of the first variable, its name in it; the element's type before it is 15 if it is compressed."""
    if first[128:132].strip(b"\0") != b"\x0f":
        return first[136:392]
    try:
        return zlib.decompressobj().decompress(first[136:], 256)
    except zlib.error:
        return b""


def check_columns(path: Path, found: Sequence[str], needed: Iterable[str]) -> None:
    """Refuse a table without the needed columns.

    Raises:
        EvaluationError: It names those that are not there, and those that are.
    """
    if absent := [name for name in needed if name not in found]:
        hint = f"It has {', '.join(map(str, found)) or 'no columns'}."
        raise EvaluationError.about("path", str(path), f"a table with the columns {', '.join(absent)}", hint)


def csv_rows(path: Path, needed: Sequence[str]) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Rows of a csv file that has the needed columns: the line, its fields by column, and what is wrong with it.

    Raises:
        EvaluationError: No csv file, or no such columns.
    """
    reader = csv.DictReader(io.StringIO(FILES.text(path)), strict=True, skipinitialspace=True)
    try:
        check_columns(path, reader.fieldnames or (), needed)
        for fields in reader:
            whole = None not in fields and None not in fields.values()
            yield f"line {reader.line_num}", fields, "" if whole else f"not {len(reader.fieldnames or ())} fields"
    except csv.Error as error:
        raise EvaluationError.about(
            "path", str(path), "a csv file", f"After line {reader.line_num}: {error}."
        ) from error


def excel_rows(path: Path, sheet: str | None = None) -> list[list[Any]]:
    """The cells of one sheet of an Excel file, row by row; default: of the first sheet.

    Raises:
        DependencyError: openpyxl is not installed.
        EvaluationError: No Excel file, or one without this sheet.
    """
    try:
        import openpyxl
    except ImportError as error:
        raise missing("openpyxl", path) from error
    try:
        with path.open("rb") as file:  # a path would have to end in .xlsx
            book = openpyxl.load_workbook(file, read_only=True, data_only=True)
            names = book.sheetnames
            chosen = sheet if sheet in names else names[0] if sheet is None else None
            rows = [] if chosen is None else [list(row) for row in book[chosen].iter_rows(values_only=True)]
    except Exception as error:  # openpyxl lets out whatever its parsers raise
        raise EvaluationError.about("path", str(path), "an Excel file (.xlsx)", f"{error}.") from error
    if chosen is None:
        hint = f"It has {', '.join(names)}."
        raise EvaluationError.about("path", str(path), f"an Excel file with the sheet {sheet}", hint)
    return rows


def matlab_variable(path: Path, key: str) -> list[Any]:
    """The elements of one variable of a MATLAB file.

    Raises:
        EvaluationError: No such file, or no such variable in it.
    """
    import scipy.io

    try:
        with path.open("rb") as file:
            return list(scipy.io.loadmat(file)[key].ravel())
    except Exception as error:  # scipy lets out whatever a file that was cut leads to, such as an IndexError
        hint = f"{type(error).__name__}: {error}."
        raise EvaluationError.about("path", str(path), f"a MATLAB file with the variable {key}", hint) from error


def matlab_scalar(value: Any) -> Any:
    """The scalar in a MATLAB cell: strings come as arrays of one."""
    while getattr(value, "ndim", 0) and value.size == 1:
        value = value.ravel()[0]
    return value.item() if hasattr(value, "item") and getattr(value, "size", 1) == 1 else value
