"""A model's name -> a verified folder on disk.

A name is one of, in this order:

1. a name of the catalog ("q-sit-mini"), optionally "@revision". It wins over a folder of the same name, so that a
   script means the same wherever it runs; the folder is "./q-sit-mini";
2. a folder: anything that exists on disk, a `Path`, or text that starts with "./", "../", "/" or "~"; of a training
   run it is the run's `best`, else its `last`;
3. a repository of the Hub: "owner/repo" or "owner/repo@revision".

Whatever comes back was verified (see `check`). A model is never replaced by another one: what cannot be had is an
error that says how to get it. A copy in the cache stands in for the Hub only for the same revision, only when it is
complete, only while the Hub cannot be reached, and with a warning.
"""

from __future__ import annotations

import logging
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from .. import catalog
from ..catalog import ModelRecord
from ..errors import CheckpointError, InputError, QSiTError, UnknownNameError
from ..prompts import Recipe, recipe_named
from . import download
from .cache import Request, Stored, cache_folder, cached_commit, on_disk, remember
from .check import problems, verify
from .errors import explain, failures, is_unreachable

__all__ = ["Checkpoint", "Stored", "on_disk", "resolve", "verify"]

LOGGER = logging.getLogger("qsit_metric")

_REPO = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint.

    Attributes:
        folder: Where its files are.
        name: Catalog name, repository, or the path as it was written.
        repo: `owner/name` on the Hub, None for a folder of the user's.
        revision: The commit that was resolved (40 hex digits); None for a folder and for embedded weights.
        record: The catalog's record, None for what the catalog does not know.
    """

    folder: Path
    name: str
    repo: str | None = None
    revision: str | None = None
    record: ModelRecord | None = None

    def recipe(self) -> Recipe | None:
        """The recipe that it was calibrated with, as the folder or the catalog says; None if neither does.

        Raises:
            CheckpointError: The folder has a recipe that is none.
        """
        return Recipe.load(self.folder) or (recipe_named(self.record.recipe) if self.record else None)


def resolve(
    model: str | os.PathLike[str],
    *,
    revision: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    token: str | bool | None = None,
    local_files_only: bool = False,
    weights: bool = True,
) -> Checkpoint:
    """Turn a model's name into a verified folder, fetching it from the Hub once if need be.

    A full commit that is complete in the cache is used without touching the network. A branch or tag costs one request,
    which tells whether it moved. HF_HOME, HF_HUB_CACHE, HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE and
    HF_HUB_DISABLE_PROGRESS_BARS behave as in any program that uses `huggingface_hub`.

    Args:
        model: Catalog name, `owner/repo[@revision]` or folder (the grammar is in the module's docstring).
        revision: Branch, tag or commit; the same as writing `@revision`. Not for folders.
        cache_dir: Hub cache to use instead of HF_HUB_CACHE.
        token: Hub token; None takes HF_TOKEN or the saved login, False sends none.
        local_files_only: Never touch the network.
        weights: False asks for the small files only (config, tokenizer, processor, templates): a server has the rest.

    Returns:
        The verified checkpoint.

    Raises:
        UnknownNameError: Nobody knows the name.
        InputError: Two different revisions, or a revision for a folder.
        CheckpointError: The folder, the cached copy or the repository is not a complete safetensors checkpoint.
        HubError: The Hub did not deliver: unreachable, no such repository or revision, no permission, disk full ...

    Example:
        >>> resolve("q-sit-mimi")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        qsit_metric.errors.UnknownNameError: `model`: got 'q-sit-mimi', expected a known name (q-sit-mini, ...
        >>> resolve("./no-such-folder")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        qsit_metric.errors.CheckpointError: `model`: got './no-such-folder', expected a folder that exists...
    """
    if not isinstance(model, (str, os.PathLike)):
        raise InputError.about("model", model, "a name, 'owner/repo[@revision]' or a folder")
    text = os.fspath(model)
    name, at, asked_revision = text.partition("@")
    record = catalog.find(name) if isinstance(model, str) and "/" not in name else None
    if record is None and (not isinstance(model, str) or _is_path(text)):
        return _local(text, revision, weights)
    wanted = _one_revision(asked_revision if at else None, revision)
    if record is not None and wanted is None and (folder := catalog.embedded_folder(record)):
        verify(folder, hint="Reinstall the package.")
        return Checkpoint(folder, record.name, record.repo, None, record)
    repo = _repository(name, record, wanted)
    record = record or catalog.find(repo)
    asked = f"{name}@{wanted}" if wanted else name
    wanted = wanted or (record.revision if record else "main")
    inside = record.folder if record else ""
    request = Request(asked, repo, wanted, cache_folder(cache_dir), token, inside=inside, weights=weights)
    return _from_hub(request, record, offline=local_files_only)


def _is_path(text: str) -> bool:
    if text in (".", "..") or text.startswith(("./", "../", "/", "~", ".\\", "..\\")) or Path(text).drive:
        return True
    try:
        return (bool(text) and Path(text).exists()) or (os.sep in text and not _REPO.fullmatch(text.partition("@")[0]))
    except (OSError, ValueError):  # too long for a file name, a null byte, a parent that may not be read
        return False


def _one_revision(written: str | None, argument: str | None) -> str | None:
    if written is not None and argument is not None and written != argument:
        raise InputError.about("revision", argument, f"the revision that the name already gives ({written!r})")
    chosen = argument if written is None else written
    # The revision becomes a path in the cache, so it must not be able to leave it.
    if chosen is not None and (".." in chosen or not re.fullmatch(r"[^\s/\\][^\s\\]*", chosen)):
        raise InputError.about("revision", chosen, "a branch, a tag or a commit, for example 'main'")
    return chosen


def _repository(name: str, record: ModelRecord | None, wanted: str | None) -> str:
    if reason := catalog.refusal(name):
        hint = "Nothing was fetched. `qsit models` lists what runs."
        raise CheckpointError.about("model", name, "weights that run without code of their own", f"{reason} {hint}")
    if record is not None and record.repo is not None:
        return record.repo
    if record is not None and catalog.embedded_folder(record):
        raise InputError.about("revision", wanted, f"no revision for {name!r}, which ships with the package")
    if record is not None:
        hint = "Install the full package, or pass a folder with these weights."
        raise CheckpointError.about("model", name, "weights that ship with the package, not found in it", hint)
    if _REPO.fullmatch(name):
        return name
    near = catalog.nearest(name)
    hint = f"Did you mean {' or '.join(map(repr, near))}? " if near else ""
    hint += f"A Hub repository is written 'owner/{name or 'repo'}', a folder './{name or 'folder'}'."
    known = f"a known name ({', '.join(catalog.list_models())}), 'owner/repo[@revision]' or a folder"
    raise UnknownNameError.about("model", name, known, hint)


def _local(text: str, revision: str | None, weights: bool) -> Checkpoint:
    if revision is not None:
        raise InputError.about("revision", revision, f"no revision for a folder ({text})")
    folder = Path(text)
    with suppress(RuntimeError):  # "~nobody": no such user, then the name is taken as it is
        folder = folder.expanduser()
    if not os.path.lexists(folder):
        hint = f"The current folder is {Path.cwd()}. A Hub repository is written 'owner/repo', without './'."
        raise CheckpointError.about("model", text, "a folder that exists", hint)
    if folder.is_file():
        raise CheckpointError.about(
            "model", text, "the folder of a checkpoint, not a file", "Pass the folder it is in."
        )
    hint = "Copy or save the checkpoint again."
    if os.path.isdir(folder / "snapshots"):  # noqa: PTH112 - unlike `Path.is_dir`, it never raises
        hint = "This is a repository of a Hub cache: pass one of the folders below its `snapshots`."
    folder = _of_run(folder)
    verify(folder, hint=hint, weights=weights)
    return Checkpoint(folder.resolve(), text)


def _of_run(folder: Path) -> Path:
    """The model of a training run's folder: its `best`, before its `last`; another folder is itself."""
    if (folder / "config.json").exists():
        return folder
    return next((folder / name for name in ("best", "last") if (folder / name / "config.json").is_file()), folder)


def _from_hub(request: Request, record: ModelRecord | None, *, offline: bool) -> Checkpoint:
    try:
        return _from_cache_or_hub(request, record, offline=offline)
    except QSiTError:
        raise
    except OSError as error:  # what is left: a cache that cannot be read, a file that somebody removes meanwhile
        raise explain(request, error) from error


def _from_cache_or_hub(request: Request, record: ModelRecord | None, *, offline: bool) -> Checkpoint:
    from huggingface_hub import constants

    sha = cached_commit(request)
    whole = sha is not None and not problems(request.snapshot(sha), weights=request.weights)
    if request.is_commit and whole:
        return _checkpoint(request, record, request.revision)
    if offline or constants.HF_HUB_OFFLINE:
        return _from_cache(request, record, sha)
    try:
        listing = download.ask(request)
    except failures() as error:
        if whole and sha is not None and is_unreachable(error):
            reason = f"{type(error).__name__} at {request.endpoint}"
            LOGGER.warning("the Hub cannot be reached (%s); using the cached %s, commit %s", reason, request.asked, sha)
            return _checkpoint(request, record, sha)
        raise explain(request, error, cached=_about_copy(request, sha, whole)) from error
    folder = download.fetch(request, listing)
    verify(folder, hint=_delete_hint(request), weights=request.weights)
    if request.weights or sha is None:  # else the branch stays at the copy that has weights
        remember(request, listing.sha)
    return _checkpoint(request, record, listing.sha)


def _from_cache(request: Request, record: ModelRecord | None, sha: str | None) -> Checkpoint:
    if sha is None:
        raise download.off(request)
    hint = f"Run `qsit download {request.asked}` with a network. {_delete_hint(request)}"
    verify(request.snapshot(sha), hint=hint, weights=request.weights)
    return _checkpoint(request, record, sha)


def _checkpoint(request: Request, record: ModelRecord | None, sha: str) -> Checkpoint:
    return Checkpoint(request.snapshot(sha), record.name if record else request.repo, request.repo, sha, record)


def _about_copy(request: Request, sha: str | None, whole: bool) -> str:
    if sha is None:
        return ""
    if whole:
        return "A complete copy is in the cache; `local_files_only=True` uses it."
    return (
        f"The copy in the cache is not complete: {'; '.join(problems(request.snapshot(sha), weights=request.weights))}."
    )


def _delete_hint(request: Request) -> str:
    # Not the snapshot alone: it only links to the blobs, and the same broken blob would be linked again.
    return f"If that does not help, delete {request.store} and run `qsit download {request.asked}` again."
