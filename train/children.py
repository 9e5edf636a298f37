"""Processes that work side by side: one core each, and none outlives the process that started it."""

from __future__ import annotations

import multiprocessing
import multiprocessing.process
import os
import sys
import threading


def alone() -> None:
    """For the start of a worker: take one core, and end when the parent is gone.

    A worker of a pool waits for work on a pipe that it holds both ends of: if its parent is killed, it would wait for
    ever.
    """
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"  # libraries that are not loaded yet see this
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: multiprocessing.process.BaseProcess) -> None:
    parent.join()
    os._exit(1)
