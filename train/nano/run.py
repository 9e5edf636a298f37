"""`python -m train nano` and `tiny`: a model from nothing, by Algorithm 1, in one command.

Every stage writes into its own folder below the output and is skipped, or gone on with, when the command is run again;
the runs of a sweep go side by side, each in a process of its own.

Paper: Q-SiT, arXiv 2503.09197, Sec. III-C, Algorithm 1. Deviations, for size: 7 points twice instead of 19 three times,
polynomials of lower degree; epochs are parts of the data, at the ratios found. Of q-sit-nano one model is both the
small and the primary one, with its tower frozen as the first, and as the second unfrozen for its last epochs where the
effort has any (`Effort.polish_epochs`). A finished model can be taught on with pictures that are new to it
(`Effort.onward`), with the rows of each set fixed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from qsit_metric import QSiT, Recipe
from qsit_metric.files import new_folder

from ..balance import coarse_sizes
from ..data.frozen import Frozen
from ..export import export
from ..folder import Outcome
from ..loop import train
from ..mixture import SETS, Sizes
from ..model import load_parts
from ..prepared import Prepared, compute_states, cut_pictures
from ..recipe import Model, TrainingRecipe, load_recipe
from ..sweep import Plan, fit_folder, pending, plan_step1, plan_step2, run_spec, spread_ratios
from ..sweep.fit import Fit
from ..sweep.runs import proxy
from .data.dataset import LABELS, make_dataset, read_pictures
from .data.pictures import describing
from .effort import CPU, FULL, Q_SIT_NANO, Device, Effort, Product
from .scratch import Scratch, build_base, count_parameters
from .stages import BEFORE, FILES, MODEL, Say, Stages, read_json, take_over, taken
from .tokenizer import texts_of
from .tower import Windows, teach
from .trials import ablations, leave_outs, scaled

SEEN = "tower.json"
"""Beside a tower's weights: what it can do."""

_TILES = 512  # that scale the filters of the patch embedding
_POLISH = 0.3  # of the learning rate, once the tower learns, too
_ONWARD = 0.5  # of the learning rate for a finished model, in steps twice as large
_QUESTION = "How is the sharpness of this image?"


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


def run_nano(
    output: Path,
    seed: int = 0,
    effort: Effort = FULL,
    device: Device = CPU,
    begin: Path | None = None,
    say: Say = lambda _: None,
    product: Product = Q_SIT_NANO,
) -> dict[str, Any]:
    """Make the data, search the balance, train, export, and train what the tables compare it with.

    Args:
        output: Its folder; what is finished there is not done again.
        seed: Of the data, the sweeps and the rows that the model draws; an untrained tower and the base always begin
            alike.
        effort: How much is done.
        device: Where.
        begin: Another run of another seed, or its `models`: see `take_over`.
        say: Told what is being done.
        product: Which model.

    Returns:
        What is written to `summary.json`; the model is in the folder that the product is called after.

    Raises:
        RunError: The folder holds a run with other settings, or a stage failed.
    """
    sizes = {"spec": asdict(product.spec), "primary": asdict(product.primary) if product.primary else None}
    settings = {"seed": seed, **sizes, "device": asdict(device), "recipe": load_recipe(product.recipe).digest}
    stages = Stages(output, {**settings, **asdict(effort)}, say)
    if begin is not None:
        take_over(begin, output, seed, effort.onward is not None)
    return _Run(output, seed, effort, device, stages, product).run()


