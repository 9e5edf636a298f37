"""Tiny random checkpoints, made with transformers itself and loadable without torchvision; one seed.

LLaVA 1.5 (one crop for each picture, whatever its size) and Idefics3 (several tiles, more for larger pictures) behind
the golden tokenizer and chat template; the Qwen families (patches of a picture of its own proportions) and InternVL
(tiles and the squeezed whole) behind the golden tokenizer with their own image tokens and turns.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch

GOLDEN = Path(__file__).parent / "golden"
TIED = GOLDEN / "tied"
PATCH, SIDE = 14, 56  # a crop or tile is 56 pixels, 16 patches
_SPREAD = 0.3  # of random weights; with the usual 0.02 every picture would get the same logits
_SEED = 22  # no near ties in the answers that tests compare


def tiny_llava(folder: Path, *, tied: bool = False) -> Path:
    """A LLaVA-1.5 model: CLIP vision tower, Qwen2 decoder, 16 tokens for each picture."""
    from transformers import CLIPVisionConfig, LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor

    tokenizer = golden_tokenizer()
    vision = CLIPVisionConfig(**_SIZES, num_hidden_layers=2, image_size=SIDE, patch_size=PATCH, projection_dim=16)
    config = LlavaConfig(
        vision_config=vision,
        text_config=_text(len(tokenizer), tied=tied),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
        tie_word_embeddings=tied,
    )
    pixels = image_processor("CLIP", size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})
    processor = LlavaProcessor(
        pixels,
        tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=golden_template(),
    )
    return _save(LlavaForConditionalGeneration, config, processor, folder)


def tiny_idefics(folder: Path) -> Path:
    """An Idefics3 model: 1 to 10 tiles of 4 tokens each, as many as the picture is large; the head is tied."""
    from transformers import Idefics3Config, Idefics3ForConditionalGeneration, Idefics3Processor, Idefics3VisionConfig

    tokenizer = golden_tokenizer()
    places = [f"<row_{row}_col_{col}>" for row in range(1, 7) for col in range(1, 7)]
    added = ["<fake_token_around_image>", "<global-img>", "<end_of_utterance>", *places]
    tokenizer.add_tokens(added, special_tokens=True)
    vision = Idefics3VisionConfig(**_SIZES, num_hidden_layers=2, image_size=SIDE, patch_size=PATCH)
    config = Idefics3Config(
        vision_config=vision,
        text_config=_text(len(tokenizer), tied=True),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=2,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=True,
    )
    sizes = {"size": {"longest_edge": 3 * SIDE}, "max_image_size": {"longest_edge": SIDE}}
    pixels = image_processor("Idefics3", **sizes)
    processor = Idefics3Processor(pixels, tokenizer, image_seq_len=4, chat_template=golden_template())
    return _save(Idefics3ForConditionalGeneration, config, processor, folder)


# As the families' own templates begin and end a turn and place a picture; none of their prose.
QWEN_TEMPLATE = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{% if add_vision_id %}Picture 1: {% endif %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
INTERN_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<IMG_CONTEXT>\n{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_MROPE = {"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 10000.0}


def tiny_qwen3_5(folder: Path) -> Path:
    """A Qwen3.5 model: three layers of linear attention and one of full attention; the head is tied."""
    from transformers import Qwen3_5Config, Qwen3_5ForConditionalGeneration

    tokenizer = _qwen_tokenizer()
    text = {
        **_qwen_text(tokenizer, tied=True),
        "num_hidden_layers": 4,
        "head_dim": 16,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 8,
        "rope_parameters": {**_MROPE, "mrope_interleaved": True, "partial_rotary_factor": 0.5},
    }
    config = Qwen3_5Config(
        text_config=text,
        vision_config=_qwen_vision(patch=16),
        tie_word_embeddings=True,
        **_qwen_ids(tokenizer),
    )
    return _save(Qwen3_5ForConditionalGeneration, config, qwen_processor("Qwen3VL", tokenizer, patch=16), folder)


def tiny_qwen3_vl(folder: Path) -> Path:
    """A Qwen3-VL model, whose vision tower feeds the first decoder layers too."""
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

    tokenizer = _qwen_tokenizer()
    rope = {**_MROPE, "mrope_interleaved": True}
    text = {**_qwen_text(tokenizer, tied=False), "head_dim": 8, "rope_parameters": rope, "rope_scaling": rope}
    vision = {**_qwen_vision(patch=16), "deepstack_visual_indexes": [0]}
    config = Qwen3VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=False, **_qwen_ids(tokenizer))
    return _save(Qwen3VLForConditionalGeneration, config, qwen_processor("Qwen3VL", tokenizer, patch=16), folder)


def tiny_qwen2_5_vl(folder: Path) -> Path:
    """A Qwen2.5-VL model, whose vision tower looks through windows in all layers but one."""
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    tokenizer = _qwen_tokenizer()
    text = {**_qwen_text(tokenizer, tied=False), "rope_parameters": _MROPE, "rope_scaling": _MROPE}
    text["hidden_size"] = 32
    vision = {
        "depth": 2,
        "hidden_size": 32,
        "out_hidden_size": 32,
        "intermediate_size": 48,
        "num_heads": 2,
        "patch_size": PATCH,
        "window_size": 4 * PATCH,
        "fullatt_block_indexes": [1],
    }
    config = Qwen2_5_VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=False, **_qwen_ids(tokenizer))
    processor = qwen_processor("Qwen2_5_VL", tokenizer, patch=PATCH)
    return _save(Qwen2_5_VLForConditionalGeneration, config, processor, folder)


def tiny_internvl(folder: Path) -> Path:
    """An InternVL model: up to four tiles of 4 tokens and the squeezed whole."""
    from transformers import InternVLConfig, InternVLForConditionalGeneration, InternVLProcessor, InternVLVisionConfig

    from qsit_metric.backends.processors import pictures_only

    tokenizer = golden_tokenizer()
    roles = {"start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>"}
    tokenizer.add_tokens([*roles.values(), "<video>"], special_tokens=True)
    for role, token in {**roles, "video_token": "<video>"}.items():
        setattr(tokenizer, role, token)
        setattr(tokenizer, f"{role}_id", tokenizer.convert_tokens_to_ids(token))
        tokenizer.init_kwargs[role] = token
    vision = InternVLVisionConfig(
        **_SIZES,
        num_hidden_layers=2,
        image_size=[SIDE, SIDE],
        patch_size=[PATCH, PATCH],
        use_absolute_position_embeddings=True,
    )
    config = InternVLConfig(
        vision_config=vision,
        text_config=_text(len(tokenizer), tied=False),
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=4,
        downsample_ratio=0.5,
        tie_word_embeddings=False,
    )
    side = {"height": SIDE, "width": SIDE}
    pixels = image_processor("GotOcr2", size=side, crop_to_patches=True, max_patches=4)
    processor = pictures_only(InternVLProcessor)(
        image_processor=pixels, tokenizer=tokenizer, image_seq_length=4, chat_template=INTERN_TEMPLATE
    )
    return _save(InternVLForConditionalGeneration, config, processor, folder)


def qwen_processor(family: str, tokenizer: Any, patch: int) -> Any:
    """A processor of a Qwen family without its video half; between 4 and 64 merged patches for a picture."""
    import transformers

    from qsit_metric.backends.processors import pictures_only

    area = (2 * patch) ** 2
    pixels = image_processor(
        "Qwen2VL", size={"shortest_edge": 4 * area, "longest_edge": 64 * area}, patch_size=patch, merge_size=2
    )
    cls = pictures_only(getattr(transformers, f"{family}Processor"))
    return cls(image_processor=pixels, tokenizer=tokenizer, chat_template=QWEN_TEMPLATE)


def _qwen_tokenizer() -> Any:
    tokenizer = golden_tokenizer()
    added = ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
    tokenizer.add_tokens(added, special_tokens=True)
    return tokenizer


def _qwen_ids(tokenizer: Any) -> dict[str, int]:
    names = {"image_token_id": "<|image_pad|>", "video_token_id": "<|video_pad|>"}
    names |= {"vision_start_token_id": "<|vision_start|>", "vision_end_token_id": "<|vision_end|>"}
    return {name: tokenizer.convert_tokens_to_ids(token) for name, token in names.items()}


def _qwen_text(tokenizer: Any, *, tied: bool) -> dict[str, Any]:
    return {
        **_SIZES,
        "vocab_size": len(tokenizer),
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "tie_word_embeddings": tied,
        "eos_token_id": 460,
        "pad_token_id": 461,
    }


def _qwen_vision(patch: int) -> dict[str, Any]:
    return {
        "depth": 2,
        "hidden_size": 32,
        "out_hidden_size": 32,
        "intermediate_size": 48,
        "num_heads": 2,
        "patch_size": patch,
        "num_position_embeddings": 64,
    }


def image_processor(family: str, **settings: Any) -> Any:
    """The processor that works on PIL pictures; its class has another name in each generation of transformers."""
    import transformers

    name = f"{family}ImageProcessor"
    cls = getattr(transformers, f"{name}Pil", None) or getattr(transformers, name)
    return cls(**settings)


def golden_tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(TIED, local_files_only=True)


def golden_template() -> str:
    template: str = json.loads((TIED / "chat_template.json").read_text(encoding="utf-8"))["chat_template"]
    return template


def golden_processor() -> Any:
    """The LLaVA-OneVision processor of the golden set, without its video half, which alone needs torchvision."""
    from transformers import AutoImageProcessor, LlavaOnevisionProcessor

    class WithoutVideo(LlavaOnevisionProcessor):
        def check_argument_for_proper_class(self, name, argument):
            return type(None) if argument is None else super().check_argument_for_proper_class(name, argument)

    return WithoutVideo(
        AutoImageProcessor.from_pretrained(TIED, local_files_only=True),
        golden_tokenizer(),
        None,
        num_image_tokens=729,
        vision_feature_select_strategy="full",
        chat_template=golden_template(),
    )


def copied(source: Path, target: Path, **changes: Any) -> Path:
    """A copy of a checkpoint; changes are keys of its config.json, None removes one."""
    shutil.copytree(source, target)
    config = json.loads((target / "config.json").read_text(encoding="utf-8"))
    config = {key: value for key, value in {**config, **changes}.items() if value is not None}
    (target / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return target


_SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2}


def _text(vocabulary: int, *, tied: bool) -> Any:
    from transformers import Qwen2Config

    return Qwen2Config(
        **_SIZES,
        vocab_size=vocabulary,
        num_hidden_layers=2,
        num_key_value_heads=2,
        tie_word_embeddings=tied,
        eos_token_id=460,
        pad_token_id=461,
    )


def _save(family: Any, config: Any, processor: Any, folder: Path) -> Path:
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(_SEED)
        model = family(config)
        for _, weight in sorted(model.named_parameters()):
            if weight.ndim > 1:
                weight.normal_(std=_SPREAD)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
