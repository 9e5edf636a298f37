"""Reading feedback: which attribute is at which step, and where. Pure.

What is negated, contradicts itself or has no known word gives no fact, and so no question.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from .feedback import Feedback
from .places import PLACE_WORDS
from .scale import Attribute, Step
from .vocabulary import ATTRIBUTES, QUALITY

_CLAUSES = re.compile(r"[,;.!]|\b(?:but|while|whereas|although|though|however|and yet)\b")
_NEGATED = re.compile(
    r"\b(?:not|no|without|free of|lacks?|lacking|hardly|never|isn't|aren't|little|barely|less)\b[\w\s-]{0,24}$"
)
_LIGHTLY = re.compile(r"\b(?:slightly|somewhat|a bit|a little|mildly|mild|slight|minor|some|faint|subtle)(?: \w+)?\s*$")
_ABSENT = re.compile(r"^(?:none|absent|no|not visible|invisible)$")
_BAD = re.compile(r"^(?:very |quite |rather )?(?:poor|bad|terrible|awful)$")
_GOOD = re.compile(r"^(?:very |quite |rather )?(?:good|excellent|great|perfect)$")


@dataclass(frozen=True)
class Fact:
    """One thing that the feedback says.

    Attributes:
        attribute: What it is about.
        index: Step on the attribute's scale, 0..2.
        place: One of `places.PLACES`, or "" for the whole picture.
    """

    attribute: Attribute
    index: int
    place: str = ""

    @property
    def step(self) -> Step:
        """The step itself."""
        return self.attribute.steps[self.index]


def facts(feedback: Feedback, attributes: Sequence[Attribute] = ATTRIBUTES) -> tuple[Fact, ...]:
    """Read a feedback.

    Args:
        feedback: What the person said.
        attributes: The vocabulary.

    Returns:
        Facts in the order of the text, the overall quality last; no two are about one attribute at one place.

    Example:
        >>> said = Feedback("a.jpg", (("", "The background is blurry but the subject is sharp."),), "It is good.")
        >>> [(fact.attribute.name, fact.index, fact.place) for fact in facts(said)]
        [('sharpness', 0, 'the background'), ('sharpness', 2, 'the main subject'), ('quality', 2, '')]
    """
    found: list[Fact] = []
    for name, text in feedback.attributes:
        known = tuple(one for one in attributes if name.casefold() in (one.name, *one.aliases))
        known = known or ((QUALITY,) if name.casefold() in QUALITY.aliases else ())
        found += _of_text(text, known, bool(name)) or _of_text(text, tuple(attributes), False)
    found += _of_text(feedback.conclusion, (QUALITY,), False)
    return _consistent(found)


def _of_text(text: str, attributes: tuple[Attribute, ...], named: bool) -> list[Fact]:
    """`attributes` are those that the text may be about; with its attribute named, general words count, too."""
    said = text.casefold().strip().rstrip(".")
    found = [fact for clause in _CLAUSES.split(said) for fact in _of_clause(clause, attributes)]
    if found or not named or len(attributes) != 1 or attributes[0].excluding:
        return found
    step = 0 if _BAD.match(said) else 2 if _GOOD.match(said) or _ABSENT.match(said) else None
    return [] if step is None else [Fact(attributes[0], step)]


def _of_clause(clause: str, attributes: tuple[Attribute, ...]) -> list[Fact]:
    found = []
    place = _place(clause)
    if place is None:
        return []
    for match in _pattern(attributes).finditer(clause):
        attribute, index = _index(attributes)[" ".join(match[0].split())]
        before = clause[: match.start()]
        if _NEGATED.search(before):
            continue
        if _LIGHTLY.search(before) and index != 1:
            if attribute.excluding or index == 2:
                continue
            index = 1
        found.append(Fact(attribute, index, place))
    return found


def _place(clause: str) -> str | None:
    """The one place that a clause names; "" for none, None for several."""
    named = {place for place, words in PLACE_WORDS.items() if re.search(rf"\b(?:{words})\b", clause)}
    return None if len(named) > 1 else next(iter(named), "")


def _consistent(found: Sequence[Fact]) -> tuple[Fact, ...]:
    steps: dict[tuple[str, str], set[int]] = {}
    for fact in found:
        steps.setdefault((fact.attribute.name, fact.place), set()).add(fact.index)
    named = {fact.attribute.name for fact in found if fact.place}
    kept = []
    for fact in dict.fromkeys(found):
        whole = [i for (name, _), indices in steps.items() if name == fact.attribute.name for i in indices]
        mixed = not fact.place and fact.attribute.name in named and len(set(whole)) > 1
        if len(steps[fact.attribute.name, fact.place]) == 1 and not mixed:
            kept.append(fact)
    return tuple(kept)


@cache
def _index(attributes: tuple[Attribute, ...]) -> dict[str, tuple[Attribute, int]]:
    return {
        word: (one, index)
        for one in attributes
        for index, step in enumerate(one.steps)
        for word in (*step.words, *step.asked)
    }


@cache
def _pattern(attributes: tuple[Attribute, ...]) -> re.Pattern[str]:
    """The longest word first, so that "not sharp" and "motion blur" are not read as "sharp" and "blur"."""
    words = sorted(_index(attributes), key=len, reverse=True)
    if not words:
        return re.compile(r"(?!)")
    return re.compile(
        r"(?<![\w-])(?:" + "|".join(re.escape(word).replace(r"\ ", r"\s+") for word in words) + r")(?![\w-])"
    )
