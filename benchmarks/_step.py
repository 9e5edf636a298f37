"""A training step with `QSiTLoss`, really made: its time, and its peak memory in a process of its own.

The step is that of a network that repairs a picture: forward, L1 and QSiTLoss, backward, optimiser. The network is one
convolution, so that what the loss takes is seen.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks._child import in_child
from benchmarks._measure import MIB
from benchmarks._model import DTYPES, SHAPES, build_backend
from qsit_metric import QSiT, QSiTLoss

ALONE = "L1 alone"
OPTIONS: Mapping[str, dict[str, Any]] = {
    "as it is": {},
    "checkpointing": {"checkpointing": True},
    "max_tiles=2": {"max_tiles": 2},
    "crop": {"crop": True, "generator": 0},
    "max_tiles=2, checkpointing": {"max_tiles": 2, "checkpointing": True},
    "crop, checkpointing": {"crop": True, "generator": 0, "checkpointing": True},
}
"""The memory options that are compared."""

_SMALL = 160  # pixels; a step that loads the kernels and their libraries, before memory is looked at
# One arena that gives back at once what is freed, so that the resident set is what lives.
_MEMORY = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}


def load(model: str, device: torch.device, dtype: str) -> QSiT:
    """A model by name; "mini" and "7b" are the published shapes with random weights."""
    if model in SHAPES:
        return QSiT(build_backend(SHAPES[model], DTYPES[dtype], device))
    return QSiT(model, device=device, dtype=dtype)


def stepper(metric: QSiT, option: str, width: int, height: int) -> Callable[[], float]:
    """A function that makes one training step and gives its loss.

    Args:
        metric: The judge.
        option: A key of `OPTIONS`, or `ALONE`.
        width: Of the picture, in pixels.
        height: Likewise.
    """
    torch.manual_seed(0)
    network = nn.Conv2d(3, 3, 3, padding=1).to(metric.device)
    optimiser = torch.optim.Adam(network.parameters(), 1e-4)
    criterion = None if option == ALONE else QSiTLoss(metric, 0.1, **OPTIONS[option])
    x, y = torch.rand(2, 1, 3, height, width, device=metric.device)

    def step() -> float:
        output = network(x)
        loss = (output - y).abs().mean()
        if criterion is not None:
            loss = loss + criterion(output)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        return float(loss.item())

    return step


def peak_of_step(model: str, device: str, dtype: str, option: str, size: str, threads: int) -> float:
    """Peak memory of a step beyond what the model and the libraries take, in MiB, from a fresh process."""
    return float(in_child("benchmarks._step", model, device, dtype, option, size, str(threads), more=_MEMORY)["peak"])


def measure(metric: QSiT, option: str, width: int, height: int) -> float:
    """As `peak_of_step`, in this process."""
    stepper(metric, option, _SMALL, _SMALL)()
    step = stepper(metric, option, width, height)
    if metric.device.type == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step()
        return (torch.cuda.max_memory_allocated() - before) / MIB
    before = _resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the high-water mark starts here
    step()
    return (_resident("VmHWM") - before) / MIB


def _resident(field: str) -> int:
    """A line of this process's status: "VmRSS" now, "VmHWM" at most."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def main() -> None:
    """Entry point of the process."""
    model, device, dtype, option, size, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    width, height = map(int, size.split("x"))
    print(json.dumps({"peak": measure(load(model, torch.device(device), dtype), option, width, height)}))


if __name__ == "__main__":
    main()
