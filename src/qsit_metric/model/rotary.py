"""Rotary positions: the frequencies of each kind that a Qwen2 config can ask for.

Sources: RoPE, arXiv 2104.09864; YaRN, arXiv 2309.00071; the `llama3` scaling of Llama 3.1. The settings' names and
defaults are those of transformers' `modeling_rope_utils`, against which the numbers are tested.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from .config import Rope


def frequencies(rope: Rope, head: int) -> tuple[torch.Tensor, float]:
    """Inverse frequencies of a head, and what the cosines and sines are multiplied with.

    Args:
        rope: Kind and settings.
        head: Width of an attention head, even.

    Returns:
        (head / 2,) float32, and the factor.

    Example:
        >>> frequencies(Rope(theta=100.0), 4)
        (tensor([1.0000, 0.1000]), 1.0)
    """
    plain = 1.0 / (rope.theta ** (torch.arange(0, head, 2, dtype=torch.float32, device="cpu") / head))
    if rope.kind == "default":
        return plain, 1.0
    if rope.kind == "linear":
        return plain / rope.settings["factor"], 1.0
    return _llama3(plain, rope.settings) if rope.kind == "llama3" else _yarn(plain, rope, head)


def _llama3(plain: torch.Tensor, settings: Mapping[str, Any]) -> tuple[torch.Tensor, float]:
    """Long waves are stretched, short ones kept, those between blended."""
    low, high = settings["low_freq_factor"], settings["high_freq_factor"]
    length = settings["original_max_position_embeddings"]
    waves = 2 * math.pi / plain
    stretched = torch.where(waves > length / low, plain / settings["factor"], plain)
    share = (length / waves - low) / (high - low)
    blended = (1 - share) * stretched / settings["factor"] + share * stretched
    between = ~(waves < length / high) & ~(waves > length / low)
    return torch.where(between, blended, stretched), 1.0


def _yarn(plain: torch.Tensor, rope: Rope, head: int) -> tuple[torch.Tensor, float]:
    """A ramp from kept to stretched waves, by how often each turns within the trained length."""
    settings = rope.settings
    length = settings["original_max_position_embeddings"]

    def place(turns: float) -> float:
        return head * math.log(length / (turns * 2 * math.pi)) / (2 * math.log(rope.theta))

    low, high = place(settings.get("beta_fast") or 32), place(settings.get("beta_slow") or 1)
    if settings.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, head - 1)
    ramp = ((torch.arange(head // 2, dtype=torch.float32, device="cpu") - low) / (high - low or 0.001)).clamp(0, 1)
    return plain / settings["factor"] * ramp + plain * (1 - ramp), _yarn_scale(settings)


def _yarn_scale(settings: Mapping[str, Any]) -> float:
    def scale(weight: float) -> float:
        factor = settings["factor"]
        return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1.0

    if settings.get("attention_factor") is not None:
        return float(settings["attention_factor"])
    if settings.get("mscale") and settings.get("mscale_all_dim"):
        return scale(settings["mscale"]) / scale(settings["mscale_all_dim"])
    return scale(1)
