"""Questions about images: free ones are answered by generated text, multiple-choice ones by likelihood or by text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch

from .backends.base import Backend, Encoded, Reply
from .errors import InputError
from .levels import finite
from .prompts import LETTERS, Prompt, Recipe, check_choices, choice_in, multiple_choice
from .results import Answer

Method = Literal["likelihood", "letters", "texts", "generate"]
_METHODS = get_args(Method)


class Questions:
    """One or several questions, checked, ready to be asked of any number of images.

    Args:
        backend: Who answers.
        recipe: Chat format, shared with the score so that an image is read once for both.
        question: One question or a list.
        choices: Options for every question, or None.
        method: How options are compared, see `QSiT.ask`.
        max_new_tokens: Limit of a generated answer.

    Raises:
        InputError: Something of this cannot be asked.
    """

    def __init__(
        self,
        backend: Backend,
        recipe: Recipe,
        question: str | Sequence[str],
        choices: Sequence[str] | None,
        method: Method,
        max_new_tokens: int,
    ) -> None:
        if method not in _METHODS:
            raise InputError.about("method", method, f"one of {', '.join(_METHODS)}")
        if isinstance(max_new_tokens, bool) or not isinstance(max_new_tokens, int) or max_new_tokens < 1:
            raise InputError.about("max_new_tokens", max_new_tokens, "a whole number of 1 or more")
        self._backend = backend
        self._limit = max_new_tokens
        self._single = isinstance(question, str) or not isinstance(question, Sequence)
        self._choices = None if choices is None else check_choices(choices)
        self._way = recipe.choices if method == "likelihood" else method
        self._prompts = [self._prompt(recipe, text) for text in ([question] if self._single else question)]
        for prompt in self._prompts:
            backend.check(prompt)

    def _prompt(self, recipe: Recipe, question: object) -> Prompt:
        if not isinstance(question, str) or not question.strip():
            raise InputError.about("question", question, "a non-empty text", "Ask something about the image.")
        if self._choices is None:
            return recipe.asking(question)
        if self._way == "texts":
            for choice in self._choices:
                self._backend.check(recipe.asking(choice))
            return recipe.asking(question)
        words = LETTERS[: len(self._choices)] if self._way == "letters" else ()
        return recipe.asking(multiple_choice(question, self._choices), words)

    def answer(self, images: Sequence[Encoded]) -> list[Answer | list[Answer]]:
        """Ask every question of every image in one go.

        Returns:
            For each image its answer, or the list of its answers if several questions were given as a list.
        """
        requests = [(image, prompt) for image in images for prompt in self._prompts]
        flat = self._answers(requests) if requests else []
        count = len(self._prompts)
        rows = [flat[start * count : (start + 1) * count] for start in range(len(images))]
        return [row[0] for row in rows] if self._single else list(rows)

    def _answers(self, requests: Sequence[tuple[Encoded, Prompt]]) -> list[Answer]:
        if self._choices is None or self._way == "generate":
            return [self._by_text(reply) for reply in self._backend.generate(requests, self._limit)]
        if self._way == "texts":
            return [self._by_likelihood(row) for row in self._backend.likelihoods(requests, self._choices)]
        return [self._by_likelihood(row) for row in self._backend.logits(requests)]

    def _by_likelihood(self, logits: torch.Tensor) -> Answer:
        """The option whose letter or text is most probable; the probabilities are renormalised over the options."""
        choices = self._choices or ()
        probs = finite(logits).cpu().double().softmax(dim=-1).tolist()
        best = choices[max(range(len(choices)), key=probs.__getitem__)]
        return Answer(best, best, dict(zip(choices, probs, strict=True)))

    def _by_text(self, reply: Reply) -> Answer:
        index = choice_in(reply.text, self._choices) if self._choices else None
        choice = self._choices[index] if self._choices and index is not None else None
        return Answer(reply.text, choice, None, reply.finished, reply.tokens)
