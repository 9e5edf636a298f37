"""The checkpoints that are known by name: one frozen record each.

A record says where the weights are, how they are read (backend), in which words they were calibrated (recipe) and which
paper describes them. Nothing in it is guessed: a revision, size or licence that was not read from the publisher is left
at "main" or "unknown", and results record the commit that was really resolved.

Paper: "Teaching LMMs for Image Quality Scoring and Interpreting", https://arxiv.org/abs/2503.09197 (Q-SiT).
"""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .errors import InputError

__all__ = ["ModelRecord", "embedded_folder", "embedded_names", "find", "list_models", "nearest"]

_MODES = ("NR", "FR")  # pyiqa's words: no reference, full reference
_WEIGHTS = Path(__file__).parent / "weights"


@dataclass(frozen=True, kw_only=True)
class ModelRecord:
    """What is known about one checkpoint before any of it is read.

    Attributes:
        name: The name a user writes.
        repo: `owner/name` on the Hub, or None for a checkpoint that is not published there.
        revision: Branch, tag or commit that the name stands for.
        backend: Name of the engine that runs it.
        recipe: Name of the wording its scores were calibrated with, or of the one that is asked zero-shot.
        licence: Licence of the weights; "unknown" until the publisher's own statement was read.
        paper: arXiv identifier.
        description: One line for `qsit models`.
        embedded: Folder below `weights/` that holds the files when they ship with the package.
        folder: Folder inside the repository that holds the checkpoint; empty for its root.

    Example:
        >>> record = find("q-sit-mini")
        >>> record.repo, record.revision, record.recipe
        ('zhangzicheng/q-sit-mini', 'main', 'authors')
    """

    name: str
    repo: str | None
    backend: str
    recipe: str
    paper: str
    description: str
    revision: str = "main"
    licence: str = "unknown"
    embedded: str | None = None
    folder: str = ""


_RECORDS: tuple[ModelRecord, ...] = (
    ModelRecord(
        name="q-sit-mini",
        repo="zhangzicheng/q-sit-mini",
        backend="llava_onevision",
        recipe="authors",
        paper="arXiv:2503.09197",
        description="Q-SiT-mini: scores and answers; LLaVA-OneVision 0.5B class, about 0.9 B parameters",
    ),
    ModelRecord(
        name="q-sit",
        repo="zhangzicheng/q-sit",
        backend="llava_onevision",
        recipe="authors",
        paper="arXiv:2503.09197",
        description="Q-SiT: scores and answers; LLaVA-OneVision 7B class",
    ),
    ModelRecord(
        name="q-sit-nano",
        repo=None,
        backend="llava_onevision",
        recipe="train",
        paper="arXiv:2503.09197",
        description="in the package, 7.6 M parameters: taught on synthetic degradations, no replacement for q-sit-mini",
        licence="Apache-2.0",
        embedded="q-sit-nano",
    ),
    ModelRecord(
        name="q-realign-mini",
        repo="q-future/Q-ReAlign-Mini-0.8B",
        backend="transformers",
        recipe="q-realign",
        paper="",
        description="Q-ReAlign Mini: scores quality and (recipe aesthetics) aesthetics; Qwen3.5, transformers >=5.2",
        licence="Apache-2.0",
    ),
    ModelRecord(
        name="q-realign-lite",
        repo="q-future/Q-ReAlign-Lite-4B",
        backend="transformers",
        recipe="q-realign",
        paper="",
        description="Q-ReAlign Lite: as Mini, Qwen3.5 4B",
        licence="Apache-2.0",
    ),
    ModelRecord(
        name="q-realign-pro",
        repo="q-future/Q-ReAlign-Pro-9B",
        backend="transformers",
        recipe="q-realign",
        paper="",
        description="Q-ReAlign Pro: as Mini, Qwen3.5 9B",
        licence="Apache-2.0",
    ),
    ModelRecord(
        name="visualquality-r1",
        repo="TianheWu/VisualQuality-R1-7B",
        backend="transformers",
        recipe="visualquality-r1",
        paper="arXiv:2505.14460",
        description="VisualQuality-R1: writes its score (recipe visualquality-r1-thinking: reasons first); 7B",
        licence="MIT",
    ),
    ModelRecord(
        name="q-insight",
        repo="ByteDance/Q-Insight",
        folder="score_degradation",
        backend="transformers",
        recipe="q-insight",
        paper="arXiv:2503.22679",
        description="Q-Insight: reasons, then writes its score; Qwen2.5-VL 7B",
        licence="Apache-2.0",
    ),
    ModelRecord(
        name="llava-onevision-0.5b",
        repo="llava-hf/llava-onevision-qwen2-0.5b-ov-hf",
        backend="llava_onevision",
        recipe="authors",
        paper="arXiv:2408.03326",
        description="the base of Q-SiT-mini, not taught to score (zero-shot)",
    ),
    ModelRecord(
        name="llava-onevision-7b",
        repo="llava-hf/llava-onevision-qwen2-7b-ov-hf",
        backend="llava_onevision",
        recipe="authors",
        paper="arXiv:2408.03326",
        description="the base of Q-SiT, not taught to score (zero-shot)",
    ),
    ModelRecord(
        name="qwen3-vl-4b",
        repo="Qwen/Qwen3-VL-4B-Instruct",
        backend="transformers",
        recipe="authors",
        paper="arXiv:2511.21631",
        description="Qwen3-VL 4B, not taught to score (zero-shot)",
    ),
    ModelRecord(
        name="internvl3-1b",
        repo="OpenGVLab/InternVL3-1B-hf",
        backend="transformers",
        recipe="authors",
        paper="arXiv:2504.10479",
        description="InternVL3 1B, not taught to score (zero-shot)",
    ),
    ModelRecord(
        name="internvl3-8b",
        repo="OpenGVLab/InternVL3-8B-hf",
        backend="transformers",
        recipe="authors",
        paper="arXiv:2504.10479",
        description="InternVL3 8B, not taught to score (zero-shot)",
    ),
)

