"""LLaVA-OneVision as plain modules: a SigLIP tower, a two-layer projector and a Qwen2 decoder.

Modules carry the published names (`model.vision_tower`, `model.language_model.layers.0.mlp.up_proj`, `lm_head`), so
device maps, adapters and exports find what they look for. The decoder reads tokens in one flat sequence; what belongs
together, what may look at what and what is remembered is the affair of a `Reading` (`reading.py`).

Papers: LLaVA-OneVision, arXiv 2408.03326; SigLIP, arXiv 2303.15343; Qwen2, arXiv 2407.10671.
Reference that it follows number for number: transformers 4.45.0, `modeling_{llava_onevision,siglip,qwen2}.py`
(Apache-2.0). Deviations: the tower stops at the layer whose state is read; the decoder's last layer computes no more
than the places that are asked for; each attention may keep its projections as one matrix (`fuse`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from . import products
from .config import Config, Text, Vision
from .layers import Compilable, Conv2d, Embedding, Fusable, Linear, through
from .rotary import frequencies


class Reading(Protocol):
    """How a flat sequence of tokens is read by the decoder.

    Attributes:
        positions: (T,) each token's position in its own text.
        wanted: (W,) places whose hidden states are asked for; None for all.
    """

    positions: torch.Tensor
    wanted: torch.Tensor | None

    def attend(
        self, layer: int, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, dropout: float
    ) -> torch.Tensor:
        """Attention of one layer.

        Args:
            layer: Its number.
            queries: (T, heads, head); in the last layer (W, heads, head).
            keys: (T, groups, head).
            values: (T, groups, head).
            dropout: Share of attention weights that training drops.

        Returns:
            As `queries`, heads flattened: (T or W, heads * head).
        """


class VisionAttention(Fusable):
    """Self-attention among the patches of a tile."""

    siblings = ("q_proj", "k_proj", "v_proj")

    def __init__(self, config: Vision) -> None:
        super().__init__()
        self.k_proj = Linear(config.hidden, config.hidden)  # in the order in which optimizers of old runs know them
        self.v_proj = Linear(config.hidden, config.hidden)
        self.q_proj = Linear(config.hidden, config.hidden)
        self.out_proj = Linear(config.hidden, config.hidden)
        self.heads, self.dropout = config.heads, config.dropout

    def forward(self, x: torch.Tensor, plus: torch.Tensor) -> torch.Tensor:
        """(tiles, patches, hidden) -> the same, added to `plus`."""
        return self.close(self.attend(self.project(x)), plus)

    def attend(self, parts: Sequence[torch.Tensor]) -> torch.Tensor:
        """Queries, keys and values, (tiles, patches, hidden) each -> (tiles, patches, hidden)."""
        split = (*parts[0].shape[:2], self.heads, -1)
        q, k, v = (part.view(split).transpose(1, 2) for part in parts)
        return products.attention(q, k, v, self.dropout if self.training else 0.0, causal=False)

    def close(self, seen: torch.Tensor, plus: torch.Tensor) -> torch.Tensor:
        """What `attend` gave, (..., hidden) -> the same, added to `plus`."""
        return through(self.out_proj, seen, plus=plus)


class VisionMLP(nn.Module):
    """Two layers around an activation."""

    def __init__(self, config: Vision) -> None:
        super().__init__()
        self.fc1 = Linear(config.hidden, config.inner)
        self.fc2 = Linear(config.inner, config.hidden)
        self.act = config.act

    def forward(self, x: torch.Tensor, plus: torch.Tensor) -> torch.Tensor:
        """(..., hidden) -> the same, added to `plus`."""
        return through(self.fc2, through(self.fc1, x, self.act), plus=plus)


class VisionLayer(Compilable):
    """Attention, then a feed-forward part, each behind a norm and beside a shortcut."""

    def __init__(self, config: Vision) -> None:
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(config.hidden, eps=config.eps)
        self.self_attn = VisionAttention(config)
        self.layer_norm2 = nn.LayerNorm(config.hidden, eps=config.eps)
        self.mlp = VisionMLP(config)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(tiles, patches, hidden) -> the same."""
        x = self.self_attn(self.layer_norm1(x), x)
        return self.mlp(self.layer_norm2(x), x)  # type: ignore[no-any-return]


class VisionEmbeddings(nn.Module):
    """Patches as tokens, with learned positions."""

    def __init__(self, config: Vision) -> None:
        super().__init__()
        self.patch_embedding = Conv2d(3, config.hidden, config.patch, stride=config.patch)
        self.position_embedding = Embedding(config.positions, config.hidden)

    def forward(self, tiles: torch.Tensor) -> torch.Tensor:
        """(tiles, 3, side, side) -> (tiles, patches, hidden)."""
        patches = self.patch_embedding(tiles).flatten(2).transpose(1, 2)
        places = torch.arange(patches.shape[1], device=patches.device)
        return patches + self.position_embedding(places)  # type: ignore[no-any-return]


