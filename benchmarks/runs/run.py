"""One model over one set: what is still missing is done, by one process or several, and kept as it comes."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from qsit_metric import console
from qsit_metric.evaluation import EvaluationError
from qsit_metric.evaluation.loop import Progress, is_qsit, provenance
from qsit_metric.journal import Journal, Marker, plain

from .results import FILES, RUN_FILE, Results, parts

if TYPE_CHECKING:
    from typing_extensions import Self

    from qsit_metric.batching import Timing

_HINT = "If its list differs (sha256), images, scores or texts have changed. Name another folder, or remove this one."
T = TypeVar("T")
_NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK")  # as torchrun sets them, and with it `accelerate launch`


def identity(kind: str, metric: Any, name: str, sha256: str, ids: Sequence[str], **settings: Any) -> dict[str, Any]:
    """The content of a run's `run.json`.

    Args:
        kind: "scores", "questions" or "descriptions".
        metric: A `QSiT`, or a function of a path.
        name: Of the set.
        sha256: Of the set's list.
        ids: Of its images or questions.
        settings: What else the results depend on.

    Raises:
        EvaluationError: No ids, or some twice; or something that is no metric.
    """
    if not ids or len(set(ids)) < len(ids):
        shown = ", ".join([one for one, times in Counter(ids).items() if times > 1][:3]) or "none"
        raise EvaluationError.about("set", f"<{name}; ids that stand twice: {shown}>", "at least one id, and each once")
    recipe = dataclasses.asdict(metric.recipe) if is_qsit(metric) else None
    found = {
        "kind": kind, "set": name, "n": len(ids), "sha256": sha256, "made": made_by(metric), "recipe": recipe,
        **settings,
    }  # fmt: skip
    return dict(plain(found))


def made_by(metric: Any) -> dict[str, str | None]:
    """What makes a metric's results: of a folder its name, not where it lies; of a device its kind, not its number."""
    made = provenance(metric)
    model = Path(str(made["model"]))
    made["model"] = model.resolve().name if model.is_dir() else made["model"]
    if made.get("device"):
        made["device"] = str(made["device"]).partition(":")[0]
    return made


Groups = Sequence[Sequence[int]]
Work: TypeAlias = "Callable[[Groups, Timing | None], Iterable[Mapping[str, Any]]]"


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
        if parts(folder) and not (folder / RUN_FILE).is_file():
            raise EvaluationError.about("folder", str(folder), f"a new folder, or one with a {RUN_FILE}")
        Marker(folder / RUN_FILE, identity, FILES, what="the results of a run", hint=_HINT, bare=True).claim()
        self._part = Journal(folder / f"part-{self.process.rank:05d}.jsonl", None, FILES, key="id")

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
        timed: Whether it does count; else it gets no timing.
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
        timing = _timing() if timed else None
        clock = _Clock(timing)
        for done, row in enumerate(work(todo, timing) if todo else (), start=1):
            run.add({**row, **clock.lap()})
            tell(done, total)
    found = Results.read(folder)
    if found.complete:
        found.merge()
    return found


def _timing() -> Timing:
    from qsit_metric.batching import Timing  # brings torch, which metrics that are functions need not have

    return Timing()


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


@dataclass(frozen=True)
class Process:
    """One of the processes that share a run.

    Attributes:
        rank: Its number, from 0.
        world: How many there are.
        local: Its number on this machine.

    Raises:
        EvaluationError: Numbers that do not fit together.

    Example:
        >>> Process(1, 2).share("abcde")
        ['b', 'd']
    """

    rank: int = 0
    world: int = 1
    local: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.world or self.local < 0:
            raise EvaluationError.about("RANK, WORLD_SIZE", (self.rank, self.world), "0 <= rank < world")

    @classmethod
    def current(cls) -> Process:
        """This process: as accelerate knows it if it was asked already, else as the environment says; else alone.

        Raises:
            EvaluationError: The environment has something else than numbers.
        """
        accelerate = sys.modules.get("accelerate.state")
        if accelerate is not None and accelerate.PartialState._shared_state:
            state = accelerate.PartialState()
            return cls(state.process_index, state.num_processes, state.local_process_index)
        found = [os.environ.get(name, default) for name, default in zip(_NAMES, "010", strict=True)]
        if not all(text.isdecimal() for text in found):
            raise EvaluationError.about(", ".join(_NAMES), found, "whole numbers, as `accelerate launch` sets them")
        return cls(*map(int, found))

    @property
    def device(self) -> str | None:
        """What to pass to `QSiT(device=...)`: each process its own GPU; None, the default, without GPUs or alone."""
        import torch

        if self.world == 1 or not torch.cuda.is_available():
            return None
        return f"cuda:{self.local % torch.cuda.device_count()}"

    def share(self, items: Sequence[T]) -> list[T]:
        """Every `world`-th item: of the whole set, not of what is missing, which others change meanwhile."""
        return list(items[self.rank :: self.world])


@contextlib.contextmanager
def bar(title: str, process: Process | None = None) -> Iterator[Progress]:
    """A progress bar with the time left, of the first process, if a person watches; else nothing is shown.

    Args:
        title: What is done.
        process: Default: as the environment says.

    Example:
        >>> with bar("livec") as progress:  # doctest: +SKIP
        ...     score_run(metric, manifest, folder, progress=progress)
    """
    quiet = bool((process or Process.current()).rank)
    with console.progress(title, quiet=quiet, transient=False) as move:
        yield move
