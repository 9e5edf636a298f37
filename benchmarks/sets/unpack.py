"""Archives of pictures -> a folder: nothing lands outside it, and a run that was cut goes on.

Each file is written whole or not at all under its final name, so whatever is there after a kill is whole; the next run
compares and goes on. The whole archive is checked before its first file is written.
"""

from __future__ import annotations

import shutil
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath, PureWindowsPath

from benchmarks.output import FILES
from qsit_metric.errors import refuse, shorten
from qsit_metric.evaluation import EvaluationError

Tick = Callable[[int, int], object]


def unpack(archive: Path, folder: Path, progress: Tick | None = None) -> int:
    """Unpack a tar into a folder.

    Args:
        archive: The tar; compressed ones are read as well.
        folder: Made if it is not there. Files that are there with the same content stay as they are.
        progress: Called with (done, total) after each file.

    Returns:
        How many files the archive has, without those that macOS adds (`._*`), which are left out.

    Raises:
        EvaluationError: No whole tar, members that would leave the folder or are no plain files, no room, or a file
            of another content is in the way.

    Example:
        >>> unpack(Path("images.tar"), Path("LLDescribe-QBench"))  # doctest: +SKIP
        499
    """
    try:
        with tarfile.open(archive) as tar:
            members = _checked(archive, tar.getmembers())
            files = [member for member in members if member.isfile()]
            folder.mkdir(parents=True, exist_ok=True)
            _clear(folder, files)
            _check_room(archive, folder, files)
            for place, member in enumerate(files, start=1):
                _write(tar, member, folder, archive)
                if progress:
                    progress(place, len(files))
            return len(files)
    except (tarfile.TarError, EOFError, OSError) as error:
        said = getattr(error, "strerror", None) or error
        hint = f"The system says: {said}. If the archive was cut, remove it and fetch it again."
        raise EvaluationError.about("archive", str(archive), f"a whole tar, unpacked into {folder}", hint) from error


def _checked(archive: Path, members: list[tarfile.TarInfo]) -> list[tarfile.TarInfo]:
    """All members but macOS's, if each is a plain file or a folder below the folder it is unpacked into."""
    wanted = [member for member in members if not PurePosixPath(member.name).name.startswith("._")]
    refuse(archive, [reason for member in wanted if (reason := _unsafe(member))], len(wanted), "member")
    if not any(member.isfile() for member in wanted):
        raise EvaluationError.about("archive", str(archive), "a tar with files")
    return wanted


def _unsafe(member: tarfile.TarInfo) -> str:
    name, path = shorten(member.name), PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts or "\\" in member.name or PureWindowsPath(member.name).drive:
        return f"{name} would leave the folder"
    if not member.isfile() and not member.isdir():
        return f"{name} is a link or a device"
    return "" if member.isdir() or path.parts else "it has no name"


def _clear(folder: Path, files: list[tarfile.TarInfo]) -> None:
    """Remove what a killed run left half-written."""
    for parent in {(folder / member.name).parent for member in files}:
        for part in parent.glob(".*.part") if parent.is_dir() else ():
            part.unlink(missing_ok=True)


def _check_room(archive: Path, folder: Path, files: list[tarfile.TarInfo]) -> None:
    needed = sum(member.size for member in files if not (folder / member.name).is_file())
    free = shutil.disk_usage(folder).free
    if needed > free:
        expected = f"a folder with {needed / 1e6:,.0f} MB free for {archive.name}; there are {free / 1e6:,.0f} MB"
        raise EvaluationError.about("root", str(folder), expected, "Free some space, or pass another folder.")


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path, archive: Path) -> None:
    target = folder / member.name
    _check_inside(target, folder)
    stream = tar.extractfile(member)
    content = stream.read() if stream else b""
    if len(content) != member.size:
        raise tarfile.ReadError(f"{member.name} is cut")
    if not target.exists():
        FILES.write(target, content)
    elif not stat.S_ISREG(target.lstat().st_mode) or target.read_bytes() != content:
        hint = "Move it away, or pass another folder."
        raise EvaluationError.about("root", str(target), f"the file that {archive.name} has under this name", hint)


def _check_inside(target: Path, folder: Path) -> None:
    """A link that lies in the folder may lead out of it."""
    if not target.parent.resolve().is_relative_to(folder.resolve()):
        expected = f"a folder below {folder}, which no link leads out of"
        raise EvaluationError.about("root", str(target.parent), expected, "Remove the link.")
