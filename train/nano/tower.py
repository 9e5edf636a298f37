"""The first stage of a model that starts from nothing: its vision tower alone learns to tell degradations apart.

A published base brings a tower that has seen millions of pictures. An untrained one sees nothing, and a language model
on top of it learns answers by heart instead. Here the tower is shown tiles of degraded pictures, and a linear head,
which is thrown away, names the degradation and its strength.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import torch
from torch.nn import functional

from qsit_metric.backends.training import LlavaOnevision
from qsit_metric.files import Files, new_folder
from qsit_metric.journal import check_same

from ..errors import RunError
from ..model import load_parts
from ..processes import keep_freed_memory
from ..recipe import Model
from .scratch import Scratch, build_base
from .stages import FILES, Say

SEEN = "tower.json"
_STATE = "tower.state"
_STATES = Files(RunError, "state", parents=True)
_WEIGHT = 10.0  # of a value's squared error beside the kind's cross-entropy; both are then of one size
_WARMUP = 30  # steps at least, and a fiftieth of all
_CHECK_EVERY = 20  # steps between two looks whether the loss is finite
_AT_ONCE = 256  # held-out tiles in one forward pass


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


def make_tower(
    folder: Path,
    spec: Scratch,
    texts: Callable[[], Sequence[str]],
    tiles: Callable[[], torch.Tensor],
    source: Callable[[torch.device], Source],
    lessons: Lessons,
    *,
    device: str = "cpu",
    attention: Literal["sdpa", "eager"] | None = None,
    say: Say = lambda _: None,
    **record: Any,
) -> Path:
    """Write the base, or hand back the one that is there; a stage that was cut goes on where it was.

    Args:
        folder: Where it goes, whole or not there; beside it are the untrained model and the state of the teaching.
        spec: Its sizes.
        texts: What its tokenizer is trained on.
        tiles: Gives (N, 3, tile, tile) in -1..1, by which the filters of the patch embedding are scaled.
        source: What the tower is shown, on a device.
        lessons: How it is taught.
        device: Where it is taught.
        attention: How attention is computed.
        say: Told how far it is.
        record: More fields of `tower.json`.

    Returns:
        The folder; `tower.json` in it says what the tower can do.
    """
    state, blank = folder.parent / _STATE, folder.parent / "blank"
    if folder.is_dir():
        return folder
    if not blank.is_dir():
        build_base(spec, texts(), blank, lessons.seed, tiles())
    parts = load_parts(Model(base=str(blank), gradient_checkpointing=False, attention=attention), "train")
    parts.model.to(device)
    seen = teach(parts.model, source(parts.device), lessons, state, say)
    with new_folder(folder) as written:
        parts.model.cpu()
        parts.save(written)
        shown = {"tiles": lessons.steps * lessons.batch, "lessons": asdict(lessons)}
        FILES.write_json(written / SEEN, {**asdict(seen), **record, **shown})
    state.unlink(missing_ok=True)
    return folder
