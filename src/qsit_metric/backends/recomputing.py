"""Activation checkpointing: a model whose layers keep their input only, and compute the rest again on the way back.

The model itself is not touched. What is made is a twin: copies of the few modules on the way to the layers, which share
every weight, buffer and layer with the original, so the twin follows when that one is moved. In the twin each layer
stands behind a `torch.utils.checkpoint`; so transformers' own forward passes run as they are, masks and positions
included, and none of its training switches (which want the model out of eval mode) is needed.

Reference: T. Chen et al., "Training Deep Nets with Sublinear Memory Cost", arXiv 1604.06174.
"""

from __future__ import annotations

import copy
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

_STACK = "layers"  # how transformers calls the stack, in vision towers and in language models


class _Recomputed(nn.Module):
    """A layer in front of which the backward pass starts again; otherwise it is that layer."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """As the layer's; without a gradient it is called and no more."""
        # Nothing is random in eval mode, so the generators' states need not be kept.
        return checkpoint(self.layer, *args, use_reentrant=False, preserve_rng_state=False, **kwargs)

    def __getattr__(self, name: str) -> Any:
        """What the stack asks of a layer, for example its kind of attention in 4.57."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("layer"), name)


def recomputing(model: nn.Module) -> Any:
    """The twin of a model, with every stack of layers recomputed; the same numbers, the same gradients.

    Args:
        model: A model of transformers, frozen.
    """
    twin = model
    for path in [name for name, module in model.named_modules() if _is_stack(name, module)]:
        twin = _replaced(twin, path.split("."))
    return twin


def _is_stack(name: str, module: nn.Module) -> bool:
    return isinstance(module, nn.ModuleList) and name.rpartition(".")[2] == _STACK


def _replaced(module: nn.Module, path: list[str]) -> nn.Module:
    """A copy of a module in which the stack at `path` is recomputed."""
    if not path:
        return nn.ModuleList([_Recomputed(layer) for layer in module.children()]).eval()
    twin = copy.copy(module)
    # Its own table of children, that the original keeps its own; weights and buffers stay in the tables of both.
    twin._modules = dict(module._modules)
    twin._modules[path[0]] = _replaced(module.get_submodule(path[0]), path[1:])
    if "_old_forward" in vars(twin):  # a hook of accelerate has bound `forward` to the original
        del vars(twin)["forward"]
    return twin
