"""Doing one run of a plan: on its own, once, restartable, on any machine that sees the folder.

A run has the folder `runs/007` with `train/` (the trainer's own), `lock`, and, once it is finished, `result.json`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from qsit_metric.files import close_in_children, lock
from qsit_metric.journal import check_same

from ..errors import RunError
from ..recipe import TrainingRecipe
from .plan import FILES, Plan, RunSpec

RESULT_FILE = "result.json"


class TakenError(RunError):
    """Another process is doing this run."""


Trainer = Callable[[RunSpec, Path], Mapping[str, float | None]]


def run_spec(folder: Path, index: int, trainer: Trainer, *, rank: int = 0) -> dict[str, Any]:
    """Do one run of a plan, or hand back its result if it is finished.

    A run that was stopped is given to the trainer again with the same folder, to go on from what it finds there. A lock
    keeps two processes from doing one run.

    Args:
        folder: The sweep's folder.
        index: Number of the run.
        trainer: Trains and measures: gets the run and a folder of its own, gives metrics by name (see
            `train.sweep.performance`). A metric that is undefined is None or NaN.
        rank: This process among those of one training (`accelerate launch`): only 0 takes the lock and writes.

    Returns:
        The content of `result.json`.

    Raises:
        TakenError: Another process is doing the run.
        RunError: No such run, or its files are of another plan or cannot be written.
    """
    plan = Plan.load(folder)
    spec = _spec(plan, index)
    place = _place(folder, spec)
    with held(place / "lock", f"run {spec.name}") if rank == 0 else contextlib.nullcontext():
        if done := read_result(folder, plan, index):
            return done
        (place / "train").mkdir(parents=True, exist_ok=True)
        started = time.monotonic()
        metrics = _plain(trainer(spec, place / "train"), spec)
        fields = _result(plan, spec, metrics, time.monotonic() - started)
        if rank == 0:
            FILES.write_json(place / RESULT_FILE, fields)
        return fields


def read_result(folder: Path, plan: Plan, index: int) -> dict[str, Any] | None:
    """The result of a run, or None if it is not finished.

    Raises:
        RunError: The file is malformed or belongs to another plan.
    """
    path = _place(folder, _spec(plan, index)) / RESULT_FILE
    if not path.is_file():
        return None
    files = dataclasses.replace(FILES, argument=f"run {index:03d}")
    fields: dict[str, Any] = files.json(path)
    hint = "Remove it to do the run again."
    check_same(path, {"plan": fields.get("plan_digest")}, {"plan": plan.digest}, files, what="a result", hint=hint)
    if not isinstance(fields.get("metrics"), dict):
        raise RunError.about(f"run {index:03d}", str(path), "a result with metrics", hint)
    return fields


def pending(folder: Path) -> list[int]:
    """Numbers of the runs that have no result yet."""
    plan = Plan.load(folder)
    return [run.index for run in plan.runs if read_result(folder, plan, run.index) is None]


def begun(folder: Path) -> list[int]:
    """Numbers of the runs that have a folder but no result: being done, or stopped."""
    plan = Plan.load(folder)
    return [index for index in pending(folder) if (_place(folder, plan.runs[index]) / "train").is_dir()]


def _spec(plan: Plan, index: int) -> RunSpec:
    if not 0 <= index < len(plan.runs):
        raise RunError.about("run", index, f"a number from 0 to {len(plan.runs) - 1}")
    return plan.runs[index]


def _place(folder: Path, spec: RunSpec) -> Path:
    return folder / "runs" / spec.name


def _plain(metrics: Mapping[str, float | None], spec: RunSpec) -> dict[str, float | None]:
    """Metrics as JSON has them: what is not finite becomes null, which says undefined."""
    plain: dict[str, float | None] = {}
    for name, value in metrics.items():
        try:
            number = math.nan if value is None else float(value)
        except (TypeError, ValueError) as error:
            raise RunError.about(f"run {spec.name}: metric {name}", value, "a number") from error
        plain[name] = number if math.isfinite(number) else None
    return plain


def _result(plan: Plan, spec: RunSpec, metrics: Mapping[str, float | None], seconds: float) -> dict[str, Any]:
    return {
        **dataclasses.asdict(spec),
        "metrics": dict(metrics),
        "seconds": round(seconds, 1),
        "plan_digest": plan.digest,
        "data_digest": plan.data_digest,
        "recipe_digest": plan.recipe_digest,
    }


@contextlib.contextmanager
def held(path: Path, what: str) -> Iterator[None]:
    """Hold a lock file; the system lets go of it when the process ends, also by a kill.

    On a shared folder the file system must pass locks on between machines (NFS 4 and the usual cluster systems do).

    Raises:
        TakenError: Somebody else holds it.
        RunError: The file system has no locks, or the file cannot be written.
    """
    with FILES.saving(path):
        file = path.open("a+", encoding="utf-8")
    with file:
        close_in_children(file)
        _take(file.fileno(), path, what)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield


def _take(descriptor: int, path: Path, what: str) -> None:
    try:
        taken = lock(descriptor)
    except OSError as error:
        # Not to be shrugged off: runs that are spread over machines rely on it.
        hint = f"The system says: {error.strerror or error}. Put the sweep on a file system with locks."
        raise RunError.about(what, str(path), "a file that can be locked", hint) from error
    if not taken:
        holder = path.read_text(encoding="utf-8") or "another process"
        hint = "Wait for it, or do another run: `python -m train sweep status` lists them."
        raise TakenError.about(what, f"<taken by {holder}>", "a run that nobody else is doing", hint)


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
    from ..loop import train

    def run(spec: RunSpec, folder: Path) -> Mapping[str, float | None]:
        metrics = train(proxy_recipe(recipe, spec), folder / "run", quiet=quiet).metrics
        shutil.rmtree(
            folder / "run" / "models", ignore_errors=True
        )  # a sweep reads numbers only; 114 models fill disks
        return metrics

    return run
