"""Feedback on a made picture, as from a viewer who knows its degradations, and the writer of D2's rows. Pure."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ...data.interpreting import Draft, Feedback, Task, TemplateWriter
from ...data.interpreting.feedback import facts
from ...data.interpreting.vocabulary import Attribute, knowledge, read_words
from ...data.interpreting.writer import dialogue, told
from ...data.rows import Refusals
from .kadid import SCALE
from .pictures import ABSENT, FOLDER, SEVERE, SLIGHT, Degradation, MadePicture, wordings

SOURCE = "synthetic"
_KNOWING = ("causes", "advice", "tools")


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
    """Its attribute, and perhaps its cause."""
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
    """About a problem, if the templates know nothing about one of those that are seen."""
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
