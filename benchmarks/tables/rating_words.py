"""Whether a reply to "How would you rate the quality of the image?" rates in words or in numbers. Pure.

Paper: Q-SiT, arXiv 2503.09197, Table I, counts replies with qualitative adjectives and replies with numerical ratings;
how it told them apart is not said. The rules are ours: a number counts where it stands as the rating, not where it
counts things, numbers a list or names the ends of a scale; a reply that has both is numerical, since people who are
asked for a number explain it in words, too.
"""

from __future__ import annotations

import re
from typing import Literal

Kind = Literal["qualitative", "numerical", "neither"]

ADJECTIVES = frozenset(
    """
    acceptable adequate average awful bad beautiful best better blurred blurry bright clear crisp dark decent degraded
    detailed distorted dull excellent exceptional fair faded fine flawless fuzzy good grainy great hazy high horrible
    impressive inferior low mediocre medium moderate nice noisy normal outstanding overexposed passable perfect
    pixelated pleasing poor professional reasonable satisfactory sharp standard stunning subpar sub-par superb superior
    terrible unacceptable unclear underexposed unsatisfactory vibrant vivid worse worst
    """.split()  # noqa: SIM905
)
"""The five levels of ITU-R BT.500 and what else people call the quality of a picture."""

_WORDS = "two|three|four|five|six|seven|eight|nine|ten"
_DIGITS = r"(?<![\w.,])\d{1,3}(?:\.\d+)?(?!\w|[.,]\d)"
_ANY = rf"(?:{_DIGITS}|\b(?:zero|one|{_WORDS})\b)"
_NAMED = r"(?:scored?|rat(?:e[sd]?|ing)|grade[sd]?|marks?|gives?|quality)"
_JOINT = r"(?:\b(?:is|as|at|an?|be|it|around|about|approximately|roughly|(?:score|rating|grade|mark)\s+(?:of|is))|[:=])"
_AFTER = r"out\s+of|percent|stars?|points?|on|because|due|since|as|for|based|given|with"
_END = rf"(?=-stars?\b|\s*(?:$|[.,;:!?)\]\"'*/%]|(?:{_AFTER})\b))"

_SCALE = re.compile(
    rf"\b(?:scale|range)\s+(?:of|from|between)?\s*{_ANY}\s*(?:to|and|through|-|–)\s*{_ANY}"
    rf"|{_ANY}\s*(?:to|-|–)\s*{_ANY}(?:[\s-]+points?)?[\s-]+scale",
    re.IGNORECASE,
)
_RATINGS = tuple(
    re.compile(pattern, re.IGNORECASE | re.MULTILINE)
    for pattern in (
        rf"{_ANY}\s*(?:/|\bout\s+of\b)\s*(?:a\s+possible\s+)?(?:5|10|100|five|ten|a?\s*hundred)\b(?!\s+of\b)",  # 7/10
        rf"\b{_NAMED}\b[^.!?\n]{{0,60}}?{_JOINT}[\s*]*{_DIGITS}{_END}",  # I would rate it as 7
        rf"\b(?:score|rating|grade)\s+{_DIGITS}{_END}",  # rating 7
        rf"\b{_NAMED}\b[^.!?\n]{{0,60}}?\b(?:an?|(?:score|rating|grade)\s+of)\s+(?:{_WORDS}){_END}",  # give it a seven
        rf"\A\W*{_ANY}\s*(?:%|percent|stars?|points?)?\W*\Z",  # 7
    )
)
_WORD = re.compile(r"[a-z]+(?:-[a-z]+)*")


def has_number(reply: str) -> bool:
    """Whether the reply rates with a number.

    Example:
        >>> has_number("I would rate it 7 out of 10."), has_number("On a scale of 1 to 10, it is good.")
        (True, False)
    """
    text = _SCALE.sub("", reply)
    return any(pattern.search(text) for pattern in _RATINGS)


def has_adjective(reply: str) -> bool:
    """Whether the reply has one of `ADJECTIVES`, also as a part of a compound such as "high-quality"."""
    words = set(_WORD.findall(reply.lower()))
    return bool(ADJECTIVES & (words | {part for word in words for part in word.split("-")}))


def classify(reply: str) -> Kind:
    """What a reply rates with.

    Args:
        reply: A model's answer.

    Returns:
        "numerical" if it rates with a number, whatever words explain it; else "qualitative" if it has an adjective of
        quality; else "neither".

    Example:
        >>> classify("The quality of the image is fair."), classify("8/10, since it is sharp"), classify("A red car.")
        ('qualitative', 'numerical', 'neither')
    """
    if has_number(reply):
        return "numerical"
    return "qualitative" if has_adjective(reply) else "neither"
