"""Stopwatches: interleaved repeats, peak memory, the peak of matrix multiplication, and operations of a flow."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

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


def interleaved(
    flows: Mapping[str, Callable[[], T]], repeats: int, device: torch.device
) -> tuple[dict[str, T], dict[str, list[float]]]:
    """Run flows in turn (A B A B ...), so that a slow minute of the machine hits all of them.

    Returns:
        What each gave in an unmeasured first round, and each one's times.
    """
    first = {name: work() for name, work in flows.items()}
    times: dict[str, list[float]] = {name: [] for name in flows}
    for _ in range(repeats):
        for name, work in flows.items():
            times[name].append(seconds(work, device))
    return first, times


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
