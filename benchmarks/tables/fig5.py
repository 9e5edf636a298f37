"""Fig. 5 of measured runs: one number for each set and each kind of question. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.runs import Results
from benchmarks.tables import table4, table5
from benchmarks.tables.shared import Cells
from qsit_metric.evaluation.qbench import CONCERNS, TYPES

RULE = "authors"

_SPOKES = {"yes-no": "yes_no", "in-context distortion": "in_context_distortion", "in-context other": "in_context_other"}


def rows(scores: Sequence[Results], questions: Sequence[Results]) -> list[Cells]:
    """One row a model, as `benchmarks.figures.radar` draws it.

    Args:
        scores: Runs of kind "scores"; of several parts of a set, the one that `table4.PARTS` names first is drawn.
        questions: Runs of kind "questions"; LLVisionQA's test questions, or else its dev questions.

    Returns:
        "model", (SRCC + PLCC) / 2 of each set that is there, and the accuracy of each kind of question by the
        authors' rule, all 0..1. What is undefined is None, and a correlation below 0 is 0: the figure has no room for
        it, Table IV has.
    """
    found: dict[str, Cells] = {}
    for row in table4.make(scores).rows if scores else ():
        found.setdefault(str(row["model"]), {}).update(_correlations(row, [str(run.run["set"]) for run in scores]))
    answered = [row for row in table5.make(questions).rows if row["rule"] == RULE and row["N"]] if questions else []
    for row in sorted(answered, key=lambda row: not str(row["set"]).startswith("llvisionqa-test")):
        cells = found.setdefault(str(row["model"]), {})
        for name, value in _accuracies(row).items():
            cells.setdefault(name, value)
    return [{"model": model, **cells} for model, cells in found.items()]


def _correlations(row: Mapping[str, object], names: Sequence[str]) -> Cells:
    cells: Cells = {}
    for spoke, part in ((spoke, part) for spoke, parts in table4.PARTS.items() for part in parts if part in names):
        both = [row.get(f"{part} {one}") for one in ("SRCC", "PLCC")]
        values = [value for value in both if isinstance(value, float)]
        if len(values) == len(both):
            cells.setdefault(spoke, max(0.0, sum(values) / len(values)))
    return cells


def _accuracies(row: Mapping[str, object]) -> Cells:
    shares = {_SPOKES.get(name, name): row[name] for name in (*TYPES, *CONCERNS)}
    return {name: share / 100 for name, share in shares.items() if isinstance(share, float)}
