"""Time of whole processes, from the command to the end: this checkout against another one, in turn.

    python -m benchmarks.startup --against ../other

Measured: `qsit score one.jpg -m q-sit-nano`, `qsit models` and `qsit --help`, each in a fresh interpreter, after a
round that does not count. `ratio` says how many times faster ours is. The other checkout's package is run by this
interpreter, or by that of `--python`. Run it on a quiet machine.
"""

from __future__ import annotations

import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Annotated

import torch
import typer

from benchmarks.cost.child import Checkout
from benchmarks.cost.clock import interleaved
from benchmarks.cost.mixed import photo
from benchmarks.cost.report import RESULTS, Report, Row, conditions, timed
from benchmarks.options import app_of

MODEL, SIZE = "q-sit-nano", (512, 384)
TARGET = 1 / 0.45  # of a score: 0.45 of the time before
_MAIN = "import sys; from qsit_metric.cli import main; sys.exit(main())"


def main(
    against: Annotated[Path, typer.Option("--against", metavar="FOLDER", help="The other checkout.")],
    python: Annotated[
        str | None, typer.Option("--python", metavar="FILE", help="Interpreter of the other checkout (default: this).")
    ] = None,
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="Measured rounds.")] = 7,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The CSV; it is replaced.")] = RESULTS
    / "startup.csv",
) -> None:
    """Measure whole processes of this checkout and of another one."""
    other = Checkout(against, python or sys.executable)
    report = Report(output, conditions(torch.device("cpu"), "float32", MODEL))
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "one.jpg"
        photo(*SIZE).save(picture, quality=90)
        for name, arguments in commands(picture).items():
            report.add(measured_in_turn(name, arguments, other, repeats))
    report.show()


def commands(picture: Path) -> dict[str, list[str]]:
    """What is typed behind `qsit`."""
    return {"score": ["score", str(picture), "-m", MODEL], "models": ["models"], "help": ["--help"]}


def measured_in_turn(name: str, arguments: list[str], other: Checkout, repeats: int) -> list[Row]:
    """A row for each checkout, the other one first."""
    flows = {other.name: partial(_typed, other, arguments), "ours": partial(_typed, Checkout(), arguments)}
    rows = timed(f"start-up, {name}", "x".join(map(str, SIZE)), interleaved(flows, repeats, torch.device("cpu")))
    if name == "score":
        rows[-1].target = TARGET
    return rows


def _typed(checkout: Checkout, arguments: list[str]) -> str:
    return checkout.run("-c", _MAIN, *arguments)


if __name__ == "__main__":
    app_of(main)()
