"""A run of a sweep: the small model, one epoch, with the sizes and the seed that the plan gives it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ..loop import train
from ..recipe import TrainingRecipe

if TYPE_CHECKING:
    from .plan import RunSpec


def proxy_recipe(recipe: TrainingRecipe, spec: RunSpec) -> TrainingRecipe:
    """The recipe of one run: one epoch, validated once at its end (the paper does not say how long its runs are)."""
    return recipe.changed(
        name=f"{recipe.name}-step{spec.step}-{spec.index:03d}",
        mixture={"sizes": list(spec.sizes)},
        seed=spec.seed,
        balance=None,
        stop={"epochs": 1, "patience": None},
        validation={"every": 1.0, "scores": True, "also": []},
        saving={"keep": 1},
    )


def proxy(recipe: TrainingRecipe, *, quiet: bool = False) -> Callable[[RunSpec, Path], Mapping[str, float | None]]:
    """Make the trainer that `train.sweep.run_spec` calls for each run.

    Args:
        recipe: The small model's recipe.
        quiet: No progress bar.

    Returns:
        A function of a run's spec and folder that trains, or goes on training, and gives the validation's numbers.
    """

    def run(spec: RunSpec, folder: Path) -> Mapping[str, float | None]:
        metrics = train(proxy_recipe(recipe, spec), folder / "run", quiet=quiet).metrics
        shutil.rmtree(
            folder / "run" / "models", ignore_errors=True
        )  # a sweep reads numbers only; 114 models fill disks
        return metrics

    return run
