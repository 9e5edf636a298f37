"""Pictures that stand in shards: tars, tables (parquet, CSV, JSON lines), lists of files and URLs, object stores.

A shard is one file that holds many pictures; it is read as a stream, a chunk of a few pictures at a time, and each
picture comes as its bytes with its place in the shard. What cannot be read becomes the error of that picture, and of a
shard that breaks off its error stands in its last chunk. No model and no torch: this runs in processes that only read.

Formats: WebDataset's tars (members with one name up to the first dot are one sample), and image columns of Hugging
Face `datasets` (`{"bytes", "path"}`).
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, TypeAlias, cast

from .errors import DependencyError, ImageError, InputError, QSiTError
from .files import Stamp, look
from .packages import require
from .pixels.fetch import download, open_path, scheme, unusable
from .pixels.read import SUFFIXES

if TYPE_CHECKING:
    from typing_extensions import Self

ROWS, BYTES = 64, 16 * 2**20
"""Most pictures of one chunk, and the bytes from which it is full: what a kill loses, and what one batch takes."""

Kind: TypeAlias = Literal["tar", "parquet", "csv", "tsv", "jsonl", "pictures"]
_KINDS: Mapping[str, Kind] = {
    ".tar": "tar", ".tgz": "tar", ".tar.gz": "tar", ".tar.bz2": "tar", ".tar.xz": "tar",
    ".parquet": "parquet", ".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl",
}  # fmt: skip
_NAMES = ("image", "img", "picture", "jpg", "jpeg", "png", "webp", "bytes", "content", "url", "image_url", "path",
          "image_path", "file", "file_name", "filename")  # fmt: skip
_PER_SHARD = 256  # plain pictures that are read as one
_FETCHERS = 16
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Shard:
    """One thing that is read as a stream.

    Attributes:
        place: Path or URL of the file; empty for plain pictures.
        kind: What it is.
        stamp: Its size and time when the run began, without a hash; None where a store does not say.
        pictures: Those that stand for themselves, with `kind` "pictures".
        first: The index of the first of them.
    """

    place: str
    kind: Kind
    stamp: Stamp | None = None
    pictures: tuple[str, ...] = ()
    first: int = 0

    @property
    def weight(self) -> int:
        """What reading it costs, for progress: bytes, as far as they are known."""
        return (self.stamp.size if self.stamp else 0) or max(1, len(self.pictures))


@dataclass(frozen=True)
class Wanted:
    """What is taken of each picture of a shard.

    Attributes:
        column: Of a table: where the pictures are; None looks for it.
        keep: What rides along: columns; in a tar "key", suffixes of files with the same key, fields of its .json.
    """

    column: str | None = None
    keep: tuple[str, ...] = ()


@dataclass(frozen=True)
class Item:
    """One picture of a shard.

    Attributes:
        path: Its name in results: "shards.tar/0001.jpg", "train.parquet#17", or the path or URL itself.
        index: Its place among the pictures of the shard.
        content: The encoded picture; None with an error.
        error: Why there is none.
        stamp: Of the file that it is, or of the shard.
        kept: What rides along.
    """

    path: str
    index: int
    content: bytes | None = None
    error: QSiTError | None = None
    stamp: Stamp | None = None
    kept: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Chunk:
    """A few pictures that were read together.

    Attributes:
        shard: Where they stand.
        items: The pictures.
        share: How much of the shard was read with them, 0..1.
        rows: How many pictures the shard has; with its last chunk only, and only if it was read to its end.
        left_out: Members that are neither pictures nor taken along; with the last chunk.
        error: Why the shard could not be read to its end; with the last chunk.
    """

    shard: Shard
    items: tuple[Item, ...] = ()
    share: float = 1.0
    rows: int | None = None
    left_out: int = 0
    error: QSiTError | None = None


# ---- which shards there are


def kind_of(place: str) -> Kind | None:
    """What kind of shard a path or URL names; None for anything else.

    Example:
        >>> kind_of("s3://bucket/00000.tar"), kind_of("data/TRAIN.parquet"), kind_of("photo.jpg")
        ('tar', 'parquet', None)
    """
    name = place.split("?", maxsplit=1)[0].lower() if scheme(place) else place.lower()
    return next((kind for suffix, kind in _KINDS.items() if name.endswith(suffix)), None)


def in_store(place: str) -> bool:
    """Whether a place is in a store that fsspec reads: it has a scheme that is not the web's."""
    return (scheme(place) or "data") not in {"http", "https", "data"}


