"""What is inside a label file: tables of csv in its dialects, Excel and JSON, MATLAB variables. Told by the content.

Nothing here knows data sets or scores; `formats` and `readers` do. A table is a header and rows of cells, each with its
place in the file, so that messages can name it.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from ..errors import EvaluationError, shorten
from .manifest import missing_package

Column: TypeAlias = "str | int"

_HEAD = 65536
_KINDS = (
    (b"PK\x03\x04", "xlsx"), (b"\xd0\xcf\x11\xe0", "xls"), (b"\x09\0\x04\0", "xls"), (b"MATLAB", "matlab"),
    (b"\x89HDF", "matlab"),
)  # fmt: skip
_MARKS = (
    (b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe\0\0", "utf-32"), (b"\0\0\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"),
)  # fmt: skip
_DELIMITERS = {"comma": ",", "semicolon": ";", "tab": "\t", "bar": "|", "space": " "}
_WRITTEN_TAB = "\\t"  # as a shell passes it on
_SHOWN_COLUMNS = 20


class Cells(NamedTuple):
    """One row of a table.

    Attributes:
        where: Its place in the file, such as "line 3".
        cells: As many as the header has, unless there is a reason.
        reason: Why the row cannot be used; empty if it can.
    """

    where: str
    cells: Sequence[Any]
    reason: str = ""


@dataclass(frozen=True)
class Table:
    """A header and its rows.

    Attributes:
        header: Names of the columns, white space taken off; columns of a table without a header have no names.
        rows: The rows below it.
        name: Of the sheet, if it is one of several.
        where: Place of the header, such as "line 1".
    """

    header: tuple[str, ...]
    rows: tuple[Cells, ...] = field(repr=False)
    name: str = ""
    where: str = ""

    def place(self, column: Column) -> int | None:
        """The column's place: by its number, its exact name, or its name up to case and white space; None if absent.

        Raises:
            EvaluationError: Two columns have that name.

        Example:
            >>> Table(("Image Name", "MOS"), ()).place("image name"), Table(("a", "b"), ()).place(1)
            (0, 1)
        """
        if isinstance(column, int):
            width = max([len(self.header), *(len(row.cells) for row in self.rows[:1])])
            return column if 0 <= column < width else None
        exact = [place for place, name in enumerate(self.header) if name == column.strip()]
        found = exact or [place for place, name in enumerate(self.header) if folded(name) == folded(column)]
        if len(found) > 1:
            hint = f"Say which one by its number, counted from 0: {' or '.join(map(str, found))}."
            raise EvaluationError.about("column", column, "the name of one column, not of two", hint)
        return found[0] if found else None

    def headless(self) -> Table:
        """The table whose first row was taken for its header: one of its cells is a number."""
        if any(map(is_number, self.header)):
            return Table((), (Cells(self.where, self.header), *self.rows), self.name)
        return self

    def has(self, columns: Iterable[Column]) -> bool:
        """Whether all the columns are there."""
        return all(self.place(column) is not None for column in columns)

    def picked(self, columns: Mapping[str, Column | None]) -> Iterator[tuple[str, dict[str, Any], str]]:
        """Each row's place, the cells of the columns by the mapping's keys (those of None are left out), and reason."""
        places = {key: self.place(column) for key, column in columns.items() if column is not None}
        for where, cells, reason in self.rows:
            named = {key: cells[at] for key, at in places.items() if at is not None and at < len(cells)}
            yield where, named, reason

    def shown(self) -> str:
        """The header, for messages; of a table without one, its first row."""
        names = self.header if any(self.header) else tuple(str(cell) for cell in self.rows[0].cells if self.rows)
        said = ", ".join(name or "''" for name in names[:_SHOWN_COLUMNS])
        return said + (", ..." if len(names) > _SHOWN_COLUMNS else "") if said else "no columns"


def folded(name: str) -> str:
    """A column's name without case and white space.

    Example:
        >>> folded(" Image  Name ")
        'image name'
    """
    return " ".join(name.split()).casefold()


class Source:
    """A label file, opened when something of it is asked for, and only once.

    Args:
        path: The file.
        delimiter: Of a csv file, one character or comma, semicolon, tab, bar, space; None: it is told from the header.

    Raises:
        EvaluationError: Another delimiter.

    Attributes:
        path: The file.
    """

    def __init__(self, path: Path, delimiter: str | None = None) -> None:
        self.path = path
        self._delimiter = None if delimiter is None else checked_delimiter(delimiter)

    @cached_property
    def content(self) -> bytes:
        """The whole file.

        Raises:
            EvaluationError: It cannot be read.
        """
        try:
            return self.path.read_bytes()
        except OSError as error:
            hint = f"The system says: {error.strerror or error}."
            raise EvaluationError.about("path", str(self.path), "a readable label file", hint) from error

    @cached_property
    def kind(self) -> str:
        """What the file is: "xlsx", "xls", "matlab", "json" (JSON Lines, too), "text", or "folder"."""
        if self.path.is_dir():
            return "folder"
        for mark, kind in _KINDS:
            if self.content.startswith(mark):
                return kind
        return "json" if self.text.lstrip()[:1] in ("[", "{") else "text"

    @cached_property
    def text(self) -> str:
        """The file as text: UTF-8, or UTF-16 and UTF-32 by their marks.

        Raises:
            EvaluationError: Another encoding.
        """
        encoding = next((name for mark, name in _MARKS if self.content.startswith(mark)), _unmarked(self.content))
        try:
            return self.content.decode(encoding)
        except UnicodeDecodeError as error:
            hint = f"Save it as UTF-8. The system says: {error}."
            raise EvaluationError.about("path", str(self.path), "a text file in UTF-8 or UTF-16", hint) from error

    @cached_property
    def tables(self) -> tuple[Table, ...]:
        """The tables of a text file, an Excel file or a JSON file; a csv file has one for each delimiter that fits."""
        readers = {"xlsx": self._sheets, "xls": self._sheets, "json": self._objects, "text": self._csv}
        return tuple(readers[self.kind]()) if self.kind in readers else ()

    def table(self, columns: Sequence[Column], sheet: str | None = None) -> Table | None:
        """The first table that has all the columns; an Excel sheet's may begin below and right of the corner."""
        numbered = any(isinstance(column, int) for column in columns)
        tables = [one.headless() if numbered else one for one in self.tables if sheet in (None, one.name)]
        if self.kind == "json":
            return next((table for table in (*self._by_columns(), *tables) if table.has(columns)), None)
        return next((table for one in tables for table in self._begins(one, columns) if table.has(columns)), None)

    def check_columns(self, columns: Sequence[Column], sheet: str | None = None) -> Table:
        """The table that has all the columns.

        Raises:
            EvaluationError: None has; the message shows the header that was found.
        """
        if (found := self.table(columns, sheet)) is not None:
            return found
        if sheet is not None and sheet not in {one.name for one in self.tables}:
            expected = f"an Excel file with the sheet {sheet}"
            hint = f"It has {', '.join(one.name for one in self.tables) or 'no sheet with cells'}."
            raise EvaluationError.about("path", str(self.path), expected, hint)
        absent = [one for one in columns if all(table.place(one) is None for table in self.tables)] or columns
        expected = f"a table with the columns {', '.join(map(str, absent))}"
        raise EvaluationError.about("path", str(self.path), expected, self.seen())

    def shown(self) -> str:
        """The columns that were found, for messages."""
        if self.kind in ("xlsx", "xls") and len(self.tables) > 1:
            return "; ".join(f"{table.shown()} in the sheet {table.name}" for table in self.tables)
        return self.tables[0].shown() if self.tables else "no columns"

    def seen(self) -> str:
        """What the file has, a sentence."""
        return f"It has {self.variables_shown()}." if self.kind == "matlab" else f"It has {self.shown()}."

    @cached_property
    def elements(self) -> tuple[Any, ...]:
        """The elements of a JSON list, of JSON Lines, or of the only list in a JSON object; none if it is no JSON.

        Raises:
            EvaluationError: A file that begins as JSON and is none.
        """
        try:
            found = json.loads(self.text)
        except ValueError as error:
            found = self._lines(error)
        if isinstance(found, Mapping):
            lists = [one for one in found.values() if isinstance(one, list) and one and isinstance(one[0], Mapping)]
            return tuple(lists[0]) if len(lists) == 1 else (found,)
        return tuple(found) if isinstance(found, list) else ()

    def _lines(self, whole: ValueError) -> list[Any]:
        """Objects one after the other: JSON Lines, and lists that lack the brackets or the commas between."""
        decoder, text, at = json.JSONDecoder(), self.text, 0
        found: list[Any] = []
        while (at := _next(text, at)) < len(text):
            try:
                one, at = decoder.raw_decode(text, at)
            except ValueError as error:
                line = text.count("\n", 0, getattr(error, "pos", 0)) + 1
                said = f"{whole}" if not found else f"Line {line}: {error}"
                raise EvaluationError.about("path", str(self.path), "a JSON list or JSON Lines", f"{said}.") from error
            found.append(one)
        return found

    @cached_property
    def variables(self) -> Mapping[str, Any]:
        """The variables of a MATLAB file.

        Raises:
            EvaluationError: No MATLAB file, or one of version 7.3, which is HDF5.
        """
        import scipy.io

        file = io.BytesIO(self.content)
        try:
            content = scipy.io.loadmat(file)
        except NotImplementedError as error:
            hint = "It is of version 7.3: save it in MATLAB with save(..., '-v7')."
            raise EvaluationError.about("path", str(self.path), "a MATLAB file of version 7 or before", hint) from error
        except Exception as error:  # scipy lets out whatever a file that was cut leads to, such as an IndexError
            hint = f"{type(error).__name__}: {error}."
            raise EvaluationError.about("path", str(self.path), "a MATLAB file", hint) from error
        return {name: value for name, value in content.items() if not name.startswith("__")}

    def variable(self, name: str) -> list[Any]:
        """The elements of a MATLAB variable; cells of one element are taken out of their boxes.

        Raises:
            EvaluationError: It is not there; the message says which are.
        """
        if name not in self.variables:
            expected = f"a MATLAB file with the variable {name}"
            raise EvaluationError.about("path", str(self.path), expected, f"It has {self.variables_shown()}.")
        return [scalar(value) for value in self.variables[name].ravel()]

    def variables_shown(self) -> str:
        """Names and shapes of the MATLAB variables, for messages."""
        shown = [f"{name} ({' x '.join(map(str, value.shape))})" for name, value in self.variables.items()]
        return ", ".join(shown) or "no variables"

    def _begins(self, table: Table, columns: Sequence[Column]) -> Iterator[Table]:
        """The table itself; of an Excel sheet also what lies below the first row that holds all the names."""
        yield table
        if self.kind not in ("xlsx", "xls") or any(isinstance(column, int) for column in columns):
            return
        wanted = {folded(str(column)) for column in columns}
        for place, row in enumerate(table.rows):
            if wanted <= {folded(str(cell)) for cell in row.cells if cell is not None}:
                header = tuple("" if cell is None else str(cell).strip() for cell in row.cells)
                yield Table(header, table.rows[place + 1 :], table.name)
                return

    def _sheets(self) -> Iterator[Table]:
        for name, cells in (_xlsx if self.kind == "xlsx" else _xls)(self.path, self.content):
            filled = [(f"row {at}", row) for at, row in enumerate(cells, start=1) if any(c is not None for c in row)]
            if not filled:
                continue
            width = max(len(row) for _, row in filled)
            rows = tuple(Cells(where, [*row, *[None] * (width - len(row))]) for where, row in filled)
            header = tuple("" if cell is None else str(cell).strip() for cell in rows[0].cells)
            yield Table(header, rows[1:], name, rows[0].where)

    def _csv(self) -> Iterator[Table]:
        first = next((line for line in self.text.splitlines() if line.strip()), "")
        told = re.fullmatch(r'"?sep=(.)"?', first.strip("\r\n"))  # Excel's own way to say it
        given = self._delimiter or (told[1] if told else None)
        likely = [mark for mark in _DELIMITERS.values() if mark in first.strip()]
        likely = [mark for mark in likely if mark != " "] or likely or [","]
        failed: list[EvaluationError] = []
        found = False
        for delimiter in [given] if given else likely:
            try:
                table = csv_table(self.path, self.text, delimiter, skip=bool(told))
            except EvaluationError as error:
                failed.append(error)
                continue
            if table is not None:
                found = True
                yield table
        if failed and not found:
            raise failed[0]

    def _objects(self) -> Iterator[Table]:
        """Objects as rows, their keys as columns; a list of lists, or one object of names and scores, has none."""
        objects = [one for one in self.elements if isinstance(one, Mapping)]
        if len(objects) == 1 and len(self.elements) == 1:
            yield from _object_tables(objects[0])
        header = tuple(dict.fromkeys(str(key) for one in objects for key in one))
        if header:
            rows = (Cells(f"row {at}", *_row_of(one, header)) for at, one in enumerate(self.elements))
            yield Table(header, tuple(rows))
        elif self.elements and all(isinstance(one, list) for one in self.elements):
            yield Table((), tuple(Cells(f"row {at}", one) for at, one in enumerate(self.elements)))

    def _by_columns(self) -> Iterator[Table]:
        """An object of columns: lists of one length, or pandas' {column: {row: cell}}."""
        if len(self.elements) != 1 or not isinstance(self.elements[0], Mapping):
            return
        columns = self.elements[0]
        if all(isinstance(one, Mapping) for one in columns.values()):
            columns = {name: list(one.values()) for name, one in columns.items()}
        lists = {str(name): one for name, one in columns.items() if isinstance(one, list)}
        if lists and len({len(one) for one in lists.values()}) == 1:
            rows = (Cells(f"row {at}", cells) for at, cells in enumerate(zip(*lists.values(), strict=True)))
            yield Table(tuple(lists), tuple(rows))


