"""`python -m train run`, `recipes`, `states`, `memory` and `export`: one training, before and after. Thin shell."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from qsit_metric import console

from ..errors import RecipeError
from ..recipe import TrainingRecipe, load_recipe, recipes

if TYPE_CHECKING:
    from rich.table import Table

    from ..memory import Term

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

    outcome = train(load_recipe(recipe, changes or ()), output, max_steps=max_steps, quiet=quiet)
    if rank():
        return
    for name, value in outcome.metrics.items():
        console.say(f"{name:28} {'undefined' if value is None else f'{value:.4f}'}")
    console.say(f"best {outcome.best}")
    console.say(f"last {outcome.last}")


def recipes_command() -> None:
    """List the recipes of this repository."""
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

    found = load_recipe(recipe, changes or ())
    roots: dict[str, str] = {str(name): root for name, root in found.data.images.items()}
    frozen = Frozen.load(found.data.folder, roots or None)
    parts = load_parts(found.model, found.chat.scoring)
    parts.model.to("cuda" if torch.cuda.is_available() else "cpu")
    states = compute_states(parts, frozen, output, found.data.workers, say=console.say)
    size = sum(path.stat().st_size for path in output.iterdir())
    count = len(set(states.places.values()))  # sets may share pictures
    console.say(f"wrote {output}: {count} pictures, {size / 1e9:.2f} GB, tower {states.tower}")


def export_command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder, or one of its checkpoints.")],
    output: Annotated[Path, typer.Argument(metavar="OUTPUT", help="The folder to write.")],
    which: Annotated[
        Literal["best", "last"] | None,
        typer.Option("--which", help="Which of the run's models; default: best if it stops at a plateau, else last."),
    ] = None,
    dtype: Annotated[
        Literal["float16", "bfloat16", "float32"], typer.Option("--dtype", help="Type of the weights.")
    ] = "bfloat16",
    push: Annotated[str | None, typer.Option("--push", metavar="OWNER/REPO", help="Upload it to the Hub.")] = None,
    private: Annotated[bool, typer.Option("--private", help="A new repository is private.")] = False,
    token: Annotated[str | None, typer.Option("--token", help="Hub token (default: HF_TOKEN, saved login).")] = None,
    licence: Annotated[
        str | None, typer.Option("--license", metavar="ID", help="Licence of the weights; needed for --push.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an exported folder that is there.")] = False,
) -> None:
    """Write a run's model as a transformers folder with a model card, try it, and perhaps push it to the Hub."""
    from ..export import check_target, export
    from ..export import push as upload

    if push is not None:
        check_target(push, token, licence)
    done = export(run, output, which=which, dtype=dtype, licence=licence, force=force)
    console.say(f"wrote {done.folder} ({done.size / 1e6:.1f} MB, {done.fingerprint}) from {done.source}")
    console.say(f"tried with QSiT: the test picture scores {done.score:.3f}")
    if push is not None:
        console.say(f"pushed {upload(done.folder, push, private=private, token=token)}")


def memory_command(
    recipe: Annotated[
        str, typer.Argument(help="A recipe: its model, rows at once, adapters and freezing.")
    ] = "q-sit-mini",
    size: Annotated[str, typer.Option("--size", metavar="WxH", help="Picture in pixels.")] = "1024x768",
    gpus: Annotated[int, typer.Option("--gpus", min=1, metavar="N", help="GPUs that share the weights.")] = 1,
    real: Annotated[
        bool, typer.Option("--measure/--no-measure", help="Also make two real steps, and compare.")
    ] = False,
    shape: Annotated[
        Literal["small", "0.5b", "7b"], typer.Option("--shape", help="Random model whose steps are measured.")
    ] = "small",
    device: Annotated[str, typer.Option("--device", metavar="NAME", help="Where: cpu or cuda.")] = "cpu",
) -> None:
    """Peak memory of a training step, term by term, for each GPU. A CUDA context takes 1 to 2 GB more."""
    from ..memory import compute, setting_of, shape_of, trainable

    found = load_recipe(recipe)
    width, height = _size(size)
    model, setting = shape_of(found.model.base), setting_of(found, width, height, gpus)
    terms = compute(model, setting)
    console.out().print(
        f"{found.name}: {model.weights / 1e6:,.1f} M weights, {trainable(model, setting) / 1e6:,.1f} M of them learn; "
        f"{setting.tokens} tokens, {setting.tiles} tiles, {setting.rows} rows at once, {gpus} GPUs share the weights",
        highlight=False,
    )
    console.out().print(_table(terms))
    if real:
        _compare(shape, width, height, device)


def _compare(shape: str, width: int, height: int, device: str) -> None:
    """Hold the formula against a real step of a random model."""
    from ..memory import MIB, compute, config_of, count, measure, peak, setting_of

    measured = measure(shape, width, height, device)
    computed, phase = peak(compute(count(config_of(shape)), setting_of(TrainingRecipe(shape), width, height)))
    console.out().print(
        f"measured: shape {shape}, {measured.tokens} tokens, {measured.tiles} tiles, on {measured.device}: "
        f"{measured.peak / MIB:,.0f} MiB; computed {computed / MIB:,.0f} MiB ({phase}), "
        f"computed / measured = {computed / measured.peak:.2f}",
        highlight=False,
    )


def _table(terms: list[Term]) -> Table:
    from ..memory import MIB, PHASES, peak

    largest, phase = peak(terms)
    rows = []
    for term in terms:
        marks = ["x" if one in term.phases else "" for one in PHASES]
        rows.append((term.name, f"{term.size / MIB:,.1f}", *marks, term.formula))
    table = console.table(("term", ">MiB", *PHASES, "formula (bytes)"), rows)
    sums = [f"{sum(term.size for term in terms if one in term.phases) / MIB:,.0f}" for one in PHASES]
    table.add_row(f"peak ({phase})", f"{largest / MIB:,.0f}", *sums, f"{largest / 2**30:.1f} GiB", style="bold")
    return table


def _size(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"([1-9]\d{0,5})x([1-9]\d{0,5})", text)
    if found is None:
        raise RecipeError.about("--size", text, "WIDTHxHEIGHT in pixels, for example 1024x768")
    return int(found[1]), int(found[2])
