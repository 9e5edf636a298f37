"""A measurement in an interpreter of its own: nothing that ran before it counts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any


def in_child(module: str, *arguments: str) -> dict[str, Any]:
    """The JSON object in the last line that `python -m MODULE ARGUMENTS` writes.

    Raises:
        RuntimeError: It failed; its last words are in the message.
    """
    command = [sys.executable, "-m", module, *arguments]
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[1:])} failed: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
