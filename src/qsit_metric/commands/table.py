"""Scores as a table for people."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from rich.text import Text

from .. import console
from .records import Record

_STYLES = {"bad": "red", "poor": "red", "fair": "yellow", "good": "green", "excellent": "green"}


def show(records: Sequence[Record]) -> None:
    """Print one row per picture on stdout."""
    ascii_only = console.out().options.ascii_only
    levels = list(records[0].probs) if records else ["worst", "best"]
    notes = ["note"] if any(record.note for record in records) else []
    columns = ["path", ">score", "level", f"{levels[0]}-{levels[-1]}", *notes]
    rows = (_row(record, ascii_only)[: len(columns)] for record in records)
    console.out().print(console.table(columns, rows, folded=("path", "note")))


def _row(record: Record, ascii_only: bool) -> list[object]:
    style = _STYLES.get(record.level, "")
    bars = console.bars(list(record.probs.values()), ascii_only=ascii_only)
    score = Text(f"{record.score:.2f}", style="bold")
    return [record.path, score, Text(record.level, style=style), Text(bars, style=style), record.note or ""]


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
    ends = f"min {low.score:.2f} ({console.printable(low.path)}), max {high.score:.2f} ({console.printable(high.path)})"
    return f"{count}: mean {fmean(record.score for record in records):.2f}, {ends}{lost}"
