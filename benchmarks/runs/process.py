"""Which process of a run this is, its share of the work, and its progress bar."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from qsit_metric import console
from qsit_metric.evaluation import EvaluationError
from qsit_metric.evaluation.loop import Progress

T = TypeVar("T")

_NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK")  # as torchrun sets them, and with it `accelerate launch`


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
