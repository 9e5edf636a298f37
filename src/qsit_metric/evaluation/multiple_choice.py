"""Evaluation on LLVisionQA: the rules that judge replies, accuracy overall, by type and by concern, and failures.

Sources: `authors` is eval_scripts/qsit_transformers_test_q_bench.py (Q-Future/Q-SiT at 4e4d1df), in our words; `strict`
and `logits` are ours.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from ..errors import EvaluationError, QSiTError, released
from ..files import PathLike
from ..prompts import LETTERS, multiple_choice
from .loop import Progress, write_results
from .qbench import CONCERNS, TYPES, Question

if TYPE_CHECKING:
    from ..metric import QSiT, View
    from ..results import Answer

_LOG = logging.getLogger("qsit_metric")

Rule = Literal["logits", "authors", "strict"]

RULES: tuple[Rule, ...] = ("logits", "authors", "strict")


def authors(reply: str, choices: Sequence[str], answer: int) -> bool:
    r"""The authors' rule, quirks included, for numbers that compare with theirs.

    Their script decodes prompt and reply together and keeps what follows the last "assistant", so its text begins with
    a line break: a reply that is just the option's text is wrong, one whose line is the letter is right. "not A."
    counts as A, "A: sharp" and "(A)" do not, and a reply that contains "assistant" is cut there.
    `qsit_metric.prompts.choice_in` looks for the same marks in the bare reply, but of every option, and wants exactly
    one to be named; this asks about the correct option only, so a reply that names all of them is right.

    Args:
        reply: What the model wrote, without the prompt.
        choices: The options; a text that stands twice counts as the first.
        answer: Index of the correct option.

    Raises:
        EvaluationError: No such option.

    Example:
        >>> authors("A", ["Sharp", "Blurry"], 0), authors("Sharp", ["Sharp", "Blurry"], 0)
        (True, False)
        >>> authors("Neither A. nor B.", ["Sharp", "Blurry"], 1)
        True

    Reference:
        eval_scripts/qsit_transformers_test_q_bench.py at 4e4d1df.
    """
    if answer not in range(len(choices)):
        raise EvaluationError.about("answer", answer, f"an index of one of {len(choices)} choices")
    correct = choices[answer]
    letter = LETTERS[list(choices).index(correct)]
    text = f"assistant\n{reply}".rpartition("assistant")[2]
    return text in (letter, correct) or f"{letter}." in text or letter in text.split("\n")


def strict(reply: str, choices: Sequence[str]) -> int | None:
    """Index of the option that a reply names: by the letter that it begins with, else the only one whose text it has.

    A letter counts at the very beginning, alone or before one of `) . :` or a space, also in parentheses. "A" before
    another word is the article, unless that word begins the option. Texts are compared without regard to case, as
    whole words; a reply that is an option's text names it even if it has another's inside.

    Args:
        reply: What the model wrote, without the prompt.
        choices: The options.

    Returns:
        The option's index, or None, which is wrong: nothing is guessed.

    Example:
        >>> choices = ["Sharp", "Blurry"]
        >>> strict("(B) blurry", choices), strict("It is sharp.", choices), strict("A bit blurry", choices)
        (1, 0, 1)
        >>> strict("Sharp or blurry", choices) is None
        True
    """
    begin = re.match(rf"\s*\(?([{LETTERS[: len(choices)]}])([).:\s]|$)", reply)
    if begin and not _article(reply[begin.end(1) :], begin[1], choices):
        return LETTERS.index(begin[1])
    folded = [choice.casefold().strip(" .") for choice in choices]
    text = reply.casefold().strip(" .\n")
    if folded.count(text) == 1:
        return folded.index(text)
    named = [index for index, choice in enumerate(folded) if re.search(rf"(?<!\w){re.escape(choice)}(?!\w)", text)]
    return named[0] if len(named) == 1 else None


def logits(answer: Answer, choices: Sequence[str]) -> int | None:
    """Index of the option that the likelihood of the letters chose; for answers of `QSiT.ask(..., choices=choices)`.

    Example:
        >>> from qsit_metric import Answer
        >>> logits(Answer("Blurry", "Blurry"), ["Sharp", "Blurry"])
        1
    """
    return None if answer.choice is None else list(choices).index(answer.choice)


def check_rule(rule: object) -> None:
    """Refuse an unknown rule before anything is computed.

    Raises:
        EvaluationError: It is none of `RULES`.
    """
    if rule not in RULES:
        raise EvaluationError.about("rule", rule, f"one of {', '.join(RULES)}")


def is_correct(rule: Rule, reply: Answer, choices: Sequence[str], answer: int) -> bool:
    """Judge a reply by the named rule.

    Args:
        rule: One of `RULES`.
        reply: The model's answer: by likelihood for "logits", generated for the others.
        choices: The options.
        answer: Index of the correct one.
    """
    if rule == "authors":
        return authors(str(reply), choices, answer)
    return (logits(reply, choices) if rule == "logits" else strict(str(reply), choices)) == answer


def _article(rest: str, letter: str, choices: Sequence[str]) -> bool:
    """Whether a leading "A" is a word of its own: text follows on its line, and not the option's."""
    if letter != "A" or not rest.startswith(" "):
        return False
    line = rest.partition("\n")[0].strip(" .").casefold()
    return bool(line) and not line.startswith(choices[0].casefold().strip(" ."))


