"""`python -m train states`: what a frozen tower says of all training pictures, computed once. Thin shell."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from qsit_metric import console


def states_command(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A recipe whose model.frozen has vision_tower.")],
    output: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where they go; then the recipe's data.states.")],
    override: Annotated[
        list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Change the recipe.")
    ] = None,
) -> None:
    """Compute the states of a recipe's frozen vision tower for its pictures, so that no run computes them again."""
    import torch

    from ..data.freezing import Frozen
    from ..model import load_parts
    from ..quiet import silence
    from ..recipe import load_recipe
    from ..states import compute_states

    silence()
    found = load_recipe(recipe, override or ())
    roots: dict[str, str] = {str(name): root for name, root in found.data.images.items()}
    frozen = Frozen.load(found.data.folder, roots or None)
    parts = load_parts(found.model, found.chat.scoring)
    parts.model.to("cuda" if torch.cuda.is_available() else "cpu")
    states = compute_states(parts, frozen, output, found.data.workers, say=console.say)
    size = sum(path.stat().st_size for path in output.iterdir())
    count = len(set(states.places.values()))  # sets may share pictures
    console.say(f"wrote {output}: {count} pictures, {size / 1e9:.2f} GB, tower {states.tower}")
