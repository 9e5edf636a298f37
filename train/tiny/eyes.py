"""Drawn and degraded crops, from which the bases' towers learn to see. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ..nano.tower import Tiles
from .pictures import DEGRADATIONS, degrade, draw

_KINDS = tuple(DEGRADATIONS)
_PHASE = 8  # crops begin at multiples of it, as JPEG's blocks and the model's tiles do


@dataclass(frozen=True, eq=False)
class Crops:
    """Crops in memory; a `train.nano.tower.Source`. The last tenth is held out.

    Attributes:
        tiles: Two crops of each picture; what is told of them is the strength of the degradation.
    """

    tiles: Tiles
    kinds: int = len(_KINDS)
    values: int = 1

    @property
    def learned(self) -> int:
        """Crops that are learned from; both crops of a picture are, or neither."""
        return len(self.tiles.kinds) - 2 * max(len(self.tiles.kinds) // 20, 1)

    def draw(self, count: int, rng: np.random.Generator) -> Tiles:
        """See `Source.draw`."""
        picks = torch.from_numpy(rng.integers(0, self.learned, count))
        return Tiles(*(part[picks] for part in self.tiles))

    def held_out(self) -> Tiles:
        """See `Source.held_out`."""
        return Tiles(*(part[self.learned :] for part in self.tiles))


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
            crop = np.round(picture[top : top + tile, left : left + tile] * 255).astype(np.uint8)
            pixels.append(torch.from_numpy(crop).permute(2, 0, 1))
            kinds.append(kind)
            strengths.append(strength)
    places = torch.arange(count // 2).repeat_interleave(2)
    return Crops(Tiles(torch.stack(pixels), torch.tensor(kinds), torch.tensor(strengths).unsqueeze(1), places))