def listed(entry: str, *, recursive: bool = False) -> list[str]:
    """Name what an entry that is no plain picture stands for.

    Args:
        entry: A shard, a folder that holds shards and no pictures, or anything in an object store.
        recursive: Take folders with everything below them.

    Returns:
        Shards, and pictures of a store, sorted; nothing for what is no shard.

    Raises:
        InputError: The store does not answer.
        DependencyError: Its package is missing.
    """
    if in_store(entry):
        return _in_store(entry, recursive)
    if not scheme(entry) and os.path.isdir(entry):  # noqa: PTH112  # Path.is_dir fails on what is too long to be a name
        paths = (str(path) for path in (Path(entry).rglob if recursive else Path(entry).glob)("*"))
        return _shards_alone(paths)
    return [entry] if kind_of(entry) and (scheme(entry) or os.path.lexists(entry)) else []


def _shards_alone(paths: Iterable[str]) -> list[str]:
    """The shards of a folder, unless it holds pictures: a photo album may well have an archive in it."""
    found: list[str] = []
    for path in paths:
        if PurePosixPath(path).name.startswith((".", "_")):
            continue
        if _is_picture(path):
            return []
        if kind_of(path) in ("tar", "parquet"):  # tables of text are as likely results: those are taken by name only
            found.append(path)
    return sorted(found)


def _in_store(entry: str, recursive: bool) -> list[str]:
    system, path = _store(entry)
    try:
        if "*" in path:
            found = sorted(system.glob(path))
        elif system.isdir(path):
            found = sorted(system.find(path, maxdepth=None if recursive else 1))
            found = _shards_alone(found) or [one for one in found if _is_picture(one)]
        else:
            found = [path]
    except Exception as error:
        raise _no_store(entry, error) from error
    if not found:
        raise InputError.about("PATHS", entry, "something that is there", "Look at the spelling.")
    return [str(system.unstrip_protocol(one)) for one in found]


def _is_picture(path: str) -> bool:
    return PurePosixPath(path).suffix.lower() in SUFFIXES


def shard_of(place: str) -> Shard:
    """Look at a shard.

    Raises:
        InputError: It is not there, or no shard.
        DependencyError: A package is missing that reads it.
    """
    kind = kind_of(place)
    if kind is None:
        raise InputError.about("PATHS", place, f"a shard: {', '.join(_KINDS)}")
    if kind == "parquet":
        require("pyarrow", "shards", least="15", below="99")
    if scheme(place):
        system, path = _store(place)
        try:
            info = system.info(path)
        except Exception as error:
            raise _no_store(place, error) from error
        names = ("mtime", "LastModified", "last_modified", "updated", "etag", "ETag", "created")
        modified = next((str(info[name]) for name in names if info.get(name)), "")
        return Shard(place, kind, Stamp(int(info["size"]), modified, "") if info.get("size") else None)
    try:
        return Shard(place, kind, Stamp(*look(Path(place)), ""))
    except OSError as error:
        raise InputError.about("PATHS", place, "an existing file", f"The system says: {error.strerror}.") from error


def of_pictures(paths: Sequence[str], places: Sequence[int] | None = None) -> Iterator[Shard]:
    """Put plain pictures into shards of a few hundred, so that several readers share them.

    Args:
        paths: Paths and URLs.
        places: Their indices, if they are not 0, 1, 2 ...: ascending. A gap begins a new shard.
    """
    numbered = iter(zip(places if places is not None else range(len(paths)), paths, strict=True))
    while group := list(islice(numbered, _PER_SHARD)):
        start = 0
        for end in range(1, len(group) + 1):
            if end == len(group) or group[end][0] != group[end - 1][0] + 1:
                yield Shard("", "pictures", None, tuple(path for _, path in group[start:end]), group[start][0])
                start = end


