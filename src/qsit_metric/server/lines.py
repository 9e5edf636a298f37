"""`qsit serve --stdio`: one line of JSON in, one line of JSON out, for programs that keep the model as a co-process."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, BinaryIO

from ..errors import InputError, QSiTError, shorten
from ..files import to_json

if TYPE_CHECKING:
    from ..metric import QSiT

_KNOWN = ("id", "image", "question", "choices", "method", "max_new_tokens")


class Lines:
    """Answers lines about pictures; a question without a picture is about the one before.

    Args:
        metric: The model.
        most: Longest line in bytes.

    Example:
        >>> Lines(metric).answer(b'{"image": "photo.jpg"}')  # doctest: +SKIP
        {'image': 'photo.jpg', 'score': 3.8712, 'unit': 0.7178, 'level': 'good', 'probs': {...}}
    """

    def __init__(self, metric: QSiT, most: int = 1 << 26) -> None:
        self._metric, self._most = metric, most
        self._image: str | None = None

    def run(self, source: BinaryIO, write: Callable[[str], None]) -> None:
        """Answer each line at once, until the source ends. Empty lines are passed over."""
        while line := source.readline(self._most + 1):
            if len(line) > self._most:
                while line and not line.endswith(b"\n"):
                    line = source.readline(self._most)
                reply = _told(InputError.about("line", "<too long>", f"at most {self._most} bytes"))
            elif line.strip():
                reply = self.answer(line)
            else:
                continue
            write(to_json(reply) + "\n")

    def answer(self, line: bytes) -> dict[str, Any]:
        """The reply to one line; what is wrong with it is in `error`, and `id` comes back as it was given."""
        name: dict[str, Any] = {}
        try:
            asked = _parsed(line)
            name = {"id": asked["id"]} if "id" in asked else {}
            return {**name, **self._reply(asked)}
        except QSiTError as error:
            return {**name, **_told(error)}

    def _reply(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        image = self._image = self._picture(asked)
        shown = "<data URI>" if image[:5].lower() == "data:" else image
        if "question" not in asked:
            return {"image": shown, **self._metric.score(image).as_dict()}
        options = {name: asked[name] for name in ("choices", "method", "max_new_tokens") if asked.get(name) is not None}
        return {
            "image": shown,
            "question": asked["question"],
            **answers(self._metric, image, asked["question"], options),
        }

    def _picture(self, asked: Mapping[str, Any]) -> str:
        image = asked.get("image", self._image if "question" in asked else None)
        if not isinstance(image, str) or not image:
            hint = "A question may leave it out: then it is about the picture of the line before."
            raise InputError.about("image", image, "a path or a data URI, as text", hint)
        return image


def answers(metric: QSiT, image: Any, question: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """Ask one question, whose answer is spread out, or a list, whose answers are listed.

    Raises:
        InputError: Something that cannot be asked.
        ImageError: The picture cannot be read.
    """
    _check(question, options)
    found = metric.ask(image, question, **options)
    if isinstance(question, str):
        fields: dict[str, Any] = found.as_dict()
        return fields
    return {"answers": [{"question": one, **reply.as_dict()} for one, reply in zip(question, found, strict=True)]}


def _check(question: Any, options: Mapping[str, Any]) -> None:
    """JSON has values that no caller in Python would pass."""
    if not (_is_text(question) or (isinstance(question, list) and question and all(map(_is_text, question)))):
        raise InputError.about("question", shorten(question), "a text, or a list of texts")
    choices = options.get("choices", [])
    if not (isinstance(choices, list) and all(map(_is_text, choices))):
        raise InputError.about("choices", shorten(choices), "a list of texts")
    if not _is_text(options.get("method", "")):
        raise InputError.about("method", shorten(options["method"]), "a text")


def _is_text(value: object) -> bool:
    r"""Text that can be sent: JSON has a form for half a letter, too ("\ud800")."""
    return isinstance(value, str) and not any("\ud800" <= letter <= "\udfff" for letter in value)


def _parsed(line: bytes) -> dict[str, Any]:
    """The fields of a line; a bare string is a picture."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError.about("line", line[:60].decode("utf-8", "replace"), "one JSON object") from error
    if isinstance(found, str):
        found = {"image": found}
    if not isinstance(found, dict):
        raise InputError.about("line", f"<{type(found).__name__}>", "a JSON object")
    if unknown := set(found) - set(_KNOWN):
        raise InputError.about("line", f"<{', '.join(sorted(unknown))}>", f"fields out of {', '.join(_KNOWN)}")
    return found


def _told(error: QSiTError) -> dict[str, Any]:
    return {"error": str(error)}
