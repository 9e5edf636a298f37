"""Sizes of a model, counted on the meta device; what `train.memory` computes with. No weights are read or made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from qsit_metric import catalog
from qsit_metric.backends.checkpoint import load_config

from .errors import RecipeError

_VISION = {"hidden": 1152, "layers": 26, "inner": 4304}
_PATCHES = 729


@dataclass(frozen=True)
class Tower:
    """A stack of equal layers.

    Attributes:
        layers: How many.
        hidden: Width of the residual stream.
        inner: Width inside the MLP.
        keys: Width of the keys, and of the values.
        layer_weights: Weights of one layer.
        weights: Weights of all layers and the norms around them; embeddings of words not counted.
    """

    layers: int
    hidden: int
    inner: int
    keys: int
    layer_weights: int
    weights: int


@dataclass(frozen=True)
class Shape:
    """What the memory depends on; counted from a model that is built without storage.

    Attributes:
        vision: The vision tower.
        text: The language model without its embedding and head.
        projector: Weights of the projector and the image newline.
        words: Weights of the embedding and the head; tied ones count once.
        vocabulary: Words.
        patches: Features of one tile.
    """

    vision: Tower
    text: Tower
    projector: int
    words: int
    vocabulary: int
    patches: int = _PATCHES

    @property
    def weights(self) -> int:
        """All weights."""
        return self.vision.weights + self.text.weights + self.projector + self.words


def shape_of(base: str) -> Shape:
    """The shape of a base checkpoint: one of the published sizes, or a folder's own config; no weights are read.

    Raises:
        RecipeError: Neither.
        CheckpointError: A folder without a LLaVA-OneVision config.
    """
    if (Path(base) / "config.json").is_file():
        return count(load_config(Path(base)))
    record = catalog.find(base.partition("@")[0])
    name = (record.name if record else base).lower()
    for size, words in (("0.5b", ("mini", "0.5b")), ("7b", ("7b", "q-sit"))):
        if any(word in name for word in words):
            return count(published(size))
    hint = "Download it and give its folder as model.base."
    raise RecipeError.about("model.base", base, "a folder, or a checkpoint of 0.5B or 7B", hint)


def published(size: str) -> Any:
    """The config of the published LLaVA-OneVision of a size, "0.5b" or "7b".

    Reference:
        config.json of llava-hf/llava-onevision-qwen2-0.5b-ov-hf and -7b-ov-hf.
    """
    from transformers import LlavaOnevisionConfig

    vision = {
        "model_type": "siglip_vision_model", "hidden_size": _VISION["hidden"], "num_attention_heads": 16,
        "num_hidden_layers": _VISION["layers"], "intermediate_size": _VISION["inner"], "image_size": 384,
        "patch_size": 14, "vision_use_head": False,
    }  # fmt: skip
    names = (
        "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "intermediate_size",
        "vocab_size", "tie_word_embeddings",
    )  # fmt: skip
    values = {"0.5b": (896, 24, 14, 2, 4864, 152000, True), "7b": (3584, 28, 28, 4, 18944, 152064, False)}[size]
    text = {"model_type": "qwen2", **dict(zip(names, values, strict=True))}
    return LlavaOnevisionConfig(vision_config=vision, text_config=text, tie_word_embeddings=values[-1])


def count(config: Any) -> Shape:
    """Count a model's weights exactly, on the meta device: nothing is allocated.

    Args:
        config: A `LlavaOnevisionConfig`.
    """
    from transformers import LlavaOnevisionForConditionalGeneration

    with torch.device("meta"):
        model = LlavaOnevisionForConditionalGeneration(config)
    sizes = {name: weight.numel() for name, weight in model.named_parameters()}
    vision, text = config.vision_config, config.text_config
    words = _sum(sizes, "embed_tokens") + _sum(sizes, "lm_head")
    projector = _sum(sizes, "multi_modal_projector") + _sum(sizes, "image_newline")
    tower = _sum(sizes, "vision_tower")
    seen = _tower(vision, tower, _sum(sizes, "encoder.layers.0."), vision.hidden_size)
    keys = text.hidden_size // text.num_attention_heads * text.num_key_value_heads
    rest = sum(sizes.values()) - words - projector - tower
    spoken = _tower(text, rest, _sum(sizes, "language_model.layers.0."), keys)
    patches = (vision.image_size // vision.patch_size) ** 2
    return Shape(seen, spoken, projector, words, text.vocab_size, patches)


def _tower(config: Any, weights: int, layer: int, keys: int) -> Tower:
    return Tower(config.num_hidden_layers, config.hidden_size, config.intermediate_size, keys, layer, weights)


def _sum(sizes: dict[str, int], part: str) -> int:
    return sum(size for name, size in sizes.items() if part in name)
