"""The two ways from a picture to a score and answers: the authors' published code and this package.

Official code: github.com/Q-Future/Q-SiT at 4e4d1df (README, eval_scripts/). Its processor call, its full forward pass
with the logits of every position and its `generate` are kept as they are; only the image processor is the one without
torchvision, and the number of image tokens comes from our plan (the model refuses a wrong one).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from benchmarks.cost.models import CHECKPOINT, stored, stored_geometry
from qsit_metric import QSiT
from qsit_metric.backends.llava_onevision import LlavaOnevisionBackend
from qsit_metric.batching import Budget
from qsit_metric.pixels import load
from qsit_metric.pixels.tiles import cut, normalise, plan
from qsit_metric.prompts import AUTHORS

NEW_TOKENS = 8
QUESTIONS = (
    "Is this image sharp?",
    "How is the lighting of this image, and does it hide any details?",
    "Which distortion is the most visible in this image: blur, noise, compression or none?",
    "Describe and evaluate the quality of the image.",
)


@dataclass(frozen=True)
class Result:
    """What a flow found out: a score on 1..5 and the ids of the generated answers, if it was asked for them."""

    score: float
    answers: tuple[tuple[int, ...], ...] = ()


class Authors:
    """The authors' flow on the installed transformers.

    Args:
        model: `LlavaOnevisionForConditionalGeneration`; None if only pixels are asked for.
    """

    name = "authors"

    def __init__(self, model: Any = None) -> None:
        from transformers import AutoTokenizer

        self._model = model
        self._processor = _processor_class().from_pretrained(CHECKPOINT)
        self._tokenizer = AutoTokenizer.from_pretrained(CHECKPOINT)
        self._template = stored("chat_template.json")["chat_template"]
        self._geometry = stored_geometry()

    def pixels(self, image: Image.Image) -> torch.Tensor:
        """What the vision tower reads, (tiles, 3, 384, 384), float32."""
        pixels: torch.Tensor = self._processor(images=image, return_tensors="pt")["pixel_values"][0]
        return pixels

    def score(self, image: Image.Image) -> Result:
        """One full forward pass; the probabilities of five words give the score."""
        inputs = self._inputs(image, AUTHORS.question, AUTHORS.answer_prefix)
        with torch.inference_mode():
            last = self._model(**inputs).logits[0, -1]
        words = [self._tokenizer(word, add_special_tokens=False)["input_ids"][0] for word in AUTHORS.words]
        probs = last[words].double().softmax(dim=-1)
        return Result(float(probs @ torch.arange(1.0, 6.0, dtype=torch.float64, device=probs.device)))

    def ask(self, image: Image.Image, question: str) -> tuple[int, ...]:
        """The ids of a greedy answer of `NEW_TOKENS` tokens."""
        inputs = self._inputs(image, question)
        settings = {"max_new_tokens": NEW_TOKENS, "min_new_tokens": NEW_TOKENS, "do_sample": False}
        with torch.inference_mode():
            ids = self._model.generate(**inputs, **settings)[0, inputs["input_ids"].shape[1] :]
        return tuple(ids.tolist())

    def session(self, image: Image.Image) -> Result:
        """A score and all questions: the picture is prepared and read anew each time."""
        score = self.score(image).score
        return Result(score, tuple(self.ask(image, question) for question in QUESTIONS))

    def files(self, paths: Sequence[Path]) -> list[float]:
        """Scores of files, one after the other as the authors' scripts go through a data set."""
        return [self.score(Image.open(path).convert("RGB")).score for path in paths]

    def _inputs(self, image: Image.Image, question: str, prefix: str = "") -> Any:
        """Processor output on the model's device and in its type, with the ids of the answer's beginning appended."""
        features = self._processor(images=image, return_tensors="pt")
        turns = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}]
        text = self._tokenizer.apply_chat_template(
            turns, chat_template=self._template, add_generation_prompt=True, tokenize=False
        )
        tokens = plan(self._geometry, image.height, image.width).tokens
        ids = self._tokenizer(text.replace("<image>", "<image>" * tokens))["input_ids"]
        ids += self._tokenizer(prefix)["input_ids"] if prefix else []
        features["input_ids"] = torch.tensor([ids])
        features["attention_mask"] = torch.ones(1, len(ids), dtype=torch.long)
        return features.to(self._model.device, dtype=self._model.dtype)


class Ours:
    """This package, through its public calls.

    Args:
        backend: Holds the model; None if only pixels are asked for.
    """

    name = "ours"

    def __init__(self, backend: LlavaOnevisionBackend | None = None) -> None:
        self._backend = backend
        self._geometry = stored_geometry()

    @cached_property
    def metric(self) -> QSiT:
        """The metric around the backend."""
        if self._backend is None:
            raise RuntimeError("this flow was made for pixels only")
        return QSiT(self._backend)

    def pixels(self, image: Image.Image) -> torch.Tensor:
        """What the vision tower reads, (tiles, 3, 384, 384), float32."""
        return normalise(cut(load(image), self._geometry), self._geometry)

    def score(self, image: Image.Image) -> Result:
        """One score."""
        return Result(float(self.metric.score(image)))

    def session(self, image: Image.Image) -> Result:
        """A score and all questions about an opened picture."""
        with self.metric.open(image) as view:
            score = view.score()
            answers = view.ask(list(QUESTIONS), max_new_tokens=NEW_TOKENS)
        return Result(float(score), tuple(answer.tokens for answer in answers))

    def two_calls(self, image: Image.Image) -> Result:
        """A score and all questions without opening the picture: it is read twice."""
        score = self.metric.score(image)
        answers = self.metric.ask(image, list(QUESTIONS), max_new_tokens=NEW_TOKENS)
        return Result(float(score), tuple(answer.tokens for answer in answers))

    def many(self, images: Sequence[Path] | Sequence[Image.Image], batch: int) -> list[float]:
        """Scores of files or pictures of one size, `batch` at a time; decoding and preparing run ahead in threads."""
        with Image.open(images[0]) if isinstance(images[0], Path) else nullcontext(images[0]) as first:
            layout = plan(self._geometry, first.height, first.width)
        self.metric.budget = Budget(batch * layout.tiles, batch * layout.tokens)
        return [float(score) for score in self.metric.score(list(images))]


def _processor_class() -> Any:
    """The image processor without torchvision: transformers 5 has a name of its own for it."""
    import transformers

    if int(transformers.__version__.split(".")[0]) < 5:
        return transformers.LlavaOnevisionImageProcessor
    from transformers.models.llava_onevision import image_processing_pil_llava_onevision as module

    return module.LlavaOnevisionImageProcessorPil
