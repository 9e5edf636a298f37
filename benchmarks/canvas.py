"""What all figures share: an empty figure without global state, colours, and PNG files without a trace of the maker."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from benchmarks.output import FILES
from qsit_metric.errors import DependencyError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 200  # twice the size at which the figures are shown

COLOURS: Mapping[str, str] = MappingProxyType(
    {
        "blue": "#0072b2", "vermilion": "#d55e00", "green": "#009e73", "purple": "#cc79a7", "orange": "#e69f00",
        "sky": "#56b4e9", "ink": "#1f2933",
    }
)  # fmt: skip
"""Okabe and Ito's colours (jfly.uni-koeln.de/color), which people with any kind of colour vision tell apart, and a
near-black in place of theirs."""

MUTED = "#52606d"
GRID = "#e4e7eb"


def new_figure(width: float, height: float) -> Figure:
    """An empty figure that is drawn by Agg.

    Args:
        width: Inches, at `DPI` pixels each.
        height: Likewise.

    Raises:
        DependencyError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        hint = "matplotlib draws the figures: pip install 'qsit-metric[bench]'"
        raise DependencyError(hint) from error
    # The object API: no state that a caller's own figures would share.
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def png(figure: Figure) -> bytes:
    """A figure as a PNG file without a word in it of when, where and with what it was made."""
    file = io.BytesIO()
    figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()


def save_png(figure: Figure, path: Path) -> Path:
    """Write a figure, whole or not at all, with the folder it lies in.

    Returns:
        `path`.

    Raises:
        EvaluationError: The file cannot be written.
    """
    FILES.write(path, png(figure))
    return path


def colour(place: int) -> str:
    """A colour for the n-th of several things; they repeat after seven.

    Example:
        >>> colour(0), colour(7) == colour(0)
        ('#0072b2', True)
    """
    return list(COLOURS.values())[place % len(COLOURS)]


def plain(axes: Axes) -> None:
    """Take off the frame's upper and right side, and lay a light grid behind the data."""
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
