"""`train sweep run`: train the planned runs of a sweep, one after the other; machines may share the folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from qsit_metric import console

from .run import Quiet, rank
from .sweep import RECIPE


def sweep_run_command(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The sweep's folder (`sweep plan`).")],
    runs: Annotated[list[int] | None, typer.Argument(metavar="RUN...", help="Numbers; default: all pending.")] = None,
    quiet: Quiet = False,
) -> None:
    """Train planned runs. Without numbers: each that has no result and that no other process has taken."""
    from ..data.freezing import Frozen
    from ..proxy import proxy
    from ..recipe import load_recipe
    from ..sweep import Plan, TakenError, pending, run_spec

    made = load_recipe(folder / RECIPE)
    Plan.load(folder).check(Frozen.load(made.data.folder).digest, made.digest)
    world = int(os.environ.get("WORLD_SIZE", "1"))
    for index in runs or pending(folder):
        try:
            result = run_spec(folder, index, proxy(made, quiet=quiet), rank=rank())
        except TakenError as error:
            if runs or world > 1:  # the other processes of this training would wait for the one that skips
                raise
            console.say(f"run {index}: {error}", "yellow")
            continue
        if rank():
            continue
        shown = "  ".join(f"{name} {value:.4g}" for name, value in result["metrics"].items() if value is not None)
        console.say(f"run {index}: {shown}")
