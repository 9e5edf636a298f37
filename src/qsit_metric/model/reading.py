"""Ways of reading a sequence: whole prompts at once, and questions behind images whose keys and values are kept.

`Whole` reads complete texts of any lengths, one behind the other, each token seeing its own text's past. With a `Cache`
it leaves keys and values behind. `Prefix` holds those of one or several images and reads questions that continue them:
rows are images, and behind a row's image lie the tokens of its questions, end to end. A mask lets a token see its
row's image and its own question only, and its position counts on from the image as if the question stood there alone.
So several questions about an image, or about several images, are one pass without a copy of the image for each, and
the images are there again when the questions are cut off.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence

import torch
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from .network import Decoder
from .products import attention

_SHARED, _PAD = -1, -2  # owners of a slot that every question sees, and of one that none sees
_ROOM = 64  # slots that a cache grows by at least, so that a token costs no copy of what is there


class Cache:
    """Keys and values of every layer, with room to grow; cut back by an index.

    Args:
        rows: How many sequences lie side by side.
    """

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.length = 0
        self._layers: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def write(self, layer: int, at: int, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Put (rows, width, groups, head) keys and values behind the first `at` slots."""
        stop = at + keys.shape[1]
        for kept, new in zip(self._room(layer, stop, keys), (keys, values), strict=True):
            kept[:, :, at:stop] = new.transpose(1, 2)

    def read(self, layer: int, stop: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The first `stop` slots: two (rows, groups, stop, head), not copied."""
        keys, values = self._layers[layer]
        return keys[:, :, :stop], values[:, :, :stop]

    def _room(self, layer: int, stop: int, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """A layer's buffers, with at least `stop` slots; grown by a share, so that growing is rare."""
        kept = self._layers.get(layer)
        have = 0 if kept is None else kept[0].shape[2]
        if kept is None or have < stop:
            slots = stop if kept is None else max(stop, have + max(_ROOM, have // 8))
            shape = self.rows, like.shape[2], slots, like.shape[3]
            with torch.inference_mode(False):  # or what is made there could not be written to elsewhere
                grown = like.new_empty(shape), like.new_empty(shape)
            for old, new in zip(kept or (), grown, strict=False):
                new[:, :, :have] = old
            self._layers[layer] = kept = grown
        return kept


class Whole:
    """Complete texts, read from their beginning.

    Args:
        lengths: Of each text, in tokens.
        device: Where the tokens are.
        cache: Takes keys and values, one row for each text, padded on the right; then no hidden state is asked for.
        every: Ask for the hidden states of all places (training) instead of each text's last.
    """

    def __init__(
        self, lengths: Sequence[int], device: torch.device, *, cache: Cache | None = None, every: bool = False
    ) -> None:
        self.lengths = list(lengths)
        self._cache = cache
        ends = torch.tensor(self.lengths, device=device).cumsum(0)
        self.positions = torch.cat([torch.arange(length, device=device) for length in self.lengths])
        self.wanted = None if every else ends - 1 if cache is None else ends[:0]

    def attend(
        self, layer: int, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, dropout: float
    ) -> torch.Tensor:
        """See `Reading.attend`."""
        if self._cache is not None:
            self._keep(self._cache, layer, keys, values)
        last = len(queries) != len(keys)  # one query for each text, which sees all of it
        if last and not len(queries):
            return queries.flatten(1)
        if len(set(self.lengths)) == 1:
            return _attend(queries, keys, values, len(self.lengths), dropout, causal=not last)
        counts = [1] * len(self.lengths) if last else self.lengths
        split = (torch.split(queries, counts), torch.split(keys, self.lengths), torch.split(values, self.lengths))
        return torch.cat([_attend(q, k, v, 1, dropout, causal=not last) for q, k, v in zip(*split, strict=True)])

    def _keep(self, cache: Cache, layer: int, keys: torch.Tensor, values: torch.Tensor) -> None:
        padded = [pad_sequence(list(torch.split(part, self.lengths)), batch_first=True) for part in (keys, values)]
        cache.write(layer, 0, *padded)


def _attend(
    queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, rows: int, dropout: float, causal: bool
) -> torch.Tensor:
    """Attention of `rows` texts of one length: (rows * length, heads, head) -> (rows * length, heads * head)."""
    q, k, v = (torch.unflatten(part, 0, (rows, -1)).transpose(1, 2) for part in (queries, keys, values))
    return attention(q, k, v, dropout, causal).flatten(0, 1)


class Prefix:
    """The keys and values of one or several images' prompts up to and including the image.

    Args:
        decoder: What reads.
        rows: One (length, hidden) embedding sequence for each image.
    """

    def __init__(self, decoder: Decoder, rows: Sequence[torch.Tensor]) -> None:
        self._decoder = decoder
        self._cache = Cache(len(rows))
        self._lengths = [len(row) for row in rows]
        device = rows[0].device
        decoder(torch.cat(list(rows)), Whole(self._lengths, device, cache=self._cache))
        lengths = torch.tensor(self._lengths, device=device)[:, None]
        slots = torch.arange(max(self._lengths), device=device)[None]
        self._shared = torch.where(slots < lengths, _SHARED, _PAD)
        self._lock = threading.Lock()  # questions of several threads wait for each other
        self._forget()

    @contextlib.contextmanager
    def questions(self) -> Iterator[Prefix]:
        """The images for a round of questions, which is forgotten at the end; one thread at a time."""
        with self._lock:
            try:
                yield self
            finally:
                self._forget()

    def _forget(self) -> None:
        self._owners = self._shared
        self._counts: dict[tuple[int, int], int] = {}

    def extend(self, pieces: Sequence[tuple[int, int, Sequence[int]]]) -> torch.Tensor:
        """Read more tokens of some questions.

        Args:
            pieces: (row, question, token ids) each; a question's own number is free, but unique in its row.

        Returns:
            (len(pieces), hidden): the last hidden state of each piece.
        """
        continued = _Continued(self, pieces)
        ids = torch.tensor([token for _, _, tokens in pieces for token in tokens], device=self._owners.device)
        return self._decoder(self._decoder.embed_tokens(ids), continued)  # type: ignore[no-any-return]

    def _place(self, pieces: Sequence[tuple[int, int, Sequence[int]]]) -> tuple[list[int], list[int], torch.Tensor]:
        """Each token's row, its slot behind what was read, and its position; owners are written down."""
        used = [0] * self._cache.rows
        rows: list[int] = []
        slots: list[int] = []
        positions: list[int] = []
        owners: list[int] = []
        for row, question, tokens in pieces:
            read = self._counts.get((row, question), 0)
            self._counts[row, question] = read + len(tokens)
            rows += [row] * len(tokens)
            slots += range(used[row], used[row] + len(tokens))
            positions += range(self._lengths[row] + read, self._lengths[row] + read + len(tokens))
            owners += [question] * len(tokens)
            used[row] += len(tokens)
        added = torch.full((self._cache.rows, max(used)), _PAD)
        added[rows, slots] = torch.tensor(owners)
        device = self._owners.device
        self._owners = torch.cat([self._owners, added.to(device)], dim=1)
        return rows, slots, torch.tensor(positions, device=device)


class _Continued:
    """Questions behind a prefix, as a `Reading`."""

    def __init__(self, prefix: Prefix, pieces: Sequence[tuple[int, int, Sequence[int]]]) -> None:
        self._cache, self._before = prefix._cache, prefix._owners.shape[1]
        rows, slots, self.positions = prefix._place(pieces)
        device = self.positions.device
        self.wanted = torch.tensor([len(tokens) for _, _, tokens in pieces], device=device).cumsum(0) - 1
        self._width = prefix._owners.shape[1] - self._before
        self._places = torch.tensor(rows, device=device) * self._width + torch.tensor(slots, device=device)
        self._full = len(rows) == self._cache.rows * self._width and rows == sorted(rows)
        self._mask = _visible(prefix._owners, self._width)

    def attend(
        self, layer: int, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, dropout: float
    ) -> torch.Tensor:
        """See `Reading.attend`."""
        self._cache.write(layer, self._before, self._rows(keys), self._rows(values))
        kept = self._cache.read(layer, self._before + self._width)
        places = self._places if len(queries) == len(self._places) else self._places[self.wanted]
        places = places.to(queries.device)
        spread = queries.new_zeros(self._cache.rows * self._width, *queries.shape[1:])
        spread[places] = queries
        seen = _behind(torch.unflatten(spread, 0, (self._cache.rows, -1)), *kept, self._mask.to(queries.device))
        return seen.flatten(0, 1)[places]

    def _rows(self, flat: torch.Tensor) -> torch.Tensor:
        """(T, groups, head) -> (rows, width, groups, head), zeros where a row has fewer tokens."""
        if not self._full:
            spread = flat.new_zeros(self._cache.rows * self._width, *flat.shape[1:])
            spread[self._places.to(flat.device)] = flat
            flat = spread
        return torch.unflatten(flat, 0, (self._cache.rows, self._width))


def _behind(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Attention of (rows, width, heads, head) queries to what is kept, (rows, groups, slots, head).

    Returns (rows, width, heads * head). Heads of one group share keys, so they are read as one longer text, and nothing
    that is kept is copied.
    """
    rows, width, heads, head = q.shape
    groups = k.shape[1]
    folded = q.view(rows, width, groups, heads // groups, head).permute(0, 2, 3, 1, 4).flatten(2, 3)
    seen = functional.scaled_dot_product_attention(folded, k, v, mask.repeat(1, 1, heads // groups, 1))
    return torch.unflatten(seen, 2, (heads // groups, width)).permute(0, 3, 1, 2, 4).reshape(rows, width, heads * head)


def _visible(owners: torch.Tensor, width: int) -> torch.Tensor:
    """(rows, 1, width, all slots), True where one of the last `width` tokens may look.

    Padding sees padding, so that no row of the attention is empty.
    """
    keys, queries = owners[:, None, :], owners[:, -width:, None]
    slots = torch.arange(owners.shape[1], device=owners.device)
    past = slots[None, None, :] <= slots[None, -width:, None]
    return (((keys == _SHARED) & (queries != _PAD)) | (keys == queries)).logical_and(past)[:, None]
