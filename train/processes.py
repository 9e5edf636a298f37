"""The processes of a run: how they end, how workers share a machine, and what they keep of its memory."""

from __future__ import annotations

import ctypes
import multiprocessing
import multiprocessing.process
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from itertools import islice
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from typing_extensions import Self

T = TypeVar("T")
R = TypeVar("R")
# Names and numbers of glibc's <malloc.h>.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
_MOST, _PIECE = 2**31 - 1, 2**28


class Interrupts:
    """SIGINT and SIGTERM, noted while it is open so that a run saves before it stops; a second one acts at once.

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


def outlive_one_signal() -> None:
    """Let a worker of a run end with the run, or at a second SIGTERM.

    Schedulers and terminals signal all processes of a job at once, and the run needs its workers until it has saved.
    """

    def end_next_time(_: int, __: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, end_next_time)


def alone() -> None:
    """Start a worker that works beside others: on one core, and no longer than the process that started it.

    A worker of a pool waits for work on a pipe that it holds both ends of: if its parent is killed, it would wait for
    ever.
    """
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"  # libraries that are not loaded yet see this
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: multiprocessing.process.BaseProcess) -> None:
    parent.join()
    os._exit(1)


def in_order(pool: Executor, work: Callable[[T], R], items: Iterable[T], ahead: int) -> Iterator[R]:
    """Results in the order of their items, which a pool works on ahead: a few, not all that memory would have to hold.

    Args:
        pool: Does the work.
        work: Of one item.
        items: Taken as they are needed.
        ahead: How many are in the making or done at most.

    Example:
        >>> from concurrent.futures import ThreadPoolExecutor
        >>> with ThreadPoolExecutor(2) as pool:
        ...     list(in_order(pool, str, range(4), ahead=2))
        ['0', '1', '2', '3']
    """
    rest = iter(items)
    waiting = deque(pool.submit(work, item) for item in islice(rest, ahead))
    while waiting:
        done = waiting.popleft().result()
        waiting.extend(pool.submit(work, item) for item in islice(rest, 1))
        yield done


def keep_freed_memory() -> None:
    """Let glibc keep large blocks that are freed; elsewhere, nothing.

    By default it gives them back to the system and asks for them anew at every step, and the system clears each page
    again: a quarter of the time of a small model on a processor (measured: 290 to 450 tiles a second in the first stage
    of q-sit-nano).
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for name, value in ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, _MOST), (_TOP_PAD, _PIECE)):
            mallopt(name, value)


def quick_in_bfloat16(device: str) -> bool:
    """Whether bfloat16 is quicker than float32 on a device; a processor without instructions for it is 8 times slower.

    Args:
        device: Type of a torch device.
    """
    import torch

    return device != "cpu" or bool(torch.cpu._is_avx512_bf16_supported())
