"""QSiTLoss in two processes: a network under DDP that holds the loss learns as one process with both halves would."""

from __future__ import annotations

import json
import os
import runpy
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from conftest import HERE

ROOT = HERE.parent

# The network and its loss in one module, as Lightning has it; prints the gradients of the first process.
WORKER = """
import json, sys
import torch
import torch.distributed as dist
from torch import nn
from qsit_metric import QSiT, QSiTLoss

torch.set_num_threads(1)
rank, world, port = map(int, sys.argv[1:])


class Restorer(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.network = nn.Conv2d(3, 3, 3, padding=1)
        self.criterion = QSiTLoss(QSiT("q-sit-nano", device="cpu"), weight=0.1, checkpointing=True)

    def forward(self, x, y):
        output = self.network(x)
        return (output - y).abs().mean() + self.criterion(output)


module = Restorer().train()
generator = torch.Generator().manual_seed(1)
x, y = torch.rand(2, 2, 3, 48, 64, generator=generator)
if world > 1:
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=world)
    model = nn.parallel.DistributedDataParallel(module)
else:
    model = module
model(x[rank::world], y[rank::world]).backward()
if rank == 0:
    print(json.dumps({name: p.grad.flatten().tolist() for name, p in module.named_parameters()}))
if world > 1:
    dist.destroy_process_group()
"""


def _start(script: Path, rank: int, world: int, port: int) -> subprocess.Popen[str]:
    paths = os.pathsep.join([str(ROOT), str(ROOT / "src")])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(script), str(rank), str(world), str(port)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _free_port() -> int:
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        return int(door.getsockname()[1])


def _together(script: Path, world: int) -> dict[str, list[float]]:
    port = _free_port()
    started = [_start(script, rank, world, port) for rank in range(world)]
    try:
        told = [process.communicate(timeout=1200) for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0] * world, [error[-2000:] for _, error in told]
    return json.loads(told[0][0].splitlines()[-1])


@pytest.fixture
def alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[Path], dict[str, list[float]]]:
    """The same without others, in this process."""

    def run(script: Path) -> dict[str, list[float]]:
        threads = torch.get_num_threads()
        monkeypatch.setattr(sys, "argv", [str(script), "0", "1", "0"])
        runpy.run_path(str(script))
        torch.set_num_threads(threads)
        return json.loads(capsys.readouterr().out.splitlines()[-1])

    return run


def test_two_processes_learn_as_one(alone: Callable[[Path], dict[str, list[float]]], tmp_path: Path) -> None:
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    one, two = alone(script), _together(script, 2)
    assert set(two) == {"network.weight", "network.bias"}
    for name, values in one.items():
        assert two[name] == pytest.approx(values, rel=1e-3, abs=1e-6)
