"""Validation while training: the two losses of Algorithm 1, and how well the model scores and answers.

L_S is the loss on the scoring rows that were held out of D1; L_I that on LLVisionQA-dev in the authors' multiple-choice
prompt, whose answer is a letter. Both with the training mask and averaged over rows (paper Eq. 8; the averaging and the
target are not in the paper). Beside them: the loss on the answer alone and on the level or letter alone, which do not
depend on the mask; SRCC and PLCC of each source, and accuracy by the likelihood of the letters.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from accelerate.utils import gather_object

from qsit_metric import QSiT
from qsit_metric.backends.training import Encoded, LlavaOnevisionBackend, Tokenizer, projected
from qsit_metric.evaluation import Item, Manifest, correlate, evaluate, evaluate_questions
from qsit_metric.evaluation.multiple_choice import is_correct
from qsit_metric.pixels.tiles import normalise, plan
from qsit_metric.prompts import LETTERS, Recipe, multiple_choice, recipe_named
from qsit_metric.questions import Questions
from qsit_metric.results import level_names, scores

from .batches import Batch, Collator, Reader, RowDataset, RowSet, stream
from .chat import IGNORED, Encoder
from .data.rows import Row
from .errors import DataError, RecipeError, RunError
from .model import Parts, RowLosses
from .progress import TASKS

if TYPE_CHECKING:
    from accelerate import Accelerator

    from qsit_metric.evaluation import Question

    from .data.frozen import Frozen
    from .recipe import TrainingRecipe

Kept = Callable[[str], "Reader | None"]
_AT_ONCE = 32
_KEYS = {"scoring": "level", "interpreting": "letter"}


def question_row(question: Question, target: str = "letter") -> Row:
    """An LLVisionQA question as a training row: the authors' prompt, and the right option's letter as the answer.

    Raises:
        DataError: Its answer is withheld.
    """
    if question.answer is None:
        raise DataError(f"question {question.id!r}: its answer is withheld. Validate on the dev split.")
    letter, text = LETTERS[question.answer], question.choices[question.answer]
    if target == "text":
        return Row(question.id, question.image, ((question.question, text),))
    answer = letter if target == "letter" else f"{letter}. {text}"
    return Row(question.id, question.image, ((multiple_choice(question.question, question.choices), answer),))


def check_validation(recipe: TrainingRecipe, frozen: Frozen) -> None:
    """Refuse a balance that nothing could measure, before an epoch is spent on it.

    Raises:
        RecipeError: The data has no scoring rows or no questions to validate on.
    """
    if recipe.balance and not (frozen.val_scoring and frozen.val_questions):
        lacking = "questions" if frozen.val_scoring else "scoring rows"
        hint = "Freeze the data with them, or leave the balance out: --set balance=null."
        raise RecipeError.about("balance", f"<data without {lacking}>", "both to validate on", hint)


class Validator:
    """Measurements of a model while it is trained.

    Args:
        recipe: What to measure, and how rows are written.
        frozen: Where the validation rows and questions are.
        parts: The model.
        accelerator: Which part of the work is this process's.
        kept: By a set's name: what was computed beforehand of its pictures, see `RowSet.kept`.
    """

    def __init__(
        self,
        recipe: TrainingRecipe,
        frozen: Frozen,
        parts: Parts,
        accelerator: Accelerator,
        kept: Kept = lambda _: None,
    ) -> None:
        self._recipe, self._parts, self._accelerator = recipe, parts, accelerator
        self._rows = _limited(list(frozen.val_scoring), recipe.validation.limit, recipe.seed)
        self._questions = _limited(list(frozen.val_questions), recipe.validation.limit, recipe.seed)
        asked = [question_row(question, recipe.validation.target) for question in self._questions]
        sets = {"scoring": self._rows, "interpreting": asked}
        names = {"scoring": "scoring", "interpreting": "questions"}
        self._roots = {task: frozen.root(names[task]) if rows else Path() for task, rows in sets.items()}
        encoder = Encoder(parts.tokenizer, parts.scoring.system, recipe.chat.mask)
        self._data = {
            task: RowDataset(
                [RowSet(rows, self._roots[task], kept(names[task]))], encoder, parts.geometry, recipe.chat.max_tokens
            )
            for task, rows in sets.items()
        }
        self._kept = kept
        self._counts = {task: len(rows) for task, rows in sets.items()}
        if not any(self._counts.values()):
            raise DataError.about("data.folder", str(frozen.folder), "scoring rows or questions to validate on")
        self._before = {"scoring": len(parts.tokenizer.encode(parts.scoring.answer_prefix)), "interpreting": 0}

    def measure(self, joint: torch.nn.Module, scores: bool) -> dict[str, float | None]:
        """All numbers of one validation, the same on every process.

        Args:
            joint: The model, wrapped by accelerate or not.
            scores: Also correlations and accuracy. Not to be had of a model whose weights are sharded.

        Returns:
            `loss_scoring`, `loss_interpreting`, `ratio` (the first by the second), losses on answers and on levels or
            letters alone, and with scores `accuracy` (0..1), `srcc/SOURCE` and `plcc/SOURCE` (None: undefined), and
            `RECIPE/srcc/SOURCE` for scoring recipes that are asked with beside the checkpoint's own.

        Raises:
            RunError: A loss is not finite.
            DataError: A validation picture cannot be used.
        """
        found: dict[str, float | None] = {}
        for task in TASKS:
            if not self._counts[task]:
                found |= {f"loss_{task}": None, f"answer_loss_{task}": None, f"{_KEYS[task]}_loss": None}
                continue
            whole, answer, key = self._losses(joint, task)
            found |= {f"loss_{task}": whole, f"answer_loss_{task}": answer, f"{_KEYS[task]}_loss": key}
            if not math.isfinite(whole):
                hint = "The run has diverged: start again from an earlier state with a smaller learning rate."
                raise RunError.about(f"validation loss ({task})", whole, "a finite number", hint)
        scoring, interpreting = (found[f"loss_{task}"] for task in TASKS)
        found["ratio"] = scoring / interpreting if scoring and interpreting else None
        return found | (self._scores() if scores else {})

    def _losses(self, joint: torch.nn.Module, task: str) -> tuple[float, float, float]:
        """Per-row means over the supervised targets, over the answer, and of the level or letter token."""
        accelerator, micro = self._accelerator, max(self._recipe.optim.micro_batch, 1)
        shares = _shares(self._counts[task], accelerator.process_index, accelerator.num_processes, micro)
        picks = [[(0, index) for index, _ in share] for share in shares]
        batches = stream(
            self._data[task], Collator(self._parts.tokenizer.pad_token_id or 0), picks, self._recipe.data.workers
        )
        sums = torch.zeros(4, dtype=torch.float64)
        for share, batch in zip(shares, batches, strict=True):
            weights = torch.tensor([weight for _, weight in share], dtype=torch.float64)
            with torch.no_grad():
                losses: RowLosses = joint(*batch.to(accelerator.device))
            parts = self._parts_of(losses, batch, self._before[task])
            sums += torch.cat([(parts * weights).sum(dim=1), weights.sum()[None]])
        total = accelerator.reduce(sums.to(accelerator.device), reduction="sum").cpu()
        whole, answer, key = (total[:3] / total[3]).tolist()
        return whole, answer, key

    def _parts_of(self, losses: RowLosses, batch: Batch, before: int) -> torch.Tensor:
        """(3, B): mean over targets, mean over answer tokens, and the level or letter token alone.

        The answer begins after the assistant's header; its end marker belongs to it, the newline after does not.
        """
        each, rows, places = losses.each.double().cpu(), losses.rows.cpu(), losses.places.cpu()
        whole = (losses.sums.double() / losses.counts).cpu()
        answers, keys = [], []
        for row, labels in enumerate(batch.labels):
            begin, end = _answer(labels, batch.ids[row], self._parts.tokenizer)
            own, at = each[rows == row], places[rows == row]
            answers.append(own[(at >= begin) & (at <= end)].mean())
            keys.append(own[at == begin + before][0])
        return torch.stack([whole, torch.stack(answers), torch.stack(keys)])

    def _scores(self) -> dict[str, float | None]:
        rank, world = self._accelerator.process_index, self._accelerator.num_processes
        with frozen_model(self._parts.model):
            metric = QSiT(self._parts.backend())
            right = self._asked(metric, rank, world)
            scored = self._scored(metric, rank, world, "")
            for name in self._recipe.validation.also:
                metric.recipe = recipe_named(name)
                scored += self._scored(metric, rank, world, f"{name}/")
        scored, right = gather_object(scored), gather_object(right)
        found: dict[str, float | None] = {"accuracy": sum(right) / len(right) if right else None}
        for prompt, source in sorted({(prompt, source) for prompt, source, _, _ in scored}):
            own = [(score, mos) for *group, score, mos in scored if group == [prompt, source]]
            agreement = correlate([score for score, _ in own], [mos for _, mos in own])
            found |= {f"{prompt}srcc/{source}": agreement.srcc, f"{prompt}plcc/{source}": agreement.plcc}
        return found

    def _scored(self, metric: QSiT, rank: int, world: int, prompt: str) -> list[tuple[str, str, float, float]]:
        """(prompt, source, score, MOS) of this process's rows."""
        own = self._rows[rank::world]
        if not own:
            return []
        sources, labels = [row.source or "d1" for row in own], [_mos(row) for row in own]
        if read := self._kept("scoring"):
            found = KeptPictures(self._parts.backend(), metric.recipe, read).scores([row.image for row in own])
            return [(prompt, *one) for one in zip(sources, found, labels, strict=True)]
        items = [Item(row.image, mos, str(place)) for place, (row, mos) in enumerate(zip(own, labels, strict=True))]
        result = evaluate(metric, Manifest("validation", items, self._roots["scoring"]))
        _complete([(item.image, error) for item, error in result.failed])
        return [(prompt, sources[int(item.id)], float(score), item.mos) for item, score in result.scores]

    def _asked(self, metric: QSiT, rank: int, world: int) -> list[bool]:
        own = self._questions[rank::world]
        if not own:
            return []
        if read := self._kept("questions"):
            return KeptPictures(self._parts.backend(), metric.recipe, read).right(own)
        report = evaluate_questions(metric, own, self._roots["interpreting"])
        _complete([(question.image, error) for question, error in report.failed])
        return [bool(reply.correct) for reply in report.replies]


