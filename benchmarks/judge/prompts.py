"""What the judge is asked, and how its reply is read. Pure.

A rating depends on the wording, so the scales keep that in which projects that follow Q-Bench publish them: all of
completeness as in MedQ-Bench's scorer, the scales of precision and relevance; the sentences around those are ours.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from qsit_metric.evaluation import EvaluationError

_END = "Please only provide the result in the following format: Score:"

PROMPTS: Mapping[str, str] = MappingProxyType(
    {
        "completeness": (
            "Evaluate whether the description [{described}] completely includes the low-level visual information in "
            "the reference description [{golden}]. Please rate score 2 for completely or almost completely including "
            "reference information, 0 for not including at all, 1 for including part of the information or similar "
            f"description. {_END}"
        ),
        "precision": (
            "Evaluate whether the description [{described}] agrees with the reference description [{golden}]. A "
            "low-level description is controversial if the reference says the opposite, such as blurry against clear, "
            "dark against bright, or noisy against clean. Please rate score 2 for totally no controversial low-level "
            "description, 1 for less controversial low-level description than matched description, 0 for more "
            f"controversial low-level description than matched description. {_END}"
        ),
        "relevance": (
            "Evaluate whether the description [{described}] is about low-level visual information (blur, noise, "
            "exposure, artifact, color, lightness, focus, composition, etc.). Please rate score 2 for completely "
            f"relevant, 1 for partly relevant, 0 for totally irrelevant. {_END}"
        ),
    }
)
"""Dimension -> text with the places of the two descriptions; relevance needs no golden one."""

_MARKUP = str.maketrans("", "", "*_`#")
_SCORE = re.compile(r"score\s*:([^\n]*)", re.IGNORECASE)
_RATINGS = ("0", "1", "2")


def needs_golden(dimension: str) -> bool:
    """Whether a dimension compares with the golden text."""
    return "{golden}" in PROMPTS[dimension]


def messages(dimension: str, described: str, golden: str | None = None) -> list[dict[str, str]]:
    """The conversation that asks for one rating; a single turn, since not every model knows a system turn.

    Args:
        dimension: A key of `PROMPTS`.
        described: What a model wrote about the image.
        golden: What experts wrote; may be None for relevance.

    Raises:
        EvaluationError: An unknown dimension, or no golden text where one is needed.

    Example:
        >>> messages("relevance", "A dark street.")[0]["content"][:49]
        'Evaluate whether the description [A dark street.]'
    """
    if dimension not in PROMPTS or (golden is None and needs_golden(dimension)):
        expected = f"one of {', '.join(PROMPTS)}, with a golden text but for relevance"
        raise EvaluationError.about("dimension, golden", (dimension, golden), expected)
    # Not `format`: a description may have braces.
    text = re.sub(
        r"\{(\w+)\}", lambda place: str({"described": described, "golden": golden}[place[1]]), PROMPTS[dimension]
    )
    return [{"role": "user", "content": text}]


def rating(reply: str) -> int | None:
    r"""The rating that a reply gives: what stands alone behind "Score:", or the reply if it is nothing but a digit.

    Nothing is guessed: another number, a range, a word behind the digit, or two ratings that differ give none.

    Args:
        reply: The judge's words; marks of Markdown do not count.

    Returns:
        0, 1 or 2; None if the reply gives no rating.

    Example:
        >>> rating("Score: 2"), rating("It has most of it.\n**Score:** 1."), rating("0")
        (2, 1, 0)
        >>> rating("Score: 1.5"), rating("Score: 1 or 2"), rating("I would say 2")
        (None, None, None)
    """
    text = reply.translate(_MARKUP)
    said = [_alone(rest) for rest in _SCORE.findall(text)] or [_alone(text)]
    return int(said[0]) if said[0] in _RATINGS and len(set(said)) == 1 else None


def _alone(text: str) -> str:
    """Text without the space, brackets and full stop around it."""
    return text.strip().strip("[]()").removesuffix(".").strip()
