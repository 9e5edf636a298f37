"""Fig. 5: several models on all sets and kinds of questions at once; measured lines whole, the paper's dashed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.artefacts import table4, table5
from benchmarks.artefacts.shared import Cells
from benchmarks.canvas import GRID, MUTED, colour, new_figure, save_png
from benchmarks.page import Page
from benchmarks.paper import number, radar_rows, under
from benchmarks.runs import Results
from qsit_metric.evaluation import EvaluationError
from qsit_metric.evaluation.qbench import CONCERNS, TYPES

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.projections.polar import PolarAxes

    from benchmarks.artefacts import Request

RULE = "authors"

_SPOKES = {"yes-no": "yes_no", "in-context distortion": "in_context_distortion", "in-context other": "in_context_other"}


def page(request: Request) -> Page:
    """Fig. 5: the rings of the paper, and of what has been run."""
    drawn = under(rows(request.done.get("scores", ()), request.done.get("questions", ())), radar_rows())
    caption = "Fig. 5: (SRCC + PLCC) / 2 on each set, and accuracy on each kind of question"
    return Page(figures={caption: save_png(radar(drawn), request.options.output / "fig5.png")})


def rows(scores: Sequence[Results], questions: Sequence[Results]) -> list[Cells]:
    """One row a model, as `radar` draws it.

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


LABELS: Mapping[str, str] = MappingProxyType(
    {
        "koniq": "KonIQ", "spaq": "SPAQ", "livec": "LIVEC", "agiqa": "AGIQA-3K", "kadid": "KADID-10k",
        "yes_no": "yes or no", "what": "what", "how": "how", "distortion": "distortion", "other": "other",
        "in_context_distortion": "distortion\nin context", "in_context_other": "other\nin context",
    }
)  # fmt: skip
"""Column -> what stands at its spoke: sets have (SRCC + PLCC) / 2, kinds of questions their accuracy, all 0..1."""

_LEAST = 3


def radar(rows: Sequence[Mapping[str, object]], spokes: Sequence[str] | None = None) -> Figure:
    """Draw models as rings around a centre.

    Args:
        rows: One for each line, with "model", "source" ("measured" or "paper") and the columns of the spokes, 0..1;
            None breaks the line there. `benchmarks.paper.under` joins ours with `benchmarks.paper.radar_rows`.
        spokes: Keys of `LABELS`, clockwise from the top; default: those in which some row has a number.

    Returns:
        The figure; lines of one model have one colour, and a row without numbers is named under the figure.

    Raises:
        EvaluationError: Fewer than three spokes, or a number outside 0..1.
        DependencyError: matplotlib is not installed.
    """
    names = [name for name in LABELS if any(row.get(name) is not None for row in rows)] if spokes is None else spokes
    if len(names) < _LEAST:
        raise EvaluationError.about("spokes", list(names), f"{_LEAST} or more of {', '.join(LABELS)} with numbers")
    lines = [_values(row, names) for row in rows]
    figure = new_figure(7, 6.6)
    axes: PolarAxes = figure.add_subplot(projection="polar")  # type: ignore[assignment]
    _rings(axes, min(float(np.nanmin(line)) for line in lines if np.isfinite(line).any()), names)
    models = list(dict.fromkeys(str(row["model"]) for row in rows))
    for row, line in zip(rows, lines, strict=True):
        if np.isfinite(line).any():
            _line(axes, line, row, colour(models.index(str(row["model"]))))
    _legend(figure, axes, [_name(row) for row, line in zip(rows, lines, strict=True) if not np.isfinite(line).any()])
    return figure


def _values(row: Mapping[str, object], names: Sequence[str]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    found = [math.nan if row.get(name) is None else number(row, name) for name in names]
    if wrong := [value for value in found if not math.isnan(value) and not 0 <= value <= 1]:
        raise EvaluationError.about(f"rows: {row['model']}", wrong[0], "shares and correlations within 0..1")
    return np.array(found, dtype=np.float64)


def _rings(axes: PolarAxes, least: float, names: Sequence[str]) -> None:
    """Spokes with their names, and rings from below the least number: from 0, all lines would look alike."""
    low = max(0.0, math.floor(least * 10 - 1e-9) / 10 - 0.1)
    ticks = np.arange(round(low * 10), 11) / 10
    axes.set_theta_offset(math.pi / 2)
    axes.set_theta_direction(-1)
    axes.set_ylim(low, 1)
    axes.set_yticks(ticks, [f"{tick:.1f}" for tick in ticks], fontsize=8, color=MUTED)
    axes.set_rlabel_position(180 / len(names))
    axes.set_xticks(_angles(len(names)), [LABELS[name] for name in names], fontsize=10.5)
    axes.tick_params(axis="x", pad=6)
    for angle, label in zip(_angles(len(names)), axes.get_xticklabels(), strict=True):
        side = math.sin(angle)  # names begin or end at the outer ring and never lie on it
        label.set_horizontalalignment("center" if abs(side) < 0.1 else "left" if side > 0 else "right")
    axes.grid(color=GRID, linewidth=0.9)
    axes.spines["polar"].set_color(GRID)


def _line(
    axes: PolarAxes, line: np.ndarray[tuple[int], np.dtype[np.float64]], row: Mapping[str, object], tint: str
) -> None:
    """A closed line; where a number is missing it has a gap."""
    angles = _angles(len(line))
    measured = row.get("source") != "paper"
    axes.plot(
        [*angles, angles[0]], [*line, line[0]], color=tint, linewidth=2.2 if measured else 1.6,
        linestyle="-" if measured else (0, (4, 2)), marker="o" if measured else "s", markersize=4.5, label=_name(row),
        markerfacecolor=tint if measured else "white",
    )  # fmt: skip


def _legend(figure: Figure, axes: PolarAxes, empty: Sequence[str]) -> None:
    from matplotlib.lines import Line2D

    handles = [*axes.get_legend_handles_labels()[0]]
    handles += [Line2D([], [], linestyle="none", label=f"{name}: no numbers") for name in empty]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False, fontsize=10)


def _angles(count: int) -> list[float]:
    return [2 * math.pi * place / count for place in range(count)]


def _name(row: Mapping[str, object]) -> str:
    return f"{row['model']} (paper)" if row.get("source") == "paper" else str(row["model"])
