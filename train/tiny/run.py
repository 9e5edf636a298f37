"""`python -m train tiny`: Algorithm 1 from raw pictures to an exported model, in one go. Thin shell.

Every stage writes into its own folder below the output and is skipped, or gone on with, when the command is run again.
The independent runs of a sweep share the cores, one each, so that no core waits for another.

Paper: Q-SiT, arXiv 2503.09197, Sec. III-C, Algorithm 1. Deviations, for size alone: 7 points twice instead of 19 three
times, a polynomial of degree 2, models of under a million parameters, drawn pictures.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from qsit_metric.files import write_atomic

from ..data.frozen import Frozen
from ..export import export
from ..folder import Outcome
from ..loop import train
from ..nano.scratch import Scratch, count_parameters
from ..nano.stages import Say, Stages, read_json
from ..recipe import TrainingRecipe, load_recipe
from ..sweep import Plan, fit_folder, pending, plan_step1, plan_step2, run_spec, spread_ratios
from ..sweep.curve import Fit
from ..sweep.proxy import proxy
from .base import SEEN, make_base
from .data import Amounts, all_texts, make_data
from .summary import chance, fitted, history

SMALL = Scratch()
PRIMARY = replace(SMALL, text_width=128, text_layers=4, text_intermediate=320)
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


class _Tiny:
    def __init__(self, output: Path, seed: int, effort: Effort, stages: Stages) -> None:
        self.output, self.seed, self.effort, self._stages = output, seed, effort, stages

    def run(self) -> dict[str, Any]:
        with self._stages.stage("data"):
            self.data, base = make_data(self.output / "data", self.effort.amounts, self.seed)
        with self._stages.stage("bases"):
            self._bases(base)
        with self._stages.stage("step 1"):
            first = self._sweep(1, None)
        with self._stages.stage("step 2"):
            second = self._sweep(2, first.best_ratio)
        with self._stages.stage("small model"):
            small = self._small()
        with self._stages.stage("primary model"):
            primary = self._primary(small)
        with self._stages.stage("export"):
            used = self._use()
        return self._summary(first, second, small, primary, used)

    def _bases(self, rows: Frozen) -> None:
        texts = all_texts(self.data, rows)
        work = [
            (_teach_base, (spec, texts, self._base_recipe(name, rows), self.output, name, self.effort, self.seed))
            for name, spec in (("primary", PRIMARY), ("small", SMALL))
        ]
        self._stages.side_by_side(work)

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

    def _sweep(self, step: int, r_star: float | None) -> Fit:
        recipe, folder = self._recipe("small"), self.output / f"step{step}"
        plan = self._plan(step, r_star, recipe)
        plan.save(folder)
        self._stages.side_by_side([(_proxy_run, (folder, index, recipe)) for index in pending(folder)])
        fit = fit_folder(folder, DEGREE)
        low, high = fit.interval
        self._stages.say(
            f"step {step}: best ratio {fit.best_ratio:.2f} ({low:.2f} to {high:.2f}) {fit.warning}".rstrip()
        )
        return fit

    def _plan(self, step: int, r_star: float | None, recipe: TrainingRecipe) -> Plan:
        common = {"seed": self.seed, "degree": DEGREE, "repeats": self.effort.repeats}
        digests = {"data_digest": self.data.digest, "recipe_digest": recipe.digest}
        if r_star is None:
            fractions = self.effort.fractions
            # Accuracy alone is within the noise of guessing at this size, and may be the same in every run.
            return plan_step1(self.data.counts, fractions=fractions, formula="mean", **common, **digests)  # type: ignore[arg-type]
        ratios = spread_ratios(self.data.counts, r_star, self.effort.points)
        return plan_step2(self.data.counts, r_star, ratios=ratios, **common, **digests)  # type: ignore[arg-type]

    def _mixture(self) -> dict[str, Any]:
        return {"fits": [str(self.output / f"step{step}" / "fit.json") for step in (1, 2)]}

    def _small(self) -> Outcome:
        """To the plateau, at the ratios that the sweeps found; gives lambda."""
        stop = {"epochs": self.effort.small_epochs}
        return train(self._recipe("small", mixture=self._mixture(), stop=stop), self.output / "small", quiet=True)

    def _primary(self, small: Outcome) -> Outcome:
        """A set number of epochs, the mixture adjusted after each towards lambda."""
        recipe = self._recipe(
            "primary",
            mixture=self._mixture(),
            stop={"epochs": self.effort.primary_epochs, "patience": None},
            balance={"reference": str(self.output / "small")},
        )
        self._stages.say(f"lambda = L_S / L_I = {small.metrics['ratio']:.3g}")
        return train(recipe, self.output / "primary", quiet=True)

    def _use(self) -> dict[str, Any]:
        """Export, load as anyone would, score and ask."""
        from qsit_metric import QSiT

        folder = self.output / "q-sit-tiny"
        if not folder.is_dir():
            export(self.output / "primary", folder, which="last", dtype="float32")
        metric = QSiT(folder)
        picture = self.data.root("questions") / self.data.val_questions[0].image
        question = "How is the sharpness of this image?"
        return {
            "model": folder.name,
            "picture": picture.name,
            "score": round(float(metric.score(picture)), 3),
            "question": question,
            "answer": str(metric.ask(picture, question, max_new_tokens=16)),
        }

    def _summary(
        self, first: Fit, second: Fit, small: Outcome, primary: Outcome, used: Mapping[str, Any]
    ) -> dict[str, Any]:
        found = {
            "seed": self.seed,
            "rows": asdict(self.data.counts),
            "parameters": {"small": count_parameters(SMALL), "primary": count_parameters(PRIMARY)},
            "tower": {name: read_json(self.output / "models" / name / "tower" / SEEN) for name in ("small", "primary")},
            "r": fitted(first),
            "q": fitted(second),
            "chance": chance(self.data),
            "small": dict(small.metrics),
            "lambda": small.metrics["ratio"],
            "primary": dict(primary.metrics),
            "mixture": history(self.output / "primary"),
            "used": dict(used),
            "seconds": {**self._stages.seconds, "total": round(sum(self._stages.seconds.values()), 1)},
        }
        write_atomic(self.output / "summary.json", json.dumps(found, indent=1) + "\n")
        return found


def _teach_base(
    spec: Scratch, texts: Sequence[str], recipe: TrainingRecipe, output: Path, name: str, effort: Effort, seed: int
) -> str:
    """One base: tower, then general rows. Runs in a process of its own."""
    folder = output / "models" / name
    make_base(spec, texts, folder / "tower", crops=effort.crops, steps=effort.tower_steps, seed=seed)
    train(recipe, folder / "run", quiet=True)
    return f"base of the {name} model"


def _proxy_run(folder: Path, index: int, recipe: TrainingRecipe) -> str:
    """One run of a sweep. Runs in a process of its own."""
    result = run_spec(folder, index, proxy(recipe, quiet=True))
    return f"run {index:03d} at ratio {result['ratio']:.2f}: {result['seconds']:.0f} s"
