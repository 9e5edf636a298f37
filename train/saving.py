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
from safetensors import safe_open
from safetensors.torch import load_file, save

import qsit_metric
from qsit_metric.backends.training import published
from qsit_metric.files import write_atomic, writing
from qsit_metric.journal import Marker
from qsit_metric.packages import installed

from .errors import RunError
from .folder import FILES, OUTCOME, Outcome
from .progress import Progress

if TYPE_CHECKING:
    from .data.frozen import Frozen
    from .engine import Engine
    from .folder import RunFolder
    from .mixture import Sizes
    from .model import Parts
    from .recipe import TrainingRecipe

RUN, _PROGRESS, _TRAINING = "run.json", "progress.json", "training.json"


class Saver:
    """Writer and reader of a run's states and models.

    Args:
        recipe: What the run does.
        folder: Where.
        frozen: Its data; the digest goes into every checkpoint.
        counts: Rows at hand.
        reference: The loss ratio that the balance holds to, or None.
        engine: The wrapped model.
        parts: The model itself.
    """

    def __init__(
        self,
        recipe: TrainingRecipe,
        folder: RunFolder,
        frozen: Frozen,
        counts: Sizes,
        reference: float | None,
        engine: Engine,
        parts: Parts,
    ) -> None:
        self._reference = reference
        self._saved: int | None = None  # step of the state that this process wrote or read last
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
        state = self._folder.latest_state()
        self._own(state is not None, list(start.history[0]))
        if state is None:
            if self._main:
                self._folder.rewind_log(-1, begun=False)
            return start
        found = Progress.from_dict(json.loads((state / _PROGRESS).read_text(encoding="utf-8")))
        self._load(state)
        self._saved = found.total
        if self._main:
            self._folder.rewind_log(found.total, begun=found.step > 0)
        return found

    def _load(self, state: Path) -> None:
        """Read weights, optimiser and generators, also of a state that the release before our own network wrote."""
        accelerator, weights = self._engine.accelerator, state / "model.safetensors"
        if self._main and weights.is_file():
            _rename(weights)
        accelerator.wait_for_everyone()
        try:
            accelerator.load_state(str(state))
        except Exception as error:  # torch, safetensors and DeepSpeed each have types of their own
            hint = (
                "States of sharded weights are read by the release that wrote them: begin another run from the last "
                f"model, --set model.base={self._folder.path / 'last'}. The system says: {error}"
            )
            raise RunError.about("output", str(state), "a state that can be read", hint) from error

    def _own(self, begun: bool, sizes: list[int]) -> None:
        """Make the folder this run's, or refuse one that was begun with something else.

        What the recipe only points at is held to as well: the sizes that fits gave, and the reference that a run gave.
        """
        made = {"recipe": self._recipe.digest, "data": self._data["digest"], "sizes": sizes, "lambda": self._reference}
        hint = "Use another folder, or go on with what it was begun with (its recipe.yaml)."
        marker = Marker(self._folder.path / RUN, made, FILES, what="a run", hint=hint)
        known = begun and marker.read() is not None
        if self._main and not known:
            self._folder.write("recipe.yaml", self._recipe.as_dict())
            marker.write()
        self._engine.accelerator.wait_for_everyone()

    def state(self, state: Progress) -> None:
        """Write what the run could go on from, if that is not done yet, and drop older ones."""
        if self._saved == state.total:
            return
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
        self._saved = state.total

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
                if state.best == state.total:
                    self._folder.point("best", model)
        accelerator.wait_for_everyone()

    def finish(self, state: Progress, finished: bool) -> Outcome:
        """Save what is not saved yet, and write the outcome."""
        last = self._folder.model("last")
        if last is None or _step_of(last) != state.total:
            self.model(state)
        if not finished:
            self.state(state)
        last = self._folder.model("last")
        if last is None:
            raise RunError.about("output", str(self._folder.path), "a link to the model that was just saved")
        plateau = self._recipe.stop.patience is not None
        if finished and plateau and state.best == 0:
            hint = "Start again, in another folder, with a smaller optim.lr."
            raise RunError.about("validation losses", "<never below those before training>", "a run that learns", hint)
        best = self._folder.model("best") or last
        measured = state.at(_step_of(best) if plateau else state.total)
        metrics = measured.metrics if measured else {}
        outcome = Outcome(metrics, state.total, finished, best, last, self._recipe.digest)
        if self._main:
            self._folder.write(OUTCOME, outcome.as_dict())
            self._folder.log("end", state.total, outcome.as_dict())
            if finished:
                self._folder.drop_states()
        self._engine.accelerator.wait_for_everyone()
        return outcome

    def last_good(self) -> str:
        """Where the run can go on from, for messages."""
        state = self._folder.latest_state()
        return f"The last good state is {state.name}." if state else "There is no state yet."

    def _kept(self, state: Progress) -> set[int]:
        """Steps of the models that stay: with a plateau the best and the last, else one of each epoch."""
        if self._recipe.stop.patience is not None:
            return set()
        return {one.total for one in state.validations}

    def _facts(self, state: Progress) -> dict[str, Any]:
        """Provenance of a checkpoint, for whoever finds it."""
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
                "transformers": installed("transformers"),
                "accelerate": installed("accelerate"),
                "python": platform.python_version(),
            },
        }


def _rename(file: Path) -> None:
    """Give weights that transformers' module had named the names of the network, which are `JointModel.model`'s."""
    with safe_open(file, "pt") as opened:
        names = {name: f"model.{published(name.removeprefix('model.'))}" for name in opened.keys()}  # noqa: SIM118
    if any(old != new for old, new in names.items()):
        weights = load_file(file)
        with writing(file) as target:
            target.write(save({names[name]: weight for name, weight in weights.items()}, {"format": "pt"}))


@contextlib.contextmanager
def _without_notes() -> Iterator[None]:
    """Silence accelerate's note at each save that a tied weight is written once; it is read back tied."""
    logger = logging.getLogger("accelerate.utils.other")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _step_of(model: Path) -> int:
    return int(model.name.split("-")[-1])
