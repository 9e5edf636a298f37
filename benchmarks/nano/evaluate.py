"""What a model says about the degraded pictures, kept as it comes: scores, and replies to questions.

Each question is asked about the picture and about a grey one in its place, by likelihood and in words.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image

from benchmarks.nano.pictures import Case, Made, pictures, series
from benchmarks.nano.questions import Asked
from qsit_metric import Answer, QSiT, console
from qsit_metric.errors import QSiTError
from qsit_metric.evaluation import Question
from qsit_metric.evaluation.multiple_choice import Rule, is_correct
from qsit_metric.journal import Journal
from qsit_metric.prompts import multiple_choice
from qsit_metric.results import Score

T = TypeVar("T")
RULES: tuple[Rule, ...] = ("logits", "authors")
_GREY = (128, 128, 128)
_KEPT = 16  # pictures after which results go to the disk


@dataclass(frozen=True)
class Scored:
    """A case with its score on 1..5 and the most probable level, or with the error in their place."""

    case: Case
    score: float | None
    level: str
    error: str = ""


def score_cases(
    metric: QSiT, cases: Sequence[Case], folder: Path, seed: int, log: Journal, workers: int
) -> list[Scored]:
    """Score what has no score yet.

    Args:
        metric: Who scores.
        cases: What is scored.
        folder: Of the photographs.
        seed: Of the random patterns.
        log: Has the scores of an earlier run, and takes those of this one.
        workers: Processes that make pictures, see `pictures`.

    Returns:
        All cases in the given order.
    """
    open_cases = [case for case in cases if case.key not in log.done]
    stream = pictures(folder, [case.picture(seed) for case in open_cases], workers)
    with console.progress("scores", len(open_cases)) as move:
        for number, batch in enumerate(batched(zip(open_cases, stream, strict=True)), start=1):
            log.add(*_lines(metric, batch))
            move(min(number * _KEPT, len(open_cases)), len(open_cases))
    return [_scored(case, log.done[case.key]) for case in cases]


def _lines(metric: QSiT, batch: Sequence[tuple[Case, Made]]) -> Iterator[dict[str, Any]]:
    images = [made for _, made in batch if isinstance(made, Image.Image)]
    results: Iterator[Score | QSiTError] = iter(metric.score(images, exif=False, errors="return"))
    for case, made in batch:
        found = made if isinstance(made, QSiTError) else next(results)
        if isinstance(found, QSiTError):
            yield {"key": case.key, "score": None, "level": "", "error": f"{type(found).__name__}: {found}"}
        else:
            yield {"key": case.key, "score": float(found), "level": found.level, "error": ""}


def _scored(case: Case, line: dict[str, Any]) -> Scored:
    return Scored(case, line["score"], line["level"], line["error"])


def batched(stream: Iterable[T]) -> Iterator[list[T]]:
    """What a stream gives, so many at a time as are scored together."""
    rest = iter(stream)
    while batch := list(islice(rest, _KEPT)):
        yield batch


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
    metric: QSiT, asked: Sequence[Asked], folder: Path, log: Journal, workers: int, limit: int
) -> list[Replied]:
    """Ask what has no reply yet.

    Args:
        metric: Who answers.
        asked: The questions.
        folder: Of the photographs.
        log: Has the replies of an earlier run, and takes those of this one.
        workers: Processes that make pictures, see `pictures`.
        limit: Tokens of a written reply.

    Returns:
        All questions in the given order.
    """
    rest = [one for one in asked if one.question.id not in log.done]
    stream = pictures(folder, [one.picture for one in rest], workers)
    for one, made in zip(console.track(rest, "questions"), stream, strict=True):
        log.add({"key": one.question.id, **_replies(metric, one.question, made, limit)})
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


def score_series(metric: QSiT, seed: int) -> list[dict[str, Any]]:
    """Score and most probable level of each place of the series."""
    places = series(seed)
    found = metric.score([image for _, _, image in places], exif=False)
    return [
        {"type": kind, "level": level, "score": float(score), "word": score.level}
        for (kind, level, _), score in zip(places, found, strict=True)
    ]
