"""Algorithm 1 from made data to an exported model, in stages: both sweeps, the small model, the model itself.

`run` has the embedded model's way, `tiny` the same at a size of minutes. Every stage writes into its own folder below
the output and is skipped, or gone on with, when the command is run again; the runs of a sweep go side by side, each in
a process of its own.

Paper: Q-SiT, arXiv 2503.09197, Sec. III-C, Algorithm 1. Deviations, for size: fewer points and repeats, polynomials of
lower degree.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from ..data.frozen import Frozen
from ..folder import Outcome
from ..loop import train
from ..mixture import Sizes
from ..recipe import TrainingRecipe
from ..sweep import Formula, Plan, fit_folder, pending, plan_step1, plan_step2, run_spec, spread_ratios
from ..sweep.fit import Fit
from ..sweep.runs import proxy
from .stages import FILES, Stages
from .takeover import taken


@dataclass(frozen=True)
class Search:
    """The two sweeps.

    Attributes:
        pool: Rows of D1, D2 and D3 that one run may have at most.
        fractions: Of the smaller side in step 1; n of them give 2 n - 1 points.
        points: Points of step 2, from an eighth of the largest |D2* + D3*| : D1 that the rows allow up to it.
        repeats: Runs at each point.
        degree: Degree of the polynomial; lower where there are few points.
        formula: What counts as performance in step 1.
    """

    pool: Sizes
    fractions: tuple[float, ...]
    points: int
    repeats: int
    degree: int
    formula: Formula = "accuracy"


@dataclass(frozen=True)
class Found:
    """The results of all stages.

    Attributes:
        first: Step 1; its best ratio is r*.
        second: Step 2; its best ratio is q*.
        small: The small model, if one was trained.
        model: The model itself.
    """

    first: Fit
    second: Fit
    small: Outcome | None
    model: Outcome


class Algorithm1(ABC):
    """A run of Algorithm 1.

    Args:
        output: Its folder; what is finished there is not done again.
        seed: Of the data, the sweeps and the models.
        stages: Its stages.

    Attributes:
        data: What the models are trained on, once `prepare` is done.
        abreast: Runs side by side at most; 0 is one for each core.
        model: What the stage of the last model is called.
    """

    data: Frozen
    abreast: int = 0
    model: ClassVar[str]

    def __init__(self, output: Path, seed: int, stages: Stages) -> None:
        self.output, self.seed, self.stages = output, seed, stages

    @abstractmethod
    def prepare(self) -> None:
        """Make the data and what the models begin with; sets `data`."""

    @abstractmethod
    def search(self) -> Search:
        """The layout of the sweeps."""

    @abstractmethod
    def sweep_recipe(self) -> TrainingRecipe:
        """The recipe that the runs of the sweeps share."""

    @abstractmethod
    def small_recipe(self, first: Fit, second: Fit) -> TrainingRecipe | None:
        """The small model, to the plateau, at the ratios that the sweeps found; None where lambda is not needed."""

    @abstractmethod
    def train_model(self, first: Fit, second: Fit, small: Outcome | None) -> Outcome:
        """Train the model itself, with the mixture adjusted towards lambda."""

    @abstractmethod
    def export(self) -> None:
        """Export it."""

    def compare(self, found: Found) -> None:  # noqa: B027  # most have nothing
        """Train what it is compared with; by default nothing."""

    @abstractmethod
    def own_summary(self, found: Found) -> dict[str, Any]:
        """Fields of the summary that only this run has."""

    def run(self) -> dict[str, Any]:
        """Do all stages; gives the content of `summary.json`."""
        self.prepare()
        with self.stages.stage("step 1"):
            first = self._sweep(1, None)
        with self.stages.stage("step 2"):
            second = self._sweep(2, first.best_ratio)
        small = self._small(self.small_recipe(first, second))
        with self.stages.stage(self.model):
            model = self.train_model(first, second, small)
        with self.stages.stage("export"):
            self.export()
        found = Found(first, second, small, model)
        self._save(found)
        self.compare(found)
        return self._save(found)

    def _small(self, recipe: TrainingRecipe | None) -> Outcome | None:
        if recipe is None:
            return None
        with self.stages.stage("small model"):
            small = train(recipe, self.output / "small", quiet=True)
        self.stages.say(f"lambda = L_S / L_I = {ratio(small):.3g}")
        return small

    def _save(self, found: Found) -> dict[str, Any]:
        """Write the summary: what every run tells, and what only this one does."""
        small = found.small
        fields = {
            "seed": self.seed,
            "rows": asdict(self.data.counts),
            "r": _fitted(found.first),
            "q": _fitted(found.second),
            "chance": _chance(self.data),
            "small": dict(small.metrics) if small else None,
            "lambda": ratio(small) if small else None,
            **self.own_summary(found),
            "seconds": {**self.stages.seconds, "total": round(sum(self.stages.seconds.values()), 1)},
        }
        FILES.write_json(self.output / "summary.json", fields)
        return fields

    def _sweep(self, step: int, r_star: float | None) -> Fit:
        folder, search = self.output / f"step{step}", self.search()
        if not taken(folder):
            recipe = self.sweep_recipe()
            self._plan(search, r_star, recipe).save(folder)
            work = [(_proxy_run, (folder, index, recipe)) for index in pending(folder)]
            self.stages.side_by_side(work, self.abreast)
        fit = fit_folder(folder, min(search.degree, len({run.ratio for run in Plan.load(folder).runs}) - 2))
        low, high = fit.interval
        said = f"step {step}: best ratio {fit.best_ratio:.2f} ({low:.2f} to {high:.2f}) {fit.warning}"
        self.stages.say(said.rstrip())
        return fit

    def _plan(self, search: Search, r_star: float | None, recipe: TrainingRecipe) -> Plan:
        common: dict[str, Any] = {"seed": self.seed, "repeats": search.repeats}
        common |= {"degree": min(search.degree, 2 * len(search.fractions) - 3)}
        common |= {"data_digest": self.data.digest, "recipe_digest": recipe.digest}
        if r_star is None:
            return plan_step1(search.pool, fractions=search.fractions, formula=search.formula, **common)
        return plan_step2(search.pool, r_star, ratios=spread_ratios(search.pool, r_star, search.points), **common)


def ratio(small: Outcome) -> float:
    """Lambda: the small model's L_S / L_I at the plateau."""
    return float(small.metrics["ratio"] or 0.0)


