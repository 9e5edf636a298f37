"""How far a run is, for who looks at the terminal."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from qsit_metric import console
from qsit_metric.evaluation.loop import Progress

from .process import Process


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