class _Run:
    """A run of Algorithm 1; `root` is the folder of what a size of the model begins with."""

    data: Frozen

    def __init__(
        self, output: Path, seed: int, effort: Effort, device: Device, stages: Stages, product: Product
    ) -> None:
        self.output, self.seed, self.stages = output, seed, stages
        self.effort, self.device, self.product = effort, device, product
        self.main = output / "primary" if product.primary else output
        self.used: dict[str, Any] = {}

    def run(self) -> dict[str, Any]:
        """Do all stages; gives the content of `summary.json`."""
        with self.stages.stage("data"):
            self.data = make_dataset(self.output / "data", self.effort.amounts, self.seed, quiet=True)
        self._begin(self.product.spec, self.output)
        with self.stages.stage("step 1"):
            first = self._sweep(1, None)
        with self.stages.stage("step 2"):
            second = self._sweep(2, first.best_ratio)
        mix = coarse_sizes(self.data.counts, first.best_ratio, second.best_ratio)
        small, model = self._models(mix)
        with self.stages.stage("export"):
            self._export()
        found = Found(first, second, small, model)
        self._save(found)
        if small and self.effort.trial_rows:
            self._compare(mix, ratio(small))
        return self._save(found)

    def _begin(self, spec: Scratch, root: Path) -> None:
        """Make what a model begins with: a tower that has learned to see, and general rows."""
        stage, tower = self.stages.stage, root / "models" / "tower"
        if not tower.is_dir() or not self.device.states:
            with stage("tiles"):
                store = self._tiles()
            with stage("tower"):
                self._tower(tower, spec, store)
        torch.cuda.empty_cache()  # of all pictures, which the tower has seen; nothing without an accelerator
        if self.device.states:
            with stage("states"):
                # The tower of a model that is taught on may have learned with it.
                self._states(self.output / MODEL if self.effort.onward else tower, root)
        with stage("base"):
            self._base(tower, root)

    def _tiles(self) -> Prepared:
        """Cut all pictures that any row or question names."""
        named = [row.image for name in SETS for row in self.data.rows(name)]
        named += [row.image for row in self.data.val_scoring] + [one.image for one in self.data.val_questions]
        images, geometry = self.output / "data" / "images", self.product.spec.geometry
        return cut_pictures(sorted(set(named)), images, geometry, self.output / "tiles", say=self.stages.say)

    def _tower(self, folder: Path, spec: Scratch, store: Prepared) -> None:
        """Teach a tower with the scored pictures; a stage that was cut goes on where it was."""
        if folder.is_dir():
            return
        lessons = replace(self.effort.lessons, precision=self.device.precision)
        learned, held = (read_pictures(self.output / "data", name) for name in ("d1", "scoring"))
        blank, state = folder.with_name("blank"), folder.with_name("tower.state")
        if not blank.is_dir():  # a tokenizer learns all texts
            tiles = _some_tiles(store, [one.image for one in learned], lessons.seed)
            build_base(spec, texts_of(self.data), blank, lessons.seed, tiles)
        parts = load_parts(
            Model(base=str(blank), gradient_checkpointing=False, attention=self.device.attention), "train"
        )
        parts.model.to(self.device.name)
        source = Windows(store, spec.geometry, learned, held, parts.device)
        seen = teach(parts.model, source, lessons, state, self.stages.say)
        with new_folder(folder) as written:
            parts.model.cpu()
            parts.save(written)
            shown = {"tiles": lessons.steps * lessons.batch, "lessons": asdict(lessons)}
            FILES.write_json(written / SEEN, {**asdict(seen), "pictures": len(learned), **shown})
        state.unlink(missing_ok=True)

    def _states(self, tower: Path, root: Path) -> None:
        model = Model(base=str(tower), gradient_checkpointing=False, attention=self.device.attention)
        compute_states(load_parts(model, "train"), self.data, root / "states", say=self.stages.say)

    def _base(self, tower: Path, root: Path) -> None:
        """Train the base with general rows only: the recipe's own sets are still unseen."""
        if taken(root / "models" / "base"):
            return
        recipe = self._recipe(
            "base",
            root,
            model={"base": str(tower)},
            mixture={"sizes": [0, 0, self.data.counts.d3]},
            validation={"scores": False, "limit": self.effort.proxy_limit},
            stop={"epochs": self.effort.base_epochs, "patience": None},
        )
        train(recipe, root / "models" / "base", quiet=True)

    def _recipe(self, name: str, root: Path, **sections: Any) -> TrainingRecipe:
        """The committed recipe, here: a frozen tower until a section says otherwise."""
        states = str(root / "states") if self.device.states else None
        tiles = str(self.output / "tiles") if (self.output / "tiles").is_dir() else None  # not after `begin`
        here = self.device
        common: dict[str, Any] = {
            "name": f"{self.product.short}-{name}",
            "model": {"base": str(root / "models" / "base" / "last"), "attention": here.attention},
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
        return load_recipe(self.product.recipe).changed(**common).changed(**sections)

    def _smaller(self, **sections: Any) -> TrainingRecipe:
        """The recipe of runs that go side by side: smaller steps for less data, and a fair share of the cores."""
        batch = self.device.batch // 2
        small = {"optim": {"batch": batch, "micro_batch": batch}, "data": {"workers": self.device.helpers}}
        return self._recipe("run", self.output).changed(name=self.product.short, **small).changed(**sections)

    def _sweep(self, step: int, r_star: float | None) -> Fit:
        folder, degree = self.output / f"step{step}", self.product.degree
        if not taken(folder):
            recipe = self._smaller(validation={"limit": self.effort.proxy_limit})
            self._plan(r_star, recipe).save(folder)
            work = [(_proxy_run, (folder, index, recipe)) for index in pending(folder)]
            self.stages.side_by_side(work, self.device.abreast)
        fit = fit_folder(folder, min(degree, len({run.ratio for run in Plan.load(folder).runs}) - 2))
        low, high = fit.interval
        said = f"step {step}: best ratio {fit.best_ratio:.2f} ({low:.2f} to {high:.2f}) {fit.warning}"
        self.stages.say(said.rstrip())
        return fit

    def _plan(self, r_star: float | None, recipe: TrainingRecipe) -> Plan:
        effort, pool = self.effort, Sizes(*self.effort.pool)
        common: dict[str, Any] = {"seed": self.seed, "repeats": effort.repeats}
        common |= {"degree": min(self.product.degree, 2 * len(effort.fractions) - 3)}
        common |= {"data_digest": self.data.digest, "recipe_digest": recipe.digest}
        if r_star is None:
            return plan_step1(pool, fractions=effort.fractions, formula=self.product.formula, **common)
        return plan_step2(pool, r_star, ratios=spread_ratios(pool, r_star, effort.points), **common)

    def _models(self, mix: Sizes) -> tuple[Outcome | None, Outcome]:
        """The small model, to the plateau, and the model itself; one that is taught on needs no other."""
        if self.effort.onward:
            with self.stages.stage(self.product.stage):
                return None, self._onward(self.effort.onward)
        stop = {"epochs": self.effort.small_epochs, "patience": 1}
        with self.stages.stage("small model"):
            recipe = self._recipe("small", self.output, mixture=scaled(mix, self.effort.small_rows), stop=stop)
            small = train(recipe, self.output / "small", quiet=True)
        self.stages.say(f"lambda = L_S / L_I = {ratio(small):.3g}")
        if self.product.primary:
            self._begin(self.product.primary, self.main)
        with self.stages.stage(self.product.stage):
            return small, self._model(mix, small)

    def _model(self, mix: Sizes, small: Outcome) -> Outcome:
        """The model itself: longer, the mixture adjusted after each epoch; then with a learning tower."""
        balance = {"reference": ratio(small)}
        frozen = "frozen" if self.effort.polish_epochs else "model"
        stop = {"epochs": self.effort.epochs, "patience": None}
        mixture = scaled(mix, self.effort.epoch_rows)
        recipe = self._recipe("frozen", self.main, mixture=mixture, balance=balance, stop=stop, seed=self.seed + 1)
        taught = train(recipe, self.output / frozen, quiet=True)
        if not self.effort.polish_epochs:
            return taught
        polished = self._recipe(
            "polished",
            self.main,
            model={"base": str(self.output / "frozen" / "last"), "frozen": []},
            data={"states": None},
            mixture=scaled(mix, self.effort.polish_rows),
            optim={"lr": self.device.lr * _POLISH},
            balance=balance,
            stop={"epochs": self.effort.polish_epochs, "patience": None},
            seed=self.seed + 2,
        ).changed(name=self.product.name)
        self.stages.say(f"with a frozen tower: {measured(taught.metrics)}")
        return train(polished, self.output / "model", quiet=True)

    def _onward(self, rows: tuple[int, int, int]) -> Outcome:
        """Teach the model of another run on, with pictures that are new to it."""
        steps = {"batch": 2 * self.device.batch, "micro_batch": 2 * self.device.batch}
        recipe = self._recipe(
            "onward",
            self.output,
            model={"base": str(self.output / MODEL)},
            optim={**steps, "lr": _ONWARD * self.device.lr},
            mixture={"sizes": list(rows)},
            stop={"epochs": self.effort.epochs, "patience": None},
            seed=self.seed + 1,
        )
        return train(recipe, self.output / "model", quiet=True)

    def _export(self) -> None:
        """Export the model, load it as anyone would, score and ask."""
        folder = self.output / self.product.name
        if not folder.is_dir():
            export(self.output / "model", folder, which="last", dtype=self.product.dtype, licence="apache-2.0")
        if recipe := Recipe.load(folder):
            replace(recipe, describing=describing()).save(folder)
        metric, picture = QSiT(folder), self.data.root("questions") / self.data.val_questions[0].image
        answer = str(metric.ask(picture, _QUESTION, max_new_tokens=16))
        self.used = {"picture": picture.name, "score": round(float(metric.score(picture)), 3)}
        self.used |= {"model": folder.name, "question": _QUESTION, "answer": answer}

    def _compare(self, mix: Sizes, reference: float) -> None:
        """Do the runs of the tables."""
        rows, abreast = self.effort.trial_rows, self.device.abreast
        with self.stages.stage("ablations"):
            ablations(self.stages, self.output, self._smaller(), mix, rows, reference, abreast)
        with self.stages.stage("leave-outs"):
            leave_outs(self.stages, self.output, self._smaller(), mix, rows, abreast)

    def _save(self, found: Found) -> dict[str, Any]:
        """Write the summary."""
        small, primary = found.small, self.product.primary
        trained = [name for name in ("small", "frozen", "model") if (self.output / name).is_dir()]
        fields: dict[str, Any] = {
            "seed": self.seed,
            "rows": asdict(self.data.counts),
            "r": _fitted(found.first),
            "q": _fitted(found.second),
            "chance": _chance(self.data),
            "small": dict(small.metrics) if small else None,
            "lambda": ratio(small) if small else None,
            "parameters": count_parameters(primary or self.product.spec),
            "small_parameters": count_parameters(self.product.spec),
            "tower": read_json(self.main / "models" / "tower" / SEEN),
            "begun": taken(self.output / "models" / "base"),
            "balance_taken": taken(self.output / "step2"),
            "device": asdict(self.device),
            "labels": LABELS,
            "model": dict(found.model.metrics),
            "mixture": {name: epoch_sizes(self.output / name) for name in trained},
            "ablations": read_json(self.output / "ablations.json"),
            "used": self.used,
            **({"before": read_json(self.output / BEFORE)} if self.effort.onward else {}),
            "seconds": {**self.stages.seconds, "total": round(sum(self.stages.seconds.values()), 1)},
        }
        FILES.write_json(self.output / "summary.json", fields)
        return fields


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


def _some_tiles(store: Prepared, images: Sequence[str], seed: int) -> torch.Tensor:
    """(N, 3, tile, tile) in -1..1, the second tile of some pictures: the first is the whole, squeezed."""
    picks = np.random.default_rng(seed).integers(0, len(images), _TILES)
    pixels, firsts = store.array()
    starts = sorted({firsts[images[pick]] for pick in picks.tolist()})
    return torch.from_numpy(pixels[[start + 1 for start in starts]]) / 127.5 - 1
