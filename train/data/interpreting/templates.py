"""Our own writer: questions and conversations from templates, without a model and without a network. Pure.

Questions about either pole of an attribute, with either answer, come from the same templates, so that the wording does
not give the answer away.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from ..rows import Refusals
from .facts import Fact, facts
from .places import PLACES
from .scale import Attribute
from .talk import conversation
from .vocabulary import ATTRIBUTES
from .writer import Draft, Task

WHOLE = ("the image", "this image", "the picture", "this photo")
_YES_NO = (
    "Is {place} {word}?",
    "Does {place} look {word}?",
    "Does {place} appear {word}?",
    "Would you call {place} {word}?",
    "Can {place} be described as {word}?",
    "Would you say that {place} is {word}?",
    "Is it correct that {place} is {word}?",
    "Do you find {place} {word}?",
)
_HOW = (
    "How is the {noun} of {place}?",
    "How would you rate the {noun} of {place}?",
    "How would you describe the {noun} of {place}?",
    "How do you judge the {noun} of {place}?",
    "How good or bad is the {noun} of {place}?",
)
_WHAT_PROBLEM = (
    "What distortion can be seen in {place}?",
    "What kind of degradation does {place} show?",
    "What lowers the technical quality of {place}?",
    "What problem affects {place}?",
)
_WHAT_PLACE = (
    "What part of {place} is {word}?",
    "What area of {place} looks {word}?",
    "What in {place} appears {word}?",
)
_DISTRACTORS = 3


class TemplateWriter:
    """Writes from templates.

    Args:
        attributes: The vocabulary; extend `vocabulary.ATTRIBUTES` for feedback with words of its own.

    Example:
        >>> from train.data.interpreting import Feedback, Task, TemplateWriter
        >>> said = Feedback("a.jpg", (("noise", "severe noise"),), "Thus, the quality of the image is poor.")
        >>> [drafts] = TemplateWriter().write([Task(said, "what_how")], Refusals())
        >>> [draft.answer for draft in drafts if draft.kind == "what"]
        ['Noise']
    """

    name = "templates"

    def __init__(self, attributes: Sequence[Attribute] = ATTRIBUTES) -> None:
        self._attributes = tuple(attributes)

    def write(self, tasks: Sequence[Task], refusals: Refusals) -> Iterator[list[Draft]]:
        """See `Writer.write`; nothing is ever refused."""
        return (self._drafts(task) for task in tasks)

    def _drafts(self, task: Task) -> list[Draft]:
        rng = random.Random(f"{task.seed} {task.kind} {task.topic} {task.number} {task.feedback.image}")
        known = facts(task.feedback, self._attributes)
        if task.kind == "conversation":
            return [conversation(task.feedback, known, task.topic, rng)]
        if task.kind == "yes_no":
            return _unique(draft for fact in known for draft in _yes_no(fact, rng))
        return _unique([*_how(known, rng), *_what_place(known, rng), *_what_problem(known, self._attributes, rng)])


def _yes_no(fact: Fact, rng: random.Random) -> list[Draft]:
    """The fact itself, and what contradicts it."""
    wrong = [fact.attribute.steps[rng.choice(steps)] for steps in fact.attribute.denied(fact.index)]
    pairs = [(rng.choice(fact.step.asked), "Yes"), *((rng.choice(step.asked), "No") for step in wrong)]
    rng.shuffle(pairs)
    said = [(rng.choice(_YES_NO).format(place=_place(fact, rng), word=word), answer) for word, answer in pairs]
    return [Draft("yes_no", (turn,)) for turn in said]


def _how(known: Sequence[Fact], rng: random.Random) -> Iterator[Draft]:
    for fact in known:
        noun = rng.choice(fact.attribute.nouns)
        question = rng.choice(_HOW).format(noun=noun, place=_place(fact, rng))
        words = [_short(rng.choice(step.asked)) for step in fact.attribute.steps]
        wrong = tuple(word for index, word in enumerate(words) if index != fact.index)
        yield Draft("how", ((question, words[fact.index]),), wrong)


def _what_place(known: Sequence[Fact], rng: random.Random) -> Iterator[Draft]:
    """Which part is so. A defect is taken to be where it is said to be; of a merit, another part must lack it."""
    for fact in known:
        same = [one for one in known if one.attribute == fact.attribute and one.index == fact.index]
        if not fact.place or len(same) > 1:
            continue
        said = {one.place for one in known if one.attribute == fact.attribute}
        differing = [one.place for one in known if one.attribute == fact.attribute and one.index == 2 - fact.index]
        others = [
            place for place in PLACES[fact.place] if place in differing or (fact.step.problem and place not in said)
        ]
        if others:
            word = rng.choice(fact.step.asked)
            question = rng.choice(_WHAT_PLACE).format(place=rng.choice(WHOLE), word=word)
            yield Draft("what", ((question, _short(fact.place)),), tuple(_short(place) for place in others))


def _what_problem(known: Sequence[Fact], attributes: Sequence[Attribute], rng: random.Random) -> Iterator[Draft]:
    """A distortion that is there, among some of other families that nobody has seen."""
    problems = [fact for fact in known if fact.step.problem]
    if not problems:
        return
    fact = rng.choice(problems)
    seen = {one.attribute.family for one in problems}
    absent = {step.problem for one in attributes if one.family not in seen for step in one.steps if step.problem}
    if absent:
        wrong = rng.sample(sorted(absent), min(_DISTRACTORS, len(absent)))
        question = rng.choice(_WHAT_PROBLEM).format(place=_place(fact, rng))
        yield Draft("what", ((question, fact.step.problem),), tuple(wrong))


def _place(fact: Fact, rng: random.Random) -> str:
    whole = rng.choice(WHOLE)
    return f"{fact.place} of {whole}" if fact.place else whole


def _short(text: str) -> str:
    """An answer by itself: capital first, no article ("The background")."""
    return text[:1].upper() + text[1:]


def _unique(drafts: Sequence[Draft] | Iterator[Draft]) -> list[Draft]:
    """One draft per question text."""
    return list({draft.question: draft for draft in drafts}.values())
