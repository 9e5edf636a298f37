"""From tiles to image features, with transformers' neural modules; what scoring and training have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ..pixels.tiles import Plan, pack


def tower_states(model: Any, tiles: torch.Tensor) -> Any:
    """The hidden state of the vision tower that the projector reads.

    Args:
        model: `LlavaOnevisionForConditionalGeneration`.
        tiles: (tiles, 3, tile, tile), normalised, in the model's type.

    Returns:
        (tiles, side * side, D).
    """
    config, tower = model.config, model.model.vision_tower
    layer = config.vision_feature_layer
    core = getattr(tower, "vision_model", tower)  # transformers 4 wraps the SigLIP encoder once more
    if layer == -1 and config.vision_config.model_type == "siglip_vision_model":
        # Without the post-norm, whose output the model does not read, and without keeping every layer's states.
        return core.encoder(inputs_embeds=core.embeddings(tiles)).last_hidden_state
    return tower(tiles, output_hidden_states=True).hidden_states[layer]


def image_features(
    model: Any, tiles: Sequence[torch.Tensor], plans: Sequence[Plan], at_once: int
) -> list[torch.Tensor]:
    """Encode tiles and put each picture's features in the order in which the language model reads them.

    Args:
        model: `LlavaOnevisionForConditionalGeneration`.
        tiles: Each picture's (plan.tiles, 3, tile, tile), normalised, in the model's type. Equal ones are encoded once.
        plans: One for each picture.
        at_once: Tiles that the tower takes at once.

    Returns:
        One (plan.tokens, D) for each picture.
    """
    core = model.model
    distinct = [own[:1] if layout.single else own for own, layout in zip(tiles, plans, strict=True)]
    pieces = torch.split(torch.cat(distinct), at_once)
    features = torch.cat([core.multi_modal_projector(tower_states(model, piece)) for piece in pieces])
    parts = torch.split(features, [len(own) for own in distinct])
    whole = (part.expand(layout.tiles, -1, -1) for part, layout in zip(parts, plans, strict=True))
    return [pack(part, layout, core.image_newline) for part, layout in zip(whole, plans, strict=True)]


def projected(model: Any, states: Sequence[torch.Tensor], plans: Sequence[Plan]) -> list[torch.Tensor]:
    """The features of pictures whose tiles the tower has seen.

    Args:
        model: `LlavaOnevisionForConditionalGeneration`.
        states: What `tower_states` gave for all pictures' tiles, in pieces.
        plans: One for each picture.

    Returns:
        One (plan.tokens, D) for each picture.
    """
    core = model.model
    features = torch.cat([core.multi_modal_projector(piece) for piece in states])
    parts = torch.split(features, [layout.tiles for layout in plans])
    return [pack(part, layout, core.image_newline) for part, layout in zip(parts, plans, strict=True)]
