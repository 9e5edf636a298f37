"""Where the rows of sharded runs go: one file of CSV or JSON lines, stdout, or a folder of parquet parts.

Rows are appended as they come, and a later run knows which pictures are there: by shard and index, or by the path of a
picture that stands for itself. A folder holds its newest rows in a journal until there are enough for a part, and each
part is written whole; a kill between the two leaves rows in both places, and the journal's are dropped.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from .. import console
from ..errors import OutputError
from ..files import Stamp, escaped, to_json, unescaped, write_atomic
from ..journal import Appender, Journal, Marker, check_same, csv_line, whole_csv, whole_lines
from ..packages import require
from .inputs import key
from .scores import FILES, IDENTITY, identity

if TYPE_CHECKING:
    from typing_extensions import Self

    from ..sources import Shard
    from ..work import Row

PART = 10_000
"""Rows of a parquet part."""

_STAMP = ("size", "modified", "sha256")
_PLACE = ("shard", "index", "error")
_JOURNAL, _SHARDS, _MADE = "_rows.jsonl", "_shards.jsonl", "_made.json"
_ANOTHER = "Use another place, or remove it."


@dataclass(frozen=True)
class Shape:
    """Which columns there are.

    Attributes:
        own: What the model said, before the probabilities: ("score", "unit", "level"), or those of an answer.
        probs: What the probabilities are called.
        keep: What rides along, with its type in parquet ("string", "int64" ...).
        questions: What each picture is asked; nothing for a score.
    """

    own: tuple[str, ...]
    probs: tuple[str, ...]
    keep: Mapping[str, str] = field(default_factory=dict)
    questions: tuple[str, ...] = ()

    @property
    def columns(self) -> list[str]:
        """Those of a CSV file: first those that a file of scores has, in its order."""
        note = () if self.questions else ("note",)
        return ["path", *self.own, *self.probs, *note, *IDENTITY, *_STAMP, *_PLACE, *self.keep]


# ---- what is there already


class Done:
    """Which rows there are, in a byte each: a run over ten million pictures keeps ten megabytes of them.

    Attributes:
        stamps: What the shards and pictures were when their rows were made.
    """

    def __init__(self, questions: Sequence[str]) -> None:
        self._questions = questions or ("",)
        self._places: dict[tuple[str, str], bytearray] = {}
        self._pictures: set[tuple[str, str]] = set()
        self.stamps: dict[str, Stamp] = {}
        self.count = 0

    def add(self, row: Mapping[str, Any]) -> bool:
        """Take a row down; False if it was there."""
        question, shard = str(row.get("question") or ""), str(row.get("shard") or "")
        name = shard or key(str(row["path"]))
        if row.get("size"):
            self.stamps[name] = Stamp(int(row["size"]), str(row.get("modified") or ""), str(row.get("sha256") or ""))
        new = self._mark(question, shard, int(row["index"])) if shard else self._name(question, name)
        self.count += new
        return new

    def of(self, shard: Shard) -> bytes:
        """A byte for each index of a shard, not zero where all its rows are there."""
        found = [self._places.get((question, shard.place), b"") for question in self._questions]
        return bytes(map(min, *found)) if len(found) > 1 else bytes(found[0])

    def has(self, path: str) -> bool:
        """Whether all rows of a picture that stands for itself are there."""
        return all((question, key(path)) in self._pictures for question in self._questions)

    def forget(self, path: str) -> None:
        """Take a picture for new: it was replaced."""
        for question in self._questions:
            self.count -= (question, key(path)) in self._pictures
            self._pictures.discard((question, key(path)))

    def _mark(self, question: str, shard: str, index: int) -> bool:
        marks = self._places.setdefault((question, shard), bytearray())
        if index >= len(marks):
            marks.extend(bytes(index + 1 - len(marks)))
        new, marks[index] = not marks[index], 1
        return new

    def _name(self, question: str, name: str) -> bool:
        new = (question, name) not in self._pictures
        self._pictures.add((question, name))
        return new


class Rows(Protocol):
    """A place for rows; a context manager that holds its lock.

    Attributes:
        done: What is there.
    """

    done: Done

    def begin(self, made: Mapping[str, Any], shape: Shape) -> None:
        """Make sure that these rows fit to what is there.

        Raises:
            OutputError: They are of another model, or of other columns.
        """

    def add(self, rows: Sequence[Row]) -> None:
        """Append rows; a kill of this process no longer loses them."""

    def sync(self) -> None:
        """Have the disk keep what was added."""

    def whole(self, shard: str, rows: int) -> None:
        """Note that a shard was read to its end, and how many pictures it has."""

    def is_whole(self, shard: str) -> int | None:
        """How many pictures a shard has, if that is known from an earlier run."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


