"""Files and folders that are whole or not there, read with one clear error, and locks that end with their process.

The functions raise what the system raises. A room that has an error of its own binds it once, as `Files(ItsError)`.
The lock is ours because `filelock` does not keep two of its promises: below release 4 a forked child goes on holding
the lock of a process that was killed, and where a file system has no locks it falls back to a file that a killed
process leaves behind. Ours also locks the data file itself, so that no second file lies beside a user's results.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
import sys
import tempfile
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import IO, Any, BinaryIO, TypeAlias

from .errors import QSiTError

PathLike: TypeAlias = "str | os.PathLike[str]"

_CHUNK = 1 << 20


def write_atomic(path: PathLike, content: str | bytes) -> None:
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
    with writing(path) as file:
        file.write(content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content)


@contextlib.contextmanager
def writing(path: PathLike) -> Iterator[BinaryIO]:
    """Open a file that takes its place when the block ends, and does not when the block fails.

    For what writes into a file itself, such as `torch.save`. The rest is as in `write_atomic`.
    """
    target = Path(path)
    part = target.with_name(f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        with part.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def sha256(path: Path) -> str:
    """The SHA-256 of a file's content, 64 hexadecimal digits.

    Raises:
        OSError: It cannot be read.
    """
    hasher = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            hasher.update(chunk)
    return hasher.hexdigest()


def to_json(value: Any, indent: int | None = None) -> str:
    """Write JSON that any reader takes: letters as they are, unless a file name in it is no text."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return json.dumps(value, indent=indent)
    return text


_NO_TEXT = re.compile("[\udc80-\udcff]")
_ESCAPED = re.compile(r"\\u(005c|dc[89a-f][0-9a-f])")


def escaped(text: str) -> str:
    r"""Text that can be written as UTF-8: bytes of a file name that are no text become `\udcXX`, as in JSON.

    A name in which such a sequence stands as it is has its backslash written as `\u005c`, so that `unescaped` gives
    every name back.

    Example:
        >>> print(escaped("caf\udce9.jpg"), escaped(r"caf\udce9.jpg"))
        caf\udce9.jpg caf\u005cudce9.jpg
    """
    shielded = _ESCAPED.sub(lambda found: rf"\u005c{found[0][1:]}", text)
    return _NO_TEXT.sub(lambda found: rf"\u{ord(found[0]):04x}", shielded)


def unescaped(text: str) -> str:
    r"""What `escaped` was given.

    Example:
        >>> unescaped(r"caf\udce9.jpg"), unescaped(r"caf\u005cudce9.jpg")
        ('caf\udce9.jpg', 'caf\\udce9.jpg')
    """
    return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), text)


@dataclass(frozen=True)
class Files:
    """Files of one room, whose failures leave as that room's error.

    Attributes:
        error: Its class.
        argument: What the caller's argument is called.
        parents: Whether the folder of what is written is made; else it must be there.
        rescue: The next step where a file cannot be read; default: what the system says.

    Example:
        >>> from qsit_metric.errors import CheckpointError
        >>> Files(CheckpointError, "run").json(Path("gone.json"))
        Traceback (most recent call last):
            ...
        qsit_metric.errors.CheckpointError: `run`: got 'gone.json', expected a readable UTF-8 file. The system says: ...
    """

    error: type[QSiTError]
    argument: str = "path"
    parents: bool = False
    rescue: str = ""

    def text(self, path: Path) -> str:
        """Read a text in UTF-8, with or without the mark that Excel puts before it.

        Raises:
            QSiTError: (of the class `error`) Not there, not readable, or in another encoding.
        """
        try:
            return path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise self._unreadable(path, "a readable UTF-8 file", f"The system says: {error}.") from error

    def json(self, path: Path, kind: type[Any] = dict, expected: str = "") -> Any:
        """Read a JSON object (`kind` dict) or list; `expected` says more closely what it should be.

        Raises:
            QSiTError: (of the class `error`) Unreadable, no JSON, or of another kind.
        """
        name = expected or f"a JSON {'object' if kind is dict else kind.__name__}"
        text = self.text(path)
        try:
            content = json.loads(text)
        except ValueError as error:
            raise self._unreadable(path, "a JSON file" if kind is dict else name, f"{error}.") from error
        if not isinstance(content, kind):
            raise self._unreadable(path, name, "")
        return content

    def write(self, path: Path, content: str | bytes) -> None:
        """Write a file whole or not at all, also after a crash or on a full disk.

        Raises:
            QSiTError: (of the class `error`) It cannot be written; what was there stays.
        """
        with self.saving(path), writing(path) as file:
            file.write(content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content)

    def write_json(self, path: Path, content: Any) -> None:
        """Write JSON like `write`; numbers that JSON has no form for (NaN) are refused with a ValueError."""
        self.write(path, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")

    @contextlib.contextmanager
    def saving(self, path: Path) -> Iterator[None]:
        """Tell what the system refuses in the block as the room's error; makes the file's folder with `parents`."""
        try:
            if self.parents:
                path.parent.mkdir(parents=True, exist_ok=True)
            yield
        except QSiTError:
            raise
        except OSError as error:
            hint = f"The system says: {error.strerror or error}."
            raise self.error.about(self.argument, str(path), "a file that can be written", hint) from error

    def _unreadable(self, path: Path, expected: str, said: str) -> QSiTError:
        return self.error.about(self.argument, str(path), expected, self.rescue or said)


@dataclass(frozen=True)
class Stamp:
    """What a file was when a result was made of it.

    Attributes:
        size: Bytes.
        modified: Its time on the disk, UTC, to the microsecond.
        sha256: Of its content; empty if the file changed while it was read.
    """

    size: int
    modified: str
    sha256: str

    @classmethod
    def of(cls, path: Path, seen: tuple[int, str] | None = None) -> Stamp:
        """Take the stamp of a file, reading it whole.

        Args:
            path: The file.
            seen: What `look` said of it earlier, when the result was begun; a change since then counts, too.

        Raises:
            OSError: It cannot be read.
        """
        seen = seen or look(path)
        content = sha256(path)
        return cls(*seen, content if look(path) == seen else "")

    def holds(self, path: Path) -> bool:
        """Whether the file is still the same: by its size, then its time, and if that differs by its content.

        A file that cannot be read counts as the same: whatever is wrong with it, its result is known.
        """
        try:
            size, modified = look(path)
            same = size == self.size and bool(self.sha256)
            return same and (modified == self.modified or sha256(path) == self.sha256)
        except OSError:
            return True


def look(path: Path) -> tuple[int, str]:
    """Size and time of a file, as a `Stamp` has them."""
    found = path.stat()
    seconds, rest = divmod(found.st_mtime_ns, 10**9)
    moment = datetime.fromtimestamp(seconds, timezone.utc).replace(microsecond=rest // 1000)
    return found.st_size, moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


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


@contextlib.contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Fill a folder beside its place; once the block is done it gets its place, whole, and an older one goes only then.

    Args:
        target: Its place; folders above it are made.

    Returns:
        The empty folder to fill. If the block fails, nothing of it stays.

    Raises:
        OSError: It cannot be done; what was there before stays.

    Example:
        >>> import tempfile
        >>> place = Path(tempfile.mkdtemp()) / "runs" / "first"
        >>> with new_folder(place) as work:
        ...     write_atomic(work / "score.txt", "3.5")
        >>> [path.name for path in place.parent.iterdir()], (place / "score.txt").read_text()
        (['first'], '3.5')
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as place:
        fresh = Path(place) / target.name
        fresh.mkdir()
        yield fresh
        commit_folder(fresh, target)


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
