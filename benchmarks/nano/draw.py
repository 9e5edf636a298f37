"""The figures of a measurement that `benchmarks.nano` made: nano-scoring.png and nano-strip.png.

python -m benchmarks.nano.draw OUT --to FOLDER
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks._app import app_of
from benchmarks.nano.figures import scatter, strip_figure
from qsit_metric import console
from qsit_metric.evaluation import EvaluationError
from qsit_metric.evaluation.files import write_atomic


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
    to.mkdir(parents=True, exist_ok=True)
    write_atomic(to / "nano-scoring.png", scatter(rows, found))
    write_atomic(to / "nano-strip.png", strip_figure(found))


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
