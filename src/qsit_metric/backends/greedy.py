"""Greedy decoding of several questions at once behind kept prefixes; equal to `generate(do_sample=False)`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..levels import finite
from ..model.reading import Prefix
from .base import Reply
from .generation import Generation
from .tokenizer import Tokenizer


class Decoder:
    """Generates text for questions behind a prefix.

    Args:
        head: The model's output layer, from hidden states to logits.
        tokenizer: Turns ids into text.
        generation: What ends an answer, and the rules against repetition.
        max_new_tokens: Limit for each answer, at least 1.
    """

    def __init__(self, head: Any, tokenizer: Tokenizer, generation: Generation, max_new_tokens: int) -> None:
        self._head = head
        self._tokenizer = tokenizer
        self._generation = generation
        self._limit = max_new_tokens
        generation.warn()

    def run(
        self, prefix: Prefix, rows: Sequence[int], suffixes: Sequence[Sequence[int]], prompts: Sequence[list[int]]
    ) -> list[Reply]:
        """Answer every question.

        Args:
            prefix: The images.
            rows: Row of each question's image in the prefix.
            suffixes: Token ids of each question after the image.
            prompts: All ids of each prompt, for rules against repetition.
        """
        texts: list[list[int]] = [[] for _ in rows]
        feed = dict(enumerate(suffixes))
        while feed:
            hidden = prefix.extend([(rows[n], n, tokens) for n, tokens in feed.items()])
            past = [prompts[n] + texts[n] for n in feed]
            chosen = self._generation.adjust(finite(self._head(hidden)), past).argmax(dim=-1).tolist()
            for number, token in zip(list(feed), chosen, strict=True):
                texts[number].append(token)
                feed[number] = [token]
                if token in self._generation.stop or len(texts[number]) >= self._limit:
                    del feed[number]
        return [self._reply(tokens) for tokens in texts]

    def _reply(self, tokens: list[int]) -> Reply:
        ended = bool(tokens) and tokens[-1] in self._generation.stop
        return Reply(self._tokenizer.decode(tokens).strip(), tuple(tokens), ended)