class Accuracy(NamedTuple):
    """Share of right answers.

    Attributes:
        accuracy: 0..1, or None if there was no question to judge.
        n: Questions that were judged.
    """

    accuracy: float | None
    n: int


class Reply(NamedTuple):
    """A question, its answer, and whether that is right.

    Attributes:
        question: The question.
        answer: What the model answered.
        correct: Whether that is right; None if the right answer is withheld.
    """

    question: Question
    answer: Answer
    correct: bool | None


@dataclass(frozen=True)
class QuestionReport:
    """Answers of a metric to a set of questions: accuracies, replies and failures.

    Attributes:
        rule: How replies were judged.
        overall: Accuracy over all judged questions.
        by_type: The same for "yes-no", "what" and "how".
        by_concern: The same for the four concerns.
        withheld: Questions that were answered but have no published answer; they are in no accuracy.
        failed: (question, error) of each question that could not be asked; they are in no accuracy either.
        replies: All others, in the given order.
        exif: Whether the EXIF orientation was applied.
        made: What made the answers (`QSiT.info`).
    """

    rule: Rule
    overall: Accuracy
    by_type: Mapping[str, Accuracy]
    by_concern: Mapping[str, Accuracy]
    withheld: int
    failed: tuple[tuple[Question, QSiTError], ...]
    replies: tuple[Reply, ...]
    exif: bool
    made: Mapping[str, str | None]

    def as_dict(self) -> dict[str, Any]:
        """Plain fields for result files."""
        groups = {"overall": {"all": self.overall}, "by_type": self.by_type, "by_concern": self.by_concern}
        shown = {name: {key: one._asdict() for key, one in group.items()} for name, group in groups.items()}
        return {
            "rule": self.rule, **shown, "overall": self.overall._asdict(), "withheld": self.withheld,
            "n_failed": len(self.failed), "exif": self.exif, "made": dict(self.made), "questions": self._rows(),
        }  # fmt: skip

    def save(self, path: PathLike) -> None:
        """Write everything as .json, or the rows of the questions as .csv; whole or not at all.

        Raises:
            EvaluationError: Another suffix, or the file cannot be written.
        """
        write_results(path, self.as_dict(), self._rows())

    def _rows(self) -> list[dict[str, Any]]:
        """Answered questions first, then those that failed."""
        rows = [(one, str(answer), correct, "") for one, answer, correct in self.replies]
        failed = [(one, None, None, f"{type(error).__name__}: {error}") for one, error in self.failed]
        return [
            {
                "id": one.id, "image": one.image, "type": one.type, "concern": one.concern, "question": one.question,
                "answer": one.answer, "reply": reply, "correct": correct, "error": error,
            }
            for one, reply, correct, error in [*rows, *failed]
        ]  # fmt: skip


