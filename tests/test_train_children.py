"""Workers of a pool when the process that started them is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_PARENT = """
import multiprocessing, time
from concurrent.futures import ProcessPoolExecutor
from train.processes import alone
import os

if __name__ == "__main__":
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), alone) as pool:
        print(pool.submit(os.getpid).result(), pool.submit(os.getenv, "OMP_NUM_THREADS").result(), flush=True)
        time.sleep(600)
"""


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A process that ended and that nobody has waited for is still listed.
    status = Path(f"/proc/{pid}/stat")
    return not status.is_file() or status.read_text().rpartition(")")[2].split()[0] != "Z"


def test_a_worker_takes_one_core_and_ends_with_a_killed_parent(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(_PARENT)
    paths = os.pathsep.join([str(ROOT), str(ROOT / "src")])
    environment = {**os.environ, "PYTHONPATH": paths} | {"OMP_NUM_THREADS": "7"}
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env=environment)
    assert parent.stdout is not None
    worker, threads = parent.stdout.readline().split()
    assert threads == "1"
    assert _alive(int(worker))
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    deadline = time.monotonic() + 30
    while _alive(int(worker)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _alive(int(worker))
