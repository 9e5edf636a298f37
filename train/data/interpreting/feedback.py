"""Pathway feedback (paper Sec. III-B2): its file format, and the facts in it: which attribute is at which step, where.

Format (ours): a JSON list or JSON Lines of `{"image", "mos"?, "source"?, "attributes", "conclusion"}`; `attributes` is
an object of attribute -> text, or a list of sentences.

What is negated, contradicts itself or has no known word gives no fact, and so no question.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from qsit_metric.errors import shorten

from ...errors import DataError
from ..rows import IMAGE, Refusals, checked_image, checked_mos, encodable, read_elements
from .vocabulary import Attribute, Step, overall_quality, places
from .vocabulary import attributes as all_attributes

_REQUIRED = ("image", "attributes", "conclusion")
_KNOWN = (*_REQUIRED, "mos", "source")
_CLAUSES = re.compile(r"[,;.!]|\b(?:but|while|whereas|although|though|however|and yet)\b")
_NEGATED = re.compile(
    r"\b(?:not|no|without|free of|lacks?|lacking|hardly|never|isn't|aren't|little|barely|less)\b[\w\s-]{0,24}$"
)
_LIGHTLY = re.compile(r"\b(?:slightly|somewhat|a bit|a little|mildly|mild|slight|minor|some|faint|subtle)(?: \w+)?\s*$")
_ABSENT = re.compile(r"^(?:none|absent|no|not visible|invisible)$")
_BAD = re.compile(r"^(?:very |quite |rather )?(?:poor|bad|terrible|awful)$")
_GOOD = re.compile(r"^(?:very |quite |rather )?(?:good|excellent|great|perfect)$")


@dataclass(frozen=True)
class Feedback:
    """The feedback of one person on one picture.

    Attributes:
        image: Path below the image root, with forward slashes.
        attributes: (attribute, text) pairs in the order of the file; the attribute is "" where the file has sentences.
        conclusion: The closing sentence ("Thus, the quality of the image is poor.").
        source: Data set of the picture; may be empty.
        mos: The picture's mean opinion score on its data set's scale, or None.
    """

    image: str
    attributes: tuple[tuple[str, str], ...]
    conclusion: str
    source: str = ""
    mos: float | None = None

    @classmethod
    def from_json(cls, fields: object, number: int = 0) -> Feedback:
        """Read one element of a feedback file.

        Args:
            fields: The element.
            number: Its place in the file, for messages.

        Raises:
            DataError: A field is missing, unknown, empty or of another type.

        Example:
            >>> said = {"image": "a.jpg", "attributes": {"noise": "severe noise"}, "conclusion": "Thus, it is poor."}
            >>> Feedback.from_json(said).attributes
            (('noise', 'severe noise'),)
        """
        if not isinstance(fields, Mapping):
            raise DataError(f"row {number}: it is a {type(fields).__name__}, expected an object")
        where = f"row {number} ({shorten(fields.get('image', 'no image'))})"
        if missing := [name for name in _REQUIRED if name not in fields]:
            raise DataError(f"{where}: no {' and no '.join(missing)}")
        if unknown := sorted(str(name) for name in fields if name not in _KNOWN):
            raise DataError(f"{where}: unknown fields {unknown}, expected only {', '.join(_KNOWN)}")
        source = fields.get("source", "")
        if not isinstance(source, str):
            raise DataError(f"{where}: `source` is {shorten(source)}, expected text")
        image = checked_image(fields["image"], where)
        attributes = _attributes(fields["attributes"], where)
        conclusion = _text(fields["conclusion"], "conclusion", where)
        return cls(image, attributes, conclusion, source, checked_mos(fields.get("mos"), where))


def read_feedback(path: Path, refusals: Refusals | None = None) -> list[Feedback]:
    """Read a feedback file.

    Args:
        path: A JSON list or JSON Lines.
        refusals: Where malformed rows are noted; None raises for them.

    Returns:
        The rows that are well formed, in order.

    Raises:
        DataError: The file is no list, is empty, has no usable row, or (without `refusals`) has malformed ones.
    """
    found = Refusals() if refusals is None else refusals
    feedbacks = []
    for number, fields in enumerate(read_elements(path)):
        try:
            feedbacks.append(Feedback.from_json(fields, number))
        except DataError as error:  # noqa: PERF203
            found.add(error)
    if refusals is None or not feedbacks:
        found.check(path)
    if not feedbacks:
        raise DataError.about("feedback", str(path), "at least one row")
    return feedbacks


def _attributes(value: object, where: str) -> tuple[tuple[str, str], ...]:
    if isinstance(value, Mapping):
        pairs = [(str(name).strip(), text) for name, text in value.items()]
    elif isinstance(value, list):
        pairs = [("", text) for text in value]
    else:
        raise DataError(f"{where}: `attributes` is {shorten(value)}, expected an object or a list of sentences")
    if not pairs:
        raise DataError(f"{where}: `attributes` is empty")
    return tuple((name, _text(text, f"attributes {name}".strip(), where)) for name, text in pairs)


def _text(value: object, name: str, where: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{where}: `{name}` is {shorten(value)}, expected text")
    if IMAGE in value or not encodable(value):
        raise DataError(f"{where}: `{name}` holds {IMAGE} or half a surrogate pair, expected plain text")
    return value.strip()


@dataclass(frozen=True)
class Fact:
    """A statement of the feedback: an attribute, its step, a place.

    Attributes:
        attribute: What it is about.
        index: Step on the attribute's scale, 0..2.
        place: A name of `places()`, or "" for the whole picture.
    """

    attribute: Attribute
    index: int
    place: str = ""

    @property
    def step(self) -> Step:
        """The step itself."""
        return self.attribute.steps[self.index]


def facts(feedback: Feedback, attributes: Sequence[Attribute] | None = None) -> tuple[Fact, ...]:
    """Read a feedback.

    Args:
        feedback: What the person said.
        attributes: The vocabulary; default: all of `vocabulary.attributes`.

    Returns:
        Facts in the order of the text, the overall quality last; no two are about one attribute at one place.

    Example:
        >>> said = Feedback("a.jpg", (("", "The background is blurry but the subject is sharp."),), "It is good.")
        >>> [(fact.attribute.name, fact.index, fact.place) for fact in facts(said)]
        [('sharpness', 0, 'the background'), ('sharpness', 2, 'the main subject'), ('quality', 2, '')]
    """
    given = all_attributes() if attributes is None else tuple(attributes)
    overall, found = overall_quality(), list[Fact]()
    for name, text in feedback.attributes:
        known = tuple(one for one in given if name.casefold() in (one.name, *one.aliases))
        known = known or ((overall,) if name.casefold() in overall.aliases else ())
        found += _of_text(text, known, bool(name)) or _of_text(text, given, False)
    found += _of_text(feedback.conclusion, (overall,), False)
    return _consistent(found)


def _of_text(text: str, attributes: tuple[Attribute, ...], named: bool) -> list[Fact]:
    """The facts of a text about some attributes; with its attribute named, general words count, too."""
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
    named = {name for name, place in places().items() if re.search(rf"\b(?:{place.words})\b", clause)}
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
