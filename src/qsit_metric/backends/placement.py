"""Where a model runs and in which numbers: devices, floating-point types, device maps, quantised layers.

Device maps are accelerate's, quantised layers bitsandbytes's; both are imported only where they are asked for.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..errors import BackendError, DependencyError, InputError, QSiTError
from ..model import weights
from ..model.config import Config
from ..model.network import LlavaOnevision
from .base import LoadOptions

_FLOATS = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float64": torch.float64,
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}
_QUANTIZED = ("int8", "int4")
_SPREAD = ("auto", "balanced", "balanced_low_0", "sequential")
_EMBEDDING, _NEWLINE = "model.language_model.embed_tokens.weight", "model.image_newline"
_WHOLE = ["VisionLayer", "TextLayer"]  # modules that stay on one device, for their shortcuts


def load(folder: Path, config: Config, options: LoadOptions) -> LlavaOnevision:
    """Load the network as asked: on one device, spread over several, or quantised.

    Args:
        folder: A checkpoint folder.
        config: What its `config.json` says.
        options: Device and type.

    Raises:
        CheckpointError: Weights do not fit.
        DependencyError: Quantisation or a device map was asked for without its package.
        InputError: An unknown type, device or map.
    """
    if quantization(options.dtype) is not None:
        return _quantised(weights.load(folder, config, compute_type(options.dtype)), options)
    dtype = float_type(options.dtype)
    if is_spread(options.device):
        return _spread(folder, config, dtype, options.device)
    return weights.load(folder, config, dtype, options.device).fuse()


def move(model: Any, device: Any, dtype: torch.dtype | None) -> None:
    """Move a loaded model; its weights change type, the frequencies of its positions do not.

    Raises:
        BackendError: The model is spread over devices or quantised.
    """
    if getattr(model, "hf_device_map", None) or getattr(model, "is_quantized", False):
        raise BackendError.about("device", device, "no move of a spread or quantised model", "Load it anew.")
    fused = isinstance(model, LlavaOnevision) and model.fused  # weights that others share stay where they are
    model.to(device=device)
    for parameter in model.parameters() if dtype else ():
        parameter.data = parameter.data.to(dtype)
    if fused:
        model.fuse()


def home(module: nn.Module) -> torch.device:
    """Where a module computes: where its weights are or are brought to; "meta" where nothing is computed."""
    device, hook = next(module.parameters()).device, getattr(module, "_hf_hook", None)
    if device.type != "meta" or hook is None:
        return device
    return _device(getattr(hook, "execution_device", None))


def check_dtype(dtype: Any) -> None:
    """Refuse what is neither a floating-point type nor a way to quantise; needs no package that quantises.

    Raises:
        InputError: An unknown dtype.
    """
    if quantization(dtype) is None:
        float_type(dtype)


def float_type(dtype: Any) -> torch.dtype:
    """A floating-point type by name.

    Raises:
        InputError: An unknown dtype.
    """
    if isinstance(dtype, torch.dtype) and dtype in _FLOATS.values():
        return dtype
    if isinstance(dtype, str) and dtype in _FLOATS:
        return _FLOATS[dtype]
    known = ", ".join([*_FLOATS, *_QUANTIZED])
    raise InputError.about("dtype", dtype, f"one of {known}, a torch dtype or a transformers quantization config")


def compute_type(dtype: Any) -> torch.dtype:
    """The floating-point type that quantised layers compute in."""
    asked = getattr(dtype, "bnb_4bit_compute_dtype", None)
    if isinstance(asked, torch.dtype) and asked != torch.float32:
        return asked
    return torch.float16 if torch.cuda.is_available() else torch.bfloat16


def quantization(dtype: Any) -> str | None:
    """How the weights are quantised, in a word, or None if they are not."""
    method = getattr(dtype, "quant_method", None)
    if method is not None:
        return str(getattr(method, "value", method))
    return dtype if isinstance(dtype, str) and dtype in _QUANTIZED else None


def is_spread(device: Any) -> bool:
    """Whether this is a device map, or asks for one."""
    return isinstance(device, Mapping) or device in _SPREAD


def check_device(device: Any) -> str:
    """The device's type, checked to be there.

    Raises:
        InputError: No such device, or this machine has none.
    """
    if is_spread(device):
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, TypeError, AssertionError, NotImplementedError) as error:
        hint = f"This machine has cpu{', cuda' if torch.cuda.is_available() else ''}."
        raise InputError.about("device", device, "a device of this machine, 'auto' or a device map", hint) from error
    return found.type


def _spread(folder: Path, config: Config, dtype: torch.dtype, device: Any) -> LlavaOnevision:
    """Weights go straight to the devices of the map; what it leaves on disk is read from the checkpoint when needed."""
    try:
        from accelerate import dispatch_model
    except ImportError as error:
        raise DependencyError.about("device", device, "accelerate", "Run `pip install accelerate`.") from error
    try:
        places = dict(device) if isinstance(device, Mapping) else _mapped(weights.empty(config), device, dtype)
        if config.tied:
            places["lm_head"] = _of(_EMBEDDING, places)  # they are one tensor
        found = {name: _of(name, places) for name in weights.empty(config).state_dict()}
        away = {name for name, place in found.items() if place == "disk"} - {_NEWLINE}
        model = weights.load(
            folder, config, dtype, place=lambda name: None if name in away else _device(found.get(name))
        )
        newline = model.model.image_newline
        if len(set(found.values())) == 1 and "disk" not in found.values():
            model.hf_device_map = places  # type: ignore[assignment]
            model.model.language_model.rotary_emb.to(_device(next(iter(found.values()))))
            return model
        index = {
            name: {
                "safetensors_file": str(one.file),
                "weight_name": one.key,
                "dtype": str(dtype).removeprefix("torch."),
            }
            for name, one in weights.stored(folder).items()
        }
        if config.tied:
            index["lm_head.weight"] = index[_EMBEDDING]
        spread: LlavaOnevision = dispatch_model(model, places, offload_index=index)
        if spread.model.image_newline.is_meta:  # it belongs to no layer that would bring it back
            spread.model.image_newline = newline
        return spread
    except QSiTError:
        raise
    except (ValueError, RuntimeError, KeyError) as error:
        hint = str(error).strip().splitlines()[0]
        raise InputError.about("device", device, "a device map that names every module", hint) from error


def _mapped(model: LlavaOnevision, device: str, dtype: torch.dtype) -> dict[str, Any]:
    """A device map of accelerate's making."""
    from accelerate import infer_auto_device_map
    from accelerate.utils import get_balanced_memory

    model.tie()
    low = device == "balanced_low_0"
    memory = None
    if device != "sequential":
        memory = get_balanced_memory(model, dtype=dtype, no_split_module_classes=_WHOLE, low_zero=low)
    found = infer_auto_device_map(model, max_memory=memory, no_split_module_classes=_WHOLE, dtype=dtype)
    return dict(found)


