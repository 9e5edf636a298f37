"""Plans of the small runs that Algorithm 1 asks for: 19 points each in step 1 (D2 : D3) and step 2 (|D2* + D3*| : D1).

Their cost is scaled from the hours that the paper states.

Paper: Q-SiT, arXiv 2503.09197, Sec. III-C3, IV-B, IV-H and Algorithm 1. Under-specified there: the grid of step 1 (its
text names 1 % and 10 % steps; 10 % fits the published hours) and the direction of "1 : 0.1" (read as all of D2 first).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np

from qsit_metric.files import Files
from qsit_metric.journal import check_same, digest, plain

from ..balance import PAPER_R, capped, coarse_sizes
from ..errors import RecipeError, RunError
from ..mixture import Sizes

FRACTIONS = tuple(tenth / 10 for tenth in range(1, 11))  # of D3 beside all of D2, then of D2 beside all of D3
_ENDLESS = 1000.0  # a ratio that no data reaches
_LOWEST = 1 / 8  # of spread ratios, as a share of the highest
RATIOS = (*(tenth / 10 for tenth in range(1, 10)), *(float(whole) for whole in range(1, 11)))  # Sec. IV-B

Formula = Literal["accuracy", "mean"]
PLAN_FILE = "plan.json"
# Sec. IV-H: about 720 A800 hours for the search with the 0.5B model, 72 for training the 7B model, 2,800 (the authors'
# estimate) for a search with the 7B model.
SEARCH_HOURS = 720.0
PRIMARY_HOURS = 72.0
DIRECT_HOURS = 2800.0
_COUNTS = Sizes(16_000, 150_000, 150_000)  # as Sec. IV-B rounds them

ASSUMPTION = (
    "A800 hours in proportion to sample passes: 720 (small model) and 2,800 (primary model) for both published steps, "
    "read as 19 points each, 3 repeats, 1 epoch, 16K : 150K : 150K rows; "
    "72 for 3 epochs of the primary model at 1 : 2.50 : 1.04 with 16K rows of D1"
)
FILES = Files(RunError, "sweep folder", parents=True)
_FORMAT = 1


@dataclass(frozen=True)
class RunSpec:
    """A small run of a plan.

    Attributes:
        index: Its number in the plan, from 0.
        step: 1 (D2 : D3) or 2 (|D2 + D3| : D1).
        point: Number of its ratio, from 0.
        repeat: Number of its repeat, from 0.
        seed: For sampling and for training; no two runs share one.
        sizes: Rows of its one epoch.
        ratio: The ratio that these sizes really have.
    """

    index: int
    step: int
    point: int
    repeat: int
    seed: int
    sizes: Sizes
    ratio: float

    @property
    def name(self) -> str:
        """How messages and folders call it."""
        return f"{self.index:03d}"


@dataclass(frozen=True)
class Plan:
    """All runs of one step, and what they depend on.

    Attributes:
        step: 1 or 2.
        runs: The runs, by index.
        counts: Rows at hand, after cleaning.
        seed: Seed of all seeds.
        degree: Degree of the polynomial that will be fitted.
        formula: What counts as performance: "accuracy" of LLVisionQA-dev, or its "mean" with the IQA sets.
        r_star: D2 : D3 of step 2; None in step 1.
        data_digest: Hash of the frozen data.
        recipe_digest: Hash of the recipe that all runs share.
        notes: What the rows at hand did not allow.
    """

    step: int
    runs: tuple[RunSpec, ...]
    counts: Sizes
    seed: int
    degree: int
    formula: Formula
    r_star: float | None = None
    data_digest: str = ""
    recipe_digest: str = ""
    notes: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """SHA-256 of the plan; equal plans have equal digests."""
        return digest(self.as_dict())

    def as_dict(self) -> dict[str, Any]:
        """Plain fields, as they stand in `plan.json`."""
        return {"format": _FORMAT, **plain(dataclasses.asdict(self))}

    def save(self, folder: Path) -> None:
        """Write `plan.json`; a folder that has this plan already stays as it is.

        Raises:
            RunError: The folder has another plan, or cannot be written.
        """
        path = folder / PLAN_FILE
        if path.exists():
            hint = "Its runs would not fit this one. Choose another folder."
            check_same(folder, Plan.load(folder).identity, self.identity, FILES, what="a plan", hint=hint)
        FILES.write_json(path, self.as_dict())

    @property
    def identity(self) -> dict[str, Any]:
        """What tells it from other plans, for a person to read: its fields, with one number for all runs."""
        fields = self.as_dict()
        return {**fields, "runs": digest(fields["runs"])}

    @classmethod
    def load(cls, folder: Path) -> Plan:
        """Read the plan of a folder.

        Raises:
            RunError: There is none, or it is malformed.
        """
        path = folder / PLAN_FILE
        if not path.is_file():
            raise RunError.about("sweep folder", str(folder), f"a folder with {PLAN_FILE}", "Make a plan first.")
        fields: dict[str, Any] = dataclasses.replace(FILES, argument="plan").json(path)
        try:
            if fields.pop("format") != _FORMAT:
                raise ValueError("another format")
            runs = tuple(RunSpec(**{**run, "sizes": Sizes(**run["sizes"])}) for run in fields.pop("runs"))
            counts, notes = Sizes(**fields.pop("counts")), tuple(fields.pop("notes"))
            return cls(runs=runs, counts=counts, notes=notes, **fields)
        except (KeyError, TypeError, ValueError) as error:
            raise RunError.about("plan", str(path), "a plan that this program wrote", f"{error}.") from error

    def check(self, data_digest: str, recipe_digest: str) -> None:
        """Make sure that a run would use the data and the recipe that were planned.

        Raises:
            RunError: One of them has changed since.
        """
        found = {"data": data_digest, "recipe": recipe_digest}
        planned = {"data": self.data_digest, "recipe": self.recipe_digest}
        hint = "Runs with different data or recipes are no curve: restore them, or plan a new sweep."
        check_same(Path(PLAN_FILE), planned, found, FILES, what="a plan of runs", hint=hint)


def plan_step1(
    counts: Sizes,
    *,
    fractions: Sequence[float] = FRACTIONS,
    repeats: int = 3,
    seed: int = 0,
    degree: int = 4,
    formula: Formula = "accuracy",
    data_digest: str = "",
    recipe_digest: str = "",
) -> Plan:
    """Plan the runs for D2 : D3: all of D2 with more and more of D3, then all of D3 with less and less of D2.

    Args:
        counts: Rows at hand, after cleaning.
        fractions: Shares of the smaller side, above 0 and at most 1; 1 gives one point, each other one two.
        repeats: Runs at each point, 1 or more; they differ in their rows and in training.
        seed: Seed of all seeds.
        degree: Degree of the polynomial that will be fitted.
        formula: What counts as performance.
        data_digest: Hash of the frozen data.
        recipe_digest: Hash of the recipe.

    Returns:
        The plan, D2 : D3 falling.

    Raises:
        RecipeError: A fraction out of range, too few rows, or too few points for the degree.

    Example:
        >>> plan = plan_step1(Sizes(16_000, 150_000, 150_000))
        >>> len(plan.runs), plan.runs[0].sizes, plan.runs[0].ratio
        (57, Sizes(d1=0, d2=150000, d3=15000), 10.0)

    Reference:
        Sec. III-C3 and IV-B, Algorithm 1, step 1.
    """
    if not fractions or not all(0 < share <= 1 for share in fractions):
        raise RecipeError.about("fractions", tuple(fractions), "shares above 0 and at most 1")
    rising = sorted(set(fractions))
    sizes = [Sizes(0, counts.d2, round(share * counts.d3)) for share in rising]
    sizes += [Sizes(0, round(share * counts.d2), counts.d3) for share in reversed(rising) if share < 1]
    if not all(point.d2 and point.d3 for point in sizes):
        raise RecipeError.about("counts", dataclasses.astuple(counts), "rows of D2 and D3 for each fraction")
    points = [(point, point.d2 / point.d3) for point in sizes]
    runs = _runs(1, points, repeats, seed)
    plan = Plan(1, runs, counts, seed, degree, formula, None, data_digest, recipe_digest)
    return _checked(plan)


def plan_step2(
    counts: Sizes,
    r_star: float,
    *,
    ratios: Sequence[float] = RATIOS,
    repeats: int = 3,
    seed: int = 0,
    degree: int = 4,
    data_digest: str = "",
    recipe_digest: str = "",
) -> Plan:
    """Plan the runs for |D2* + D3*| : D1: all of D1, and more and more of D2 and D3 at the ratio of step 1.

    Args:
        counts: Rows at hand, after cleaning.
        r_star: D2 : D3 that step 1 found.
        ratios: |D2* + D3*| : D1, above 0. One that asks for more rows than there are is lowered to what there are.
        repeats: Runs at each point, 1 or more.
        seed: Seed of all seeds.
        degree: Degree of the polynomial that will be fitted.
        data_digest: Hash of the frozen data.
        recipe_digest: Hash of the recipe.

    Returns:
        The plan, ratios rising; its notes say which were lowered.

    Raises:
        RecipeError: A ratio not above 0, several ratios that rows at hand make the same, or too few for the degree.

    Example:
        >>> plan = plan_step2(Sizes(16_000, 150_000, 150_000), 2.42, ratios=[0.5, 1, 2, 3, 5, 10], repeats=2)
        >>> len(plan.runs), plan.runs[2].sizes
        (12, Sizes(d1=16000, d2=11322, d3=4678))

    Reference:
        Sec. III-C3 and IV-B, Algorithm 1, step 2.
    """
    points, notes = [], []
    for ratio in sorted(set(ratios)):
        found = capped(coarse_sizes(counts, r_star, ratio), counts)
        points.append((found.sizes, (found.sizes.d2 + found.sizes.d3) / counts.d1))
        notes += [f"ratio {ratio:g}: {note}" for note in found.notes]
    if len({realised for _, realised in points}) < len(points):
        most = max(realised for _, realised in points)
        hint = f"Here {most:.3g} is the most that needs no row twice: pass ratios up to it, or add data."
        raise RecipeError.about("ratios", tuple(ratios), "ratios that the rows at hand can tell apart", hint)
    runs = _runs(2, points, repeats, seed)
    plan = Plan(2, runs, counts, seed, degree, "mean", r_star, data_digest, recipe_digest, tuple(notes))
    return _checked(plan)


def _runs(step: int, points: Sequence[tuple[Sizes, float]], repeats: int, seed: int) -> tuple[RunSpec, ...]:
    if repeats < 1 or seed < 0:
        raise RecipeError.about("repeats, seed", (repeats, seed), "1 or more repeats and a seed of 0 or more")
    return tuple(
        RunSpec(point * repeats + repeat, step, point, repeat, _seed(seed, step, point, repeat), sizes, ratio)
        for point, (sizes, ratio) in enumerate(points)
        for repeat in range(repeats)
    )


def _seed(*key: int) -> int:
    # 31 bits: every generator that training seeds takes them.
    return int(np.random.SeedSequence(key).generate_state(1)[0] >> 1)


def _checked(plan: Plan) -> Plan:
    if plan.formula not in get_args(Formula):
        raise RecipeError.about("formula", cast(str, plan.formula), f"one of {', '.join(get_args(Formula))}")
    count = len({run.ratio for run in plan.runs})
    if plan.degree < 1 or count < plan.degree + 2:
        hint = "Plan more points, or fit a lower degree."
        expected = f"a degree of 1 or more, and degree + 2 distinct ratios or more ({count} here)"
        raise RecipeError.about("degree", plan.degree, expected, hint)
    return plan


def spread_ratios(counts: Sizes, r_star: float, points: int) -> list[float]:
    """Ratios for step 2, from an eighth of the largest that the rows allow up to it.

    In equal steps of their logarithm, and none beyond the rows at hand: points would fall together there.

    Args:
        counts: Rows at hand.
        r_star: D2 : D3.
        points: How many, 2 or more.

    Example:
        >>> spread_ratios(Sizes(100, 400, 400), 1.0, 4)
        [1.0, 2.0, 4.0, 8.0]
    """
    most = capped(coarse_sizes(counts, r_star, _ENDLESS), counts).sizes
    highest = (most.d2 + most.d3) / counts.d1
    return [round(highest * _LOWEST ** (1 - point / (points - 1)), 3) for point in range(points - 1)] + [highest]


@dataclass(frozen=True)
class Cost:
    """The cost of plans; hours are those of one A800 and rest on `ASSUMPTION`.

    Attributes:
        runs: Number of runs.
        sample_passes: Rows that are trained on, repeats counted.
        optimiser_steps: Steps of all runs together.
        search_hours: The plans with the small model.
        primary_hours: Training the primary model once, on as many rows as are at hand.
        direct_hours: The plans with the primary model instead.
    """

    runs: int
    sample_passes: int
    optimiser_steps: int
    search_hours: float
    primary_hours: float
    direct_hours: float

    @property
    def saving(self) -> float:
        """Share of the direct search's hours that small model and one primary training save; below 0 if none."""
        return 1 - (self.search_hours + self.primary_hours) / self.direct_hours


