"""`python -m train sweep`: plan, train and fit the runs of Algorithm 1, and say which are done. Thin shell."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qsit_metric import console
from qsit_metric.files import write_atomic

from ..errors import RecipeError
from ..mixture import Sizes
from ..sweep import FRACTIONS, RATIOS, Cost, Plan
from .run import Quiet, rank

if TYPE_CHECKING:
    from rich.table import Table

    from ..recipe import TrainingRecipe

RECIPE = "recipe.yaml"  # beside the plan; `sweep run` trains it
Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="The sweep's folder; machines may share it.")]


def plan_command(
    folder: Folder,
    step: Annotated[int, typer.Option("--step", min=1, max=2, help="1: D2 : D3. 2: |D2 + D3| : D1.")],
    recipe: Annotated[str, typer.Option("--recipe", help="Recipe of the small model; names the data.")] = "q-sit-mini",
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a field of the recipe.")
    ] = None,
    step1: Annotated[
        Path | None, typer.Option("--step1", metavar="FIT", help="Step 2: the folder or fit.json of step 1.")
    ] = None,
    r_star: Annotated[
        float | None, typer.Option("--r", metavar="R", help="Step 2: D2 : D3, instead of --step1.")
    ] = None,
    grid: Annotated[
        str | None,
        typer.Option(
            "--grid",
            metavar="A,B,...",
            help="Step 1: shares of the smaller side (default 0.1 to 1). Step 2: ratios (default 0.1 to 10).",
        ),
    ] = None,
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="Runs at each point.")] = 3,
    degree: Annotated[int, typer.Option("--degree", min=1, help="Degree of the polynomial.")] = 4,
    mean: Annotated[bool, typer.Option("--mean", help="Step 1: count scoring too, as step 2 does.")] = False,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Equal seeds give equal plans.")] = 0,
) -> None:
    """Plan the runs of one step; prints what they cost."""
    from ..recipe import load_recipe
    from ..sweep import cost, plan_step1, plan_step2

    made = load_recipe(recipe, overrides or ())
    counts, digest = _data(made, step)
    points = _numbers(grid)
    if step == 1:
        _refuse(step, {"--step1": step1, "--r": r_star})
        plan = plan_step1(
            counts,
            fractions=points or FRACTIONS,
            repeats=repeats,
            seed=seed,
            degree=degree,
            formula="mean" if mean else "accuracy",
            data_digest=digest,
            recipe_digest=made.digest,
        )
    else:
        _refuse(step, {"--mean": mean or None})
        plan = plan_step2(
            counts,
            _r_star(step1, r_star),
            ratios=points or RATIOS,
            repeats=repeats,
            seed=seed,
            degree=degree,
            data_digest=digest,
            recipe_digest=made.digest,
        )
    plan.save(folder)
    write_atomic(folder / RECIPE, json.dumps(made.as_dict(), indent=1) + "\n")  # JSON is YAML, too
    console.out().print(_points_table(plan))
    for line in (*plan.notes, *_said(cost(plan, batch=made.optim.batch))):
        console.out().print(line, markup=False)


def run_command(
    folder: Folder,
    runs: Annotated[list[int] | None, typer.Argument(metavar="RUN...", help="Numbers; default: all pending.")] = None,
    quiet: Quiet = False,
) -> None:
    """Train planned runs. Without numbers: each that has no result and that no other process has taken."""
    from ..data.frozen import Frozen
    from ..recipe import load_recipe
    from ..sweep import Plan, TakenError, pending, run_spec
    from ..sweep.runs import proxy

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


def fit_command(
    folder: Folder,
    degree: Annotated[int | None, typer.Option("--degree", min=1, help="Default: the plan's.")] = None,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Fit without runs that have no result; fit.json names them.")
    ] = False,
    bootstrap: Annotated[int, typer.Option("--bootstrap", min=1, help="Resamples behind the interval.")] = 1000,
    level: Annotated[float, typer.Option("--level", help="Nominal coverage of the interval.")] = 0.9,
) -> None:
    """Fit the curve to the finished runs; writes fit.json and fit.png."""
    from ..sweep import fit_folder

    fit = fit_folder(folder, degree, allow_missing=allow_missing, bootstrap=bootstrap, level=level)
    low, high = fit.interval
    rows = (
        ("best ratio", f"{fit.best_ratio:.3g}"),
        (f"{level:.0%} interval", f"{low:.3g} to {high:.3g}"),
        ("performance there", f"{fit.performance:.4f}"),
        ("best observed", f"{fit.best_observed.ratio:.3g} (mean {fit.best_observed.performance:.4f})"),
        ("runs around the curve", f"{fit.residual_std:.4f} (R² {fit.r_squared:.2f})"),
        ("runs", fit.runs),
        ("figure", folder / "fit.png"),
    )
    console.out().print(console.table(("", ""), rows, header=False))
    if fit.edge:
        console.say(fit.warning, "yellow")


def status_command(folder: Folder) -> None:
    """Show which runs are done."""
    from ..sweep import begun, pending

    plan = Plan.load(folder)
    left, started = set(pending(folder)), set(begun(folder))
    rows = []
    for run in plan.runs:
        state = "done" if run.index not in left else "begun" if run.index in started else "pending"
        rows.append((run.name, f"{run.ratio:.3g}", *(f"{size:,}" for size in run.sizes), state))
    console.out().print(console.table(("run", ">ratio", ">D1", ">D2", ">D3", "state"), rows))
    done = len(plan.runs) - len(left)
    console.out().print(f"{done} of {len(plan.runs)} runs done, {len(started)} begun", markup=False)


def _data(recipe: TrainingRecipe, step: int) -> tuple[Sizes, str]:
    """Rows at hand in the data that a recipe names, and their hash."""
    from ..data.frozen import Frozen

    frozen = Frozen.load(recipe.data.folder)
    if not frozen.val_questions or (step == 2 and not frozen.val_scoring):
        lacking = "scoring rows" if frozen.val_questions else "questions"
        raise RecipeError.about("data.folder", recipe.data.folder, f"data with {lacking} to measure runs with")
    counts = frozen.counts
    if sources := recipe.data.d1_sources:
        counts = dataclasses.replace(counts, d1=sum(row.source in sources for row in frozen.rows("d1")))
    return counts, frozen.digest


def _numbers(grid: str | None) -> list[float] | None:
    if grid is None:
        return None
    try:
        return [float(part) for part in grid.split(",")]
    except ValueError as error:
        raise RecipeError.about("--grid", grid, "numbers with commas between them") from error


def _r_star(step1: Path | None, ratio: float | None) -> float:
    from ..sweep import fitted_ratio

    if (step1 is None) == (ratio is None):
        raise RecipeError.about("--step1, --r", (step1, ratio), "one of them in step 2")
    return fitted_ratio(step1, 1) if step1 is not None else ratio or 0.0


def _refuse(step: int, options: dict[str, object]) -> None:
    for name, value in options.items():
        if value is not None:
            raise RecipeError.about(name, value, f"nothing in step {step}")


def _points_table(plan: Plan) -> Table:
    repeats = sum(run.point == 0 for run in plan.runs)
    rows = [
        (run.point, f"{run.ratio:.3g}", *(f"{size:,}" for size in run.sizes), repeats)
        for run in plan.runs
        if run.repeat == 0
    ]
    return console.table(("point", ">ratio", ">D1", ">D2", ">D3", ">runs"), rows)


def _hours(hours: float) -> str:
    return f"{hours:,.0f}" if hours >= 10 else f"{hours:.2g}"


def _said(found: Cost) -> list[str]:
    from ..sweep.plan import ASSUMPTION

    return [
        f"{found.runs} runs, {found.sample_passes:,} sample passes, {found.optimiser_steps:,} optimiser steps.",
        f"About {_hours(found.search_hours)} A800 hours with the small model and {_hours(found.primary_hours)} to "
        f"train the primary one, against {_hours(found.direct_hours)} for the same runs with the primary one.",
        f"({ASSUMPTION}.)",
    ]
