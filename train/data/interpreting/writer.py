"""The contract of writers: tasks about feedback, drafts of questions and conversations. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from qsit_metric.errors import shorten
from qsit_metric.prompts import LETTERS

from ...errors import DataError
from ..rows import IMAGE, Refusals
from .feedback import Feedback

Asked = Literal["yes_no", "what_how", "conversation"]

TOPICS = ("causes", "advice", "tools", "consumers", "other")
"""The five kinds of conversation of Sec. III-B5, in its order."""


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
    """Whoever turns feedback into questions and conversations."""

    @property
    def name(self) -> str:
        """For reports."""
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
