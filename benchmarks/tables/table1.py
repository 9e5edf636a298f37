"""Table I: how models rate when nobody tells them how: in words, or in numbers. Pure.

Paper: Q-SiT, arXiv 2503.09197, Sec. III-A2 and Table I: one question about each of LIVEC's 1168 images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.output import Table
from benchmarks.runs import Results
from benchmarks.tables.rating_words import classify, has_adjective
from benchmarks.tables.shared import CONDITIONS, Cells, beside, failures, identity, of_kind, state
from qsit_metric.errors import shorten
from qsit_metric.evaluation import EvaluationError

PROMPT = "How would you rate the quality of the image?"
"""As in the caption of Table I; the text before it has a full stop in place of the question mark."""

COLUMNS = (
    "model", "set", "qualitative_percent", "qualitative", "numerical_percent", "numerical", "neither", "both", "images",
    "cut", "failed", "partial", *CONDITIONS,
)  # fmt: skip

_LISTED = 5  # replies of neither kind that are shown under the table


def make(runs: Sequence[Results], *, paper: Sequence[Mapping[str, object]] = ()) -> Table:
    """One row a model: how many of its replies rate with an adjective and how many with a number.

    Args:
        runs: Of `describe_run` with `PROMPT`, whole or not; others of its kind, with another prompt, do not count.
        paper: `benchmarks.paper.printed("table1")`.

    Raises:
        EvaluationError: No run asked this, or one model and set twice.

    Example:
        >>> make([Results.read(folder)], paper=printed("table1")).rows[-1]["qualitative"]  # doctest: +SKIP
        1132
    """
    asked = [run for run in runs if run.run["kind"] == "descriptions" and run.run["prompt"] == PROMPT]
    if not asked:
        raise EvaluationError.about("runs", "<none of them>", f"at least one run of descriptions that asks {PROMPT!r}")
    found = of_kind(asked, "descriptions")
    rows = beside([_row(run) for run in found], paper, COLUMNS)
    formats = dict.fromkeys(("qualitative_percent", "numerical_percent"), ".0f")
    return Table(
        "table1", "Table I: ratings in words and in numbers", COLUMNS, tuple(rows), _notes(found), _made(found), formats
    )


def _row(run: Results) -> Cells:
    replies = [str(row["reply"]) for row in run.good]
    kinds = [classify(reply) for reply in replies]
    counts = {kind: kinds.count(kind) for kind in ("qualitative", "numerical", "neither")}
    shares = {f"{kind}_percent": 100 * number / len(kinds) if kinds else None for kind, number in counts.items()}
    both = sum(kind == "numerical" and has_adjective(reply) for kind, reply in zip(kinds, replies, strict=True))
    cut = sum(not row["finished"] for row in run.good)
    return {
        **identity(run), "set": run.run["set"], **counts, "both": both, "images": len(kinds), "cut": cut,
        "failed": len(run.failed), "partial": state(run),
        "qualitative_percent": shares["qualitative_percent"], "numerical_percent": shares["numerical_percent"],
    }  # fmt: skip


def _notes(runs: Sequence[Results]) -> tuple[str, ...]:
    return (
        f"Asked: {PROMPT}",
        "qualitative: an adjective of quality and no number as the rating; numerical: a number as the rating, also "
        "where adjectives explain it (both says how many of these); neither: no rating. The rules are ours.",
        "cut: replies that reached the limit of tokens; they are classified as far as they go.",
        *(note for run in runs for note in _strange(run)),
        *failures(runs),
    )


def _strange(run: Results) -> list[str]:
    """The first few replies that rate in neither way."""
    found = [row for row in run.good if classify(str(row["reply"])) == "neither"]
    if not found:
        return []
    shown = "; ".join(f"{row['id']} {shorten(row['reply'])}" for row in found[:_LISTED])
    return [f"{run.run['made']['model']}: {len(found)} of neither kind, such as {shown}"]


def _made(runs: Sequence[Results]) -> dict[str, object]:
    limits = sorted({str(run.run["max_new_tokens"]) for run in runs})
    return {"images": {str(run.run["set"]): run.run["sha256"] for run in runs}, "max_new_tokens": ", ".join(limits)}
