"""From a recipe to numbers: the sizes of the first epoch, and the loss ratio that the balance holds to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .balance import Capped, capped, coarse_sizes, preset_sizes, ratio_sizes
from .errors import RecipeError
from .mixture import SETS, Sizes
from .outcome import read_outcome
from .sweep import fitted_ratio

if TYPE_CHECKING:
    from .recipe import Mixture, TrainingRecipe


def first_sizes(mixture: Mixture, counts: Sizes) -> Capped:
    """Rows of each set in the first epoch, with notes on what the rows at hand do not allow.

    Args:
        mixture: What the recipe says.
        counts: Rows at hand.

    Raises:
        RecipeError: The mixture cannot be had from these rows.
        RunError: A fit cannot be read.
    """
    found = _wanted(mixture, counts)
    kept = {name: 0 if name in mixture.without else getattr(found.sizes, name) for name in SETS}
    return Capped(Sizes(**kept), found.notes)


def _wanted(mixture: Mixture, counts: Sizes) -> Capped:
    if mixture.sizes:
        return Capped(Sizes(*mixture.sizes))
    if mixture.fits:
        r, q = (fitted_ratio(Path(path), step) for step, path in enumerate(mixture.fits, start=1))
        return capped(coarse_sizes(counts, r, q), counts)
    if mixture.ratio:
        return capped(ratio_sizes(counts, mixture.ratio), counts)
    return preset_sizes(mixture.preset or "paper", counts)


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
