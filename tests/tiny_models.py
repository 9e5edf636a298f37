"""Tiny random checkpoints, made with transformers itself and loadable without torchvision; one seed.

Two families: LLaVA 1.5 (one crop for each picture, whatever its size) and Idefics3 (several tiles, more for larger
pictures), both behind the golden tokenizer and chat template.
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