# ---- one file


class CsvRows:
    """CSV with numbers of four decimals, as `qsit score` writes them."""

    whole = staticmethod(whole_csv)

    def __init__(self) -> None:
        self._columns: list[str] = []

    def header(self, shape: Shape) -> str:
        """The names; of a file that is gone on with those that it has."""
        self._columns = shape.columns
        return csv_line(self._columns)

    def line(self, row: Row, made: Mapping[str, Any]) -> str:
        """One row."""
        cells = {**row, **(row["probs"] or {}), **identity(made), **row["kept"]}
        return csv_line(escaped(str(_cell(name, cells.get(name)))) for name in self._columns)

    def read(self, content: bytes) -> Iterator[Row]:
        """The rows of whole lines, as text."""
        lines = csv.reader(io.StringIO(content.decode("utf-8-sig", "surrogateescape"), newline=""), strict=True)
        self._columns = next(lines, [])
        if self._columns and ("path" not in self._columns or not {*IDENTITY} <= {*self._columns}):
            raise ValueError("its first line is another header")
        return (dict(zip(self._columns, map(unescaped, line), strict=True)) for line in lines if line)

    def fits(self, shape: Shape) -> str:
        """What a file that is gone on with lacks; empty if nothing."""
        optional = {*_STAMP, "error"} | (set() if shape.keep or "index" in self._columns else {"shard", "index"})
        return ", ".join(name for name in shape.columns if name not in self._columns and name not in optional)

    def takes_errors(self) -> bool:
        """Whether a row without a score has a place."""
        return "error" in self._columns


class JsonRows:
    """One JSON object a line, in full precision, with full provenance."""

    whole = staticmethod(whole_lines)

    def header(self, shape: Shape) -> str:
        """Nothing."""
        self._shape = shape
        return ""

    def line(self, row: Row, made: Mapping[str, Any]) -> str:
        """One row; what is not known is left out, but for the score or answer itself."""
        own = {name: row.get(name) for name in ("path", *self._shape.own)}
        rest = {name: row.get(name) for name in ("probs", "note")}
        place = {name: row.get(name) for name in (*_STAMP, *_PLACE) if row.get(name) not in (None, "")}
        return to_json({**own, **{k: v for k, v in rest.items() if v}, **made, **place, **row["kept"]}) + "\n"

    def read(self, content: bytes) -> Iterator[Row]:
        """The rows of whole lines."""
        return (json.loads(text) for text in content.split(b"\n") if text.strip(b" \r\t\0"))

    def fits(self, shape: Shape) -> str:
        """Nothing: each line has its own names."""
        self._shape = shape
        return ""

    def takes_errors(self) -> bool:
        """Yes."""
        return True


def _cell(name: str, value: Any) -> object:
    if value is None:
        return ""
    if isinstance(value, float) and name not in _STAMP:
        return f"{value:.4f}"
    return to_json(value) if isinstance(value, (dict, list)) else value


