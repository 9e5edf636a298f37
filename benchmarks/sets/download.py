"""Data sets from the Hub into the data root: terms first, then the Hub client, then unpacking.

    print(terms("lldescribe"))
    fetch("lldescribe", root, accept_licence=True)

What speaks to the network is `huggingface_hub` with its own cache and settings, as for models (HF_HOME, HF_ENDPOINT,
HF_TOKEN, HF_HUB_OFFLINE). Archives stay in that cache; what was put into the data root is noted in `fetched.json`.
Licences are what the repositories' cards state as far as it is known here; "not known here" means that nobody has read
the card. File names in the repositories are second-hand, from programs that read them.

Nothing lands outside the data root, and a run that was cut goes on: the whole archive is checked before its first file
is written, and each file is written whole or not at all under its final name, so what is there after a kill is whole.
"""

from __future__ import annotations

import logging
import shutil
import stat
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from benchmarks.output import FILES
from benchmarks.sets import SETS, Sets, SetStatus, status
from qsit_metric.errors import refuse, shorten
from qsit_metric.evaluation import EvaluationError
from qsit_metric.files import PathLike, locked, sha256
from qsit_metric.hub.cache import Request, cache_folder
from qsit_metric.hub.download import Fetched, fetch_files

_LOG = logging.getLogger("qsit_metric")
_NOTE = "fetched.json"
_UNKNOWN = "not known here"


@dataclass(frozen=True)
class Source:
    """A repository of data sets on the Hub.

    Attributes:
        repo: `owner/name`.
        files: Its files that are needed, with `*`; tars are unpacked, others are copied.
        folder: Where they go below the data root.
        licence: What its card states.
        more: What else there is to know about its terms.
    """

    repo: str
    files: tuple[str, ...]
    folder: str
    licence: str = _UNKNOWN
    more: str = ""


def _qalign(tar: str) -> tuple[Source, ...]:
    more = "It is a collection: the terms of the publishers of each set in it hold all the same."
    return (Source("q-future/q-align-datasets", (tar,), "q-align", "mit", more),)


def _llvisionqa(split: str) -> tuple[Source, ...]:
    files = (f"llvisionqa_{split}.json", "images_llvisionqa.tar")
    more = "cc-by-nc-sa-4.0: name the authors, no commercial use, share alike."
    return (
        Source("nanyangtu/LLVisionQA-QBench", files, "LLVisionQA-QBench", "cc-by-nc-sa-4.0", more),
        Source("q-future/Q-Bench-HF", (f"data/{split}-*.parquet",), "Q-Bench-HF"),
    )


SOURCES: Mapping[str, tuple[Source, ...]] = {
    "koniq-qalign": _qalign("koniq.tar"),
    "spaq-qalign": _qalign("spaq.tar"),
    "livec": _qalign("livec.tar"),
    "agiqa": _qalign("agi-cgi.tar"),
    "csiq": _qalign("csiq.tar"),
    "live": _qalign("live.tar"),
    "llvisionqa-dev": _llvisionqa("dev"),
    "llvisionqa-test": _llvisionqa("test"),
    "lldescribe": (Source("nanyangtu/LLDescribe-QBench", ("images.tar",), "LLDescribe-QBench"),),
}
"""Where sets are on the Hub; the first is the default. Of Q-Align's archives only the images in them are known."""


def terms(name: str, repo: str | None = None) -> str:
    """What one agrees to by fetching a set: its repository and licence, in a few sentences.

    Raises:
        EvaluationError: The set is not on the Hub, or not in this repository.

    Example:
        >>> terms("lldescribe").partition(". ")[0]
        'lldescribe is fetched from huggingface.co/datasets/nanyangtu/LLDescribe-QBench'
    """
    source = _source(name, repo)
    page = f"huggingface.co/datasets/{source.repo}"
    stated = f"Its licence is {source.licence}" if source.licence == _UNKNOWN else f"Its card states {source.licence!r}"
    return f"{name} is fetched from {page}. {stated}; read {page} first. {source.more}".strip()


