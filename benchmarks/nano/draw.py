"""The figures of a measurement that `benchmarks.nano` made: nano-scoring.png and nano-strip.png.

    python -m benchmarks.nano.draw OUT --to FOLDER

Scores against what people said, and one photograph under rising degradations.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from benchmarks.canvas import COLOURS, MUTED, new_figure, png
from benchmarks.nano.pictures import series
from benchmarks.nano.training import distortion
from benchmarks.options import app_of
from benchmarks.output import FILES
from qsit_metric import console
from qsit_metric.evaluation import EvaluationError
from qsit_metric.levels import LEVELS, SCORE_RANGE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_FAMILIES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "blur": ("blur", COLOURS["blue"]),
        "noise": ("noise", COLOURS["vermilion"]),
        "coding": ("coding and few tones", COLOURS["green"]),
        "colour": ("colour", COLOURS["purple"]),
        "light": ("light and sharpening", COLOURS["orange"]),
        "place": ("displaced or covered parts", COLOURS["sky"]),
        "pristine": ("untouched", COLOURS["ink"]),
    }
)
"""Family of a type -> name and colour."""
_ROWS = MappingProxyType({"gaussian_blur": "Gaussian blur", "white_noise": "white noise", "jpeg": "JPEG"})


def family(kind: str) -> str:
    """The family of a type.

    Example:
        >>> family("lens_blur"), family("pristine")
        ('blur', 'pristine')
    """
    return kind if kind == "pristine" else distortion(kind).family


def scatter(rows: Sequence[Mapping[str, str]], found: Mapping[str, Any]) -> bytes:
    """Score of every picture of the sample against the mean that people gave its type and level.

    Args:
        rows: Of `nano-scores.csv`.
        found: What `nano.json` has.

    Returns:
        A PNG file of 1600 x 1400 pixels.

    Raises:
        DependencyError: matplotlib is not installed.
    """
    figure = new_figure(8, 7)
    axes = figure.add_subplot()
    _bands(axes)
    for name, cells in _by_family(rows).items():
        _dots(axes, list(cells.values()), *_FAMILIES[name])
    axes.set_xlabel("mean score by people of this type and level (KADID-10k)", fontsize=12)
    axes.set_ylabel(f"score by {found['made']['model']}", fontsize=12)
    axes.set_title(_title(found["scoring"]["all"]), fontsize=12.5, loc="left")
    # Below the axes no dot can lie under it.
    figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=10.5, handletextpad=0.3)
    return png(figure)


def series_figure(found: Mapping[str, Any]) -> bytes:
    """The photograph at every level, with score and level word.

    Args:
        found: What `nano.json` has; its strip was scored with its seed.

    Returns:
        A PNG file of 1600 x 1000 pixels.

    Raises:
        DependencyError: matplotlib is not installed.
        DataError: scikit-image, which has the photograph, is not installed.
    """
    said = {(one["type"], one["level"]): one for one in found["strip"]}
    figure = new_figure(8, 5)
    places = figure.subplots(3, 6).ravel()
    for axes, (kind, level, image) in zip(places, series(found["seed"]), strict=True):
        axes.imshow(np.asarray(image), interpolation="antialiased")
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        one = said[kind, level]
        axes.set_xlabel(f"{one['score']:.2f} {one['word']}", fontsize=10.5, labelpad=3)
        if kind == next(iter(_ROWS)):
            axes.set_title(f"level {level}" if level else "untouched", fontsize=11)
        if not level:
            axes.set_ylabel(_ROWS[kind], fontsize=11)
    return png(figure)


def _by_family(rows: Sequence[Mapping[str, str]]) -> dict[str, dict[tuple[str, str], list[tuple[float, float]]]]:
    """Family -> (type, level) -> (label, score) of its pictures, in the order of the legend."""
    found: dict[str, dict[tuple[str, str], list[tuple[float, float]]]] = {name: {} for name in _FAMILIES}
    for row in rows:
        if row["sampled"] == "True" and row["score"]:
            cell = found[family(row["type"])].setdefault((row["type"], row["level"]), [])
            cell.append((float(row["label"]), float(row["score"])))
    return {name: cells for name, cells in found.items() if cells}


def _dots(axes: Axes, cells: Sequence[Sequence[tuple[float, float]]], name: str, colour: str) -> None:
    """One faint dot for each picture, one with a rim for the mean of each type and level."""
    x, y = np.array([pair for cell in cells for pair in cell]).T
    mean_x, mean_y = np.array([np.mean(cell, axis=0) for cell in cells]).T
    axes.scatter(x, y, s=9, color=colour, alpha=0.35, linewidths=0, zorder=2)
    axes.scatter(mean_x, mean_y, s=42, color=colour, edgecolors="white", linewidths=0.8, zorder=3, label=name)


def _bands(axes: Axes) -> None:
    """The five levels as stripes, and where score and mean are equal."""
    low, high = SCORE_RANGE
    edges = np.linspace(low, high, len(LEVELS) + 1)
    for place, (level, bottom, top) in enumerate(zip(LEVELS, edges, edges[1:], strict=False)):
        axes.axhspan(bottom, top, color="#f1f3f5" if place % 2 == 0 else "white", linewidth=0, zorder=0)
        axes.annotate(
            level, (1, (bottom + top) / 2), (6, 0), ("axes fraction", "data"), "offset points",
            va="center", fontsize=11, color=MUTED, annotation_clip=False,
        )  # fmt: skip
    axes.plot([low, high], [low, high], color="#9aa5b1", linewidth=1.2, linestyle="--", zorder=1)
    axes.set(xlim=(low, high), ylim=(low, high))
    axes.set_aspect("equal")
    axes.tick_params(labelsize=11)
    axes.spines[["top", "right"]].set_visible(False)


def _title(found: Mapping[str, Any]) -> str:
    if found["srcc"] is None:
        return f"{found['n']} pictures"
    interval = found["srcc_interval"]
    bounds = f" (95 % interval {interval[0]:.3f} to {interval[1]:.3f})" if interval else ""
    return f"SRCC {found['srcc']:.3f}{bounds}, {found['n']} pictures"


def main(
    results: Annotated[Path, typer.Argument(metavar="OUT", help="The folder that `benchmarks.nano` wrote.")],
    to: Annotated[Path, typer.Option("--to", metavar="FOLDER", help="Gets the PNG files.")],
) -> None:
    """Draw the figures of a measurement."""
    draw(results, to)
    console.say(f"nano-scoring.png and nano-strip.png are in {to}")


def draw(results: Path, to: Path) -> None:
    """Write `nano-scoring.png` and `nano-strip.png`.

    Raises:
        EvaluationError: The folder has no measurement.
    """
    found, rows = read(results)
    FILES.write(to / "nano-scoring.png", scatter(rows, found))
    FILES.write(to / "nano-strip.png", series_figure(found))


def read(folder: Path) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """What `nano.json` has, and the rows of `nano-scores.csv`.

    Raises:
        EvaluationError: The folder has no measurement.
    """
    try:
        found = json.loads((folder / "nano.json").read_text(encoding="utf-8"))
        with (folder / "nano-scores.csv").open(newline="", encoding="utf-8") as file:
            return found, list(csv.DictReader(file))
    except (OSError, ValueError) as error:
        expected = "a folder with nano.json and nano-scores.csv"
        raise EvaluationError.about("OUT", str(folder), expected, "`python -m benchmarks.nano` writes it.") from error


if __name__ == "__main__":
    app_of(main)()
