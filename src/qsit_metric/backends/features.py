"""From tiles to image features: what scoring and training have in common."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..model.network import LlavaOnevision
from ..pixels.geometry import Geometry
from ..pixels.tiles import Plan, normalise, pack


def image_features(
    model: LlavaOnevision,
    tiles: Sequence[torch.Tensor],
    plans: Sequence[Plan],
    geometry: Geometry,
    at_once: int,
    recompute: bool = False,
) -> list[torch.Tensor]:
    """Encode tiles and put each picture's features in the order in which the decoder reads them.

    Args:
        model: The network.
        tiles: Each picture's (plan.tiles, 3, tile, tile), 0..255, on the tower's device. Equal ones are encoded once.
        plans: One for each picture.
        geometry: How pixels are scaled.
        at_once: Tiles that the tower takes at once.
        recompute: Keep each layer's input only and compute the rest again in the backward pass.

    Returns:
        One (plan.tokens, hidden) for each picture.
    """
    distinct = [own[:1] if layout.single else own for own, layout in zip(tiles, plans, strict=True)]
    dtype = model.model.image_newline.dtype
    # Scaled piece by piece: all tiles of a batch in floating point are four times what they are in bytes.
    pieces = (normalise(piece, geometry).to(dtype) for piece in torch.split(torch.cat(distinct), at_once))
    features = torch.cat([model.model.multi_modal_projector(model.states(piece, recompute)) for piece in pieces])
    parts = torch.split(features, [len(own) for own in distinct])
    whole = (part.expand(layout.tiles, -1, -1) for part, layout in zip(parts, plans, strict=True))
    return [pack(part, layout, model.model.image_newline) for part, layout in zip(whole, plans, strict=True)]


def projected(model: LlavaOnevision, states: Sequence[torch.Tensor], plans: Sequence[Plan]) -> list[torch.Tensor]:
    """The features of pictures whose tiles the tower has seen.

    Args:
        model: The network.
        states: What `model.states` gave for all pictures' tiles, in pieces.
        plans: One for each picture.

    Returns:
        One (plan.tokens, hidden) for each picture.
    """
    features = torch.cat([model.model.multi_modal_projector(piece) for piece in states])
    parts = torch.split(features, [layout.tiles for layout in plans])
    return [pack(part, layout, model.model.image_newline) for part, layout in zip(parts, plans, strict=True)]
