"""The contract of writers (tasks about feedback, drafts of texts), and our own, which fills templates. Pure.

Questions about either pole of an attribute, with either answer, come from the same templates, so that the wording does
not give the answer away. The templates are a data file, `templates.json`; no model and no network is needed.
Conversations: paper Sec. III-B5.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from qsit_metric.errors import shorten
from qsit_metric.prompts import LETTERS

from ...errors import DataError
from ..rows import IMAGE, Refusals
from .feedback import Fact, Feedback, facts
from .vocabulary import Attribute, knowledge, overall_quality, places, read_words
from .vocabulary import attributes as all_attributes

Asked = Literal["yes_no", "what_how", "conversation"]

TOPICS = ("causes", "advice", "tools", "consumers", "other")
"""The five kinds of conversation of Sec. III-B5, in its order."""
_DISTRACTORS = 3


@dataclass(frozen=True)
class Task:
    """A task: one kind of text about one feedback.

    Attributes:
        feedback: What the person said.
        kind: Questions answered with yes or no, questions with short answers, or a conversation.
        topic: One of `TOPICS` for a conversation, else "".
        number: The feedback's place in the file.
        seed: Of the whole build.
    """

    feedback: Feedback
    kind: Asked
    topic: str = ""
    number: int = 0
    seed: int = 0

    def __str__(self) -> str:
        return f"feedback {self.number} ({shorten(self.feedback.image)}), {self.topic or self.kind}"


@dataclass(frozen=True)
class Draft:
    """A draft of a conversation, or of a question with its options.

    Attributes:
        kind: "yes_no", "what", "how" or "conversation".
        turns: (question, answer) pairs; a single one unless it is a conversation. Yes or no is "Yes" or "No".
        distractors: Wrong answers for the multiple-choice form, for "what" and "how".

    Raises:
        DataError: It breaks one of these rules.
    """

    kind: Literal["yes_no", "what", "how", "conversation"]
    turns: tuple[tuple[str, str], ...]
    distractors: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        texts = [*(text for turn in self.turns for text in turn), *self.distractors]
        if not self.turns or not all(text.strip() and IMAGE not in text for text in texts):
            raise DataError.about("draft", self.turns, f"turns with text and without {IMAGE}")
        if (self.kind == "conversation") != (len(self.turns) > 1):
            raise DataError.about("draft", self.turns, "several turns in a conversation, one in a question")
        if self.kind == "yes_no" and self.answer not in ("Yes", "No"):
            raise DataError.about("draft", self.answer, "'Yes' or 'No'")
        self._check_distractors()

    def _check_distractors(self) -> None:
        options = [" ".join(text.casefold().rstrip(".").split()) for text in (self.answer, *self.distractors)]
        wanted = self.kind in ("what", "how")
        if wanted != bool(self.distractors) or len(set(options)) < len(options) or len(options) > len(LETTERS):
            expected = "wrong answers that differ from the answer and from each other" if wanted else "none"
            raise DataError.about("distractors", (self.answer, self.distractors), expected)

    @property
    def question(self) -> str:
        """The first question."""
        return self.turns[0][0]

    @property
    def answer(self) -> str:
        """The first answer."""
        return self.turns[0][1]


class Writer(Protocol):
    """A writer of questions and conversations about feedback."""

    @property
    def name(self) -> str:
        """The writer's name, for reports."""
        ...

    def write(self, tasks: Sequence[Task], refusals: Refusals) -> Iterator[list[Draft]]:
        """Do the tasks in order, equally for equal tasks.

        Args:
            tasks: What is asked.
            refusals: Where tasks are noted whose result cannot be used; they give an empty list.

        Returns:
            For each task its drafts; a feedback that says nothing to ask about gives none.
        """
        ...


class TemplateWriter:
    """Writes from templates.

    Args:
        attributes: The vocabulary; default: `vocabulary.attributes`. Extend it for feedback with words of its own.

    Example:
        >>> from train.data.interpreting import Feedback, Task, TemplateWriter
        >>> said = Feedback("a.jpg", (("noise", "severe noise"),), "Thus, the quality of the image is poor.")
        >>> [drafts] = TemplateWriter().write([Task(said, "what_how")], Refusals())
        >>> [draft.answer for draft in drafts if draft.kind == "what"]
        ['Noise']
    """

    name = "templates"

    def __init__(self, attributes: Sequence[Attribute] | None = None) -> None:
        self._attributes = all_attributes() if attributes is None else tuple(attributes)

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
    forms = _templates()["yes_no"]
    said = [(rng.choice(forms).format(place=_place(fact, rng), word=word), answer) for word, answer in pairs]
    return [Draft("yes_no", (turn,)) for turn in said]


