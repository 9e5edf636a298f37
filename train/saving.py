"""States and models of a run: written by all processes together, named by the first one only when they are whole."""

from __future__ import annotations

import contextlib
import json
import logging
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

import qsit_metric
from qsit_metric.files import write_atomic

from .errors import RunError
from .outcome import OUTCOME, Outcome
from .progress import Progress

if TYPE_CHECKING:
    from .data.freezing import Frozen
    from .engine import Engine
    from .folder import RunFolder
    from .mixture import Sizes
    from .model import Parts
    from .recipe import TrainingRecipe

_PROGRESS, _TRAINING = "progress.json", "training.json"


class Saver:
    """Writes and reads a run's folder.

    Args:
        recipe: What the run does.
        folder: Where.
        frozen: Its data; the digest goes into every checkpoint.
        counts: Rows at hand.
        engine: The wrapped model.
        parts: The model itself.
    """

    def __init__(
        self, recipe: TrainingRecipe, folder: RunFolder, frozen: Frozen, counts: Sizes, engine: Engine, parts: Parts
    ) -> None:
        self._recipe, self._folder, self._engine, self._parts = recipe, folder, engine, parts
        self._data = {"digest": frozen.digest, "folder": recipe.data.folder, "counts": list(counts)}
        self._main = engine.accelerator.is_main_process

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep other runs out of the folder; the first process does it for all."""
        with self._folder.held() if self._main else contextlib.nullcontext():
            self._engine.accelerator.wait_for_everyone()
            yield

    def resume(self, start: Progress) -> Progress:
        """Go on from the newest state, or begin.

        Raises:
            RunError: The folder belongs to another recipe or other data.
        """
        own = {"recipe_sha256": self._recipe.digest, "data": self._data["digest"]}
        theirs = self._folder.read("run.json")
        if theirs and theirs != own:
            what = "recipe" if theirs["recipe_sha256"] != own["recipe_sha256"] else "data"
            hint = "Use another folder, or go on with what it was begun with (its recipe.yaml)."
            raise RunError.about("output", str(self._folder.path), f"a folder begun with this {what}", hint)
        if self._main and not theirs:
            self._folder.write("recipe.yaml", self._recipe.as_dict())
            self._folder.write("run.json", own)
        self._engine.accelerator.wait_for_everyone()
        state = self._folder.latest_state()
        if state is None:
            if self._main:
                self._folder.rewind_log(-1)
            return start
        found = Progress.from_dict(json.loads((state / _PROGRESS).read_text(encoding="utf-8")))
        self._engine.accelerator.load_state(str(state))
        if self._main:
            self._folder.rewind_log(found.total)
        return found

    def state(self, state: Progress) -> None:
        """Write what the run could go on from, and drop older ones."""
        accelerator = self._engine.accelerator
        with self._folder.writing("a state"):
            if self._main:
                self._folder.partial("states", state.total)
            accelerator.wait_for_everyone()
            partial = self._folder.partial_path("states", state.total)
            with _without_notes():
                accelerator.save_state(str(partial), safe_serialization=True)
            accelerator.wait_for_everyone()
            if self._main:
                write_atomic(partial / _PROGRESS, json.dumps(state.as_dict(), indent=1))
                self._folder.commit(partial)
                self._folder.prune(self._recipe.saving.keep, self._kept(state))
        accelerator.wait_for_everyone()

    def model(self, state: Progress) -> None:
        """Write a checkpoint that `QSiT` loads, and let `last` and perhaps `best` name it."""
        accelerator = self._engine.accelerator
        weights = self._engine.state_dict()
        with self._folder.writing("a model"):
            if self._main:
                partial = self._folder.partial("models", state.total)
                self._parts.save(partial, weights)
                write_atomic(partial / _TRAINING, json.dumps(self._facts(state), indent=1))
                model = self._folder.commit(partial)
                self._folder.point("last", model)
                if state.best in (state.total, None) or self._folder.model("best") is None:
                    self._folder.point("best", model)
        accelerator.wait_for_everyone()

    def finish(self, state: Progress, finished: bool) -> Outcome:
        """Save what is not saved yet, and write the outcome."""
        last = self._folder.model("last")
        if last is None or _step_of(last) != state.total:
            self.model(state)
        if not finished:
            self.state(state)
        best, last = self._folder.model("best"), self._folder.model("last")
        if best is None or last is None:
            raise RunError.about("output", str(self._folder.path), "links to the models that were just saved")
        plateau = self._recipe.stop.patience is not None
        measured = state.at(_step_of(best) if plateau else state.total)
        metrics = measured.metrics if measured else {}
        outcome = Outcome(metrics, state.total, finished, best, last, self._recipe.digest)
        if self._main:
            self._folder.write(OUTCOME, outcome.as_dict())
            self._folder.log("end", state.total, outcome.as_dict())
        self._engine.accelerator.wait_for_everyone()
        return outcome

    def last_good(self) -> str:
        """For messages: from where the run can be gone on with."""
        state = self._folder.latest_state()
        return f"The last good state is {state.name}." if state else "There is no state yet."

    def _kept(self, state: Progress) -> set[int]:
        """Models that stay: with a plateau the best and the last, else one of each epoch."""
        if self._recipe.stop.patience is not None:
            return set()
        return {one.total for one in state.validations}

    def _facts(self, state: Progress) -> dict[str, Any]:
        """What made a checkpoint, for whoever finds it."""
        import accelerate
        import transformers

        measured = state.at(state.total)
        return {
            "recipe": self._recipe.as_dict(),
            "recipe_sha256": self._recipe.digest,
            "data": self._data,
            "metrics": measured.metrics if measured else {},
            "epoch": state.epoch,
            "step": state.step,
            "total": state.total,
            "mixture": {"sizes": [list(sizes) for sizes in state.begun]},
            "versions": {
                "qsit_metric": qsit_metric.__version__,
                "torch": torch.__version__,
                "transformers": transformers.__version__,
                "accelerate": accelerate.__version__,
                "python": platform.python_version(),
            },
        }


@contextlib.contextmanager
def _without_notes() -> Iterator[None]:
    """Accelerate says at each save that a tied weight is written once; it is read back tied."""
    logger = logging.getLogger("accelerate.utils.other")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _step_of(model: Path) -> int:
    return int(model.name.split("-")[-1])
