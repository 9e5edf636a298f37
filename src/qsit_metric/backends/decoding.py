"""From kept images to answers: text written greedily, and how probable given answers are.

Greedy text follows what the checkpoint says of ends and of repetition, as `generate(do_sample=False)` of transformers.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from ..errors import CheckpointError
from ..levels import finite
from .base import Reply
from .files import read_json
from .tokenizer import Tokenizer

_log = logging.getLogger("qsit_metric")
# Settings that change greedy text too and are not applied here; a warning tells.
_IGNORED = (
    "bad_words_ids", "begin_suppress_tokens", "exponential_decay_length_penalty",
    "forced_bos_token_id", "forced_eos_token_id", "min_length", "min_new_tokens", "sequence_bias", "suppress_tokens",
)  # fmt: skip


class Growing(Protocol):
    """Kept images behind which questions are read: `model.reading.Prefix`, `continuing.Kept`."""

    def extend(self, pieces: Sequence[tuple[int, int, Sequence[int]]]) -> torch.Tensor:
        """Read more tokens of some questions: (row, question, ids) each -> their last hidden states."""


@dataclass(frozen=True)
class Generation:
    """What greedy decoding follows beside the logits.

    Attributes:
        stop: Ids that end an answer.
        repetition_penalty: Divides positive logits of ids seen before and multiplies negative ones; 1 changes nothing.
        no_repeat_ngram_size: No run of this many ids comes twice; 0 allows all.
        ignored: Names of settings that would change the text and are not applied.
    """

    stop: frozenset[int] = frozenset()
    repetition_penalty: float = 1.0
    no_repeat_ngram_size: int = 0
    ignored: tuple[str, ...] = ()

    @classmethod
    def load(cls, folder: Path) -> Generation:
        """What a checkpoint folder says in generation_config.json or, without that file, in config.json.

        Raises:
            CheckpointError: A setting is not of its type.
        """
        settings = read_json(folder, "generation_config.json")
        if settings or (folder / "generation_config.json").is_file():
            return cls._read(settings.get)
        config = read_json(folder, "config.json")
        text = config.get("text_config")
        inner: Mapping[str, Any] = text if isinstance(text, dict) else {}
        return cls._read(lambda name: inner.get(name) if config.get(name) is None else config[name])

    @classmethod
    def of(cls, settings: Any) -> Generation:
        """What a `GenerationConfig` of transformers says; nothing for None."""
        return cls._read(lambda name: getattr(settings, name, None))

    @classmethod
    def _read(cls, value: Callable[[str], Any]) -> Generation:
        found = {name: value(name) for name in ("eos_token_id", "repetition_penalty", "no_repeat_ngram_size")}
        stop = found["eos_token_id"]
        stop = stop if isinstance(stop, (list, tuple)) else [] if stop is None else [stop]
        penalty = 1.0 if found["repetition_penalty"] is None else found["repetition_penalty"]
        ngram = found["no_repeat_ngram_size"] or 0
        if not all(_whole(token) for token in stop):
            raise CheckpointError.about("eos_token_id", found["eos_token_id"], "a token id or a list of them")
        if not isinstance(penalty, (int, float)) or isinstance(penalty, bool) or not penalty > 0:
            raise CheckpointError.about("repetition_penalty", penalty, "a number above 0")
        if not _whole(ngram):
            raise CheckpointError.about("no_repeat_ngram_size", ngram, "a whole number, at least 0")
        return cls(frozenset(stop), float(penalty), ngram, tuple(name for name in _IGNORED if value(name)))

    def warn(self) -> None:
        """Tell which settings are ignored."""
        if self.ignored:
            _log.warning("generation_config.json asks for %s, which is not applied here", ", ".join(self.ignored))

    def adjust(self, logits: torch.Tensor, past: Sequence[Sequence[int]]) -> torch.Tensor:
        """Apply the rules against repetition.

        Args:
            logits: Of the next token, (rows, vocabulary).
            past: All ids before it, of each row: prompt and text.

        Returns:
            Adjusted logits in float32; the same tensor if there are no rules.
        """
        if self.repetition_penalty == 1 and not self.no_repeat_ngram_size:
            return logits
        rows = logits.to(torch.float32, copy=True)
        for row, ids in zip(rows, past, strict=True):
            self._penalise(row, ids)
            row[_completing(ids, self.no_repeat_ngram_size)] = -torch.inf
        return rows

    def _penalise(self, row: torch.Tensor, ids: Sequence[int]) -> None:
        seen = torch.tensor(sorted(set(ids)), dtype=torch.long, device=row.device)
        found = row[seen]
        row[seen] = torch.where(found < 0, found * self.repetition_penalty, found / self.repetition_penalty)


class GreedyDecoder:
    """Writes answers to several questions at once behind kept images; equal to `generate(do_sample=False)`.

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
        self, prefix: Growing, rows: Sequence[int], suffixes: Sequence[Sequence[int]], prompts: Sequence[list[int]]
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


def word_logits(
    head: Any, dtype: torch.dtype, hidden: torch.Tensor, words: Sequence[Sequence[int]]
) -> list[torch.Tensor]:
    """Logits of each row's own words, float32 (float64 stays).

    Args:
        head: The output layer, from hidden states to logits.
        dtype: Floating-point type of the model.
        hidden: (rows, hidden).
        words: Token ids that are asked for, of each row.
    """
    wide = torch.float64 if hidden.dtype == torch.float64 else torch.float32
    if head.weight.dtype != dtype or hasattr(head, "_hf_hook"):
        every = head(hidden).to(wide)  # quantised or offloaded: the weight itself cannot be read
        return [row[list(ids)] for row, ids in zip(every, words, strict=True)]
    rows = (head.weight[list(ids)].to(hidden.device, wide) for ids in words)
    return [weight @ state for weight, state in zip(rows, hidden.to(wide), strict=True)]


def answer_likelihoods(
    head: Any, prefix: Growing, rows: Sequence[int], suffixes: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]
) -> torch.Tensor:
    """Log-probability of each answer, the sum over its tokens.

    Args:
        head: The output embedding, from hidden states to logits.
        prefix: The images, in a round of questions.
        rows: Row of each answer's image in the prefix.
        suffixes: Token ids of each answer's question after the image.
        answers: Token ids of each answer, one or more.

    Returns:
        (answers,) float32.
    """
    hidden = prefix.extend([(row, n, list(ids)) for n, (row, ids) in enumerate(zip(rows, suffixes, strict=True))])
    active = list(range(len(answers)))
    total = torch.zeros(len(answers), dtype=torch.float32)
    place = 0
    while True:
        chances = finite(head(hidden)).float().log_softmax(dim=-1).cpu()
        total[active] += torch.stack([chances[at, answers[n][place]] for at, n in enumerate(active)])
        fed = [(n, answers[n][place]) for n in active if place + 1 < len(answers[n])]
        if not fed:
            return total
        hidden = prefix.extend([(rows[n], n, [token]) for n, token in fed])
        active, place = [n for n, _ in fed], place + 1


def _completing(ids: Sequence[int], size: int) -> list[int]:
    """Ids that would write a run of `size` ids a second time."""
    if size < 1 or len(ids) + 1 < size:
        return []
    ending = tuple(ids[len(ids) - size + 1 :])
    return [ids[end] for end in range(size - 1, len(ids)) if tuple(ids[end - size + 1 : end]) == ending]


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