class VisionEncoder(nn.Module):
    """The stack of layers."""

    def __init__(self, config: Vision) -> None:
        super().__init__()
        self.layers = nn.ModuleList([VisionLayer(config) for _ in range(config.layers)])

    def forward(self, x: torch.Tensor, depth: int, recompute: bool = False) -> torch.Tensor:
        """(tiles, patches, hidden) -> the same, behind `depth` layers."""
        for layer in self.layers[:depth]:
            x = _run(layer, recompute, x)
        return x


class VisionModel(nn.Module):
    """SigLIP without its pooling head; the post-norm is carried along, and not read."""

    def __init__(self, config: Vision) -> None:
        super().__init__()
        self.embeddings = VisionEmbeddings(config)
        self.encoder = VisionEncoder(config)
        self.post_layernorm = nn.LayerNorm(config.hidden, eps=config.eps)


class VisionTower(nn.Module):
    """The vision tower under its published name."""

    def __init__(self, config: Vision) -> None:
        super().__init__()
        self.vision_model = VisionModel(config)

    def forward(self, tiles: torch.Tensor, depth: int, recompute: bool = False) -> torch.Tensor:
        """The state behind `depth` layers.

        Args:
            tiles: (tiles, 3, side, side), normalised, in the model's type.
            depth: Layers to run; 0 gives the embeddings.
            recompute: Keep each layer's input only and compute the rest again in the backward pass.

        Returns:
            (tiles, patches, hidden).
        """
        inner = self.vision_model
        return inner.encoder(inner.embeddings(tiles), depth, recompute)  # type: ignore[no-any-return]


class Projector(nn.Module):
    """From the tower's width to the decoder's."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.linear_1 = Linear(config.vision.hidden, config.text.hidden, bias=config.bias)
        self.linear_2 = Linear(config.text.hidden, config.text.hidden, bias=config.bias)
        self.act = config.act

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., tower's hidden) -> (..., decoder's hidden)."""
        return through(self.linear_2, through(self.linear_1, x, self.act))


