"""How far the words of a question go without its picture. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cache

from benchmarks.nano.questions import Asked
from qsit_metric.evaluation import Question
from train.data.interpreting.vocabulary import overall_quality
from train.nano.data.pictures import wordings


def text_only(asked: Sequence[Asked]) -> list[float]:
    """The answer that was most often right to the same words, in the questions about all other photographs.

    Words that mean the same count as the same ("noisy", "grainy"; templates do not count at all), which makes this
    stronger than comparing texts. Among answers that were right equally often one is drawn: each then counts its share.

    Args:
        asked: Questions with their right answers.

    Returns:
        For each the chance 0..1 that this answer is right.
    """
    right = Counter((one.picture.photograph, _words(one.question), _meaning(_right(one.question))) for one in asked)
    whole: Counter[tuple[str, str]] = Counter()
    for (_, words, answer), times in right.items():
        whole[words, answer] += times
    return [_chance(one, whole, right) for one in asked]


def _chance(one: Asked, whole: Counter[tuple[str, str]], right: Counter[tuple[str, str, str]]) -> float:
    words, photograph = _words(one.question), one.picture.photograph
    meanings = [_meaning(choice) for choice in one.question.choices]
    counts = [whole[words, meaning] - right[photograph, words, meaning] for meaning in meanings]
    best = [meaning for meaning, count in zip(meanings, counts, strict=True) if count == max(counts)]
    return (_meaning(_right(one.question)) in best) / len(best)


def _words(question: Question) -> str:
    """What is asked for: of yes-no the step in the question, of how the attribute of the options, of what nothing."""
    if question.type == "yes-no":
        text = question.question.rstrip("?").casefold()
        return "yes-no " + _meaning(
            max((word for word in _steps() if text.endswith(f" {word}")), key=len, default=text)
        )
    if question.type == "how":
        return "how " + _meaning(question.choices[0]).rpartition(" ")[0]
    return "what"


def _meaning(text: str) -> str:
    """Attribute and step of a word, or the word itself."""
    return _steps().get(text.casefold(), text.casefold())


def _right(question: Question) -> str:
    return question.choices[question.answer or 0]


@cache
def _steps() -> dict[str, str]:
    return {
        word.casefold(): f"{attribute.name} {place}"
        for attribute in (*wordings().attributes.values(), overall_quality())
        for place, step in enumerate(attribute.steps)
        for word in step.asked
    }
