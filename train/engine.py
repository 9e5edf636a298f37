"""One optimiser step on however many devices: accelerate, set up for this recipe."""

from __future__ import annotations

import atexit
import functools
import os
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType, GradientAccumulationPlugin, InitProcessGroupKwargs

from qsit_metric.errors import DependencyError

from .batches import Batch
from .errors import RecipeError, RunError
from .model import JointModel, Parts, RowLosses, parameter_groups
from .processes import keep_freed_memory
from .progress import rate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .recipe import TrainingRecipe

_PATIENCE = timedelta(hours=2)  # the others wait while one process writes a large checkpoint
_SHARDED = (DistributedType.FSDP, DistributedType.DEEPSPEED)


class Engine:
    """The wrapped model and its optimiser.

    Args:
        recipe: Rates, batch sizes, precision.
        parts: The model.
        output: Where trackers write.

    Attributes:
        accelerator: accelerate's own object.
        joint: The wrapped model.
        sharded: Whether weights are spread over processes, so that the model cannot be used outside its forward pass.

    Raises:
        RecipeError: The batch is not a multiple of the rows that all devices take at once.
    """

    def __init__(self, recipe: TrainingRecipe, parts: Parts, output: Path) -> None:
        optim = recipe.optim
        state = PartialState(cpu=_on_cpu(), timeout=_PATIENCE)
        if state.num_processes > 1:
            _leave_group_at_exit()
        self.accumulation = _accumulation(recipe, state.num_processes)
        AcceleratorState._reset_state()  # another run of this process may have had another precision
        # FSDP would keep each layer's whole gradient from one micro-batch to the next: share it out after each instead.
        fsdp = os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true"
        self.accelerator = Accelerator(
            cpu=_on_cpu(),
            mixed_precision=optim.precision,
            gradient_accumulation_plugin=GradientAccumulationPlugin(self.accumulation, sync_each_batch=fsdp),
            log_with=list(recipe.saving.trackers) or None,
            project_dir=str(output),
            kwargs_handlers=[InitProcessGroupKwargs(timeout=_PATIENCE)],
        )
        _check_trackers(recipe, self.accelerator)
        torch.backends.cuda.matmul.allow_tf32 = True  # as the authors' script
        self._parts, self._optim = parts, optim
        groups = parameter_groups(parts.model, optim)
        self._peaks = [group["lr"] for group in groups]
        optimizer = torch.optim.AdamW(groups, betas=optim.betas, eps=optim.eps, weight_decay=optim.weight_decay)
        self._prepare_engines()
        if self.accelerator.device.type == "cpu":
            keep_freed_memory()
        self.joint, self._optimizer = self.accelerator.prepare(
            JointModel(parts.model, parts.geometry, parts.recompute), optimizer
        )
        self.sharded = self.accelerator.distributed_type in _SHARDED

    def step(self, batches: Sequence[Batch], progress: float) -> tuple[list[RowLosses], float, float]:
        """Learn from one global batch, of which these are this process's micro-batches.

        Args:
            batches: `accumulation` of them.
            progress: How far the run is, 0..1; decides the learning rate.

        Returns:
            The losses of each micro-batch (detached), the gradient's norm, and the learning rate of the language model.

        Raises:
            RunError: A loss or the gradient is not finite; the weights are as they were.
        """
        factor = rate(progress, self._optim.warmup)
        for group, peak in zip(self._optimizer.param_groups, self._peaks, strict=True):
            group["lr"] = peak * factor
        self.joint.train()
        targets = self._targets(batches)
        done, norm = [], torch.zeros(())
        for batch in batches:
            with self.accelerator.accumulate(self.joint):
                losses: RowLosses = self.joint(*batch.to(self.accelerator.device))
                self.accelerator.backward(self._loss(losses, targets))
                if self.accelerator.sync_gradients:
                    norm = self._clipped()
                self._optimizer.step()
                self._optimizer.zero_grad()
            done.append(RowLosses(*(tensor.detach() for tensor in losses)))
        return done, float(norm), self._peaks[0] * factor

    def state_dict(self) -> dict[str, torch.Tensor]:
        """All weights on the first process, under the model's own names; called by every process."""
        state = self.accelerator.get_state_dict(self.joint)
        return {name.removeprefix("model."): weight for name, weight in (state or {}).items()}

    def summed(self, values: Sequence[float]) -> list[float]:
        """Sums over all processes."""
        tensor = torch.tensor(values, dtype=torch.float64, device=self.accelerator.device)
        total: list[float] = self.accelerator.reduce(tensor, reduction="sum").tolist()
        return total

    def close(self) -> None:
        """Let trackers finish and free the memory; the processes stay together, for the next run of a sweep."""
        for tracker in self.accelerator.trackers:
            tracker.finish()
        self.accelerator.free_memory()

    def _loss(self, losses: RowLosses, targets: float | None) -> torch.Tensor:
        """A micro-batch's part of the step's loss; accelerate averages the parts over micro-batches and processes."""
        loss = losses.means.mean()
        if targets is not None:
            loss = losses.sums.sum() * (self.accumulation * self.accelerator.num_processes / targets)
        if not bool(torch.isfinite(loss)):
            raise _diverged("loss", float(loss.detach()))
        return loss

    def _targets(self, batches: Sequence[Batch]) -> float | None:
        """Supervised targets of the global batch, where the loss is normalised by them."""
        if self._optim.loss_norm == "sample":
            return None
        return self.summed([sum(batch.targets for batch in batches)])[0]

    def _clipped(self) -> torch.Tensor:
        norm = self.accelerator.clip_grad_norm_(self.joint.parameters(), self._optim.max_grad_norm)
        norm = torch.as_tensor(self._deepspeed_norm() if norm is None else norm)
        if not bool(torch.isfinite(norm)):
            raise _diverged("gradient norm", float(norm))
        return norm

    def _deepspeed_norm(self) -> float:
        """The norm of a gradient that DeepSpeed clipped by itself, known when its step is done."""
        known = getattr(self.joint, "get_global_grad_norm", lambda: None)()
        return 0.0 if known is None else float(known)

    def _prepare_engines(self) -> None:
        """Tell sharding engines what they would otherwise guess."""
        state, optim = self.accelerator.state, self._optim
        if deepspeed := getattr(state, "deepspeed_plugin", None):
            deepspeed.deepspeed_config["train_micro_batch_size_per_gpu"] = optim.micro_batch
            deepspeed.deepspeed_config["gradient_clipping"] = optim.max_grad_norm
        fsdp = getattr(state, "fsdp_plugin", None)
        if fsdp is not None and optim.precision == "bf16":
            from torch.distributed.fsdp import MixedPrecisionPolicy

            # accelerate's own policy also rounds what the forward pass gives, which is the losses.
            fsdp.mixed_precision_policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)


