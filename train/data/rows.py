"""Training rows, and the LLaVA list format in which rows are published and frozen. Pure.

Format: a list of `{"id", "image", "conversations": [{"from": "human", "value"}, {"from": "gpt", "value"}, ...]}` with
one `<image>` in the first human turn (github.com/haotian-liu/LLaVA; Q-SiT `training_jsons/` at 4e4d1df).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qsit_metric.errors import EvaluationError, counted, shorten
from qsit_metric.evaluation.manifest import check_image

from ..errors import DataError

IMAGE = "<image>"
_QALIGN_IMAGE = "<|image|>"  # how Q-Align's lists spell it
_SPEAKERS = ("human", "gpt")
_SHOWN = 5


@dataclass(frozen=True)
class Row:
    """A conversation about one image.

    Attributes:
        id: Name of the row. Published lists repeat some (LLaVA-Instruct names its rows after the image).
        image: Path below the set's image root, with forward slashes.
        turns: (question, answer) pairs; the image stands before the first question and is not part of its text.
        source: Where the row comes from ("koniq", "spaq", "q-instruct" ...); may be empty.
        mos: The mean opinion score behind the answer, on its data set's own scale, higher is better; None if there is
            none.
        group: What belongs together and is held out together, such as versions of one reference; empty if that is not
            known. It is not written.
    """

    id: str
    image: str
    turns: tuple[tuple[str, str], ...]
    source: str = ""
    mos: float | None = None
    group: str = ""

    def as_llava(self) -> dict[str, Any]:
        """The row in the LLaVA format; `source`, `mos` and `exact` are extra keys that its readers ignore.

        Readers of the format take white space off both ends of a text. `exact` tells ours not to, where there is some:
        the authors' multiple-choice prompt ends with a line break.
        """
        said: list[dict[str, str]] = []
        for number, (question, answer) in enumerate(self.turns):
            said.append({"from": "human", "value": question if number else f"{IMAGE}\n{question}"})
            said.append({"from": "gpt", "value": answer})
        fields: dict[str, Any] = {"id": self.id, "image": self.image, "conversations": said}
        fields |= {"source": self.source} if self.source else {}
        fields |= {"exact": True} if any(text != text.strip() for turn in self.turns for text in turn) else {}
        return fields | ({} if self.mos is None else {"mos": self.mos})

    @classmethod
    def from_llava(cls, fields: object, number: int, source: str = "") -> Row:
        """Read one element of an LLaVA list.

        Args:
            fields: The element. `image` may be text or a list of one; `id` may be missing or a number; `<image>` may
                stand anywhere in the first human turn, or nowhere; `<|image|>` is the same.
            number: Its place in the list; names a row without id.
            source: Default of `source`.

        Raises:
            DataError: The row is malformed; the message says how.

        Example:
            >>> said = [{"from": "human", "value": "Is it sharp?<image>"}, {"from": "gpt", "value": "Yes."}]
            >>> Row.from_llava({"id": 7, "image": ["a.jpg"], "conversations": said}, 0).turns
            (('Is it sharp?', 'Yes.'),)
        """
        if not isinstance(fields, Mapping):
            raise DataError(f"row {number}: it is a {type(fields).__name__}, expected an object")
        name = str(number if fields.get("id") is None else fields["id"])
        where = f"row {number} ({shorten(name)})"
        image = checked_image(fields.get("image"), where)
        turns = _turns(fields.get("conversations"), where, fields.get("exact") is True)
        if not encodable(name, image, *(text for turn in turns for text in turn)):
            raise DataError(f"{where}: it has half a surrogate pair, expected text that UTF-8 can hold")
        return cls(name, image, turns, str(fields.get("source", source)), checked_mos(fields.get("mos"), where))


class EmptyFileError(DataError):
    """A list without a single row, as the authors publish two of theirs."""


@dataclass
class Refusals:
    """Rows that cannot be used, counted and named; nothing is dropped without standing here.

    Attributes:
        reasons: One line for each refused row.
    """

    reasons: list[str] = field(default_factory=list)

    def add(self, reason: object) -> None:
        """Note one refused row."""
        self.reasons.append(str(reason))

    def __len__(self) -> int:
        return len(self.reasons)

    def check(self, place: object, allowed: bool = False) -> None:
        """Raise if there are any.

        Args:
            place: The file or data set, for the message.
            allowed: The caller has said that refused rows may be left out.

        Raises:
            DataError: Some rows were refused; the first few are named.
        """
        if not self.reasons or allowed:
            return
        shown = "; ".join(map(_bare, self.reasons[:_SHOWN])) + ("; ..." if len(self.reasons) > _SHOWN else ".")
        them = "it" if len(self.reasons) == 1 else "them"
        raise DataError(
            f"`{place}`: {counted(len(self.reasons), 'row')} cannot be used: {shown} "
            f"Repair {them}, or pass --drop-refused to leave {them} out and list {them} in the report."
        )


def read_llava(path: Path, source: str = "", refusals: Refusals | None = None) -> list[Row]:
    """Read an LLaVA list, JSON or JSON Lines.

    Args:
        path: The file.
        source: Default of each row's `source`.
        refusals: Where malformed rows are noted; None raises for them.

    Returns:
        The rows that are well formed, in order.

    Raises:
        DataError: The file is no LLaVA list, is empty, or (without `refusals`) has malformed rows.
    """
    found = Refusals() if refusals is None else refusals
    rows = [_row(fields, number, source, found) for number, fields in enumerate(read_elements(path))]
    if refusals is None:
        found.check(path)
    return [row for row in rows if row]


def _row(fields: object, number: int, source: str, refusals: Refusals) -> Row | None:
    try:
        return Row.from_llava(fields, number, source)
    except DataError as error:
        refusals.add(error)
        return None


def read_elements(path: Path) -> Iterator[object]:
    """The elements of a JSON list or of a JSON Lines file.

    Raises:
        EmptyFileError: There is nothing in it.
        DataError: Unreadable, or neither of the two formats.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError.about("file", str(path), "a readable UTF-8 file", f"The system says: {error}.") from error
    if not text.strip():
        hint = "The authors publish two of their lists as empty files; see train/README.md for where the data is."
        raise EmptyFileError.about("file", str(path), "a list of rows, not an empty file", hint)
    try:
        found = json.loads(text) if text.lstrip()[0] == "[" else _lines(text)
    except (ValueError, RecursionError) as error:
        raise DataError.about("file", str(path), "a JSON list or JSON Lines", f"{error}.") from error
    if not found:
        raise EmptyFileError.about("file", str(path), "a list of rows, not an empty list")
    return iter(found)


