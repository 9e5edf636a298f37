"""Which pictures a command line means: files, folders, patterns, URLs and lists on stdin."""

from __future__ import annotations

import codecs
import glob
import os
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from .. import console
from ..errors import InputError


def expand(given: Sequence[str], *, recursive: bool, null: bool = False, any_file: bool = False) -> list[str]:
    """List the pictures that were asked for, in order, each once.

    Args:
        given: Files, folders, patterns and URLs as written; "-" stands for a list of them on stdin, one a line.
        recursive: Take folders with everything below them.
        null: The list on stdin ends each name with a NUL instead of a new line.
        any_file: Take every file of a folder, whatever its name ends in.

    Returns:
        Paths and URLs. What does not exist is among them: scoring it tells what is wrong. What was left out of folders
        is said at the end of the command.

    Raises:
        InputError: There is not a single picture, or a list that cannot be read.
    """
    if null and "-" not in given:
        raise InputError.about("--null", " ".join(given), "a list on stdin", "Write - among the paths.")
    found: dict[str, str] = {}
    folders = _Folders(recursive, any_file)
    for entry in _entries(given, null):
        paths = list(_pictures(entry, folders))
        if not paths:
            hint = "" if recursive or not _is_folder(entry) else " (-r looks into its folders)"
            console.LOGGER.warning("no pictures in %r%s", entry, hint)
        for path in paths:
            found.setdefault(key(path), path)
    if left := folders.left():
        console.at_the_end(left)
    if not found:
        raise InputError.about(
            "PATHS", " ".join(given), "at least one picture", "Pass files, folders, patterns or URLs."
        )
    return list(found.values())


def sorted_out(given: Sequence[str]) -> tuple[list[str], list[str]]:
    """Tell pictures from questions: what exists, a pattern that matches, a URL and "-" are pictures, all else is asked.

    Raises:
        InputError: Something that looks like a picture's name, but is not there.
    """
    pictures, questions = [], []
    for entry in given:
        if _is_there(entry):
            pictures.append(entry)
        elif _looks_like_a_name(entry):
            hint = "Check the spelling. -q asks it as a question."
            raise InputError.about("PICTURES", entry, "an existing file, folder or pattern, or a question", hint)
        else:
            questions.append(entry)
    return pictures, questions


def key(path: str) -> str:
    """What makes two ways to write a path the same picture; result files hold it, so they may be read from anywhere."""
    return path if is_url(path) else os.path.abspath(path)  # noqa: PTH100  # Path.absolute keeps "a/../b"


def is_url(path: str) -> bool:
    """Whether a picture is fetched from somewhere, and not a file."""
    from ..pixels.fetch import scheme  # brings what decodes pictures, which a help text can do without

    return scheme(path) is not None


def _entries(given: Sequence[str], null: bool) -> Iterator[str]:
    for entry in given:
        if entry == "-":
            yield from filter(None, _names(sys.stdin.buffer.read(), null))
        else:
            yield entry


# The longer marks first: that of UTF-32 begins like that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"), (codecs.BOM_UTF32_BE, "utf-32-be"), (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"),
)  # fmt: skip


def _names(content: bytes, null: bool) -> list[str]:
    """The entries of a list: names as they are on the disk, or text in the encodings that Windows writes."""
    bare = (b"", "utf-8" if null else _guessed(content))
    mark, encoding = next((found for found in _MARKS if content.startswith(found[0])), bare)
    content = content[len(mark) :]
    if encoding == "utf-8":
        if b"\0" in content and not null:
            raise _no_list("it holds NULs", "--null takes names that end in NUL, as `find -print0` writes them.")
        pieces = content.split(b"\0") if null else [line.rstrip(b"\r") for line in content.split(b"\n")]
        return [os.fsdecode(piece) for piece in pieces]
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise _no_list(f"it is no whole {encoding.upper()}", "Write it in UTF-8.") from error
    return text.split("\0") if null else [line.rstrip("\r") for line in text.split("\n")]


def _guessed(content: bytes) -> str:
    """UTF-16 without a mark shows by its ends of line."""
    if b"\n\0" not in content and b"\0\n" not in content:
        return "utf-8"
    return "utf-16-le" if content[1::2].count(0) > content[::2].count(0) else "utf-16-be"