def _how(known: Sequence[Fact], rng: random.Random) -> Iterator[Draft]:
    for fact in known:
        noun = rng.choice(fact.attribute.nouns)
        question = rng.choice(_templates()["how"]).format(noun=noun, place=_place(fact, rng))
        words = [_short(rng.choice(step.asked)) for step in fact.attribute.steps]
        wrong = tuple(word for index, word in enumerate(words) if index != fact.index)
        yield Draft("how", ((question, words[fact.index]),), wrong)


def _what_place(known: Sequence[Fact], rng: random.Random) -> Iterator[Draft]:
    """Ask which part is so. A defect is taken to be where it is said to be; of a merit, another part must lack it."""
    for fact in known:
        same = [one for one in known if one.attribute == fact.attribute and one.index == fact.index]
        if not fact.place or len(same) > 1:
            continue
        said = {one.place for one in known if one.attribute == fact.attribute}
        differing = [one.place for one in known if one.attribute == fact.attribute and one.index == 2 - fact.index]
        elsewhere = places()[fact.place].elsewhere
        others = [place for place in elsewhere if place in differing or (fact.step.problem and place not in said)]
        if others:
            word = rng.choice(fact.step.asked)
            question = rng.choice(_templates()["what_place"]).format(place=rng.choice(_templates()["whole"]), word=word)
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
        question = rng.choice(_templates()["what_problem"]).format(place=_place(fact, rng))
        yield Draft("what", ((question, fact.step.problem),), tuple(wrong))


def _place(fact: Fact, rng: random.Random) -> str:
    whole = rng.choice(_templates()["whole"])
    return f"{fact.place} of {whole}" if fact.place else whole


def _short(text: str) -> str:
    """An answer by itself: capital first, no article ("The background")."""
    return text[:1].upper() + text[1:]


def _unique(drafts: Sequence[Draft] | Iterator[Draft]) -> list[Draft]:
    """Keep one draft per question text."""
    return list({draft.question: draft for draft in drafts}.values())


def conversation(feedback: Feedback, known: Sequence[Fact], topic: str, rng: random.Random) -> Draft:
    """Write one conversation of three turns that says nothing beyond the feedback and general knowledge.

    Args:
        feedback: What the person said.
        known: The facts in it.
        topic: One of `TOPICS`.
        rng: Decides the wording.
    """
    if topic == "consumers":
        first, second = _consumers(known, rng)
    elif topic == "other":
        first, second = _other(feedback, rng)
    else:
        first, second = _problem(known, topic, rng)
    return dialogue(topic, first, second, feedback.conclusion, rng)


def dialogue(topic: str, first: str, second: str, conclusion: str, rng: random.Random) -> Draft:
    """Put questions before two answers about a topic and a conclusion."""
    asked = _templates()
    said = (
        (rng.choice(asked["openings"][topic]), first),
        (rng.choice(asked["follow_ups"][topic]), second),
        (rng.choice(asked["closings"]), closed(conclusion)),
    )
    return Draft("conversation", said)


def told(turn: Literal["first", "second"], topic: str, text: str, rng: random.Random) -> str:
    """Make a sentence of a cause, an advice or a tool."""
    return str(rng.choice(_templates()[turn][topic])).format(text=text)


def _problem(known: Sequence[Fact], topic: str, rng: random.Random) -> tuple[str, str]:
    """The problem that is seen, and what is known about it."""
    problems = [fact for fact in known if fact.step.problem in knowledge()]
    if not problems:
        texts, lead = _templates()["without_problem"][topic], "I see no clear technical distortion here."
    else:
        fact = rng.choice(problems)
        texts = getattr(knowledge()[fact.step.problem], topic)
        where = f"{fact.place} of the image" if fact.place else "the image"
        lead = f"{where[:1].upper()}{where[1:]} is {rng.choice(fact.step.asked)}."
    first, second = rng.sample(texts, 2)
    return f"{lead} {told('first', topic, first, rng)}", told("second", topic, second, rng)


def _consumers(known: Sequence[Fact], rng: random.Random) -> tuple[str, str]:
    step = next((fact.index for fact in known if fact.attribute == overall_quality()), None)
    if step is None:
        step = 0 if any(fact.step.problem for fact in known) else 1
    first, second = rng.sample(_templates()["consumers"][step], 2)
    return f"I would recommend it to {first}.", f"It may also suit {second}."


def _other(feedback: Feedback, rng: random.Random) -> tuple[str, str]:
    """Tell what the person said first, then the rest."""
    said = [f"{name[:1].upper()}{name[1:]}: {text}" if name else text for name, text in feedback.attributes]
    first, *rest = (closed(text) for text in said)
    return first, " ".join(rest) if rest else "Nothing else stands out."


def closed(text: str) -> str:
    """A sentence with its full stop."""
    return text if text[-1] in ".!?" else f"{text}."


def _templates() -> Any:
    return read_words("templates")
