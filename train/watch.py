"""What a run tells: the log, the progress bar, and trackers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from .mixture import SETS

if TYPE_CHECKING:
    from accelerate import Accelerator

    from .folder import RunFolder
    from .mixture import Epoch, Sizes
    from .progress import Metrics, Progress
    from .recipe import TrainingRecipe


class Watch:
    """Tells what happens; only the first process does.

    Args:
        folder: Where the log is.
        accelerator: Whose trackers are told too.
        quiet: No progress bar and no lines; the log is written all the same.
    """

    def __init__(self, folder: RunFolder, accelerator: Accelerator, quiet: bool) -> None:
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
        """A run begins or goes on."""
        if self._accelerator.log_with:
            self._accelerator.init_trackers(recipe.name, config=_flat(recipe.as_dict()))
        fields = {"recipe": recipe.name, "recipe_sha256": recipe.digest, "counts": list(counts)}
        self._log("start", state.total, {**fields, "processes": self._accelerator.num_processes, "notes": list(notes)})
        for note in notes if self._main and not self._bar.disable else ():
            self._bar.console.print(note, highlight=False, soft_wrap=True)

    def epoch(self, state: Progress, drawn: Epoch, steps: int) -> None:
        """An epoch's rows are drawn."""
        sizes = list(state.history[-1])
        fields = {"epoch": state.epoch + 1, "sizes": sizes, "rows_sha256": drawn.digest, "steps": steps}
        if not state.step:
            self._log("epoch", state.total, fields)
        title = f"epoch {state.epoch + 1} ({':'.join(map(str, sizes))})"
        self._bar.reset(self._task, total=steps, completed=state.step, description=title, visible=True)

    def step(self, state: Progress, parts: Sequence[float], norm: float, lr: float) -> None:
        """A step was made; `parts` are sums of row losses of each set, then numbers of rows."""
        counts = parts[len(SETS) :]
        losses = {name: parts[at] / counts[at] for at, name in enumerate(SETS) if counts[at]}
        mean = sum(parts[: len(SETS)]) / sum(counts)
        fields = {"epoch": state.epoch + 1, "loss": mean, **{f"loss_{name}": loss for name, loss in losses.items()}}
        self._log("step", state.total, {**fields, "grad_norm": norm, "lr": lr})
        shown = "  ".join(f"{name} {loss:.3f}" for name, loss in {"loss": mean, **losses}.items())
        self._bar.update(self._task, completed=state.step, losses=shown)

    def validation(self, state: Progress, metrics: Metrics, better: bool) -> None:
        """A validation was made."""
        value = state.validations[-1].value
        self._log("validation", state.total, {"epoch": state.epoch + 1, "step": state.step, **metrics, "value": value})
        if self._main and not self._bar.disable:
            shown = "  ".join(f"{name} {number:.4g}" for name, number in metrics.items() if number and _said(name))
            text = f"step {state.total}{' (best)' if better else ''}: {shown}"
            self._bar.console.print(text, highlight=False, soft_wrap=True)

    def balance(self, state: Progress, before: Sizes, found: Mapping[str, Any], reference: float) -> None:
        """The fine-grained step was made."""
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
