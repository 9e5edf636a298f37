"""A page of scores to look at: one HTML file with a script of its own, which works without a network.

Its parts lie in `page/`: a template, a style and a script that draws only those rows that are seen. Small pictures
stand in the page up to `INLINED` bytes; if they are more, all of them lie in a folder beside it.
"""

from __future__ import annotations

import base64
import io
import itertools
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from .. import console
from ..errors import OutputError, QSiTError
from ..files import Files, new_folder
from .inputs import is_url, key
from .scores import Record, is_same

if TYPE_CHECKING:
    from ..metric import QSiT

INLINED = 24_000_000
"""Bytes of small pictures and maps that stand in the page itself."""

_PARTS = Path(__file__).parent / "page"
_FILES = Files(OutputError, "--report")
_SIDE, _QUALITY, _MAP_WIDTH = 176, 78, 900
_MARK = "<!-- a page of qsit score -->"
_WORKERS = 4  # threads that read pictures; Pillow lets go of the interpreter while it decodes

Small = bytes | str
"""A JPEG, or the reason why there is none."""


@dataclass(frozen=True)
class Content:
    """What the page shows.

    Attributes:
        title: Its heading.
        records: The scores; their levels agree.
        failed: Pictures that have none, with the reason, a line each.
        made: What made the scores, as plain fields.
        maps: How many of the worst get a quality map.
    """

    title: str
    records: Sequence[Record]
    failed: Sequence[str]
    made: Mapping[str, Any]
    maps: int = 0


def check(path: Path) -> None:
    """Refuse a place that the page cannot have, before anything is computed.

    Raises:
        OutputError: Another suffix, no such folder, or something else is there, also in the folder of its pictures.
    """
    if path.suffix.lower() not in (".html", ".htm"):
        raise OutputError.about("--report", str(path), "a name that ends in .html")
    if not path.parent.is_dir():
        raise OutputError.about("--report", str(path), "a file in a folder that exists")
    if path.exists() and not (path.is_file() and _MARK in _FILES.text(path)[:200]):
        raise OutputError.about("--report", str(path), "a new file, or a page of an earlier run", "Use another name.")
    beside = folder(path)
    ours = not beside.exists() or (beside.is_dir() and all(re.fullmatch(r"\d+\.jpg", p.name) for p in beside.iterdir()))
    if not ours:
        raise OutputError.about("--report", str(beside), "no other folder of this name, for small pictures")


def folder(path: Path) -> Path:
    """Where the small pictures lie that are too many for the page."""
    return path.with_name(f"{path.stem}_files")


def write(path: Path, content: Content, metric: Callable[[], QSiT], *, limit: int = INLINED) -> str:
    """Write the page, and the folder beside it where one is needed.

    Args:
        path: The .html file.
        content: What it shows.
        metric: Gives the model; called if there are maps to make.
        limit: Bytes of pictures that stand in the page.

    Returns:
        What was written, in words.

    Raises:
        OutputError: It cannot be written.
    """
    check(path)
    exif = str(content.made.get("exif")) == "True"
    worst = sorted(content.records, key=lambda record: record.worth)[: content.maps]
    small = itertools.chain(_thumbnails(content.records, exif), _maps(worst, metric, exif))
    places, total, beside = _placed(small, path, len(content.records) + len(worst), limit)
    _FILES.write(path, page(content, places, worst, path.parent))
    where = f"in {folder(path)}, {console.size(total)}" if beside else f"in the page, {console.size(total)}"
    return f"{path}: {len(content.records)} pictures, {len(worst)} maps; small pictures {where}"


