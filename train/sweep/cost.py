"""The cost of a sweep, scaled from the hours that the paper states. Pure.

Paper: Q-SiT, arXiv 2503.09197, Sec. IV-H: about 720 A800 hours for the search with the 0.5B model, 72 for training the
7B model, 2,800 (the authors' estimate) for a search with the 7B model.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from ..balance import PAPER_R
from ..mixture import Sizes
from .plan import Plan, plan_step1, plan_step2

SEARCH_HOURS = 720.0
PRIMARY_HOURS = 72.0
DIRECT_HOURS = 2800.0
_COUNTS = Sizes(16_000, 150_000, 150_000)  # as Sec. IV-B rounds them

ASSUMPTION = (
    "A800 hours in proportion to sample passes: 720 (small model) and 2,800 (primary model) for both published steps, "
    "read as 19 points each, 3 repeats, 1 epoch, 16K : 150K : 150K rows; "
    "72 for 3 epochs of the primary model at 1 : 2.50 : 1.04 with 16K rows of D1"
)


@dataclass(frozen=True)
class Cost:
    """The cost of plans; hours are those of one A800 and rest on `ASSUMPTION`.

    Attributes:
        runs: Number of runs.
        sample_passes: Rows that are trained on, repeats counted.
        optimiser_steps: Steps of all runs together.
        search_hours: The plans with the small model.
        primary_hours: Training the primary model once, on as many rows as are at hand.
        direct_hours: The plans with the primary model instead.
    """

    runs: int
    sample_passes: int
    optimiser_steps: int
    search_hours: float
    primary_hours: float
    direct_hours: float

    @property
    def saving(self) -> float:
        """Share of the direct search's hours that small model and one primary training save; below 0 if none."""
        return 1 - (self.search_hours + self.primary_hours) / self.direct_hours


def cost(*plans: Plan, batch: int = 64, epochs: int = 1) -> Cost:
    """Add up what plans cost.

    Args:
        plans: One step or both.
        batch: Rows in an optimiser step.
        epochs: Epochs of each run.

    Returns:
        Passes, steps and hours.

    Example:
        >>> found = cost(*published())
        >>> found.sample_passes, round(found.search_hours), round(found.direct_hours), round(100 * found.saving)
        (16818000, 720, 2800, 72)

    Reference:
        Sec. IV-H.
    """
    runs = [run for plan in plans for run in plan.runs]
    passes = epochs * sum(run.sizes.total for run in runs)
    share = passes / _published_passes()
    return Cost(
        runs=len(runs),
        sample_passes=passes,
        optimiser_steps=epochs * sum(max(run.sizes.total // batch, 1) for run in runs),
        search_hours=share * SEARCH_HOURS,
        primary_hours=PRIMARY_HOURS * max((plan.counts.d1 for plan in plans), default=0) / _COUNTS.d1,
        direct_hours=share * DIRECT_HOURS,
    )


def published() -> tuple[Plan, Plan]:
    """The two steps as the paper rounds its data."""
    return plan_step1(_COUNTS), plan_step2(_COUNTS, PAPER_R)


@functools.cache
def _published_passes() -> int:
    return sum(run.sizes.total for plan in published() for run in plan.runs)
