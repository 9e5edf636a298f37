"""Files of a sweep: whole or not at all, and one process at a time per run."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from qsit_metric.files import close_in_children, lock, write_atomic

from ..errors import RunError


class TakenError(RunError):
    """Another process is doing this run."""


def write(path: Path, content: str | bytes) -> None:
    """Write a file whole or not at all, its folder with it.

    Raises:
        RunError: The folder cannot be written; what was there stays.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, content)
    except OSError as error:
        raise _unwritable(path, error) from error


def write_json(path: Path, fields: Mapping[str, Any]) -> None:
    """Write a JSON file like `write`; numbers that JSON has no form for are refused."""
    write(path, json.dumps(fields, indent=1, allow_nan=False) + "\n")


def read_json(path: Path, what: str) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        RunError: Unreadable, or no JSON object.
    """
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError.about(what, str(path), "a readable JSON file", f"{error}.") from error
    if not isinstance(fields, dict):
        raise RunError.about(what, str(path), "a JSON object")
    return fields


@contextlib.contextmanager
def held(path: Path, what: str) -> Iterator[None]:
    """Hold a lock file; the system lets go of it when the process ends, also by a kill.

    On a shared folder the file system must pass locks on between machines (NFS 4 and the usual cluster systems do).

    Raises:
        TakenError: Somebody else holds it.
        RunError: The file system has no locks, or the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise _unwritable(path, error) from error
    with file:
        close_in_children(file)
        _take(file.fileno(), path, what)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield


def _take(descriptor: int, path: Path, what: str) -> None:
    try:
        taken = lock(descriptor)
    except OSError as error:
        # Not to be shrugged off: runs that are spread over machines rely on it.
        hint = f"The system says: {error.strerror or error}. Put the sweep on a file system with locks."
        raise RunError.about(what, str(path), "a file that can be locked", hint) from error
    if not taken:
        holder = path.read_text(encoding="utf-8") or "another process"
        hint = "Wait for it, or do another run: `python -m train sweep status` lists them."
        raise TakenError.about(what, f"<taken by {holder}>", "a run that nobody else is doing", hint)


def _unwritable(path: Path, error: OSError) -> RunError:
    hint = f"The system says: {error.strerror or error}. Make room or pass another folder; what was there is intact."
    return RunError.about("file", str(path), "a file that can be written", hint)
