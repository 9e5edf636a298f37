"""Runs over shards and over many devices: which pictures are left, who works on them, where their rows go."""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from .. import console
from ..errors import InputError, OutputError, QSiTError, counted
from .command import BELOW, FAILED, INTERRUPTED
from .inputs import expand, key
from .rows import Done, Rows, Shape, place_for
from .scores import FORMATS, is_finished, is_of_scores, made_by

if TYPE_CHECKING:
    from ..sources import Chunk, Shard, Wanted
    from ..work import Row, Work
    from .options import ModelOptions

_SHOWN = 20  # pictures that failed, by name; the file has them all
_PERIOD = 60.0  # seconds between two lines of progress where nobody watches a bar
_PANEL = "Shards and many devices"


@dataclass(frozen=True)
class ShardOptions:
    """Shards of pictures, and Ray."""

    ray: Annotated[
        bool,
        typer.Option("--ray", rich_help_panel=_PANEL, help="Use all GPUs, or cores, of this machine or a cluster."),
    ] = False
    ray_address: Annotated[
        str | None,
        typer.Option("--ray-address", rich_help_panel=_PANEL, metavar="HOST:PORT", help="The cluster; implies --ray."),
    ] = None
    ray_actors: Annotated[
        int | None,
        typer.Option("--ray-actors", rich_help_panel=_PANEL, metavar="N", help="Models that run at a time."),
    ] = None
    column: Annotated[
        str | None,
        typer.Option("--column", rich_help_panel=_PANEL, metavar="NAME", help="The column of a table with pictures."),
    ] = None
    keep: Annotated[
        list[str] | None,
        typer.Option(
            "--keep",
            rich_help_panel=_PANEL,
            metavar="NAME",
            help="Take a column along; of a tar key, txt, json ... or a field of the JSON. Can be repeated.",
        ),
    ] = None
    retry: Annotated[
        bool,
        typer.Option("--retry", rich_help_panel=_PANEL, help="Try the pictures again that failed in an earlier run."),
    ] = False

    @property
    def cluster(self) -> bool:
        """Whether Ray does the work."""
        return self.ray or self.ray_address is not None or self.ray_actors is not None

    @property
    def wanted(self) -> Wanted:
        """What is taken of each picture."""
        from ..sources import Wanted

        return Wanted(self.column, tuple(dict.fromkeys(self.keep or ())))

    def asked(self, paths: Sequence[str], output: Path | None, *, recursive: bool) -> bool:
        """Whether a command line is one for this module: shards, a cluster, or a folder of parts."""
        if self.cluster or self.column or self.keep or self.retry:
            return True
        if output is None:  # a table of text is a file of results that is shown again
            paths = [path for path in paths if not is_finished(path)]
        elif output.is_dir() or not output.suffix:
            return True
        return any(_is_list(path) or _is_shard(path, recursive) for path in paths)


def _is_list(path: str) -> bool:
    return path.lower().endswith(".txt")


def _is_shard(path: str, recursive: bool) -> bool:
    from ..sources import in_store, kind_of, listed

    if is_finished(path):
        return not is_of_scores(Path(path))
    return bool(kind_of(path)) or in_store(path) or bool(listed(path, recursive=recursive))


# ---- what is read


@dataclass(frozen=True)
class Inputs:
    """What a command line asks for.

    Attributes:
        shards: Those that are read as streams.
        pictures: Those that stand for themselves.
    """

    shards: tuple[Shard, ...]
    pictures: tuple[str, ...]

    @classmethod
    def of(cls, paths: Sequence[str], output: Path | None, *, recursive: bool, null: bool) -> Inputs:
        """Tell shards from pictures; each is taken once, and the output is not taken for an input.

        Raises:
            InputError: A shard that is not there, or nothing at all.
        """
        from ..sources import kind_of, listed, shard_of

        found: dict[str, str] = {}
        for entry in _entries(paths):
            inside = listed(entry, recursive=recursive) if entry != "-" else []
            for one in inside or expand([entry], recursive=recursive, null=null and entry == "-"):
                found.setdefault(key(one), one)
        own = Path(output).resolve() if output else None
        all_of_them = [(name, one) for name, one in found.items() if own not in {Path(name), *Path(name).parents}]
        shards = tuple(shard_of(name) for name, one in all_of_them if kind_of(one))
        return cls(shards, tuple(name for name, one in all_of_them if not kind_of(one)))


