"""`qsit score`: a stream of pictures into a table, CSV or JSON lines, and into a file that a later run goes on with."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.text import Text

from .. import console
from ..errors import InputError, QSiTError
from ..files import Stamp, look
from .command import BELOW, FAILED, INTERRUPTED, about, options_of
from .inputs import expand, key
from .options import ModelOptions, Paths, Recursive, TrustNames
from .scores import FORMATS, Format, Record, ScoreFile, is_same, provenance, take_stamp

if TYPE_CHECKING:
    from ..metric import QSiT
    from ..results import Score

_STYLES = {"bad": "red", "poor": "red", "fair": "yellow", "good": "green", "excellent": "green"}


def score(
    ctx: typer.Context,
    *,
    paths: Paths,
    recursive: Recursive = False,
    shown: Annotated[
        Literal["table", "csv", "jsonl"] | None,
        typer.Option("--format", help="What stdout gets (default: table on a terminal, else csv)."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format jsonl.")] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Append to a .csv or .jsonl file. Pictures that are in it are not scored again, unless they were "
            "replaced, so a run that was stopped goes on where it was. Stdout then gets only what --format asks for.",
        ),
    ] = None,
    trust_names: TrustNames = False,
    sort: Annotated[
        Literal["score", "path", "none"], typer.Option("--sort", help="Order of the table; by score means best first.")
    ] = "none",
    fail_under: Annotated[
        float | None, typer.Option("--fail-under", metavar="X", help="Exit with 3 if a score is below X.")
    ] = None,
) -> int:
    """Score pictures from 1 (bad) to 5 (excellent).

    The table shows the expected score, the most probable level, and the
    probability of each level, worst first, as small columns.
    """
    form = shown_format(shown, as_json, output)
    if sort != "none" and form != "table":
        raise InputError.about("--sort", sort, "a table to sort", "Add --format table.")
    options = options_of(ctx, ModelOptions)
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(ScoreFile(output)) if output else None
        pictures = expand(paths, recursive=recursive)
        metric = options.load()
        run = _Run(provenance(metric, exif=not options.no_exif), form, file)
        run.score(metric, pictures, trust_names)
    run.report(len(pictures), output, sort, fail_under)
    return run.code(fail_under)


def shown_format(chosen: str | None, as_json: bool, output: Path | None) -> str | None:
    """Decide what goes to stdout: what was asked for; else a table for a person, CSV for a program.

    Where the scores go into a file, stdout stays empty unless something was asked for.

    Raises:
        InputError: Two different formats.
    """
    if as_json and chosen not in (None, "jsonl"):
        raise InputError.about("--format", chosen, "nothing else together with --json")
    if as_json or chosen:
        return chosen or "jsonl"
    if output:
        return None
    return "table" if console.watched(sys.stdout) else "csv"


class _Run:
    """What came of it so far, and where it goes: each result leaves at once."""

    def __init__(self, made: Mapping[str, Any], shown: str | None, file: ScoreFile | None) -> None:
        self.records: list[Record] = []
        self.failures: list[tuple[str, QSiTError]] = []
        self.kept = self.added = self.replaced = 0
        self.interrupted = False
        self._made, self._shown, self._file = made, shown, file
        form = FORMATS.get(shown or "")
        self._stream: Format | None = form() if form else None

    def score(self, metric: QSiT, paths: Sequence[str], trust_names: bool) -> None:
        """Show what the result file has, and score the rest."""
        levels = level_names(metric)
        if self._file:
            self._file.begin(self._made, levels)
        if self._stream:
            console.write(self._stream.header(levels))
        try:
            todo = self._known([key(path) for path in paths] if self._file else paths, trust_names)
            self._fresh(metric, todo)
        except KeyboardInterrupt:
            self.interrupted = True

    def _known(self, paths: Sequence[str], trust_names: bool) -> list[str]:
        """Show the scores that the result file has already; gives the other pictures."""
        done, todo = self._file.done if self._file else {}, []
        for path in paths:
            record = done.get(key(path))
            if record is not None and (trust_names or is_same(path, record.stamp)):
                self.kept += 1
                self._show(record)
            else:
                self.replaced += record is not None
                todo.append(path)
        return todo

    def _fresh(self, metric: QSiT, paths: Sequence[str]) -> None:
        # Lines on a terminal would be torn apart by a bar.
        quiet = self._stream is not None and console.watched(sys.stdout)
        stamps: dict[str, Future[Stamp | None]] = {}
        with (
            ThreadPoolExecutor(1) as pool,
            console.progress("Scoring", len(paths), unit="images", quiet=quiet) as move,
        ):
            fed = self._fed(paths, stamps, pool)
            results = metric.score_iter(fed, exif=bool(self._made["exif"]), errors="return")
            for path, result in zip(paths, results, strict=True):
                stamp = stamps.pop(path, None)
                self._keep(path, result, stamp.result() if stamp else None)
                move(None, None)

    def _fed(
        self, paths: Sequence[str], stamps: dict[str, Future[Stamp | None]], pool: ThreadPoolExecutor
    ) -> Iterator[str]:
        """Hand the pictures over. The next one is asked for when the batch before has been taken: time to save it."""
        for path in paths:
            if self._file:
                self._file.sync()
            if self._file or self._stream:
                # Looked at before it is read: if it changes meanwhile, the stamp will not hold and it is scored again.
                with contextlib.suppress(OSError, ValueError):
                    stamps[path] = pool.submit(take_stamp, path, look(Path(path)))
            yield path

    def _keep(self, path: str, result: Score | QSiTError, stamp: Stamp | None) -> None:
        """Take a result of this run. Failures are not written down, so a later run tries them again."""
        if isinstance(result, QSiTError):
            self.failures.append((path, result))
            return
        record = Record.of(path, result, stamp)
        if self._file:
            self._file.add(record)
        self.added += 1
        self._show(record)

    def _show(self, record: Record) -> None:
        self.records.append(record)
        if self._stream:
            console.write(self._stream.line(record, self._made))

    def report(self, total: int, output: Path | None, sort: str, fail_under: float | None) -> None:
        """Say what came of it: the table, the sum of it, what failed and how to go on."""
        line = summary(self.records, len(self.failures))
        if self._shown == "table":
            show(ordered(self.records, sort))
            console.out().print(Text(line), soft_wrap=True)
        elif output or console.watched(sys.stderr):
            console.say(line)
        if output:
            counts = f"{self.added} added, {self.kept} were there already"
            again = f"; {self.replaced} of a picture that was replaced" if self.replaced else ""
            console.say(f"{console.printable(str(output))}: {counts}{again}")
        for path, error in self.failures:
            console.say(f"failed: {about(path, error)}", "red")
        if below := self._below(fail_under):
            console.say(f"{below} of {len(self.records)} scores are below {fail_under:g}", "red")
        if self.interrupted:
            how = "Run the same command again to go on." if output else "With --output FILE a later run could go on."
            console.say(f"Stopped after {len(self.records) + len(self.failures)} of {total} pictures. {how}")

    def code(self, fail_under: float | None) -> int:
        """The exit code."""
        if self.interrupted:
            return INTERRUPTED
        if self.failures:
            return FAILED
        return BELOW if self._below(fail_under) else 0

    def _below(self, limit: float | None) -> int:
        # Rounded as in CSV files, so that a resumed run decides as the first would have; a NaN is below everything.
        return 0 if limit is None else sum(not round(record.score, 4) >= limit for record in self.records)


def level_names(metric: QSiT) -> tuple[str, ...]:
    """How the model's levels are called, worst first."""
    from .. import results

    return results.level_names(metric.recipe.words)


def show(records: Sequence[Record]) -> None:
    """Print one row per picture on stdout."""
    ascii_only = console.out().options.ascii_only
    levels = list(records[0].probs) if records else ["worst", "best"]
    notes = ["note"] if any(record.note for record in records) else []
    bars = [f"{levels[0]}-{levels[-1]}"] if levels else []  # none for scores that a model wrote
    columns = ["path", ">score", "level", *bars, *notes]
    rows = (_row(record, ascii_only, bool(bars))[: len(columns)] for record in records)
    console.out().print(console.table(columns, rows, folded=("path", "note")))


def _row(record: Record, ascii_only: bool, with_bars: bool) -> list[object]:
    style = _STYLES.get(record.level, "")
    bars = [console.bars(list(record.probs.values()), ascii_only=ascii_only)] if with_bars else []
    score = Text(f"{record.score:.2f}", style="bold")
    level = Text(record.level, style=style)
    return [record.path, score, level, *(Text(bar, style=style) for bar in bars), record.note or ""]


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
