"""Peak memory of one flow in a process of its own: its arguments are FLOW DEVICE DTYPE SHAPE WxH THREADS."""

from __future__ import annotations

import json
import sys

import torch

from benchmarks._child import in_child
from benchmarks._flows import Authors, Ours, photo
from benchmarks._measure import peak_memory
from benchmarks._model import DTYPES, SHAPES, build_backend


def measure(flow: str, device: torch.device, dtype: str, shape: str, size: tuple[int, int]) -> dict[str, float]:
    """Score a picture and ask all questions once; peak and what the model alone takes, in MiB."""
    backend = build_backend(SHAPES[shape], DTYPES[dtype], device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    baseline = peak_memory(device)
    runner = Authors(backend.model) if flow == Authors.name else Ours(backend)
    runner.session(photo(*size))
    return {"baseline": baseline, "peak": peak_memory(device)}


def in_subprocess(flow: str, *, device: str, dtype: str, shape: str, size: str, threads: int) -> dict[str, float]:
    """`measure` in a fresh interpreter.

    Raises:
        RuntimeError: The flow failed there; its last words are in the message.
    """
    return in_child("benchmarks._memory", flow, device, dtype, shape, size, str(threads))


def main() -> None:
    """Entry point of the subprocess."""
    flow, device, dtype, shape, size, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    width, height = map(int, size.split("x"))
    print(json.dumps(measure(flow, torch.device(device), dtype, shape, (width, height))))


if __name__ == "__main__":
    main()