def types_of(shard: Shard, names: Sequence[str]) -> dict[str, str]:
    """The parquet types of what rides along: a plain column keeps its own, everything else is text."""
    types: dict[str, str] = {}
    if shard.kind == "parquet":
        from pyarrow.parquet import read_schema

        with _open(shard.place) as raw:
            types = {one.name: str(one.type) for one in read_schema(raw)}
    return {name: types[name] if types.get(name) in _PLAIN else "string" for name in names}


_PLAIN = frozenset({"bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "float", "double"})


def _store(place: str) -> tuple[Any, str]:
    try:
        from fsspec.core import url_to_fs

        system, path = url_to_fs(place)
    except ImportError as error:
        raise DependencyError.about("PATHS", place, "a store whose package is installed", f"{error}.") from error
    except ValueError as error:
        raise InputError.about("PATHS", place, "a kind of address that is known", f"{error}.") from error
    return system, str(path)


def _no_store(place: str, error: Exception) -> InputError:
    return InputError.about("PATHS", place, "a store that answers", f"{type(error).__name__}: {error}.")


def _open(place: str) -> BinaryIO:
    if not scheme(place):
        return Path(place).open("rb")
    system, path = _store(place)
    return cast(BinaryIO, system.open(path, "rb"))


# ---- reading


@dataclass
class _Reading:
    """What is known while a shard is read: pictures so far, how much of it that is, members that were left out."""

    rows: int = 0
    share: float = 0.0
    left_out: int = 0


def chunks(shard: Shard, wanted: Wanted, known: bytes = b"") -> Iterator[Chunk]:
    """Read a shard.

    Args:
        shard: Which one.
        wanted: What is taken of it.
        known: A byte for each index, not zero where the picture is not wanted any more.

    Yields:
        Its pictures, `ROWS` at a time or fewer if they are large; the last chunk says how it ended. Nothing is raised.

    Example:
        >>> list(chunks(Shard("", "pictures", None, ("gone.jpg",)), Wanted()))[0].items[0].error.expected
        'an existing file'
    """

    def new(index: int) -> bool:
        return not known[index : index + 1].strip(b"\0")

    reading, batch, error = _Reading(), list[Item](), None
    try:
        size = 0
        for item in _READERS[shard.kind](shard, wanted, reading, new):
            batch.append(item)
            size += len(item.content or b"")
            if len(batch) == ROWS or size >= BYTES:
                yield Chunk(shard, tuple(batch), min(reading.share, 1.0))
                batch, size = [], 0
    except Exception as problem:  # noqa: BLE001  # the clients of stores raise what they like
        error = _broken(shard, reading, problem)
    yield Chunk(shard, tuple(batch), 1.0, None if error else reading.rows, reading.left_out, error)


def _broken(shard: Shard, reading: _Reading, problem: Exception) -> QSiTError:
    if isinstance(problem, QSiTError):
        return problem
    hint = f"After {reading.rows} pictures: {type(problem).__name__}: {problem}. Fetch or write it again."
    return InputError.about("PATHS", shard.place, "a shard that can be read to its end", hint)


_New: TypeAlias = "Callable[[int], bool]"


def _pictures(shard: Shard, wanted: Wanted, reading: _Reading, new: _New) -> Iterator[Item]:
    del wanted
    for item in _fetched(Item(path, shard.first + place) for place, path in enumerate(shard.pictures)):
        reading.rows += 1
        reading.share = reading.rows / len(shard.pictures)
        if new(item.index):
            yield item


def _fetched(items: Iterable[Item]) -> Iterator[Item]:
    """Read what paths and URLs name, several at a time, in order."""
    source = iter(items)
    with ThreadPoolExecutor(_FETCHERS, thread_name_prefix="qsit-fetch") as pool:
        pending = [pool.submit(_fetch, item) for item in islice(source, _FETCHERS)]
        while pending:
            found = pending.pop(0).result()
            pending.extend(pool.submit(_fetch, item) for item in islice(source, 1))
            yield found


def _fetch(item: Item) -> Item:
    """Read one picture from where it is; an item with bytes or an error stays as it is."""
    if item.content is not None or item.error:
        return item
    try:
        if scheme(item.path) is None:
            return _from_disk(item)
        if in_store(item.path):
            with _open(item.path) as file:
                return replace(item, content=file.read())
        return replace(item, content=download(item.path).read())
    except QSiTError as error:
        return replace(item, error=error)
    except Exception as error:  # noqa: BLE001  # as above
        return replace(item, error=unusable(item.path, "a place that answers", f"{type(error).__name__}: {error}."))


def _from_disk(item: Item) -> Item:
    with open_path(item.path) as file:
        seen, content = look(Path(item.path)), file.read()
    digest = hashlib.sha256(content).hexdigest() if len(content) == seen[0] else ""
    return replace(item, content=content, stamp=item.stamp or Stamp(*seen, digest))


# ---- tars


class _Member(tarfile.TarInfo):
    """A member; notes that the archive came to its end: for tarfile a damaged header is an end like any other."""

    @classmethod
    def fromtarfile(cls, tarfile: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(tarfile)
        except _END:
            tarfile.ended = True  # type: ignore[attr-defined]
            raise


_END: type[Exception] = tarfile.EOFHeaderError  # type: ignore[attr-defined]


def _tar(shard: Shard, wanted: Wanted, reading: _Reading, new: _New) -> Iterator[Item]:
    with _open(shard.place) as raw, tarfile.open(fileobj=raw, mode="r|*", tarinfo=_Member) as tar:
        sample = _Sample("")
        for member in _members(tar):
            reading.share = raw.tell() / shard.weight
            if not member.isfile() or PurePosixPath(member.name).name.startswith("._"):
                reading.left_out += not member.isdir()
                continue
            if (key := _key(member.name)) != sample.key or not wanted.keep:
                yield from sample.items(wanted)
                sample = _Sample(key)
            content = tar.extractfile(member)
            if _is_picture(member.name):
                if new(reading.rows) and content:
                    path = f"{shard.place}/{member.name}"
                    sample.pictures.append(Item(path, reading.rows, content.read(), stamp=shard.stamp))
                reading.rows += 1
            elif wanted.keep and content:
                sample.others[member.name.removeprefix(f"{key}.")] = content.read()
            else:
                reading.left_out += 1
        yield from sample.items(wanted)
        _at_the_end(tar)


def _members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    while (member := tar.next()) is not None:
        yield member
        tar.members.clear()  # type: ignore[attr-defined]  # else it keeps them all


def _at_the_end(tar: tarfile.TarFile) -> None:
    """Refuse an archive that has no end, or has more behind it: tarfile drops the rest without a word."""
    if not getattr(tar, "ended", False):
        raise tarfile.ReadError("it breaks off, or a header is damaged")
    file = cast(BinaryIO, tar.fileobj)
    while block := file.read(_BLOCK):
        if block.strip(b"\0"):
            raise tarfile.ReadError("more follows behind its end, as in archives that were joined with `cat`")


def _key(name: str) -> str:
    folder, slash, last = name.rpartition("/")
    return f"{folder}{slash}{last.split('.')[0]}"


@dataclass
class _Sample:
    """The files of a tar with one key: pictures, and what stands beside them."""

    key: str
    pictures: list[Item] = field(default_factory=list)
    others: dict[str, bytes] = field(default_factory=dict)

    def items(self, wanted: Wanted) -> Iterator[Item]:
        """The pictures with what rides along."""
        kept = {name: self._of(name) for name in wanted.keep} if self.pictures else {}
        return (replace(item, kept=kept) for item in self.pictures)

    def _of(self, name: str) -> Any:
        if name == "key":
            return self.key
        if name in self.others:
            return self.others[name].decode("utf-8", "replace")
        with suppress(ValueError, AttributeError):
            return json.loads(self.others.get("json", b"{}")).get(name)
        return None


# ---- tables


def _table(shard: Shard, wanted: Wanted, reading: _Reading, new: _New) -> Iterator[Item]:
    def items() -> Iterator[Item]:
        with _open(shard.place) as raw:
            for row in _ROWS[shard.kind](raw, shard, wanted, reading):
                index, reading.rows = reading.rows, reading.rows + 1
                if new(index):
                    yield _cell(shard, index, row.pop(_CELL), row)

    yield from _fetched(items())


_CELL = ""  # what the picture is called in a row; no column has that name


def _cell(shard: Shard, index: int, value: Any, kept: dict[str, Any]) -> Item:
    """A picture from a cell: bytes, Hugging Face's pair, or a path or URL."""
    item = Item(f"{shard.place}#{index}", index, stamp=shard.stamp, kept=kept)
    if isinstance(value, dict):
        if "key" in kept and kept["key"] is None:
            kept["key"] = value.get("path")
        value = value.get("bytes") or value.get("path")
    if isinstance(value, bytes):
        return replace(item, content=value)
    if isinstance(value, str) and value:
        return replace(item, path=_beside(value, shard.place))
    return replace(item, error=ImageError.about("image", f"<{shard.place}, row {index}>", "a picture in this row"))


def _beside(path: str, table: str) -> str:
    """A path as it stands; if there is no such file, the one beside the table."""
    if scheme(path) or Path(path).exists() or scheme(table):
        return path
    beside = Path(table).parent / path
    return str(beside) if beside.exists() else path


def _parquet(raw: BinaryIO, shard: Shard, wanted: Wanted, reading: _Reading) -> Iterator[dict[str, Any]]:
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

    file = ParquetFile(raw, pre_buffer=False, buffer_size=_BLOCK)
    types = {one.name: one.type for one in file.schema_arrow}

    def has_bytes(kind: Any) -> bool:
        binary = pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind)
        return bool(binary or (pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0))

    column = _column(shard, wanted, list(types), [name for name, kind in types.items() if has_bytes(kind)])
    keep = [name for name in wanted.keep if name in types]
    for batch in file.iter_batches(batch_size=ROWS, columns=list(dict.fromkeys([column, *keep]))):
        reading.share = (reading.rows + batch.num_rows) / max(1, file.metadata.num_rows)
        for row in batch.to_pylist():
            yield {**{name: row.get(name) for name in wanted.keep}, _CELL: row[column]}


def _lines(raw: BinaryIO, shard: Shard, wanted: Wanted, reading: _Reading) -> Iterator[dict[str, Any]]:
    text = io.TextIOWrapper(raw, encoding="utf-8-sig", newline="")
    rows = map(json.loads, filter(str.strip, text)) if shard.kind == "jsonl" else _csv(text, shard.kind)
    column = ""
    for row in rows:
        if not isinstance(row, dict):
            raise InputError.about("PATHS", shard.place, "a table with a JSON object in each line")
        column = column or _column(shard, wanted, list(row), [])
        reading.share = raw.tell() / shard.weight
        yield {**{name: row.get(name) for name in wanted.keep}, _CELL: row.get(column)}


def _csv(text: io.TextIOWrapper, kind: str) -> Iterator[Any]:
    return csv.DictReader(text, dialect=csv.excel_tab if kind == "tsv" else csv.excel, strict=True)


def _column(shard: Shard, wanted: Wanted, names: list[str], with_bytes: list[str]) -> str:
    """Which column holds the pictures.

    Raises:
        InputError: None, or it cannot be told; or one that was to ride along is not there.
    """
    there = f"it has {', '.join(names) or 'none'}"
    for name in wanted.keep:
        if name not in names and name != "key":
            raise InputError.about("--keep", name, f"a column of {shard.place}", f"{there[0].upper()}{there[1:]}.")
    if wanted.column:
        if wanted.column not in names:
            raise InputError.about("--column", wanted.column, f"a column of {shard.place}", f"I{there[1:]}.")
        return wanted.column
    known = [name for name in _NAMES if name in (with_bytes or names)]
    if known or len(with_bytes) == 1:
        return (known or with_bytes)[0]
    raise InputError.about("PATHS", shard.place, "a table with a column of pictures", f"--column names it; {there}.")


_Rows: TypeAlias = "Callable[[BinaryIO, Shard, Wanted, _Reading], Iterator[dict[str, Any]]]"
_ROWS: Mapping[Kind, _Rows] = {"parquet": _parquet, "csv": _lines, "tsv": _lines, "jsonl": _lines}
_Reader: TypeAlias = "Callable[[Shard, Wanted, _Reading, _New], Iterator[Item]]"
_READERS: Mapping[Kind, _Reader] = {"tar": _tar, "pictures": _pictures, **dict.fromkeys(_ROWS, _table)}
