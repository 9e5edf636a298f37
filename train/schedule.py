"""Learning rate by progress, and the steps of an epoch. Pure.

Progress, not steps: the fine-grained balance changes the length of epochs while a run goes on, and a schedule counted
in steps would not end where it should.
"""

from __future__ import annotations

import math

from .errors import RecipeError


def rate(progress: float, warmup: float) -> float:
    """The share of the peak learning rate at a point of the run: linear warm-up, then half a cosine.

    Args:
        progress: 0 at the start, 1 at the end.
        warmup: Share of the run in which the rate rises.

    Returns:
        A factor in 0..1.

    Example:
        >>> rate(0.0, 0.1), rate(0.1, 0.1), rate(1.0, 0.1)
        (0.0, 1.0, 0.0)

    Reference:
        `get_cosine_schedule_with_warmup` of transformers, which LLaVA-NeXT uses, as a function of progress.
    """
    if progress < warmup:
        return progress / warmup
    return 0.5 * (1.0 + math.cos(math.pi * min((progress - warmup) / (1.0 - warmup), 1.0))) if warmup < 1 else 1.0


def progress(epoch: int, step: int, steps: int, epochs: int) -> float:
    """How far a run is in the middle of a step, so that neither the first nor the last step has a rate of 0.

    Args:
        epoch: Whole epochs done.
        step: Steps done in this one.
        steps: Steps of this one.
        epochs: Epochs of the run.

    Returns:
        A number in 0..1.

    Example:
        >>> progress(0, 0, 4, 2), progress(1, 3, 4, 2)
        (0.0625, 0.9375)
    """
    return (epoch + (step + 0.5) / steps) / epochs


def steps_in(rows: int, batch: int) -> int:
    """Optimiser steps of an epoch: whole batches only, as the authors' `drop_last`.

    Raises:
        RecipeError: Not even one.

    Example:
        >>> steps_in(200, 64)
        3
    """
    if rows < batch:
        raise RecipeError.about("optim.batch", batch, f"at most {rows}, the rows of an epoch", "Use a smaller batch.")
    return rows // batch


def validation_steps(steps: int, every: float) -> set[int]:
    """After which steps of an epoch the model is validated; always after the last.

    Example:
        >>> sorted(validation_steps(10, 0.25))
        [3, 5, 8, 10]
    """
    count = max(round(1 / every), 1)
    return {math.ceil(steps * number / count) for number in range(1, count + 1)}