def _entries(paths: Sequence[str]) -> Iterator[str]:
    """The entries of a command line, with those of the lists among them."""
    for path in paths:
        if not _is_list(path):
            yield path
            continue
        try:
            lines = Path(path).read_text(encoding="utf-8-sig", errors="surrogateescape").splitlines()
        except OSError as error:
            raise InputError.about("PATHS", path, "a readable list", f"The system says: {error.strerror}.") from error
        yield from (line.strip() for line in lines if line.strip())


_Todo: TypeAlias = "list[tuple[Shard, bytes]]"


def _left(inputs: Inputs, rows: Rows, trust_names: bool) -> tuple[_Todo, int]:
    """What is left to do, and how many pictures were replaced since.

    Raises:
        OutputError: A shard has changed since its rows were made.
    """
    from ..sources import of_pictures

    todo: _Todo = []
    for shard in inputs.shards:
        known, number = rows.done.of(shard), rows.is_whole(shard.place)
        before = rows.done.stamps.get(shard.place)
        if before and shard.stamp and not trust_names and before != shard.stamp:
            hint = "--trust-names goes on with it all the same; else use another place."
            expected = f"the shard that the rows were made of ({before.size} bytes of {before.modified})"
            raise OutputError.about("PATHS", shard.place, expected, hint)
        if number is None or sum(map(bool, known)) < number:
            todo.append((shard, known))
    places, replaced = [], 0
    for place, path in enumerate(inputs.pictures):
        if rows.done.has(path) and not trust_names and _is_new(path, rows.done):
            rows.done.forget(path)
            replaced += 1
        if not rows.done.has(path):
            places.append(place)
    pictures = [inputs.pictures[place] for place in places]
    return [*todo, *((shard, b"") for shard in of_pictures(pictures, places))], replaced


def _is_new(path: str, done: Done) -> bool:
    stamp = done.stamps.get(key(path))
    return stamp is not None and not stamp.holds(Path(path))


# ---- the run


@dataclass(frozen=True)
class Job:
    """What a command asks for, beside what is done with each picture.

    Attributes:
        output: File or folder; None for stdout.
        form: Of stdout; None if nothing was said.
        overwrite: Forget what is there.
        trust_names: Go on without a look at what changed.
        fail_under: Least score.
    """

    output: Path | None
    form: str | None = None
    overwrite: bool = False
    trust_names: bool = False
    fail_under: float | None = None

    @property
    def shown(self) -> str:
        """The format of stdout.

        Raises:
            InputError: One that needs all rows at once.
        """
        form = self.form or "csv"
        if self.output is None and form == "table" and console.watched(sys.stdout):
            return "csv"
        if form not in FORMATS:
            raise InputError.about("--format", form, "csv or jsonl for shards", "-o FILE keeps them, too.")
        return form


@dataclass(frozen=True)
class _Task:
    """All of a run: the work, the columns of what the model says, and what else the provenance says."""

    work: Work
    own: tuple[str, ...]
    more: Mapping[str, Any]
    job: Job
    options: ShardOptions
    model: ModelOptions
    wanted: Wanted


def score(
    paths: Sequence[str], job: Job, options: ShardOptions, model: ModelOptions, *, recursive: bool, null: bool
) -> int:
    """Score everything that a command line names.

    Returns:
        The exit code.

    Raises:
        QSiTError: Nothing could be done, or the run cannot go on; what was done is kept.
    """
    from ..work import Scoring

    work = Scoring()
    task = _Task(work, ("score", "unit", "level"), {}, job, options, model, options.wanted)
    return _run(Inputs.of(paths, job.output, recursive=recursive, null=null), task)


