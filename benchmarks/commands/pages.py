"""What a command makes, and how it is written: tables as files and on stdout, figures as PNG, all on one HTML page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks.output import Table, markdown, save
from benchmarks.worst import Worst
from qsit_metric import console
from qsit_metric.evaluation.files import write_atomic


@dataclass(frozen=True)
class Page:
    """Tables and figures.

    Attributes:
        tables: Not yet written.
        figures: Caption -> a PNG file that is.
        worst: Images that are furthest from what people said.
        answers: Caption -> pictures with scores and answers, as HTML.
    """

    tables: tuple[Table, ...] = ()
    figures: Mapping[str, Path] = field(default_factory=dict)
    worst: tuple[Worst, ...] = ()
    answers: Mapping[str, str] = field(default_factory=dict)


def joined(pages: Iterable[Page]) -> Page:
    """All of several pages; tables in the order of their names, the paper's first."""
    found = Page()
    for page in pages:
        found = Page(
            (*found.tables, *page.tables), {**found.figures, **page.figures}, (*found.worst, *page.worst),
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
    from benchmarks.html import report

    write_atomic(path, report(page.tables, page.figures, page.worst, title, answers=page.answers))
    console.say(f"written: {path}")
