"""`qsit ask` and `qsit describe`: pictures and questions into words, and into a file that a later run goes on with."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import typer
from rich.text import Text

from .. import console
from ..errors import ImageError, InputError, QSiTError
from ..files import to_json
from . import sharded
from .answers import FORMATS, Asked, Told, answer_file
from .command import FAILED, INTERRUPTED, about, options_of
from .inputs import expand, key, sorted_out
from .options import AnyFile, JsonLines, MaxNewTokens, ModelOptions, Null, Overwrite, Paths, Recursive, TrustNames
from .scores import Format, ResultFile, is_same, provenance, take_stamp
from .sharded import ShardOptions

if TYPE_CHECKING:
    from ..metric import QSiT
    from ..results import Answer

_WIDTH = 20  # of the bar behind a choice

Output: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="Append to a .csv or .jsonl file. What was answered there is not asked again, unless the picture was "
        "replaced, so a run that was stopped goes on where it was. Stdout then gets only what --format asks for.",
    ),
]
Shown: TypeAlias = Annotated[
    Literal["text", "table", "csv", "jsonl"] | None,
    typer.Option("--format", help="What stdout gets (default: text, or nothing with --output)."),
]


def ask(
    ctx: typer.Context,
    *,
    given: Annotated[
        list[str],
        typer.Argument(
            metavar="PICTURES QUESTIONS",
            help="Files, folders, patterns, URLs that exist, and - for a list on stdin, are pictures; "
            "everything else is a question. Quote each.",
        ),
    ],
    question: Annotated[
        list[str] | None,
        typer.Option("--question", "-q", metavar="TEXT", help="A question, whatever it looks like; may be repeated."),
    ] = None,
    recursive: Recursive = False,
    null: Null = False,
    any_file: AnyFile = False,
    choices: Annotated[
        list[str] | None,
        typer.Option(
            "--choice", metavar="TEXT", help="A possible answer; give two or more, each with its own --choice."
        ),
    ] = None,
    method: Annotated[
        Literal["likelihood", "letters", "texts", "generate"],
        typer.Option(
            "--method", help="With choices: compare their likelihoods, or write a reply and look for one in it."
        ),
    ] = "likelihood",
    max_new_tokens: MaxNewTokens = 200,
    shown: Shown = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object per picture, with all its answers, on stdout.")
    ] = False,
    output: Output = None,
    trust_names: TrustNames = False,
    overwrite: Overwrite = False,
) -> int:
    """Ask one or several questions about one or several pictures."""
    pictures, questions = sorted_out(given)
    questions += question or []
    if not questions:
        raise InputError.about("QUESTIONS", " ".join(given), "at least one question", "-q takes one.")
    if not pictures:
        raise InputError.about("PICTURES", " ".join(given), "at least one picture that exists", "Check the spelling.")
    options, form = options_of(ctx, ModelOptions), _format(shown, as_json, output)
    shards = options_of(ctx, ShardOptions)
    if shards.asked(pictures, output, recursive=recursive):
        job = sharded.Job(output, "jsonl" if form == "json" else form, overwrite=overwrite, trust_names=trust_names)
        asking_all = tuple(dict.fromkeys(questions)), tuple(choices or ()), method
        return sharded.ask(pictures, asking_all, job, shards, options, recursive=recursive, null=null)

    def answers(metric: QSiT, path: str, wanted: Sequence[str]) -> list[Answer]:
        found: list[Answer] = metric.ask(
            path, list(wanted), choices=choices or None, method=method, max_new_tokens=max_new_tokens,
            exif=not options.no_exif,
        )  # fmt: skip
        return found

    with contextlib.ExitStack() as stack:
        file = stack.enter_context(answer_file(output, overwrite=overwrite)) if output else None
        paths = expand(pictures, recursive=recursive, null=null, any_file=any_file)
        asked = Asked.of(choices or (), method, max_new_tokens)
        asking = _Asking(options.load(), questions, asked, answers, form, file, exif=not options.no_exif)
        return asking.run(paths, trust_names, output)


def describe(
    ctx: typer.Context,
    paths: Paths,
    *,
    recursive: Recursive = False,
    null: Null = False,
    any_file: AnyFile = False,
    max_new_tokens: MaxNewTokens = 200,
    shown: Shown = None,
    as_json: JsonLines = False,
    output: Output = None,
    trust_names: TrustNames = False,
    overwrite: Overwrite = False,
) -> int:
    """Describe the quality of pictures in words."""
    from ..prompts import DESCRIBE

    options, form = options_of(ctx, ModelOptions), _format(shown, as_json, output)

    def answers(metric: QSiT, path: str, wanted: Sequence[str]) -> list[Answer]:
        return [metric.describe(path, max_new_tokens=max_new_tokens, exif=not options.no_exif)]

    with contextlib.ExitStack() as stack:
        file = stack.enter_context(answer_file(output, overwrite=overwrite)) if output else None
        pictures = expand(paths, recursive=recursive, null=null, any_file=any_file)
        asked = Asked(method="describe", max_new_tokens=max_new_tokens)
        asking = _Asking(options.load(), [DESCRIBE], asked, answers, form, file, exif=not options.no_exif)
        asking.describing = True
        return asking.run(pictures, trust_names, output)


def _format(chosen: str | None, as_json: bool, output: Path | None) -> str | None:
    """What stdout gets: "json" is that of `--json`, None nothing."""
    if as_json and chosen:
        raise InputError.about("--format", chosen, "nothing else together with --json")
    return "json" if as_json else chosen or (None if output else "text")


class _Asking:
    """Questions that are asked of picture after picture, so that each answer is there as soon as it is known."""

    describing = False  # the question is always the same, and is not shown

    def __init__(
        self,
        metric: QSiT,
        questions: Sequence[str],
        asked: Asked,
        answers: Callable[[QSiT, str, Sequence[str]], list[Answer]],
        shown: str | None,
        file: ResultFile[Told] | None,
        *,
        exif: bool,
    ) -> None:
        self._metric, self._questions, self._asked, self._answers = metric, questions, asked, answers
        self._made: Mapping[str, Any] = provenance(metric, exif=exif)
        self._shown, self._file = shown, file
        form = FORMATS.get(shown or "")
        self._stream: Format[Told] | None = form() if form else None
        self._added = self._kept = self._failed = 0
        self._rows: list[Told] = []

    def run(self, paths: Sequence[str], trust_names: bool, output: Path | None) -> int:
        """Ask all; gives the exit code."""
        if self._file:
            self._file.begin(self._made, ())
        if self._stream:
            console.write(self._stream.header(()))
        stopped = False
        quiet = self._shown is not None and console.watched(sys.stdout)
        try:
            with console.progress("Asking", len(paths), unit="images", quiet=quiet) as move:
                for path in paths:
                    self._picture(key(path) if self._file else path, trust_names, len(paths) > 1)
                    move(None, None)
        except KeyboardInterrupt:
            stopped = True
        self._report(output, stopped)
        return INTERRUPTED if stopped else FAILED if self._failed else 0

    def _picture(self, path: str, trust_names: bool, several: bool) -> None:
        try:
            told = self._told(path, trust_names)
        except QSiTError as error:
            if isinstance(error, InputError) and not isinstance(error, ImageError):
                raise  # a question or a choice: it would be the same for every picture
            console.say(f"failed: {about(path, error)}", "red")
            self._failed += 1
            return
        self._rows += told
        if self._stream:
            console.write("".join(self._stream.line(one, self._made) for one in told))
        elif self._shown == "json":
            console.write(to_json(self._object(path, told)) + "\n")
        elif self._shown == "text":
            self._text(path, told, several)

    def _told(self, path: str, trust_names: bool) -> list[Told]:
        """The answers for a picture, of the file or new."""
        done = self._file.done if self._file else {}
        held = {one: done.get((key(path), one, self._asked)) for one in self._questions}
        kept = {one: told for one, told in held.items() if told and (trust_names or is_same(path, told.stamp))}
        wanted = [one for one in dict.fromkeys(self._questions) if one not in kept]
        if wanted:
            stamp = take_stamp(path) if self._file or self._stream else None
            found = zip(wanted, self._answers(self._metric, path, wanted), strict=True)
            fresh = [Told.of(path, one, answer, self._asked, stamp) for one, answer in found]
            self._keep(fresh)
            kept |= {one.question: one for one in fresh}
        self._added, self._kept = self._added + len(wanted), self._kept + len(kept) - len(wanted)
        return [kept[one] for one in self._questions]

    def _keep(self, fresh: Sequence[Told]) -> None:
        if self._file:
            for one in fresh:
                self._file.add(one)
            self._file.sync()

    def _object(self, path: str, told: Sequence[Told]) -> dict[str, Any]:
        if self.describing:
            return {"path": path, "description": told[0].answer, "finished": told[0].finished, **self._made}
        return {"path": path, "answers": [_fields(one) for one in told], **self._made}

    def _text(self, path: str, told: Sequence[Told], several: bool) -> None:
        if several:
            _print(console.printable(path), "bold")
        for one in told:
            if len(told) > 1:
                _print(one.question, "bold")
            _show(one)

    def _report(self, output: Path | None, stopped: bool) -> None:
        if self._shown == "table":
            columns = ["path", *([] if self.describing else ["question"]), "answer"]
            rows = ([getattr(one, name) for name in columns] for one in self._rows)
            console.out().print(console.table(columns, rows))
        if output:
            counts = f"{self._added} added, {self._kept} were there already"
            console.say(f"{console.printable(str(output))}: {counts}")
        if stopped:
            console.say(f"Interrupted. {'Run the same command again to go on.' if output else ''}".rstrip())


def _fields(told: Told) -> dict[str, Any]:
    """An answer as `Answer.as_dict` has it, with its question."""
    fields = {"question": told.question, "answer": told.answer, "finished": told.finished}
    return {**fields, "choice": told.choice, "probs": dict(told.probs)} if told.choice or told.probs else fields


def _show(told: Told) -> None:
    _print(told.answer)
    widest = max(map(len, told.probs), default=0)
    sign = "#" if console.out().options.ascii_only else "█"
    for choice, value in told.probs.items():
        _print(f"  {choice:<{widest}}  {value:.3f} {sign * round(value * _WIDTH)}")
    if not told.finished:
        limit = told.asked.max_new_tokens
        console.say(f"(cut off after {limit} tokens; --max-new-tokens N allows more)", "dim")
    if told.asked.choices and told.choice is None:
        console.say("(the reply does not name exactly one of the choices)", "dim")


def _print(text: str, style: str = "") -> None:
    lines = "\n".join(map(console.printable, text.split("\n")))
    console.out().print(Text(lines, style=style))
