"""Descriptions in words: written by the model, or composed from what it answers by likelihood.

A small model answers by likelihood far better than it writes. A recipe with `describing` therefore has it compare
faults and their strengths, and the sentences are put together here. They say the level of the score, and name a fault
only as strong as that level allows, so that words and score never contradict each other.
"""

from __future__ import annotations

from collections.abc import Sequence

from .backends.base import Backend, Encoded
from .levels import finite
from .prompts import DESCRIBE, Describing, Fault, Recipe
from .questions import Questions
from .results import Answer, level_names, scores

_SPOTLESS, _LIGHT, _MIDDLE = 0.9, 0.7, 0.4  # least share of the way from the worst to the best level


def describer(backend: Backend, recipe: Recipe, max_new_tokens: int) -> Questions | Composed:
    """Choose who describes: the recipe's composition, or the model in its own words.

    Raises:
        InputError: A limit that is no whole number of 1 or more.
    """
    writing = Questions(backend, recipe, DESCRIBE, None, "generate", max_new_tokens)
    return Composed(backend, recipe, recipe.describing) if recipe.describing else writing


class Composed:
    """Descriptions composed from a score, the likeliest fault and how strong it is.

    Args:
        backend: Who answers.
        recipe: Chat format and level words.
        describing: What is asked.

    Raises:
        InputError: Something of this cannot be asked.
    """

    def __init__(self, backend: Backend, recipe: Recipe, describing: Describing) -> None:
        self._backend, self._recipe, self._describing = backend, recipe, describing
        for text in (describing.question, *(fault.question for fault in describing.faults)):
            backend.check(recipe.asking(text))

    def answer(self, images: Sequence[Encoded]) -> list[Answer]:
        """Describe each image, order kept; what they share between the questions is freed at the end."""
        fresh = [image for image in images if not image.keep]
        for image in fresh:
            image.keep = True
        try:
            levels = self._levels(images)
            faults = self._faults(images)
            strengths = [self._strength(image, fault) for image, fault in zip(images, faults, strict=True)]
        finally:
            for image in fresh:
                image.keep = False
                image.shared.clear()
        told = zip(levels, faults, strengths, strict=True)
        return [Answer(self._tell(level, fault, strength)) for level, fault, strength in told]

    def _levels(self, images: Sequence[Encoded]) -> list[str]:
        prompt, names = self._recipe.scoring(), level_names(self._recipe.words)
        rows = self._backend.logits([(image, prompt) for image in images])
        return [score.level for score in scores(rows, names, [None] * len(rows))]

    def _faults(self, images: Sequence[Encoded]) -> list[Fault]:
        """The likeliest fault of each image."""
        known, prompt = self._describing.faults, self._recipe.asking(self._describing.question)
        rows = self._backend.likelihoods([(image, prompt) for image in images], [fault.name for fault in known])
        return [known[int(finite(row).argmax())] for row in rows]

    def _strength(self, image: Encoded, fault: Fault) -> str:
        """The likeliest answer to how strong a fault is, in small letters."""
        (row,) = self._backend.likelihoods([(image, self._recipe.asking(fault.question))], fault.choices)
        return fault.choices[int(finite(row).argmax())].lower()

    def _tell(self, level: str, fault: Fault, strength: str) -> str:
        names = level_names(self._recipe.words)
        place = names.index(level) / (len(names) - 1)
        ending = f"The quality of the image is {level}."
        denied = strength not in (fault.strong.lower(), fault.slight.lower())
        if place >= _SPOTLESS or denied:
            return f"No {'single ' if place < _LIGHT else ''}fault stands out. {ending}"
        if place >= _LIGHT:
            return f"The image is {fault.slight}, which disturbs little. {ending}"
        light = place >= _MIDDLE and strength == fault.slight.lower()
        return f"The image is {fault.slight if light else fault.strong}. {ending}"
