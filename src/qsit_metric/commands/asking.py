"""`qsit ask` and `qsit describe`: pictures and questions into words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.text import Text

from .. import console
from ..errors import QSiTError
from ..files import to_json
from .frame import FAILED, about
from .inputs import expand
from .options import ModelOptions
from .scoring import provenance

if TYPE_CHECKING:
    from ..results import Answer

_WIDTH = 20  # of the bar behind a choice


@dataclass(frozen=True)
class Words:
    """How answers are wanted: see `QSiT.ask`."""

    choices: Sequence[str]
    method: Any
    max_new_tokens: int


def ask(image: str, questions: Sequence[str], words: Words, as_json: bool, options: ModelOptions) -> None:
    """Ask all questions of one picture, which is encoded once."""
    metric, exif = options.load(), not options.no_exif
    choices = list(words.choices) or None
    answers: list[Answer] = metric.ask(
        image, list(questions), choices=choices, method=words.method, max_new_tokens=words.max_new_tokens, exif=exif
    )
    if as_json:
        said = [{"question": q, **answer.as_dict()} for q, answer in zip(questions, answers, strict=True)]
        console.write(to_json({"path": image, "answers": said, **provenance(metric, exif=exif)}, 2) + "\n")
        return
    for question, answer in zip(questions, answers, strict=True):
        if len(answers) > 1:
            _print(question, "bold")
        _show(answer, words)


def describe(paths: Sequence[str], recursive: bool, max_new_tokens: int, as_json: bool, options: ModelOptions) -> int:
    """Describe pictures one by one, so that each text is there as soon as it is written."""
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
            console.write(to_json({**fields, **provenance(metric, exif=exif)}) + "\n")
            continue
        if len(images) > 1:
            _print(console.printable(path), "bold")
        _show(answer, Words((), "generate", max_new_tokens))
    return FAILED if failed else 0


def _show(answer: Answer, words: Words) -> None:
    _print(str(answer))
    widest = max(map(len, answer.probs), default=0)
    sign = "#" if console.out().options.ascii_only else "█"
    for choice, value in answer.probs.items():
        _print(f"  {choice:<{widest}}  {value:.3f} {sign * round(value * _WIDTH)}")
    if not answer.finished:
        console.say(f"(cut off after {words.max_new_tokens} tokens; --max-new-tokens N allows more)", "dim")
    if words.choices and answer.choice is None:
        console.say("(the reply does not name exactly one of the choices)", "dim")


def _print(text: str, style: str = "") -> None:
    lines = "\n".join(map(console.printable, text.split("\n")))
    console.out().print(Text(lines, style=style))