@dataclass(frozen=True)
class KeptPictures:
    """Scores and choices of a model for pictures that were prepared beforehand.

    Attributes:
        backend: The model.
        recipe: How it is asked.
        read: Gives what was kept.
    """

    backend: LlavaOnevisionBackend
    recipe: Recipe
    read: Reader

    def scores(self, images: Sequence[str]) -> list[float]:
        """A score on 1..5 for each picture."""
        prompt, names = self.recipe.scoring(), level_names(self.recipe.words)
        found: list[float] = []
        for batch in self._batches(images):
            rows = self.backend.logits([(image, prompt) for image in batch])
            found += [float(score) for score in scores(rows, names, [None] * len(batch))]
        return found

    def right(self, questions: Sequence[Question]) -> list[bool]:
        """Whether the most probable option of each question is the right one."""
        found = []
        for one in questions:
            [image] = self._encoded([one.image])
            asked = Questions(self.backend, self.recipe, one.question, one.choices, "likelihood", 1)
            [answer] = asked.answer([image])
            found.append(not isinstance(answer, list) and is_correct("logits", answer, one.choices, one.answer or 0))
        return found

    def _batches(self, images: Sequence[str]) -> Iterator[list[Encoded]]:
        for start in range(0, len(images), _AT_ONCE):
            yield self._encoded(images[start : start + _AT_ONCE])

    @torch.no_grad()
    def _encoded(self, images: Sequence[str]) -> list[Encoded]:
        model, geometry, device = self.backend.model, self.backend.geometry, self.backend.device
        known = [self.read(image) for image in images]
        layouts = [plan(geometry, *size) for _, size in known]
        kept = torch.cat([tensor for tensor, _ in known]).to(device)
        whole, dtype = kept.dtype == torch.uint8, self.backend.dtype
        states = model.states(normalise(kept, geometry).to(dtype)) if whole else kept.to(dtype)
        return [Encoded(one, len(one)) for one in projected(model, [states], layouts)]


