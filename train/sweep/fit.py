"""From finished runs to a ratio: performance, the fit, `fit.json` and `fit.png`.

Paper: Q-SiT, arXiv 2503.09197, Sec. III-C3, IV-B and Fig. 4. For step 1 the text names LLVisionQA alone (IV-B, Fig. 4)
and the mean with scoring (III-C3): the first is the default. Step 2 is the mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import RunError
from .curve import Fit, Point, fit_curve
from .figure import draw
from .plan import FILES, Formula, Plan
from .runs import read_result

ACCURACY = "accuracy"
CORRELATIONS = ("srcc", "plcc")
_SHOWN = 3
_NO_RESULT = "no result"


def performance(metrics: Mapping[str, float | None], step: int, formula: Formula = "accuracy") -> float:
    """The performance of a run as one number.

    Args:
        metrics: "accuracy" of LLVisionQA-dev, 0..1, and for the mean "srcc/SET" and "plcc/SET" of each IQA set, -1..1,
            None where undefined; other names are left alone.
        step: 1 or 2; step 2 always takes the mean.
        formula: Of step 1: "accuracy" alone, or "mean" as in step 2.

    Returns:
        accuracy, or 0.5 * accuracy + 0.5 * mean over sets of (SRCC + PLCC) / 2; higher is better.

    Raises:
        RunError: A metric is missing or undefined.

    Example:
        >>> performance({"accuracy": 0.5, "srcc/koniq": 0.75, "plcc/koniq": 0.25}, step=2)
        0.5

    Reference:
        Sec. IV-B of the paper.
    """
    accuracy = _metric(metrics, ACCURACY)
    if step == 1 and formula == "accuracy":
        return accuracy
    sets = sorted({name.partition("/")[2] for name in metrics if name.partition("/")[0] in CORRELATIONS})
    if not sets:
        names = ", ".join(sorted(metrics))
        raise RunError.about("metrics", f"<{names}>", "srcc/SET and plcc/SET of at least one IQA set")
    scoring = [sum(_metric(metrics, f"{kind}/{name}") for kind in CORRELATIONS) / 2 for name in sets]
    return 0.5 * accuracy + 0.5 * sum(scoring) / len(scoring)


def fit_folder(
    folder: Path,
    degree: int | None = None,
    *,
    allow_missing: bool = False,
    bootstrap: int = 1000,
    level: float = 0.9,
    seed: int = 0,
) -> Fit:
    """Fit the curve of a sweep and write `fit.json` and `fit.png` beside its plan.

    Args:
        folder: The sweep's folder.
        degree: Degree of the polynomial; default: the plan's.
        allow_missing: Fit without runs that have no result or an undefined one; `fit.json` names them.
        bootstrap: Number of resamples.
        level: Nominal coverage of the interval.
        seed: Seed of the resamples.

    Returns:
        The fit; its `best_ratio` is r* after step 1 and q* after step 2.

    Raises:
        RunError: Runs are missing or undefined; the message names them.
        InputError: Too few distinct ratios, or no differences between runs.
    """
    plan = Plan.load(folder)
    points, left_out = _points(folder, plan)
    if left_out and not allow_missing:
        raise RunError(_lacking(folder, plan, left_out))
    fit = fit_curve(points, plan.degree if degree is None else degree, bootstrap, level, seed)
    picture = draw(fit, points, plan.step, plan.formula)
    FILES.write_json(folder / "fit.json", _record(plan, fit, points, left_out))
    FILES.write(folder / "fit.png", picture)
    return fit


def _metric(metrics: Mapping[str, float | None], name: str) -> float:
    value = metrics.get(name, "<missing>")
    if not isinstance(value, (int, float)) or not -1 <= value <= 1:  # NaN is not within either
        shown = "<undefined>" if value is None else value
        hint = "A correlation is undefined where all scores are equal: the run may have collapsed."
        raise RunError.about(f"metric {name}", shown, "a number within -1..1", hint)
    return float(value)


def _points(folder: Path, plan: Plan) -> tuple[list[Point], dict[int, str]]:
    """Points of the runs that have one, and why the others have none."""
    points, left_out = [], {}
    for run in plan.runs:
        result = read_result(folder, plan, run.index)
        try:
            if result is None:
                raise RunError(_NO_RESULT)
            points.append(Point(run.ratio, performance(result["metrics"], plan.step, plan.formula)))
        except RunError as error:
            left_out[run.index] = f"run {run.name} (ratio {run.ratio:.3g}): {str(error).rstrip('.')}"
    return points, left_out


def _lacking(folder: Path, plan: Plan, left_out: Mapping[int, str]) -> str:
    """The message about runs without performance: numbers of those not done, reasons of the first few others."""
    parts = []
    if missing := [f"{index:03d}" for index, reason in left_out.items() if reason.endswith(_NO_RESULT)]:
        parts.append(f"no result: {', '.join(missing)}")
    undefined = [reason for reason in left_out.values() if not reason.endswith(_NO_RESULT)]
    parts += undefined[:_SHOWN] + ["..."] * (len(undefined) > _SHOWN)
    hint = "Do them (remove an undefined run's result.json first), or pass --allow-missing to fit without them."
    return f"`{folder}`: {len(left_out)} of {len(plan.runs)} runs give no performance: {'; '.join(parts)}. {hint}"


def _record(plan: Plan, fit: Fit, points: list[Point], left_out: Mapping[int, str]) -> dict[str, Any]:
    return {
        "step": plan.step,
        **fit.as_dict(),
        "formula": plan.formula,
        "points": [[point.ratio, point.performance] for point in points],
        "left_out": list(left_out.values()),
        "plan_digest": plan.digest,
        "data_digest": plan.data_digest,
        "recipe_digest": plan.recipe_digest,
    }