def _object_tables(one: Mapping[str, Any]) -> Iterator[Table]:
    """Split form of pandas, {name: {column: cell}} with the names under `key`, or {name: score} without a header."""
    if {"columns", "data"} <= set(one) and isinstance(one["columns"], list) and isinstance(one["data"], list):
        rows = (Cells(f"row {at}", cells) for at, cells in enumerate(one["data"]))
        yield Table(tuple(map(str, one["columns"])), tuple(rows))
    elif one and all(isinstance(value, Mapping) for value in one.values()):
        header = ("key", *dict.fromkeys(str(key) for value in one.values() for key in value))
        flat = [{**value, "key": name} for name, value in one.items()]
        yield Table(header, tuple(Cells(f"row {at}", *_row_of(row, header)) for at, row in enumerate(flat)))
    elif len(one) > 1 and not any(isinstance(value, (Mapping, list)) for value in one.values()):
        cells = [Cells(f"row {at}", [name, value]) for at, (name, value) in enumerate(one.items())]
        if all(is_number(value) for value in one.values()):
            yield Table((), tuple(cells))


def _row_of(one: Any, header: Sequence[str]) -> tuple[list[Any], str]:
    if not isinstance(one, Mapping):
        return [], f"it is {shorten(one)}, expected an object"
    return [one.get(name) for name in header], ""


