"""How fast and how large: this package against the authors' flow, on the same random weights of the real shapes.

    python -m benchmarks.efficiency                                    # mini, bfloat16, CPU
    python -m benchmarks.efficiency --device cuda --dtype float16 --shape 7b

Both flows run in one process in turn; memory is measured in a process for each. `ratio` says how many times better than
the authors' flow ours is (less time, less memory, more pictures a second). Results land in a CSV after every task.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Collection
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks._model import DTYPES, SHAPES
from benchmarks._report import Report, conditions
from benchmarks._tasks import KINDS, Bench, Settings, wh

_RESULTS = Path(__file__).resolve().parent / "results"
_BATCHES = {"cuda": "1,2,4,8,16,32"}
_IMAGES = {"cuda": 64}
_BUSY = 0.1  # cores


def main(
    *,
    device: Annotated[str, typer.Option(help="A torch device.")] = "cpu",
    dtype: Annotated[str, typer.Option(help=f"One of {', '.join(DTYPES)}.")] = "bfloat16",
    shape: Annotated[str, typer.Option(help=f"One of {', '.join(SHAPES)}; tiny is for a smoke run.")] = "mini",
    sizes: Annotated[str, typer.Option(help="Picture sizes, width x height.")] = "512x384,1024x768",
    repeats: Annotated[int, typer.Option(min=1, help="Measured rounds of both flows.")] = 3,
    what: Annotated[str, typer.Option(help="Which measurements.")] = ",".join(KINDS),
    batches: Annotated[str, typer.Option(help="Batch sizes of the throughput.")] = "",
    images: Annotated[int, typer.Option(help="Files of the throughput; 0 takes what suits the device.")] = 0,
    threads: Annotated[int, typer.Option(help="CPU threads; 0 leaves torch's choice.")] = 0,
    output: Annotated[Path | None, typer.Option(help="The CSV; it is replaced.")] = None,
) -> None:
    """Measure this package against the authors' flow and say which targets are met."""
    if threads:
        torch.set_num_threads(threads)
    place = torch.device(device)
    settings = Settings(
        device=place,
        dtype=_one_of(dtype, DTYPES, "--dtype"),
        shape=_one_of(shape, SHAPES, "--shape"),
        sizes=tuple(_size(text) for text in _listed(sizes)),
        repeats=repeats,
        kinds=tuple(_one_of(kind, KINDS, "--what") for kind in _listed(what)),
        batches=tuple(int(text) for text in _listed(batches or _BATCHES.get(place.type, "1,2"))),
        images=images or _IMAGES.get(place.type, 4),
    )
    path = output or _RESULTS / f"efficiency-{place.type}-{shape}-{dtype}.csv"
    _quiet()
    run(settings, Report(path, conditions(place, dtype, shape)))


def run(settings: Settings, report: Report) -> None:
    """Do all tasks, writing as they finish, and print the table."""
    console = Console()
    if not console.is_terminal:
        console.width = 140  # a log file has no width of its own
    tasks = list(Bench(settings).tasks())
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("", total=len(tasks))
        for label, task in tasks:
            progress.update(bar, description=label)
            report.add(task())
            progress.advance(bar)
    console.print(report.table())
    _conclude(console, report)


def _conclude(console: Console, report: Report) -> None:
    if max((row.others or 0.0 for row in report.rows), default=0.0) > _BUSY:
        console.print("Other processes kept the machine busy (column 'others'): repeat this when it is quiet.")
    aimed = [row for row in report.rows if row.target is not None]
    for row in aimed:
        verdict = "met" if row.met == "yes" else "NOT met"
        console.print(f"{row.what} {row.size}: ratio {row.ratio:.2f}, target {row.target:.2f}: {verdict}")
    console.print(f"{sum(row.met == 'yes' for row in aimed)} of {len(aimed)} targets met; rows in {report.path}")


def _quiet() -> None:
    """Keep hints of the libraries out of the progress display."""
    warnings.filterwarnings("ignore", module="transformers")
    logging.getLogger("transformers").setLevel(logging.ERROR)


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _one_of(value: str, known: Collection[str], option: str) -> str:
    if value not in known:
        raise typer.BadParameter(f"{value!r} is none of {', '.join(known)}", param_hint=option)
    return value


def _size(text: str) -> str:
    try:
        if min(wh(text)) > 0:
            return text
    except ValueError:
        pass
    raise typer.BadParameter(f"{text!r} is no size such as 512x384", param_hint="--sizes")


if __name__ == "__main__":
    typer.run(main)
