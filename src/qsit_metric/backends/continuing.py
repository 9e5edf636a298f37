"""Models of transformers read in parts: whole prompts in one batch, and questions behind a picture that was read once.

Texts of several lengths are padded on the right and no mask is given: a decoder looks back only, so a text's last token
never sees what stands behind it, and no token stands at another place than it would alone. Rows and places are thus
those of each text by itself, which padding on the left does not promise to layers that carry a state.

What is kept of a picture is what the model's own cache holds (`Family.kept`). It is copied for the questions, as a
state cannot be cut back.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.nn.functional import pad

from .processors import Pixels


@dataclass(frozen=True)
class Text:
    """A text with at most one picture in it.

    Attributes:
        ids: Token ids, the picture's among them.
        kinds: Further rows of the same length ("mm_token_type_ids").
        tensors: What the vision tower takes of the picture.
    """

    ids: tuple[int, ...]
    kinds: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    tensors: Mapping[str, torch.Tensor] = field(default_factory=dict)

    @classmethod
    def around(cls, before: tuple[int, ...], pixels: Pixels, after: Sequence[int]) -> Text:
        """The picture between two pieces of text."""
        blank, behind = (0,) * len(before), (0,) * len(after)
        kinds = {name: (*blank, *row, *behind) for name, row in pixels.kinds.items()}
        return cls((*before, *pixels.ids, *after), kinds, pixels.tensors)


class Engine:
    """The base of an image-text-to-text model, from texts to hidden states.

    Args:
        model: A model of transformers whose `model` reads texts and pictures and whose head follows.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self._core = model.model
        rope = getattr(self._core, "get_rope_index", None)
        self._rope = None if rope is None else (rope, set(inspect.signature(rope).parameters))

    @property
    def device(self) -> torch.device:
        """Where inputs go."""
        return self.model.device  # type: ignore[no-any-return]

    def last(self, texts: Sequence[Text]) -> torch.Tensor:
        """The last hidden state of each text, (texts, hidden); keeps the gradient of their pictures."""
        hidden = self._core(**self._inputs(texts), use_cache=False).last_hidden_state
        ends = torch.tensor([len(text.ids) - 1 for text in texts], device=hidden.device)
        return hidden[torch.arange(len(texts), device=hidden.device), ends]  # type: ignore[no-any-return]

    def keep(self, text: Text) -> tuple[Any, int]:
        """Read a text and keep it: the model's cache, and the place of the next token."""
        inputs = self._inputs([text])
        cache = self._core(**inputs, use_cache=True).past_key_values
        places = inputs.get("position_ids")
        return cache, len(text.ids) if places is None else int(places.max()) + 1

    def go_on(
        self, cache: Any, rows: Sequence[Sequence[int]], places: Sequence[int], mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Read more of each row of a cache, which grows; the last hidden state of each, (rows, hidden).

        Args:
            cache: Of as many rows.
            rows: Token ids, padded here where they are not of one length.
            places: Where each row goes on.
            mask: Which of all slots are no padding, (rows, slots), or None for all.
        """
        ends = torch.tensor([len(row) - 1 for row in rows], device=self.device)
        ids = self._padded([torch.tensor(list(row)) for row in rows])
        steps = torch.arange(ids.shape[1], device=self.device)[None]
        positions = torch.tensor(list(places), device=self.device)[:, None] + steps
        if self._rope is not None:
            positions = positions.expand(3, *positions.shape)
        extra = {} if mask is None else {"attention_mask": mask}
        hidden = self._core(
            input_ids=ids, position_ids=positions, past_key_values=cache, use_cache=True, **extra
        ).last_hidden_state
        return hidden[torch.arange(len(rows), device=hidden.device), ends]  # type: ignore[no-any-return]

    def _inputs(self, texts: Sequence[Text]) -> dict[str, Any]:
        """What the base's forward takes: one batch, padded on the right."""
        ids = self._padded([torch.tensor(text.ids) for text in texts])
        inputs: dict[str, Any] = {"input_ids": ids}
        for name in texts[0].tensors:
            joined = torch.cat([text.tensors[name].to(self.device) for text in texts])
            inputs[name] = joined.to(self.model.dtype) if joined.is_floating_point() else joined
        if self._rope is not None:
            inputs["position_ids"] = self._padded([self._places(text) for text in texts]).movedim(1, 0)
        return inputs

    def _places(self, text: Text) -> torch.Tensor:
        """Where each token stands, (3, tokens): time, row and column, of which text has three equal ones."""
        if self._rope is None:
            return torch.arange(len(text.ids)).expand(3, -1)
        rope, known = self._rope
        given = {name: torch.tensor([row]) for name, row in text.kinds.items()}
        given |= {name: value for name, value in text.tensors.items() if name.endswith("grid_thw")}
        given = {name: value.to(self.device) for name, value in given.items() if name in known}
        ids = torch.tensor([text.ids], device=self.device)
        found: torch.Tensor = rope(input_ids=ids, **given)[0][:, 0]
        return found

    def _padded(self, rows: Sequence[torch.Tensor]) -> torch.Tensor:
        longest = max(row.shape[-1] for row in rows)
        return torch.stack([pad(row, (0, longest - row.shape[-1])) for row in rows]).to(self.device)


class Kept:
    """One picture that was read once, and the questions behind it.

    Answers to the calls of `GreedyDecoder` as `model.reading.Prefix` does, with one row: its picture.

    Args:
        engine: Who reads.
        text: All up to and including the picture.
    """

    def __init__(self, engine: Engine, text: Text) -> None:
        self._engine = engine
        self._cache, self._place = engine.keep(text)
        self._length = len(text.ids)
        self._lock = threading.Lock()
        self._grown: _Grown | None = None

    @contextlib.contextmanager
    def questions(self) -> Iterator[Kept]:
        """The picture for a round of questions, which is forgotten at the end; one thread at a time."""
        with self._lock:
            try:
                yield self
            finally:
                self._grown = None

    def ask(self, questions: Sequence[Sequence[int]]) -> torch.Tensor:
        """The last hidden state of each question, (questions, hidden), in one pass."""
        cache = self._copy(len(questions))
        return self._engine.go_on(cache, questions, [self._place] * len(questions))

    def extend(self, pieces: Sequence[tuple[int, int, Sequence[int]]]) -> torch.Tensor:
        """Read more tokens of some questions: at first all of each, then one token of those that go on.

        Args:
            pieces: (row, which is 0, number of the question, token ids) each.

        Returns:
            (len(pieces), hidden): the last hidden state of each piece.
        """
        if self._grown is None:
            return self._first(pieces)
        return self._grown.step(self._engine, [(number, tokens[0]) for _, number, tokens in pieces])

    def _first(self, pieces: Sequence[tuple[int, int, Sequence[int]]]) -> torch.Tensor:
        """Read whole questions, each alone: padding behind one would stay in a state that goes on from there."""
        caches = [self._copy(1) for _ in pieces]
        hidden = [
            self._engine.go_on(cache, [tokens], [self._place])
            for cache, (_, _, tokens) in zip(caches, pieces, strict=True)
        ]
        lengths = [self._length + len(tokens) for _, _, tokens in pieces]
        places = [self._place + len(tokens) for _, _, tokens in pieces]
        self._grown = _Grown(caches, [number for _, number, _ in pieces], lengths, places)
        return torch.cat(hidden)

    def _copy(self, rows: int) -> Any:
        copied = copy.deepcopy(self._cache)
        if rows > 1:
            copied.reorder_cache(torch.zeros(rows, dtype=torch.long, device=self._engine.device))
        return copied


class _Grown:
    """Questions of several lengths as one batch that grows by a token at a time.

    Keys and values are moved to the right, so that all rows end at one slot; a mask hides the empty slots before them.

    Args:
        caches: Of one row each; the first is used up.
        numbers: Of the questions.
        lengths: Tokens of each.
        places: Where each goes on.
    """

    def __init__(self, caches: Sequence[Any], numbers: list[int], lengths: Sequence[int], places: list[int]) -> None:
        longest = max(lengths)
        self._cache = caches[0]
        self._numbers, self._places = numbers, places
        for index, layer in enumerate(self._cache.layers):
            _join(layer, [cache.layers[index] for cache in caches], [longest - length for length in lengths])
        slots = torch.arange(longest)[None]
        self._mask = (slots >= torch.tensor([longest - length for length in lengths])[:, None]).long()

    def step(self, engine: Engine, tokens: Sequence[tuple[int, int]]) -> torch.Tensor:
        """Read one token of each question that goes on: (number, token id) -> hidden states."""
        rows = [self._numbers.index(number) for number, _ in tokens]
        if rows != list(range(len(self._numbers))):
            self._cache.reorder_cache(torch.tensor(rows, device=engine.device))
            self._numbers = [self._numbers[row] for row in rows]
            self._places = [self._places[row] for row in rows]
            self._mask = self._mask[rows]
        self._mask = pad(self._mask, (0, 1), value=1)
        mask = None if bool(self._mask.all()) else self._mask.to(engine.device)
        hidden = engine.go_on(self._cache, [[token] for _, token in tokens], self._places, mask)
        self._places = [place + 1 for place in self._places]
        return hidden


def _join(target: Any, layers: Sequence[Any], shifts: Sequence[int]) -> None:
    """Put the rows of several caches' layers into one: keys and values moved right, states as they are."""
    if getattr(target, "keys", None) is not None:
        for name in ("keys", "values"):
            moved = [pad(getattr(layer, name), (0, 0, shift, 0)) for layer, shift in zip(layers, shifts, strict=True)]
            setattr(target, name, torch.cat(moved))
    for name in ("conv_states", "recurrent_states"):
        for index in getattr(target, name, None) or ():
            states = [getattr(layer, name)[index] for layer in layers]
            if states[0] is not None:
                getattr(target, name)[index] = torch.cat(states)
