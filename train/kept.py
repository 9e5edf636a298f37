"""Scores and choices from what was computed of the pictures beforehand: as `QSiT` gives them, without its reading."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from qsit_metric.asking import Questions
from qsit_metric.backends.base import Encoded
from qsit_metric.backends.llava_onevision import LlavaOnevisionBackend
from qsit_metric.backends.vision import projected, tower_states
from qsit_metric.evaluation import Question
from qsit_metric.evaluation.questions import is_correct
from qsit_metric.prompts import Recipe
from qsit_metric.results import level_names, scores
from qsit_metric.tiling import normalise, plan

Reader = Callable[[str], tuple[torch.Tensor, tuple[int, int]]]
"""A picture's path -> its tiles (uint8), or what the tower says of them, and its (height, width)."""
_AT_ONCE = 32


@dataclass(frozen=True)
class KeptPictures:
    """A model that answers about kept pictures.

    Attributes:
        backend: The model.
        recipe: How it is asked.
        read: Gives what was kept.
    """

    backend: LlavaOnevisionBackend
    recipe: Recipe
    read: Reader

    def scores(self, images: Sequence[str]) -> list[float]:
        """A score on 1..5 for each picture."""
        prompt, names = self.recipe.scoring(), level_names(self.recipe.words)
        found: list[float] = []
        for batch in self._batches(images):
            rows = self.backend.logits([(image, prompt) for image in batch])
            found += [float(score) for score in scores(rows, names, [None] * len(batch))]
        return found

    def right(self, questions: Sequence[Question]) -> list[bool]:
        """Whether the most probable option of each question is the right one."""
        found = []
        for one in questions:
            [image] = self._encoded([one.image])
            asked = Questions(self.backend, self.recipe, one.question, one.choices, "likelihood", 1)
            [answer] = asked.answer([image])
            found.append(not isinstance(answer, list) and is_correct("logits", answer, one.choices, one.answer or 0))
        return found

    def _batches(self, images: Sequence[str]) -> Iterator[list[Encoded]]:
        for start in range(0, len(images), _AT_ONCE):
            yield self._encoded(images[start : start + _AT_ONCE])

    @torch.no_grad()
    def _encoded(self, images: Sequence[str]) -> list[Encoded]:
        model, geometry, device = self.backend.model, self.backend.geometry, self.backend.device
        known = [self.read(image) for image in images]
        layouts = [plan(geometry, *size) for _, size in known]
        kept = torch.cat([tensor for tensor, _ in known]).to(device)
        whole = kept.dtype == torch.uint8
        states = tower_states(model, normalise(kept, geometry)) if whole else kept.to(self.backend.dtype)
        return [Encoded(one, len(one)) for one in projected(model, [states], layouts)]
