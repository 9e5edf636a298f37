"""Images kept as keys and values, and questions that continue them without disturbing each other.

Rows are images (padded on the right), and behind each row's prefix lie the tokens of its questions, end to end. A mask
lets a token see its row's prefix and its own question only, and its position counts on from the prefix as if the
question stood there alone. So several questions about an image, or about several images, are one forward pass without
a copy of the prefix for each, and the prefix is there again when the questions are cut off.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence

_SHARED, _PAD = -1, -2  # owners of a slot that every question sees, and of one that none sees


class Prefix:
    """The keys and values of one or several images' prompts up to and including the image.

    Args:
        language_model: A decoder of transformers, without its head.
        rows: One (length, D) embedding sequence for each image.
    """

    def __init__(self, language_model: Any, rows: Sequence[torch.Tensor]) -> None:
        from transformers import DynamicCache

        self._model = language_model
        self._cache = DynamicCache()
        self._lengths = [len(row) for row in rows]
        width, device = max(self._lengths), rows[0].device
        padded = pad_sequence(list(rows), batch_first=True)
        # Causality alone keeps right padding out of sight, so no mask is needed and the fast kernel is used.
        self._model(inputs_embeds=padded, past_key_values=self._cache, use_cache=True)
        lengths = torch.tensor(self._lengths, device=device)[:, None]
        slots = torch.arange(width, device=device)[None]
        self._shared = torch.where(slots < lengths, _SHARED, _PAD)
        self.rewind()

    def rewind(self) -> None:
        """Forget all questions."""
        width = self._shared.shape[1]
        for layer in self._cache.layers:
            layer.keys, layer.values = layer.keys[..., :width, :], layer.values[..., :width, :]
        self._owners = self._shared
        self._counts: dict[tuple[int, int], int] = {}

    def extend(self, pieces: Sequence[tuple[int, int, Sequence[int]]]) -> torch.Tensor:
        """Read more tokens of some questions.

        Args:
            pieces: (row, question, token ids) each; a question's own number is free, but unique in its row.

        Returns:
            (len(pieces), D): the last hidden state of each piece.
        """
        ids, positions, owners, ends = self._lay_out(pieces)
        device = self._owners.device
        ids, positions, owners = ids.to(device), positions.to(device), owners.to(device)
        self._owners = torch.cat([self._owners, owners], dim=1)
        hidden = self._model(
            inputs_embeds=self._model.get_input_embeddings()(ids),
            attention_mask=self._mask(owners.shape[1]),
            position_ids=positions,
            past_key_values=self._cache,
            use_cache=True,
        ).last_hidden_state
        rows = torch.tensor([row for row, _, _ in pieces], device=hidden.device)
        last: torch.Tensor = hidden[rows, torch.tensor(ends, device=hidden.device)]
        return last

    def _lay_out(
        self, pieces: Sequence[tuple[int, int, Sequence[int]]]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, list[int]]:
        """Pack each row's pieces end to end: ids, positions and owners (rows, width), and where each piece ends."""
        used = [0] * len(self._lengths)
        starts = []
        for row, _, tokens in pieces:
            starts.append(used[row])
            used[row] += len(tokens)
        shape = len(used), max(used)
        ids, positions = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
        owners = torch.full(shape, _PAD)
        for start, (row, question, tokens) in zip(starts, pieces, strict=True):
            stop, read = start + len(tokens), self._counts.get((row, question), 0)
            ids[row, start:stop] = torch.tensor(list(tokens))
            positions[row, start:stop] = self._lengths[row] + read + torch.arange(len(tokens))
            owners[row, start:stop] = question
            self._counts[row, question] = read + len(tokens)
        return ids, positions, owners, [s + len(p[2]) - 1 for s, p in zip(starts, pieces, strict=True)]

    def _mask(self, width: int) -> torch.Tensor:
        """(rows, 1, width, all slots), True where a new token may look.

        Padding sees padding, so that no row of the attention is empty.
        """
        keys, queries = self._owners[:, None, :], self._owners[:, -width:, None]
        slots = torch.arange(self._owners.shape[1], device=self._owners.device)
        past = slots[None, None, :] <= slots[None, -width:, None]
        return (((keys == _SHARED) & (queries != _PAD)) | (keys == queries)).logical_and(past)[:, None]
