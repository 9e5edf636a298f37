"""What the Hub cache on this machine holds, read and noted in the Hub client's own layout; never any network.

Layout (https://huggingface.co/docs/huggingface_hub/guides/manage-cache): `models--owner--name/refs/<branch>`
holds a commit, `snapshots/<commit>/` holds the files of that commit as links into `blobs/`.
"""

from __future__ import annotations

import logging
import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from .. import catalog
from ..catalog import ModelRecord
from ..files import write_atomic
from .check import problems

__all__ = ["Request", "Stored", "cache_folder", "cached_commit", "file_size", "on_disk", "remember"]

LOGGER = logging.getLogger("qsit_metric")

_SHA = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Request:
    """One repository at one revision, and where it is kept.

    Attributes:
        asked: The model as the user wrote it, with its revision; also what `qsit download` takes.
        repo: `owner/name`.
        revision: Branch, tag or commit.
        cache: The Hub cache that holds it.
        token: Passed on to the Hub client; never shown.
        kind: Whose repository it is: the Hub keeps data sets under other addresses and the cache in other folders.
        inside: Folder of the repository that the checkpoint stands in; empty for its root.
        weights: Whether a model's weights are needed, or its small files only.
    """

    asked: str
    repo: str
    revision: str
    cache: Path
    token: str | bool | None = field(default=None, repr=False)
    kind: Literal["model", "dataset"] = "model"
    inside: str = ""
    weights: bool = True

    @property
    def argument(self) -> str:
        """What the caller's argument is called that named it."""
        return "model" if self.kind == "model" else "repo"

    @property
    def store(self) -> Path:
        """The folder of this repository in the cache (layout: refs/, blobs/, snapshots/)."""
        return self.cache / f"{self.kind}s--{self.repo.replace('/', '--')}"

    @property
    def is_commit(self) -> bool:
        """Whether the revision is a full commit sha, which can never mean anything else later."""
        return _SHA.fullmatch(self.revision) is not None

    @property
    def endpoint(self) -> str:
        """The address of the Hub in use, without the user and password that it may carry."""
        from huggingface_hub import constants

        parts = urlsplit(constants.ENDPOINT)
        return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()

    @property
    def page(self) -> str:
        """The address of the repository's page."""
        return f"{self.endpoint}/{'' if self.kind == 'model' else 'datasets/'}{self.repo}"

    def inside_repo(self, name: str) -> str:
        """A file of the checkpoint by its name in the repository."""
        return f"{self.inside}/{name}" if self.inside else name

    def snapshot(self, sha: str) -> Path:
        """The folder of one commit, or the one inside it that the checkpoint stands in."""
        return self.store / "snapshots" / sha / self.inside


@dataclass(frozen=True)
class Stored:
    """What this machine holds of one catalog entry.

    Attributes:
        record: The entry.
        state: "embedded" (part of the package), "complete" (in the cache, works offline), "pinned" (complete, but only
            under a commit: use `name@commit`), "partial" (begun or damaged) or "absent".
        size: Bytes on disk, all revisions together.
        folder: The folder that the state speaks of, None when absent.
        revision: Its commit, None when embedded or absent.
    """

    record: ModelRecord
    state: Literal["embedded", "complete", "pinned", "partial", "absent"]
    size: int = 0
    folder: Path | None = None
    revision: str | None = None


def on_disk(cache_dir: str | os.PathLike[str] | None = None) -> list[Stored]:
    """Say for each catalog entry what this machine holds of it, without any network.

    Args:
        cache_dir: Hub cache to look into instead of HF_HUB_CACHE.

    Returns:
        One `Stored` for each entry, in the catalog's order.

    Example:
        >>> {stored.state for stored in on_disk("no/such/cache")} <= {"embedded", "absent"}
        True
    """
    records = [catalog.find(name) for name in catalog.list_models()]
    return [_stored(record, cache_folder(cache_dir)) for record in records if record is not None]


def cache_folder(cache_dir: str | os.PathLike[str] | None) -> Path:
    """Return the Hub cache in use: the argument, else what HF_HUB_CACHE or HF_HOME say."""
    if cache_dir is None:
        from huggingface_hub import constants

        cache_dir = constants.HF_HUB_CACHE
    return Path(cache_dir).expanduser().absolute()


def cached_commit(request: Request) -> str | None:
    """Look up which commit the cache knows a revision by; None where it holds no folder for it."""
    sha = request.revision
    try:
        if not request.is_commit:
            sha = (request.store / "refs" / request.revision).read_text(encoding="ascii").strip()
        return sha if _SHA.fullmatch(sha) and request.snapshot(sha).is_dir() else None
    except (OSError, ValueError):
        return None


def remember(request: Request, sha: str) -> None:
    """Write down, as the Hub client does, which commit a branch was, so that it can be found without network.

    It is done here, after the verification: a transfer that breaks off then leaves the branch pointing at the older,
    complete copy.
    """
    ref = request.store / "refs" / request.revision
    if request.is_commit or cached_commit(request) == sha:
        return
    try:
        ref.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(ref, sha)
    except OSError as error:
        LOGGER.warning(
            "%s: the cache could not note the commit (%s); offline use will not find it", request.repo, error
        )


def _stored(record: ModelRecord, cache: Path) -> Stored:
    if folder := catalog.embedded_folder(record):
        return Stored(record, "embedded", _size(folder), folder)
    if record.repo is None:
        return Stored(record, "absent")
    request = Request(record.name, record.repo, record.revision, cache, inside=record.folder)
    size = _size(request.store)
    if sha := cached_commit(request):
        state: Literal["complete", "partial"] = "partial" if problems(request.snapshot(sha)) else "complete"
        return Stored(record, state, size, request.snapshot(sha), sha)
    for snapshot in sorted(request.store.glob("snapshots/*")):
        if _SHA.fullmatch(snapshot.name) and not problems(snapshot / record.folder):
            return Stored(record, "pinned", size, snapshot / record.folder, snapshot.name)
    return Stored(record, "partial", size, request.store) if size else Stored(record, "absent")


def _size(folder: Path) -> int:
    return sum(map(file_size, folder.rglob("*")))


def file_size(path: Path) -> int:
    """Return the bytes a file takes; 0 for a folder, for a link and for a file that is gone by now.

    Links are not followed: in the cache they point at blobs, which are counted where they lie.
    """
    try:
        found = path.lstat()
    except OSError:
        return 0
    return found.st_size if stat.S_ISREG(found.st_mode) else 0
