"""What the metric returns: `Score`, a float that knows its level, and `Answer`, a text that knows its choice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .levels import LEVELS, expect, finite, unit

if TYPE_CHECKING:
    from torch import Tensor


class Score(float):
    """A score on the paper's 1..5 MOS scale, higher is better; it behaves as the plain number.

    Attributes:
        probs: Probability of each level, worst first; sums to 1. Empty for a score that the model wrote as a number.
        logits: The level words' logits as the model gave them, in the same order; empty likewise.
        note: What the reader should know about this picture ("first of 12 frames"), or None.

    Two scores are equal if their fields are; a score equals a plain number if the values do. JSON writes the number.

    Example:
        >>> s = Score(3.5, {"bad": 0.0, "poor": 0.1, "fair": 0.3, "good": 0.6, "excellent": 0.0})
        >>> s > 3, s.level, s.unit
        (True, 'good', 0.625)
    """

    probs: dict[str, float]
    logits: dict[str, float]
    note: str | None

    def __new__(
        cls,
        value: float,
        probs: Mapping[str, float],
        logits: Mapping[str, float] | None = None,
        note: str | None = None,
    ) -> Score:
        """See the class."""
        self = super().__new__(cls, value)
        self.probs, self.logits, self.note = dict(probs), dict(logits or {}), note
        return self

    @property
    def level(self) -> str:
        """The most probable level (not the one nearest to the score, except for a score that was written)."""
        if not self.probs:
            return LEVELS[min(max(int(self + 0.5), 1), len(LEVELS)) - 1]
        return max(self.probs, key=self.probs.__getitem__)

    @property
    def unit(self) -> float:
        """The score on 0..1, the scale of the authors' README."""
        return unit(float(self))

    def as_dict(self) -> dict[str, Any]:
        """Plain fields for result files: score, unit, level, probs, and note if there is one."""
        fields = {"score": float(self), "unit": self.unit, "level": self.level, "probs": dict(self.probs)}
        return {**fields, "note": self.note} if self.note else fields

    def __getnewargs__(self) -> tuple[Any, ...]:
        return float(self), self.probs, self.logits, self.note

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Score):
            return self.__getnewargs__() == other.__getnewargs__()
        return float(self) == other

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = float.__hash__

    def __repr__(self) -> str:
        return f"Score({float(self):.4f}, {self.level})"

    def __str__(self) -> str:
        return float.__repr__(self)

    def __format__(self, spec: str) -> str:
        return float.__format__(float(self), spec)


class Answer(str):
    """An answer in words; it behaves as the plain text.

    Attributes:
        choice: The chosen option, or None (free question, or a generated reply that names no single option).
        probs: Probability of each option, in the order in which they were given; empty unless read by likelihood.
        finished: False if a generated text was cut at `max_new_tokens`.
        tokens: Ids of the generated tokens; empty if nothing was generated.

    Example:
        >>> a = Answer("blur", choice="blur", probs={"blur": 0.7, "noise": 0.3})
        >>> a.upper(), a.choice, a.probs["noise"]
        ('BLUR', 'blur', 0.3)
    """

    choice: str | None
    probs: dict[str, float]
    finished: bool
    tokens: tuple[int, ...]

    def __new__(
        cls,
        text: str,
        choice: str | None = None,
        probs: Mapping[str, float] | None = None,
        finished: bool = True,
        tokens: tuple[int, ...] = (),
    ) -> Answer:
        """See the class."""
        self = super().__new__(cls, text)
        self.choice, self.probs, self.finished, self.tokens = choice, dict(probs or {}), finished, tuple(tokens)
        return self

    def as_dict(self) -> dict[str, Any]:
        """Plain fields for result files."""
        fields: dict[str, Any] = {"answer": str(self), "finished": self.finished}
        return {**fields, "choice": self.choice, "probs": dict(self.probs)} if self.choice or self.probs else fields

    def __getnewargs__(self) -> tuple[Any, ...]:
        return str(self), self.choice, self.probs, self.finished, self.tokens

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Answer):
            return self.__getnewargs__() == other.__getnewargs__()
        return str(self) == other

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = str.__hash__


def level_names(words: tuple[str, ...]) -> tuple[str, ...]:
    """How the level words of a recipe are called in results: " Excellent" -> "excellent"."""
    return tuple(word.strip().lower() for word in words)


def scores(rows: Sequence[Tensor], names: tuple[str, ...], notes: Sequence[str | None]) -> list[Score]:
    """Turn the level logits of a batch, worst level first, into scores (Eqs. 4-5), with one copy from the device."""
    import torch

    logits = finite(torch.stack(list(rows)).detach())
    probs, values = expect(logits.cpu().double())
    return [
        Score(value, dict(zip(names, p, strict=True)), dict(zip(names, raw, strict=True)), note)
        for value, p, raw, note in zip(values.tolist(), probs.tolist(), logits.tolist(), notes, strict=True)
    ]
