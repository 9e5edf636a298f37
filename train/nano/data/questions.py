"""Questions about a made picture: about its quality, to validate on, and about what it shows, for D3. Pure.

The words of those about the content are a data file, `content_questions.json`: for each fact its open questions, their
answers, and the questions for yes or no; `{it}` is the fact.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, cast

import numpy as np

from qsit_metric.evaluation import Question
from qsit_metric.evaluation.qbench import Concern, Type

from ...data.interpreting import Draft, Task
from ...data.interpreting.build import ask, positions
from ...data.interpreting.vocabulary import read_words
from ...data.rows import Refusals, Row
from ...errors import DataError
from .drawings import PAINTS, WORDS, shapes_subject
from .feedback import SOURCE, WRITER, feedback, one_of
from .photographs import PHOTOGRAPHS
from .pictures import COLOURS, COUNTS, FOLDER, KINDS, LAYOUTS, PLACES, SHAPES, Facts, MadePicture

_OPPOSITE = {"Yes": "No", "No": "Yes"}
_OTHER = ("contrast", "exposure", "colour", "tint")  # families that Q-Bench counts as "other", not as distortions
_SUBJECTS = (
    *(one.subject for one in PHOTOGRAPHS.values()),
    *("overlapping pieces", "cloudy noise", "a smooth gradient", "stripes", "checks", "dots", "hills under the sky"),
    *("one house before hills", "two houses before hills", "three houses before hills"),
)
_WRITTEN, _SHAPED = 5, 10  # written and geometric subjects among the others, about as frequent as they are


_NO_WRITING = 0.15  # most pictures have none; they are asked about it about as often as those that have some


# Each fact that can be asked for, and what else it might be.
_OPTIONS: Mapping[str, Sequence[str]] = MappingProxyType(
    {
        "subject": _SUBJECTS,
        "kind": tuple(KINDS.values()),
        "colour": COLOURS,
        "word": WORDS,
        "shape": SHAPES,
        "shape_colour": tuple(PAINTS),
        "count": COUNTS,
        "place": PLACES,
        "layout": LAYOUTS,
        "writing": ("yes", "no"),
    }
)


def content_row(picture: MadePicture, number: int, rng: np.random.Generator) -> Row:
    """A D3 row: one to three questions about what is shown, open, for yes or no, or with options.

    Yes is right as often as no; a wrong yes/no fact is drawn from what it might be.
    """
    known = [name for name in _OPTIONS if getattr(picture.facts, name)]
    if picture.facts.writing == "no" and rng.random() > _NO_WRITING:
        known.remove("writing")
    asked = [str(name) for name in rng.permutation(known)[: rng.integers(1, 4)]]
    return Row(
        f"content/{number:06d}", picture.image, tuple(_turn(name, picture.facts, rng, number) for name in asked), SOURCE
    )


def _turn(name: str, facts: Facts, rng: np.random.Generator, number: int) -> tuple[str, str]:
    it = KINDS[facts.kind] if name == "kind" else str(getattr(facts, name))
    forms: list[Callable[[], tuple[str, str]]] = [lambda: _open(name, it, rng)]
    if _words(name)["closed"]:
        forms += [lambda: _closed(name, it, rng), lambda: _options(name, it, rng, number)]
    return forms[rng.integers(len(forms))]()


def _open(name: str, it: str, rng: np.random.Generator) -> tuple[str, str]:
    asked = _words(name)
    return one_of(asked["open"], rng), _capital(one_of(asked["answers"], rng).format(it=it))


def _closed(name: str, it: str, rng: np.random.Generator) -> tuple[str, str]:
    asked = _words(name)
    right = rng.random() < 0.5
    named = it if right else one_of(_others(name, it, rng), rng)
    return one_of(asked["closed"], rng).format(it=named), "Yes." if right else "No."


def _options(name: str, it: str, rng: np.random.Generator, number: int) -> tuple[str, str]:
    asked = _words(name)
    others = _others(name, it, rng)
    wrong = [_capital(str(one)) for one in rng.permutation(others)[: rng.integers(1, min(3, len(others)) + 1)]]
    return ask(one_of(asked["open"], rng), _capital(it), wrong, int(rng.integers(len(wrong) + 1)), f"{name} {number}")


def _others(name: str, it: str, rng: np.random.Generator) -> list[str]:
    """List what else it might be; drawn subjects, too, so that one of these in a question is not always right."""
    found = list(_OPTIONS[name])
    if name == "subject":
        found += [f'the word "{one_of(WORDS, rng)}"' for _ in range(_WRITTEN)]
        found += [
            shapes_subject(one_of(COUNTS, rng), one_of(tuple(PAINTS), rng), one_of(SHAPES, rng)) for _ in range(_SHAPED)
        ]
    return [one for one in dict.fromkeys(found) if one != it]


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _words(name: str) -> Any:
    return read_words("content_questions", FOLDER)[name]


def questions(pictures: Sequence[MadePicture], count: int, seed: int) -> list[Question]:
    """LLVisionQA questions, a third each yes-no, what and how, about different pictures.

    The words are those of the D2 builder. Yes is right as often as no, of each attribute as far as it goes; the right
    option stands in each place equally often.

    Args:
        pictures: Pictures, about three for each two questions.
        count: How many.
        seed: Equal seeds give equal questions.

    Raises:
        DataError: Too few pictures.
    """
    rng = np.random.default_rng([seed, 1])
    sides = {"Yes": count // 6, "No": count // 6}
    limits = {"yes-no": sum(sides.values()), "what": count // 3}
    limits["how"] = count - sum(limits.values())
    found: list[tuple[MadePicture, Draft, str]] = []
    for number, picture in enumerate(pictures):
        done = {kind: sum(kind == one[2] for one in found) for kind in limits}
        said = {answer: sum(answer == one[1].answer for one in found) for answer in sides}
        drafts = _drafts(picture, number, seed, rng)
        drafts["yes-no"] = [one for one in drafts["yes-no"] if said[one.answer] < sides[one.answer]]
        open_kinds = sorted((kind for kind in limits if done[kind] < limits[kind]), key=lambda k: done[k] / limits[k])
        fitting = next((kind for kind in open_kinds if drafts[kind]), None)
        if fitting:
            found.append((picture, _rarest(drafts[fitting], [one for _, one, _ in found]), fitting))
    if len(found) < count:
        raise DataError.about("shots", f"<{len(pictures)} pictures>", f"more of them for {count} questions")
    return _placed(found, seed, rng)


def _drafts(picture: MadePicture, number: int, seed: int, rng: np.random.Generator) -> dict[str, list[Draft]]:
    said = feedback(picture, rng)
    tasks = [Task(said, "yes_no", number=number, seed=seed), Task(said, "what_how", number=number, seed=seed)]
    drafts = [draft for found in WRITER.write(tasks, Refusals()) for draft in found]
    return {kind: [one for one in drafts if one.kind == kind.replace("-", "_")] for kind in ("yes-no", "what", "how")}


def _rarest(drafts: Sequence[Draft], before: Sequence[Draft]) -> Draft:
    """The draft whose answer was given least often to the same words (of yes or no, compared with the other answer)."""

    def surplus(draft: Draft) -> int:
        alike = [one.answer for one in before if one.kind == draft.kind and _asked_for(one) == _asked_for(draft)]
        same = alike.count(draft.answer)
        return same - alike.count(_OPPOSITE[draft.answer]) if draft.kind == "yes_no" else same

    return min(drafts, key=surplus)


def _asked_for(draft: Draft) -> str:
    """The words that a yes/no question asks for; of the others the answers are compared across all questions."""
    return " ".join(draft.question.rstrip("?").split()[-2:]) if draft.kind == "yes_no" else ""


def _placed(found: Sequence[tuple[MadePicture, Draft, str]], seed: int, rng: np.random.Generator) -> list[Question]:
    options = [draft.distractors or (_OPPOSITE[draft.answer],) for _, draft, _ in found]
    sizes = [(1 + len(wrong), draft.answer) for (_, draft, _), wrong in zip(found, options, strict=True)]
    asked = []
    for number, ((picture, draft, kind), wrong, place) in enumerate(
        zip(found, options, positions(sizes, seed), strict=True)
    ):
        choices = [str(option) for option in rng.permutation(np.array(wrong, dtype=object))]
        choices.insert(place, draft.answer)
        families = {one.family for one in picture.degradations}
        concern: Concern = "other" if families & set(_OTHER) else "distortion"
        asked.append(
            Question(str(number), picture.image, draft.question, tuple(choices), place, cast(Type, kind), concern)
        )
    return asked


_KNOWING = ("causes", "advice", "tools")
