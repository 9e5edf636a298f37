"""Download of a Hub repository's files into the ordinary Hub cache, with the proof that they are what it announced.

Everything that speaks to the network is done by `huggingface_hub`, so HF_HOME, HF_HUB_CACHE, HF_ENDPOINT, HF_TOKEN,
HF_HUB_DISABLE_PROGRESS_BARS, proxies and Xet behave here as in any other program that uses it. Added on top: only the
files that are needed are fetched (of a model those of a checkpoint, of a data set those that fit a pattern), each one
is held against the size and the hash that the Hub lists, what came of a large file is kept until the next call goes on
behind it (the client throws it away since 1.0), and every failure leaves as one `HubError` (see `errors`).

`huggingface_hub` reads its environment when it is imported, so it is imported inside the functions, on first use.
"""

from __future__ import annotations

import fnmatch
import glob
import hashlib
import logging
import re
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from .. import packages
from .._version import __version__
from ..errors import CheckpointError, HubError
from ..files import locked, sha256
from . import check
from .cache import Request, cached_commit, file_size, remember
from .errors import explain, failures, is_cut, is_unreachable, ways_out

__all__ = ["Fetched", "Listed", "Listing", "ask", "choose", "fetch", "fetch_files", "off"]

LOGGER = logging.getLogger("qsit_metric")

_TRIES = 3
_PAUSE = 1.0
_LARGE = 10 << 20  # bytes from which a file is worth going on with: the client writes in pieces of this size
_PART = ".part"  # ends the name of what came of a file, beside the blobs of the cache
_TEXT = re.compile(r"[^/\\]+\.(json|txt|jinja)|tokenizer\.model")


@dataclass(frozen=True)
class Listed:
    """What the Hub announces about one file; None where a server does not say."""

    size: int | None = None
    sha256: str | None = None
    blob: str | None = None


@dataclass(frozen=True)
class Listing:
    """A commit of a repository: its sha, its files, and the licence that its card states, if any.

    Of a model only the files of the folder that it stands in are listed, by their names there: nothing nested is
    needed.
    """

    sha: str
    files: Mapping[str, Listed] = field(repr=False)
    licence: str = ""


@dataclass(frozen=True)
class Fetched:
    """Files of one commit.

    Attributes:
        commit: Its sha.
        files: Name in the repository -> where it lies.
        licence: What the repository's card states; empty if it states none, or if the Hub was not asked.
    """

    commit: str
    files: Mapping[str, Path]
    licence: str = ""


def ask(request: Request) -> Listing:
    """Ask the Hub which commit a revision is, and which files it has.

    One request, not repeated. The client's own exceptions leave as they are: the caller decides between the cache and
    `explain`.
    """
    from huggingface_hub import HfApi, constants

    api = HfApi(library_name="qsit-metric", library_version=__version__)
    look = api.dataset_info if request.kind == "dataset" else api.model_info
    info = look(
        request.repo,
        revision=request.revision,
        files_metadata=True,
        timeout=constants.HF_HUB_ETAG_TIMEOUT,
        token=request.token,
    )
    if not info.sha or info.siblings is None:
        raise ValueError("the answer has no sha or no list of files")
    start = f"{request.inside}/" if request.inside else ""
    files = {
        entry.rfilename.removeprefix(start): Listed(entry.size, entry.lfs.sha256 if entry.lfs else None, entry.blob_id)
        for entry in info.siblings
        if request.kind == "dataset" or _stands_in(start, entry.rfilename)
    }
    licence = next((tag.partition(":")[2] for tag in info.tags or () if tag.startswith("license:")), "")
    return Listing(info.sha, files, licence)


def _stands_in(start: str, name: str) -> bool:
    return name.startswith(start) and not {"/", "\\"} & set(name.removeprefix(start))


def fetch(request: Request, listing: Listing) -> Path:
    """Bring a commit's checkpoint into the cache; files that are there with the announced size are not asked for again.

    The small files come first, so that a repository that cannot be used is refused before its weights are fetched.

    Returns:
        The snapshot folder of that commit.

    Raises:
        CheckpointError: The repository lacks a needed file, or has its weights as pickles only.
        HubError: The transfer failed, or a file is not what the Hub announced.
    """
    folder = request.snapshot(listing.sha)
    texts, weights = choose(request, listing.files)
    _bring(request, listing, texts)
    if not request.weights:
        return folder
    if weights == check.INDEX:
        shards = sorted(set(check.read_shards(folder / weights).values()))
        if lacking := [shard for shard in shards if shard not in listing.files]:
            raise _unfit(request, [f"{shard} is missing" for shard in lacking])
        _bring(request, listing, shards)
    else:
        _bring(request, listing, [weights])
    return folder


