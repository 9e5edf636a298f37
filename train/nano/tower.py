"""The first stage of a model that starts from nothing: its vision tower alone learns to tell degradations apart.

A published base brings a tower that has seen millions of pictures. An untrained one sees nothing, and a language model
on top of it learns answers by heart instead. Here the tower is shown windows of degraded pictures that are cut into
tiles already, and a linear head, which is thrown away, names the degradation and its strength.

What is to be told of a window: the kind of degradation (a type whose two sides look different counts twice), the score,
and how far the degradation is from none. The distance has a number of its own for each kind: one linear reading of all
of them would have to fit blur and noise alike. Pictures without a score are not used.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import torch
from torch.nn import functional

from qsit_metric.backends.training import LlavaOnevision
from qsit_metric.files import Files
from qsit_metric.journal import check_same
from qsit_metric.pixels.geometry import Geometry
from qsit_metric.pixels.tiles import plan

from ..errors import DataError, RunError
from ..prepared import Prepared
from ..processes import keep_freed_memory
from .data.kadid import DISTORTIONS, SCALE
from .data.pictures import MadePicture
from .stages import Say

_STATES = Files(RunError, "state", parents=True)
_WEIGHT = 10.0  # of a value's squared error beside the kind's cross-entropy; both are then of one size
_WARMUP = 30  # steps at least, and a fiftieth of all
_CHECK_EVERY = 20  # steps between two looks whether the loss is finite
_AT_ONCE = 256  # held-out tiles in one forward pass
_SIDED = ("mean_shift", "contrast_change")  # level 3 is the untouched picture, either side of it looks different
KINDS = ("none", *(kind for kind in DISTORTIONS if kind not in _SIDED), *(f"{k}{s}" for k in _SIDED for s in "+-"))
"""Kinds of degradation that a tile can have."""
_COLOURED = (
    "color_diffusion", "color_shift", "color_quantization", "color_saturation_hsv", "color_saturation_lab", "jpeg",
    "jpeg2000", "white_noise_color_component",
)  # fmt: skip
_MOVED = 0.5  # share of windows that lie between tiles
_SWAPPED = 0.5  # share of batches whose colours change places, in pictures whose degradation does not tell them apart


class Tiles(NamedTuple):
    """Tiles and what is known of them.

    Attributes:
        pixels: (N, 3, tile, tile) uint8.
        kinds: (N,) index of the degradation.
        values: (N, V) numbers of 0 to 1 to be told, the most important first; NaN where there is nothing to be told.
        pictures: (N,) index of the picture that each was cut from.
    """

    pixels: torch.Tensor
    kinds: torch.Tensor
    values: torch.Tensor
    pictures: torch.Tensor


class Source(Protocol):
    """A source of tiles."""

    @property
    def kinds(self) -> int:
        """How many kinds of degradation there are."""
        ...

    @property
    def values(self) -> int:
        """How many values are told of each."""
        ...

    def draw(self, count: int, rng: np.random.Generator) -> Tiles:
        """Tiles to learn from; equal generators give equal tiles."""
        ...

    def held_out(self) -> Tiles:
        """Tiles that are never learned from."""
        ...


@dataclass(frozen=True)
class Lessons:
    """How a tower is taught.

    Attributes:
        steps: Optimiser steps.
        batch: Tiles in a step.
        lr: Peak learning rate of AdamW; it rises for a fiftieth of the steps and falls along a cosine.
        seed: Of the tiles drawn, and of the head.
        precision: "bf16" computes in bfloat16 over float32 weights; "no" in float32.
        check_every: Steps between two looks at the held-out tiles, and two states to go on from.
        decay: Weight decay of AdamW.
    """

    steps: int
    batch: int = 32
    lr: float = 2e-3
    seed: int = 0
    precision: Literal["bf16", "no"] = "no"
    check_every: int = 1000
    decay: float = 0.0


@dataclass(frozen=True)
class Seen:
    """The skill of a tower on pictures that it was not taught with, each judged by the mean over its tiles.

    Attributes:
        accuracy: Share of pictures whose kind of degradation is named rightly.
        srcc: Rank correlation of the first value and its prediction.
    """

    accuracy: float
    srcc: float


def teach(
    model: LlavaOnevision, source: Source, lessons: Lessons, state: Path | None = None, say: Say = lambda _: None
) -> Seen:
    """Teach the vision tower of a model.

    Args:
        model: The network; its tower is trained in place, where it is.
        source: The tiles.
        lessons: How.
        state: File that is written at each look at the held-out tiles; if it is there, teaching goes on from it, and
            ends with the weights of an undisturbed run.
        say: Told the losses now and then.

    Returns:
        What the tower can do at the end.

    Raises:
        RunError: The loss is not finite, or the state is of other lessons.
    """
    if model.model.image_newline.device.type == "cpu":
        keep_freed_memory()
    teacher = _Teacher(model, source, lessons, say)
    step = teacher.resume(state)
    while step < lessons.steps:
        teacher.step(step)
        step += 1
        if step % lessons.check_every == 0 and step < lessons.steps:
            teacher.look(step)
            teacher.save(state, step)
    return teacher.look(step)


class _Teacher:
    def __init__(self, model: LlavaOnevision, source: Source, lessons: Lessons, say: Say) -> None:
        self.source, self.lessons, self.say = source, lessons, say
        self.model, self.core = model, model.model.vision_tower.vision_model
        self.device = model.model.image_newline.device
        self.head = _head(model.config.vision.hidden, source, lessons.seed).to(self.device)
        self.weights = [*self.core.embeddings.parameters(), *self.core.encoder.parameters(), *self.head.parameters()]
        self.optimizer = torch.optim.AdamW(self.weights, betas=(0.9, 0.95), weight_decay=lessons.decay)
        self.recent: list[torch.Tensor] = []

    def step(self, step: int) -> None:
        rng = np.random.default_rng([self.lessons.seed, step])
        tiles = self.source.draw(self.lessons.batch, rng)
        turned = _turned(tiles.pixels.to(self.device), rng)
        for group in self.optimizer.param_groups:
            group["lr"] = _rate(step, self.lessons)
        found = self._found(turned)
        naming = functional.cross_entropy(found[:, : self.source.kinds], tiles.kinds.to(self.device))
        telling = _error(found[:, self.source.kinds :], tiles.values.to(self.device))
        loss = naming + _WEIGHT * telling
        if self.device.type == "cpu" or step % _CHECK_EVERY == 0:  # an accelerator would wait for it at each step
            _check(loss.item(), step)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.weights, 1.0)
        self.optimizer.step()
        self.recent.append(torch.stack([naming.detach(), telling.detach()]))

    def look(self, step: int) -> Seen:
        tiles = self.source.held_out()
        with torch.inference_mode():
            parts = torch.split(tiles.pixels, _AT_ONCE)
            found = torch.cat([self._found(part.to(self.device)).cpu() for part in parts])
        seen = _judge(found, tiles, self.source.kinds)
        naming, telling = torch.stack(self.recent).mean(dim=0).tolist() if self.recent else (math.nan, math.nan)
        if self.recent:
            _check(naming + telling, step - 1)
        self.say(
            f"tower, step {step} of {self.lessons.steps}: losses {naming:.3f} and {telling:.4f}, "
            f"held-out pictures: accuracy {seen.accuracy:.3f}, SRCC {seen.srcc:.3f}"
        )
        self.recent = []
        return seen

    def save(self, path: Path | None, step: int) -> None:
        if path is None:
            return
        states = {"core": self.core.state_dict(), "head": self.head.state_dict()}
        file = io.BytesIO()
        torch.save({"step": step, **states, "optimizer": self.optimizer.state_dict()} | {"plan": self._plan()}, file)
        _STATES.write(path, file.getvalue())

    def resume(self, path: Path | None) -> int:
        if path is None or not path.is_file():
            return 0
        found: Mapping[str, Any] = torch.load(path, map_location=self.device, weights_only=True)
        made, hint = {"lessons": self._plan()}, "Remove it, or name another folder."
        check_same(path, {"lessons": found["plan"]}, made, _STATES, what="a state", hint=hint)
        self.core.load_state_dict(found["core"])
        self.head.load_state_dict(found["head"])
        self.optimizer.load_state_dict(found["optimizer"])
        return int(found["step"])

    def _plan(self) -> str:
        return f"{self.lessons} of {self.source.kinds} kinds and {self.source.values} values"

    def _found(self, pixels: torch.Tensor) -> torch.Tensor:
        """(N, kinds + values) from the mean of the features that the language model will read."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.lessons.precision == "bf16"):
            features = self._read(pixels)
        found: torch.Tensor = self.head(features.float())
        return found

    def _read(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.model.states(pixels.float() / 127.5 - 1).mean(dim=1)


def _check(loss: float, step: int) -> None:
    if not math.isfinite(loss):
        hint = "Use a smaller learning rate."
        raise RunError.about(f"loss of the tower at step {step + 1}", loss, "a finite number", hint)


def _head(width: int, source: Source, seed: int) -> torch.nn.Linear:
    head = torch.nn.Linear(width, source.kinds + source.values)
    with torch.no_grad():
        head.weight.normal_(0.0, width**-0.5, generator=torch.Generator().manual_seed(seed))
        head.bias.zero_()
    return head


def _error(found: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Squared error, summed over the values that are told of a tile and averaged over tiles."""
    told = values.isfinite()
    return functional.mse_loss(found[told], values[told], reduction="sum") / len(values)


def _rate(step: int, lessons: Lessons) -> float:
    warmup = max(_WARMUP, lessons.steps // 50)
    return lessons.lr * min(1.0, (step + 1) / warmup) * (1 + math.cos(math.pi * step / lessons.steps)) / 2


def _turned(pixels: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Each eighth of the batch mirrored or turned in one of eight ways: none of them changes what is to be told."""
    turns = rng.random((8, 3)) < 0.5
    return torch.cat([_turn(part, *turn) for part, turn in zip(pixels.chunk(8), turns.tolist(), strict=False)])


def _turn(pixels: torch.Tensor, down: bool, across: bool, diagonally: bool) -> torch.Tensor:
    pixels = pixels.flip(2) if down else pixels
    pixels = pixels.flip(3) if across else pixels
    return pixels.transpose(2, 3) if diagonally else pixels


def _judge(found: torch.Tensor, tiles: Tiles, kinds: int) -> Seen:
    from qsit_metric.evaluation import srcc

    pictures, places = torch.unique(tiles.pictures, return_inverse=True)

    def mean(rows: torch.Tensor) -> torch.Tensor:
        sums = torch.zeros(len(pictures), rows.shape[1]).index_add(0, places, rows.float())
        means: torch.Tensor = sums / places.bincount().unsqueeze(1)
        return means

    firsts = torch.zeros(len(pictures), dtype=torch.long).scatter(0, places, torch.arange(len(places)))
    told = mean(found)
    accuracy = (told[:, :kinds].argmax(dim=1) == tiles.kinds[firsts]).float().mean()
    return Seen(float(accuracy), srcc(told[:, kinds].tolist(), tiles.values[firsts, 0].tolist()))


def target(picture: MadePicture) -> tuple[int, tuple[float, float]]:
    """What is to be told of a picture: index in `KINDS`, and (score, distance from the untouched one), both 0..1.

    Raises:
        DataError: The picture has no score.
    """
    if picture.mos is None:
        raise DataError.about("shot", picture.image, "a picture with a score")
    score = (picture.mos - SCALE.low) / (SCALE.high - SCALE.low)
    if not picture.degradations:
        return 0, (score, 0.0)
    one = picture.degradations[0]
    if one.kind in _SIDED:
        return KINDS.index(f"{one.kind}{'+' if one.level < 3 else '-'}"), (score, abs(one.level - 3) / 2)
    return KINDS.index(one.kind), (score, one.level / 5)


@dataclass(frozen=True, eq=False)
class _Table:
    """A table with a row for each tile of some pictures.

    Attributes:
        tiles: (N,) its place in the store.
        pictures: (N,) the picture that it was cut from.
        columns: (N,) tiles in a row of the grid.
        room: (N, 2) whether a window may reach down, and to the right, beyond the tile.
        targets: (P, 3) of each picture: kind, score, distance.
    """

    tiles: torch.Tensor
    pictures: torch.Tensor
    columns: torch.Tensor
    room: torch.Tensor
    targets: torch.Tensor

    @classmethod
    def of(cls, made: Sequence[MadePicture], store: Prepared, firsts: Mapping[str, int], geometry: Geometry) -> _Table:
        rows: list[tuple[int, int, int, bool, bool]] = []
        for number, one in enumerate(made):
            start, place = firsts[one.image], store.places[one.image]
            high, wide = plan(geometry, place.height, place.width).grid
            rows.append((start, number, wide, False, False))  # the whole picture in one tile
            rows += [
                (start + 1 + row * wide + col, number, wide, row + 1 < high, col + 1 < wide)
                for row in range(high)
                for col in range(wide)
            ]
        tiles, pictures, columns, down, right = (torch.tensor(column) for column in zip(*rows, strict=True))
        known = torch.tensor([(kind, *values) for kind, values in map(target, made)])
        return cls(tiles, pictures, columns, torch.stack([down, right], dim=1), known)


class Windows:
    """Windows of scored pictures; a `Source`.

    Half of them are tiles; the others lie anywhere in the picture, across up to four tiles.

    Args:
        store: Has the tiles of all pictures.
        geometry: How they were cut.
        taken: The pictures to learn from; each has a score.
        held: Pictures that are never learned from.
        device: On an accelerator, all tiles are kept there: to copy them at each step would take longer than the step.
    """

    kinds = len(KINDS)
    values = 1 + len(KINDS)

    def __init__(
        self,
        store: Prepared,
        geometry: Geometry,
        taken: Sequence[MadePicture],
        held: Sequence[MadePicture],
        device: torch.device,
    ) -> None:
        self._side = geometry.tile
        pixels, firsts = store.array()
        self._taken, self._held = (_Table.of(pictures, store, firsts, geometry) for pictures in (taken, held))
        self._pixels = torch.from_numpy(np.asarray(pixels)).to(device)
        self._swappable = torch.tensor([not kind.startswith(_COLOURED) for kind in KINDS])

    def draw(self, count: int, rng: np.random.Generator) -> Tiles:
        """See `Source.draw`."""
        picks = torch.from_numpy(np.sort(rng.integers(0, len(self._taken.tiles), count)))
        moves = torch.from_numpy(rng.integers(0, self._side, (count, 2)))
        moved = torch.from_numpy(rng.random(count) < _MOVED)
        moves = moves * self._taken.room[picks] * moved.unsqueeze(1)
        found = self._read(self._taken, picks, moves)
        if rng.random() < _SWAPPED:
            found = self._swapped(found, rng.permutation(3).tolist())
        return found

    def held_out(self) -> Tiles:
        """See `Source.held_out`."""
        picks = torch.arange(len(self._held.tiles))
        return self._read(self._held, picks)

    def _read(self, table: _Table, picks: torch.Tensor, moves: torch.Tensor | None = None) -> Tiles:
        pictures = table.pictures[picks]
        known = table.targets[pictures]
        kinds, rows = known[:, 0].long(), torch.arange(len(known))
        values = torch.full((len(known), self.values), torch.nan)
        values[:, 0], values[rows, 1 + kinds] = known[:, 1], known[:, 2]
        tiles = table.tiles[picks]
        if moves is None:
            pixels = self._pixels[tiles.to(self._pixels.device)]
        else:
            pixels = self._windows(tiles, table.columns[picks], moves)
        return Tiles(pixels, kinds, values, pictures)

    def _windows(self, tiles: torch.Tensor, columns: torch.Tensor, moves: torch.Tensor) -> torch.Tensor:
        """(N, 3, side, side): what stands `moves` pixels below and to the right of a tile's corner."""
        side, device = self._side, self._pixels.device
        tiles, columns, moves = (one.to(device) for one in (tiles, columns, moves))
        # A tile with those to its right and below it; where a window may not reach, anything serves.
        four = torch.stack([tiles, tiles + 1, tiles + columns, tiles + columns + 1], dim=1)
        around = self._pixels[four.clamp(max=len(self._pixels) - 1)]
        square = around.view(-1, 2, 2, 3, side, side).permute(0, 3, 1, 4, 2, 5).reshape(-1, 3, 2 * side, 2 * side)
        reach = torch.arange(side, device=device)
        down, right = (moves[:, axis, None] + reach for axis in (0, 1))
        rows = square.gather(2, down[:, None, :, None].expand(-1, 3, -1, 2 * side))
        found: torch.Tensor = rows.gather(3, right[:, None, None, :].expand(-1, 3, side, -1))
        return found

    def _swapped(self, found: Tiles, order: Sequence[int]) -> Tiles:
        swappable = self._swappable[found.kinds].to(found.pixels.device)[:, None, None, None]
        return found._replace(pixels=torch.where(swappable, found.pixels[:, list(order)], found.pixels))
