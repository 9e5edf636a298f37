"""The template writer with knowledge about KADID-10k's degradations. Pure."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from ..interpreting import Draft, Task, TemplateWriter
from ..interpreting.facts import facts
from ..interpreting.knowledge import KNOWLEDGE
from ..interpreting.talk import _AGAIN, _CLOSINGS, _FOLLOW_UPS, _OPENINGS, _SAYING
from ..rows import Refusals
from .words import ALL_KNOWLEDGE, VOCABULARY

_KNOWING = ("causes", "advice", "tools")


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

    def __init__(self) -> None:
        self._templates = TemplateWriter(VOCABULARY)

    def write(self, tasks: Sequence[Task], refusals: Refusals) -> Iterator[list[Draft]]:
        """See `Writer.write`; nothing is ever refused."""
        for task, drafts in zip(tasks, self._templates.write(tasks, refusals), strict=True):
            if task.kind == "what_how":
                yield _as_many(drafts, task)
                continue
            own = _conversation(task) if task.kind == "conversation" and task.topic in _KNOWING else None
            yield drafts if own is None else [own]


def _as_many(drafts: list[Draft], task: Task) -> list[Draft]:
    """One how-question for each what-question, and one where there is none: the templates have four times as many."""
    how = [draft for draft in drafts if draft.kind == "how"]
    what = [draft for draft in drafts if draft.kind == "what"]
    rng = random.Random(f"how {task.seed} {task.number} {task.feedback.image}")
    return what + rng.sample(how, min(len(how), max(1, len(what))))


def _conversation(task: Task) -> Draft | None:
    """About a problem, if the templates know nothing about one of those that are seen."""
    problems = [fact for fact in facts(task.feedback, VOCABULARY) if fact.step.problem]
    if all(fact.step.problem in KNOWLEDGE for fact in problems):
        return None
    rng = random.Random(f"own {task.seed} {task.topic} {task.number} {task.feedback.image}")
    fact, topic = rng.choice(problems), task.topic
    first, second = rng.sample(getattr(ALL_KNOWLEDGE[fact.step.problem], topic), 2)
    said = f"The image is {rng.choice(fact.step.asked)}. {rng.choice(_SAYING[topic]).format(text=first)}"
    again = rng.choice(_AGAIN[topic]).format(text=second)
    turns = (
        (rng.choice(_OPENINGS[topic]), said),
        (rng.choice(_FOLLOW_UPS[topic]), again),
        (rng.choice(_CLOSINGS), task.feedback.conclusion),
    )
    return Draft("conversation", turns)
