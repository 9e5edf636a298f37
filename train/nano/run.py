"""`python -m train nano`: the embedded model from nothing, by Algorithm 1, in one command. Thin shell.

Every stage writes into its own folder below the output and is skipped, or gone on with, when the command is run again.

Paper: Q-SiT, arXiv 2503.09197, Sec. III-C, Algorithm 1. Deviations: 7 points twice instead of 19 three times; one model
is both the small and the primary one, with its tower frozen as the first, and as the second unfrozen for its last
epochs where the effort has any (`Effort.polish_epochs`); epochs are parts of the data, at the ratios found. A finished
model can be taught on with pictures that are new to it (`Effort.onward`), with the rows of each set fixed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from qsit_metric.files import write_atomic

from ..balance import coarse_sizes
from ..export import export
from ..folder import Outcome
from ..loop import train
from ..mixture import SETS, Sizes
from ..model import load_parts
from ..prepared import Prepared, compute_states, cut_pictures
from ..recipe import Model, TrainingRecipe, load_recipe
from ..sweep import Plan, fit_folder, pending, plan_step1, plan_step2, run_spec, spread_ratios
from ..sweep.curve import Fit
from ..sweep.proxy import proxy
from ..tiny.summary import chance, fitted, history
from .base import SEEN, make_tower
from .data.dataset import LABELS, make_dataset
from .scratch import count_parameters
from .spec import CPU, FULL, NANO, Device, Effort
from .stages import Say, Stages, read_json
from .taking import BEFORE, MODEL, take_over, taken
from .trials import ablations, leave_outs, scaled

RECIPE = "q-sit-nano"
DEGREE = 3
_POLISH = 0.3  # of the learning rate, once the tower learns, too
_ONWARD = 0.5  # of the learning rate for a finished model, in steps twice as large


def run_nano(
    output: Path,
    seed: int = 0,
    effort: Effort = FULL,
    device: Device = CPU,
    begin: Path | None = None,
    say: Say = lambda _: None,
) -> dict[str, Any]:
    """Make the data, search the balance, train, export, and train what the tables compare it with.

    Args:
        output: Its folder; what is finished there is not done again.
        seed: Of the data, the sweeps and the rows that the embedded model draws; an untrained tower and the base always
            begin alike.
        effort: How much is done.
        device: Where.
        begin: Another run of another seed, or its `models`: see `take_over`.
        say: Told what is being done.

    Returns:
        What is written to `summary.json`; the model is in `q-sit-nano/`.

    Raises:
        RunError: The folder holds a run with other settings, or a stage failed.
    """
    settings = {"seed": seed, "spec": asdict(NANO), "device": asdict(device), "recipe": load_recipe(RECIPE).digest}
    stages = Stages(output, {**settings, **asdict(effort)}, say)
    if begin is not None:
        take_over(begin, output, seed, effort.onward is not None)
    return _Nano(output, seed, effort, device, stages).run()


class _Nano:
    def __init__(self, output: Path, seed: int, effort: Effort, device: Device, stages: Stages) -> None:
        self.output, self.seed, self.effort, self.device, self.stages = output, seed, effort, device, stages

    def run(self) -> dict[str, Any]:
        stage = self.stages.stage
        with stage("data"):
            self.data = make_dataset(self.output / "data", self.effort.amounts, self.seed, quiet=True)
        tower = self.output / "models" / "tower"
        if not tower.is_dir() or not self.device.states:
            with stage("tiles"):
                store = self._tiles()
            with stage("tower"):
                tower = self._tower(store)
        torch.cuda.empty_cache()  # of all pictures, which the tower has seen; nothing without an accelerator
        if self.device.states:
            with stage("states"):
                self._states(tower)
        with stage("base"):
            self._base(tower)
        with stage("step 1"):
            first = self._sweep(1, None)
        with stage("step 2"):
            second = self._sweep(2, first.best_ratio)
        if self.effort.onward:
            with stage("embedded model"):
                model = self._onward(self.effort.onward)
            with stage("export"):
                self._export()
            return self._summary(first, second, None, model)
        self.mix = coarse_sizes(self.data.counts, first.best_ratio, second.best_ratio)
        with stage("small model"):
            small = self._small()
        with stage("embedded model"):
            model = self._model(small)
        with stage("export"):
            self._export()
        self._summary(first, second, small, model)
        with stage("ablations"):
            ablations(
                self.stages,
                self.output,
                self._abreast(),
                self.mix,
                self.effort.trial_rows,
                _ratio(small),
                self.device.abreast,
            )
        with stage("leave-outs"):
            leave_outs(self.stages, self.output, self._abreast(), self.mix, self.effort.trial_rows, self.device.abreast)
        return self._summary(first, second, small, model)

    def _tiles(self) -> Prepared:
        """Of all pictures that any row or question names."""
        named = [row.image for name in SETS for row in self.data.rows(name)]
        named += [row.image for row in self.data.val_scoring] + [one.image for one in self.data.val_questions]
        images = sorted(set(named))
        return cut_pictures(
            images, self.output / "data" / "images", NANO.geometry, self.output / "tiles", say=self.stages.say
        )

    def _tower(self, store: Prepared) -> Path:
        data = self.output / "data"
        lessons = replace(self.effort.lessons, precision=self.device.precision)
        return make_tower(NANO, data, store, self.output, lessons, self.device, self.stages.say)

    def _states(self, tower: Path) -> None:
        model = Model(base=str(tower), gradient_checkpointing=False, attention=self.device.attention)
        compute_states(load_parts(model, "train"), self.data, self.output / "states", say=self.stages.say)

    def _recipe(self, name: str = "nano", **sections: Any) -> TrainingRecipe:
        """The committed recipe, here: a frozen tower until a section says otherwise."""
        states = str(self.output / "states") if self.device.states else None
        tiles = str(self.output / "tiles") if (self.output / "tiles").is_dir() else None  # not after `begin`
        here = self.device
        common: dict[str, Any] = {
            "name": name,
            "model": {"base": str(self.output / "models" / "base" / "last"), "attention": here.attention},
            "data": {
                "folder": str(self.data.folder), "states": states, "tiles": tiles,
                "workers": here.workers,
            },
            "optim": {
                "batch": here.batch, "micro_batch": here.batch, "lr": here.lr, "vision_lr": here.vision_lr,
                "precision": here.precision,
            },
            "validation": {"limit": self.effort.limit},
        }  # fmt: skip
        return load_recipe(RECIPE).changed(**common).changed(**sections)

    def _base(self, tower: Path) -> None:
        """General rows only: the recipe's own sets are still unseen."""
        if taken(self.output / "models" / "base"):
            return
        recipe = self._recipe(
            "nano-base",
            model={"base": str(tower)},
            mixture={"sizes": [0, 0, self.data.counts.d3]},
            validation={"scores": False, "limit": self.effort.proxy_limit},
            stop={"epochs": self.effort.base_epochs, "patience": None},
        )
        train(recipe, self.output / "models" / "base", quiet=True)

    def _abreast(self, **sections: Any) -> TrainingRecipe:
        """The recipe of runs that go side by side: smaller steps for less data, and a fair share of the cores."""
        batch = self.device.batch // 2
        small = {"optim": {"batch": batch, "micro_batch": batch}, "data": {"workers": self.device.helpers}}
        return self._recipe().changed(**small).changed(**sections)

    def _sweep(self, step: int, r_star: float | None) -> Fit:
        folder = self.output / f"step{step}"
        if not taken(folder):
            self._runs(folder, r_star)
        plan = Plan.load(folder)
        fit = fit_folder(folder, min(DEGREE, len({run.ratio for run in plan.runs}) - 2))
        low, high = fit.interval
        said = f"step {step}: best ratio {fit.best_ratio:.2f} ({low:.2f} to {high:.2f}) {fit.warning}"
        self.stages.say(said.rstrip())
        return fit

    def _runs(self, folder: Path, r_star: float | None) -> None:
        recipe = self._abreast(validation={"limit": self.effort.proxy_limit})
        self._plan(r_star, recipe).save(folder)
        work = [(_proxy_run, (folder, index, recipe)) for index in pending(folder)]
        self.stages.side_by_side(work, self.device.abreast)

    def _plan(self, r_star: float | None, recipe: TrainingRecipe) -> Plan:
        pool = Sizes(*self.effort.pool)
        degree = min(DEGREE, 2 * len(self.effort.fractions) - 3)
        common: dict[str, Any] = {"seed": self.seed, "repeats": self.effort.repeats, "degree": degree}
        common |= {"data_digest": self.data.digest, "recipe_digest": recipe.digest}
        if r_star is None:
            return plan_step1(pool, fractions=self.effort.fractions, **common)
        return plan_step2(pool, r_star, ratios=spread_ratios(pool, r_star, self.effort.points), **common)

    def _small(self) -> Outcome:
        """With a frozen tower, to the plateau, at the ratios that the sweeps found; gives lambda."""
        stop = {"epochs": self.effort.small_epochs, "patience": 1}
        recipe = self._recipe("nano-small", mixture=scaled(self.mix, self.effort.small_rows), stop=stop)
        return train(recipe, self.output / "small", quiet=True)

    def _model(self, small: Outcome) -> Outcome:
        """The embedded model: longer, the mixture adjusted after each epoch; then with a learning tower."""
        balance = {"reference": _ratio(small)}
        frozen = "frozen" if self.effort.polish_epochs else "model"
        stop = {"epochs": self.effort.epochs, "patience": None}
        mixture = scaled(self.mix, self.effort.epoch_rows)
        recipe = self._recipe("nano-frozen", mixture=mixture, balance=balance, stop=stop, seed=self.seed + 1)
        taught = train(recipe, self.output / frozen, quiet=True)
        if not self.effort.polish_epochs:
            return taught
        polished = self._recipe(
            "q-sit-nano",
            model={"base": str(self.output / "frozen" / "last"), "frozen": []},
            data={"states": None},
            mixture=scaled(self.mix, self.effort.polish_rows),
            optim={"lr": self.device.lr * _POLISH},
            balance=balance,
            stop={"epochs": self.effort.polish_epochs, "patience": None},
            seed=self.seed + 2,
        )
        self.stages.say(f"with a frozen tower: {_said(taught.metrics)}")
        return train(polished, self.output / "model", quiet=True)

    def _onward(self, rows: tuple[int, int, int]) -> Outcome:
        """The model of another run, with pictures that are new to it."""
        steps = {"batch": 2 * self.device.batch, "micro_batch": 2 * self.device.batch}
        recipe = self._recipe(
            "nano-onward",
            model={"base": str(self.output / MODEL)},
            optim={**steps, "lr": _ONWARD * self.device.lr},
            mixture={"sizes": list(rows)},
            stop={"epochs": self.effort.epochs, "patience": None},
            seed=self.seed + 1,
        )
        return train(recipe, self.output / "model", quiet=True)

    def _export(self) -> None:
        folder = self.output / "q-sit-nano"
        if not folder.is_dir():
            export(self.output / "model", folder, which="last", dtype="float16", licence="apache-2.0")

    def _summary(self, first: Fit, second: Fit, small: Outcome | None, model: Outcome) -> dict[str, Any]:
        found: dict[str, Any] = {
            "seed": self.seed,
            "rows": asdict(self.data.counts),
            "parameters": count_parameters(NANO),
            "tower": read_json(self.output / "models" / "tower" / SEEN),
            "begun": taken(self.output / "models" / "base"),
            "balance_taken": taken(self.output / "step2"),
            "device": asdict(self.device),
            "r": fitted(first),
            "q": fitted(second),
            "chance": chance(self.data),
            "labels": LABELS,
            "small": dict(small.metrics) if small else None,
            "lambda": _ratio(small) if small else None,
            "model": dict(model.metrics),
            "mixture": {
                name: history(self.output / name)
                for name in ("small", "frozen", "model")
                if (self.output / name).is_dir()
            },
            "ablations": read_json(self.output / "ablations.json"),
            "seconds": {**self.stages.seconds, "total": round(sum(self.stages.seconds.values()), 1)},
        }
        if self.effort.onward:
            found["before"] = read_json(self.output / BEFORE)
        write_atomic(self.output / "summary.json", json.dumps(found, indent=1) + "\n")
        return found


def _proxy_run(folder: Path, index: int, recipe: TrainingRecipe) -> str:
    """One run of a sweep. Runs in a process of its own."""
    result = run_spec(folder, index, proxy(recipe, quiet=True))
    return f"run {index:03d} at ratio {result['ratio']:.2f}: {result['seconds']:.0f} s, {_said(result['metrics'])}"


def _ratio(small: Outcome) -> float:
    return float(small.metrics["ratio"] or 0.0)


def _said(metrics: Mapping[str, float | None]) -> str:
    shown = ((name.split("/")[0], value) for name, value in metrics.items() if name.startswith(("srcc", "accuracy")))
    return ", ".join(f"{name} {value:.3f}" for name, value in shown if value is not None)
