"""Files and folders that are whole or not there, and locks that end with their process."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any


def write_atomic(path: str | os.PathLike[str], content: str | bytes) -> None:
    """Write a file so that a reader, or a crash, sees the old content or the new, never a part.

    Args:
        path: The file; its folder must exist.
        content: Text (written as UTF-8; file names that are no text come out as on disk) or bytes.

    Raises:
        OSError: It cannot be written; what was there stays.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "scores.txt"
        >>> write_atomic(path, "3.5")
        >>> path.read_text()
        '3.5'
    """
    target = Path(path)
    part = target.with_name(f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        with part.open("xb") as file:
            file.write(content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def commit_folder(written: Path, target: Path) -> Path:
    """Give a folder that is written its place, once its bytes are on the disk; an older one goes only then.

    Args:
        written: The folder; on the file system of `target`.
        target: Its place, empty or another folder.

    Returns:
        `target`.

    Raises:
        OSError: It cannot be done; what was there before stays.
    """
    for path in [*(path for path in written.rglob("*") if path.is_file()), written]:
        _sync(path)
    old = target.with_name(f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}.old")
    if target.exists():
        target.rename(old)
    try:
        written.rename(target)
    except OSError:
        if old.exists():
            old.rename(target)
        raise
    _sync(target.parent)
    shutil.rmtree(old, ignore_errors=True)
    return target


def lock(descriptor: int) -> bool:
    """Lock an open file until it is closed, also by a kill.

    Returns:
        False if another process, or another open file of this one, has the lock.

    Raises:
        OSError: The file system has no locks.
    """
    try:
        if sys.platform == "win32":
            import msvcrt

            # Windows forbids reading locked bytes: lock one far behind the end.
            os.lseek(descriptor, 2**30, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            os.lseek(descriptor, 0, os.SEEK_SET)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


@contextlib.contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Hold the lock of a file, made if it is not there; gives whether it was to be had.

    A file system without locks counts as having given it.
    """
    with path.open("a+b") as file:
        close_in_children(file)
        try:
            held = lock(file.fileno())
        except OSError:
            held = True
        yield held


def close_in_children(file: IO[Any]) -> None:
    """Let forks of this process close a file, so that its lock ends with this process and not with the last of them."""
    if not _OPEN and hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_close_all)
    _OPEN.add(file)


_OPEN: weakref.WeakSet[IO[Any]] = weakref.WeakSet()


def _close_all() -> None:
    for file in list(_OPEN):
        file.close()


def _sync(path: Path) -> None:
    if os.name == "nt":  # folders cannot be opened there
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