def evaluate_questions(
    metric: QSiT,
    questions: Sequence[Question],
    root: PathLike,
    rule: Rule = "logits",
    *,
    exif: bool = False,
    max_new_tokens: int = 200,
    progress: Progress | None = None,
) -> QuestionReport:
    """Ask multiple-choice questions with the authors' prompt and judge the answers.

    An image is encoded once for all its questions.

    Args:
        metric: Who answers.
        questions: What `read_llvisionqa` gives.
        root: Folder of the images.
        rule: "logits" compares the option letters' likelihood in one forward pass; "authors" and "strict" have a reply
            written and look for the option: the functions of these names say how.
        exif: Apply the EXIF orientation; the authors' code does not.
        max_new_tokens: Limit of a written reply; the authors' is 200.
        progress: Called with (done, total) after each image, in questions.

    Returns:
        Accuracies, all replies, and all failures.

    Raises:
        EvaluationError: No questions, an unknown rule, or a metric that cannot be asked.
    """
    check_rule(rule)
    if not questions or not callable(getattr(metric, "open", None)):
        shown = metric if questions else "<no questions>"
        raise EvaluationError.about("metric, questions", shown, "a QSiT and at least one question")
    outcomes: dict[int, Answer | QSiTError] = {}
    for places in _by_image(questions):
        picked = [questions[place] for place in places]
        answers = _asked(metric, picked, Path(root), rule, exif, max_new_tokens)
        outcomes |= zip(places, answers, strict=True)
        if progress:
            progress(len(outcomes), len(questions))
    return _report(rule, questions, [outcomes[place] for place in range(len(questions))], exif, dict(metric.info))


def _by_image(questions: Sequence[Question]) -> Iterable[list[int]]:
    groups: dict[str, list[int]] = {}
    for place, question in enumerate(questions):
        groups.setdefault(question.image, []).append(place)
    return groups.values()


def _asked(
    metric: QSiT, questions: Sequence[Question], root: Path, rule: Rule, exif: bool, limit: int
) -> list[Answer | QSiTError]:
    try:
        view = metric.open(root / questions[0].image, exif=exif)
    except QSiTError as error:
        return [released(error) for _ in questions]
    with view:
        return list(_answers(view, questions, rule, limit))


def _answers(view: View, questions: Sequence[Question], rule: Rule, limit: int) -> Iterator[Answer | QSiTError]:
    for one in questions:
        try:
            if rule == "logits":
                yield view.ask(one.question, choices=one.choices)
            else:
                yield view.ask(multiple_choice(one.question, one.choices), max_new_tokens=limit)
        except QSiTError as error:  # noqa: PERF203
            yield released(error)


def _report(
    rule: Rule,
    questions: Sequence[Question],
    outcomes: Sequence[Answer | QSiTError],
    exif: bool,
    made: Mapping[str, str | None],
) -> QuestionReport:
    pairs = list(zip(questions, outcomes, strict=True))
    failed = tuple((one, found) for one, found in pairs if isinstance(found, QSiTError))
    replies = tuple(_reply(rule, one, found) for one, found in pairs if not isinstance(found, QSiTError))
    if failed:
        first, error = failed[0]
        _LOG.warning("%d of %d questions failed, first %s: %s", len(failed), len(questions), first.id, error)
    return QuestionReport(
        rule,
        _accuracy(replies),
        {name: _accuracy(one for one in replies if one.question.type == name) for name in TYPES},
        {name: _accuracy(one for one in replies if one.question.concern == name) for name in CONCERNS},
        sum(one.correct is None for one in replies),
        failed,
        replies,
        exif,
        made,
    )


def _reply(rule: Rule, one: Question, found: Answer) -> Reply:
    correct = None if one.answer is None else is_correct(rule, found, one.choices, one.answer)
    return Reply(one, found, correct)


def _accuracy(replies: Iterable[Reply]) -> Accuracy:
    judged = [one.correct for one in replies if one.correct is not None]
    return Accuracy(sum(judged) / len(judged) if judged else None, len(judged))
