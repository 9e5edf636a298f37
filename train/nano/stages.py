"""A long command in stages: each leaves its result in a folder, and is skipped when the command is run again.

What another run has finished can be taken over: the tower and the base, and the balance, if that was found there. A run
that teaches another's model on takes that, too, and the record of how it came about.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any, TypeVar

from qsit_metric.files import Files, new_folder
from qsit_metric.journal import Marker

from ..errors import RunError
from ..processes import alone

FILES = Files(RunError, "output", parents=True)
SETTINGS = "settings.json"
T = TypeVar("T")
Say = Callable[[str], None]
Work = tuple[Callable[..., str], tuple[Any, ...]]
_SECONDS = "seconds.json"


class Stages:
    """The stages of a long command: which are done, and how long each took.

    Args:
        folder: The command's folder; made if it is not there.
        settings: What decides its results, as plain fields.
        say: Told what is being done.

    Raises:
        RunError: The folder is of a command with other settings; the message names them.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], say: Say) -> None:
        self.folder, self.say = folder, say
        hint = "Run it with the same options as before, or pass another folder."
        Marker(folder / SETTINGS, settings, FILES, what="a folder of a run", hint=hint).claim()
        self.seconds: dict[str, float] = read_json(folder / _SECONDS)

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Announce a stage and note how long it took."""
        self.say(f"{name} ...")
        started = time.monotonic()
        yield
        self.seconds.setdefault(name, round(time.monotonic() - started, 1))  # of a run that goes on: its first part
        FILES.write_json(self.folder / _SECONDS, self.seconds)

    def side_by_side(self, work: Sequence[Work], abreast: int = 0) -> None:
        """Do pieces of work in so many processes, 0: one for each core; the first error ends them all."""
        for done in in_processes(work, abreast):
            self.say(done)


def in_processes(work: Sequence[tuple[Callable[..., T], tuple[Any, ...]]], workers: int = 0) -> Iterator[T]:
    """Do pieces of work side by side, each on one core; the first error ends them all.

    Args:
        work: Functions and their arguments.
        workers: Processes; 0 takes as many as there are cores.

    Returns:
        Their results, as they get done.
    """
    if not work:
        return
    count = min(len(work), workers or os.cpu_count() or 1)
    with ProcessPoolExecutor(count, multiprocessing.get_context("spawn"), initializer=alone) as pool:
        waiting = [pool.submit(function, *arguments) for function, arguments in work]
        try:
            for done in as_completed(waiting):
                yield done.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object, or nothing if there is no file."""
    return dict(FILES.json(path)) if path.is_file() else {}


_MODELS = ("tower", "base/last")
_SWEEPS = ("step1", "step2")
_MARK = "taken"
_SUMMARY = "summary.json"
_RESULT = "model/last"
MODEL = "begun"
"""The embedded model of another run, to be taught on."""
BEFORE = "before.json"
"""That run's summary."""


def take_over(run: Path, output: Path, seed: int, onward: bool = False) -> None:
    """Copy what another run has finished; nothing if it was done before.

    Args:
        run: The run's folder, or its `models` alone: then the balance is searched again.
        output: The folder of the run that goes on.
        seed: Its seed, which must be another one: the language model is to learn from pictures that are new to the
            tower.
        onward: Take the embedded model, too, to be taught on.

    Raises:
        RunError: There is no tower or no base, or what else is to be taken; or the seeds are equal.
    """
    models, place = run / "models" if (run / "models").is_dir() else run, output / "models"
    if place.is_dir():
        return
    needed = [models / name for name in _MODELS]
    needed += [run / name for name in (_RESULT, *_SWEEPS, _SUMMARY)] if onward else []
    for path in needed:
        if not path.exists():
            hint = "It is a run that is done." if onward else "It is a run, or the `models` of one."
            expected = f"a folder with {path.relative_to(run if onward else models)}"
            raise RunError.about("begin", str(run), expected, hint)
    settings = read_json(models.parent / SETTINGS)
    if settings.get("made", settings).get("seed") == seed:
        hint = "With the same seed the pictures would be those that the tower has seen."
        raise RunError.about("seed", seed, f"another one than that of {models.parent}", hint)
    for name in _SWEEPS:
        if (run / name / "fit.json").is_file() and not (output / name).is_dir():
            _copy([run / name], run, output / name, Path(_MARK))
    if onward and not (output / MODEL).is_dir():
        shutil.copyfile(run / _SUMMARY, output / BEFORE)
        _copy([(run / _RESULT).resolve()], run, output / MODEL, Path(_MARK))
    _copy([models / name for name in _MODELS], models, place, Path("base") / _MARK)


def taken(folder: Path) -> bool:
    """Whether a base or a sweep came from another run."""
    return (folder / _MARK).is_file()


def _copy(sources: list[Path], root: Path, place: Path, mark: Path) -> None:
    """Copy all of them or nothing, with a mark that says so."""
    with new_folder(place) as work:
        for source in sources:
            within = work if len(sources) == 1 else work / source.relative_to(root)
            shutil.copytree(source, within, symlinks=True, dirs_exist_ok=True)
        (work / mark).write_text("of another run\n", encoding="utf-8")
