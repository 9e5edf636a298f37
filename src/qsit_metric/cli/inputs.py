"""Which pictures a command line means: files, folders, patterns, URLs and lists on stdin."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from .. import console
from ..errors import InputError


def expand(given: Sequence[str], *, recursive: bool) -> list[str]:
    """List the pictures that were asked for, in order, each once.

    Args:
        given: Files, folders, patterns and URLs as written; "-" stands for a list of them on stdin, one a line.
        recursive: Take folders with everything below them.

    Returns:
        Paths and URLs. What does not exist is among them: scoring it tells what is wrong.

    Raises:
        InputError: There is not a single picture.
    """
    found: dict[str, str] = {}
    for entry in _entries(given):
        paths = list(_pictures(entry, recursive))
        if not paths:
            hint = "" if recursive or not Path(entry).is_dir() else " (-r looks into its folders)"
            console.LOGGER.warning("no pictures in %r%s", entry, hint)
        for path in paths:
            found.setdefault(key(path), path)
    if not found:
        raise InputError.about(
            "PATHS", " ".join(given), "at least one picture", "Pass files, folders, patterns or URLs."
        )
    return list(found.values())


def key(path: str) -> str:
    """What makes two ways to write a path the same picture; result files hold it, so they may be read from anywhere."""
    return path if is_url(path) else os.path.abspath(path)  # noqa: PTH100  # Path.absolute keeps "a/../b"


def is_url(path: str) -> bool:
    """Whether a picture is fetched from somewhere, and not a file."""
    from ..pixels.fetch import scheme  # brings what decodes pictures, which a help text can do without

    return scheme(path) is not None


def _entries(given: Sequence[str]) -> Iterator[str]:
    for entry in given:
        if entry == "-":
            lines = (os.fsdecode(line.rstrip(b"\r\n")) for line in sys.stdin.buffer)
            yield from (line for line in lines if line)
        else:
            yield entry


def _pictures(entry: str, recursive: bool) -> Iterable[str]:
    if is_url(entry):
        return [entry]
    # A quoted "~/photos/*.jpg" was not expanded by the shell; Path.expanduser fails on "~draft.jpg", this does not.
    place = entry if os.path.lexists(entry) else os.path.expanduser(entry)  # noqa: PTH111
    if Path(place).is_dir():
        return _in_folder(place, recursive)
    # A file that is really called "a[1].png" is meant literally.
    if not glob.has_magic(place) or os.path.lexists(place):
        return [entry]
    matches = sorted(glob.glob(place, recursive=True))  # noqa: PTH207  # Path.glob takes no absolute pattern
    folders = (_in_folder(match, recursive) if Path(match).is_dir() else [match] for match in matches)
    return [path for paths in folders for path in paths]


def _in_folder(folder: str, recursive: bool) -> list[str]:
    # Names that start with a dot are skipped: macOS leaves "._photo.jpg" beside every photo on foreign disks.
    from ..pixels.read import SUFFIXES

    found: list[str] = []
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if recursive and not name.startswith("."))
        pictures = (
            name for name in sorted(names) if Path(name).suffix.lower() in SUFFIXES and not name.startswith(".")
        )
        found.extend(str(Path(parent, name)) for name in pictures)
    return found
