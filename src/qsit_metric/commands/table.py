"""Scores as a table for people."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from . import terminal
from .records import Record

_STYLES = {"bad": "red", "poor": "red", "fair": "yellow", "good": "green", "excellent": "green"}


def show(records: Sequence[Record]) -> None:
    """Print one row per picture on stdout."""
    console = terminal.out()
    ascii_only = console.options.ascii_only
    levels = list(records[0].probs) if records else ["worst", "best"]
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("path", overflow="fold")
    table.add_column("score", justify="right", no_wrap=True)
    table.add_column("level", no_wrap=True)
    table.add_column(f"{levels[0]}-{levels[-1]}", no_wrap=True)
    if any(record.note for record in records):
        table.add_column("note", overflow="fold")
    for record in records:
        table.add_row(*_row(record, ascii_only, len(table.columns)))
    console.print(table)


def _row(record: Record, ascii_only: bool, columns: int) -> list[Text]:
    style = _STYLES.get(record.level, "")
    cells = (
        Text(terminal.printable(record.path)),
        Text(f"{record.score:.2f}", style="bold"),
        Text(record.level, style=style),
        Text(terminal.bars(list(record.probs.values()), ascii_only=ascii_only), style=style),
        Text(record.note or ""),
    )
    return list(cells[:columns])


def ordered(records: Sequence[Record], by: str) -> list[Record]:
    """Sort for the table: best score first, or by path; "none" keeps the order."""
    if by == "score":
        return sorted(records, key=lambda record: (-record.score, record.path))
    return sorted(records, key=lambda record: record.path) if by == "path" else list(records)


def summary(records: Sequence[Record], failed: int) -> str:
    """All of it in one line.

    Example:
        >>> summary([Record("a.png", 2.0, 0.25, "poor", {}), Record("b.png", 4.0, 0.75, "good", {})], 1)
        '2 pictures scored: mean 3.00, min 2.00 (a.png), max 4.00 (b.png); 1 failed'
    """
    lost = f"; {failed} failed" if failed else ""
    count = f"{len(records)} picture{'' if len(records) == 1 else 's'} scored"
    if len(records) < 2:
        return count + lost
    low, high = (choose(records, key=lambda record: record.score) for choose in (min, max))
    ends = (
        f"min {low.score:.2f} ({terminal.printable(low.path)}), max {high.score:.2f} ({terminal.printable(high.path)})"
    )
    return f"{count}: mean {fmean(record.score for record in records):.2f}, {ends}{lost}"
