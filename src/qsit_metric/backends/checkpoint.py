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
