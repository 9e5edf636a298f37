"""What is said and asked about a made picture: feedback, D2's writer, questions on quality and on content. Pure.

Feedback is that of a viewer who knows the degradations. Questions about quality are those to validate on; those about
the content are D3's, and their words are a data file, `content_questions.json`: for each fact its open questions, their
answers, and the questions for yes or no; `{it}` is the fact.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, cast

import numpy as np

from qsit_metric.evaluation import Question
from qsit_metric.evaluation.qbench import Concern, Type

from ...data.interpreting import Draft, Feedback, Task, TemplateWriter
from ...data.interpreting.build import ask, positions
from ...data.interpreting.feedback import facts
from ...data.interpreting.vocabulary import Attribute, knowledge, read_words
from ...data.interpreting.writer import dialogue, told
from ...data.rows import Refusals, Row
from ...errors import DataError
from .drawings import PAINTS, WORDS, shapes_subject
from .kadid import SCALE
from .photographs import PHOTOGRAPHS
from .pictures import (
    ABSENT,
    COLOURS,
    COUNTS,
    FOLDER,
    KINDS,
    LAYOUTS,
    PLACES,
    SEVERE,
    SHAPES,
    SLIGHT,
    Degradation,
    Facts,
    MadePicture,
    wordings,
)

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
SOURCE = "synthetic"
_KNOWING = ("causes", "advice", "tools")


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


def feedback(picture: MadePicture, rng: np.random.Generator, level: bool = True) -> Feedback:
    """Write what a careful viewer who knows the degradation would say: it, its cause, something right, a conclusion.

    Args:
        picture: The picture.
        rng: Chooses the words.
        level: Conclude with a level, if the picture has a score.
    """
    said = [one for degradation in picture.degradations for one in _degradation(degradation, rng)]
    for name in _praised(picture, rng, [name for name, _ in said])[: 1 if said else 2]:
        said.insert(_gap(said, rng), (name, one_of(_right(name), rng)))
    return Feedback(picture.image, tuple(said), _conclusion(picture, rng, level), SOURCE, None)


def one_of(texts: Sequence[str], rng: np.random.Generator) -> str:
    """Draw one of some texts, each equally often."""
    return texts[int(rng.integers(len(texts)))]


def _degradation(one: Degradation, rng: np.random.Generator) -> list[tuple[str, str]]:
    """Say which attribute a degradation lowers, and perhaps its cause."""
    wording = one.wording
    if one.grade == ABSENT:  # it is there and nobody sees it
        return [(wording.attribute, one_of(_right(wording.attribute), rng))]
    word = one_of(wording.words, rng)
    forms = ("slightly {word}",) if one.grade == SLIGHT else _phrases("severe" if one.grade == SEVERE else "strong")
    found = [(wording.attribute, one_of(forms, rng).format(word=word))]
    if rng.random() < 0.7:
        cause = one_of(wording.causes, rng)
        found.append(("", one_of(_phrases("causes"), rng).format(cause=cause)))
    return found


def _right(name: str) -> tuple[str, ...]:
    """Words for an attribute with which nothing is wrong."""
    attribute = wordings().attributes[name]
    return attribute.steps[1 if attribute.excluding else 2].asked


def _gap(said: Sequence[tuple[str, str]], rng: np.random.Generator) -> int:
    """A place that does not part a degradation from its cause."""
    gaps = [place for place in range(len(said) + 1) if place == len(said) or said[place][0]]
    return gaps[rng.integers(len(gaps))]


def _praised(picture: MadePicture, rng: np.random.Generator, named: Sequence[str]) -> list[str]:
    """Attributes of which something good can be said, in random order, one of a family."""
    words = wordings()
    family = {name: one.family for name, one in words.attributes.items()}
    seen = [one for one in picture.degradations if one.grade != ABSENT]
    gone = {hidden for one in seen for hidden in (one.family, *words.hides[one.family])}
    gone |= {family[name] for name in named if name}
    tone = picture.tone
    unfit = {
        "exposure": not 0.3 <= tone.light <= 0.65,
        "contrast": not 0.14 <= tone.contrast <= 0.27,
        "colour": tone.saturation < 0.35,
        "naturalness": tone.saturation > 0.5,
    }
    fitting = [name for name in words.praised if family[name] not in gone and not unfit.get(name, False)]
    found: list[str] = []
    taken = [str(name) for name in rng.permutation(fitting) if rng.random() < words.praised[name]]
    for name in taken or list(rng.permutation(fitting))[: not named]:
        if family[name] not in {family[one] for one in found}:
            found.append(name)
    return found


def _conclusion(picture: MadePicture, rng: np.random.Generator, level: bool) -> str:
    """Conclude with a level, or for pictures without a score with nothing that is one."""
    if picture.mos is None or not level:
        slight = all(one.grade <= SLIGHT for one in picture.degradations)
        return one_of(_phrases("unscored")["slight" if slight else "severe"], rng)
    return one_of(_phrases("conclusions"), rng).format(level=SCALE.level(picture.mos))


def _phrases(name: str) -> Any:
    return read_words("wordings", FOLDER)["feedback"][name]


class SyntheticWriter:
    """Writes as `TemplateWriter` does; of problems that only we know about, it writes the conversations itself.

    Of how-questions it keeps as many as there are what-questions.

    Example:
        >>> from train.data.interpreting import Feedback
        >>> said = Feedback("a.jpg", (("banding", "banded"),), "Thus, the quality of the image is poor.")
        >>> [[draft]] = SyntheticWriter().write([Task(said, "conversation", "tools")], Refusals())
        >>> draft.answer.split(". ")[0] in ("The image is banded", "The image is reduced to few tones")
        True
    """

    name = "templates"

    def write(self, tasks: Sequence[Task], refusals: Refusals) -> Iterator[list[Draft]]:
        """See `Writer.write`; nothing is ever refused."""
        templates = TemplateWriter(_vocabulary())
        for task, drafts in zip(tasks, templates.write(tasks, refusals), strict=True):
            if task.kind == "what_how":
                yield _as_many(drafts, task)
                continue
            own = _conversation(task) if task.kind == "conversation" and task.topic in _KNOWING else None
            yield drafts if own is None else [own]


def _as_many(drafts: list[Draft], task: Task) -> list[Draft]:
    """Keep one how-question for each what-question, or one: the templates have four times as many."""
    how = [draft for draft in drafts if draft.kind == "how"]
    what = [draft for draft in drafts if draft.kind == "what"]
    rng = random.Random(f"how {task.seed} {task.number} {task.feedback.image}")
    return what + rng.sample(how, min(len(how), max(1, len(what))))


def _conversation(task: Task) -> Draft | None:
    """A conversation about a problem, if the templates know nothing about one of those that are seen."""
    problems = [fact for fact in facts(task.feedback, _vocabulary()) if fact.step.problem]
    if all(fact.step.problem in knowledge() for fact in problems):
        return None
    rng = random.Random(f"own {task.seed} {task.topic} {task.number} {task.feedback.image}")
    fact, topic = rng.choice(problems), task.topic
    first, second = rng.sample(getattr(wordings().knowledge[fact.step.problem], topic), 2)
    said = f"The image is {rng.choice(fact.step.asked)}. {told('first', task.topic, first, rng)}"
    again = told("second", topic, second, rng)
    return dialogue(topic, said, again, task.feedback.conclusion, rng)


def _vocabulary() -> tuple[Attribute, ...]:
    return tuple(wordings().attributes.values())


WRITER = SyntheticWriter()