@contextlib.contextmanager
def frozen_model(model: Any) -> Iterator[None]:
    """Let the metric freeze a model, and give it back as it was."""
    learning = [weight for weight in model.parameters() if weight.requires_grad]
    training = model.training
    try:
        yield
    finally:
        for weight in learning:
            weight.requires_grad_(True)
        model.train(training)


def _complete(failed: Sequence[tuple[str, Exception]]) -> None:
    if failed:
        image, error = failed[0]
        raise DataError(f"validation: {len(failed)} pictures cannot be used, first {image!r}: {error}")


def _mos(row: Row) -> float:
    if row.mos is None:
        raise DataError(f"validation row {row.id!r}: it has no `mos`. Freeze the data again.")
    return row.mos


def _limited(rows: list[Any], limit: int | None, seed: int) -> list[Any]:
    if limit is None or limit >= len(rows):
        return rows
    return [rows[index] for index in sorted(np.random.default_rng(seed).permutation(len(rows))[:limit])]


def _shares(count: int, rank: int, world: int, micro: int) -> list[list[tuple[int, float]]]:
    """One process's rows with their weights, in batches; as many on every process, the filling with weight 0.

    Engines that shard weights need all processes to call the model equally often.
    """
    own = [(index, 1.0) for index in range(rank, count, world)]
    own += [(0, 0.0)] * (-(-count // world) - len(own))
    return [own[start : start + micro] for start in range(0, len(own), micro)]


def _answer(labels: torch.Tensor, ids: torch.Tensor, tokenizer: Tokenizer) -> tuple[int, int]:
    """First token of the answer and its end marker, in a conversation of one question."""
    starts = (ids == tokenizer.encode("<|im_start|>")[0]).nonzero()[:, 0]
    ends = (ids == tokenizer.encode("<|im_end|>")[0]).nonzero()[:, 0]
    newline = tokenizer.encode("\n")[0]
    header = int(starts[-1])
    begin = header + int((ids[header:] == newline).nonzero()[0, 0]) + 1
    if int(labels[begin]) == IGNORED:
        raise RunError("`chat.mask`: the answer's first token is not supervised; this mask cannot be validated.")
    return begin, int(ends[-1])
