"""Both sweeps of Algorithm 1: `plan` many small runs, do each on its own, `fit` a curve to what they reached."""

from __future__ import annotations

from ..balance import fitted_ratio
from .fit import fit_folder, performance
from .plan import FRACTIONS, RATIOS, Cost, Formula, Plan, RunSpec, cost, plan_step1, plan_step2, spread_ratios
from .runs import TakenError, Trainer, begun, pending, read_result, run_spec

__all__ = [
    "FRACTIONS",
    "RATIOS",
    "Cost",
    "Formula",
    "Plan",
    "RunSpec",
    "TakenError",
    "Trainer",
    "begun",
    "cost",
    "fit_folder",
    "fitted_ratio",
    "pending",
    "performance",
    "plan_step1",
    "plan_step2",
    "read_result",
    "run_spec",
    "spread_ratios",
]