def _check_trackers(recipe: TrainingRecipe, accelerator: Accelerator) -> None:
    """Refuse trackers whose package is missing; accelerate leaves them out without a word."""
    found = {str(getattr(one, "value", one)) for one in accelerator.log_with}
    if absent := [name for name in recipe.saving.trackers if name not in found]:
        hint = f"Run `pip install {' '.join(absent)}`."
        raise DependencyError.about("saving.trackers", absent, "packages that are installed", hint)


@functools.cache
def _leave_group_at_exit() -> None:
    atexit.register(lambda: PartialState().destroy_process_group())


def _on_cpu() -> bool:
    """Whether to train without an accelerator: as asked, or because there is none.

    accelerate must be told either way, else it takes the processes of a CPU launch for strangers to each other.
    """
    asked = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes")
    return asked or not torch.accelerator.is_available()


def _accumulation(recipe: TrainingRecipe, world: int) -> int:
    batch, at_once = recipe.optim.batch, recipe.optim.micro_batch * world
    if batch % at_once:
        expected = f"a multiple of micro_batch x processes = {recipe.optim.micro_batch} x {world}"
        raise RecipeError.about("optim.batch", batch, expected)
    return batch // at_once


def _diverged(what: str, value: Any) -> RunError:
    hint = "Nothing was learned from this batch. Start the run again from its last state with a smaller learning rate."
    return RunError.about(what, value, "a finite number", hint)
