"""`python -m train tiny`: Algorithm 1 from drawn pictures to an exported model, in minutes.

Paper: Q-SiT, arXiv 2503.09197, Sec. III-C, Algorithm 1. Deviations, for size alone: 7 points twice instead of 19 three
times, a polynomial of degree 2, models of under a million parameters, drawn pictures of 96 pixels (those of the
embedded model have 28 times as many, and take as many times as long).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ...data.frozen import Frozen
from ...export import export
from ...folder import Outcome
from ...loop import train
from ...recipe import TrainingRecipe, load_recipe
from ...sweep.fit import Fit
from ..algorithm1 import Algorithm1, Found, Search, epoch_sizes
from ..scratch import Scratch, count_parameters
from ..stages import Say, Stages, read_json
from ..tower import SEEN, Lessons, make_tower
from .data import Amounts, all_texts, make_data
from .pictures import take_crops

SMALL = Scratch()
PRIMARY = replace(SMALL, text_width=128, text_layers=4, text_intermediate=320)
SPECS = {"small": SMALL, "primary": PRIMARY}
DEGREE = 2


@dataclass(frozen=True)
class Effort:
    """How much is done.

    Attributes:
        amounts: Rows of each set.
        fractions: Of the smaller side in step 1; n of them give 2 n - 1 points.
        points: Points of step 2, from an eighth of the largest |D2* + D3*| : D1 that the rows allow up to it.
        repeats: Runs at each point.
        crops: Crops that a tower sees before.
        tower_steps: Its optimiser steps.
        base_epochs: Epochs over the base's rows.
        small_epochs: Epochs of the small model at most.
        primary_epochs: Epochs of the primary model.
    """

    amounts: Amounts = field(default_factory=Amounts)
    fractions: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0)
    points: int = 7
    repeats: int = 2
    crops: int = 5000
    tower_steps: int = 800
    base_epochs: int = 2
    small_epochs: int = 6
    primary_epochs: int = 3


FULL = Effort()
FAST = Effort(
    Amounts(d1=64, d2=60, d3=60, questions=40, base=40),
    fractions=(0.5, 0.75, 1.0),
    points=4,
    repeats=1,
    crops=200,
    tower_steps=10,
    base_epochs=1,
    small_epochs=2,
    primary_epochs=2,
)


def run_tiny(output: Path, seed: int = 0, effort: Effort = FULL, say: Say = lambda _: None) -> dict[str, Any]:
    """Run the whole recipe.

    Args:
        output: Its folder; what is finished there is not done again.
        seed: Of the data, the models and the sweeps.
        effort: How much is done.
        say: Told what is being done.

    Returns:
        What is written to `summary.json`.

    Raises:
        RunError: The folder holds a run with another seed or effort, or a stage failed.
    """
    stages = Stages(output, {"seed": seed, **asdict(effort)}, say)
    return _Tiny(output, seed, effort, stages).run()


class _Tiny(Algorithm1):
    model = "primary model"

    def __init__(self, output: Path, seed: int, effort: Effort, stages: Stages) -> None:
        super().__init__(output, seed, stages)
        self.effort = effort
        self.used: dict[str, Any] = {}

    def prepare(self) -> None:
        with self.stages.stage("data"):
            self.data, base = make_data(self.output / "data", self.effort.amounts, self.seed)
        with self.stages.stage("bases"):
            self._bases(base)

    def search(self) -> Search:
        effort = self.effort
        # Accuracy alone is within the noise of guessing at this size, and may be the same in every run.
        return Search(self.data.counts, effort.fractions, effort.points, effort.repeats, DEGREE, "mean")

    def sweep_recipe(self) -> TrainingRecipe:
        return self._recipe("small")

    def small_recipe(self, first: Fit, second: Fit) -> TrainingRecipe:
        return self._recipe("small", mixture=self._mixture(), stop={"epochs": self.effort.small_epochs})

    def train_model(self, first: Fit, second: Fit, small: Outcome | None) -> Outcome:
        """A set number of epochs, the mixture adjusted after each towards lambda."""
        stop = {"epochs": self.effort.primary_epochs, "patience": None}
        balance = {"reference": str(self.output / "small")}
        recipe = self._recipe("primary", mixture=self._mixture(), stop=stop, balance=balance)
        return train(recipe, self.output / "primary", quiet=True)

    def export(self) -> None:
        """Export, load as anyone would, score and ask."""
        from qsit_metric import QSiT

        folder = self.output / "q-sit-tiny"
        if not folder.is_dir():
            export(self.output / "primary", folder, which="last", dtype="float32")
        metric = QSiT(folder)
        picture = self.data.root("questions") / self.data.val_questions[0].image
        question = "How is the sharpness of this image?"
        self.used = {
            "model": folder.name,
            "picture": picture.name,
            "score": round(float(metric.score(picture)), 3),
            "question": question,
            "answer": str(metric.ask(picture, question, max_new_tokens=16)),
        }

    def own_summary(self, found: Found) -> dict[str, Any]:
        towers = {name: read_json(self.output / "models" / name / "tower" / SEEN) for name in SPECS}
        return {
            "parameters": {name: count_parameters(spec) for name, spec in SPECS.items()},
            "tower": towers,
            "primary": dict(found.model.metrics),
            "mixture": epoch_sizes(self.output / "primary"),
            "used": self.used,
        }

    def _bases(self, rows: Frozen) -> None:
        texts = all_texts(self.data, rows)
        work = [
            (_make_base, (spec, texts, self._base_recipe(name, rows), self.output / "models" / name, self.effort))
            for name, spec in reversed(SPECS.items())
        ]
        self.stages.side_by_side(work)

    def _base_recipe(self, name: str, rows: Frozen) -> TrainingRecipe:
        """General rows only; the recipe's own sets are still unseen."""
        return load_recipe("tiny").changed(
            name=f"tiny-base-{name}",
            model={"base": str(self.output / "models" / name / "tower")},
            data={"folder": str(rows.folder)},
            mixture={"sizes": [0, 0, rows.counts.d3]},
            optim={"lr": 2e-3},
            validation={"scores": False},
            stop={"epochs": self.effort.base_epochs, "patience": None},
            seed=self.seed,
        )

    def _recipe(self, name: str, **sections: Any) -> TrainingRecipe:
        base = self.output / "models" / name / "run" / "last"
        merged = {"model": {"base": str(base)}, "data": {"folder": str(self.data.folder)}, "seed": self.seed}
        return load_recipe("tiny").changed(**{"name": f"tiny-{name}", **merged, **sections})

    def _mixture(self) -> dict[str, Any]:
        return {"fits": [str(self.output / f"step{step}" / "fit.json") for step in (1, 2)]}


def _make_base(spec: Scratch, texts: Sequence[str], recipe: TrainingRecipe, folder: Path, effort: Effort) -> str:
    """Make one base: tower, then general rows. Runs in a process of its own."""
    crops = take_crops(effort.crops, spec.tile, recipe.seed)
    make_tower(
        folder / "tower",
        spec,
        lambda: texts,
        lambda: crops.tiles.pixels[:512] / 127.5 - 1,
        lambda device: crops,
        Lessons(effort.tower_steps, seed=recipe.seed),
    )
    train(recipe, folder / "run", quiet=True)
    return f"base of the {folder.name} model"
