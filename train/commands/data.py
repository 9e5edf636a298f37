"""`python -m train data`: freeze training data, and show what was frozen. Thin shell."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from qsit_metric import console
from qsit_metric.evaluation.errors import counted
from qsit_metric.levels import LEVELS

from ..data.building import freeze_recipe
from ..data.freezing import Frozen
from ..mixture import SETS

_SHORT = 12


def freeze_command(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="Data recipe, for example data-own.yaml.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Folder to write.")],
    drop_refused: Annotated[
        bool, typer.Option("--drop-refused", help="Leave rows out that cannot be used, and list them in refused.jsonl.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a frozen folder that is already there.")] = False,
    check_images: Annotated[
        bool, typer.Option("--check-images/--no-check-images", help="Refuse rows whose image file is missing.")
    ] = True,
    decode: Annotated[
        bool,
        typer.Option(
            "--decode/--no-decode", help="Decode every picture once, and refuse rows whose picture is broken."
        ),
    ] = True,
) -> None:
    """Read, clean and split training data, and freeze it to a folder with hashes."""
    frozen = freeze_recipe(
        recipe,
        output,
        drop_refused=drop_refused,
        force=force,
        check_images=check_images,
        decode=decode,
        say=console.say,
    )
    _show(frozen)


def show_command(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A folder that `data freeze` wrote.")],
) -> None:
    """Verify a frozen folder and show its counts, levels, sources, hashes, and what was cleaned out."""
    _show(Frozen.load(folder))


def _show(frozen: Frozen) -> None:
    record = frozen.record
    console.out().print(_files(record))
    console.out().print(_levels(record["report"]))
    console.out().print(_cleaned(record["report"]))
    refused, removed = (counted(record[name]["rows"], "row") for name in ("refused", "removed"))
    console.out().print(Text(f"digest {frozen.digest}; {refused} refused; {removed} cleaned out"))


def _files(record: Mapping[str, Any]) -> Table:
    table = _table("set", "rows", "sources", "sha256", "images")
    report = record["report"]
    for name, entry in {**record["sets"], **record["validation"]}.items():
        counts = report.get(name if name in SETS else "validation", {})
        sources = "" if name == "questions" else _listed(counts.get("sources", {}))
        _add(table, name, entry["rows"], sources, entry["sha256"][:_SHORT], entry["images"] or "")
    return table


def _levels(report: Mapping[str, Any]) -> Table:
    table = _table("level", "d1", "validation")
    columns = [report.get(name, {}).get("levels", {}) for name in ("d1", "validation")]
    for level in LEVELS:
        _add(table, level, *(counts.get(level, 0) for counts in columns))
    return table


def _cleaned(report: Mapping[str, Any]) -> Table:
    table = _table("set", "cleaned out", "why", "same folders")
    for name in SETS:
        counts = report.get(name, {})
        _add(
            table,
            name,
            counts.get("removed", 0),
            _listed(counts.get("reasons", {})),
            _listed(counts.get("folders", {})),
        )
    return table


def _table(*columns: str) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in columns:
        numeric = column in ("rows", "d1", "validation", "cleaned out")
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    return table


def _add(table: Table, *cells: object) -> None:
    table.add_row(*(Text(console.printable(str(cell))) for cell in cells))


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name or '(none)'} {count}" for name, count in counts.items())
