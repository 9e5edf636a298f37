"""Models of the published shapes with random weights, built in memory: speed does not depend on the values."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from qsit_metric.backends.checkpoint import load_tokenizer
from qsit_metric.backends.llava_onevision import LlavaOnevisionBackend
from qsit_metric.backends.tokenizer import Tokenizer
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


def build_backend(shape: Shape, dtype: torch.dtype, device: torch.device) -> LlavaOnevisionBackend:
    """Our backend around a random model of this shape, with the stored checkpoint's tokenizer and geometry."""
    model = build_model(stored("config.json"), shape, dtype, device)
    return LlavaOnevisionBackend(model, *dialogue(), stored_geometry())


def save_checkpoint(shape: Shape, dtype: torch.dtype, folder: Path) -> Path:
    """A random model of this shape as a checkpoint folder, for who can only load one.

    Args:
        shape: Its sizes.
        dtype: Of the weights.
        folder: Is made; the tokenizer and the settings are those of `CHECKPOINT`.
    """
    from safetensors.torch import save_file

    raw = shaped_config(stored("config.json"), shape)
    shutil.copytree(CHECKPOINT, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    (folder / "config.json").write_text(json.dumps(raw, indent=1), encoding="utf-8")
    weights = build_model(stored("config.json"), shape, dtype, torch.device("cpu")).state_dict()
    if raw["tie_word_embeddings"]:
        del weights["lm_head.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


def stored(name: str) -> dict[str, Any]:
    """A JSON file of the stored checkpoint."""
    content: dict[str, Any] = json.loads((CHECKPOINT / name).read_text(encoding="utf-8"))
    return content


def stored_geometry() -> Geometry:
    """Its tile geometry."""
    return Geometry.from_configs(stored("config.json"), stored("preprocessor_config.json"))


def dialogue() -> tuple[Tokenizer, str]:
    """Its tokenizer and chat template."""
    return load_tokenizer(CHECKPOINT, None)


def build_model(raw: dict[str, Any], shape: Shape, dtype: torch.dtype, device: torch.device) -> Any:
    """A `LlavaOnevisionForConditionalGeneration` with seeded random weights that never stops generating early."""
    config = model_config(raw, shape)
    model = planned_model(config, dtype)
    give_room(model, device)
    _fill_parameters(model, shape.std)
    _fill_buffers(model, config, device)
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0
    return model.eval().requires_grad_(False)


def planned_model(config: Any, dtype: torch.dtype) -> Any:
    """A `LlavaOnevisionForConditionalGeneration` on the "meta" device: every shape, and no weights yet."""
    from transformers import LlavaOnevisionForConditionalGeneration

    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device("meta"):
            return LlavaOnevisionForConditionalGeneration(config)
    finally:
        torch.set_default_dtype(before)


def give_room(model: Any, device: torch.device) -> None:
    """Memory for the weights of a planned model, not set yet; in a `FakeTensorMode` it is none."""
    model.to_empty(device=device)
    if model.config.tie_word_embeddings:
        model.lm_head.weight = model.get_input_embeddings().weight


def model_config(raw: dict[str, Any], shape: Shape) -> Any:
    """The `LlavaOnevisionConfig` of a shape."""
    from transformers import LlavaOnevisionConfig

    return LlavaOnevisionConfig(**shaped_config(raw, shape))


def shaped_config(raw: dict[str, Any], shape: Shape) -> dict[str, Any]:
    """The content of a shape's config.json; such a model never stops generating early."""
    vision, text = {**raw["vision_config"], **shape.vision}, {**raw["text_config"], **shape.text}
    text["eos_token_id"] = None
    tied = bool(text["tie_word_embeddings"])
    return {**raw, "vision_config": vision, "text_config": text, "tie_word_embeddings": tied}


def _fill_parameters(model: nn.Module, std: float) -> None:
    """Small normal numbers; ones for the scales of norms."""
    generator = torch.Generator(next(model.parameters()).device).manual_seed(0)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "norm" in name and name.endswith("weight"):
                value.fill_(1.0)
            else:
                value.normal_(0.0, std, generator=generator)


def _fill_buffers(model: Any, config: Any, device: torch.device) -> None:
    """Tables that no checkpoint holds and that `to_empty` left unset.

    Raises:
        RuntimeError: This transformers has a table that is not known here.
    """
    rotary = model.model.language_model.rotary_emb
    fresh = dict(type(rotary)(config=config.text_config).named_buffers())
    for name, value in model.named_buffers():
        leaf = name.rpartition(".")[2]
        if leaf == "position_ids":
            value.copy_(torch.arange(value.shape[-1]).expand_as(value))
        elif "rotary_emb" in name and leaf in fresh:
            _owner(model, name).register_buffer(leaf, fresh[leaf].to(device), persistent=False)
        else:
            raise RuntimeError(f"unknown buffer {name!r}: it would be left unset")


def _owner(model: nn.Module, name: str) -> nn.Module:
    return model.get_submodule(name.rpartition(".")[0])
