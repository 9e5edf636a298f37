"""`python -m benchmarks fig4|fig5`, and where the paper's numbers disagree."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmarks.commands.options import RESULTS, Output
from benchmarks.figures import mix, radar
from benchmarks.figures.canvas import save_png
from benchmarks.output import markdown, save
from benchmarks.paper import radar_rows, under
from benchmarks.slips import slips
from qsit_metric.commands import terminal


def fig4_command(
    sweeps: Annotated[list[Path], typer.Argument(metavar="SWEEP...", help="Folders of `python -m train sweep`.")],
    output: Output = RESULTS,
) -> None:
    """Fig. 4: performance over the mix ratio, of finished sweeps."""
    path = save_png(mix.mix(mix.read_fits(sweeps)), output / "fig4.png")
    terminal.say(f"written: {path}")


def fig5_command(output: Output = RESULTS) -> None:
    """Fig. 5: models as rings, of what the paper's tables print."""
    path = save_png(radar.radar(under([], radar_rows())), output / "fig5.png")
    terminal.say(f"written: {path}")


def slips_command(output: Output = RESULTS) -> None:
    """Printed numbers of the paper that do not follow from each other."""
    table = slips()
    save(table, output)
    terminal.out().print(markdown(table), markup=False)