def fetch(
    name: str,
    root: PathLike,
    accept_licence: bool = False,
    *,
    repo: str | None = None,
    revision: str = "main",
    token: str | bool | None = None,
    cache_dir: PathLike | None = None,
    local_files_only: bool = False,
    progress: Tick | None = None,
    sets: Sets = SETS,
) -> SetStatus:
    """Fetch a set from the Hub and put it into the data root; a call that was cut goes on where it was.

    Args:
        name: A key of `SOURCES`.
        root: The data root; made if it is not there.
        accept_licence: Whether you agree to `terms(name)`.
        repo: One of the set's repositories; default: the first.
        revision: Branch, tag or commit.
        token: Hub token; None takes HF_TOKEN or the saved login, False sends none.
        cache_dir: Hub cache to use instead of HF_HUB_CACHE.
        local_files_only: Never touch the network.
        progress: Called with (done, total) after each unpacked file of an archive.
        sets: The sets that are known.

    Returns:
        What is there of the set then; labels that are not on the Hub are named in it.

    Raises:
        EvaluationError: Terms that were not accepted, a set that is not on the Hub, an archive that is not safe to
            unpack, other files in the way, or another process that fetches into the same folder.
        HubError: The Hub did not deliver.

    Example:
        >>> fetch("lldescribe", "data", accept_licence=True).state  # doctest: +SKIP
        'found'
    """
    source = _source(name, repo)
    if not accept_licence:
        raise EvaluationError.about("accept_licence", accept_licence, "agreement to its terms", terms(name, repo))
    asked = source.repo if revision == "main" else f"{source.repo}@{revision}"
    request = Request(asked, source.repo, revision, cache_folder(cache_dir), token, "dataset")
    brought = fetch_files(request, source.files, offline=local_files_only)
    if brought.licence and brought.licence != source.licence:
        _LOG.warning("%s: its card states the licence %r now", source.repo, brought.licence)
    _place(source, brought, Path(root) / source.folder, progress)
    return status(root, {name: sets[name]})[0]


def _source(name: str, repo: str | None) -> Source:
    if name not in SOURCES:
        hint = f"Get it from {SETS[name].get}." if name in SETS else ""
        raise EvaluationError.about("name", name, f"a set on the Hub: {', '.join(SOURCES)}", hint)
    found = {source.repo: source for source in SOURCES[name]}
    if repo is not None and repo not in found:
        raise EvaluationError.about("repo", repo, f"a repository of {name}: {', '.join(found)}")
    return found[repo] if repo is not None else SOURCES[name][0]


def _place(source: Source, brought: Fetched, folder: Path, progress: Tick | None) -> None:
    """Unpack or copy all files, and note where they are from; one process at a time."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder / ".fetch.lock") as held:
            if not held:
                raise EvaluationError.about("root", str(folder), "a folder that no other process is fetching into")
            for name, path in brought.files.items():
                if path.suffix == ".tar":
                    unpack(path, folder, progress)
                else:
                    _copy(path, folder / name)
            _note(source, brought, folder / _NOTE)
    except OSError as error:
        hint = f"The system says: {error.strerror or error}."
        raise EvaluationError.about("root", str(folder), "a folder that can be written", hint) from error


def _copy(path: Path, target: Path) -> None:
    if target.is_file() and target.stat().st_size == path.stat().st_size and sha256(target) == sha256(path):
        return
    if target.exists():
        hint = "Move it away, or pass another folder."
        raise EvaluationError.about("root", str(target), "the file that the Hub has under this name", hint)
    FILES.write(target, path.read_bytes())


def _note(source: Source, brought: Fetched, path: Path) -> None:
    """Note which commit the files are from, for whoever asks later; notes on other files stay."""
    try:
        noted: dict[str, Any] = FILES.json(path) if path.is_file() else {}
    except EvaluationError:
        noted = {}
    fields = {"repo": source.repo, "commit": brought.commit, "licence": brought.licence or source.licence}
    noted |= {name: {**fields, "sha256": sha256(file)} for name, file in brought.files.items()}
    FILES.write_json(path, dict(sorted(noted.items())))


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
    """Refuse a place that a link in the folder leads out of it."""
    if not target.parent.resolve().is_relative_to(folder.resolve()):
        expected = f"a folder below {folder}, which no link leads out of"
        raise EvaluationError.about("root", str(target.parent), expected, "Remove the link.")