def measured(metrics: Mapping[str, float | None]) -> str:
    """The correlations and the accuracy of a run, for a line of progress."""
    shown = ((name.split("/")[0], value) for name, value in metrics.items() if name.startswith(("srcc", "accuracy")))
    return ", ".join(f"{name} {value:.3f}" for name, value in shown if value is not None)


def epoch_sizes(run: Path) -> list[list[int]]:
    """Sizes of D1, D2 and D3 in each epoch of a run, as logged."""
    events = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    return [event["sizes"] for event in events if event["kind"] == "epoch"]


def _proxy_run(folder: Path, index: int, recipe: TrainingRecipe) -> str:
    """Do one run of a sweep. Runs in a process of its own."""
    result = run_spec(folder, index, proxy(recipe, quiet=True))
    return f"run {index:03d} at ratio {result['ratio']:.2f}: {result['seconds']:.0f} s, {measured(result['metrics'])}"


def _fitted(fit: Fit) -> dict[str, Any]:
    """The optimum of a sweep and how sure it is."""
    kept = ("best_ratio", "interval", "edge", "performance", "residual_std", "runs", "ratios")
    return {name: value for name, value in fit.as_dict().items() if name in kept}


def _chance(data: Frozen) -> float:
    """Accuracy of guessing."""
    return sum(1 / len(question.choices) for question in data.val_questions) / len(data.val_questions)
