"""Data sets from the Hub into the data root: terms first, then the Hub client, then unpacking.

    print(terms("lldescribe"))
    fetch("lldescribe", root, accept_licence=True)

What speaks to the network is `huggingface_hub` with its own cache and settings, as for models (HF_HOME, HF_ENDPOINT,
HF_TOKEN, HF_HUB_OFFLINE). Archives stay in that cache; what was put into the data root is noted in `fetched.json`.
Licences are what the repositories' cards state as far as it is known here; "not known here" means that nobody has read
the card. File names in the repositories are second-hand, from programs that read them.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.output import FILES
from benchmarks.sets import SETS, Sets, SetStatus, status
from benchmarks.sets.unpack import Tick, unpack
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
    """Which commit the files are from, for whoever asks later; notes on other files stay."""
    try:
        noted: dict[str, Any] = FILES.json(path) if path.is_file() else {}
    except EvaluationError:
        noted = {}
    fields = {"repo": source.repo, "commit": brought.commit, "licence": brought.licence or source.licence}
    noted |= {name: {**fields, "sha256": sha256(file)} for name, file in brought.files.items()}
    FILES.write_json(path, dict(sorted(noted.items())))
