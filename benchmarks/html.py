"""All tables, figures and the worst-predicted images as one HTML page that needs no network and no other file.

The page is `templates/report.html`; Jinja escapes whatever is put into it.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.output import Table, cells, conditions, right_columns
from benchmarks.worst import Worst, thumbnail
from qsit_metric.console import printable
from qsit_metric.errors import ImageError
from qsit_metric.evaluation import EvaluationError

if TYPE_CHECKING:
    from jinja2 import Template

_TEMPLATES = Path(__file__).resolve().parent / "templates"
_OURS = ("measured", "counted")  # rows that stand out among the paper's
_KINDS = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg"}


def report(
    tables: Sequence[Table],
    figures: Mapping[str, Path | bytes],
    worst: Sequence[Worst] = (),
    title: str = "Benchmarks",
    *,
    answers: Mapping[str, str] | None = None,
) -> str:
    """Write the page.

    Args:
        tables: In the order of the page; their names must differ.
        figures: Caption -> a PNG or JPEG file, or its content.
        worst: Images for the last part, as `benchmarks.worst.worst` finds them; one that cannot be read keeps its
            place, with the reason in it.
        title: Of the page.
        answers: Caption -> HTML of `benchmarks.figures.answers.fragment`, which stands in place of the figure of that
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
        worst=[_card(one) for one in worst],
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


def _card(one: Worst) -> dict[str, Any]:
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
