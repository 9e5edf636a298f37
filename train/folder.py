"""A run's folder: one writer at a time, whole states and models, a log without repetitions, and what the run found.

recipe.yaml       the resolved recipe
log.jsonl         one JSON object for each event
states/step-N/    what a killed run goes on from: accelerate's state and `progress.json`
models/step-N/    checkpoints that `QSiT(folder)` loads, with `training.json` beside the weights
best, last        links to models
outcome.json      what a finished run found
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qsit_metric.files import Files, commit_folder, locked, write_atomic
from qsit_metric.journal import check_same

from .errors import RunError
from .progress import Metrics
from .recipe import dump_yaml, load_yaml

if TYPE_CHECKING:
    from .recipe import TrainingRecipe

OUTCOME = "outcome.json"
FILES = Files(RunError, "output")
_PARTIAL = ".partial-"
_STEP = "step-{:07d}"


class RunFolder:
    """The folder of one run.

    Args:
        path: Made by `held` if it is not there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep other runs out until the block, or the process, ends.

        Raises:
            RunError: Another run is writing here, or nothing can be written.
        """
        with self.writing("the run's folder"):
            for name in ("states", "models"):
                (self.path / name).mkdir(parents=True, exist_ok=True)
        with locked(self.path / ".lock") as got:
            if not got:
                hint = "Wait for it, or use another folder."
                raise RunError.about("output", str(self.path), "a folder that no other run is writing", hint)
            self._sweep()
            yield

    @contextlib.contextmanager
    def writing(self, what: str) -> Iterator[None]:
        """Turn whatever stops a file from being written into one error that says what is still good.

        Raises:
            RunError: The disk is full, read-only ...
        """
        try:
            yield
        except RunError:
            raise
        except Exception as error:  # torch, safetensors and the system each say "no space" with types of their own
            state = self.latest_state()
            good = f"The last good state is {state.name}." if state else "There is no earlier state."
            hint = f"{good} The system says: {error}. Make room and start the run again."
            raise RunError.about("output", str(self.path), f"a place where {what} can be written", hint) from error

    def latest_state(self) -> Path | None:
        """The newest whole state."""
        found = sorted((self.path / "states").glob("step-*"))
        return found[-1] if found else None

    def partial(self, kind: str, step: int) -> Path:
        """An empty folder to write a state or model into, that `commit` will give its name."""
        folder = self.partial_path(kind, step)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def partial_path(self, kind: str, step: int) -> Path:
        """The path of the folder that `partial` empties, for the other processes."""
        return self.path / kind / f"{_PARTIAL}{_STEP.format(step)}"

    def commit(self, partial: Path) -> Path:
        """Make a written folder durable and give it its name; an older one of that name goes."""
        return commit_folder(partial, partial.with_name(partial.name.removeprefix(_PARTIAL)))

    def point(self, name: str, model: Path) -> None:
        """Let `best` or `last` name a model."""
        link = self.path / f".{name}.link"
        link.unlink(missing_ok=True)
        link.symlink_to(Path("models") / model.name, target_is_directory=True)
        link.replace(self.path / name)

    def model(self, name: str) -> Path | None:
        """The model that `best` or `last` names."""
        link = self.path / name
        return link.resolve() if link.is_dir() else None

    def prune(self, states: int, models: set[int]) -> None:
        """Keep the newest states, and the models of these steps and those that are pointed at."""
        for old in sorted((self.path / "states").glob("step-*"))[:-states]:
            shutil.rmtree(old, ignore_errors=True)
        kept = {_STEP.format(step) for step in models}
        kept |= {model.name for name in ("best", "last") if (model := self.model(name))}
        for old in (self.path / "models").glob("step-*"):
            if old.name not in kept:
                shutil.rmtree(old, ignore_errors=True)

    def drop_states(self) -> None:
        """Remove the states of a finished run: nothing goes on from them, and they are larger than its model."""
        shutil.rmtree(self.path / "states", ignore_errors=True)

    def write(self, name: str, content: Mapping[str, Any]) -> None:
        """Write a JSON or YAML file."""
        with self.writing(name):
            plain = json.dumps(content, indent=1, ensure_ascii=False)
            write_atomic(self.path / name, dump_yaml(json.loads(plain)) if name.endswith(".yaml") else plain + "\n")

    def read(self, name: str) -> dict[str, Any] | None:
        """Read a JSON or YAML file that may not be there."""
        path = self.path / name
        if not path.is_file():
            return None
        if name.endswith(".yaml"):
            return load_yaml(path)
        found: dict[str, Any] = FILES.json(path)
        return found

    def log(self, kind: str, step: int, fields: Mapping[str, Any]) -> None:
        """Append one event to the log."""
        with self.writing("log.jsonl"), (self.path / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"kind": kind, "total": step, **fields}) + "\n")

    def rewind_log(self, step: int, begun: bool) -> None:
        """Drop what a killed run logged after the state that the new one goes on from.

        Args:
            step: Of that state.
            begun: Whether its epoch was begun; else the epoch will be announced again.
        """
        path = self.path / "log.jsonl"
        if path.is_file():
            keep = [line for line in path.read_text(encoding="utf-8").splitlines() if _logged(line, step, begun)]
            with self.writing("log.jsonl"):
                write_atomic(path, "".join(line + "\n" for line in keep))

    def _sweep(self) -> None:
        for left in self.path.glob(f"*/{_PARTIAL}*"):
            shutil.rmtree(left, ignore_errors=True)
        for old in self.path.glob("*/.*.old"):  # moved aside, and its successor never came
            place = old.with_name(old.name[1:].partition(".")[0])
            shutil.rmtree(old, ignore_errors=True) if place.exists() else old.rename(place)


def _logged(line: str, step: int, begun: bool) -> bool:
    """Whether a line of the log is whole and not of a later step or epoch."""
    try:
        event = json.loads(line)
        return int(event["total"]) < step + (begun or event["kind"] != "epoch")
    except (ValueError, KeyError, TypeError):
        return False


@dataclass(frozen=True)
class Outcome:
    """Result of a run.

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
        if recipe:
            hint = "Use another folder, or the recipe.yaml in it."
            found, made = {"recipe": fields["recipe_sha256"]}, {"recipe": recipe.digest}
            check_same(folder.path, found, made, FILES, what="a finished run", hint=hint)
        models = folder.path / "models"
        return cls(**{**fields, "best": models / fields["best"], "last": models / fields["last"]})


def read_outcome(run: Path) -> Outcome:
    """The outcome of a finished run by its folder.

    Raises:
        RunError: There is none.
    """
    found = Outcome.load(RunFolder(run)) if (run / OUTCOME).is_file() else None
    if found is None:
        raise RunError.about("run", str(run), "the folder of a finished run", "Finish it with `python -m train run`.")
    return found
