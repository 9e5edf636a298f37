"""Table V: answers to the questions of LLVisionQA, by type and by concern. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING

from benchmarks.artefacts.shared import CONDITIONS, Cells, beside, failures, identity, of_kind, state
from benchmarks.output import Table
from benchmarks.page import Page
from benchmarks.paper import printed
from benchmarks.runs import Results
from benchmarks.runs.results import Row
from benchmarks.statistics import wilson
from qsit_metric.evaluation.qbench import CONCERNS, TYPES

if TYPE_CHECKING:
    from benchmarks.artefacts import Request


GROUPS: tuple[str, ...] = (*TYPES, *CONCERNS, "overall")
_PRINTED = {
    "yes-no": "yes_no", "in-context distortion": "in_context_distortion", "in-context other": "in_context_other"
}  # fmt: skip
_GUESS = "random guess"
_SPEED = ("questions/s", "waiting")


def page(request: Request) -> Page:
    """The answers, and a table with counts."""
    done = request.runs("questions")
    return Page((make(done, paper=printed("table5")), details(done)))


def make(runs: Sequence[Results], *, paper: Sequence[Mapping[str, object]] = ()) -> Table:
    """One row a model and rule, as the paper prints it: percent of right answers by type, by concern, and overall.

    Args:
        runs: Of kind "questions", whole or not.
        paper: Rows of the paper, in percent, with the columns "model", "overall", and those of the types and concerns
            ("yes_no", "in_context_other" ...).

    Raises:
        EvaluationError: No such runs, one model and set twice, or a paper row without a model.
    """
    found = of_kind(runs, "questions")
    counts = ("N", "withheld", "failed", "partial")
    columns = ("model", "set", "rule", *GROUPS, "low", "high", *counts, *_SPEED, *CONDITIONS)
    rows = [*_guesses(found), *(_row(run, rule) for run in found for rule in run.run["rules"])]
    notes = (
        "Percent. An answer is judged by the authors' rule (authors), by the option that the written reply names "
        "(strict), and by the most probable option (logits).",
        "low, high: 95 % interval of overall (Wilson). random guess: mean of 1 / number of options.",
        "N: questions that were judged; withheld: without a published answer.",
        "questions/s: of one process, without loading the model; waiting: share of that time in which the model had no "
        "picture to work on.",
        *failures(found),
    )
    formats = {**dict.fromkeys([*GROUPS, "low", "high"], ".2f"), "waiting": ".1%"}
    title = "Table V: questions about low-level vision (LLVisionQA)"
    return Table(
        "table5",
        title,
        columns,
        tuple(beside(rows, [_printed(row) for row in paper], columns)),
        notes,
        _made(found),
        formats,
    )


def details(runs: Sequence[Results]) -> Table:
    """One row a model, rule and group of questions: accuracy with its count and its 95 % interval, in percent.

    Raises:
        EvaluationError: See `make`.
    """
    found = of_kind(runs, "questions")
    rows = [
        {"model": run.run["made"]["model"], "set": run.run["set"], "rule": rule, "group": group}
        | _accuracy(run, rule, group)
        for run in found
        for rule in run.run["rules"]
        for group in GROUPS
    ]
    formats = dict.fromkeys(("accuracy", "low", "high", _GUESS), ".2f")
    notes = ("Percent, with 95 % intervals (Wilson).", *failures(found))
    return Table("table5-details", "Table V: counts", tuple(rows[0]), tuple(rows), notes, _made(found), formats)


def _printed(row: Mapping[str, object]) -> Cells:
    """A row of the paper in our columns."""
    cells = {group: row.get(_PRINTED.get(group, group)) for group in GROUPS}
    return {"model": row.get("model"), "set": "llvisionqa-test", **cells}


def _row(run: Results, rule: str) -> Cells:
    cells = {group: _accuracy(run, rule, group) for group in GROUPS}
    overall = cells["overall"]
    return {
        **identity(run), "set": run.run["set"], "rule": rule,
        **{group: found["accuracy"] for group, found in cells.items()},
        **{name: overall[name] for name in ("low", "high", "N", "withheld")},
        "failed": len(run.failed), "partial": state(run),
        **dict(zip(_SPEED, (run.pace.per_second, run.pace.waiting), strict=True)),
    }  # fmt: skip


def _accuracy(run: Results, rule: str, group: str) -> Cells:
    answered = [row for row in run.good if _belongs(row, group)]
    judged = [bool(row["correct"][rule]) for row in answered if row["correct"][rule] is not None]
    right, count = sum(judged), len(judged)
    low, high = (100 * bound for bound in wilson(right, count)) if count else (None, None)
    return {
        "accuracy": 100 * right / count if count else None, "right": right, "N": count, "low": low, "high": high,
        "withheld": len(answered) - count, _GUESS: _guess(run, group),
    }  # fmt: skip


def _guesses(runs: Sequence[Results]) -> list[Cells]:
    """Rows of random guessing, one for each list of questions; of its runs the one that has most of them."""
    fullest: dict[str, Results] = {}
    for run in runs:
        key = str(run.run["sha256"])
        fullest[key] = max(fullest.get(key, run), run, key=lambda one: len(one.rows))
    return [
        {
            "model": _GUESS, "source": "computed", "set": run.run["set"], "N": len(run.rows), "partial": state(run),
            **{group: _guess(run, group) for group in GROUPS},
        }
        for run in fullest.values()
    ]  # fmt: skip


def _guess(run: Results, group: str) -> float | None:
    """Percent that guessing gets right, over all questions of the group, also unanswered ones."""
    counts = [len(row["choices"]) for row in run.rows if _belongs(row, group)]
    return 100 * fmean(1 / count for count in counts) if counts else None


def _belongs(row: Row, group: str) -> bool:
    return group in ("overall", row["type"], row["concern"])


def _made(runs: Sequence[Results]) -> dict[str, object]:
    limits = sorted({str(run.run["max_new_tokens"]) for run in runs})
    return {"questions": {str(run.run["set"]): run.run["sha256"] for run in runs}, "max_new_tokens": ", ".join(limits)}