class RMSNorm(nn.Module):
    """Root-mean-square norm, computed in float32 (float64 stays)."""

    def __init__(self, hidden: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden))
        self.eps = eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., hidden) -> the same."""
        wide = x if x.dtype == torch.float64 else x.float()
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps)
        return self.weight * wide.to(x.dtype)


class Rotary(nn.Module):
    """Cosines and sines of positions; the frequencies stay in float32 whatever the model's type."""

    inv_freq: torch.Tensor

    def __init__(self, config: Text) -> None:
        super().__init__()
        found, self.factor = frequencies(config.rope, config.head)
        self.register_buffer("inv_freq", found, persistent=False)

    def forward(self, positions: torch.Tensor, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(T,) positions -> two (T, 1, head / 2) in the type of `like`."""
        angles = (positions[:, None].float() * self.inv_freq.float().to(positions.device))[:, None]
        cos, sin = angles.cos() * self.factor, angles.sin() * self.factor
        return cos.to(like), sin.to(like)


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Turn (T, heads, head) by (T, 1, head / 2) angles; the halves of a head are the two coordinates."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


class TextAttention(Fusable):
    """Grouped-query attention with rotary positions."""

    siblings = ("q_proj", "k_proj", "v_proj")

    def __init__(self, config: Text, index: int) -> None:
        super().__init__()
        wide, narrow = config.heads * config.head, config.groups * config.head
        self.q_proj = Linear(config.hidden, wide)
        self.k_proj = Linear(config.hidden, narrow)
        self.v_proj = Linear(config.hidden, narrow)
        self.o_proj = Linear(wide, config.hidden, bias=False)
        self.index, self.head, self.dropout = index, config.head, config.dropout

    def forward(
        self,
        x: torch.Tensor,
        plus: torch.Tensor,
        cos: torch.Tensor,
        sin: torch.Tensor,
        reading: Reading,
        wanted: torch.Tensor | None,
    ) -> torch.Tensor:
        """(T, hidden) -> (T or W, hidden), added to `plus`."""
        q, k, v = self.split(x)
        k = rotate(k, cos, sin)
        q = rotate(q, cos, sin) if wanted is None else rotate(q[wanted], cos[wanted], sin[wanted])
        seen = reading.attend(self.index, q, k, v, self.dropout if self.training else 0.0)
        return self.close(seen, plus) if len(plus) else plus

    def split(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """(T, hidden) -> queries (T, heads, head), keys and values (T, groups, head), not yet turned."""
        return tuple(part.view(len(x), -1, self.head) for part in self.project(x))

    def close(self, seen: torch.Tensor, plus: torch.Tensor) -> torch.Tensor:
        """What attention gave, (T, heads * head) -> (T, hidden), added to `plus`."""
        return through(self.o_proj, seen, plus=plus)


class TextMLP(nn.Module):
    """Gated feed-forward part."""

    def __init__(self, config: Text) -> None:
        super().__init__()
        self.gate_proj = Linear(config.hidden, config.inner, bias=False)
        self.up_proj = Linear(config.hidden, config.inner, bias=False)
        self.down_proj = Linear(config.inner, config.hidden, bias=False)
        self.act = config.act

    def forward(self, x: torch.Tensor, plus: torch.Tensor) -> torch.Tensor:
        """(T, hidden) -> the same, added to `plus`."""
        gate = through(self.gate_proj, x, self.act)
        return through(self.down_proj, through(self.up_proj, x, times=gate), plus=plus)


class TextLayer(Compilable):
    """Attention, then a feed-forward part, each behind a norm and beside a shortcut."""

    def __init__(self, config: Text, index: int) -> None:
        super().__init__()
        self.self_attn = TextAttention(config, index)
        self.mlp = TextMLP(config)
        self.input_layernorm = RMSNorm(config.hidden, config.eps)
        self.post_attention_layernorm = RMSNorm(config.hidden, config.eps)

    def forward(
        self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, reading: Reading, wanted: torch.Tensor | None
    ) -> torch.Tensor:
        """(T, hidden) -> (T, hidden); with `wanted` only those places, (W, hidden)."""
        kept = x if wanted is None else x[wanted]
        x = self.self_attn(self.input_layernorm(x), kept, cos, sin, reading, wanted)
        if not len(x):  # only keys and values were wanted; quantised layers cannot do nothing
            return x
        return self.mlp(self.post_attention_layernorm(x), x)  # type: ignore[no-any-return]


class Decoder(nn.Module):
    """Qwen2 without its head."""

    def __init__(self, config: Text) -> None:
        super().__init__()
        self.embed_tokens = Embedding(config.vocabulary, config.hidden)
        self.layers = nn.ModuleList([TextLayer(config, index) for index in range(config.layers)])
        self.norm = RMSNorm(config.hidden, config.eps)
        self.rotary_emb = Rotary(config)

    def forward(self, embedded: torch.Tensor, reading: Reading, recompute: bool = False) -> torch.Tensor:
        """Read a sequence.

        Args:
            embedded: (T, hidden), all texts one behind the other.
            reading: Which tokens belong together, and which places are asked for.
            recompute: See `VisionTower.forward`.

        Returns:
            (T, hidden), or (W, hidden) for the `reading.wanted` places: the last hidden states, behind the norm.
        """
        cos, sin = self.rotary_emb(reading.positions, embedded)
        x, last = embedded, len(self.layers) - 1
        for index, layer in enumerate(self.layers):
            x = _run(layer, recompute, x, cos, sin, reading, reading.wanted if index == last else None)
        return self.norm(x)  # type: ignore[no-any-return]


class Core(nn.Module):
    """Everything but the head, under its published name `model`."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.vision_tower = VisionTower(config.vision)
        self.multi_modal_projector = Projector(config)
        self.image_newline = nn.Parameter(torch.zeros(config.text.hidden))
        self.language_model = Decoder(config.text)


class LlavaOnevision(nn.Module):
    """The whole network.

    Args:
        config: Its shape.

    Attributes:
        model: Tower, projector, newline embedding and decoder.
        lm_head: From hidden states to words; the embedding itself where the config ties them.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.model = Core(config)
        self.lm_head = Linear(config.text.hidden, config.text.vocabulary, bias=False)
        self.tie()

    def tie(self) -> None:
        """Make the head the embedding again where the config ties them."""
        if self.config.tied:
            self.lm_head.weight = self.model.language_model.embed_tokens.weight

    def get_input_embeddings(self) -> nn.Embedding:
        """The embedding of words; under the name that adapters and device maps ask for."""
        return self.model.language_model.embed_tokens

    def get_output_embeddings(self) -> nn.Linear:
        """The head."""
        return self.lm_head

    def states(self, tiles: torch.Tensor, recompute: bool = False) -> torch.Tensor:
        """What the projector reads of tiles.

        Args:
            tiles: (tiles, 3, side, side), normalised, in the model's type.
            recompute: See `VisionTower.forward`.

        Returns:
            (tiles, patches, tower's hidden).
        """
        return self.model.vision_tower(tiles, self.config.depth, recompute)  # type: ignore[no-any-return]

    def fuse(self) -> LlavaOnevision:
        """Lay sibling projections out as one matrix each, for inference; see `layers.Fusable`."""
        for module in self.modules():
            if isinstance(module, Fusable):
                module.fuse()
        return self

    @property
    def fused(self) -> bool:
        """Whether any projections are laid out so."""
        return any(isinstance(module, Fusable) and module._fused is not None for module in self.modules())


def _run(layer: nn.Module, recompute: bool, *args: Any) -> torch.Tensor:
    """A layer, or one whose backward pass starts again from its input."""
    if recompute and torch.is_grad_enabled():
        # Nothing is random while scoring, so the generators' states need not be kept; training says otherwise.
        found: torch.Tensor = checkpoint(layer, *args, use_reentrant=False, preserve_rng_state=layer.training)
        return found
    compiled = getattr(layer, "compiled", None)
    return layer(*args) if compiled is None or torch.is_grad_enabled() else compiled(layer, *args)  # type: ignore[no-any-return]