def page(content: Content, small: Sequence[tuple[str, str]], worst: Sequence[Record], home: Path) -> str:
    """Put the page together. Equal arguments give equal pages.

    Args:
        content: What it shows.
        small: (source, reason) for each record and then for each map; one of both is empty.
        worst: The records that have maps.
        home: The folder of the page, from which links go.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    levels = list(content.records[0].probs) if content.records else ["bad", "excellent"]
    names = _names([record.path for record in content.records])
    rows = [
        _row(record, name, one, levels, home)
        for record, name, one in zip(content.records, names, small[: len(names)], strict=True)
    ]
    shown = dict(zip((record.path for record in content.records), names, strict=True))
    maps = [
        {"name": console.printable(shown[record.path]), "score": f"{record.score:.2f}", "source": source, "reason": why}
        for record, (source, why) in zip(worst, small[len(names) :], strict=True)
    ]
    place = Environment(
        loader=FileSystemLoader(_PARTS), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    data = json.dumps({"levels": levels, "rows": rows}, separators=(",", ":")).replace("<", "\\u003c")
    style, script = (Markup((_PARTS / name).read_text(encoding="utf-8")) for name in ("report.css", "report.js"))
    made = ", ".join(f"{name} {value}" for name, value in content.made.items() if value not in (None, ""))
    return place.get_template("report.html").render(
        title=content.title, levels=levels, maps=maps, failed=content.failed, made=f"Made with {made}.",
        data=Markup(data), style=style, script=script,
    )  # fmt: skip


def _row(record: Record, name: str, small: tuple[str, str], levels: Sequence[str], home: Path) -> list[Any]:
    """As `report.js` reads it."""
    level = levels.index(record.level) if record.level in levels else 0
    probs = [_number(record.probs[name]) for name in levels]
    return [
        console.printable(name), _link(record.path, home), _number(record.score), level, probs, *small,
        console.printable(record.note or ""),
    ]  # fmt: skip


def _number(value: float) -> float | None:
    """JSON has no form for what is no number."""
    return round(value, 4) if value == value else None  # noqa: PLR0124


def _names(paths: Sequence[str]) -> list[str]:
    """Paths below the folder that all files share, with slashes; URLs as they are."""
    files = [Path(key(path)) for path in paths if not is_url(path)]
    try:
        shared = Path(os.path.commonpath([one.parent for one in files])) if files else Path()
    except ValueError:  # several drives
        shared = Path()
    return [path if is_url(path) else PurePosixPath(_below(Path(key(path)), shared)).as_posix() for path in paths]


def _below(path: Path, shared: Path) -> str:
    return path.relative_to(shared).as_posix() if path.is_relative_to(shared) else path.as_posix()


def _link(path: str, home: Path) -> str:
    """Where a click goes: the URL, or the file, from the folder of the page where that can be said."""
    if is_url(path):
        return path if path.lower().startswith(("http://", "https://")) else ""
    whole = Path(key(path))
    try:
        relative = Path(os.path.relpath(whole, Path(key(str(home))))).as_posix()
    except ValueError:  # another drive
        return whole.as_uri()
    # "./": a first part with a colon would be taken for a scheme.
    return "./" + quote(os.fsencode(relative))


# ---- small pictures


def _thumbnails(records: Sequence[Record], exif: bool) -> Iterator[Small]:
    """A small picture of each, read in threads, a few ahead."""
    with ThreadPoolExecutor(_WORKERS) as pool, console.progress("Small pictures", len(records)) as move:
        for group in _grouped(records, 16 * _WORKERS):
            for small in pool.map(lambda record: _thumbnail(record, exif), group):
                yield small
                move(None, None)


def _grouped(records: Sequence[Record], size: int) -> Iterable[Sequence[Record]]:
    return (records[start : start + size] for start in range(0, len(records), size))


def _thumbnail(record: Record, exif: bool) -> Small:
    from ..pixels import load

    try:
        if not is_same(record.path, record.stamp):
            return "replaced since it was scored"
        return _jpeg(load(record.path, exif=exif).pixels, (_SIDE, _SIDE))
    except (QSiTError, OSError) as error:
        reason = error.reason if isinstance(error, QSiTError) else str(error)
        return console.printable(reason.split(". ")[0])


def _jpeg(picture: Any, size: tuple[int, int]) -> bytes:
    """A small JPEG, without any words that the file carries."""
    small = picture.copy()
    small.thumbnail(size)
    small.info.clear()
    file = io.BytesIO()
    small.convert("RGB").save(file, "JPEG", quality=_QUALITY)
    return file.getvalue()


def _maps(worst: Sequence[Record], metric: Callable[[], QSiT], exif: bool) -> Iterator[Small]:
    """The quality map of each."""
    if not worst:
        return
    model = metric()
    for record in console.track(worst, "Quality maps"):
        try:
            yield _jpeg(model.map(record.path, exif=exif).overlay(), (_MAP_WIDTH, _MAP_WIDTH))
        except QSiTError as error:  # noqa: PERF203
            yield console.printable(error.reason)


def _placed(small: Iterable[Small], path: Path, count: int, limit: int) -> tuple[list[tuple[str, str]], int, bool]:
    """(source, reason) of each, their bytes, and whether they lie in a folder beside the page."""
    held: list[Small] = []
    total, source = 0, iter(small)
    for one in source:
        held.append(one)
        total += len(one) if isinstance(one, bytes) else 0
        if total > limit:
            return _in_folder(itertools.chain(held, source), path, count)
    return [("", one) if isinstance(one, str) else (_inlined(one), "") for one in held], total, False


def _inlined(jpeg: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode('ascii')}"


def _in_folder(small: Iterable[Small], path: Path, count: int) -> tuple[list[tuple[str, str]], int, bool]:
    places: list[tuple[str, str]] = []
    target, digits, total = folder(path), len(str(count)), 0
    with _FILES.saving(target), new_folder(target) as work:
        for number, one in enumerate(small):
            if isinstance(one, str):
                places.append(("", one))
                continue
            name = f"{number:0{digits}d}.jpg"
            (work / name).write_bytes(one)
            total += len(one)
            places.append((f"./{quote(target.name)}/{name}", ""))
    return places, total, True
