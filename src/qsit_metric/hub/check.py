"""Check of a folder on disk: is it a whole and safe checkpoint, and which one?

Answered from file names, JSON and what the safetensors library says of headers and sizes, without loading a tensor, so
that a truncated or half-copied model is refused before anything is built from it. The format, for the words of a
refusal: https://huggingface.co/docs/safetensors/index#format (8 bytes little-endian header length, JSON header, data).
Weights are read from safetensors only: a pickle can run code when it is opened.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from ..errors import CheckpointError

__all__ = [
    "ADAPTER_HINT",
    "INDEX",
    "SINGLE",
    "fingerprint",
    "is_adapter",
    "missing_names",
    "pickles",
    "problems",
    "read_shards",
    "verify",
    "weight_names",
]

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLE_HINT = (
    "Weights are read from safetensors only, because opening a pickle can run code. Convert them once where you trust "
    "them: `AutoModelForImageTextToText.from_pretrained(old).save_pretrained(new)`, and use the new folder."
)

ADAPTER = "adapter_config.json"
ADAPTER_HINT = (
    "Merge it into its base and pass the result: `PeftModel.from_pretrained(base, adapter).merge_and_unload()"
    ".save_pretrained(new)`, with the releases of peft and transformers that it was made with, since others can leave "
    "a part of it out with no more than a warning."
)

# Each line: the ways in which one need can be met, each a set of files. The first way that is complete counts.
_NEEDS: tuple[tuple[tuple[str, ...], ...], ...] = (
    (("config.json",),),
    (("tokenizer.json",), ("vocab.json", "merges.txt"), ("tokenizer.model",)),
    (("tokenizer_config.json",),),
    (("preprocessor_config.json",), ("processor_config.json",)),
)
_PICKLE = re.compile(r"\.(bin|pt|pth|ckpt|pkl|pickle|h5|msgpack)$")
_MAX_HEADER = 100_000_000  # the limit of the safetensors library itself
_SHOWN = 3

_BLOCKS, _BLOCK = 64, 1 << 16
# The small files that a score depends on.
_TEXTS = (
    "added_tokens.json", "chat_template.jinja", "chat_template.json", "config.json", "preprocessor_config.json",
    "processor_config.json", "qsit_recipe.json", "tokenizer.json", "tokenizer_config.json",
)  # fmt: skip


class _Defect(Exception):
    """One thing that is wrong with a checkpoint, in words."""


def verify(folder: Path, *, hint: str = "", weights: bool = True) -> None:
    """Refuse a checkpoint folder unless it is complete.

    Args:
        folder: A folder in the transformers layout: config, tokenizer, preprocessor, safetensors weights.
        hint: The next step for the reader of the message, for example which cache folder to delete.
        weights: Whether weights are needed, too.

    Raises:
        CheckpointError: Something is missing, truncated, inconsistent or a pickle; every such file is named.

    Example:
        >>> verify(Path("nowhere"))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        qsit_metric.errors.CheckpointError: `model`: got 'nowhere', expected a whole safetensors checkpoint, but ...
    """
    found = problems(folder, weights=weights)
    if not found:
        return
    if is_adapter(path.name for path in folder.glob("*")):
        raise CheckpointError.about("model", str(folder), f"a checkpoint, not an adapter{_base(folder)}", ADAPTER_HINT)
    if PICKLE_HINT not in hint and any(text.startswith("only pickled weights") for text in found):
        hint = f"{PICKLE_HINT} {hint}".strip()
    raise CheckpointError.about("model", str(folder), "a whole safetensors checkpoint, but " + "; ".join(found), hint)


def problems(folder: Path, *, weights: bool = True) -> list[str]:
    """List what is wrong with a checkpoint folder, one phrase per defect; an empty list means that it is whole.

    Without `weights` only the small files are looked at.

    Example:
        >>> problems(Path("no/such/folder"))
        ['this is not a folder']
    """
    try:
        if not folder.is_dir():
            return ["this is not a folder"]
        # `is_file` follows links, so a link into a cache whose file is gone counts as missing.
        names = {entry.name for entry in folder.iterdir() if entry.is_file()}
        links = [entry.name for entry in sorted(folder.iterdir()) if entry.is_symlink() and not entry.exists()]
        gone = [f"{name} is a link to a file that is not there (copy with `cp -rL`)" for name in links]
        found = [*_half_written(names), *_texts(folder, names), *_weights(folder, names), *gone]
        return found if weights else list(_texts(folder, names))
    except OSError as error:
        return [f"it cannot be read ({error.strerror or error})"]


def missing_names(names: Collection[str]) -> list[str]:
    """List the needs besides the weights that a set of file names leaves open.

    Example:
        >>> missing_names({"config.json", "vocab.json", "tokenizer_config.json", "preprocessor_config.json"})
        ['tokenizer.json (or vocab.json + merges.txt, or tokenizer.model) is missing']
    """
    return [f"{_spell(ways)} is missing" for ways in _NEEDS if _met(ways, names) is None]


def is_adapter(names: Iterable[str]) -> bool:
    """Whether these are the files of an adapter (peft) alone, which is no model without its base.

    Example:
        >>> is_adapter(["adapter_config.json", "adapter_model.safetensors"]), is_adapter(["config.json"])
        (True, False)
    """
    names = set(names)
    return ADAPTER in names and weight_names(names) is None


def _base(folder: Path) -> str:
    """Which model an adapter belongs to, as far as it says so."""
    try:
        named = _json(folder / ADAPTER).get("base_model_name_or_path")
    except (_Defect, OSError):
        return ""
    return f" of {named}" if isinstance(named, str) and named else ""


def weight_names(names: Collection[str]) -> str | None:
    """Return the file the weights start from: the single file, else the index of the shards, else None."""
    return next((name for name in (SINGLE, INDEX) if name in names), None)


def pickles(names: Collection[str]) -> list[str]:
    """List the names that look like pickled weights."""
    return sorted(name for name in names if _PICKLE.search(name))


def read_shards(index: Path) -> dict[str, str]:
    """Read which tensor lies in which shard.

    Args:
        index: Path of a `model.safetensors.index.json`.

    Returns:
        Tensor name -> name of a file in the same folder.

    Raises:
        CheckpointError: The index is not JSON, is empty, or points outside its folder.
    """
    try:
        return _weight_map(index)
    except _Defect as defect:
        raise CheckpointError.about("model", str(index), f"an index of shards, but {defect}") from defect


def _spell(ways: tuple[tuple[str, ...], ...]) -> str:
    first, *others = (" + ".join(way) for way in ways)
    return f"{first} (or {', or '.join(others)})" if others else first


def _met(ways: tuple[tuple[str, ...], ...], names: Collection[str]) -> tuple[str, ...] | None:
    return next((way for way in ways if all(name in names for name in way)), None)


def _half_written(names: Collection[str]) -> Iterator[str]:
    for name in sorted(names):
        if name.endswith(".incomplete"):
            yield f"{name} is half-written (a transfer is running or broke off)"


def _texts(folder: Path, names: Collection[str]) -> Iterator[str]:
    yield from missing_names(names)
    for ways in _NEEDS:
        for name in _met(ways, names) or ():
            yield from _text(folder / name)


def _text(path: Path) -> Iterator[str]:
    if path.suffix != ".json":
        if path.stat().st_size == 0:
            yield f"{path.name} is empty"
        return
    try:
        data = _json(path)
    except _Defect as defect:
        yield str(defect)
        return
    if path.name == "config.json" and not isinstance(data.get("model_type"), str):
        yield "config.json names no model_type"
    if path.name == "processor_config.json" and not isinstance(data.get("image_processor"), dict):
        yield "preprocessor_config.json is missing (and processor_config.json has no image_processor)"


def _json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise _Defect(f"{path.name} is not readable JSON ({error})") from error
    if not isinstance(data, dict):
        raise _Defect(f"{path.name} holds a JSON {type(data).__name__}, not an object")
    return data


def _weights(folder: Path, names: Collection[str]) -> Iterator[str]:
    start = weight_names(names)
    try:
        if start == SINGLE:
            _tensors(folder / SINGLE)
        elif start == INDEX:
            yield from _sharded(folder, names)
        elif found := pickles(names):
            yield f"only pickled weights are there ({_few(found)}), no {SINGLE} and no {INDEX}"
        else:
            yield f"{SINGLE} (or {INDEX} and its shards) is missing"
    except _Defect as defect:
        yield str(defect)


def _sharded(folder: Path, names: Collection[str]) -> Iterator[str]:
    listed: dict[str, set[str]] = {}
    for tensor, shard in _weight_map(folder / INDEX).items():
        listed.setdefault(shard, set()).add(tensor)
    for shard, expected in sorted(listed.items()):
        if shard not in names:
            yield f"{shard} is missing"
            continue
        try:
            present = _tensors(folder / shard)
        except _Defect as defect:
            yield str(defect)
            continue
        if lacking := expected - present:
            yield f"{shard} lacks tensors that {INDEX} lists ({_few(lacking)})"
        if surplus := present - expected:
            yield f"{shard} holds tensors that {INDEX} does not list there ({_few(surplus)})"


def _weight_map(index: Path) -> dict[str, str]:
    shards = _json(index).get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise _Defect(f"{index.name} has no weight_map")
    for shard in shards.values():
        # A name with a separator could read a file outside the folder.
        if not isinstance(shard, str) or not re.fullmatch(r"[^/\\:]+\.safetensors", shard):
            raise _Defect(f"{index.name} lists {shard!r}, which is not a safetensors file in the same folder")
    return shards


def _tensors(path: Path) -> set[str]:
    """The names of a safetensors file's tensors, once the library has found its header and its size in order."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            names = set(file.keys())
    except SafetensorError as error:
        raise _Defect(f"{path.name} {_defect(path, error)}") from error
    if not names:
        raise _Defect(f"{path.name} holds no tensors")
    return names


