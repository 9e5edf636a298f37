"""What one step of `QSiTLoss` costs, counted instead of measured: its tensors have a shape and no memory.

The model of a given shape stands on the meta device and runs forward and backward as it would on a GPU. Counted are:
- operations, by `torch.utils.flop_counter` (matrix products; a multiplication with its addition is two), those of
  recomputed layers included;
- what autograd keeps for the backward pass, each storage once, weights aside;
- the largest sum of all tensors that live at one time, weights aside. An allocator's rounding and reserve, what kernels
  work in and a CUDA context are not in it.

Attention is counted as the fused kernel, which keeps its inputs, its output and a number for each row. The keys of a
group of heads are repeated, as transformers does where the kernel cannot; where it can, a little less is kept. A test
holds the counts against real steps of a small model.
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from torch.utils.flop_counter import FlopCounterMode

from qsit_metric.levels import expect
from qsit_metric.pixels import Picture

if TYPE_CHECKING:
    from qsit_metric.backends.base import Backend
    from qsit_metric.prompts import Prompt

_ATTENTION = "counted"


@dataclass(frozen=True)
class Cost:
    """What a step costs.

    Attributes:
        tiles: Of the picture, the squeezed whole included; equal ones pass the tower once.
        tokens: Image tokens that the language model reads.
        tflop: Operations, in 1e12.
        kept: Bytes that the forward pass leaves for the backward pass.
        peak: Bytes of the largest moment.
    """

    tiles: int
    tokens: int
    tflop: float
    kept: int
    peak: int


def count_step(backend: Backend, prompt: Prompt, width: int, height: int) -> Cost:
    """Count forward and backward of one picture's loss.

    Args:
        backend: Around a model of any device; on "meta" nothing is computed.
        prompt: The scoring prompt.
        width: Of the picture, in pixels.
        height: Likewise.
    """
    x = torch.zeros(3, height, width, device=backend.device, requires_grad=True)
    prepared = backend.prepare(Picture(x.detach(), "<counted>"))

    def forward() -> torch.Tensor:
        read = backend.encode([backend.prepare(Picture(x * 255, "<counted>"))])
        return expect(backend.logits([(read[0], prompt)])[0])[1]

    weights = _storages(backend)
    with LiveBytes(weights) as live:
        with _saved(weights) as kept:
            score = forward()
        score.backward()  # type: ignore[no-untyped-call]
    del score
    with FlopCounterMode(display=False) as flops:  # apart: it holds on to what recomputed layers made
        forward().backward()  # type: ignore[no-untyped-call]
    tflop = float(flops.get_total_flops()) / 1e12
    return Cost(prepared.tiles, prepared.tokens, tflop, sum(kept.values()), live.peak)


class LiveBytes(TorchDispatchMode):
    """Adds up the storages that operations make, and takes them off when they die.

    Args:
        known: Storages that do not count, as `_storages` names them.

    Attributes:
        live: Bytes that are there now.
        peak: The most so far.
    """

    def __init__(self, known: set[int]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._known, self.live, self.peak = set(known), 0, 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the operation and look at what it made."""
        result = func(*args, **(kwargs or {}))
        tree_map_only(torch.Tensor, self._see, result)
        return result

    def _see(self, tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        name, size = storage._cdata, storage.nbytes()
        if name not in self._known:
            self._known.add(name)
            self.live += size
            self.peak = max(self.peak, self.live)
            weakref.finalize(storage, self._gone, name, size)
        return tensor

    def _gone(self, name: int, size: int) -> None:
        self._known.discard(name)
        self.live -= size


@contextmanager
def _saved(weights: set[int]) -> Iterator[dict[int, int]]:
    """Bytes of every storage that autograd keeps."""
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            kept[storage._cdata] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield kept


def _storages(backend: Any) -> set[int]:
    return {value.untyped_storage()._cdata for value in (*backend.model.parameters(), *backend.model.buffers())}


def empty_model(config: Any, dtype: torch.dtype) -> Any:
    """A LLaVA-OneVision model with no memory behind it, whose attention is counted as the fused kernel."""
    from transformers import LlavaOnevisionForConditionalGeneration

    _register()
    plain, before = copy.deepcopy(config), torch.get_default_dtype()
    plain._attn_implementation = _ATTENTION
    torch.set_default_dtype(dtype)
    try:
        with torch.device("meta"):
            # A config may name a type of its own for a part; the model is to have one.
            return LlavaOnevisionForConditionalGeneration(plain).to(dtype)
    finally:
        torch.set_default_dtype(before)


def _register() -> None:
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(_ATTENTION, _fused)
    AttentionMaskInterface.register(_ATTENTION, _no_mask)


def _fused(
    module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: object, **options: Any
) -> tuple[torch.Tensor, None]:
    """The kernel that `scaled_dot_product_attention` takes on a GPU in half precision."""
    groups = query.shape[1] // key.shape[1]
    key, value = (part.repeat_interleave(groups, dim=1) for part in (key, value))
    kernel: Callable[..., Any] = torch.ops.aten._scaled_dot_product_flash_attention
    causal = bool(getattr(module, "is_causal", False))
    result = kernel(query, key, value, 0.0, causal, scale=options.get("scaling"))[0]
    return result.transpose(1, 2).contiguous(), None


def _no_mask(*_: object, **__: object) -> None:
    """Nothing is hidden beyond what causality hides."""
