"""From a prompt to token ids around an image, with a checkpoint's own tokenizer and chat template."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..errors import CheckpointError, InputError
from ..prompts import Prompt
from .template import render
from .tokenizer import Tokenizer

IMAGE = "<image>"
_REMEMBERED = 256


@dataclass(frozen=True)
class Ids:
    """Token ids of a prompt: before the image, after it (answer prefix included), and the first id of each word."""

    before: tuple[int, ...]
    after: tuple[int, ...]
    words: tuple[int, ...]


class Dialogue:
    """Renders prompts; remembers those it has seen.

    Args:
        tokenizer: A `Tokenizer`, or a tokenizer object of transformers, that knows the image token.
        template: Chat template in Jinja; prompts may bring their own.
    """

    def __init__(self, tokenizer: Any, template: str) -> None:
        self.tokenizer = Tokenizer.of(tokenizer)
        self.template = template
        self._reserved = sorted({IMAGE, *self.tokenizer.all_special_tokens, *self.tokenizer.added_vocab})
        self._seen: dict[Prompt, Ids] = {}

    def ids(self, prompt: Prompt) -> Ids:
        """Token ids of a prompt.

        The text before and after the image, and the answer prefix, are encoded one by one: the image token is special,
        so the first cut changes nothing, and the authors append the prefix's ids in the same way.

        Raises:
            InputError: The question contains a token reserved for the chat format.
            CheckpointError: The template does not place exactly one image, or two words begin with the same token.
        """
        ids = self._seen.get(prompt)
        if ids is None:
            ids = self._encode(prompt)
            # A long-lived process asks many different questions; a new dict, as other threads may read the old one.
            self._seen = {**self._seen, prompt: ids} if len(self._seen) < _REMEMBERED else {prompt: ids}
        return ids

    def _encode(self, prompt: Prompt) -> Ids:
        self._check_question(prompt.question)
        parts = self.render(prompt).split(IMAGE)
        if len(parts) != 2:
            raise CheckpointError.about("chat template", f"<{len(parts) - 1} images placed>", "exactly one image")
        before, after = (self._tokens(part) for part in parts)
        return Ids(before, after + self._tokens(prompt.answer_prefix), self._first_tokens(prompt.words))

    def answer(self, text: str) -> tuple[int, ...]:
        """Token ids of a whole answer, its end included.

        Raises:
            InputError: The text contains a token reserved for the chat format.
        """
        self._check_question(text)
        end = self.tokenizer.eos_token_id
        return (*self._tokens(text), *(() if end is None else (end,)))

    def render(self, prompt: Prompt) -> str:
        """The chat as text, up to where the answer begins; the image stands as `<image>`."""
        turns = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": prompt.question}]}]
        if prompt.system is not None:
            turns.insert(0, {"role": "system", "content": [{"type": "text", "text": prompt.system}]})
        switches = dict.fromkeys(prompt.switches, True)
        return render(prompt.template or self.template, turns, {**self.tokenizer.named, **switches})

    def _check_question(self, question: str) -> None:
        try:
            question.encode("utf-8")
        except UnicodeEncodeError as error:
            raise InputError.about("question", question, "text that can be written as UTF-8") from error
        if found := next((token for token in self._reserved if token and token in question), None):
            hint = f"Remove {found!r}; the chat format and the image are added for you."
            raise InputError.about("question", question, "plain text without reserved tokens", hint)

    def _tokens(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer.encode(text)) if text else ()

    def _first_tokens(self, words: tuple[str, ...]) -> tuple[int, ...]:
        """The id that each word begins with; two words with the same one could not be told apart."""
        first = tuple(next(iter(self._tokens(word)), -1) for word in words)
        if -1 in first or len(set(first)) < len(first):
            shown = f"<{', '.join(f'{word!r} -> {token}' for word, token in zip(words, first, strict=True))}>"
            raise CheckpointError.about("words", shown, "words that begin with distinct tokens in this tokenizer")
        return first
