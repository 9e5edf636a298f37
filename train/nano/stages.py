"""A long command in stages: each leaves its result in a folder, and is skipped when the command is run again."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any, TypeVar

from qsit_metric.files import Files
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
