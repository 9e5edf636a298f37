"""A conversation as token ids and labels. Pure.

The strings are LLaVA-NeXT's for Qwen2 (`preprocess_qwen`, df17966), spelled out here and never taken from a Hub
template: a system turn, the image first in the user's first turn, a newline after each turn. For inference
`qsit_metric.prompts.CHATML` is the same format.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from qsit_metric.backends.training import IMAGE, Tokenizer
from qsit_metric.errors import shorten
from qsit_metric.prompts import Recipe

from .data.rows import Row
from .errors import DataError, RecipeError

IGNORED = -100
_START, _END, _NEWLINE = "<|im_start|>", "<|im_end|>", "\n"
Mask = Literal["next", "answer"]


@dataclass(frozen=True)
class Tokens:
    """One row, tokenised: (L,) ids with one image token per image feature, and (L,) labels, `IGNORED` where unlearned.

    Labels stand at their own tokens; the token before predicts them.
    """

    ids: tuple[int, ...]
    labels: tuple[int, ...]


class Encoder:
    """Writer of rows in the training format.

    Args:
        tokenizer: A Qwen2 tokenizer that knows the image token.
        system: System turn, or None.
        mask: "next" learns, as LLaVA-NeXT does, the assistant's turns with their headers, and every `<|im_start|>`,
            `<|im_end|>` and newline of the whole conversation; "answer" learns the answers and the `<|im_end|>` after.

    Raises:
        RecipeError: Unknown mask, or a tokenizer in which a token of the format is not a single one.

    Reference:
        llava/train/train.py `preprocess_qwen`; with "next" a D1 row has 21 supervised targets, one of them the level.
    """

    def __init__(self, tokenizer: Tokenizer, system: str | None, mask: Mask = "next") -> None:
        if mask not in ("next", "answer"):
            raise RecipeError.about("chat.mask", mask, "'next' or 'answer'")
        self._tokenizer = tokenizer
        self._system = system
        self._mask = mask
        self._start, self._end, self._newline, self._image = (
            self._single(text) for text in (_START, _END, _NEWLINE, IMAGE)
        )
        self._reserved = sorted({IMAGE, *tokenizer.all_special_tokens, *tokenizer.added_vocab} - {""})

    def encode(self, row: Row, image_tokens: int) -> Tokens:
        """Tokenise a row.

        Args:
            row: Its turns are plain text; see `check_rows`.
            image_tokens: Features of its image (`qsit_metric.pixels.tiles.plan(...).tokens`).
        """
        ids: list[int] = []
        labels: list[int] = []
        for number, (role, text) in enumerate(self._turns(row)):
            turn = self._ids(f"{_START}{role}{_NEWLINE}{text}{_END}{_NEWLINE}")
            learned = self._learned(turn, role)
            if number == self._first:
                at = turn.index(self._image)
                turn = [*turn[:at], *[self._image] * image_tokens, *turn[at + 1 :]]
                learned = [*learned[:at], *[IGNORED] * image_tokens, *learned[at + 1 :]]
            ids += turn
            labels += learned
        return Tokens(tuple(ids), tuple(labels))

    def complaint(self, row: Row) -> str | None:
        """Why a row cannot be written: its text contains a token of the chat format. None if it can."""
        for text in (part for turn in row.turns for part in turn):
            if found := next((token for token in self._reserved if token in text), None):
                return f"row {row.id!r}: its text {shorten(text)} contains {found!r}, reserved for the chat format"
        return None

    @property
    def _first(self) -> int:
        """Place of the user's first turn."""
        return 0 if self._system is None else 1

    def _turns(self, row: Row) -> list[tuple[str, str]]:
        turns = [] if self._system is None else [("system", self._system)]
        for number, (question, answer) in enumerate(row.turns):
            turns.append(("user", question if number else f"{IMAGE}{_NEWLINE}{question}"))
            turns.append(("assistant", answer))
        return turns

    def _learned(self, turn: Sequence[int], role: str) -> list[int]:
        if self._mask == "next":
            template = {self._start, self._end, self._newline}
            return [token if role == "assistant" or token in template else IGNORED for token in turn]
        if role != "assistant":
            return [IGNORED] * len(turn)
        begin = turn.index(self._newline) + 1
        return [*[IGNORED] * begin, *turn[begin:-1], IGNORED]

    def _ids(self, text: str) -> list[int]:
        return self._tokenizer.encode(text)

    def _single(self, text: str) -> int:
        ids = self._ids(text)
        if len(ids) != 1:
            hint = "Use a tokenizer of the Qwen2 family that knows <image>."
            raise RecipeError.about("tokenizer", f"<{len(ids)} tokens for {text!r}>", "one token", hint)
        return ids[0]


def check_rows(encoder: Encoder, rows: Sequence[Row], name: str) -> None:
    """Refuse a set of rows of which some cannot be written; all of them are counted, the first are named.

    Raises:
        DataError: Some text contains a token of the chat format.
    """
    wrong = [text for row in rows if (text := encoder.complaint(row))]
    if wrong:
        raise DataError(f"`{name}`: {len(wrong)} rows cannot be written: {'; '.join(wrong[:3])}. Repair them.")


def check_scoring(rows: Sequence[Row], scoring: Recipe) -> None:
    """Refuse scoring rows that are not written in the words that the checkpoint will be asked with.

    Raises:
        RecipeError: Names the first of them.
    """
    for row in rows:
        (question, answer), *more = row.turns
        words = [word for word in scoring.words if answer == f"{scoring.answer_prefix}{word}."]
        if more or question != scoring.question or not words:
            shown = f"<row {row.id!r}: {shorten(question)} {shorten(answer)}>"
            hint = "Freeze the data with that recipe, or choose the one that it was written in."
            raise RecipeError.about("chat.scoring", shown, f"the words of the recipe {scoring.name!r}", hint)