def _no_list(what: str, hint: str) -> InputError:
    return InputError.about("-", f"<the list on stdin: {what}>", "one path or URL a line, in UTF-8 or UTF-16", hint)


def _pictures(entry: str, folders: _Folders) -> Iterable[str]:
    if is_url(entry):
        return [entry]
    # A quoted "~/photos/*.jpg" was not expanded by the shell; Path.expanduser fails on "~draft.jpg", this does not.
    place = entry if os.path.lexists(entry) else os.path.expanduser(entry)  # noqa: PTH111
    if _is_folder(place):
        return folders.pictures(place)
    # A file that is really called "a[1].png" is meant literally.
    if not glob.has_magic(place) or os.path.lexists(place):
        return [entry]
    matches = sorted(glob.glob(place, recursive=True))  # noqa: PTH207  # Path.glob takes no absolute pattern
    found = (folders.pictures(match) if _is_folder(match) else [match] for match in matches)
    return [path for paths in found for path in paths]


def _is_there(entry: str) -> bool:
    if entry == "-" or is_url(entry) or os.path.lexists(entry):
        return True
    place = os.path.expanduser(entry)  # noqa: PTH111  # as `_pictures`
    return bool(place) and (os.path.lexists(place) or bool(glob.has_magic(place) and glob.glob(place, recursive=True)))  # noqa: PTH207


def _looks_like_a_name(entry: str) -> bool:
    """Whether it has the suffix of a picture, or is one word with a suffix, a slash or a wildcard in it."""
    from ..pixels.read import SUFFIXES

    if Path(entry).suffix.lower() in SUFFIXES:
        return True
    return bool(re.fullmatch(r"\S*([/\\*]|\.\w+$)\S*", entry.strip())) and not entry.strip().endswith("?")


def _is_folder(path: str) -> bool:
    return os.path.isdir(path)  # noqa: PTH112  # Path.is_dir fails on what is too long to be a name


class _Folders:
    """Looks for pictures in folders, and counts what it leaves there."""

    def __init__(self, recursive: bool, any_file: bool) -> None:
        self._recursive, self._any = recursive, any_file
        self._files: Counter[str] = Counter()
        self._folders: Counter[str] = Counter()

    def pictures(self, folder: str) -> list[str]:
        """The pictures of a folder, in order."""
        from ..pixels.read import SUFFIXES

        found: list[str] = []
        for parent, folders, names in os.walk(folder, onerror=self._refused):
            # Names that start with a dot are skipped: macOS leaves "._photo.jpg" beside every photo on foreign disks.
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            self._skip(parent, folders)
            for name in sorted(name for name in names if not name.startswith(".")):
                suffix = Path(name).suffix.lower()
                if self._any or suffix in SUFFIXES:
                    found.append(str(Path(parent, name)))
                else:
                    self._files[suffix or "without a suffix"] += 1
        return found

    def _skip(self, parent: str, folders: list[str]) -> None:
        if not self._recursive:
            self._folders["folder in it (-r takes it)"] += len(folders)
            folders.clear()
        self._folders["linked folder"] += sum(Path(parent, name).is_symlink() for name in folders)

    def _refused(self, error: OSError) -> None:
        self._folders["folder that may not be read"] += 1

    def left(self) -> str:
        """What was left out, in one line.

        Example:
            >>> folders = _Folders(True, False)
            >>> folders._files.update({".txt": 8, "without a suffix": 3}), folders._folders.update({"linked folder": 1})
            (None, None)
            >>> folders.left()
            'not taken: 11 files (8 .txt, 3 without a suffix; --any takes them), 1 linked folder'
        """
        ranked = sorted(self._files.items(), key=lambda item: (-item[1], item[0]))
        kinds = ", ".join(f"{count} {console.printable(kind)}" for kind, count in ranked)
        total = sum(self._files.values())
        files = [f"{total} file{'' if total == 1 else 's'} ({kinds}; --any takes them)"] if kinds else []
        folders = (
            f"{count} {kind if count == 1 else kind.replace('folder', 'folders', 1).replace('takes it', 'takes them')}"
            for kind, count in self._folders.items()
            if count
        )
        parts = [*files, *folders]
        return f"not taken: {', '.join(parts)}" if parts else ""
