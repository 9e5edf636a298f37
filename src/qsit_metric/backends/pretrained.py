"""Weights from a folder into a model of transformers, for the general backend: all of them, or an error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ..errors import CheckpointError, DependencyError
from .base import LoadOptions
from .placement import compute_type, float_type, is_spread, quantization

# Kept in half precision: a small part of the memory, and what they see or say is the score itself.
# By the names of both transformers 5 (from the start) and 4.57 (any part).
_UNQUANTIZED = ["model.vision_tower", "model.multi_modal_projector", "vision_tower", "multi_modal_projector", "lm_head"]


def load_model(auto_class: Any, folder: Path, config: Any, options: LoadOptions, attention: str | None = "sdpa") -> Any:
    """Load, verify and freeze a model.

    Args:
        auto_class: A class of transformers with `from_pretrained`.
        folder: A checkpoint folder with safetensors.
        config: The model's config.
        options: Device and dtype.
        attention: Attention implementation, or None for the model's own choice (not every family has sdpa).

    Raises:
        CheckpointError: A weight is missing, unexpected, of another shape, or was left unset.
        DependencyError: Quantisation was asked for without bitsandbytes.
        InputError: An unknown dtype.
    """
    dtype, extra = _precision(options.dtype)
    spread = options.device if is_spread(options.device) else None
    if extra and spread is None:
        spread = {"": options.device}  # a quantised model cannot be moved once it is loaded
    try:
        model, report = auto_class.from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            device_map=spread,
            attn_implementation=attention,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            **extra,
        )
    except ImportError as error:
        if not extra:
            raise DependencyError.about("model", str(folder), "its packages to be installed", str(error)) from error
        hint = f"Run `pip install 'qsit-metric[quant]'`. {error}"
        raise DependencyError.about("dtype", options.dtype, "its packages to be installed", hint) from error
    except Exception as error:  # safetensors and config validators raise types of their own
        raise CheckpointError.about("model", str(folder), "weights that fit config.json", first_line(error)) from error
    verify_report(report, folder)
    verify_tie(model, folder)
    if spread is None:
        model.to(options.device)
    return model.eval().requires_grad_(False)


def verify_report(report: Any, folder: Path) -> None:
    """Refuse a model of which a weight is missing, unexpected or of another shape."""
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"):
        if keys := report.get(kind):
            names = sorted(str(key) for key in keys)
            shown = f"<{len(names)} {kind.replace('_', ' ')}: {', '.join(names[:3])}{' ...' if len(names) > 3 else ''}>"
            hint = f"{folder} is not a complete checkpoint of this architecture; download or export it again."
            raise CheckpointError.about("model", shown, "every weight of the architecture and no other", hint)


def verify_tie(model: Any, folder: Path) -> None:
    """Refuse a tied head that is not its embedding, and a weight without storage that no offloading hook will fill."""
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    text = model.config.get_text_config()
    # Both must say so: 4.57 answers True for a top level that is silent, and ties by the text part alone.
    tied = getattr(text, "tie_word_embeddings", False) and getattr(model.config, "tie_word_embeddings", False)
    if tied and head is not None and head.weight is not embedding.weight:
        raise CheckpointError.about(
            "model", "<an output head apart from its embedding>", "the tied head of config.json"
        )
    offloaded = bool(getattr(model, "hf_device_map", None))
    unset = [name for name, value in model.named_parameters() if value.device.type == "meta"]
    if unset and not offloaded:
        raise CheckpointError.about("model", f"<{len(unset)} unset weights: {unset[0]}>", "every weight", str(folder))


def _precision(dtype: Any) -> tuple[torch.dtype, dict[str, Any]]:
    """The floating-point type, and the quantisation arguments if any."""
    if quantization(dtype) is None:
        return float_type(dtype), {}
    if not isinstance(dtype, str):
        return compute_type(dtype), {"quantization_config": dtype}
    from transformers import BitsAndBytesConfig

    try:
        config = BitsAndBytesConfig(
            load_in_8bit=dtype == "int8",
            load_in_4bit=dtype == "int4",
            bnb_4bit_compute_dtype=compute_type(dtype),
            llm_int8_skip_modules=_UNQUANTIZED,
        )
    except ImportError as error:
        hint = "Run `pip install 'qsit-metric[quant]'`."
        raise DependencyError.about("dtype", dtype, "bitsandbytes to be installed", hint) from error
    return compute_type(dtype), {"quantization_config": config}


def first_line(error: BaseException) -> str:
    """What an exception of transformers says, in one line."""
    text = str(error).strip() or type(error).__name__
    return f"transformers said: {text.splitlines()[0][:300]}"
