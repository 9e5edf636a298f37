"""A measurement in an interpreter of its own: nothing that ran before it counts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def in_child(module: str, *arguments: str, more: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The JSON object in the last line that `python -m MODULE ARGUMENTS` writes; `more` goes to its environment.

    Raises:
        RuntimeError: It failed; its last words are in the message.
    """
    command = [sys.executable, "-m", module, *arguments]
    root = Path(__file__).resolve().parents[1]
    place = {**os.environ, **(more or {})}
    done = subprocess.run(command, cwd=root, env=place, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[1:])} failed: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