def ask(
    paths: Sequence[str],
    asked: tuple[tuple[str, ...], tuple[str, ...], str],
    job: Job,
    options: ShardOptions,
    model: ModelOptions,
    *,
    recursive: bool,
    null: bool,
) -> int:
    """Ask everything that a command line names; `asked` is (questions, choices, method). As `score`."""
    from ..work import Asking

    questions, choices, method = asked
    if not choices:
        hint = "Without --ray, a folder, and shards it is answered in words."
        raise InputError.about("--choice", "<none>", "two or more choices for shards and for --ray", hint)
    work = Asking(questions, choices, method)
    own = ("question", "answer", "choice")
    task = _Task(work, own, {"method": method, "choices": list(choices)}, job, options, model, options.wanted)
    return _run(Inputs.of(paths, job.output, recursive=recursive, null=null), task)


def _run(inputs: Inputs, task: _Task) -> int:
    job, questions = task.job, task.work.questions
    _check_names(task)
    with contextlib.ExitStack() as stack:
        place = place_for(job.output, job.shown, questions, retry=task.options.retry, overwrite=job.overwrite)
        rows: Rows = stack.enter_context(place)
        kept = rows.done.count
        todo, replaced = _left(inputs, rows, job.trust_names)
        tally = Tally(kept=kept, replaced=replaced, fail_under=job.fail_under)
        try:
            _work(todo, inputs, task, rows, tally)
        except KeyboardInterrupt:
            tally.interrupted = True
        finally:
            rows.sync()
    tally.report(job.output)
    return tally.code


def _check_names(task: _Task) -> None:
    taken = {*Shape(task.own, ()).columns, "probs", "probabilities", "note"}
    for name in task.wanted.keep:
        if name in taken:
            raise InputError.about("--keep", name, "a name that results do not have themselves", "Rename it first.")


def _work(todo: _Todo, inputs: Inputs, task: _Task, rows: Rows, tally: Tally) -> None:
    origin: Mapping[str, Any] | None = None
    with _progress(sum(shard.weight for shard, _ in todo), tally) as move:
        for info, names, chunk, made in _engine(todo, task):
            if origin is None:
                origin = info
                shape = Shape(task.own, names, _types(inputs.shards, task.wanted), task.work.questions)
                rows.begin({**made_by(info, exif=not task.model.no_exif), **task.more}, shape)
            _check_alike(origin, info)
            rows.add(made)
            tally.take(chunk, made)
            if chunk.rows is not None and chunk.shard.place:
                rows.whole(chunk.shard.place, chunk.rows)
            move(chunk)


def _engine(todo: _Todo, task: _Task) -> Iterator[tuple[Mapping[str, Any], tuple[str, ...], Chunk, list[Row]]]:
    """Who does the work: this process, or Ray. The first chunk is empty, so that the model is known before a result."""
    if task.options.cluster:
        from ..integrations.ray import run as run_on_ray

        address, actors = task.options.ray_address, task.options.ray_actors
        arguments = task.model.arguments
        if Path(arguments["model"]).is_dir():  # actors may stand in another folder
            arguments["model"] = key(arguments["model"])
        yield from run_on_ray(todo, task.wanted, task.work, arguments, address=address, actors=actors)
        return
    from ..sources import Shard, chunks
    from ..work import answered, told

    metric = task.model.load()
    info, names = told(metric, task.work)
    yield (info, names, next(chunks(Shard("", "pictures"), task.wanted)), [])
    stream = (chunk for shard, known in todo for chunk in chunks(shard, task.wanted, known))
    for chunk, made in answered(stream, task.work, metric):
        yield (info, names, chunk, made)


def _types(shards: Iterable[Shard], wanted: Wanted) -> dict[str, str]:
    """The parquet types of what rides along: those of the tables if they agree, else text."""
    from ..sources import types_of

    found = [types_of(shard, wanted.keep) for shard in shards] if wanted.keep else []
    agreed = {name: {types[name] for types in found} for name in wanted.keep}
    return {name: kinds.pop() if len(kinds) == 1 else "string" for name, kinds in agreed.items()}


def _check_alike(one: Mapping[str, Any], other: Mapping[str, Any]) -> None:
    """Refuse nodes that would mix scores of several kinds."""
    for name in ("revision", "dtype", "recipe", "backend"):
        if one.get(name) != other.get(name):
            expected = f"nodes that score alike, but one has {name} {one.get(name)}, another {other.get(name)}"
            raise InputError.about("--ray-address", "<the cluster>", expected, "Give --dtype, --device or --revision.")


