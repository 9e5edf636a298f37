"""A measurement in an interpreter of its own, of this checkout or of another one: nothing that ran before it counts.

    found = in_child("benchmarks.efficiency:session_memory", "ours", "cpu", "float32", "mini", "512x384", 2)

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
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

STARTED = time.perf_counter()
"""When this interpreter began to import, before anything heavy."""

ROOT = Path(__file__).resolve().parents[2]
_CALL = "from benchmarks.cost import child; child.main()"
_SHOWN = 2000  # characters of a failed child's last words


@dataclass(frozen=True)
class Checkout:
    """A state of this repository whose package is measured.

    Attributes:
        folder: Where it lies.
        python: The interpreter that runs it.

    Raises:
        EvaluationError: There is no such package.
    """

    folder: Path = ROOT
    python: str = sys.executable

    def __post_init__(self) -> None:
        if not (self.folder / "src" / "qsit_metric" / "__init__.py").is_file():
            from qsit_metric.errors import EvaluationError

            expected = "a checkout of this repository, with src/qsit_metric"
            raise EvaluationError.about("--against", str(self.folder), expected)

    @property
    def name(self) -> str:
        """The commit, or the folder's name if git does not know it."""
        command = ["git", "-C", str(self.folder), "rev-parse", "--short", "HEAD"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.stdout.strip() or self.folder.resolve().name

    def run(self, *arguments: str, more: Mapping[str, str] | None = None) -> str:
        """Start its interpreter with its package, and `benchmarks` of this checkout; gives what it wrote to stdout.

        Raises:
            RuntimeError: It failed; its last words are in the message.
        """
        places = [str(self.folder.resolve() / "src"), str(ROOT)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(places), **(more or {})}
        command = [self.python, *arguments]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(arguments)} failed with {self.folder}: {done.stderr[-_SHOWN:]}")
        return done.stdout


def in_child(
    place: str, *arguments: object, more: Mapping[str, str] | None = None, checkout: Checkout | None = None
) -> Any:
    """Call a function in a fresh interpreter.

    Args:
        place: "module:function".
        arguments: Plain values.
        more: Environment variables of the child, beside this process's.
        checkout: Whose package it measures; default: this one.

    Returns:
        What the function returned.

    Raises:
        RuntimeError: It failed; its last words are in the message.

    Example:
        >>> in_child("math:gcd", 12, 18)
        6
    """
    said = (checkout or Checkout()).run("-c", _CALL, place, json.dumps(arguments), more=more)
    return json.loads(said.splitlines()[-1])


def main() -> None:
    """Entry point of the child: "module:function" and a JSON list of arguments."""
    place, arguments = sys.argv[1:]
    module, _, name = place.partition(":")
    print(json.dumps(getattr(import_module(module), name)(*json.loads(arguments))))
