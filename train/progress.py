"""Where a run is: what a state holds beside weights, and when a run has learned what it can. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .mixture import Sizes

if TYPE_CHECKING:
    from .recipe import Stop

Metrics = Mapping[str, "float | None"]
TASKS = ("scoring", "interpreting")


@dataclass(frozen=True)
class Measured:
    """One validation.

    Attributes:
        total: Steps since the start.
        metrics: What `Validator.measure` gave.
        value: Mean of both losses, each as a share of what it was at the first validation; lower is better.
    """

    total: int
    metrics: dict[str, float | None]
    value: float

    def loss(self, task: str) -> float:
        """The validation loss of a task, "scoring" or "interpreting"."""
        return _loss(self.metrics, task)


@dataclass
class Progress:
    """How far a run is.

    Attributes:
        history: Sizes of every epoch so far, the present one (begun or not) last.
        epoch: Whole epochs done.
        step: Steps done in the present epoch.
        total: Steps since the start.
        validations: All of them, in order.
        best: Step of the best validation so far.
        stale: Validations since the last that was better by more than the recipe's `min_delta`.
    """

    history: list[Sizes]
    epoch: int = 0
    step: int = 0
    total: int = 0
    validations: list[Measured] = field(default_factory=list)
    best: int | None = None
    stale: int = 0

    @property
    def begun(self) -> list[Sizes]:
        """Sizes of the epochs of which rows were seen; after an epoch the next one's are in `history` already."""
        return self.history[: self.epoch + (self.step > 0)]

    def as_dict(self) -> dict[str, Any]:
        """Plain fields for `progress.json`."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Progress:
        """The inverse of `as_dict`."""
        history = [Sizes(**sizes) for sizes in fields["history"]]
        validations = [Measured(**one) for one in fields["validations"]]
        return cls(**{**fields, "history": history, "validations": validations})

    def at(self, total: int | None) -> Measured | None:
        """The validation after a step."""
        return next((one for one in reversed(self.validations) if one.total == total), None)


class Stopper:
    """Tells when the validation losses no longer fall.

    The paper stops its small model "once the validation loss plateaus" without saying of which loss or how far; here it
    is v = (L_S / L_S0 + L_I / L_I0) / 2, with the losses of the first validation below the line; of data that has
    validation rows for one task only, that task's term.

    Args:
        stop: Patience and the improvement that counts.
    """

    def __init__(self, stop: Stop) -> None:
        self._stop = stop

    def note(self, state: Progress, metrics: Metrics) -> bool:
        """Add a validation to a state; gives whether it is the best so far."""
        first = state.validations[0].metrics if state.validations else metrics
        shares = [_loss(metrics, task) / _loss(first, task) for task in TASKS if metrics[f"loss_{task}"] is not None]
        value = sum(shares) / len(shares)
        best = state.at(state.best)
        better = best is None or value < best.value
        counts = best is None or value < best.value * (1 - self._stop.min_delta)
        state.validations.append(Measured(state.total, dict(metrics), value))
        state.best = state.total if better else state.best
        state.stale = 0 if counts else state.stale + 1
        return better

    def stalled(self, state: Progress) -> bool:
        """Whether the run has waited long enough for an improvement."""
        return self._stop.patience is not None and state.stale >= self._stop.patience


def _loss(metrics: Metrics, task: str) -> float:
    value = metrics[f"loss_{task}"]
    return float("nan") if value is None else value