def _defect(path: Path, error: Exception) -> str:
    """What is wrong with a file that the library refuses, in words that say what to do."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = int.from_bytes(start, "little")
        if start == b"version ":
            return "is a git-lfs pointer, not the weights (run `git lfs pull`)"
        if length > _MAX_HEADER:
            return f"is not a safetensors file (a header of {length} bytes)"
        if size < 8 + length:
            return f"is truncated inside its header ({size} of at least {8 + length} bytes)"
        header = file.read(length)
    try:
        spans = [entry["data_offsets"] for name, entry in json.loads(header).items() if name != "__metadata__"]
        whole = 8 + length + max(end for _, end in spans)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return f"has an unreadable safetensors header ({error})"
    if size != whole:
        state = "truncated" if size < whole else "longer than its header says"
        return f"is {state} ({size} bytes on disk, {whole} by its header)"
    return f"has a safetensors header whose tensors overlap, leave a hole or do not fit their shapes ({error})"


def _few(names: Collection[str]) -> str:
    shown = ", ".join(sorted(names)[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN} more"


def fingerprint(folder: Path) -> str:
    """Identify a checkpoint folder by its config files and by samples of its weights.

    64 blocks of each weight file are read, evenly spread: training changes all of them, and a 15 GB model costs
    milliseconds. It is no proof against a forger.

    Returns:
        "local-" and 12 hexadecimal digits; the same for a copy of the folder elsewhere.
    """
    digest = hashlib.sha256()
    for path in (folder / name for name in _TEXTS if (folder / name).is_file()):
        digest.update(path.name.encode() + path.read_bytes())
    for path in (path for path in sorted(folder.glob("*.safetensors")) if path.is_file()):
        size = path.stat().st_size
        digest.update(f"{path.name} {size}".encode())
        with path.open("rb") as file:
            for block in range(_BLOCKS):
                file.seek(max(size - _BLOCK, 0) * block // (_BLOCKS - 1))
                digest.update(file.read(_BLOCK))
    return f"local-{digest.hexdigest()[:12]}"
