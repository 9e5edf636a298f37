"""One model over one set: what is still missing is done, and every result is kept as it comes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from qsit_metric.evaluation import EvaluationError
from qsit_metric.evaluation.files import write_atomic
from qsit_metric.evaluation.loop import Progress
from qsit_metric.files import locked
from qsit_metric.pipeline import Timing

from .identity import check_same
from .parts import Part, unwritable
from .process import Process
from .results import RUN_FILE, Results, parts, read_run

if TYPE_CHECKING:
    from typing_extensions import Self

_PATIENCE = 10.0  # seconds that processes which start together wait for each other's run.json

Groups = Sequence[Sequence[int]]
Work = Callable[[Groups, Timing], Iterable[Mapping[str, Any]]]


class Run:
    """The folder of one model over one set, open for one process.

    Args:
        folder: Made if it is not there.
        identity: What is run, see `identity`.
        process: Which of the processes this is; default: as the environment says.

    Raises:
        EvaluationError: The folder has results of something else, another run is writing there, or it cannot be
            written.

    Example:
        >>> with Run(folder, identity("scores", metric, ...)) as run:  # doctest: +SKIP
        ...     run.add({"id": "1", "place": 0, "error": "", "seconds": 0.1, "waited": 0.0, "score": 3.5})
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any], process: Process | None = None) -> None:
        self.folder = folder
        self.process = process or Process.current()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _begin(folder, identity)
        except OSError as error:
            raise unwritable(folder, error) from error
        self._part = Part(folder / f"part-{self.process.rank:05d}.jsonl")

    def missing(self, ids: Sequence[str], groups: Groups, retry_failed: bool = False) -> list[list[int]]:
        """What this process has to do.

        Args:
            ids: Of the set, in order.
            groups: Places in `ids` that are done together, such as the questions about one image.
            retry_failed: Do again what has failed.

        Returns:
            This process's share of the groups, without the places that are done, whoever did them.
        """
        found = Results.read(self.folder)
        if strange := {row["id"] for row in found.rows} - set(ids):
            raise EvaluationError.about("folder", str(self.folder), f"results of this set, not of {min(strange)!r}")
        done = {row["id"] for row in (found.good if retry_failed else found.rows)}
        rest = ([place for place in group if ids[place] not in done] for group in self.process.share(groups))
        return [group for group in rest if group]

    def add(self, row: Mapping[str, Any]) -> None:
        """Keep one result; it has "id", "place", "error", "seconds" and "waited".

        Raises:
            EvaluationError: The disk is full, or fails.
        """
        self._part.add(row)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._part.__exit__(kind, error, trace)


def carry_out(
    folder: Path,
    identity: Mapping[str, Any],
    ids: Sequence[str],
    groups: Groups,
    work: Work,
    *,
    timed: bool = True,
    process: Process | None = None,
    retry_failed: bool = False,
    progress: Progress | None = None,
) -> Results:
    """Do this process's share of what is missing.

    Args:
        folder: Of the run.
        identity: What is run.
        ids: Of the set, in order.
        groups: Places in `ids` that are done together.
        work: Given groups, yields a row with "id", "place" and "error" for each place as it is done, and counts in the
            timing how long it waited for pictures.
        timed: Whether `work` does count.
        process: See `Run`.
        retry_failed: Do again what has failed.
        progress: Called with (done, to do) of this process, at the start and after each row.

    Returns:
        The results of all processes so far; whichever finds them complete has merged them.

    Raises:
        EvaluationError: As for `Run`.
    """
    tell = progress or (lambda done, total: None)
    with Run(folder, identity, process) as run:
        todo = run.missing(ids, groups, retry_failed)
        total = sum(map(len, todo))
        tell(0, total)
        timing = Timing()
        clock = _Clock(timing if timed else None)
        for done, row in enumerate(work(todo, timing) if todo else (), start=1):
            run.add({**row, **clock.lap()})
            tell(done, total)
    found = Results.read(folder)
    if found.complete:
        found.merge()
    return found


class _Clock:
    """Time from one result to the next; of a batch the first result has it all."""

    def __init__(self, timing: Timing | None) -> None:
        self._timing = timing
        self._last = self._now()

    def lap(self) -> dict[str, float | None]:
        now, before = self._now(), self._last
        self._last = now
        waited = None if self._timing is None else round(now[1] - before[1], 6)
        return {"seconds": round(now[0] - before[0], 6), "waited": waited}

    def _now(self) -> tuple[float, float]:
        return time.perf_counter(), self._timing.waited if self._timing else 0.0


def _begin(folder: Path, identity: Mapping[str, Any]) -> None:
    """Write `run.json`, or agree with the one that is there; processes that start together do so one by one."""
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end:
        with locked(folder / ".lock") as held:
            if held:
                return _agree(folder, identity)
        time.sleep(0.02)
    raise EvaluationError.about("folder", str(folder), "a folder that another process has not locked")


def _agree(folder: Path, identity: Mapping[str, Any]) -> None:
    if not (folder / RUN_FILE).is_file():
        if parts(folder):
            raise EvaluationError.about("folder", str(folder), f"a new folder, or one with a {RUN_FILE}")
        write_atomic(folder / RUN_FILE, json.dumps(dict(identity), indent=1, ensure_ascii=False) + "\n")
    check_same(folder, read_run(folder), identity)
