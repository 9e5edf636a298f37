"""`python -m train nano`: the embedded model from nothing, by Algorithm 1, in one command.

Paper: Q-SiT, arXiv 2503.09197, Sec. III-C, Algorithm 1. Deviations: 7 points twice instead of 19 three times; one model
is both the small and the primary one, with its tower frozen as the first, and as the second unfrozen for its last
epochs where the effort has any (`Effort.polish_epochs`); epochs are parts of the data, at the ratios found. A finished
model can be taught on with pictures that are new to it (`Effort.onward`), with the rows of each set fixed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from qsit_metric import Recipe

from ..balance import coarse_sizes
from ..errors import RunError
from ..export import export
from ..folder import Outcome
from ..loop import train
from ..mixture import SETS, Sizes
from ..model import load_parts
from ..prepared import Prepared, compute_states, cut_pictures
from ..recipe import Model, TrainingRecipe, load_recipe
from ..sweep.curve import Fit
from .algorithm1 import Algorithm1, Found, Search, epoch_sizes, measured, ratio
from .data.dataset import LABELS, make_dataset, read_pictures
from .data.pictures import describing
from .effort import CPU, FULL, NANO, Device, Effort
from .scratch import count_parameters
from .stages import Say, Stages, read_json
from .takeover import BEFORE, MODEL, take_over, taken
from .tokenizer import texts_of
from .tower import SEEN, make_tower
from .trials import ablations, leave_outs, scaled
from .windows import Windows

RECIPE = "q-sit-nano"
DEGREE = 3
_TILES = 512  # that scale the filters of the patch embedding
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


class _Nano(Algorithm1):
    model = "embedded model"

    def __init__(self, output: Path, seed: int, effort: Effort, device: Device, stages: Stages) -> None:
        super().__init__(output, seed, stages)
        self.effort, self.device, self.abreast = effort, device, device.abreast

    def prepare(self) -> None:
        stage = self.stages.stage
        with stage("data"):
            self.data = make_dataset(self.output / "data", self.effort.amounts, self.seed, quiet=True)
        tower = self.output / "models" / "tower"
        if not tower.is_dir() or not self.device.states:
            with stage("tiles"):
                store = self._tiles()
            with stage("tower"):
                self._tower(tower, store)
        torch.cuda.empty_cache()  # of all pictures, which the tower has seen; nothing without an accelerator
        if self.device.states:
            with stage("states"):
                # The tower of a model that is taught on may have learned with it.
                self._states(self.output / MODEL if self.effort.onward else tower)
        with stage("base"):
            self._base(tower)

    def search(self) -> Search:
        effort = self.effort
        return Search(Sizes(*effort.pool), effort.fractions, effort.points, effort.repeats, DEGREE)

    def sweep_recipe(self) -> TrainingRecipe:
        return self._smaller(validation={"limit": self.effort.proxy_limit})

    def small_recipe(self, first: Fit, second: Fit) -> TrainingRecipe | None:
        """The recipe of the small model: a frozen tower."""
        if self.effort.onward:
            return None
        stop = {"epochs": self.effort.small_epochs, "patience": 1}
        return self._recipe("nano-small", mixture=scaled(self._mix(first, second), self.effort.small_rows), stop=stop)

    def train_model(self, first: Fit, second: Fit, small: Outcome | None) -> Outcome:
        if self.effort.onward:
            return self._onward(self.effort.onward)
        if small is None:
            raise RunError.about("small model", None, "the outcome that gives lambda")
        return self._model(self._mix(first, second), small)

    def export(self) -> None:
        folder = self.output / "q-sit-nano"
        if not folder.is_dir():
            export(self.output / "model", folder, which="last", dtype="float16", licence="apache-2.0")
        if recipe := Recipe.load(folder):
            replace(recipe, describing=describing()).save(folder)

    def compare(self, found: Found) -> None:
        """The runs of the tables; a model that is taught on has none."""
        if found.small is None:
            return
        rows, mix = self.effort.trial_rows, self._mix(found.first, found.second)
        with self.stages.stage("ablations"):
            ablations(self.stages, self.output, self._smaller(), mix, rows, ratio(found.small), self.abreast)
        with self.stages.stage("leave-outs"):
            leave_outs(self.stages, self.output, self._smaller(), mix, rows, self.abreast)

    def own_summary(self, found: Found) -> dict[str, Any]:
        trained = [name for name in ("small", "frozen", "model") if (self.output / name).is_dir()]
        fields: dict[str, Any] = {
            "parameters": count_parameters(NANO),
            "tower": read_json(self.output / "models" / "tower" / SEEN),
            "begun": taken(self.output / "models" / "base"),
            "balance_taken": taken(self.output / "step2"),
            "device": asdict(self.device),
            "labels": LABELS,
            "model": dict(found.model.metrics),
            "mixture": {name: epoch_sizes(self.output / name) for name in trained},
            "ablations": read_json(self.output / "ablations.json"),
        }
        return fields | ({"before": read_json(self.output / BEFORE)} if self.effort.onward else {})

    def _mix(self, first: Fit, second: Fit) -> Sizes:
        return coarse_sizes(self.data.counts, first.best_ratio, second.best_ratio)

    def _tiles(self) -> Prepared:
        """Cut all pictures that any row or question names."""
        named = [row.image for name in SETS for row in self.data.rows(name)]
        named += [row.image for row in self.data.val_scoring] + [one.image for one in self.data.val_questions]
        root = self.output / "data" / "images"
        return cut_pictures(sorted(set(named)), root, NANO.geometry, self.output / "tiles", say=self.stages.say)

    def _tower(self, folder: Path, store: Prepared) -> None:
        """Shown the scored pictures; the tokenizer learns all texts."""
        lessons = replace(self.effort.lessons, precision=self.device.precision)
        learned, held = (read_pictures(self.output / "data", name) for name in ("d1", "scoring"))
        make_tower(
            folder,
            NANO,
            lambda: texts_of(self.data),
            lambda: _some_tiles(store, [one.image for one in learned], lessons.seed),
            lambda device: Windows(store, NANO.geometry, learned, held, device),
            lessons,
            device=self.device.name,
            attention=self.device.attention,
            say=self.stages.say,
            pictures=len(learned),
        )

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

    def _smaller(self, **sections: Any) -> TrainingRecipe:
        """The recipe of runs that go side by side: smaller steps for less data, and a fair share of the cores."""
        batch = self.device.batch // 2
        small = {"optim": {"batch": batch, "micro_batch": batch}, "data": {"workers": self.device.helpers}}
        return self._recipe().changed(**small).changed(**sections)

    def _model(self, mix: Sizes, small: Outcome) -> Outcome:
        """The embedded model: longer, the mixture adjusted after each epoch; then with a learning tower."""
        balance = {"reference": ratio(small)}
        frozen = "frozen" if self.effort.polish_epochs else "model"
        stop = {"epochs": self.effort.epochs, "patience": None}
        mixture = scaled(mix, self.effort.epoch_rows)
        recipe = self._recipe("nano-frozen", mixture=mixture, balance=balance, stop=stop, seed=self.seed + 1)
        taught = train(recipe, self.output / frozen, quiet=True)
        if not self.effort.polish_epochs:
            return taught
        polished = self._recipe(
            "q-sit-nano",
            model={"base": str(self.output / "frozen" / "last"), "frozen": []},
            data={"states": None},
            mixture=scaled(mix, self.effort.polish_rows),
            optim={"lr": self.device.lr * _POLISH},
            balance=balance,
            stop={"epochs": self.effort.polish_epochs, "patience": None},
            seed=self.seed + 2,
        )
        self.stages.say(f"with a frozen tower: {measured(taught.metrics)}")
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


def _some_tiles(store: Prepared, images: Sequence[str], seed: int) -> torch.Tensor:
    """(N, 3, tile, tile) in -1..1, the second tile of some pictures: the first is the whole, squeezed."""
    picks = np.random.default_rng(seed).integers(0, len(images), _TILES)
    pixels, firsts = store.array()
    starts = sorted({firsts[images[pick]] for pick in picks.tolist()})
    return torch.from_numpy(pixels[[start + 1 for start in starts]]) / 127.5 - 1
