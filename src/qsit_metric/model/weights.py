"""Weights from a checkpoint folder into the network: all of them, straight to their place, or one error.

Safetensors only. Every layout of names that releases of transformers write is read: 4.45's (`language_model.model.*`),
5.x's (`model.language_model.*`), and the one that 5.x writes for models made from a config (`vision_tower.encoder.*`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from ..errors import CheckpointError
from .config import Config
from .network import LlavaOnevision

_LEGACY = (".position_ids", ".rotary_emb.inv_freq")  # buffers that old files keep; they follow from the config
_POOLING = "model.vision_tower.vision_model.head."
_OPTIONAL = "model.vision_tower.vision_model.post_layernorm."  # carried along where it is there, never read
_HINT = "It is not a complete checkpoint of this architecture; download or export it again."


class Stored(NamedTuple):
    """Where a weight lies on disk."""

    file: Path
    key: str
    shape: tuple[int, ...]


def published(key: str) -> str:
    """A weight's name in the network, from its name in any layout.

    Example:
        >>> published("language_model.model.norm.weight"), published("vision_tower.encoder.layers.0.mlp.fc1.bias")
        ('model.language_model.norm.weight', 'model.vision_tower.vision_model.encoder.layers.0.mlp.fc1.bias')
    """
    key = key.removeprefix("model.")
    if key in ("lm_head.weight", "language_model.lm_head.weight"):
        return "lm_head.weight"
    key = re.sub(r"^language_model\.model\.", "language_model.", key)
    return "model." + re.sub(r"^vision_tower\.(?!vision_model\.)", "vision_tower.vision_model.", key)


def empty(config: Config) -> LlavaOnevision:
    """The network without storage: names and shapes, and the frequencies of its positions."""
    with torch.device("meta"):
        return LlavaOnevision(config)


def load(
    folder: Path,
    config: Config,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    place: Callable[[str], torch.device | str | None] | None = None,
) -> LlavaOnevision:
    """Read, verify and freeze.

    Args:
        folder: A checkpoint folder with `model.safetensors` or its shards.
        config: What its `config.json` says.
        dtype: Floating-point type of the weights in memory.
        device: Where they go.
        place: Each weight's own device instead; None leaves it without storage, for an offloader to fill.

    Returns:
        The network in eval mode; no parameter requires a gradient.

    Raises:
        CheckpointError: A weight is missing, unexpected, of another shape, or cannot be read.
    """
    model = empty(config)
    found = stored(folder)
    _verify(found, model)
    where = place or (lambda _: device)
    try:
        for name, tensor in _read(found, dtype, {n: where(n) for n in found if where(n) is not None}):
            _put(model, name, tensor)
    except Exception as error:  # safetensors raises a type of its own
        raise CheckpointError.about("model", str(folder), "weights that can be read", f"{error}. {_HINT}") from error
    _fill_optional(model, found, dtype, device)
    _tie(model, found, folder)
    model.model.language_model.rotary_emb.to(device)
    return model.eval().requires_grad_(False)


def adopt(theirs: Any) -> LlavaOnevision:
    """The network around the weights of a `LlavaOnevisionForConditionalGeneration` of transformers; they are shared.

    Args:
        theirs: A loaded model, unquantised.

    Raises:
        CheckpointError: It is of another architecture, or does something that this network does not do; or its weights
            lie on several devices or on disk.
    """
    model = empty(Config.of(theirs.config.to_dict()))
    found = {published(name): weight for name, weight in theirs.named_parameters()}
    if len(places := {str(weight.device) for weight in found.values()}) > 1 or "meta" in places:
        hint = "Load the folder itself: QSiT(folder, device='auto')."
        raise CheckpointError.about("model", f"<weights on {', '.join(sorted(places))}>", "all on one device", hint)
    _verify({name: Stored(Path(), name, tuple(weight.shape)) for name, weight in found.items()}, model)
    for name, weight in found.items():
        if not name.startswith(_POOLING):
            _put(model, name, weight.data)
    model.tie()
    return model


def stored(folder: Path) -> dict[str, Stored]:
    """Every weight of a folder by its name in the network; nothing but the files' headers is read.

    Raises:
        CheckpointError: No safetensors, a shard that is missing or damaged, or one weight under two names.
    """
    from safetensors import safe_open

    weights: dict[str, Stored] = {}
    for file in _files(folder):
        try:
            with safe_open(file, "pt") as content:
                shapes = {key: tuple(content.get_slice(key).get_shape()) for key in content.keys()}  # noqa: SIM118
        except Exception as error:  # safetensors raises a type of its own
            raise CheckpointError.about("model", str(file), "a whole safetensors file", f"{error}. {_HINT}") from error
        for key, shape in shapes.items():
            name = published(key)
            if name.endswith(_LEGACY):
                continue
            if name in weights:
                raise CheckpointError.about("model", f"<{weights[name].key} and {key}>", "one of the two", _HINT)
            weights[name] = Stored(file, key, shape)
    return weights


def _files(folder: Path) -> list[Path]:
    whole, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if whole.is_file() or not index.is_file():  # an index beside a whole file is left over from another export
        return [whole]
    try:
        shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        return [folder / name for name in sorted(shards)]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError.about("model", str(index), "a JSON file that names shards", _HINT) from error


def _verify(found: dict[str, Stored], model: LlavaOnevision) -> None:
    """Refuse weights that are missing, unexpected or of another shape; drop those that nothing reads."""
    if model.config.vision.pooled:
        for name in [name for name in found if name.startswith(_POOLING)]:
            del found[name]
    wanted = {name: tuple(weight.shape) for name, weight in model.state_dict().items()}
    needed = {name for name in wanted if not name.startswith(_OPTIONAL)}
    if model.config.tied:
        needed.discard("lm_head.weight")
    _refuse("missing keys", needed - found.keys())
    _refuse("unexpected keys", {one.key for name, one in found.items() if name not in wanted})
    _refuse("mismatched keys", {f"{one.key} {list(one.shape)} instead of {list(wanted[name])}"
                                for name, one in found.items() if one.shape != wanted[name]})  # fmt: skip


def _refuse(kind: str, keys: Iterable[str]) -> None:
    if names := sorted(keys):
        shown = f"<{len(names)} {kind}: {', '.join(names[:3])}{' ...' if len(names) > 3 else ''}>"
        raise CheckpointError.about("model", shown, "every weight of the architecture and no other", _HINT)


def _read(found: Mapping[str, Stored], dtype: torch.dtype, places: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    """Each weight on its device and in its type, file by file."""
    from safetensors import safe_open

    for file in sorted({found[name].file for name in places}):
        with safe_open(file, "pt") as content:
            for name, device in places.items():
                if found[name].file == file:
                    tensor = content.get_tensor(found[name].key)
                    if not tensor.is_floating_point():
                        kind = str(tensor.dtype).removeprefix("torch.")
                        raise ValueError(f"{found[name].key} holds {kind}, not floating-point numbers")
                    # A copy even where nothing changes: a view of the file would change with the file.
                    yield name, tensor.to(device, dtype, copy=True)


def _put(model: nn.Module, name: str, tensor: torch.Tensor) -> None:
    path, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(path), leaf, nn.Parameter(tensor, requires_grad=False))


def _fill_optional(model: nn.Module, found: Mapping[str, Stored], dtype: torch.dtype, device: Any) -> None:
    """A norm that the file leaves out and nothing reads is the one that changes nothing."""
    for leaf, value in (("weight", torch.ones), ("bias", torch.zeros)):
        name = _OPTIONAL + leaf
        if name not in found:
            _put(model, name, value(model.get_parameter(name).shape, dtype=dtype, device=device))


def _tie(model: LlavaOnevision, found: Mapping[str, Stored], folder: Path) -> None:
    """Make a tied head the embedding again; a file may hold it twice, but not differently."""
    if not model.config.tied:
        return
    embedding = model.get_input_embeddings().weight
    own = model.lm_head.weight
    seen = "lm_head.weight" in found and not embedding.is_meta and not own.is_meta
    if seen and not torch.equal(own.to(embedding.device), embedding):
        raise CheckpointError.about(
            "model", "<an output head apart from its embedding>", "the tied head of config.json", str(folder)
        )
    model.tie()
