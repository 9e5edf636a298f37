"""Files of a data set's Hub repository -> the ordinary Hub cache, under the rules that hold for models.

A full commit that is in the cache costs no network, a branch one request. While the Hub cannot be reached, a copy in
the cache stands in for it, with a warning; offline (HF_HUB_OFFLINE) only the cache is read. Files are held against the
size and sha256 that the Hub lists, and every failure leaves as one `HubError`.
"""

from __future__ import annotations

import fnmatch
import hashlib
import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from qsit_metric import __version__
from qsit_metric.errors import HubError
from qsit_metric.hub.errors import explain, failures, is_cut, is_unreachable, ways_out
from qsit_metric.hub.store import Request, cached_commit, remember

if TYPE_CHECKING:
    from huggingface_hub.hf_api import DatasetInfo, RepoSibling

_LOG = logging.getLogger("qsit_metric")
_TRIES, _PAUSE = 3, 1.0
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Brought:
    """Files of one commit.

    Attributes:
        commit: Its sha.
        files: Name in the repository -> where it lies.
        licence: What the repository's card states; empty if it states none, or if the Hub was not asked.
    """

    commit: str
    files: Mapping[str, Path]
    licence: str = ""


def bring(request: Request, patterns: Sequence[str], *, offline: bool = False) -> Brought:
    """Bring the files that fit the patterns into the cache.

    Args:
        request: Which repository at which revision.
        patterns: File names in the repository, with `*`.
        offline: Read the cache alone.

    Raises:
        HubError: The Hub did not deliver, or the repository has no such files.
    """
    from huggingface_hub import constants

    kept = _kept(request, patterns)
    if kept and request.is_commit:
        return kept
    if offline or constants.HF_HUB_OFFLINE:
        return kept or _refuse_offline(request)
    try:
        info = _ask(request)
    except failures() as error:
        if kept and is_unreachable(error):
            _LOG.warning("the Hub cannot be reached (%s); using the cached %s", type(error).__name__, request.asked)
            return kept
        raise explain(request, error) from error
    return _fetched(request, info, patterns)


def _ask(request: Request) -> DatasetInfo:
    """One request, not repeated."""
    from huggingface_hub import HfApi, constants

    api = HfApi(library_name="qsit-metric", library_version=__version__)
    info = api.dataset_info(
        request.repo,
        revision=request.revision,
        files_metadata=True,
        timeout=constants.HF_HUB_ETAG_TIMEOUT,
        token=request.token,
    )
    if not info.sha or info.siblings is None:
        raise ValueError("the answer has no sha or no list of files")
    return info


def _fetched(request: Request, info: DatasetInfo, patterns: Sequence[str]) -> Brought:
    listed = {entry.rfilename: entry for entry in info.siblings or ()}
    names = [name for name in sorted(listed) if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)]
    if lacking := [pattern for pattern in patterns if not fnmatch.filter(names, pattern)]:
        expected = f"a data set with {', '.join(lacking)} at {request.endpoint}"
        raise HubError.about("repo", request.asked, expected, f"It has {', '.join(sorted(listed)) or 'no files'}.")
    commit = str(info.sha)
    files = {}
    for name in names:
        files[name] = _download(request, commit, name)
        _check(request, files[name], listed[name])
    remember(request, commit)
    licence = next((tag.partition(":")[2] for tag in info.tags or () if tag.startswith("license:")), "")
    return Brought(commit, files, licence)


def _download(request: Request, commit: str, name: str) -> Path:
    """Let the Hub client fetch one file, and go on where a transfer broke off; what is in the cache stays."""
    from huggingface_hub import hf_hub_download

    tries_left = _TRIES
    while True:
        tries_left -= 1
        try:
            path = hf_hub_download(
                request.repo,
                name,
                repo_type="dataset",
                revision=commit,
                cache_dir=request.cache,
                token=request.token,
                library_name="qsit-metric",
                library_version=__version__,
            )
        except failures() as error:
            if not tries_left or not is_cut(error):
                raise explain(request, error, fetching=True) from error
            _LOG.warning("%s: the transfer broke off (%s), trying again", request.repo, type(error).__name__)
            time.sleep(_PAUSE)
        else:
            return Path(path)


def _check(request: Request, path: Path, listed: RepoSibling) -> None:
    """Hold a file against what the Hub lists; one that differs leaves the cache."""
    size, sha256 = listed.size, listed.lfs.sha256 if listed.lfs else None
    if size in (None, path.stat().st_size) and sha256 in (None, digest(path)):
        return
    with suppress(OSError):
        blob = path.parent / path.readlink() if path.is_symlink() else path
        path.unlink()
        blob.unlink()
    expected = f"the files of {request.repo} as {request.endpoint} lists them; altered: {listed.rfilename}"
    hint = "The cache does not keep it. Call again; if it happens twice, a proxy or mirror on the way alters files."
    raise HubError.about("repo", request.asked, expected, hint)


def digest(path: Path) -> str:
    """The sha256 of a file, 64 hexadecimal digits."""
    hasher = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            hasher.update(chunk)
    return hasher.hexdigest()


def _kept(request: Request, patterns: Sequence[str]) -> Brought | None:
    """What the cache holds, if each pattern has a file in it."""
    commit = cached_commit(request)
    if commit is None:
        return None
    folder = request.snapshot(commit)
    names = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()]
    found = [name for name in names if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)]
    whole = all(fnmatch.filter(found, pattern) for pattern in patterns)
    return Brought(commit, {name: folder / name for name in found}) if whole else None


def _refuse_offline(request: Request) -> NoReturn:
    expected = f"a copy of {request.repo}@{request.revision} in {request.cache}, because the network is switched off"
    hint = f"(`local_files_only=True` or HF_HUB_OFFLINE.) {ways_out(request)}"
    raise HubError.about("repo", request.asked, expected, hint)