def is_number(value: Any) -> bool:
    """Whether this is a number, or text that is one.

    Example:
        >>> is_number("3.5"), is_number("a.jpg"), is_number(True)
        (True, False, False)
    """
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return not isinstance(value, bool)


def _next(text: str, at: int) -> int:
    """The place of the next character that is neither white space nor a comma."""
    while at < len(text) and (text[at].isspace() or text[at] == ","):
        at += 1
    return at


def _unmarked(content: bytes) -> str:
    """UTF-8, unless every other byte of the beginning is zero: UTF-16 whose mark is missing."""
    first = content[:_HEAD]
    for offset, name in ((1, "utf-16-le"), (0, "utf-16-be")):
        half = first[offset::2]
        if len(half) > 1 and not any(half):
            return name
    return "utf-8"


def checked_delimiter(delimiter: str) -> str:
    r"""The character that a delimiter's name or text means.

    Raises:
        EvaluationError: It is none.

    Example:
        >>> checked_delimiter("semicolon"), checked_delimiter("\t")
        (';', '\t')
    """
    found = "\t" if delimiter == _WRITTEN_TAB else _DELIMITERS.get(delimiter.lower(), delimiter)
    if len(found) != 1 or found in "\r\n\"'" or found.isalnum():
        known = ", ".join(_DELIMITERS)
        raise EvaluationError.about("delimiter", delimiter, f"one character such as ';', or one of {known}")
    return found


