"""A long command in stages: each leaves its result in a folder, and is skipped when the command is run again."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from qsit_metric.files import write_atomic

from ..errors import RunError
from ..processes import alone

Say = Callable[[str], None]
Work = tuple[Callable[..., str], tuple[Any, ...]]
_SECONDS, _SETTINGS = "seconds.json", "settings.json"


class Stages:
    """What a long command has done, and how long that took.

    Args:
        folder: The command's folder; made if it is not there.
        settings: What decides its results, as plain fields.
        say: Told what is being done.

    Raises:
        RunError: The folder is of a command with other settings; the message names them.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], say: Say) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.say = folder, say
        self._check_same(json.loads(json.dumps(settings)))
        self.seconds: dict[str, float] = read_json(folder / _SECONDS)

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Announce a stage and note how long it took."""
        self.say(f"{name} ...")
        started = time.monotonic()
        yield
        self.seconds.setdefault(name, round(time.monotonic() - started, 1))  # of a run that goes on: its first part
        write_atomic(self.folder / _SECONDS, json.dumps(self.seconds, indent=1) + "\n")

    def side_by_side(self, work: Sequence[Work], abreast: int = 0) -> None:
        """Do pieces of work in so many processes, 0: one for each core; the first error ends them all."""
        if not work:
            return
        cores = min(len(work), abreast or os.cpu_count() or 1)
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(cores, mp_context=context, initializer=single_thread) as pool:
            waiting = [pool.submit(function, *arguments) for function, arguments in work]
            try:
                for done in as_completed(waiting):
                    self.say(done.result())
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _check_same(self, settings: Mapping[str, Any]) -> None:
        path = self.folder / _SETTINGS
        if path.is_file() and (before := read_json(path)) != settings:
            names = sorted(name for name in {*before, *settings} if before.get(name) != settings.get(name))
            hint = "Run it with the same options as before, or pass another folder."
            expected = f"a folder of a run with the same {', '.join(names)}"
            raise RunError.about("output", str(self.folder), expected, hint)
        write_atomic(path, json.dumps(settings, indent=1) + "\n")


def single_thread() -> None:
    """For processes that train side by side: each takes one core."""
    alone()


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object, or nothing if there is no file."""
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}