class RowFile:
    """A .csv or .jsonl file; one that `qsit score` wrote of plain files is gone on with, and the other way round.

    Args:
        path: The file.
        questions: What each picture is asked; nothing for a score.
        retry: Drop the rows of pictures that failed.
        overwrite: Forget what is in it, once the model is there.
    """

    def __init__(
        self, path: Path, questions: Sequence[str] = (), *, retry: bool = False, overwrite: bool = False
    ) -> None:
        self.done, self._path, self._retry = Done(questions), path, retry
        self._format: CsvRows | JsonRows = CsvRows() if path.suffix.lower() == ".csv" else JsonRows()
        self._identities: dict[tuple[str, ...], Row] = {}
        self._probs: set[tuple[str, ...]] = set()
        if not path.parent.is_dir():
            raise _error(path, "a file in a folder that exists", f"Make the folder {str(path.parent)!r} first.")
        self._file = Appender(path, FILES, self._format.whole)
        if overwrite:
            self._file.content, self._file.torn = b"", b""
        try:
            self._read()
        except BaseException:
            self._file.close()
            raise

    def _read(self) -> None:
        failed, torn = 0, self._file.torn
        try:
            if not self._file.content and not (torn.startswith(start := self._start()) or start.startswith(torn)):
                raise ValueError("it has no complete line")
            for row in self._format.read(self._file.content):
                failed += self._take(row)
        except (ValueError, KeyError, TypeError, AttributeError, csv.Error) as error:
            expected = f"a {self._path.suffix} file that `qsit` wrote"
            raise _error(self._path, expected, f"It was left as it is ({error}). {_ANOTHER}") from error
        if failed and self._retry:
            self._without_failed()

    def _start(self) -> bytes:
        return b"path," if isinstance(self._format, CsvRows) else b'{"path": '

    def _take(self, row: Row) -> bool:
        """Take a row down; True for one that failed and is tried again."""
        made = identity(row)
        self._identities.setdefault(tuple(made.values()), made)
        if row.get("probs"):
            self._probs.add(tuple(row["probs"]))
        if row.get("error") and self._retry:
            return True
        self.done.add(row)
        return False

    def _without_failed(self) -> None:
        """Write the file anew without the rows that failed."""
        kept = [row for row in self._format.read(self._file.content) if not row.get("error")]
        if isinstance(self._format, CsvRows):
            names = self._format._columns
            text = "".join(map(csv_line, [names, *([escaped(row[name]) for name in names] for row in kept)]))
        else:
            text = "".join(to_json(row) + "\n" for row in kept)
        self._file.close()
        with FILES.saving(self._path):
            write_atomic(self._path, text)
        self._file = Appender(self._path, FILES, self._format.whole)

    def begin(self, made: Mapping[str, Any], shape: Shape) -> None:
        """See `Rows`."""
        self._made, own = made, identity(made)
        for theirs in self._identities.values():
            skipped = "model" if theirs.get("revision") == own["revision"] != "" else ""
            found, now = ({name: text for name, text in one.items() if name != skipped} for one in (theirs, own))
            check_same(self._path, found, now, FILES, what="a file with results", hint=_ANOTHER)
        if self._file.content:
            if any(probs != shape.probs for probs in self._probs):
                raise _error(self._path, f"a file with the columns {', '.join(shape.probs)}", _ANOTHER)
            if lacks := self._format.fits(shape):
                raise _error(self._path, f"a file with these columns, too: {lacks}", _ANOTHER)
        else:
            self._file.restart()
            self._file.append(self._format.header(shape))

    def add(self, rows: Sequence[Row]) -> None:
        """See `Rows`. A file that has no column for errors gets none, so that those pictures are tried again."""
        rows = [row for row in rows if self.done.add(row)]
        written = [row for row in rows if not row["error"] or self._format.takes_errors()]
        self._file.append("".join(self._format.line(row, self._made) for row in written))

    def sync(self) -> None:
        """See `Rows`."""
        self._file.sync()

    def whole(self, shard: str, rows: int) -> None:
        """Nothing: one file has no place for it."""

    def is_whole(self, shard: str) -> int | None:
        """Not known."""
        del shard
        return None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


