"""The base's first stage: the vision tower alone learns to tell degradations and their strength apart.

A published base brings a tower that has seen millions of pictures; an untrained one sees nothing, and a language model
on top of it learns answers by heart instead. On drawn crops, with a linear head that is thrown away, it takes seconds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn import functional

from .pictures import DEGRADATIONS, degrade, draw

_KINDS = tuple(DEGRADATIONS)
_PHASE = 8  # crops begin at multiples of it, as JPEG's blocks and the model's tiles do
_WEIGHT = 4.0  # of the strength's squared error beside the kind's cross-entropy; both are then of one size


class Crops(NamedTuple):
    """Degraded crops: (N, 3, tile, tile) in -1..1, (N,) index of the degradation, (N,) strength 0..1."""

    pixels: torch.Tensor
    kinds: torch.Tensor
    strengths: torch.Tensor


@dataclass(frozen=True)
class Seen:
    """What the tower can do on crops that it was not trained on.

    Attributes:
        accuracy: Share of degradations that are named rightly; a guess gives 1 / 5.
        srcc: Rank correlation of strength and its prediction.
    """

    accuracy: float
    srcc: float


def take_crops(count: int, tile: int, seed: int) -> Crops:
    """Cut crops out of freshly drawn and degraded pictures, two of each.

    Args:
        count: How many, an even number.
        tile: Their side in pixels, 64 at most.
        seed: Equal seeds give equal crops.
    """
    rng = np.random.default_rng([seed, 7])
    pixels, kinds, strengths = [], [], []
    for _ in range(count // 2):
        kind, strength = int(rng.integers(len(_KINDS))), float(rng.uniform())
        picture = degrade(draw(rng).pixels, _KINDS[kind], strength, rng)
        for _ in range(2):
            top, left = (_PHASE * rng.integers(0, (side - tile) // _PHASE + 1) for side in picture.shape[:2])
            crop = np.round(picture[top : top + tile, left : left + tile] * 255)
            pixels.append(torch.from_numpy(crop / 127.5 - 1).float().permute(2, 0, 1))
            kinds.append(kind)
            strengths.append(strength)
    return Crops(torch.stack(pixels), torch.tensor(kinds), torch.tensor(strengths))


def open_eyes(model: Any, crops: Crops, steps: int, seed: int, batch: int = 32, lr: float = 2e-3) -> Seen:
    """Train the vision tower of a model.

    Args:
        model: `LlavaOnevisionForConditionalGeneration` with an untrained SigLIP tower; trained in place.
        crops: The last tenth is held out.
        steps: Optimiser steps.
        seed: Of the order of crops and of the head.
        batch: Crops in a step.
        lr: Peak learning rate of AdamW.

    Returns:
        What the tower can do then.
    """
    tower = model.model.vision_tower
    core = getattr(tower, "vision_model", tower)  # transformers 4 wraps the SigLIP encoder once more
    head = _head(core.embeddings.patch_embedding.out_channels, seed)
    held = max(len(crops.kinds) // 10, 2)
    weights = [*core.embeddings.parameters(), *core.encoder.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(weights, betas=(0.9, 0.95), weight_decay=0.0)
    order = torch.Generator().manual_seed(seed)
    for step in range(steps):
        picks = torch.randint(0, len(crops.kinds) - held, (batch,), generator=order)
        for group in optimizer.param_groups:
            group["lr"] = lr * min(1.0, (step + 1) / 30) * (1 + math.cos(math.pi * step / steps)) / 2
        loss = _loss(_read(core, head, crops.pixels[picks]), crops.kinds[picks], crops.strengths[picks])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
    return _seen(core, head, Crops(*(part[-held:] for part in crops)))


def _head(width: int, seed: int) -> torch.nn.Linear:
    head = torch.nn.Linear(width, len(_KINDS) + 1)
    with torch.no_grad():
        head.weight.normal_(0.0, width**-0.5, generator=torch.Generator().manual_seed(seed))
        head.bias.zero_()
    return head


def _read(core: Any, head: torch.nn.Linear, pixels: torch.Tensor) -> torch.Tensor:
    """(N, kinds + 1) from the mean of the features that the language model will read."""
    states = core.encoder(inputs_embeds=core.embeddings(pixels)).last_hidden_state
    found: torch.Tensor = head(states.mean(dim=1))
    return found


def _loss(found: torch.Tensor, kinds: torch.Tensor, strengths: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(found[:, :-1], kinds) + _WEIGHT * functional.mse_loss(found[:, -1], strengths)


def _seen(core: Any, head: torch.nn.Linear, crops: Crops) -> Seen:
    from qsit_metric.evaluation import srcc

    with torch.inference_mode():
        found = _read(core, head, crops.pixels)
    accuracy = (found[:, :-1].argmax(dim=1) == crops.kinds).float().mean()
    return Seen(float(accuracy), srcc(found[:, -1].tolist(), crops.strengths.tolist()))
