"""Questions about degraded photographs, in the words of the training data, and how far those words go alone.

They come from the same builder as the questions of validation, about pictures that are degraded in the same ways: what
(one distortion that is there among three that are not), yes-no, and how (three steps). Pure but for measuring the
photographs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from benchmarks.nano.pictures import Picture, make
from benchmarks.nano.training import (
    Facts,
    MadePicture,
    Tone,
    draw_degradations,
    overall_quality,
    questions,
    tone_of,
    wordings,
)
from qsit_metric.evaluation import EvaluationError, Question

KINDS = ("what", "yes-no", "how")
_PRISTINE, _CORRUPTED, _PAIRS = 0.06, 0.2, 0.15  # as the questions of validation are drawn


@dataclass(frozen=True)
class Asked:
    """A question and the picture that it is about."""

    question: Question
    picture: Picture


def tones(folder: Path, photographs: Sequence[str]) -> dict[str, Tone]:
    """Light, contrast and saturation of each photograph, which decide what may be praised.

    Raises:
        EvaluationError: A photograph cannot be read.
    """
    return {name: tone_of(make(folder, Picture(name))) for name in photographs}


def draw(measured: Mapping[str, Tone], count: int, seed: int) -> list[Asked]:
    """Questions about different pictures, all photographs equally often as far as it goes.

    Args:
        measured: What `tones` gives.
        count: How many; a third of each kind.
        seed: Equal seeds give equal questions and pictures.

    Returns:
        Right answers stand in each place equally often; yes is right as often as no.

    Raises:
        EvaluationError: The number is no multiple of 6, so that kinds and answers cannot be equally frequent.
    """
    if count < 6 or count % 6:
        raise EvaluationError.about("--questions", count, "a multiple of 6, at least 6")
    names = sorted(measured)
    shots = [_shot(names[number % len(names)], number, measured, seed) for number in range(2 * count + 6)]
    made = dict(shots)
    found = questions([shot for shot, _ in shots], count, seed)
    pictures = {shot.image: picture for shot, picture in made.items()}
    return [Asked(one, pictures[one.image]) for one in found]


def _shot(name: str, number: int, measured: Mapping[str, Tone], seed: int) -> tuple[MadePicture, Picture]:
    rng = np.random.default_rng([seed, 2, number])
    degradations = draw_degradations(rng, pristine=_PRISTINE, corrupted=_CORRUPTED, pairs=_PAIRS)
    shot = MadePicture(f"{number:05d}/{name}", name, Facts("", ""), measured[name], degradations)
    return shot, Picture(name, degradations, int(rng.integers(1 << 31)))


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
