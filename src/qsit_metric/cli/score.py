"""`qsit score`: a stream of pictures into a table, CSV or JSON lines, and into a file that a later run goes on with."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.text import Text

from .. import console
from ..errors import InputError, QSiTError, counted
from ..files import Files, Stamp, look
from ..journal import check_same
from . import report, sharded
from .command import BELOW, FAILED, INTERRUPTED, about, options_of
from .inputs import expand, key
from .options import AnyFile, ModelOptions, Null, Overwrite, Paths, Recursive, TrustNames
from .scores import (
    FORMATS,
    Format,
    Record,
    ScoreFile,
    finished,
    identity,
    is_finished,
    is_same,
    provenance,
    take_stamp,
)
from .sharded import ShardOptions

if TYPE_CHECKING:
    from ..metric import QSiT
    from ..results import Score

_STYLES = {"bad": "red", "poor": "red", "fair": "yellow", "good": "green", "excellent": "green"}


def score(
    ctx: typer.Context,
    *,
    paths: Paths,
    recursive: Recursive = False,
    null: Null = False,
    any_file: AnyFile = False,
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
    overwrite: Overwrite = False,
    worst: Annotated[
        int | None, typer.Option("--worst", metavar="N", min=1, help="Show the N lowest scores only, lowest first.")
    ] = None,
    best: Annotated[
        int | None, typer.Option("--best", metavar="N", min=1, help="Show the N highest scores only, highest first.")
    ] = None,
    sort: Annotated[
        Literal["score", "path", "none"],
        typer.Option("--sort", help="Order of what is shown; by score means best first. FILE keeps its order."),
    ] = "none",
    reverse: Annotated[bool, typer.Option("--reverse", help="Show it the other way round.")] = False,
    page: Annotated[
        Path | None,
        typer.Option(
            "--report",
            metavar="FILE",
            help="Write an .html page to look at, worst first; it needs no network. From a finished file, too: "
            "qsit score scores.csv --report page.html.",
        ),
    ] = None,
    maps: Annotated[
        int, typer.Option("--maps", metavar="N", min=0, help="With --report: quality maps of the N worst pictures.")
    ] = 0,
    fail_under: Annotated[
        float | None, typer.Option("--fail-under", metavar="X", help="Exit with 3 if a score is below X.")
    ] = None,
) -> int:
    """Score pictures from 1 (bad) to 5 (excellent).

    The table shows the expected score, the most probable level, and the
    probability of each level, worst first, as small columns. A .csv or .jsonl
    file of an earlier run may stand in place of pictures: it is shown again.
    """
    order = Order.of(worst, best, sort, reverse)
    form = shown_format(shown, as_json, written=bool(output or page) and not order)
    if overwrite and not output:
        raise InputError.about("--overwrite", True, "a file to begin anew", "Add --output.")
    if maps and not page:
        raise InputError.about("--maps", maps, "a page that shows them", "Add --report.")
    if page:
        report.check(page)
    options, shards = options_of(ctx, ModelOptions), options_of(ctx, ShardOptions)
    if shards.asked(paths, output, recursive=recursive):
        if order or page:
            expected, hint = "plain files and one process", "Show the file of results when it is there."
            raise InputError.about("--report" if page else "--sort", str(page or order.by), expected, hint)
        job = sharded.Job(output, form, overwrite=overwrite, trust_names=trust_names, fail_under=fail_under)
        return sharded.score(paths, job, shards, options, recursive=recursive, null=null)
    if any(map(is_finished, paths)):
        return _again(options, paths, output, _Shown(form, order, page, maps, fail_under))
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(ScoreFile(output, overwrite=overwrite)) if output else None
        pictures = expand(paths, recursive=recursive, null=null, any_file=any_file)
        metric = options.load()
        wanted = _Shown(form, order, page, maps, fail_under)
        run = _Run(provenance(metric, exif=not options.no_exif), wanted, file)
        run.score(metric, pictures, trust_names)
    run.report(len(pictures), output)
    run.write(_title(paths, len(run.records)), lambda: metric)
    return run.code()


def _again(options: ModelOptions, paths: Sequence[str], output: Path | None, wanted: _Shown) -> int:
    """Show the scores of finished files."""
    if others := [path for path in paths if not is_finished(path)]:
        raise InputError.about(
            "PATHS", others[0], "pictures, or files of scores, but not both", "Take them in two runs."
        )
    if output:
        raise InputError.about(
            "--output", str(output), "nothing together with a finished file", "Its scores are there."
        )
    files = {path: finished(Path(path)) for path in paths}
    lines = [line for found in files.values() for line in found]
    for path, found in files.items():
        for line in found:
            check_same(Path(path), line.made, lines[0].made, Files(InputError, "PATHS"), what="a file with scores")
    made, asked = dict(lines[0].made), Files(InputError, "--maps")

    def load() -> QSiT:
        chosen = replace(options, model=options.model or made["model"], recipe=options.recipe or made["recipe"])
        metric = chosen.load()
        now = {**identity(provenance(metric, exif=True)), "exif": made["exif"], "dtype": made["dtype"]}
        check_same(Path(paths[0]), made, now, asked, what="a file with scores", hint="--model says which model.")
        return metric

    run = _Run(made, wanted, None)
    run.replay([line.record for line in {line.record.key: line for line in lines}.values()])
    run.report(len(run.records), None)
    run.write(_title(paths, len(run.records)), load)
    return run.code()


def _title(paths: Sequence[str], count: int) -> str:
    single = Path(paths[0]).name if len(paths) == 1 and paths[0] != "-" else ""
    return f"Quality of {console.printable(single) or counted(count, 'picture')}"


@dataclass(frozen=True)
class Order:
    """In which order scores are shown, and how many of them.

    Attributes:
        by: "score" (best first), "path", or "none" for the order of the pictures.
        reverse: The other way round.
        count: How many at most; the lowest ones if negative. None for all.

    Example:
        >>> three = [Record(name, score, 0.0, "", {}) for name, score in (("a", 2.0), ("b", 4.0), ("c", 3.0))]
        >>> [one.path for one in Order("score").of_all(three)], [one.path for one in Order.of(2, None).of_all(three)]
        (['b', 'c', 'a'], ['a', 'c'])
    """

    by: str = "none"
    reverse: bool = False
    count: int | None = None

    @classmethod
    def of(cls, worst: int | None, best: int | None, sort: str = "none", reverse: bool = False) -> Order:
        """What the options ask for.

        Raises:
            InputError: Both ends.
        """
        if worst and best:
            raise InputError.about("--best", best, "nothing else together with --worst", "Take them in two runs.")
        if not (worst or best):
            return cls(sort, reverse)
        backwards = bool(worst) and sort == "none"
        return cls("score" if sort == "none" else sort, reverse != backwards, best or -(worst or 0))

    def __bool__(self) -> bool:
        return self != Order()

    def of_all(self, records: Sequence[Record]) -> list[Record]:
        """The records that are shown, in their order. A score that is no number is the worst; ties go by path."""
        ranked = sorted(records, key=lambda record: (-record.worth[0], record.path))
        if self.count is not None:
            kept = {id(one) for one in (ranked[: self.count] if self.count > 0 else ranked[self.count :])}
            ranked, records = ([one for one in group if id(one) in kept] for group in (ranked, records))
        if self.by == "score":
            return sorted(ranked, key=lambda record: record.worth) if self.reverse else ranked
        found = sorted(records, key=lambda record: record.path) if self.by == "path" else list(records)
        return found[::-1] if self.reverse else found


def shown_format(chosen: str | None, as_json: bool, *, written: bool) -> str | None:
    """Decide what goes to stdout: what was asked for; else a table for a person, CSV for a program.

    Where the scores are written to a file or a page, stdout stays empty unless something was asked for: a format or an
    order.

    Raises:
        InputError: Two different formats.
    """
    if as_json and chosen not in (None, "jsonl"):
        raise InputError.about("--format", chosen, "nothing else together with --json")
    if as_json or chosen:
        return chosen or "jsonl"
    if written:
        return None
    return "table" if console.watched(sys.stdout) else "csv"


@dataclass(frozen=True)
class _Shown:
    """What becomes of the scores: what stdout gets, in which order, the page with its maps, and the limit."""

    form: str | None
    order: Order
    page: Path | None
    maps: int
    fail_under: float | None


class _Run:
    """What came of it so far, and where it goes: each result leaves at once."""

    def __init__(self, made: Mapping[str, Any], wanted: _Shown, file: ScoreFile | None) -> None:
        self.records: list[Record] = []
        self.failures: list[tuple[str, QSiTError]] = []
        self.kept = self.added = self.replaced = 0
        self.interrupted = False
        self._made, self._file, self._wanted, self._order = made, file, wanted, wanted.order
        form = FORMATS.get(wanted.form or "")
        self._stream: Format[Record] | None = form() if form else None

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

    def replay(self, records: Sequence[Record]) -> None:
        """Show scores that are known."""
        if self._stream:
            console.write(self._stream.header(list(records[0].probs)))
        for record in records:
            self._show(record)

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
        from ..batching import Budget

        # Lines on a terminal would be torn apart by a bar.
        quiet = self._stream is not None and not self._order and console.watched(sys.stdout)
        if not quiet and console.watched(sys.stderr) and metric.device.type == "cpu":
            metric.budget = Budget(1, 1)  # there a batch saves a tenth of the time, and the bar would move by leaps
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
        if self._stream and not self._order:
            console.write(self._stream.line(record, self._made))

    def write(self, title: str, metric: Callable[[], QSiT]) -> None:
        """Write the page, if one is wanted."""
        if self._wanted.page:
            failed = [about(path, error) for path, error in self.failures]
            content = report.Content(title, self.records, failed, self._made, self._wanted.maps)
            console.say(report.write(self._wanted.page, content, metric))

    def report(self, total: int, output: Path | None) -> None:
        """Say what came of it: the table, the sum of it, what failed and how to go on."""
        line = summary(self.records, len(self.failures))
        wanted = self._order.of_all(self.records)
        if self._stream and self._order:
            console.write("".join(self._stream.line(record, self._made) for record in wanted))
        if self._wanted.form == "table":
            show(wanted)
            line += f"; {len(wanted)} of them shown" if len(wanted) < len(self.records) else ""
            console.out().print(Text(line), soft_wrap=True)
        elif output or console.watched(sys.stderr):
            console.say(line)
        if output:
            counts = f"{self.added} added, {self.kept} were there already"
            again = f"; {self.replaced} of a picture that was replaced" if self.replaced else ""
            console.say(f"{console.printable(str(output))}: {counts}{again}")
        for path, error in self.failures:
            console.say(f"failed: {about(path, error)}", "red")
        if below := self._below():
            console.say(f"{below} of {len(self.records)} scores are below {self._wanted.fail_under:g}", "red")
        if self.interrupted:
            how = "Run the same command again to go on." if output else "With --output FILE a later run could go on."
            console.say(f"Stopped after {len(self.records) + len(self.failures)} of {total} pictures. {how}")

    def code(self) -> int:
        """The exit code."""
        if self.interrupted:
            return INTERRUPTED
        if self.failures:
            return FAILED
        return BELOW if self._below() else 0

    def _below(self) -> int:
        limit = self._wanted.fail_under
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
    low, high = (choose(records, key=lambda record: record.worth[0]) for choose in (min, max))
    ends = f"min {low.score:.2f} ({console.printable(low.path)}), max {high.score:.2f} ({console.printable(high.path)})"
    return f"{count}: mean {fmean(record.score for record in records):.2f}, {ends}{lost}"