def csv_table(path: Path, text: str, delimiter: str, skip: bool = False) -> Table | None:
    """Read a text as csv with this delimiter; None if there is no line.

    Names may be in double or single quotes. Rows may have one more field than the header: an empty one behind a last
    delimiter, or a number in front of each row, as R writes it.

    Raises:
        EvaluationError: Quotes that do not end.
    """
    start = text.lstrip("\r\n \t" if delimiter != "\t" else "\r\n")
    start = start.partition("\n")[2] if skip else start
    before = text.count("\n", 0, len(text) - len(start))
    quote = "'" if start.startswith("'") else '"'
    lines = io.StringIO(start, newline="")
    reader = csv.reader(lines, delimiter=delimiter, quotechar=quote, strict=True, skipinitialspace=True)
    read: list[tuple[int, list[str]]] = []
    try:
        read.extend((reader.line_num + before, fields) for fields in reader if fields)
    except csv.Error as error:
        hint = f"After line {read[-1][0] if read else before}: {error}."
        raise EvaluationError.about("path", str(path), "a csv file", hint) from error
    if not read:
        return None
    fields = [_ended(one) if delimiter == " " else one for _, one in read]
    header = tuple(name.strip() for name in fields[0])
    shift = _shift(len(header), fields[1:])
    rows = [
        _cells(f"line {line}", one, len(header), shift) for (line, _), one in zip(read[1:], fields[1:], strict=True)
    ]
    return Table(header, tuple(rows), where=f"line {read[0][0]}")


