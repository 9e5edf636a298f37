"""The training loop: epochs of a drawn mixture, validations, the fine-grained balance, states to go on from.

Paper: Q-SiT, arXiv 2503.09197, Sec. III-C4 and IV-A, Algorithm 1 (step 3). The loop runs unchanged in one process and
under `accelerate launch`; every process draws the same rows and takes its share.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from accelerate.utils import set_seed

from .balance import Rule, adjust, first_sizes, reference_ratio
from .batches import Batch, Collator, RowDataset, RowSet, share, stream
from .chat import Encoder, check_rows, check_scoring
from .data.frozen import Frozen
from .engine import Engine
from .errors import RecipeError, RunError
from .folder import Outcome, RunFolder
from .mixture import SETS, Epoch, Sizes, draw_epoch
from .model import Parts, load_parts
from .prepared import Prepared, fingerprint
from .processes import Interrupts
from .progress import Progress, Stopper, Watch, progress, steps_in, validation_steps
from .recipe import TrainingRecipe
from .saving import Saver
from .validation import Kept, Validator, check_validation


def train(recipe: TrainingRecipe, output: Path, *, max_steps: int | None = None, quiet: bool = False) -> Outcome:
    """Train, or go on with, one model.

    Args:
        recipe: What to do.
        output: The run's folder; see `train.folder`. A finished run is returned as it is, an unfinished one goes on
            from its last state and ends with the same weights as if it had never stopped.
        max_steps: Stop after so many optimiser steps in all, for a dry run; the run can be gone on with.
        quiet: No progress bar.

    Returns:
        What was found, and where the checkpoints are.

    Raises:
        RecipeError: The recipe cannot be used with this data or these devices.
        DataError: The data is not what was frozen, or a picture cannot be used.
        RunError: Another run has the folder or the folder belongs to another recipe, the loss is not finite, a worker
            died, the disk is full, or the run was interrupted. The last good state is kept in each case.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # workers are forks, and each reads one row at a time
    folder = RunFolder(output)
    if done := Outcome.load(folder, recipe):
        return done
    roots: dict[str, str] = {str(name): root for name, root in recipe.data.images.items()}
    frozen = Frozen.load(recipe.data.folder, roots or None)
    frozen.check_images()
    run = Run(recipe, folder, frozen, quiet)
    try:
        return run.run(max_steps)
    finally:
        run.close()


