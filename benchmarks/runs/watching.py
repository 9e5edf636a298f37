"""How far a run is, for who looks at the terminal."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

from qsit_metric.commands import terminal
from qsit_metric.evaluation.loop import Progress

from .process import Process

_PERIOD = 3600.0  # seconds over which the speed is taken: results come in bursts, a batch at a time


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
    if (process or Process.current()).rank or not terminal.watched(sys.stderr):
        yield lambda done, total: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()
    )  # fmt: skip
    with Bar(*columns, console=terminal.err(), speed_estimate_period=_PERIOD, redirect_stdout=False) as shown:
        task = shown.add_task(title, total=None)
        yield lambda done, total: shown.update(task, completed=done, total=total)
