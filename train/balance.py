"""Rows of D1, D2 and D3 in an epoch: the coarse ratio of Algorithm 1 and its fine-grained step.

Symbols: N1, N2, N3 are the rows at hand; r = D2 : D3 (Eq. 6); q = |D2* + D3*| : D1 (Eq. 7).

Paper: Q-SiT, arXiv 2503.09197, Sec. III-C, Algorithm 1 and Eqs. 6-10. How much the fine-grained step adds is not in the
paper: `Rule` is ours. The preset `authors_yaml` is `single_image.yaml` of github.com/Q-Future/Q-SiT at 4e4d1df.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from qsit_metric.files import Files

from .errors import RecipeError, RunError
from .mixture import SETS, Sizes

if TYPE_CHECKING:
    from .recipe import Mixture, TrainingRecipe

PAPER_R = 2.42  # D2 : D3, Sec. IV-B
PAPER_Q = 3.54  # |D2* + D3*| : D1, Sec. IV-B

Action = Literal["keep", "more D2+D3", "more D1"]


@dataclass(frozen=True)
class Capped:
    """Sizes cut down to the rows at hand, with notes.

    Attributes:
        sizes: The sizes.
        notes: What was lowered and why, and which set is repeated; empty if nothing was.
    """

    sizes: Sizes
    notes: tuple[str, ...] = ()


def coarse_sizes(counts: Sizes, r: float, q: float) -> Sizes:
    """Sizes of the coarse-grained ratio: all of D1, D2* + D3* = q * N1, and D2* : D3* = r.

    They are what the ratios ask for; `capped` says what of it the rows at hand allow.

    Args:
        counts: Rows at hand; only N1 decides.
        r: D2 : D3, above 0; larger is more D2.
        q: |D2* + D3*| : D1, above 0; larger is less D1.

    Returns:
        (N1, q * N1 * r / (1 + r), q * N1 / (1 + r)), rounded.

    Raises:
        RecipeError: A ratio is not above 0, or there is no D1.

    Example:
        >>> coarse_sizes(Sizes(15943, 150_000, 157_700), r=2.42, q=3.54)
        Sizes(d1=15943, d2=39936, d3=16502)

    Reference:
        Algorithm 1, Eqs. 6 and 7.
    """
    _positive("r", r)
    _positive("q", q)
    _some_d1(counts)
    both = q * counts.d1
    return Sizes(counts.d1, _rounded(both * r / (1 + r)), _rounded(both / (1 + r)))


def ratio_sizes(counts: Sizes, ratio: tuple[float, float, float]) -> Sizes:
    """Sizes of a ratio D1 : D2 : D3 with all of D1; `capped` says what of it the rows at hand allow.

    Args:
        counts: Rows at hand; only N1 decides.
        ratio: Three numbers of 0 or more, the first above 0.

    Raises:
        RecipeError: The ratio is none, or there is no D1.

    Example:
        >>> ratio_sizes(Sizes(100, 1000, 1000), (1, 2.5, 1.04))
        Sizes(d1=100, d2=250, d3=104)
    """
    if len(ratio) != 3 or not all(math.isfinite(part) and part >= 0 for part in ratio) or not ratio[0] > 0:
        hint = "Leave a set out by a size of 0."
        raise RecipeError.about("ratio", ratio, "three numbers of 0 or more, the first (D1) above 0", hint)
    _some_d1(counts)
    return Sizes(counts.d1, *(_rounded(counts.d1 * part / ratio[0]) for part in ratio[1:]))


def capped(sizes: Sizes, counts: Sizes) -> Capped:
    """Lower sizes to what the rows at hand allow.

    D2 and D3 are lowered together, so that r stays; no row of them is seen twice in an epoch. D1 beyond N1 stays as it
    is: it is drawn as whole copies and a remainder. A set without any rows lowers nothing: the epoch refuses it.

    Args:
        sizes: The sizes that are asked for.
        counts: Rows at hand.

    Returns:
        The sizes, with a note for each that differs from what was asked, and one if D1 is repeated.

    Example:
        >>> capped(Sizes(10, 60, 40), Sizes(10, 30, 100)).sizes
        Sizes(d1=10, d2=30, d3=20)
    """
    total = min(sizes.d2 + sizes.d3, _most(sizes, counts))
    found = _shared(sizes.d1, total, sizes)
    notes = []
    if found != sizes:
        notes.append(
            f"D2 {sizes.d2:,} -> {found.d2:,} and D3 {sizes.d3:,} -> {found.d3:,}: there are {counts.d2:,} rows of D2 "
            f"and {counts.d3:,} of D3; D2 : D3 stays"
        )
    if sizes.d1 > counts.d1:
        notes.append(f"D1 {sizes.d1:,}: its {counts.d1:,} rows are repeated")
    return Capped(found, tuple(notes))


def _paper(counts: Sizes) -> Sizes:
    # Not the printed 1 : 2.50 : 1.04: it is the product of these two, rounded once more.
    return coarse_sizes(counts, PAPER_R, PAPER_Q)


def _authors_yaml(counts: Sizes) -> Sizes:
    # Whole numbers: ceil(22 % of n) without the error of 0.22.
    return Sizes(counts.d1, -(-22 * counts.d2 // 100), -(-8 * counts.d3 // 100))


def _all(counts: Sizes) -> Sizes:
    return counts


# paper: r = 2.42 and q = 3.54, printed as 1 : 2.50 : 1.04. authors_yaml: all of D1, 22 % of D2 and 8 % of D3, rounded
# up: another ratio. all: everything, the row of the paper without the coarse ratio.
PRESETS: Mapping[str, Callable[[Sizes], Sizes]] = {"paper": _paper, "authors_yaml": _authors_yaml, "all": _all}


def first_sizes(mixture: Mixture, counts: Sizes) -> Capped:
    """Rows of each set in the first epoch, with notes on what the rows at hand do not allow.

    Args:
        mixture: What the recipe says.
        counts: Rows at hand.

    Raises:
        RecipeError: The mixture cannot be had from these rows.
        RunError: A fit cannot be read.

    Example:
        >>> from train.recipe import Mixture
        >>> first_sizes(Mixture(preset="authors_yaml"), Sizes(15943, 150_000, 157_700)).sizes
        Sizes(d1=15943, d2=33000, d3=12616)
    """
    wanted = _wanted(mixture, counts)
    kept = Sizes(**{name: 0 if name in mixture.without else getattr(wanted, name) for name in SETS})
    return Capped(kept) if mixture.sizes else capped(kept, counts)


def fitted_ratio(path: Path, step: int) -> float:
    """The ratio that a sweep found.

    Args:
        path: `fit.json`, or the folder that holds it.
        step: 1 for D2 : D3, 2 for |D2* + D3*| : D1.

    Raises:
        RunError: No such file, or it is a fit of the other step.
    """
    file = path / "fit.json" if path.is_dir() else path
    fields = Files(RunError, "fit").json(file)
    ratio = fields.get("best_ratio")
    if fields.get("step") != step or not isinstance(ratio, float):
        raise RunError.about("fit", str(file), f"the fit of step {step}, but it is of step {fields.get('step')}")
    return ratio


def _wanted(mixture: Mixture, counts: Sizes) -> Sizes:
    if mixture.sizes:
        return Sizes(*mixture.sizes)
    if mixture.fits:
        r, q = (fitted_ratio(Path(path), step) for step, path in enumerate(mixture.fits, start=1))
        return coarse_sizes(counts, r, q)
    if mixture.ratio:
        return ratio_sizes(counts, mixture.ratio)
    return PRESETS[mixture.preset or "paper"](counts)


@dataclass(frozen=True)
class Rule:
    """Strength and limits of the fine-grained step's answer to a deviation d = ln(ratio / reference).

    Attributes:
        tolerance: |d| up to which nothing changes; the paper's "significantly".
        kappa: Growth per unit of |d|.
        max_growth: Largest growth of one step.
        max_total: Largest growth of D1, or of D2 + D3, over its start.
    """

    tolerance: float = 0.05
    kappa: float = 0.5
    max_growth: float = 1.25
    max_total: float = 2.0

    def __post_init__(self) -> None:
        for name, least in (("tolerance", 0.0), ("kappa", 0.0), ("max_growth", 1.0), ("max_total", 1.0)):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= least):
                raise RecipeError.about(f"balance.{name}", value, f"a number of {least:g} or more")


@dataclass(frozen=True)
class Adjustment:
    """Decision of the fine-grained step: the next sizes and why, for the log and the checkpoint.

    Attributes:
        sizes: Sizes of the next epoch.
        ratio: L'_S / L'_I as measured.
        deviation: ln(ratio / reference); below 0 interpreting lags behind, above 0 scoring does.
        growth: Factor that the rule asks for, 1 or more; 1 if nothing changes.
        action: What grows.
        capped: The side grew less than asked, because of `max_total` or of the rows at hand.
    """

    sizes: Sizes
    ratio: float
    deviation: float
    growth: float
    action: Action
    capped: bool

    def as_dict(self) -> dict[str, Any]:
        """Plain fields for logs."""
        return dataclasses.asdict(self)


def adjust(
    sizes: Sizes,
    start: Sizes,
    counts: Sizes,
    loss_scoring: float,
    loss_interpreting: float,
    reference: float,
    rule: Rule | None = None,
) -> Adjustment:
    """Choose the sizes of the next epoch from the two validation losses.

    A ratio of losses below the reference asks for more D2 + D3, one above it for more D1. Nothing ever shrinks, D2 : D3
    stays as it was at the start, and D2 and D3 stay within the rows at hand.

    Args:
        sizes: Sizes of the epoch that has ended.
        start: Sizes of the first epoch.
        counts: Rows at hand.
        loss_scoring: L'_S, above 0.
        loss_interpreting: L'_I, above 0, with the same mask and target as in the reference.
        reference: The small model's L_S / L_I (Eq. 8), above 0.
        rule: How strongly to answer; default `Rule()`.

    Returns:
        The sizes of the next epoch and why.

    Raises:
        RunError: A loss is not a finite number above 0.
        RecipeError: The reference is not one.

    Example:
        >>> start = Sizes(100, 250, 104)
        >>> found = adjust(start, start, Sizes(100, 9999, 9999), 0.1, 1.0, reference=0.2)
        >>> found.action, found.sizes, found.growth
        ('more D2+D3', Sizes(d1=100, d2=313, d3=130), 1.25)

    Reference:
        Eqs. 9 and 10.
    """
    rule = rule or Rule()
    _positive("balance.reference", reference)
    for name, loss in (("scoring", loss_scoring), ("interpreting", loss_interpreting)):
        if not (math.isfinite(loss) and loss > 0):
            raise RunError.about(f"validation loss ({name})", loss, "a finite number above 0", "The run has diverged.")
    ratio = loss_scoring / loss_interpreting
    deviation = math.log(loss_scoring) - math.log(loss_interpreting) - math.log(reference)
    if abs(deviation) <= rule.tolerance:
        return Adjustment(sizes, ratio, deviation, 1.0, "keep", capped=False)
    growth = min(1 + rule.kappa * abs(deviation), rule.max_growth)
    if deviation > 0:
        d1, less = _grown(sizes.d1, growth, math.floor(rule.max_total * start.d1))
        return Adjustment(dataclasses.replace(sizes, d1=d1), ratio, deviation, growth, "more D1", less)
    both, begun = sizes.d2 + sizes.d3, start.d2 + start.d3
    total, less = _grown(both, growth, min(math.floor(rule.max_total * begun), _most(start, counts)))
    grown = _shared(sizes.d1, total, start) if total > both else sizes
    return Adjustment(grown, ratio, deviation, growth, "more D2+D3", less)


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
    from .folder import RunFolder, read_outcome
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


def _grown(size: int, growth: float, most: int) -> tuple[int, bool]:
    """A size after growth, by one row at least, and whether it is less than asked for."""
    asked = max(size + 1, _rounded(size * growth)) if growth > 1 else size
    return max(size, min(asked, most)), asked > most


def _most(shape: Sizes, counts: Sizes) -> int:
    """Rows of D2 + D3 in the shape's D2 : D3 that need no row twice; in whole numbers, so that it is exact."""
    both = shape.d2 + shape.d3
    pairs = ((shape.d2, counts.d2), (shape.d3, counts.d3))
    return min((count * both // part for part, count in pairs if part and count), default=both)


def _shared(d1: int, total: int, shape: Sizes) -> Sizes:
    """Share a number of rows between D2 and D3 as a shape does."""
    both = shape.d2 + shape.d3
    d2 = (2 * total * shape.d2 + both) // (2 * both) if both else 0
    return Sizes(d1, d2, total - d2)


def _rounded(value: float) -> int:
    return math.floor(value + 0.5)


def _positive(name: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise RecipeError.about(name, value, "a finite number above 0")


def _some_d1(counts: Sizes) -> None:
    if not counts.d1:
        raise RecipeError.about("counts.d1", 0, "rows of D1, which the sizes of D2 and D3 follow")
