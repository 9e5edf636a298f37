"""The five rating levels: MOS -> level (Eq. 1) and level logits -> probabilities -> score (Eqs. 4-5). Pure.

Paper: Q-SiT, arXiv 2503.09197, Sec. III-A. The levels are those of ITU-R BT.500; all lists here run from worst to best.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from .errors import BackendError, InputError

if TYPE_CHECKING:
    from torch import Tensor

LEVELS = ("bad", "poor", "fair", "good", "excellent")
SCORE_RANGE = (1.0, 5.0)
HIGHER_IS_BETTER = True

Convention = Literal["eq1", "authors"]


def level_of(mos: float, low: float, high: float, convention: Convention = "eq1") -> str:
    """Translate a mean opinion score into a rating level.

    Args:
        mos: The score, in [low, high], higher is better.
        low: Lowest score of the scale (m in Eq. 1).
        high: Highest score of the scale (M in Eq. 1).
        convention: "eq1" closes the five intervals above, as the paper prints it; "authors" closes them below and
            clips scores outside the scale, as the published training labels are made.

    Returns:
        One of `LEVELS`.

    Raises:
        InputError: The scale is empty, the convention unknown, or (with "eq1") the score lies outside the scale.

    Example:
        >>> level_of(3.0, 1.0, 5.0), level_of(60.0, 0.0, 100.0), level_of(60.0, 0.0, 100.0, "authors")
        ('fair', 'fair', 'good')

    Reference:
        Eq. 1 of the paper; the authors' labels equal `numpy.digitize(mos, numpy.linspace(low, high, 6))`.
    """
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise InputError.about("low, high", (low, high), "finite numbers with low < high")
    # The edges of numpy.linspace, in its own floating-point steps: 56.400000000000006 decides about 56.4.
    step = (high - low) / len(LEVELS)
    edges = [i * step + low for i in range(1, len(LEVELS))]
    if convention == "authors" and not math.isnan(mos):
        return LEVELS[sum(mos >= edge for edge in edges)]
    if convention != "eq1":
        raise InputError.about("convention", convention, "'eq1' or 'authors', and a MOS that is a number")
    if not low <= mos <= high:
        raise InputError.about("mos", mos, f"a number in [{low}, {high}]", "Pass the data set's own low and high.")
    return LEVELS[sum(mos > edge for edge in edges)]


def expect(logits: Tensor, scale: tuple[float, float] = SCORE_RANGE) -> tuple[Tensor, Tensor]:
    """Turn the logits of level words into probabilities and the expected score.

    The words' values are evenly spaced over `scale`: five words give the paper's 1..5, two words (poor, good) give
    Q-Bench's softmax between two extremes.

    Args:
        logits: (..., K) with K >= 2, floating point, ordered from worst to best.
        scale: Value of the worst and of the best word.

    Returns:
        Probabilities (..., K), summing to 1, and scores (...) in `scale`, higher is better; both differentiable.

    Example:
        >>> import torch
        >>> probs, score = expect(torch.zeros(5))
        >>> float(score)
        3.0

    Reference:
        Eqs. 4 and 5 of the paper. The authors' script has weights 0..1: s5 = 4 * s01 + 1.
    """
    count = logits.shape[-1]
    if count < 2:
        raise InputError.about("logits", f"<shape {tuple(logits.shape)}>", "two or more words in the last dimension")
    low, high = scale
    values = logits.new_tensor([low + (high - low) * i / (count - 1) for i in range(count)])
    probs = logits.softmax(dim=-1)
    return probs, (probs * values).sum(dim=-1)


def finite(logits: Tensor) -> Tensor:
    """Pass logits on, unless some are not finite.

    Raises:
        BackendError: NaN or infinity, as half precision gives when it overflows.
    """
    if not bool(logits.isfinite().all()):
        hint = "Half precision may have overflowed: try dtype='float32' or 'bfloat16'."
        raise BackendError.about("model", "<logits that are not finite>", "numbers", hint)
    return logits


def unit(score: float) -> float:
    """Map a score on 1..5 to the 0..1 of the authors' README: (s - 1) / 4."""
    return (score - SCORE_RANGE[0]) / (SCORE_RANGE[1] - SCORE_RANGE[0])


def range_text() -> str:
    """The score's range as pyiqa writes it.

    Example:
        >>> range_text()
        '1, 5'
    """
    return ", ".join(f"{end:g}" for end in SCORE_RANGE)