def cost(*plans: Plan, batch: int = 64, epochs: int = 1) -> Cost:
    """Add up what plans cost.

    Args:
        plans: One step or both.
        batch: Rows in an optimiser step.
        epochs: Epochs of each run.

    Returns:
        Passes, steps and hours.

    Example:
        >>> found = cost(*published())
        >>> found.sample_passes, round(found.search_hours), round(found.direct_hours), round(100 * found.saving)
        (16818000, 720, 2800, 72)

    Reference:
        Sec. IV-H.
    """
    runs = [run for plan in plans for run in plan.runs]
    passes = epochs * sum(run.sizes.total for run in runs)
    share = passes / _published_passes()
    return Cost(
        runs=len(runs),
        sample_passes=passes,
        optimiser_steps=epochs * sum(max(run.sizes.total // batch, 1) for run in runs),
        search_hours=share * SEARCH_HOURS,
        primary_hours=PRIMARY_HOURS * max((plan.counts.d1 for plan in plans), default=0) / _COUNTS.d1,
        direct_hours=share * DIRECT_HOURS,
    )


def published() -> tuple[Plan, Plan]:
    """The two steps as the paper rounds its data."""
    return plan_step1(_COUNTS), plan_step2(_COUNTS, PAPER_R)


@functools.cache
def _published_passes() -> int:
    return sum(run.sizes.total for plan in published() for run in plan.runs)