@dataclass
class Tally:
    """What came of it so far: numbers, not rows, so that its size does not grow."""

    kept: int = 0
    replaced: int = 0
    fail_under: float | None = None
    added: int = 0
    failed: int = 0
    below: int = 0
    left_out: int = 0
    total: float = 0.0
    lowest: tuple[float, str] = (math.inf, "")
    highest: tuple[float, str] = (-math.inf, "")
    failures: list[str] = field(default_factory=list)
    broken: list[QSiTError] = field(default_factory=list)
    interrupted: bool = False

    def take(self, chunk: Chunk, rows: Iterable[Row]) -> None:
        """Count a chunk.

        Raises:
            QSiTError: What is wrong with it is wrong with the command.
        """
        for row in rows:
            self._count(row)
        self.left_out += chunk.left_out
        if chunk.error:
            if chunk.error.argument.startswith("--"):
                raise chunk.error
            self.broken.append(chunk.error)

    def _count(self, row: Row) -> None:
        if row["error"]:
            self.failed += 1
            if len(self.failures) < _SHOWN:
                self.failures.append(f"{row['path']}: {row['error']}")
            return
        self.added += 1
        if (score := row.get("score")) is not None:
            self.total += score
            self.lowest, self.highest = (choose(best, (score, row["path"])) for choose, best in
                                         ((min, self.lowest), (max, self.highest)))  # fmt: skip
            self.below += self.fail_under is not None and not round(score, 4) >= self.fail_under

    def report(self, output: Path | None) -> None:
        """Say what came of it, and how to go on."""
        if output or console.watched(sys.stderr):
            console.say(self.line)
        if output:
            again = f"; {self.replaced} of a picture that was replaced" if self.replaced else ""
            counts = f"{self.added + self.failed} added, {self.kept} were there already"
            console.say(f"{console.printable(str(output))}: {counts}{again}")
        if self.left_out:
            console.say(f"{counted(self.left_out, 'file')} in the tars are no pictures and were left out", "dim")
        for text in self.failures:
            console.say(f"failed: {console.printable(text)}", "red")
        if self.failed > len(self.failures):
            console.say(f"... and {self.failed - len(self.failures)} more, in the column `error`", "red")
        for error in self.broken:
            console.say(f"failed: {console.printable(' '.join(str(error).split()))}", "red")
        if self.below:
            console.say(f"{self.below} of {self.added} scores are below {self.fail_under:g}", "red")
        if self.interrupted:
            how = "Run the same command again to go on." if output else "With --output a later run could go on."
            console.say(f"Stopped after {self.added + self.failed} pictures. {how}")

    @property
    def line(self) -> str:
        """All of it in one line."""
        lost = f"; {self.failed} failed" if self.failed else ""
        if not self.lowest[1]:
            return f"{counted(self.added, 'row')} made{lost}"
        (low, worst), (high, best) = self.lowest, self.highest
        ends = f"min {low:.2f} ({console.printable(worst)}), max {high:.2f} ({console.printable(best)})"
        return f"{counted(self.added, 'picture')} scored: mean {self.total / self.added:.2f}, {ends}{lost}"

    @property
    def code(self) -> int:
        """The exit code."""
        if self.interrupted:
            return INTERRUPTED
        if self.failed or self.broken:
            return FAILED
        return BELOW if self.below else 0


@contextlib.contextmanager
def _progress(total: int, tally: Tally) -> Iterator[Any]:
    """A bar with speed and time left; a line a minute where nobody watches. The end is told from the bytes read."""
    done: dict[tuple[str, int], float] = {}
    begun = said = time.monotonic()
    with console.progress("Working", unit="images", quiet=False) as bar:

        def move(chunk: Chunk) -> None:
            nonlocal said
            done[chunk.shard.place, chunk.shard.first] = chunk.share * chunk.shard.weight
            count, share = tally.added + tally.failed, min(sum(done.values()) / max(1, total), 1.0)
            if not count or not share:
                return
            bar(count, max(count, round(count / share)))
            now = time.monotonic()
            if now - said > _PERIOD and not console.watched(sys.stderr):
                said, spent = now, now - begun
                left = timedelta(seconds=round(spent * (1 - share) / share))
                console.say(f"{count} pictures, {count / spent:.1f} images/s, about {left} left")

        yield move
