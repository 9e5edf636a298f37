"""A polite end: an interrupt or a scheduler's SIGTERM is noted, and the run saves before it stops."""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import Self


def outlive_one_signal() -> None:
    """For a process that works for a run: it ends with the run, or at a second SIGTERM.

    Schedulers and terminals signal all processes of a job at once, and the run needs its workers until it has saved.
    """

    def end_next_time(_: int, __: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, end_next_time)


class Interrupts:
    """Notes SIGINT and SIGTERM while it is open; a second one acts at once, as usual.

    Attributes:
        seen: Whether one came.
    """

    def __init__(self) -> None:
        self.seen = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for one in (signal.SIGINT, signal.SIGTERM):
                self._before[one] = signal.signal(one, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def _note(self, _: int, __: FrameType | None) -> None:
        self.seen = True
        sys.stderr.write("\nStopping after this step; once more stops at once.\n")
        self._restore()

    def _restore(self) -> None:
        for one, handler in self._before.items():
            signal.signal(one, handler if handler is not None else signal.SIG_DFL)
        self._before = {}
