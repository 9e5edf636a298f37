"""Host packages for the tests: imported, or the module is skipped, or (with `make test-hosts`) it fails."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest

from .torchvision_ops import declare

HERE = Path(__file__).parent
REQUIRED = "QSIT_REQUIRE_HOSTS"


def host(name: str) -> ModuleType:
    """The host package of a test module, written at its top: `pyiqa = host("pyiqa")`."""
    if find_spec(name) is None:
        message = f"{name} is not installed here: `make test-hosts` has an environment with it"
        if os.environ.get(REQUIRED):
            pytest.fail(message, pytrace=False)
        pytest.skip(message, allow_module_level=True)
    declare()
    return import_module(name)


def fresh(code: str, *arguments: str) -> str:
    """What a new process prints for this code: for everything that happens once in a process."""
    preface = "from hosts.torchvision_ops import declare; declare()\n"
    path = os.pathsep.join(filter(None, [str(HERE.parent), os.environ.get("PYTHONPATH", "")]))
    done = subprocess.run([sys.executable, "-c", preface + code, *arguments], capture_output=True, text=True, check=False,
                          env={**os.environ, "PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": ""})  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
