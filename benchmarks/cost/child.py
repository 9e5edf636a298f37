"""A measurement in an interpreter of its own: nothing that ran before it counts.

    found = in_child("benchmarks.efficiency:memory_of", "ours", "cpu", "float32", "mini", "512x384")

The function is imported and called there with plain arguments, and what it returns comes back as JSON. This module
imports the standard library alone, so that a child pays only for what its function needs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

STARTED = time.perf_counter()
"""When this interpreter began to import, before anything heavy."""

ROOT = Path(__file__).resolve().parents[2]
_CALL = "from benchmarks.cost import child; child.main()"
_SHOWN = 2000  # characters of a failed child's last words


def in_child(place: str, *arguments: object, more: Mapping[str, str] | None = None, source: Path | None = None) -> Any:
    """Call a function in a fresh interpreter.

    Args:
        place: "module:function".
        arguments: Plain values.
        more: Environment variables of the child, beside this process's.
        source: Folder that has the `qsit_metric` to be measured; default: that of this process.

    Returns:
        What the function returned.

    Raises:
        RuntimeError: It failed; its last words are in the message.

    Example:
        >>> in_child("math:gcd", 12, 18)
        6
    """
    paths = [str(one) for one in (source, ROOT) if one] + [os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), **(more or {})}
    command = [sys.executable, "-c", _CALL, place, json.dumps(arguments)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{place} failed in a process of its own: {done.stderr[-_SHOWN:]}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Entry point of the child: "module:function" and a JSON list of arguments."""
    place, arguments = sys.argv[1:]
    module, _, name = place.partition(":")
    print(json.dumps(getattr(import_module(module), name)(*json.loads(arguments))))
