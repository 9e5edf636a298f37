"""From a recipe to numbers: the sizes of the first epoch, and the loss ratio that the balance holds to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from qsit_metric.errors import shorten
from qsit_metric.prompts import Recipe

from .balance import PRESETS, Capped, capped, coarse_sizes, ratio_sizes
from .errors import RecipeError
from .mixture import SETS, Sizes
from .outcome import read_outcome
from .sweep import fitted_ratio

if TYPE_CHECKING:
    from .data.frozen import Frozen
    from .data.rows import Row
    from .recipe import Mixture, TrainingRecipe


def check_validation(recipe: TrainingRecipe, frozen: Frozen) -> None:
    """Refuse a balance that nothing could measure, before an epoch is spent on it.

    Raises:
        RecipeError: The data has no scoring rows or no questions to validate on.
    """
    if recipe.balance and not (frozen.val_scoring and frozen.val_questions):
        lacking = "questions" if frozen.val_scoring else "scoring rows"
        hint = "Freeze the data with them, or leave the balance out: --set balance=null."
        raise RecipeError.about("balance", f"<data without {lacking}>", "both to validate on", hint)


def check_scoring(rows: Sequence[Row], scoring: Recipe) -> None:
    """Refuse scoring rows that are not written in the words that the checkpoint will be asked with.

    Raises:
        RecipeError: Names the first of them.
    """
    for row in rows:
        (question, answer), *more = row.turns
        words = [word for word in scoring.words if answer == f"{scoring.answer_prefix}{word}."]
        if more or question != scoring.question or not words:
            shown = f"<row {row.id!r}: {shorten(question)} {shorten(answer)}>"
            hint = "Freeze the data with that recipe, or choose the one that it was written in."
            raise RecipeError.about("chat.scoring", shown, f"the words of the recipe {scoring.name!r}", hint)


def first_sizes(mixture: Mixture, counts: Sizes) -> Capped:
    """Rows of each set in the first epoch, with notes on what the rows at hand do not allow.

    Args:
        mixture: What the recipe says.
        counts: Rows at hand.

    Raises:
        RecipeError: The mixture cannot be had from these rows.
        RunError: A fit cannot be read.
    """
    wanted = _wanted(mixture, counts)
    kept = Sizes(**{name: 0 if name in mixture.without else getattr(wanted, name) for name in SETS})
    return Capped(kept) if mixture.sizes else capped(kept, counts)


def _wanted(mixture: Mixture, counts: Sizes) -> Sizes:
    if mixture.sizes:
        return Sizes(*mixture.sizes)
    if mixture.fits:
        r, q = (fitted_ratio(Path(path), step) for step, path in enumerate(mixture.fits, start=1))
        return coarse_sizes(counts, r, q)
    if mixture.ratio:
        return ratio_sizes(counts, mixture.ratio)
    return PRESETS[mixture.preset or "paper"](counts)


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
