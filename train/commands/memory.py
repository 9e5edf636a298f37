"""`python -m train memory`: what a training step needs, computed, and on request measured. Thin shell."""

from __future__ import annotations

import re
from typing import Annotated, Literal

import typer
from rich.table import Table

from qsit_metric import console

from ..errors import RecipeError
from ..memory import MIB, PHASES, Term, compute, config_of, count, measure, peak, setting_of, shape_of, trainable
from ..recipe import TrainingRecipe, load_recipe


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
    measured = measure(shape, width, height, device)
    computed, phase = peak(compute(count(config_of(shape)), setting_of(TrainingRecipe(shape), width, height)))
    console.out().print(
        f"measured: shape {shape}, {measured.tokens} tokens, {measured.tiles} tiles, on {measured.device}: "
        f"{measured.peak / MIB:,.0f} MiB; computed {computed / MIB:,.0f} MiB ({phase}), "
        f"computed / measured = {computed / measured.peak:.2f}",
        highlight=False,
    )


def _table(terms: list[Term]) -> Table:
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
