"""Pathway feedback: what a person saw, attribute by attribute, and the conclusion (paper Sec. III-B2).

Format (ours): a JSON list or JSON Lines of `{"image", "mos"?, "source"?, "attributes", "conclusion"}`; `attributes` is
an object of attribute -> text, or a list of sentences.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qsit_metric.errors import EvaluationError, shorten
from qsit_metric.evaluation.manifest import check_image

from ...errors import DataError
from ..rows import IMAGE, Refusals, read_elements

_REQUIRED = ("image", "attributes", "conclusion")
_KNOWN = (*_REQUIRED, "mos", "source")


@dataclass(frozen=True)
class Feedback:
    """One person's feedback on one picture.

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
        image = _image(fields["image"], where)
        attributes = _attributes(fields["attributes"], where)
        conclusion = _text(fields["conclusion"], "conclusion", where)
        return cls(image, attributes, conclusion, source, _mos(fields.get("mos"), where))


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


def _image(value: Any, where: str) -> str:
    try:
        check_image(value)
    except EvaluationError as error:
        raise DataError(f"{where}: {error}") from error
    return str(value)


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
    if IMAGE in value or any("\ud800" <= letter <= "\udfff" for letter in value):
        raise DataError(f"{where}: `{name}` holds {IMAGE} or half a surrogate pair, expected plain text")
    return value.strip()


def _mos(value: object, where: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise DataError(f"{where}: `mos` is {shorten(value)}, expected a finite number")
    return float(value)
