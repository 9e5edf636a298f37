"""`python -m train run`, `recipes` and `states`: one training, and what it can begin with. Thin shell."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from qsit_metric import console

Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a field of the recipe, for example optim.lr=2e-5."),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")]


def rank() -> int:
    """This process among those of one training; the first speaks for all."""
    return int(os.environ.get("RANK", "0"))


def run_command(
    recipe: Annotated[str, typer.Argument(help="A YAML file, or the name of a recipe (`python -m train recipes`).")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="The run's folder.")],
    changes: Set = None,
    max_steps: Annotated[
        int | None, typer.Option("--max-steps", min=1, metavar="N", help="Dry run: stop after N optimiser steps.")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Train a model, or go on with a run that was stopped. Several devices: `accelerate launch -m train run ...`."""
    from ..loop import train
    from ..recipe import load_recipe

    outcome = train(load_recipe(recipe, changes or ()), output, max_steps=max_steps, quiet=quiet)
    if rank():
        return
    for name, value in outcome.metrics.items():
        console.say(f"{name:28} {'undefined' if value is None else f'{value:.4f}'}")
    console.say(f"best {outcome.best}")
    console.say(f"last {outcome.last}")


def recipes_command() -> None:
    """List the recipes of this repository."""
    from ..recipe import load_recipe, recipes

    rows = []
    for name in recipes():
        one = load_recipe(name)
        mixture = one.mixture
        mix = str(mixture.preset or mixture.ratio or mixture.sizes or mixture.fits)
        until = " or a plateau" if one.stop.patience else ""
        rate, batch = f"{one.optim.lr:g}, tower {one.optim.vision_lr:g}", str(one.optim.batch)
        rows.append((name, one.model.base, mix, rate, batch, f"{one.stop.epochs}{until}"))
    columns = ("name", "base", "mixture", "learning rate", ">batch", "epochs")
    console.out().print(console.table(columns, rows))


def states_command(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A recipe whose model.frozen has vision_tower.")],
    output: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where they go; then the recipe's data.states.")],
    changes: Set = None,
) -> None:
    """Compute the states of a recipe's frozen vision tower for its pictures, so that no run computes them again."""
    import torch

    from ..data.frozen import Frozen
    from ..model import load_parts
    from ..prepared import compute_states
    from ..recipe import load_recipe

    found = load_recipe(recipe, changes or ())
    roots: dict[str, str] = {str(name): root for name, root in found.data.images.items()}
    frozen = Frozen.load(found.data.folder, roots or None)
    parts = load_parts(found.model, found.chat.scoring)
    parts.model.to("cuda" if torch.cuda.is_available() else "cpu")
    states = compute_states(parts, frozen, output, found.data.workers, say=console.say)
    size = sum(path.stat().st_size for path in output.iterdir())
    count = len(set(states.places.values()))  # sets may share pictures
    console.say(f"wrote {output}: {count} pictures, {size / 1e9:.2f} GB, tower {states.tower}")
