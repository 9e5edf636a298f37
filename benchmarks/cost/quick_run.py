"""Q-ReAlign's published lines and the general backend, around one Qwen3.5 model with random weights.

The published lines (github.com/Q-Future/Q-ReAlign at f5fd748, README, Quick Run) take one picture at a time through the
processor, compute the logits of every position, and know no questions: those are asked with `generate`, which is what
their model class offers. Kept as they are, except for the processor, which is the one without torchvision.

The 0.8B shape: Qwen3.5's defaults in transformers 5.23 with the sizes of the smallest model (24 layers of width 1024,
three of four with linear attention; a tower of 12 layers of width 768).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from benchmarks.cost.flows import NEW_TOKENS, QUESTIONS, Result
from benchmarks.cost.models import CHECKPOINT
from qsit_metric import QSiT
from qsit_metric.backends.generic import TransformersBackend
from qsit_metric.backends.processors import load_processor
from qsit_metric.batching import Budget
from qsit_metric.prompts import Q_REALIGN

PATCH, MERGE = 16, 2
_TURN = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_MARKS = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")

_IDS = ("vision_start_token_id", "vision_end_token_id", "image_token_id", "video_token_id")

_TEXT = {"num_key_value_heads": 2, "tie_word_embeddings": True}
_ROPE = {"rope_type": "default", "mrope_interleaved": True}
SHAPES: dict[str, dict[str, dict[str, Any]]] = {
    "tiny": {
        "text": {**_TEXT, "vocab_size": 512, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4,
                 "num_attention_heads": 4, "head_dim": 16, "linear_num_key_heads": 2, "linear_num_value_heads": 4,
                 "linear_key_head_dim": 8, "linear_value_head_dim": 8, "initializer_range": 0.3,
                 "rope_parameters": {**_ROPE, "rope_theta": 1e4, "mrope_section": [2, 1, 1],
                                     "partial_rotary_factor": 0.5}},
        "vision": {"depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "out_hidden_size": 32},
    },
    "0.8b": {
        "text": {**_TEXT, "vocab_size": 248320, "hidden_size": 1024, "intermediate_size": 3584,
                 "num_hidden_layers": 24, "num_attention_heads": 8, "head_dim": 256,
                 "linear_num_key_heads": 16, "linear_num_value_heads": 16, "linear_key_head_dim": 128,
                 "linear_value_head_dim": 128,
                 "rope_parameters": {**_ROPE, "rope_theta": 1e7, "mrope_section": [11, 11, 10],
                                     "partial_rotary_factor": 0.25}},
        "vision": {"depth": 12, "hidden_size": 768, "intermediate_size": 3072, "num_heads": 12,
                   "out_hidden_size": 1024},
    },
}  # fmt: skip
"""Sizes by name; what is not given is transformers' default for the family."""


def build(shape: str, dtype: torch.dtype, device: torch.device, folder: Path) -> tuple[Any, Any]:
    """A model of a shape with seeded random weights, and its processor.

    Args:
        shape: A name of `SHAPES`.
        dtype: Of the weights.
        device: Where they are made.
        folder: An empty folder for the processor's files.
    """
    from transformers import Qwen3_5Config, Qwen3_5ForConditionalGeneration

    processor = _processor(folder)
    ids = {name: processor.tokenizer.convert_tokens_to_ids(mark) for name, mark in zip(_IDS, _MARKS, strict=True)}
    sizes = SHAPES[shape]
    config = Qwen3_5Config(
        text_config=sizes["text"],
        vision_config={**sizes["vision"], "patch_size": PATCH, "spatial_merge_size": MERGE},
        tie_word_embeddings=True,
        **ids,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Qwen3_5ForConditionalGeneration._from_config(config, dtype=dtype)
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0
    return model.to(device).eval().requires_grad_(False), processor


class QuickRun:
    """The published lines.

    Args:
        model: `Qwen3_5ForConditionalGeneration`.
        processor: Its processor.
    """

    name = "quick run"

    def __init__(self, model: Any, processor: Any) -> None:
        self._model, self._processor = model, processor
        words = reversed(Q_REALIGN.words)
        self._ids = [processor.tokenizer(word, add_special_tokens=False).input_ids[0] for word in words]

    def score(self, image: Image.Image) -> Result:
        """One picture."""
        inputs = self._inputs(image, Q_REALIGN.question, Q_REALIGN.answer_prefix)
        with torch.no_grad():
            probs = self._model(**inputs).logits[0, -1, self._ids].softmax(-1)
        weights = torch.tensor([1.0, 0.75, 0.5, 0.25, 0.0], device=probs.device)
        return Result(1 + 4 * float((probs * weights).sum()))

    def session(self, image: Image.Image) -> Result:
        """A score and all questions, each with the picture anew."""
        return Result(self.score(image).score, tuple(self._ask(image, question) for question in QUESTIONS))

    def many(self, images: Sequence[Image.Image]) -> list[float]:
        """Scores, one after the other."""
        return [self.score(image).score for image in images]

    def _ask(self, image: Image.Image, question: str) -> tuple[int, ...]:
        inputs = self._inputs(image, question)
        with torch.no_grad():
            whole = self._model.generate(
                **inputs, do_sample=False, max_new_tokens=NEW_TOKENS, min_new_tokens=NEW_TOKENS
            )
        return tuple(whole[0, inputs["input_ids"].shape[1] :].tolist())

    def _inputs(self, image: Image.Image, question: str, prefix: str = "") -> Any:
        turns = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}]
        text = self._processor.apply_chat_template(turns, add_generation_prompt=True) + prefix
        found = self._processor(text=[text], images=[image.convert("RGB")], return_tensors="pt")
        return found.to(self._model.device)


class InParts:
    """This package, through its public calls, on the same model.

    Args:
        model: See `QuickRun`.
        processor: See `QuickRun`.
    """

    name = "ours"

    def __init__(self, model: Any, processor: Any) -> None:
        self.metric = QSiT(TransformersBackend(model, processor), recipe=Q_REALIGN)

    def session(self, image: Image.Image) -> Result:
        """A score and all questions about an opened picture."""
        with self.metric.open(image) as view:
            score = view.score()
            answers = view.ask(list(QUESTIONS), max_new_tokens=NEW_TOKENS)
        return Result(float(score), tuple(answer.tokens for answer in answers))

    def many(self, images: Sequence[Image.Image], batch: int) -> list[float]:
        """Scores of pictures of one size, `batch` at a time."""
        tokens = max(image.width * image.height for image in images) // (PATCH * MERGE) ** 2 + 64
        self.metric.budget = Budget(batch * tokens, batch * tokens)
        return [float(score) for score in self.metric.score(list(images))]


def _processor(folder: Path) -> Any:
    """The family's processor around the stored tokenizer; pictures keep their size up to 16 megapixels."""
    from transformers import AutoTokenizer

    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(CHECKPOINT / name, folder / name)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    tokenizer.add_tokens(list(_MARKS), special_tokens=True)
    tokenizer.save_pretrained(folder)
    pixels = {
        "image_processor_type": "Qwen2VLImageProcessor",
        "size": {"shortest_edge": 65536, "longest_edge": 16777216},
        "patch_size": PATCH,
        "merge_size": MERGE,
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
    }
    for name, content in (("preprocessor_config.json", pixels), ("config.json", {"model_type": "qwen3_5"})):
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    (folder / "chat_template.jinja").write_text(_TURN, encoding="utf-8")
    return load_processor(folder)