def _of(name: str, places: Mapping[str, Any]) -> Any:
    """Where the map puts a weight: the entry of the nearest module above it."""
    path = name
    while path not in places:
        if not path:
            raise InputError.about("device", dict(places), f"a place for {name!r}", "Add it to the device map.")
        path = path.rpartition(".")[0]
    return places[path]


def _device(place: Any) -> torch.device:
    if place in (None, "cpu", "disk"):
        return torch.device("cpu")
    return torch.device("cuda", place) if isinstance(place, int) else torch.device(place)


def _quantised(model: LlavaOnevision, options: LoadOptions) -> LlavaOnevision:
    """Replace the decoder's linear layers by quantised ones.

    Tower, projector and head keep half precision: they are a small part of the memory, and what they see or say is the
    score itself.
    """
    if is_spread(options.device):
        raise InputError.about("device", options.device, "one device for a quantised model")
    make = _quantiser(options.dtype)
    skipped = set(getattr(options.dtype, "llm_int8_skip_modules", None) or ())
    layers = model.model.language_model.layers
    for name, part in list(layers.named_modules()):
        full = f"model.language_model.layers.{name}"
        if isinstance(part, nn.Linear) and not any(full.endswith(skip) or skip in full.split(".") for skip in skipped):
            path, _, leaf = name.rpartition(".")
            setattr(layers.get_submodule(path), leaf, make(part))
    model.is_quantized = True  # type: ignore[assignment]
    return model.to(options.device).eval().requires_grad_(False)


def _quantiser(dtype: Any) -> Any:
    """What turns a linear layer into a quantised one: bitsandbytes's layers, as the dtype or its config asks."""
    hint = "Run `pip install 'qsit-metric[quant]'`."
    if not isinstance(dtype, str) and quantization(dtype) != "bitsandbytes":
        hint = "Use 'int8', 'int4' or a BitsAndBytesConfig; or backend='transformers'."
        raise InputError.about("dtype", f"<quantised by {quantization(dtype)}>", "layers of bitsandbytes", hint)
    try:
        from bitsandbytes import nn as quantised
    except ImportError as error:
        raise DependencyError.about("dtype", dtype, "bitsandbytes to be installed", hint) from error
    compute = compute_type(dtype)
    # It tells of nearly every product that bfloat16 becomes float16 on the way, which int8 is.
    logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)

    def eight(part: nn.Linear) -> nn.Module:
        threshold = getattr(dtype, "llm_int8_threshold", 6.0)
        made = quantised.Linear8bitLt(part.in_features, part.out_features, part.bias is not None,
                                      has_fp16_weights=False, threshold=threshold)  # fmt: skip
        made.weight = quantised.Int8Params(part.weight.data, requires_grad=False, has_fp16_weights=False)
        made.bias = part.bias
        return made  # type: ignore[no-any-return]

    def four(part: nn.Linear) -> nn.Module:
        kind = getattr(dtype, "bnb_4bit_quant_type", "fp4")
        twice = getattr(dtype, "bnb_4bit_use_double_quant", False)
        made = quantised.Linear4bit(part.in_features, part.out_features, part.bias is not None, compute_dtype=compute,
                                    compress_statistics=twice, quant_type=kind)  # fmt: skip
        made.weight = quantised.Params4bit(
            part.weight.data, requires_grad=False, compress_statistics=twice, quant_type=kind, module=made
        )
        made.bias = part.bias
        return made  # type: ignore[no-any-return]

    return eight if dtype == "int8" or getattr(dtype, "load_in_8bit", False) else four