def _ended(fields: list[str]) -> list[str]:
    """Without what a space at a line's end makes."""
    return fields[:-1] if len(fields) > 1 and not fields[-1] else fields


def _shift(width: int, rows: Sequence[Sequence[str]]) -> slice | None:
    """Which fields of each row belong to the header where all rows have one more than it."""
    if not rows or any(len(row) != width + 1 for row in rows):
        return None
    if not any(row[-1] for row in rows):
        return slice(0, width)
    numbers = [row[0] for row in rows]
    return slice(1, None) if all(one.isdigit() for one in numbers) and len(set(numbers)) == len(numbers) else None


def _cells(where: str, fields: Sequence[str], width: int, shift: slice | None) -> Cells:
    fields = fields if shift is None else fields[shift]
    return Cells(where, fields, "" if len(fields) == width else f"not {width} fields")


def _xlsx(path: Path, content: bytes) -> Iterator[tuple[str, list[tuple[Any, ...]]]]:
    try:
        import openpyxl
    except ImportError as error:
        raise missing_package("openpyxl", path) from error
    try:
        book = openpyxl.load_workbook(io.BytesIO(content), read_only=True, data_only=True)
        sheets = [(sheet.title, list(sheet.iter_rows(values_only=True))) for sheet in book.worksheets]
    except Exception as error:  # openpyxl lets out whatever its parsers raise
        raise EvaluationError.about("path", str(path), "an Excel file (.xlsx)", f"{error}.") from error
    yield from sheets


def _xls(path: Path, content: bytes) -> Iterator[tuple[str, list[tuple[Any, ...]]]]:
    """The old binary form; whole numbers come as whole numbers, empty cells as None."""
    try:
        import xlrd
    except ImportError as error:
        raise missing_package("xlrd", path) from error
    try:
        book = xlrd.open_workbook(file_contents=content)
        sheets = [(sheet.name, [_plain(sheet.row_values(at)) for at in range(sheet.nrows)]) for sheet in book.sheets()]
    except Exception as error:  # xlrd lets out whatever its parsers raise
        raise EvaluationError.about("path", str(path), "an Excel file (.xls)", f"{error}.") from error
    yield from sheets


def _plain(cells: Sequence[Any]) -> tuple[Any, ...]:
    """Cells without Excel's habit of holding every number as a float, and nothing as ''."""
    return tuple(
        None if cell == "" else int(cell) if isinstance(cell, float) and cell.is_integer() else cell for cell in cells
    )


def scalar(value: Any) -> Any:
    """The scalar in a MATLAB cell: strings come as arrays of one, cells within cells."""
    while getattr(value, "ndim", 0) and value.size == 1:
        value = value.ravel()[0]
    return value.item() if hasattr(value, "item") and getattr(value, "size", 1) == 1 else value
