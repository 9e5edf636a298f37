"""Greedy decoding of several questions at once behind kept prefixes; equal to `generate(do_sample=False)`."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch

from ..levels import finite
from .base import Reply
from .prefix import Prefix

_log = logging.getLogger("qsit_metric")
# Settings of generation_config.json that change greedy text; two are honoured, of the others a warning tells.
_HONOURED = ("repetition_penalty", "no_repeat_ngram_size")
_CHANGING = (
    "bad_words_ids", "begin_suppress_tokens", "exponential_decay_length_penalty",
    "forced_bos_token_id", "forced_eos_token_id", "min_length", "min_new_tokens", "sequence_bias", "suppress_tokens",
)  # fmt: skip


class Decoder:
    """Generates text for questions behind a prefix.

    Args:
        model: A causal model of transformers with `generation_config`.
        tokenizer: Turns ids into text.
        max_new_tokens: Limit for each answer, at least 1.
    """

    def __init__(self, model: Any, tokenizer: Any, max_new_tokens: int) -> None:
        self._head = model.get_output_embeddings()
        self._tokenizer = tokenizer
        self._limit = max_new_tokens
        settings = model.generation_config
        stop = settings.eos_token_id
        self._stop = set(stop if isinstance(stop, (list, tuple)) else [] if stop is None else [stop])
        self._rules = _rules(settings)

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
            chosen = self._choose(finite(self._head(hidden)), [(prompts[n], texts[n]) for n in feed])
            for number, token in zip(list(feed), chosen, strict=True):
                texts[number].append(token)
                feed[number] = [token]
                if token in self._stop or len(texts[number]) >= self._limit:
                    del feed[number]
        return [self._reply(tokens) for tokens in texts]

    def _choose(self, logits: torch.Tensor, past: Sequence[tuple[list[int], list[int]]]) -> list[int]:
        """The most probable next token of each question, after the checkpoint's rules against repetition."""
        if self._rules:
            rows = []
            for row, (prompt, text) in zip(logits.float(), past, strict=True):
                ids = torch.tensor([prompt + text], device=logits.device)
                rows.append(self._rules(ids, row[None])[0])
            logits = torch.stack(rows)
        chosen: list[int] = logits.argmax(dim=-1).tolist()
        return chosen

    def _reply(self, tokens: list[int]) -> Reply:
        text = self._tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return Reply(text.strip(), tuple(tokens), bool(tokens) and tokens[-1] in self._stop)


def _rules(settings: Any) -> Any:
    """The checkpoint's rules that greedy search of transformers would apply too, or None."""
    from transformers import LogitsProcessorList, NoRepeatNGramLogitsProcessor, RepetitionPenaltyLogitsProcessor

    rules = LogitsProcessorList()
    penalty = getattr(settings, "repetition_penalty", None)
    if penalty not in (None, 1, 1.0):
        rules.append(RepetitionPenaltyLogitsProcessor(float(penalty)))
    ngram = getattr(settings, "no_repeat_ngram_size", None)
    if ngram:
        rules.append(NoRepeatNGramLogitsProcessor(int(ngram)))
    if ignored := [name for name in _CHANGING if getattr(settings, name, None)]:
        _log.warning("generation_config.json asks for %s, which is not applied here", ", ".join(ignored))
    return rules or None
