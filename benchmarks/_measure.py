"""Stopwatches: interleaved repeats, peak memory, the peak of matrix multiplication, and operations of a flow."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

T = TypeVar("T")
MIB = 1024 * 1024


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
    return (user + nice + system + irq + soft) / os.sysconf("SC_CLK_TCK") - time.process_time()


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


def peak_tflops(device: torch.device, dtype: torch.dtype, side: int) -> float:
    """Best throughput of a square matrix product on this device and in this type, in 1e12 operations a second."""
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    best = min(seconds(lambda: left @ right, device) for _ in range(12))
    return 2 * side**3 / best / 1e12


def tflop(work: Callable[[], Any]) -> float:
    """Floating-point operations of a call, in 1e12; attention as plain products, which every device counts alike."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        work()
    return float(counter.get_total_flops()) / 1e12
