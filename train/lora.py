"""Low-rank adapters through peft: put into the model in place, merged into plain weights when it is saved."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from qsit_metric.errors import DependencyError

if TYPE_CHECKING:
    from .recipe import Lora

# Linear layers of the language model, by the names of both transformers 5 and 4.57; not those of the vision tower.
_TARGETS = r".*language_model\..*\.(q|k|v|o|gate|up|down)_proj"
_ADAPTER = "default"


def add_adapters(model: Any, spec: Lora) -> None:
    """Put adapters on the language model; its own weights, embeddings and head no longer learn.

    Projector, image newline and vision tower stay as they are (trained in full unless the recipe freezes them).

    Raises:
        DependencyError: peft is not installed.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        hint = "Run `pip install 'qsit-metric[train]'`."
        raise DependencyError.about("model.lora", spec, "peft to be installed", hint) from error
    config = LoraConfig(r=spec.rank, lora_alpha=spec.alpha, lora_dropout=spec.dropout, target_modules=_TARGETS)
    inject_adapter_in_model(config, model, adapter_name=_ADAPTER)
    for name, weight in model.named_parameters():
        full = "vision_tower" in name or "multi_modal_projector" in name or "image_newline" in name
        weight.requires_grad_("lora_" in name or full)


def merged_state(state: Mapping[str, torch.Tensor], model: Any) -> dict[str, torch.Tensor]:
    """A state dict with adapters folded into the weights, under the names of the plain model.

    The model itself is left as it is: merging and unmerging in place would not give back the same bits.
    """
    scale = {name: module.scaling[_ADAPTER] for name, module in model.named_modules() if hasattr(module, "lora_A")}
    merged = {}
    for name, weight in state.items():
        if ".lora_" in name:
            continue
        owner = name.removesuffix(".base_layer.weight")
        if owner in scale and owner != name:
            down, up = (state[f"{owner}.lora_{side}.{_ADAPTER}.weight"] for side in "AB")
            weight = (weight.float() + scale[owner] * (up.float() @ down.float())).to(weight.dtype)  # noqa: PLW2901
        merged[name.replace(".base_layer.", ".")] = weight
    return merged
