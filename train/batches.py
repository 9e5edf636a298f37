"""From drawn rows to batches of tensors: pictures are read, cut and tokenised in worker processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset

from qsit_metric.errors import ImageError
from qsit_metric.pixels import load
from qsit_metric.pixels.geometry import Geometry
from qsit_metric.pixels.tiles import Plan, cut, plan

from .chat import IGNORED, Encoder
from .data.rows import Row
from .errors import DataError, RunError
from .processes import outlive_one_signal

Pick = tuple[int, int]  # which set, which of its rows
Reader = Callable[[str], tuple[torch.Tensor, tuple[int, int]]]
"""A picture's path -> its tiles (uint8), or what the tower says of them, and its (height, width)."""


@dataclass(frozen=True)
class RowSet:
    """Rows of one set, and the folder of their pictures.

    Attributes:
        rows: The rows.
        root: The folder below which their pictures lie.
        kept: Gives the tiles of a picture, or what a frozen tower says of them, and its (height, width), by its path;
            None: pictures are read and cut at each use.
    """

    rows: Sequence[Row]
    root: Path
    kept: Reader | None = None


class Sample(NamedTuple):
    """One row as tensors: (L,) ids and labels, (tiles, 3, tile, tile) uint8 or the tower's states, and their plan."""

    ids: torch.Tensor
    labels: torch.Tensor
    tiles: torch.Tensor
    plan: Plan


class Refused(NamedTuple):
    """Reason why a row cannot be used; said by a worker, raised in the training process."""

    reason: str


class Batch(NamedTuple):
    """Rows as `JointModel.forward` takes them: (B, L) ids and labels, all tiles one after the other, B plans."""

    ids: torch.Tensor
    labels: torch.Tensor
    tiles: torch.Tensor
    plans: tuple[Plan, ...]

    def to(self, device: torch.device) -> Batch:
        """The same on another device."""
        ids, labels, tiles = (tensor.to(device, non_blocking=True) for tensor in self[:3])
        return Batch(ids, labels, tiles, self.plans)

    @property
    def targets(self) -> int:
        """Supervised targets of all rows."""
        return int((self.labels[:, 1:] != IGNORED).sum())


class RowDataset(Dataset["Sample | Refused"]):
    """Training rows as tensors, by (set, row).

    Pictures are read as the authors read them: without turning them by their EXIF orientation.

    Args:
        sets: The sets that picks refer to.
        encoder: Writes conversations.
        geometry: How pictures are cut.
        max_tokens: Longer rows are refused.
    """

    def __init__(self, sets: Sequence[RowSet], encoder: Encoder, geometry: Geometry, max_tokens: int) -> None:
        self._sets = sets
        self._encoder = encoder
        self._geometry = geometry
        self._limit = max_tokens

    def __getitem__(self, pick: Pick) -> Sample | Refused:
        """Read one row; one whose picture cannot be read, or that is too long, is named and never replaced by another.

        An exception would reach the training process with the worker's whole traceback as its message.
        """
        rows = self._sets[pick[0]]
        row = rows.rows[pick[1]]
        try:
            tiles, layout = self._seen(rows, row.image)
        except ImageError as error:
            hint = (
                "Training needs every picture that its rows name: replace the file, and start the run again to go on."
            )
            return Refused(f"row {row.id!r}: {error} {hint}")
        tokens = self._encoder.encode(row, layout.tokens)
        if len(tokens.ids) > self._limit:
            return Refused(f"row {row.id!r}: it has {len(tokens.ids)} tokens, chat.max_tokens is {self._limit}.")
        return Sample(torch.tensor(tokens.ids), torch.tensor(tokens.labels), tiles, layout)

    def _seen(self, rows: RowSet, image: str) -> tuple[torch.Tensor, Plan]:
        if rows.kept is None:
            picture = load(rows.root / image, exif=False)
            return cut(picture, self._geometry), plan(self._geometry, picture.height, picture.width)
        found, (height, width) = rows.kept(image)
        return found, plan(self._geometry, height, width)


class Collator:
    """Collation of samples into a batch, padded on the right; picklable, for worker processes."""

    def __init__(self, padding: int) -> None:
        self._padding = padding

    def __call__(self, found: Sequence[Sample | Refused]) -> Batch | Refused:
        """Collate samples, or hand on the first that was refused."""
        if refused := [one for one in found if isinstance(one, Refused)]:
            return refused[0]
        samples = [one for one in found if isinstance(one, Sample)]
        ids = pad_sequence([sample.ids for sample in samples], batch_first=True, padding_value=self._padding)
        labels = pad_sequence([sample.labels for sample in samples], batch_first=True, padding_value=IGNORED)
        tiles = torch.cat([sample.tiles for sample in samples])
        return Batch(ids, labels, tiles, tuple(sample.plan for sample in samples))


def stream(
    dataset: RowDataset,
    collate: Collator,
    picks: Sequence[Sequence[Pick]],
    workers: int,
) -> Iterator[Batch]:
    """Batches in the order of their picks, prepared ahead by worker processes.

    Raises:
        DataError: A row cannot be used; see `RowDataset`.
        RunError: A worker process died.
    """
    loader: DataLoader[Sample | Refused] = DataLoader(
        dataset,
        batch_sampler=picks,  # type: ignore[arg-type]
        collate_fn=collate,
        num_workers=min(workers, len(picks)),
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=_start_worker if workers else None,
        generator=torch.Generator(),  # the global one belongs to dropout: a resumed run must not draw from it again
    )
    try:
        for batch in loader:
            if isinstance(batch, Refused):
                raise DataError(batch.reason)
            yield batch
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        hint = (
            "It may have run out of memory: use fewer data.workers. Start the run again to go on from its last state."
        )
        raise RunError.about(
            "data.workers", "<a worker that reads pictures died>", "workers that live", hint
        ) from error


def _start_worker(_: int) -> None:
    torch.set_num_threads(1)
    outlive_one_signal()


def share(picks: Sequence[Any], rank: int, world: int, micro: int) -> list[list[Any]]:
    """One rank's part of a global batch, in micro-batches."""
    own = picks[rank::world]
    return [list(own[start : start + micro]) for start in range(0, len(own), micro)]
