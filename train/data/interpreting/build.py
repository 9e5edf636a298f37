"""Feedback -> rows of D2: pathways, questions, the same with options, conversations. Pure, if the writer is.

Paper: Q-SiT, arXiv 2503.09197, Sec. III-B2 to B5. Options: the prompt of Q-Instruct, arXiv 2311.06783, App. C.1, and of
lmms-eval `qbench_dev`; wrong ones as in A-OKVQA (Sec. III-B4); the right letter stands everywhere equally often.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from qsit_metric.prompts import DESCRIBE, LETTERS, multiple_choice

from ...errors import DataError
from ..rows import Refusals, Row
from .feedback import Feedback
from .vocabulary import read_words
from .writer import TOPICS, Asked, Draft, Task, Writer, closed

KINDS = ("pathway", "yes_no", "what_how", "choice", "conversation")
_OPPOSITE = {"Yes": "No", "No": "Yes"}
T = TypeVar("T")
INSTRUCTION = "Answer with the option's letter from the given choices directly."


@dataclass(frozen=True)
class _Made:
    number: int  # of the feedback
    place: int  # among the drafts of its task
    draft: Draft

    @property
    def options(self) -> tuple[str, ...]:
        return self.draft.distractors or (_OPPOSITE[self.draft.answer],)


def build(
    feedbacks: Sequence[Feedback],
    writer: Writer,
    kinds: Iterable[str] = KINDS,
    seed: int = 0,
    *,
    limits: Mapping[str, int] | None = None,
    refusals: Refusals | None = None,
    surplus: Refusals | None = None,
) -> list[Row]:
    """Make the interpreting set of some feedback.

    Args:
        feedbacks: What people said; several may be about one picture.
        writer: Who writes questions and conversations.
        kinds: Of `KINDS`. "choice" repeats the questions of "yes_no" and "what_how" with options; if neither of them is
            named, the questions are there with options only.
        seed: Any whole number; equal arguments give equal rows.
        limits: Most rows of a kind; those that stay are drawn by seed, and yes/no stays 1:1.
        refusals: Where unusable results of the writer are noted; None raises for them.
        surplus: Where the rows are noted that were left out to have as many yes as no.

    Returns:
        The rows; ids begin with the kind. There are exactly as many answers "Yes" as "No", with and without options.

    Raises:
        DataError: An unknown kind or limit, or (without `refusals`) unusable results of the writer.

    Example:
        >>> from train.data.interpreting import Feedback, TemplateWriter, build
        >>> said = Feedback("a.jpg", (("sharpness", "blurry"),), "Thus, the quality of the image is poor.")
        >>> sorted({row.turns[0][1] for row in build([said], TemplateWriter(), ["yes_no"])})
        ['No', 'Yes']
    """
    wanted, most = _checked(kinds, limits or {})
    found = Refusals() if refusals is None else refusals
    maker = _Maker(feedbacks, writer, seed, most, found, Refusals() if surplus is None else surplus)
    rows = maker.pathways() if "pathway" in wanted else []
    questions = {"yes_no", "what_how"} & wanted or ({"yes_no", "what_how"} if "choice" in wanted else set())
    asked = [*(maker.yes_no() if "yes_no" in questions else []), *(maker.what_how() if "what_how" in questions else [])]
    rows += [maker.row(made) for made in asked if {"yes_no", "what_how"} & wanted]
    rows += maker.choices(asked) if "choice" in wanted else []
    rows += maker.conversations() if "conversation" in wanted else []
    if refusals is None:
        found.check(f"replies of {writer.name}")
    return rows


@dataclass
class _Maker:
    feedbacks: Sequence[Feedback]
    writer: Writer
    seed: int
    limits: Mapping[str, int]
    refusals: Refusals
    surplus: Refusals

    def pathways(self) -> list[Row]:
        numbers = self._limited("pathway", list(range(len(self.feedbacks))))
        return [self._row("pathway", n, 0, (pathway(self.feedbacks[n], f"{self.seed} {n}"),)) for n in numbers]

    def yes_no(self) -> list[_Made]:
        """Questions with as many yes as no: what one side has too much is drawn out."""
        made = self._written("yes_no")
        sides = [[one for one in made if one.draft.answer == answer] for answer in ("Yes", "No")]
        count = min(len(sides[0]), len(sides[1]), self.limits.get("yes_no", 2 * len(made)) // 2)
        kept = {id(one) for side in sides for one in _drawn(side, count, f"yes_no {self.seed}")}
        for one in made:
            if id(one) not in kept:
                self.surplus.add(f"{_name(one)}: {one.draft.question} {one.draft.answer}")
        return [one for one in made if id(one) in kept]

    def what_how(self) -> list[_Made]:
        return self._limited("what_how", self._written("what_how"))

    def choices(self, asked: Sequence[_Made]) -> list[Row]:
        """The same questions with options; a limit keeps yes and no even, too."""
        sides = [
            [one for one in asked if one.draft.answer == answer and one.draft.kind == "yes_no"] for answer in _OPPOSITE
        ]
        rest = [one for one in asked if one.draft.kind != "yes_no"]
        share = min(1.0, self.limits.get("choice", len(asked)) / max(1, len(asked)))
        count = int(len(sides[0]) * share)
        taken = [one for side in sides for one in _drawn(side, count, f"choice {self.seed}")]
        taken += _drawn(rest, int(len(rest) * share), f"choice {self.seed}")
        kept = {id(one) for one in taken}
        made = [one for one in asked if id(one) in kept]
        placed = positions([(1 + len(one.options), one.draft.answer) for one in made], self.seed)
        return [self._choice(one, position) for one, position in zip(made, placed, strict=True)]

    def conversations(self) -> list[Row]:
        """Conversations, one per feedback; the five topics come equally often."""
        numbers = self._limited("conversation", list(range(len(self.feedbacks))))
        shuffled = list(numbers)
        random.Random(f"topics {self.seed}").shuffle(shuffled)
        topics = {number: TOPICS[place % len(TOPICS)] for place, number in enumerate(shuffled)}
        made = self._write([self._task(number, "conversation", topics[number]) for number in numbers])
        kinds = {number: f"conversation-{topic}" for number, topic in topics.items()}
        return [self._row(kinds[one.number], one.number, one.place, one.draft.turns) for one in made]

    def row(self, made: _Made) -> Row:
        return self._row(made.draft.kind, made.number, made.place, made.draft.turns)

    def _choice(self, made: _Made, position: int) -> Row:
        turn = ask(made.draft.question, made.draft.answer, made.options, position, f"{self.seed} {_name(made)}")
        return self._row(f"choice-{made.draft.kind}", made.number, made.place, (turn,))

    def _written(self, kind: Asked) -> list[_Made]:
        return self._write([self._task(number, kind, "") for number in range(len(self.feedbacks))])

    def _task(self, number: int, kind: Asked, topic: str) -> Task:
        return Task(self.feedbacks[number], kind, topic, number, self.seed)

    def _write(self, tasks: Sequence[Task]) -> list[_Made]:
        drafts = zip(tasks, self.writer.write(tasks, self.refusals), strict=True)
        return [_Made(task.number, place, draft) for task, found in drafts for place, draft in enumerate(found)]

    def _limited(self, kind: str, items: list[T]) -> list[T]:
        return _drawn(items, self.limits.get(kind, len(items)), f"{kind} {self.seed}")

    def _row(self, kind: str, number: int, place: int, turns: tuple[tuple[str, str], ...]) -> Row:
        said = self.feedbacks[number]
        return Row(f"{kind}/{number:06d}/{place}", said.image, turns, said.source, said.mos)


def _drawn(items: Sequence[T], count: int, seed: str) -> list[T]:
    """`count` of the items, in their order."""
    if count >= len(items):
        return list(items)
    return [items[index] for index in sorted(random.Random(seed).sample(range(len(items)), count))]


def _name(made: _Made) -> str:
    return f"{made.draft.kind}/{made.number:06d}/{made.place}"


def _checked(kinds: Iterable[str], limits: Mapping[str, int]) -> tuple[set[str], Mapping[str, int]]:
    wanted = set(kinds)
    if not wanted or (unknown := sorted({*wanted, *limits} - set(KINDS))):
        raise DataError.about("kinds", unknown if wanted else "<none>", f"some of {', '.join(KINDS)}")
    if wrong := {name: size for name, size in limits.items() if not isinstance(size, int) or size < 0}:
        raise DataError.about("limits", wrong, "whole numbers of 0 or more")
    return wanted, limits


def positions(questions: Sequence[tuple[int, str]], seed: int) -> list[int]:
    """Decide where the right option of each question stands.

    Questions with equally many options share one rotation, which runs through equal answers first: over all of them,
    and over those with one answer, the counts of two positions differ by one at most.

    Args:
        questions: (number of options, right answer) of each.
        seed: Any whole number; which questions get which position.

    Returns:
        For each question a position from 0.

    Example:
        >>> sorted(positions([(2, "Yes")] * 3 + [(2, "No")] * 3, seed=1))
        [0, 0, 0, 1, 1, 1]
    """
    rng = random.Random(f"positions {seed}")
    order = list(range(len(questions)))
    rng.shuffle(order)
    order.sort(key=lambda index: questions[index])
    placed = [0] * len(questions)
    turns: dict[int, int] = {}
    for index in order:
        count = questions[index][0]
        turn = turns.get(count, rng.randrange(count))
        placed[index], turns[count] = turn, (turn + 1) % count
    return placed


def ask(question: str, answer: str, distractors: Sequence[str], position: int, seed: str) -> tuple[str, str]:
    r"""Write a question with options and the letter of the right one.

    Example:
        >>> ask("Is it sharp?", "No", ["Yes"], 1, "0")
        ("Is it sharp?\nA. Yes\nB. No\nAnswer with the option's letter from the given choices directly.", 'B')
    """
    options = list(distractors)
    random.Random(f"options {seed}").shuffle(options)
    options.insert(position, answer)
    return multiple_choice(question, options) + INSTRUCTION, LETTERS[position]


def pathway_questions() -> tuple[str, ...]:
    """List the questions before a pathway: the one of the published prompts first."""
    return (DESCRIBE, *read_words("templates")["pathway"]["questions"])


def pathway(feedback: Feedback, seed: str) -> tuple[str, str]:
    """The description question and its answer.

    Sentences of the feedback stay as they are; a bare phrase is led in by its attribute's name.

    Args:
        feedback: What the person said.
        seed: Decides the wording.

    Example:
        >>> said = Feedback("a.jpg", (("", "The sky is noisy."),), "Thus, the quality of the image is poor.")
        >>> pathway(said, "0")[1]
        'The sky is noisy. Thus, the quality of the image is poor.'
    """
    rng = random.Random(f"pathway {seed}")
    sentences = [_sentence(name, text, rng) for name, text in feedback.attributes]
    return rng.choice(pathway_questions()), " ".join([*sentences, closed(feedback.conclusion)])


def _sentence(name: str, text: str, rng: random.Random) -> str:
    if not name or text[-1] in ".!?":
        return closed(text)
    lead = str(rng.choice(read_words("templates")["pathway"]["leads"]))
    return lead.format(name=name, Name=name[:1].upper() + name[1:], text=text)


def summary(rows: Sequence[Row]) -> dict[str, Any]:
    """Count rows by kind, yes and no, and right letters by the number of options.

    Args:
        rows: Rows of `build`; their ids begin with the kind.

    Example:
        >>> summary([Row("yes_no/000000/0", "a.jpg", (("Is it sharp?", "No"),))])["yes_no"]
        {'Yes': 0, 'No': 1}
    """
    kinds = Counter(kind_of(row) for row in rows)
    said = Counter(row.turns[0][1] for row in rows if kind_of(row) == "yes_no")
    letters: dict[str, Counter[str]] = {}
    for row in rows:
        if kind_of(row).startswith("choice-"):
            question, answer = row.turns[0]
            count = sum(line[1:3] == ". " for line in question.splitlines())
            letters.setdefault(str(count), Counter())[answer] += 1
    return {
        "rows": len(rows),
        "images": len({row.image for row in rows}),
        "kinds": dict(sorted(kinds.items())),
        "yes_no": {answer: said[answer] for answer in ("Yes", "No")},
        "letters_by_options": {count: dict(sorted(found.items())) for count, found in sorted(letters.items())},
        "mean_words_pathway": _mean([len(row.turns[0][1].split()) for row in rows if kind_of(row) == "pathway"]),
    }


def kind_of(row: Row) -> str:
    """The kind of a row of `build`: "pathway", "yes_no", "what", "how", "choice-..." or "conversation-..."."""
    return row.id.split("/", 1)[0]


def _mean(values: Sequence[int]) -> float | None:
    return round(sum(values) / len(values), 1) if values else None
