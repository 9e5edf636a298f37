"""`qsit score`: a stream of pictures into a table, CSV or JSON lines, and into a file that a later run goes on with."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from ..errors import InputError, QSiTError, shorten
from . import table, terminal
from .frame import BELOW, FAILED, INTERRUPTED, one_line
from .inputs import expand, key
from .options import ModelOptions
from .records import FORMATS, Record
from .resultfile import ResultFile

if TYPE_CHECKING:
    from ..metric import QSiT


@dataclass(frozen=True)
class Wish:
    """What `qsit score` was asked for.

    Attributes:
        paths: As written on the command line.
        recursive: Look into folders of folders.
        shown: "table", "csv" or "jsonl" on stdout, or None for nothing there.
        output: The result file, or None.
        sort: Order of the table: "score", "path" or "none".
        fail_under: A score below this makes the exit code 3.
    """

    paths: Sequence[str]
    recursive: bool
    shown: str | None
    output: Path | None
    sort: str
    fail_under: float | None


@dataclass
class _Run:
    """What came of it so far."""

    total: int
    records: list[Record] = field(default_factory=list)
    failures: list[tuple[str, QSiTError]] = field(default_factory=list)
    known: int = 0
    interrupted: bool = False


def shown_format(chosen: str | None, as_json: bool, output: Path | None) -> str | None:
    """Decide what goes to stdout: what was asked for; else a table for a person, CSV for a program, nothing beside a file.

    Raises:
        InputError: Two different formats.
    """
    if as_json and chosen not in (None, "jsonl"):
        raise InputError.about("--format", chosen, "nothing else together with --json")
    if as_json or chosen:
        return chosen or "jsonl"
    if output:
        return None
    return "table" if terminal.out().is_terminal else "csv"


def score(wish: Wish, options: ModelOptions) -> int:
    """Score what was asked for.

    Returns:
        The exit code.
    """
    if wish.sort != "none" and wish.shown != "table":
        raise InputError.about("--sort", wish.sort, "a table to sort", "Add --format table.")
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(ResultFile(wish.output)) if wish.output else None
        paths = expand(wish.paths, recursive=wish.recursive)
        metric = options.load()
        made = provenance(metric, exif=not options.no_exif)
        if file:
            file.begin(made, _levels(metric))
        run = _scored(metric, paths, made, wish, file)
    _report(run, wish)
    return _code(run, wish)


def provenance(metric: QSiT, *, exif: bool) -> dict[str, Any]:
    """What made a score, for result files."""
    names = ("model", "repo", "revision", "recipe", "dtype")
    return {**{name: metric.info[name] for name in names}, "exif": exif, "qsit_metric": metric.info["qsit_metric"]}


def _levels(metric: QSiT) -> tuple[str, ...]:
    from ..results import level_names

    return level_names(metric.recipe.words)


def _scored(
    metric: QSiT, paths: Sequence[str], made: Mapping[str, Any], wish: Wish, file: ResultFile | None
) -> _Run:
    """Score what the file does not have yet; every result goes out at once."""
    done = file.done if file else {}
    todo = [path for path in paths if key(path) not in done]
    run = _Run(len(paths), known=len(paths) - len(todo))
    stream = FORMATS.get(wish.shown or "")
    if stream:
        terminal.write(stream.header(_levels(metric)))
    with contextlib.suppress(_Stop), _progress(len(todo), quiet=stream is not None) as advance:
        for record in (done[key(path)] for path in paths if key(path) in done):
            _take(run, record, stream.line(record, made) if stream else "", None)
        try:
            results = metric.score_iter(_fed(todo, file), exif=bool(made["exif"]), errors="return")
            for path, result in zip(todo, results, strict=True):
                if isinstance(result, QSiTError):
                    run.failures.append((path, result))
                else:
                    record = Record.of(path, result)
                    _take(run, record, stream.line(record, made) if stream else "", file)
                advance()
        except KeyboardInterrupt:
            run.interrupted = True
    return run
