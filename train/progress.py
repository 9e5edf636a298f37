"""How far a run is: the state beside its weights, its schedule, when it ends, and what it tells of itself.

The learning rate follows progress, not steps: the fine-grained balance changes the length of epochs while a run goes
on, and a schedule counted in steps would not end where it should.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from .errors import RecipeError
from .mixture import SETS, Sizes

if TYPE_CHECKING:
    from accelerate import Accelerator

    from .mixture import Epoch
    from .recipe import Stop, TrainingRecipe

Metrics = Mapping[str, "float | None"]
TASKS = ("scoring", "interpreting")


@dataclass(frozen=True)
class Measured:
    """Result of one validation.

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
    """State of a run beside its weights.

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
    """Judge of the plateau: whether the validation losses still fall.

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
    """The steps of an epoch after which the model is validated; always the last.

    Example:
        >>> sorted(validation_steps(10, 0.25))
        [3, 5, 8, 10]
    """
    count = max(round(1 / every), 1)
    return {math.ceil(steps * number / count) for number in range(1, count + 1)}


class Log(Protocol):
    """Where events are kept; a `folder.RunFolder` is one."""

    def log(self, kind: str, step: int, fields: Mapping[str, Any]) -> None:
        """Keep one event."""


class Watch:
    """Log, progress bar and trackers of a run, told by its first process.

    Args:
        folder: Where the log is.
        accelerator: Whose trackers are told too.
        quiet: No progress bar and no lines; the log is written all the same.
    """

    def __init__(self, folder: Log, accelerator: Accelerator, quiet: bool) -> None:
        self._folder, self._accelerator = folder, accelerator
        self._main = accelerator.is_main_process
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[losses]}"),
            console=Console(stderr=True),
            disable=quiet or not self._main,
        )
        self._task = self._bar.add_task("", total=None, losses="", visible=False)

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """Show the bar while the block runs."""
        with self._bar:
            yield

    def start(self, state: Progress, recipe: TrainingRecipe, counts: Sizes, notes: Sequence[str]) -> None:
        """Tell that a run begins or goes on."""
        if self._accelerator.log_with:
            self._accelerator.init_trackers(recipe.name, config=_flat(recipe.as_dict()))
        fields = {"recipe": recipe.name, "recipe_sha256": recipe.digest, "counts": list(counts)}
        self._log("start", state.total, {**fields, "processes": self._accelerator.num_processes, "notes": list(notes)})
        for note in notes if self._main and not self._bar.disable else ():
            self._bar.console.print(note, highlight=False, soft_wrap=True)

    def epoch(self, state: Progress, drawn: Epoch, steps: int) -> None:
        """Tell which rows were drawn for an epoch."""
        sizes = list(state.history[-1])
        fields = {"epoch": state.epoch + 1, "sizes": sizes, "rows_sha256": drawn.digest, "steps": steps}
        if not state.step:
            self._log("epoch", state.total, fields)
        title = f"epoch {state.epoch + 1} ({':'.join(map(str, sizes))})"
        self._bar.reset(self._task, total=steps, completed=state.step, description=title, visible=True)

    def step(self, state: Progress, parts: Sequence[float], norm: float, lr: float) -> None:
        """Tell of a step; `parts` are sums of row losses of each set, then numbers of rows."""
        counts = parts[len(SETS) :]
        losses = {name: parts[at] / counts[at] for at, name in enumerate(SETS) if counts[at]}
        mean = sum(parts[: len(SETS)]) / sum(counts)
        fields = {"epoch": state.epoch + 1, "loss": mean, **{f"loss_{name}": loss for name, loss in losses.items()}}
        self._log("step", state.total, {**fields, "grad_norm": norm, "lr": lr})
        shown = "  ".join(f"{name} {loss:.3f}" for name, loss in {"loss": mean, **losses}.items())
        self._bar.update(self._task, completed=state.step, losses=shown)

    def validation(self, state: Progress, metrics: Metrics, better: bool) -> None:
        """Tell of a validation."""
        value = state.validations[-1].value
        self._log("validation", state.total, {"epoch": state.epoch + 1, "step": state.step, **metrics, "value": value})
        if self._main and not self._bar.disable:
            shown = "  ".join(f"{name} {number:.4g}" for name, number in metrics.items() if number and _said(name))
            text = f"step {state.total}{' (best)' if better else ''}: {shown}"
            self._bar.console.print(text, highlight=False, soft_wrap=True)

    def balance(self, state: Progress, before: Sizes, found: Mapping[str, Any], reference: float) -> None:
        """Tell of the fine-grained step."""
        fields = {"epoch": state.epoch, "before": list(before), "reference": reference, **found}
        self._log("balance", state.total, {**fields, "sizes": list(found["sizes"].values())})
        if self._main and not self._bar.disable:
            grown = f"{list(before)} -> {fields['sizes']}{', capped' if found['capped'] else ''}"
            self._bar.console.print(f"balance: {found['action']} (ratio {found['ratio']:.4g}, {grown})")

    def _log(self, kind: str, total: int, fields: Mapping[str, Any]) -> None:
        if not self._main:
            return
        self._folder.log(kind, total, fields)
        numbers = {f"{kind}/{key}": value for key, value in fields.items() if isinstance(value, (int, float))}
        if self._accelerator.log_with and numbers:
            self._accelerator.log(numbers, step=total)


def _said(name: str) -> bool:
    """Whether a number of a validation is worth a place in the terminal; the log has all."""
    return name.startswith(("loss_", "srcc/")) or name in ("ratio", "accuracy")


def _flat(fields: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as trackers take them."""
    flat: dict[str, Any] = {}
    for key, value in fields.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value if isinstance(value, (int, float, str, bool)) else str(value)
    return flat
