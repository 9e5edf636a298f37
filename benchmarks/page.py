"""What a command makes, and how it is written: tables as files and on stdout, figures as PNG, all on one HTML page."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from benchmarks.output import FILES, Table, cells, conditions, markdown, right_columns, save
from benchmarks.statistics import Residual
from qsit_metric import console
from qsit_metric.console import printable
from qsit_metric.errors import ImageError
from qsit_metric.evaluation import EvaluationError
from qsit_metric.pixels import load

if TYPE_CHECKING:
    from jinja2 import Template


@dataclass(frozen=True)
class Page:
    """Tables and figures.

    Attributes:
        tables: Not yet written.
        figures: Caption -> a PNG file that is.
        furthest: Images that are furthest from what people said.
        answers: Caption -> pictures with scores and answers, as HTML.
    """

    tables: tuple[Table, ...] = ()
    figures: Mapping[str, Path] = field(default_factory=dict)
    furthest: tuple[Residual, ...] = ()
    answers: Mapping[str, str] = field(default_factory=dict)


def joined(pages: Iterable[Page]) -> Page:
    """All of several pages; tables in the order of their names, the paper's first."""
    found = Page()
    for page in pages:
        found = Page(
            (*found.tables, *page.tables), {**found.figures, **page.figures}, (*found.furthest, *page.furthest),
            {**found.answers, **page.answers},
        )  # fmt: skip
    ordered = sorted(found.tables, key=lambda table: (not table.name.startswith("table"), table.name))
    return replace(found, tables=tuple(ordered), figures=dict(sorted(found.figures.items())))


def write(page: Page, output: Path, *, shown: bool = True) -> None:
    """Write the tables, and say where they and the figures are.

    Args:
        page: What is written.
        output: Folder; is made if it is not there.
        shown: Whether the tables are printed, too.

    Raises:
        EvaluationError: A file cannot be written.
    """
    for table in page.tables:
        paths = save(table, output)
        if shown:
            console.out().print(markdown(table), markup=False)
        console.say(f"written: {', '.join(str(path) for path in paths)}")
    for path in page.figures.values():
        console.say(f"written: {path}")


def write_html(page: Page, path: Path, title: str) -> None:
    """Write all on one page that needs no other file.

    Raises:
        EvaluationError: The file cannot be written.
    """
    FILES.write(path, report(page.tables, page.figures, page.furthest, title, answers=page.answers))
    console.say(f"written: {path}")


_TEMPLATES = Path(__file__).resolve().parent / "templates"
_OURS = ("measured", "counted")  # rows that stand out among the paper's
SIDE = 160
"""Longest side of a small picture, in pixels."""

_QUALITY = 80
_KINDS = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg"}


def report(
    tables: Sequence[Table],
    figures: Mapping[str, Path | bytes],
    furthest: Sequence[Residual] = (),
    title: str = "Benchmarks",
    *,
    answers: Mapping[str, str] | None = None,
) -> str:
    """Write the page.

    Args:
        tables: In the order of the page; their names must differ.
        figures: Caption -> a PNG or JPEG file, or its content.
        furthest: Images for the last part, as `benchmarks.statistics.furthest` finds them; one that cannot be read
            keeps its place, with the reason in it.
        title: Of the page.
        answers: Caption -> HTML of `benchmarks.artefacts.fig6.fragment`, which stands in place of the figure of that
            caption: text can be read aloud and copied.

    Returns:
        HTML. Columns sort by their headings: numbers as numbers, empty cells last. Equal arguments give equal pages.

    Raises:
        EvaluationError: Two tables of one name, or a figure that is not there or neither PNG nor JPEG.

    Example:
        >>> page = report([Table("t", "T", ("model",), ({"model": "<b>"},))], {})
        >>> "&lt;b&gt;" in page, "<b>" in page
        (True, False)
    """
    names = [table.name for table in tables]
    if len(set(names)) != len(names):
        raise EvaluationError.about("tables", names, "tables of different names")
    from markupsafe import Markup

    said = answers or {}
    drawn = {caption: given for caption, given in figures.items() if caption not in said}
    return _template().render(
        title=title,
        tables=[_table(table) for table in tables],
        figures=[{"caption": caption, "source": _figure(caption, given)} for caption, given in drawn.items()],
        answers=[{"caption": caption, "html": Markup(text)} for caption, text in said.items()],
        furthest=[_card(one) for one in furthest],
    )


def _template() -> Template:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    place = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    return place.get_template("report.html")


def _table(table: Table) -> dict[str, Any]:
    numeric = right_columns(table)
    return {
        "name": table.name, "title": table.title, "notes": table.notes, "made": conditions(table),
        "columns": list(zip(table.columns, numeric, strict=True)),
        "rows": [
            (row.get("source") in _OURS, list(zip(cells(table, row), _sort_keys(table, row), numeric, strict=True)))
            for row in table.rows
        ],
    }  # fmt: skip


def _sort_keys(table: Table, row: Mapping[str, object]) -> list[str | None]:
    """What each cell is sorted by: every digit of a number, the text of the others, None for an empty cell."""
    return [_sort_key(row[name]) for name in table.columns]


def _sort_key(value: object) -> str | None:
    if value is None or value == "":
        return None
    return repr(value) if isinstance(value, (int, float)) else printable(str(value))


def _figure(caption: str, given: Path | bytes) -> str:
    try:
        content = given if isinstance(given, bytes) else given.read_bytes()
    except OSError as error:
        hint = f"The system says: {error.strerror or error}."
        raise EvaluationError.about(f"figures: {caption}", str(given), "a readable file", hint) from error
    return _data_uri(content, caption)


def _data_uri(content: bytes, caption: str) -> str:
    kind = next((kind for head, kind in _KINDS.items() if content.startswith(head)), None)
    if kind is None:
        raise EvaluationError.about(f"figures: {caption}", f"<{len(content)} bytes>", "a PNG or JPEG file")
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _card(one: Residual) -> dict[str, Any]:
    card: dict[str, Any] = {
        "name": printable(one.image), "set": one.set, "mos": f"{one.mos:.2f}", "score": f"{one.score:.2f}",
        "residual": f"{one.residual:+.2f}", "source": "", "reason": "",
    }  # fmt: skip
    try:
        return card | {"source": _data_uri(thumbnail(one.path), one.image)}
    except ImageError as error:
        return card | {"reason": printable(str(error))}
    except OSError as error:
        return card | {"reason": f"The file cannot be opened: {error.strerror}."}


def thumbnail(path: Path) -> bytes:
    """A small JPEG of an image as the model saw it: without the EXIF orientation, and without any words in the file.

    Returns:
        A JPEG of at most `SIDE` x `SIDE` pixels.

    Raises:
        OSError: There is no such file, or it cannot be opened.
        ImageError: It is no picture, or a damaged one.
    """
    # The content and not the path, which no message should carry into a page that others read.
    picture = load(path.read_bytes(), exif=False).pixels
    if not isinstance(picture, Image.Image):
        raise ImageError.about("path", "<a tensor>", "a picture file")
    small = picture.copy()
    small.thumbnail((SIDE, SIDE))
    small.info.clear()  # comments and profiles would be written along
    file = io.BytesIO()
    small.save(file, format="JPEG", quality=_QUALITY)
    return file.getvalue()