# Models that people ask for and that bring code of their own, which is never run here.
_OWN_CODE = "It needs remote code (its own {model} classes), which is never run here."
_REFUSED = {
    "deqa-score": _OWN_CODE.format(model="mPLUG-Owl2"),
    "zhiyuanyou/DeQA-Score-Mix3": _OWN_CODE.format(model="mPLUG-Owl2"),
    "q-align": _OWN_CODE.format(model="mPLUG-Owl2"),
    "q-future/one-align": _OWN_CODE.format(model="mPLUG-Owl2"),
    **{
        f"OpenGVLab/InternVL3-{size}": _OWN_CODE.format(model="InternVL")
        + f" OpenGVLab/InternVL3-{size}-hf is the same model in transformers' own format."
        for size in ("1B", "2B", "8B", "9B", "14B", "38B", "78B")
    },
}


def find(name: str) -> ModelRecord | None:
    """Look a checkpoint up by its catalog name or by its Hub repository.

    Args:
        name: "q-sit-mini" or "zhangzicheng/q-sit-mini"; exact, without a revision.

    Returns:
        The record, or None where the catalog has none.

    Example:
        >>> find("zhangzicheng/q-sit").name
        'q-sit'
        >>> find("Q-SIT") is None
        True
    """
    return next((record for record in _RECORDS if name in (record.name, record.repo)), None)


def refusal(name: str) -> str | None:
    """Why a model that is known does not run here; None for all others.

    Args:
        name: A name that people use for it, or its Hub repository.

    Example:
        >>> refusal("deqa-score")
        'It needs remote code (its own mPLUG-Owl2 classes), which is never run here.'
        >>> refusal("q-sit") is None
        True
    """
    return _REFUSED.get(name)


def list_models(
    pattern: str | None = "",
    filter: str | Sequence[str] = "",
    exclude_filters: str | Sequence[str] = "",
    *,
    metric_mode: str | None = None,
) -> list[str]:
    """List the names of the catalog, in its order.

    Args:
        pattern: Part of a name, or a pattern with `*`, `?` or `[...]` for the whole name. Case does not matter. "NR"
            and "FR" are taken for `metric_mode`, which comes first in pyiqa.
        filter: One or several patterns for the whole name, as in pyiqa; a name that fits one of them is listed.
        exclude_filters: The same, for names that are not listed.
        metric_mode: "NR" (all are), "FR" (none is) or None, as in pyiqa.

    Returns:
        The names that fit; all of them for "".

    Raises:
        InputError: Another `metric_mode`.

    Example:
        >>> list_models("sit")
        ['q-sit-mini', 'q-sit', 'q-sit-nano']
        >>> list_models("*-7b")
        ['llava-onevision-7b']
        >>> list_models(metric_mode="NR", filter="q-sit*", exclude_filters="*-nano")
        ['q-sit-mini', 'q-sit']
    """
    if pattern in _MODES:
        pattern, metric_mode = "", pattern
    if metric_mode not in (None, *_MODES):
        raise InputError.about("metric_mode", metric_mode, " or ".join(map(repr, _MODES)))
    if metric_mode == "FR":
        return []
    part = (pattern or "").lower()
    if not any(sign in part for sign in "*?["):
        part = f"*{part}*"
    names = [record.name for record in _RECORDS if fnmatch.fnmatchcase(record.name, part)]
    return [name for name in names if _fits(name, filter or "*") and not _fits(name, exclude_filters)]


def _fits(name: str, patterns: str | Sequence[str]) -> bool:
    several = [patterns] if isinstance(patterns, str) else patterns
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in several)


def nearest(name: str) -> list[str]:
    """Name the catalog entries that look like a name nobody knows, best first.

    Args:
        name: What was written: a name, or `owner/repo`.

    Returns:
        At most three catalog names, none when nothing is close.

    Example:
        >>> nearest("qsit_mini")
        ['q-sit-mini']
        >>> nearest("zhangzicheng/qsit")[0]
        'q-sit'
    """
    spellings = {record.name: record.name for record in _RECORDS}
    spellings.update({record.repo.lower(): record.name for record in _RECORDS if record.repo})
    close = difflib.get_close_matches(name.lower().replace("_", "-"), spellings, n=3, cutoff=0.75)
    return list(dict.fromkeys(spellings[spelling] for spelling in close))


def embedded_folder(record: ModelRecord) -> Path | None:
    """Return the folder of weights that ships with this installation, or None where it does not.

    A record may name a folder that a slimmer build of the package left out, so the disk is asked, not the record.
    """
    if record.embedded is None:
        return None
    folder = _WEIGHTS / record.embedded
    return folder if folder.is_dir() else None


def embedded_names() -> list[str]:
    """List the names that work with no network at all, because their weights are part of this installation."""
    return [record.name for record in _RECORDS if embedded_folder(record) is not None]
