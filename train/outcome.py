"""What a run found, and how a later one reads it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import RunError
from .progress import Metrics

if TYPE_CHECKING:
    from .folder import RunFolder
    from .recipe import TrainingRecipe

OUTCOME = "outcome.json"


@dataclass(frozen=True)
class Outcome:
    """The end of a run.

    Attributes:
        metrics: Of the best model if the run stops at a plateau, else of the last; empty if it was never validated.
        total: Optimiser steps.
        finished: False if it was stopped by `max_steps`.
        best: Checkpoint with the lowest validation losses; `QSiT(outcome.best)` loads it.
        last: The last checkpoint.
        recipe_sha256: Digest of the recipe.
    """

    metrics: Metrics
    total: int
    finished: bool
    best: Path
    last: Path
    recipe_sha256: str

    def as_dict(self) -> dict[str, Any]:
        """Plain fields; the checkpoints are named by the links in the run's folder."""
        return {
            "metrics": dict(self.metrics),
            "total": self.total,
            "finished": self.finished,
            "best": self.best.name,
            "last": self.last.name,
            "recipe_sha256": self.recipe_sha256,
        }

    @classmethod
    def load(cls, folder: RunFolder, recipe: TrainingRecipe | None = None) -> Outcome | None:
        """The outcome of a finished run, or None.

        Raises:
            RunError: It is another recipe's.
        """
        fields = folder.read(OUTCOME)
        if not fields or not fields["finished"]:
            return None
        if recipe and fields["recipe_sha256"] != recipe.digest:
            hint = "Use another folder, or the recipe.yaml in it."
            raise RunError.about("output", str(folder.path), "a folder of this recipe, not a finished one's", hint)
        models = folder.path / "models"
        return cls(**{**fields, "best": models / fields["best"], "last": models / fields["last"]})


def read_outcome(run: Path) -> Outcome:
    """The outcome of a finished run by its folder.

    Raises:
        RunError: There is none.
    """
    from .folder import RunFolder

    found = Outcome.load(RunFolder(run)) if (run / OUTCOME).is_file() else None
    if found is None:
        raise RunError.about("run", str(run), "the folder of a finished run", "Finish it with `python -m train run`.")
    return found
