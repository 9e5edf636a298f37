"""What a LLaVA-OneVision checkpoint says beside its weights: config, tokenizer, chat template, processor settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import CheckpointError
from ..pixels.geometry import Geometry
from .dialogue import IMAGE
from .files import read_json
from .template import load_template
from .tokenizer import Tokenizer

FAMILY = "llava_onevision"  # `model_type` in config.json


def load_geometry(folder: Path) -> Geometry:
    """Tile geometry and pixel scaling, from three files that must agree.

    Raises:
        CheckpointError: A field is missing or unsupported, or the files contradict each other.
    """
    processor = read_json(folder, "processor_config.json")
    settings = read_json(folder, "preprocessor_config.json") or processor.get("image_processor", {})
    geometry = Geometry.from_configs(read_json(folder, "config.json"), settings)
    _check_processor(processor, geometry)
    return geometry


def load_config(folder: Path) -> Any:
    """The model's config, freed of two traps.

    Files of 4.45 keep the tie of the 0.5B head in the text part only, where 4.57 overlooks it. And sliding windows, if
    a file asks for them, were never applied by the authors' release with this attention, so they are not here.

    Raises:
        CheckpointError: The config is of another family, or selects vision features in a way that Q-SiT does not.
    """
    from transformers import LlavaOnevisionConfig

    raw = read_json(folder, "config.json")
    if raw.get("model_type") != FAMILY:
        raise CheckpointError.about(
            "model_type", raw.get("model_type"), "'llava_onevision'", "Try backend='transformers'."
        )
    try:
        config = LlavaOnevisionConfig.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # validators of transformers 5 raise types of their own
        raise CheckpointError.about(
            "model", str(folder / "config.json"), "a LLaVA-OneVision config", str(error)
        ) from error
    if config.vision_feature_select_strategy != "full":
        strategy = config.vision_feature_select_strategy
        raise CheckpointError.about("vision_feature_select_strategy", strategy, "'full'")
    if not isinstance(config.vision_feature_layer, int):
        raise CheckpointError.about("vision_feature_layer", config.vision_feature_layer, "one layer")
    config.tie_word_embeddings = bool(config.text_config.tie_word_embeddings or config.tie_word_embeddings)
    config.text_config.tie_word_embeddings = config.tie_word_embeddings
    config.text_config.use_sliding_window = False
    config.text_config.sliding_window = None
    config.text_config.layer_types = ["full_attention"] * config.text_config.num_hidden_layers
    return config


def load_tokenizer(folder: Path, template: str | None) -> tuple[Tokenizer, str]:
    """The tokenizer and the chat template that travels with the checkpoint, or another in its place.

    Raises:
        CheckpointError: The tokenizer cannot be built, or there is no chat template.
    """
    return Tokenizer.load(folder), template or load_template(folder)


def _check_processor(processor: dict[str, Any], geometry: Geometry) -> None:
    """Refuse processor settings that contradict the model's geometry."""
    expected = {
        "num_image_tokens": geometry.side**2,
        "vision_feature_select_strategy": "full",
        "vision_aspect_ratio": f"anyres_max_{geometry.max_tiles}",
        "image_token": IMAGE,
    }
    for field, value in expected.items():
        if processor.get(field, value) != value:
            raise CheckpointError.about(field, processor[field], f"{value!r}, as config.json implies")
