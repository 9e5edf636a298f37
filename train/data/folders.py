"""Folders that are there whole or not at all."""

from __future__ import annotations

import hashlib
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path

from qsit_metric.files import commit_folder

from ..errors import DataError


def check_target(target: Path, mark: str, force: bool) -> None:
    """Refuse a place that is taken.

    Args:
        target: The folder to write.
        mark: Name of the file that every folder of this kind has; a folder without it is somebody else's.
        force: A folder of this kind may be replaced.

    Raises:
        DataError: The folder is not empty and is of another kind, or `force` is not given.
    """
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    if not (target / mark).is_file():
        raise DataError.about("output", str(target), "a new folder, or one that was frozen before", "Name another one.")
    if not force:
        raise DataError.about("output", str(target), "a folder that is not there yet", "Replace it with --force.")


def replace_folder(target: Path, write: Callable[[Path], None]) -> None:
    """Write a folder beside its place and put it there; what was there before is gone only afterwards.

    Args:
        target: The folder.
        write: Fills the new, empty folder that it is given.

    Raises:
        DataError: It cannot be written; what was there before still is.
    """
    target = target.resolve()
    fresh = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    try:
        fresh.mkdir(parents=True)
        write(fresh)
        commit_folder(fresh, target)
    except OSError as error:
        hint = f"The system says: {error}."
        raise DataError.about("output", str(target), "a folder that can be written", hint) from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
