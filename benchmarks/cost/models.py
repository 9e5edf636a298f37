"""Models of the published shapes with random weights, built in memory: speed does not depend on the values."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from qsit_metric.backends.checkpoint import load_geometry, load_tokenizer
from qsit_metric.backends.llava_onevision import LlavaOnevisionBackend
from qsit_metric.backends.tokenizer import Tokenizer
from qsit_metric.model import weights
from qsit_metric.model.config import Config
from qsit_metric.model.network import LlavaOnevision
from qsit_metric.pixels.geometry import Geometry

CHECKPOINT = Path(__file__).resolve().parents[2] / "tests" / "golden" / "tied"
"""Tokenizer, chat template and processor settings; the geometry in it is that of the published models."""

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Shape:
    """Sizes of a model.

    Attributes:
        vision: What differs from the checkpoint's `vision_config`.
        text: What differs from the checkpoint's `text_config`.
        std: Standard deviation of the random weights; large enough that the answer depends on the picture.
    """

    vision: dict[str, Any]
    text: dict[str, Any]
    std: float = 0.02


_SO400M = {"hidden_size": 1152, "num_hidden_layers": 26, "num_attention_heads": 16, "intermediate_size": 4304}


def _qwen2(*, hidden: int, layers: int, heads: int, kv: int, inner: int, vocab: int, tied: bool) -> dict[str, Any]:
    return {
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv,
        "intermediate_size": inner,
        "vocab_size": vocab,
        "tie_word_embeddings": tied,
        "max_position_embeddings": 32768,
    }


SHAPES = {
    "tiny": Shape({}, {}, std=0.2),
    "mini": Shape(_SO400M, _qwen2(hidden=896, layers=24, heads=14, kv=2, inner=4864, vocab=152000, tied=True)),
    "7b": Shape(_SO400M, _qwen2(hidden=3584, layers=28, heads=28, kv=4, inner=18944, vocab=152064, tied=False)),
}


def build_network(shape: Shape, dtype: torch.dtype, device: torch.device) -> LlavaOnevision:
    """Our network in this shape, with seeded random weights."""
    config = Config.of(shaped_config(shape))
    network = weights.empty(config)
    generator = torch.Generator(device).manual_seed(0)
    for name, value in list(network.named_parameters()):
        fresh = torch.ones(value.shape, dtype=dtype, device=device)
        if not ("norm" in name and name.endswith("weight")):
            fresh.normal_(0.0, shape.std, generator=generator)
        _put(network, name, fresh)
    network.tie()
    network.model.language_model.rotary_emb.to(device)
    return network.eval().requires_grad_(False)


def build_backend(shape: Shape, dtype: torch.dtype, device: torch.device) -> LlavaOnevisionBackend:
    """Our backend around such a network, with the stored checkpoint's tokenizer and geometry."""
    return LlavaOnevisionBackend(build_network(shape, dtype, device).fuse(), *dialogue(), stored_geometry())


def empty_network(config: Config, dtype: torch.dtype = torch.float32) -> LlavaOnevision:
    """The network with shapes and no memory."""
    network = weights.empty(config)
    for name, value in list(network.named_parameters()):
        _put(network, name, value.to(dtype))
    network.tie()
    return network


def as_transformers(network: LlavaOnevision) -> Any:
    """A `LlavaOnevisionForConditionalGeneration` with the same weights, shared, that never stops generating early."""
    from accelerate import init_empty_weights
    from transformers import LlavaOnevisionConfig, LlavaOnevisionForConditionalGeneration

    ours = dict(network.named_parameters(remove_duplicate=False))
    like = network.model.image_newline
    with init_empty_weights(include_buffers=False):
        theirs = LlavaOnevisionForConditionalGeneration(LlavaOnevisionConfig(**network.config.raw))
    for name, value in list(theirs.named_parameters(remove_duplicate=False)):
        mine = ours.get(weights.published(name))
        _put(theirs, name, torch.zeros(value.shape).to(like) if mine is None else mine.data)
    for name, value in list(theirs.named_buffers()):
        path, _, leaf = name.rpartition(".")
        theirs.get_submodule(path).register_buffer(leaf, value.to(like.device), persistent=False)
    theirs.generation_config.eos_token_id = None
    theirs.generation_config.pad_token_id = 0
    return theirs.eval()


def save_checkpoint(shape: Shape, dtype: torch.dtype, folder: Path) -> Path:
    """Such a network as a checkpoint folder, for who can only load one.

    Args:
        shape: Its sizes.
        dtype: Of the weights.
        folder: Is made; the tokenizer and the settings are those of `CHECKPOINT`.
    """
    from safetensors.torch import save_file

    raw = shaped_config(shape)
    shutil.copytree(CHECKPOINT, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    (folder / "config.json").write_text(json.dumps(raw, indent=1), encoding="utf-8")
    found = build_network(shape, dtype, torch.device("cpu")).state_dict()
    if raw["tie_word_embeddings"]:
        del found["lm_head.weight"]
    save_file(found, folder / "model.safetensors", {"format": "pt"})
    return folder


def shaped_config(shape: Shape) -> dict[str, Any]:
    """The content of a shape's config.json; such a model never stops generating early."""
    raw = stored("config.json")
    vision, text = {**raw["vision_config"], **shape.vision}, {**raw["text_config"], **shape.text}
    text["eos_token_id"] = None
    tied = bool(text["tie_word_embeddings"])
    return {**raw, "vision_config": vision, "text_config": text, "tie_word_embeddings": tied}


def stored(name: str) -> dict[str, Any]:
    """A JSON file of the stored checkpoint."""
    content: dict[str, Any] = json.loads((CHECKPOINT / name).read_text(encoding="utf-8"))
    return content


def stored_geometry() -> Geometry:
    """Its tile geometry."""
    return load_geometry(CHECKPOINT)


def dialogue() -> tuple[Tokenizer, str]:
    """Its tokenizer and chat template."""
    return load_tokenizer(CHECKPOINT, None)


def _put(model: nn.Module, name: str, value: torch.Tensor) -> None:
    path, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(path), leaf, nn.Parameter(value, requires_grad=False))
