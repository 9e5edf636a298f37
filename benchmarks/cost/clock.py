"""Stopwatches: interleaved repeats, memory, and the peak of matrix multiplication."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

import torch

T = TypeVar("T")
MIB = 1024 * 1024

BUSY = 0.1
"""Cores that others may use before times are too long to be read."""

_CLEAR = Path("/proc/self/clear_refs")  # writing 5 sets the peak of the resident memory back; Linux


def settle(device: torch.device) -> None:
    """Wait until the device has done what was asked of it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """Wall-clock time of one call."""
    settle(device)
    start = time.perf_counter()
    work()
    settle(device)
    return time.perf_counter() - start


@dataclass(frozen=True)
class Rounds(Generic[T]):
    """What flows gave and how long they took.

    Attributes:
        first: Of each flow, its result in an unmeasured first round.
        times: Of each flow, the seconds of every measured round.
        others: Cores that other processes kept busy meanwhile, on average; None where the system does not say.
    """

    first: dict[str, T]
    times: dict[str, list[float]]
    others: float | None


def interleaved(flows: Mapping[str, Callable[[], T]], repeats: int, device: torch.device) -> Rounds[T]:
    """Run flows in turn (A B A B ...), so that a slow minute of the machine hits all of them."""
    first = {name: work() for name, work in flows.items()}
    times: dict[str, list[float]] = {name: [] for name in flows}
    start, foreign = time.perf_counter(), _foreign_seconds()
    for _ in range(repeats):
        for name, work in flows.items():
            times[name].append(seconds(work, device))
    wall = time.perf_counter() - start
    return Rounds(first, times, None if foreign is None else max(0.0, (_foreign_seconds() or 0.0) - foreign) / wall)


def _foreign_seconds() -> float | None:
    """Processor time that everybody else has used since the machine started."""
    stat = Path("/proc/stat")
    if not stat.is_file():
        return None
    user, nice, system, _, _, irq, soft, *_ = map(int, stat.read_text(encoding="ascii").split()[1:11])
    own = time.process_time() + sum(os.times()[2:4])  # children that have ended are ours, too
    return (user + nice + system + irq + soft) / os.sysconf("SC_CLK_TCK") - own


class Memory(NamedTuple):
    """MiB before a call, and the most while it ran: allocated on CUDA, resident elsewhere."""

    before: float
    peak: float


def memory_of(work: Callable[[], object], device: torch.device, *, fresh: bool = False) -> Memory | None:
    """Memory of a call.

    Args:
        work: What is called.
        device: Where it computes.
        fresh: Whether this process is there for the call alone, so that its peak since the start will do.

    Returns:
        None where the system does not let the record of the peak begin anew.
    """
    if not _forget_peak(device) and not fresh:
        return None
    before = peak_memory(device)
    work()
    return Memory(before, peak_memory(device))


def peak_memory(device: torch.device) -> float:
    """Most memory that this process has held so far, in MiB: allocated on CUDA, resident elsewhere."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device)) / MIB
    # ru_maxrss is inherited from the parent at exec on Linux, VmHWM is not.
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="ascii", errors="replace").splitlines() if status.is_file() else []
    for line in lines:
        if line.startswith("VmHWM:"):
            return float(line.split()[1]) / 1024
    import resource  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / MIB if sys.platform == "darwin" else peak / 1024


def _forget_peak(device: torch.device) -> bool:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return True
    try:
        _CLEAR.write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def peak_tflops(device: torch.device, dtype: torch.dtype, side: int) -> float:
    """Best throughput of a square matrix product on this device and in this type, in 1e12 operations a second."""
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    best = min(seconds(lambda: left @ right, device) for _ in range(12))
    return 2 * side**3 / best / 1e12
