"""Where the paper's printed numbers do not follow from each other. Pure.

Averages and sums are computed again from the printed parts. Parts are rounded themselves, so a difference may still
be one of rounding: `parts` says whether they could explain it.

Paper: Q-SiT, arXiv 2503.09197, Tables III to VI.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from benchmarks.output import Table
from benchmarks.page import Page
from benchmarks.paper import CONCERNS, DIMENSIONS, SETS, TYPES, PaperRow, both, number, printed

if TYPE_CHECKING:
    from benchmarks.artefacts import Request


# Questions of LLVisionQA-test, in the order of TYPES and CONCERNS: the only counts with which the rows of Q-Bench's
# own table are accuracies of whole numbers of questions.
TYPE_COUNTS = (548, 461, 486)
CONCERN_COUNTS = (521, 419, 292, 263)

_EXACT = 1e-9


def page(request: Request) -> Page:
    """Printed numbers of the paper that do not follow from each other."""
    return Page((discrepancies(),))


def discrepancies() -> Table:
    """Every printed average, sum or score that its printed parts do not give, with what they give.

    Returns:
        Columns "table", "row", "column", "printed", "computed" (in the table's units) and "parts": whether the
        rounding of the parts could be why.
    """
    rows = [row for part in (_averages(), _sampled(), _accuracies(), _ratings()) for row in part]
    return Table(
        name="paper-discrepancies", title="Printed numbers that do not follow from their parts",
        columns=("table", "row", "column", "printed", "computed", "parts"), rows=tuple(rows),
        formats={"printed": ".5g", "computed": ".5g"},
    )  # fmt: skip


def _averages() -> Iterator[dict[str, object]]:
    """Table IV: `Avg.` is the mean over the sets of (SRCC + PLCC) / 2."""
    for row in printed("table4"):
        name = f"{row['training']}, {'before SFT: ' if row['sft'] == 'before' else ''}{row['method']}"
        yield from _differs(
            "IV", name, "Avg.", number(row, "avg"), sum(both(row, one) for one in SETS) / 5, 0.0005, 0.0005
        )


def _sampled() -> Iterator[dict[str, object]]:
    """Table III: the sizes add up, and the overall means are those over the sets that have scores."""
    *sets, overall = printed("table3")
    for count, mean in (("images", "mos_mean"), ("sampled_images", "sampled_mos_mean")):
        yield from _differs(
            "III", "Overall", count, number(overall, count), sum(number(row, count) for row in sets), 0.0
        )
        scored = [(number(row, mean), number(row, count)) for row in sets if row[mean] is not None]
        found = sum(value * n for value, n in scored) / sum(n for _, n in scored)
        yield from _differs("III", "Overall", mean, number(overall, mean), found, 0.005, 0.005)


def _accuracies() -> Iterator[dict[str, object]]:
    """Table V: the overall accuracy is the mean of either partition, weighted by its questions."""
    for row in printed("table5"):
        for what, names, counts in (("types", TYPES, TYPE_COUNTS), ("concerns", CONCERNS, CONCERN_COUNTS)):
            found = sum(number(row, name) * n for name, n in zip(names, counts, strict=True)) / sum(counts)
            yield from _differs("V", _model(row), f"Overall from {what}", number(row, "overall"), found, 0.005, 0.005)


def _ratings() -> Iterator[dict[str, object]]:
    """Table VI: a score is P1 + 2 P2, the frequencies add up to 1, and the sum is that of the three scores."""
    for row in printed("table6"):
        for one in DIMENSIONS:
            parts = [number(row, f"{one}_p{place}") for place in range(3)]
            found = (parts[1] + 2 * parts[2]) / 100
            yield from _differs("VI", _model(row), f"{one}: score", number(row, f"{one}_score"), found, 0.005, 0.00015)
            yield from _differs("VI", _model(row), f"{one}: P0 + P1 + P2", 100.0, sum(parts), 0.015)
        total = sum(number(row, f"{one}_score") for one in DIMENSIONS)
        yield from _differs("VI", _model(row), "Sum.", number(row, "sum"), total, 0.005, 0.015)


def _differs(
    table: str, row: str, column: str, said: float, found: float, half: float, parts: float = 0.0
) -> Iterator[dict[str, object]]:
    """A row if the number is not `found` rounded; `half` is half a unit of its last digit, `parts` what theirs add."""
    gap = abs(said - found)
    if gap > half + _EXACT:
        yield {
            "table": table, "row": row, "column": column, "printed": said, "computed": round(found, 6),
            "parts": gap <= half + parts + _EXACT,
        }  # fmt: skip


def _model(row: PaperRow) -> str:
    return f"{row['model']} ({row['language_model']})" if row["language_model"] else str(row["model"])
