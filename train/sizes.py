"""From a recipe to numbers: the sizes of the first epoch, and the loss ratio that the balance holds to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from .balance import capped, coarse_sizes, preset_sizes, ratio_sizes
from .errors import RecipeError
from .mixture import Sizes
from .outcome import read_outcome

if TYPE_CHECKING:
    from .recipe import Mixture, TrainingRecipe


def first_sizes(mixture: Mixture, counts: Sizes) -> Sizes:
    """Rows of each set in the first epoch.

    Args:
        mixture: What the recipe says.
        counts: Rows at hand.

    Raises:
        RecipeError: The mixture cannot be had from these rows.
    """
    if mixture.sizes:
        wanted = Sizes(*mixture.sizes)
    elif mixture.fits:
        r, q = (_fitted(Path(path)) for path in mixture.fits)
        wanted = capped(coarse_sizes(counts, r, q), counts).sizes
    elif mixture.ratio:
        wanted = capped(ratio_sizes(counts, mixture.ratio), counts).sizes
    else:
        wanted = preset_sizes(mixture.preset or "paper", counts).sizes
    return Sizes(**{name: 0 if name in mixture.without else getattr(wanted, name) for name in ("d1", "d2", "d3")})


def reference_ratio(recipe: TrainingRecipe) -> float | None:
    """The small model's loss ratio (Eq. 8), as a number or read from the run that measured it.

    Raises:
        RecipeError: That run had another mask, loss norm or target, under which its ratio means something else.
        RunError: It has not finished.
    """
    if recipe.balance is None:
        return None
    if not isinstance(recipe.balance.reference, str):
        return recipe.balance.reference
    from .folder import RunFolder
    from .recipe import build

    run = Path(recipe.balance.reference)
    outcome = read_outcome(run)
    theirs = build(RunFolder(run).read("recipe.yaml") or {}, str(run / "recipe.yaml"))
    for name, own, other in (
        ("chat.mask", recipe.chat.mask, theirs.chat.mask),
        ("optim.loss_norm", recipe.optim.loss_norm, theirs.optim.loss_norm),
        ("validation.target", recipe.validation.target, theirs.validation.target),
    ):
        if own != other:
            raise RecipeError.about(name, own, f"{other!r}, as in {run}", "A loss ratio holds for one of them only.")
    ratio = outcome.metrics.get("ratio")
    if ratio is None:
        raise RecipeError.about("balance.reference", str(run), "a run that was validated")
    return ratio


def _fitted(path: Path) -> float:
    """The optimum that a sweep's fit found."""
    try:
        return float(json.loads(path.read_text(encoding="utf-8"))["best_ratio"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        hint = "Make it with `python -m train sweep fit`."
        raise RecipeError.about("mixture.fits", str(path), "the fit.json of a sweep", hint) from error
