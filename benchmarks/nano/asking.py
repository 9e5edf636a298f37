"""The model's replies: to the picture and to a grey one in its place, each by likelihood and in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.nano.log import Log
from benchmarks.nano.pictures import Made, pictures
from benchmarks.nano.questions import Asked
from benchmarks.nano.scoring import Tick
from qsit_metric import Answer, QSiT
from qsit_metric.errors import QSiTError
from qsit_metric.evaluation import Question
from qsit_metric.evaluation.questions import Rule, is_correct
from qsit_metric.prompts import multiple_choice

RULES: tuple[Rule, ...] = ("logits", "authors")
_GREY = (128, 128, 128)


@dataclass(frozen=True)
class Replied:
    """A question and what was answered; empty with the error in place of the replies.

    Attributes:
        asked: The question.
        seen: Rule -> reply to the picture; for "logits" the option's text.
        hidden: The same for a grey picture of the same size.
        error: Why there are none.
    """

    asked: Asked
    seen: Mapping[str, str]
    hidden: Mapping[str, str]
    error: str = ""

    def correct(self, rule: Rule, hidden: bool = False) -> bool:
        """Whether the reply is right by a rule."""
        question, reply = self.asked.question, (self.hidden if hidden else self.seen)[rule]
        answer = Answer(reply, reply if rule == "logits" else None)
        return is_correct(rule, answer, question.choices, question.answer or 0)


def ask_all(
    metric: QSiT, asked: Sequence[Asked], folder: Path, log: Log, workers: int, limit: int, tick: Tick
) -> list[Replied]:
    """Ask what has no reply yet.

    Args:
        metric: Who answers.
        asked: The questions.
        folder: Of the photographs.
        log: Has the replies of an earlier run, and takes those of this one.
        workers: Processes that make pictures, see `pictures`.
        limit: Tokens of a written reply.
        tick: Called with the number of questions after each.

    Returns:
        All questions in the given order.
    """
    rest = [one for one in asked if one.question.id not in log.done]
    tick(len(asked) - len(rest))
    for one, made in zip(rest, pictures(folder, [one.picture for one in rest], workers), strict=True):
        log.add([{"key": one.question.id, **_replies(metric, one.question, made, limit)}])
        tick(1)
    lines = [log.done[one.question.id] for one in asked]
    return [Replied(one, line["seen"], line["hidden"], line["error"]) for one, line in zip(asked, lines, strict=True)]


def _replies(metric: QSiT, question: Question, made: Made, limit: int) -> dict[str, Any]:
    try:
        if isinstance(made, QSiTError):
            raise made
        seen = _both(metric, question, made, limit)
        return {"seen": seen, "hidden": _both(metric, question, Image.new("RGB", made.size, _GREY), limit), "error": ""}
    except QSiTError as error:
        return {"seen": {}, "hidden": {}, "error": f"{type(error).__name__}: {error}"}


def _both(metric: QSiT, question: Question, image: Image.Image, limit: int) -> dict[str, str]:
    with metric.open(image, exif=False) as view:
        chosen = view.ask(question.question, choices=question.choices)
        written = view.ask(multiple_choice(question.question, question.choices), max_new_tokens=limit)
    return {"logits": str(chosen), "authors": str(written)}