class RowStream:
    """Stdout, as CSV or JSON lines."""

    def __init__(self, form: str, questions: Sequence[str] = ()) -> None:
        self.done = Done(questions)
        self._format: CsvRows | JsonRows = CsvRows() if form == "csv" else JsonRows()

    def begin(self, made: Mapping[str, Any], shape: Shape) -> None:
        """Write the header."""
        self._made = made
        console.write(self._format.header(shape))

    def add(self, rows: Sequence[Row]) -> None:
        """Write rows at once."""
        console.write("".join(self._format.line(row, self._made) for row in rows if self.done.add(row)))

    def sync(self) -> None:
        """Nothing is kept."""

    def whole(self, shard: str, rows: int) -> None:
        """Nothing is kept."""

    def is_whole(self, shard: str) -> int | None:
        """Not known."""
        del shard
        return None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del kind, error, trace


# ---- a folder of parts


class RowFolder:
    """A folder of parquet parts that any reader of parquet takes for one table.

    Beside them stand `_made.json` (what made them), `_rows.jsonl` (the newest rows) and `_shards.jsonl` (which shards
    were read to their end); readers leave names with an underscore alone.

    Args:
        folder: Made if it is not there.
        questions: What each picture is asked; nothing for a score.
        retry: Drop the rows of pictures that failed.
        overwrite: Forget what is there.
    """

    def __init__(
        self, folder: Path, questions: Sequence[str] = (), *, retry: bool = False, overwrite: bool = False
    ) -> None:
        require("pyarrow", "shards", least="15", below="99")
        self.done, self._folder, self._begun = Done(questions), folder, False
        if folder.is_dir() and any(folder.iterdir()) and not any((folder / one).exists() for one in (_MADE, _JOURNAL)):
            raise _error(folder, "a new folder, or one that `qsit` wrote", "Use another folder.")
        with FILES.saving(folder):
            folder.mkdir(parents=True, exist_ok=True)
        self._file = Appender(folder / _JOURNAL, FILES)
        if overwrite:
            self._forget()
        try:
            for part in self._parts():
                self._read(part, retry)
            waiting = [json.loads(line) for line in self._file.content.split(b"\n") if line.strip(b"\0 ")]
            self._waiting = [row for row in waiting if not (retry and row["error"]) and self.done.add(row)]
            self._shards = Journal(folder / _SHARDS, None, FILES, key="shard")
        except BaseException:
            self._file.close()
            raise

    def _forget(self) -> None:
        with FILES.saving(self._folder):
            for path in [self._folder / _MADE, self._folder / _SHARDS, *self._parts()]:
                path.unlink(missing_ok=True)
        self._file.restart()

    def _parts(self) -> list[Path]:
        return sorted(self._folder.glob("part-*.parquet"))

    def _read(self, part: Path, retry: bool) -> None:
        """Take the rows of a part down, without those that failed and are tried again."""
        from pyarrow import compute
        from pyarrow import parquet as pq

        try:
            names = [name for name in pq.read_schema(part).names if name in _KNOWN_BY]
            table = pq.read_table(part, columns=names)
            if retry and table["error"].null_count < table.num_rows:
                everything = pq.read_table(part)
                with FILES.saving(part):
                    write_atomic(part, _bytes_of(everything.filter(compute.is_null(everything["error"]))))
                table = pq.read_table(part, columns=names)
        except (ValueError, OSError, KeyError) as error:
            raise _error(part, "a part that `qsit` wrote", f"{error}. {_ANOTHER}") from error
        for batch in table.to_batches():
            for row in batch.to_pylist():
                self.done.add(row)

    def begin(self, made: Mapping[str, Any], shape: Shape) -> None:
        """See `Rows`."""
        self._made, self._shape, own = made, shape, identity(made)
        named = {**own, "columns": shape.columns, **({"questions": list(shape.questions)} if shape.questions else {})}
        marker = self._folder / _MADE
        if marker.exists() and FILES.json(marker).get("made", {}).get("revision") == own["revision"] != "":
            named["model"] = FILES.json(marker)["made"]["model"]  # a folder of weights may have been moved
        Marker(marker, named, FILES, what="a folder with results", hint=_ANOTHER).claim()
        self._begun = True

    def add(self, rows: Sequence[Row]) -> None:
        """See `Rows`."""
        new = [row for row in rows if self.done.add(row)]
        self._file.append("".join(to_json(row) + "\n" for row in new))
        self._waiting += new
        while len(self._waiting) >= PART:
            self._part(self._waiting[:PART], self._waiting[PART:])

    def _part(self, rows: Sequence[Row], rest: list[Row]) -> None:
        """Write a part, then begin the journal anew with the rest: a kill between the two leaves rows in both."""
        last = self._parts()
        number = int(last[-1].stem.removeprefix("part-")) + 1 if last else 0
        self._file.sync()
        FILES.write(self._folder / f"part-{number:06d}.parquet", _bytes_of(self._table(rows)))
        self._waiting = rest
        self._file.restart()
        self._file.append("".join(to_json(row) + "\n" for row in rest))

    def _table(self, rows: Sequence[Row]) -> Any:
        import pyarrow as pa

        shape = self._shape
        probs = pa.struct([(name, pa.float64()) for name in shape.probs])
        types = {
            **_TYPES,
            **{name: pa.type_for_alias(kind) for name, kind in shape.keep.items()},
            "probabilities": probs,
        }
        note = () if shape.questions else ("note",)
        names = ["path", *shape.own, "probabilities", *note, "error", "shard", "index", *_STAMP, *shape.keep]
        values = ({**row, **row["kept"], "probabilities": row["probs"]} for row in rows)
        schema = pa.schema([(name, types.get(name, "string")) for name in names])
        text = {name for name, kind in shape.keep.items() if kind == "string"}
        plain = [{name: _text(one.get(name)) if name in text else one.get(name) for name in names} for one in values]
        return pa.Table.from_pylist(plain, schema.with_metadata({"qsit_metric": to_json(dict(self._made))}))

    def sync(self) -> None:
        """See `Rows`."""
        self._file.sync()

    def whole(self, shard: str, rows: int) -> None:
        """See `Rows`."""
        if shard not in self._shards.done:
            self._shards.add({"shard": shard, "rows": rows})

    def is_whole(self, shard: str) -> int | None:
        """See `Rows`."""
        found = self._shards.done.get(shard)
        return int(found["rows"]) if found else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._begun and self._waiting:
                self._part(self._waiting, [])
        finally:
            self._shards.__exit__(kind, error, trace)
            self._file.close()


_KNOWN_BY = {"path", "question", "shard", "index", "error", *_STAMP}
_TYPES = {"score": "float64", "unit": "float64", "index": "int64", "size": "int64"}


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else to_json(value)


def _bytes_of(table: Any) -> bytes:
    from pyarrow import parquet as pq

    content = io.BytesIO()
    pq.write_table(table, content, compression="zstd")
    return content.getvalue()


def place_for(
    output: Path | None, form: str, questions: Sequence[str] = (), *, retry: bool = False, overwrite: bool = False
) -> Rows:
    """The place that a command line names: a .csv or .jsonl file, a folder, or stdout.

    Raises:
        OutputError: Another suffix, in use by another run, or something else is there.
    """
    if output is None:
        return RowStream(form, questions)
    if output.suffix.lower() in (".csv", ".jsonl"):
        return RowFile(output, questions, retry=retry, overwrite=overwrite)
    if output.suffix and not output.is_dir():
        raise _error(output, "a name that ends in .csv or .jsonl, or a folder for parquet parts")
    return RowFolder(output, questions, retry=retry, overwrite=overwrite)


def _error(path: Path, expected: str, hint: str = "") -> OutputError:
    return OutputError.about("--output", str(path), expected, hint)
