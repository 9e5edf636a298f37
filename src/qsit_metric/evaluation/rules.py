"""Whether a reply to a multiple-choice question is right: the authors' rule, a strict one, and the likelihood. Pure.

Sources: `authors` is eval_scripts/qsit_transformers_test_q_bench.py (Q-Future/Q-SiT at 4e4d1df), in our words; `strict`
and `logits` are ours.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from ..prompts import LETTERS
from .errors import EvaluationError

if TYPE_CHECKING:
    from ..results import Answer

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
    """Which option a reply names: the letter with which it begins, else the only option whose text it has.

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
    """Which option the likelihood of the letters chose; for answers of `QSiT.ask(..., choices=choices)`.

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