def _lines(text: str) -> list[object]:
    """The objects of JSON Lines; not by `splitlines`, which also splits at U+2028 inside a text."""
    found: list[object] = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                found.append(json.loads(line))
            except ValueError as error:
                raise ValueError(f"Line {number}: {error}") from error
    return found


def to_jsonl(rows: Iterable[Row]) -> str:
    """Rows as JSON Lines in the LLaVA format; equal rows give equal bytes."""
    return "".join(json.dumps(row.as_llava(), ensure_ascii=False, sort_keys=True) + "\n" for row in rows)


def _bare(reason: str) -> str:
    """A reason without its full stop, to stand in a longer sentence; three of them mean that something was cut."""
    return reason if reason.endswith("..") else reason.removesuffix(".")


def checked_image(image: object, where: str) -> str:
    """The path of an image, given as text or as a list of one.

    Raises:
        DataError: It is no path below the image root.
    """
    if isinstance(image, list) and len(image) == 1:
        image = image[0]
    try:
        check_image(image)
    except EvaluationError as error:
        raise DataError(f"{where}: {error}") from error
    return str(image)


def encodable(*texts: str) -> bool:
    """Whether UTF-8 can hold the texts: half a surrogate pair cannot be written."""
    return not any("\ud800" <= letter <= "\udfff" for text in texts if not text.isascii() for letter in text)


def checked_mos(mos: object, where: str) -> float | None:
    """A mean opinion score, or None.

    Raises:
        DataError: It is no finite number.
    """
    if mos is None:
        return None
    if isinstance(mos, bool) or not isinstance(mos, (int, float)) or not math.isfinite(mos):
        raise DataError(f"{where}: `mos` is {shorten(mos)}, expected a finite number")
    return float(mos)


def _turns(said: object, where: str, exact: bool) -> tuple[tuple[str, str], ...]:
    if not isinstance(said, list) or not said or len(said) % 2:
        raise DataError(f"{where}: `conversations` is {shorten(said)}, expected pairs of turns")
    texts = []
    for place, turn in enumerate(said):
        speaker = _SPEAKERS[place % 2]
        value = turn.get("value") if isinstance(turn, Mapping) else None
        if not isinstance(value, str) or turn.get("from") != speaker:
            raise DataError(f"{where}: turn {place} is {shorten(turn)}, expected text from {speaker!r}")
        text = _without_image(value, place, where)
        texts.append(text if exact else text.strip())
    if empty := [place for place, text in enumerate(texts) if not text.strip()]:
        raise DataError(f"{where}: turn {empty[0]} has no text")
    return tuple(zip(texts[::2], texts[1::2], strict=True))


def _without_image(value: str, place: int, where: str) -> str:
    value = value.replace(_QALIGN_IMAGE, IMAGE)
    count = value.count(IMAGE)
    if count > (place == 0):
        raise DataError(f"{where}: turn {place} has {count} {IMAGE}, expected one at most, in the first turn")
    return value.replace(f"{IMAGE}\n", "").replace(f"\n{IMAGE}", "").replace(IMAGE, "")