class Run:
    """One run, in one of its processes."""

    def __init__(self, recipe: TrainingRecipe, folder: RunFolder, frozen: Frozen, quiet: bool) -> None:
        self.recipe, self.folder = recipe, folder
        self._sets = [_row_set(frozen, name, recipe) for name in SETS]
        self._counts = Sizes(*(len(rows.rows) for rows in self._sets))
        self._first = first_sizes(recipe.mixture, self._counts)
        steps_in(len(draw_epoch(self._counts, [self._first.sizes], recipe.seed)), recipe.optim.batch)
        self._reference = reference_ratio(recipe)
        check_validation(recipe, frozen)
        set_seed(recipe.seed)  # adapters begin with random weights
        parts = load_parts(recipe.model, recipe.chat.scoring, recipe.chat.choices)
        check_scoring((*self._sets[0].rows, *frozen.val_scoring), parts.scoring)
        encoder = Encoder(parts.tokenizer, parts.scoring.system, recipe.chat.mask)
        for name, rows in zip(SETS, self._sets, strict=True):
            check_rows(encoder, rows.rows, name)
        kept = _kept(recipe, parts, frozen)
        self._sets = [replace(rows, kept=kept(name)) for name, rows in zip(SETS, self._sets, strict=True)]
        self._data = RowDataset(self._sets, encoder, parts.geometry, recipe.chat.max_tokens)
        self._collate = Collator(parts.tokenizer.pad_token_id or 0)
        self.engine = Engine(recipe, parts, folder.path)
        self._validator = Validator(recipe, frozen, parts, self.engine.accelerator, kept)
        self._saver = Saver(recipe, folder, frozen, self._counts, self._reference, self.engine, parts)
        self._stopper = Stopper(recipe.stop)
        self._watch = Watch(folder, self.engine.accelerator, quiet)
        self.state = Progress([self._first.sizes])

    def run(self, max_steps: int | None = None) -> Outcome:
        """Train to the end."""
        with self._saver.held(), self._watch.shown(), Interrupts() as interrupts:
            self.state = self._saver.resume(self.state)
            self._begin()
            while not (self._finished() or self._enough(max_steps)):
                for _ in self._epoch():
                    if self._enough(max_steps):
                        break
                    self._stop_if(interrupts.seen, "The run was interrupted")
            return self._saver.finish(self.state, self._finished())

    def _enough(self, max_steps: int | None) -> bool:
        return max_steps is not None and self.state.total >= max_steps

    def close(self) -> None:
        """Free the memory."""
        self.engine.close()

    def _begin(self) -> None:
        notes = list(self._first.notes)
        if self.engine.sharded and self.recipe.validation.scores:
            notes.append("The weights are sharded: validations give losses only. Score the checkpoints afterwards.")
        self._watch.start(self.state, self.recipe, self._counts, notes)
        if not self.state.validations and self.recipe.stop.patience is not None:
            self._validate(scores=False)  # the plateau is measured against the losses before training

    def _finished(self) -> bool:
        return self.state.epoch >= self.recipe.stop.epochs or self._stopper.stalled(self.state)

    def _epoch(self) -> Iterator[None]:
        """The rest of an epoch, from where the state is; gives control back after each step."""
        drawn = draw_epoch(self._counts, self.state.history, self.recipe.seed)
        steps = steps_in(len(drawn), self.recipe.optim.batch)
        stops = validation_steps(steps, self.recipe.validation.every)
        self._watch.epoch(self.state, drawn, steps)
        for batches in self._steps(drawn, steps):
            self._step(batches, steps)
            self._after_step(steps, stops)
            yield
            if self._stopper.stalled(self.state):
                return

    def _steps(self, drawn: Epoch, steps: int) -> Iterator[list[tuple[Batch, list[int]]]]:
        """This process's micro-batches of each step still to do, each with the sets that its rows are of."""
        accelerator, batch = self.engine.accelerator, self.recipe.optim.batch
        picks = list(zip(drawn.sets.tolist(), drawn.rows.tolist(), strict=True))
        micro = [
            part
            for step in range(self.state.step, steps)
            for part in share(
                picks[step * batch : (step + 1) * batch],
                accelerator.process_index,
                accelerator.num_processes,
                self.recipe.optim.micro_batch,
            )
        ]
        batches = stream(self._data, self._collate, micro, self.recipe.data.workers)
        named = zip(batches, ([index for index, _ in part] for part in micro), strict=True)
        while group := list(itertools.islice(named, self.engine.accumulation)):
            yield group

    def _step(self, group: list[tuple[Batch, list[int]]], steps: int) -> None:
        state = self.state
        now = progress(state.epoch, state.step, steps, self.recipe.stop.epochs)
        try:
            losses, norm, lr = self.engine.step([batch for batch, _ in group], now)
        except RunError as error:
            raise RunError(f"step {state.total + 1}: {error} {self._saver.last_good()}") from error
        state.step, state.total = state.step + 1, state.total + 1
        parts = [0.0] * (2 * len(SETS))
        for (_, sets), found in zip(group, losses, strict=True):
            for index, mean in zip(sets, found.means.tolist(), strict=True):
                parts[index] += mean
                parts[len(SETS) + index] += 1
        self._watch.step(state, self.engine.summed(parts), norm, lr)

    def _after_step(self, steps: int, stops: set[int]) -> None:
        """Validate, adjust the mixture at the end of an epoch, and save, in this order."""
        state = self.state
        validated = state.step in stops
        if validated:
            self._validate(self.recipe.validation.scores)
        if state.step == steps:
            state.epoch, state.step = state.epoch + 1, 0
            state.history.append(self._next_sizes())
        if validated:
            self._saver.model(state)
        if validated or state.total % self.recipe.saving.every_steps == 0:
            self._saver.state(state)

    def _validate(self, scores: bool) -> None:
        self.engine.joint.eval()
        metrics = self._validator.measure(self.engine.joint, scores and not self.engine.sharded)
        better = self._stopper.note(self.state, metrics)
        self._watch.validation(self.state, metrics, better)

    def _next_sizes(self) -> Sizes:
        """Sizes of the next epoch, by the fine-grained step if the recipe has one."""
        balance, state = self.recipe.balance, self.state
        sizes = state.history[-1]
        if balance is None or self._reference is None or state.epoch >= self.recipe.stop.epochs:
            return sizes
        rule = Rule(balance.tolerance, balance.kappa, balance.max_growth, balance.max_total)
        measured = state.validations[-1]
        scoring, interpreting = measured.loss("scoring"), measured.loss("interpreting")
        found = adjust(sizes, state.history[0], self._counts, scoring, interpreting, self._reference, rule)
        self._watch.balance(state, sizes, found.as_dict(), self._reference)
        return found.sizes

    def _stop_if(self, wanted: bool, why: str) -> None:
        """Save and stop, if any process wants to."""
        if self.engine.summed([float(wanted)])[0]:
            self._saver.state(self.state)
            raise RunError(f"{why} after step {self.state.total}; start it again to go on. {self._saver.last_good()}")


def _row_set(frozen: Frozen, name: str, recipe: TrainingRecipe) -> RowSet:
    """The rows of a set; of D1, only those of the sources that the recipe names."""
    rows = frozen.rows(name)
    if name == "d1" and recipe.data.d1_sources:
        known = {row.source for row in rows}
        if absent := sorted(set(recipe.data.d1_sources) - known):
            raise RecipeError.about("data.d1_sources", absent, f"sources of D1: {', '.join(sorted(known))}")
        rows = tuple(row for row in rows if row.source in recipe.data.d1_sources)
    return RowSet(rows, frozen.root(name) if rows else Path())


def _kept(recipe: TrainingRecipe, parts: Parts, frozen: Frozen) -> Kept:
    """A function of a set's name: what was computed beforehand of its pictures, as far as the recipe names it."""
    if recipe.data.states is None:
        tiles = None if recipe.data.tiles is None else _tiles(recipe.data.tiles, parts, frozen).of
        return lambda _: tiles
    if "vision_tower" not in recipe.model.frozen:
        expected = "nothing, as the vision tower learns"
        raise RecipeError.about("data.states", recipe.data.states, expected, "Add it to model.frozen.")
    return Prepared.load(recipe.data.states, "states", parts.geometry, fingerprint(parts.model)).of_set


def _tiles(folder: str, parts: Parts, frozen: Frozen) -> Prepared:
    """The tiles of all sets; their pictures are told apart by their paths below the one root that they share."""
    roots = {frozen.root(name) for name in SETS if frozen.rows(name)}
    if len(roots) > 1:
        raise RecipeError.about("data.tiles", folder, "nothing, as the sets have image roots of their own")
    return Prepared.load(folder, "tiles", parts.geometry)
