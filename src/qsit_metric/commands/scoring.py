"""`qsit score`: a stream of pictures into a table, CSV or JSON lines, and into a file that a later run goes on with."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text

from .. import console
from ..errors import InputError, QSiTError
from . import table
from .frame import BELOW, FAILED, INTERRUPTED, about
from .inputs import expand, key
from .options import ModelOptions
from .records import FORMATS, Format, Record
from .resultfile import ResultFile

if TYPE_CHECKING:
    from ..metric import QSiT
    from ..results import Score


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


class _Run:
    """What came of it so far, and where it goes: each result leaves at once."""

    def __init__(self, made: Mapping[str, Any], stream: Format | None, file: ResultFile | None) -> None:
        self.records: list[Record] = []
        self.failures: list[tuple[str, QSiTError]] = []
        self.kept = self.added = 0
        self.interrupted = False
        self._made, self._stream, self._file = made, stream, file

    def known(self, record: Record) -> None:
        """A score that the result file has already."""
        self.kept += 1
        self._show(record)

    def fresh(self, path: str, result: Score | QSiTError) -> None:
        """A score of this run. Failures are not written down, so a later run tries them again."""
        if isinstance(result, QSiTError):
            self.failures.append((path, result))
            return
        record = Record.of(path, result)
        if self._file:
            self._file.add(record)
        self.added += 1
        self._show(record)

    def _show(self, record: Record) -> None:
        self.records.append(record)
        if self._stream:
            console.write(self._stream.line(record, self._made))


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
        run = _scored(metric, paths, wish.shown, file, exif=not options.no_exif)
    _report(run, len(paths), wish)
    return _code(run, wish.fail_under)


def _scored(metric: QSiT, paths: Sequence[str], shown: str | None, file: ResultFile | None, *, exif: bool) -> _Run:
    made, levels = provenance(metric, exif=exif), level_names(metric)
    stream = FORMATS.get(shown or "")
    if file:
        file.begin(made, levels)
    if stream:
        console.write(stream.header(levels))
    run, done = _Run(made, stream, file), file.done if file else {}
    if file:
        paths = [key(path) for path in paths]
    todo = [path for path in paths if key(path) not in done]
    try:
        for path in paths:
            if key(path) in done:
                run.known(done[key(path)])
        # Lines on a terminal would be torn apart by a bar.
        quiet = stream is not None and console.watched(sys.stdout)
        with console.progress("Scoring", len(todo), unit="images", quiet=quiet) as move:
            results = metric.score_iter(_fed(todo, file), exif=exif, errors="return")
            for path, result in zip(todo, results, strict=True):
                run.fresh(path, result)
                move(None, None)
    except KeyboardInterrupt:
        run.interrupted = True
    return run


def _fed(paths: Sequence[str], file: ResultFile | None) -> Iterator[str]:
    """Hand the pictures over. The next one is asked for when the batch before has been taken: the moment to save it."""
    for path in paths:
        if file:
            file.sync()
        yield path


def provenance(metric: QSiT, *, exif: bool) -> dict[str, Any]:
    """What made a score, for result files."""
    info = metric.info
    names = ("model", "repo", "revision", "recipe", "dtype")
    return {**{name: info[name] for name in names}, "exif": exif, "qsit_metric": info["qsit_metric"]}


def level_names(metric: QSiT) -> tuple[str, ...]:
    """How the model's levels are called, worst first."""
    from .. import results

    return results.level_names(metric.recipe.words)


def _report(run: _Run, total: int, wish: Wish) -> None:
    """Say what came of it: the table, the sum of it, what failed and how to go on."""
    line = table.summary(run.records, len(run.failures))
    if wish.shown == "table":
        table.show(table.ordered(run.records, wish.sort))
        console.out().print(Text(line), soft_wrap=True)
    elif wish.output or console.watched(sys.stderr):
        console.say(line)
    if wish.output:
        console.say(f"{console.printable(str(wish.output))}: {run.added} added, {run.kept} were there already")
    for path, error in run.failures:
        console.say(f"failed: {about(path, error)}", "red")
    if below := _below(run, wish.fail_under):
        console.say(f"{below} of {len(run.records)} scores are below {wish.fail_under:g}", "red")
    if run.interrupted:
        how = "Run the same command again to go on." if wish.output else "With --output FILE a later run could go on."
        console.say(f"Stopped after {len(run.records) + len(run.failures)} of {total} pictures. {how}")


def _below(run: _Run, limit: float | None) -> int:
    # Rounded as in CSV files, so that a resumed run decides as the first would have; a NaN is below everything.
    return 0 if limit is None else sum(not round(record.score, 4) >= limit for record in run.records)


def _code(run: _Run, fail_under: float | None) -> int:
    if run.interrupted:
        return INTERRUPTED
    if run.failures:
        return FAILED
    return BELOW if _below(run, fail_under) else 0