def fetch_files(request: Request, patterns: Sequence[str], *, offline: bool = False) -> Fetched:
    """Bring the files of a data set that fit the patterns into the cache, under the rules that hold for models.

    A full commit that is in the cache costs no network, a branch one request. While the Hub cannot be reached, a copy
    in the cache stands in for it, with a warning; offline (HF_HUB_OFFLINE) only the cache is read.

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
        if kept:
            return kept
        raise off(request)
    try:
        listing = ask(request)
    except failures() as error:
        if kept and is_unreachable(error):
            LOGGER.warning("the Hub cannot be reached (%s); using the cached %s", type(error).__name__, request.asked)
            return kept
        raise explain(request, error) from error
    names = _fitting(sorted(listing.files), patterns)
    if lacking := [pattern for pattern in patterns if not fnmatch.filter(names, pattern)]:
        expected = f"a data set with {', '.join(lacking)} at {request.endpoint}"
        hint = f"It has {', '.join(sorted(listing.files)) or 'no files'}."
        raise HubError.about(request.argument, request.asked, expected, hint)
    _bring(request, listing, names)
    remember(request, listing.sha)
    folder = request.snapshot(listing.sha)
    return Fetched(listing.sha, {name: folder / name for name in names}, listing.licence)


def off(request: Request) -> HubError:
    """The error of a repository that is not in the cache while the network is switched off."""
    expected = f"a copy of {request.repo}@{request.revision} in {request.cache}, because the network is switched off"
    hint = f"(`local_files_only=True` or HF_HUB_OFFLINE.) {ways_out(request)}"
    return HubError.about(request.argument, request.asked, expected, hint)


def _kept(request: Request, patterns: Sequence[str]) -> Fetched | None:
    """What the cache holds, if each pattern has a file in it."""
    commit = cached_commit(request)
    if commit is None:
        return None
    folder = request.snapshot(commit)
    there = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()]
    found = _fitting(there, patterns)
    whole = all(fnmatch.filter(found, pattern) for pattern in patterns)
    return Fetched(commit, {name: folder / name for name in found}) if whole else None


def _fitting(names: Iterable[str], patterns: Sequence[str]) -> list[str]:
    return [name for name in names if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)]


def choose(request: Request, names: Iterable[str]) -> tuple[list[str], str]:
    """Pick what is needed from the root of a repository.

    Args:
        request: Which repository this is, for the message.
        names: Its files.

    Returns:
        The small files (config, tokenizer, processor, templates; the index where there are shards) and the file the
        weights start from, empty if there are none and none are needed.

    Raises:
        CheckpointError: Something needed is not there, or the weights are pickles only.
    """
    names = set(names)
    weights = check.weight_names(names)
    lacking = check.missing_names(names)
    if weights is None and request.weights:
        found = check.pickles(names)
        lacking.append(
            f"only pickled weights are there ({', '.join(found)})" if found else f"{check.SINGLE} is missing"
        )
    if check.is_adapter(names):
        expected = f"a checkpoint; {request.repo} is an adapter"
        raise CheckpointError.about("model", request.asked, expected, check.ADAPTER_HINT)
    if lacking:
        raise _unfit(request, lacking)
    texts = {name for name in names if _TEXT.fullmatch(name) and not name.endswith(".index.json")}
    return sorted(texts | ({weights} if weights == check.INDEX else set())), weights or ""


def _unfit(request: Request, lacking: list[str]) -> CheckpointError:
    hint = check.PICKLE_HINT if any("pickled" in text for text in lacking) else "It is not a checkpoint as a whole."
    expected = f"a repository with a whole safetensors checkpoint, but in {request.repo}: {'; '.join(lacking)}"
    return CheckpointError.about("model", request.asked, expected, hint)


def _bring(request: Request, listing: Listing, names: Iterable[str]) -> None:
    folder = request.snapshot(listing.sha)
    todo = [name for name in names if not _fits(folder / name, listing.files[name])]
    if not todo:
        return
    _check_room(request, listing, todo)
    broken = [name for name in todo if (folder / name).is_file()]
    if broken:
        LOGGER.warning("%s: wrong size in the cache, fetching again: %s", request.repo, ", ".join(broken))
    try:
        for name in todo:
            _carry_on(request, listing, name)
        _download(request, listing.sha, broken, force=True)
        _download(request, listing.sha, [name for name in todo if name not in broken])
    except failures() as error:
        raise explain(request, error, fetching=True) from error
    _check_arrived(request, listing, todo)


def _part(request: Request, listed: Listed) -> Path:
    """Where what came of a large file is kept: under its hash, so that it can only be taken for the same content."""
    return request.store / "blobs" / f"{listed.sha256}{_PART}"


def _carry_on(request: Request, listing: Listing, name: str) -> None:
    """Fetch a large file into the cache's blobs, behind what came of it before; the client then only has to link it.

    Files whose hash is not announced, and those that the client takes from Xet storage, are left to the client, unless
    a part of them is there.
    """
    listed = listing.files[name]
    if not listed.sha256 or not listed.size or listed.size < _LARGE:
        return
    blob, part = request.store / "blobs" / listed.sha256, _part(request, listed)
    if blob.is_file() and blob.stat().st_size != listed.size:
        blob.unlink()
    if not blob.is_file():
        _persist(request, lambda: _go_on(request, listing.sha, name, listed.size or 0, part, blob))


def _go_on(request: Request, sha: str, name: str, size: int, part: Path, blob: Path) -> None:
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils._headers import build_hf_headers

    url = hf_hub_url(request.repo, request.inside_repo(name), repo_type=request.kind, revision=sha)
    headers = build_hf_headers(token=request.token, library_name="qsit-metric", library_version=__version__)
    place = get_hf_file_metadata(url, headers=headers)
    if not part.exists() and _by_xet(place):
        return
    if urlsplit(place.location).netloc != urlsplit(url).netloc:
        headers.pop("authorization", None)  # the token is the Hub's alone
    part.parent.mkdir(parents=True, exist_ok=True)
    with locked(part) as held, part.open("ab") as file:
        if not held or blob.is_file():
            return  # another process fetches it, or just has: the client waits for its lock
        if (came := file.tell()) > size:
            came = file.truncate(0)
        if came:
            LOGGER.warning("%s: going on with %s behind the first %s", request.repo, name, _mega(came))
        http_get(place.location, file, resume_size=came, headers=headers, expected_size=size, displayed_filename=name)
        part.replace(blob)


def _by_xet(place: Any) -> bool:
    """Whether the client has a faster way to this file."""
    from huggingface_hub import constants

    switched_off = bool(getattr(constants, "HF_HUB_DISABLE_XET", True))
    stored = getattr(place, "xet_file_data", None) is not None
    return stored and not switched_off and packages.installed("hf_xet") is not None


def _download(request: Request, sha: str, names: list[str], *, force: bool = False) -> None:
    """Let the Hub client fetch a few files of a commit."""
    from huggingface_hub import snapshot_download

    def download() -> None:
        snapshot_download(
            request.repo,
            repo_type=request.kind,
            revision=sha,
            cache_dir=request.cache,
            token=request.token,
            allow_patterns=[glob.escape(request.inside_repo(name)) for name in names],
            force_download=force,
            library_name="qsit-metric",
            library_version=__version__,
        )

    if names:
        _persist(request, download)


def _persist(request: Request, transfer: Callable[[], None]) -> None:
    """Try a transfer again that broke off."""
    for tries_left in reversed(range(_TRIES)):
        try:
            transfer()
        except failures() as error:  # noqa: PERF203 - a transfer, beside which the `try` costs nothing
            if not tries_left or not is_cut(error):
                raise
            LOGGER.warning("%s: the transfer broke off (%s), trying again", request.repo, type(error).__name__)
            time.sleep(_PAUSE)
        else:
            return


def _fits(path: Path, listed: Listed) -> bool:
    return path.is_file() and listed.size in (None, path.stat().st_size)


def _check_room(request: Request, listing: Listing, names: Iterable[str]) -> None:
    """Refuse before the transfer what would fill the disk at its end."""
    files = [listing.files[name] for name in names]
    needed = sum((one.size or 0) - file_size(_part(request, one)) for one in files)
    place = next(path for path in (request.cache, *request.cache.parents) if path.exists())
    free = shutil.disk_usage(place).free
    if needed > free:
        expected = f"a folder with {_mega(needed)} free for {request.repo}; there are {_mega(free)}"
        # Since 1.0 the client begins anew beside what an earlier call left.
        left = sum(map(file_size, request.store.glob("blobs/*.incomplete")))
        remains = f" Transfers that broke off left {_mega(left)} in {request.store / 'blobs'}/*.incomplete." * bool(
            left
        )
        hint = f"Free some space, or point HF_HOME, HF_HUB_CACHE or `cache_dir=` to another disk.{remains}"
        raise HubError.about("cache_dir", str(request.cache), expected, hint)


def _mega(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"


def _check_arrived(request: Request, listing: Listing, names: Iterable[str]) -> None:
    folder = request.snapshot(listing.sha)
    bad = [name for name in names if not _genuine(folder / name, listing.files[name])]
    if not bad:
        return
    for name in bad:
        _discard(folder / name)
    expected = f"the files of {request.repo} as {request.endpoint} lists them; lost or altered: {', '.join(bad)}"
    hint = "The cache does not keep them. Call again; if it happens twice, a proxy or mirror on the way alters files."
    raise HubError.about(request.argument, request.asked, expected, hint)


def _genuine(path: Path, listed: Listed) -> bool:
    """Hold a file against its announced hash: sha256 for large files, git's blob id for the others."""
    if not _fits(path, listed):
        return False
    if listed.sha256:
        LOGGER.info("checking %s", path.name)
        return sha256(path) == listed.sha256
    if listed.blob and len(listed.blob) == 40:
        blob = b"blob %d\0" % path.stat().st_size + path.read_bytes()
        return hashlib.sha1(blob, usedforsecurity=False).hexdigest() == listed.blob
    return True


def _discard(path: Path) -> None:
    """Remove a file of the cache with the blob it links to; otherwise the next download would link the same bytes."""
    with suppress(OSError):
        blob = path.parent / path.readlink() if path.is_symlink() else path
        path.unlink()
        blob.unlink()
