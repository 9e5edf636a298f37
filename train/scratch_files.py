"""What stands beside the weights of a LLaVA-OneVision checkpoint, for a model of any size. Pure.

Layout and keys: `llava-hf/llava-onevision-qwen2-*-ov-hf` as transformers 4.45 writes it. Only keys that 4.45 to 5.x
read alike are written, so one folder serves all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qsit_metric.prompts import CHATML

from .scratch_tokenizer import EOS, IMAGE, PAD, VIDEO

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .scratch import Scratch

_THETA = 10000.0  # rotary base: the default of every release; a million, as in Qwen2, is for long contexts
_PROCESSOR = "LlavaOnevisionProcessor"


def config_files(spec: Scratch, places: Mapping[str, int]) -> dict[str, dict[str, Any]]:
    """The JSON files beside weights and tokenizer, by name.

    Args:
        spec: The sizes.
        places: Id of each special token.
    """
    return {
        "config.json": config_fields(spec, places),
        "generation_config.json": {"eos_token_id": places[EOS], "pad_token_id": places[PAD]},
        "chat_template.json": {"chat_template": CHATML},
        "preprocessor_config.json": {
            "do_convert_rgb": True,
            "do_normalize": True,
            "do_pad": True,
            "do_rescale": True,
            "do_resize": True,
            "image_grid_pinpoints": spec.pinpoints,
            "image_mean": [0.5, 0.5, 0.5],
            "image_processor_type": "LlavaOnevisionImageProcessor",
            "image_std": [0.5, 0.5, 0.5],
            "processor_class": _PROCESSOR,
            "resample": 3,
            "rescale_factor": 1 / 255,
            "size": {"height": spec.tile, "width": spec.tile},
        },
        "processor_config.json": {
            "image_token": IMAGE,
            "num_image_tokens": (spec.tile // spec.patch) ** 2,
            "processor_class": _PROCESSOR,
            "video_token": VIDEO,
            "vision_aspect_ratio": f"anyres_max_{spec.max_tiles}",
            "vision_feature_select_strategy": "full",
        },
    }


def config_fields(spec: Scratch, places: Mapping[str, int]) -> dict[str, Any]:
    """`config.json`, also the arguments of `LlavaOnevisionConfig`."""
    return {
        "architectures": ["LlavaOnevisionForConditionalGeneration"],
        "image_grid_pinpoints": spec.pinpoints,
        "image_token_index": places[IMAGE],
        "model_type": "llava_onevision",
        "projector_hidden_act": "gelu",
        "text_config": _text(spec, places),
        "tie_word_embeddings": True,
        "torch_dtype": "float32",
        "transformers_version": "4.45.0",
        "video_token_index": places[VIDEO],
        "vision_aspect_ratio": f"anyres_max_{spec.max_tiles}",
        "vision_config": _vision(spec),
        "vision_feature_layer": -1,
        "vision_feature_select_strategy": "full",
    }


def _text(spec: Scratch, places: Mapping[str, int]) -> dict[str, Any]:
    return {
        "eos_token_id": places[EOS],
        "pad_token_id": places[PAD],
        "hidden_size": spec.text_width,
        "intermediate_size": spec.text_intermediate,
        "max_position_embeddings": spec.positions,
        "model_type": "qwen2",
        "num_attention_heads": spec.text_heads,
        "num_hidden_layers": spec.text_layers,
        "num_key_value_heads": spec.text_kv_heads,
        "rope_theta": _THETA,
        "tie_word_embeddings": True,
        "vocab_size": spec.vocabulary,
    }


def _vision(spec: Scratch) -> dict[str, Any]:
    return {
        "hidden_size": spec.vision_width,
        "image_size": spec.tile,
        "intermediate_size": spec.vision_intermediate,
        "model_type": "siglip_vision_model",
        "num_attention_heads": spec.vision_heads,
        "num_hidden_layers": spec.vision_layers,
        "patch_size": spec.patch,
        "vision_use_head": False,
    }
