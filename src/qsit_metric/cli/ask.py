"""`qsit ask` and `qsit describe`: pictures and questions into words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.text import Text

from .. import console
from ..errors import QSiTError
from ..files import to_json
from .command import FAILED, about, options_of
from .inputs import expand
from .options import Json, JsonLines, MaxNewTokens, ModelOptions, Paths, Recursive
from .scores import provenance

if TYPE_CHECKING:
    from ..results import Answer

_WIDTH = 20  # of the bar behind a choice


def ask(
    ctx: typer.Context,
    *,
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="A file or an http(s) URL.")],
    questions: Annotated[list[str], typer.Argument(metavar="QUESTIONS", help="One or several; quote each.")],
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
    as_json: Json = False,
) -> None:
    """Ask one or several questions about a picture."""
    options = options_of(ctx, ModelOptions)
    metric, exif = options.load(), not options.no_exif
    answers: list[Answer] = metric.ask(
        image, list(questions), choices=choices or None, method=method, max_new_tokens=max_new_tokens, exif=exif
    )
    if as_json:
        said = [{"question": q, **answer.as_dict()} for q, answer in zip(questions, answers, strict=True)]
        console.write(to_json({"path": image, "answers": said, **provenance(metric.info, exif=exif)}, 2) + "\n")
        return
    for question, answer in zip(questions, answers, strict=True):
        if len(answers) > 1:
            _print(question, "bold")
        _show(answer, max_new_tokens, choices or ())


def describe(
    ctx: typer.Context,
    paths: Paths,
    recursive: Recursive = False,
    max_new_tokens: MaxNewTokens = 200,
    as_json: JsonLines = False,
) -> int:
    """Describe the quality of pictures in words."""
    # One by one, so that each text is there as soon as it is written.
    options = options_of(ctx, ModelOptions)
    images = expand(paths, recursive=recursive)
    metric, exif, failed = options.load(), not options.no_exif, 0
    for path in images:
        try:
            answer: Answer = metric.describe(path, max_new_tokens=max_new_tokens, exif=exif)
        except QSiTError as error:
            console.say(f"failed: {about(path, error)}", "red")
            failed += 1
            continue
        if as_json:
            fields = {"path": path, "description": str(answer), "finished": answer.finished}
            console.write(to_json({**fields, **provenance(metric.info, exif=exif)}) + "\n")
            continue
        if len(images) > 1:
            _print(console.printable(path), "bold")
        _show(answer, max_new_tokens)
    return FAILED if failed else 0


def _show(answer: Answer, max_new_tokens: int, choices: Sequence[str] = ()) -> None:
    _print(str(answer))
    widest = max(map(len, answer.probs), default=0)
    sign = "#" if console.out().options.ascii_only else "█"
    for choice, value in answer.probs.items():
        _print(f"  {choice:<{widest}}  {value:.3f} {sign * round(value * _WIDTH)}")
    if not answer.finished:
        console.say(f"(cut off after {max_new_tokens} tokens; --max-new-tokens N allows more)", "dim")
    if choices and answer.choice is None:
        console.say("(the reply does not name exactly one of the choices)", "dim")


def _print(text: str, style: str = "") -> None:
    lines = "\n".join(map(console.printable, text.split("\n")))
    console.out().print(Text(lines, style=style))
