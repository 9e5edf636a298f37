"""`python -m train nano`: the embedded model, from nothing to the folder that the wheel carries. Thin shell."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from qsit_metric import console


def nano_command(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Where everything goes.")] = Path(
        "runs/nano"
    ),
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of data, sweeps and drawn rows.")] = 0,
    begin: Annotated[
        Path | None,
        typer.Option(
            "--begin",
            metavar="FOLDER",
            help="Another run of another seed, or its models/: its tower, base and balance are taken.",
        ),
    ] = None,
    onward: Annotated[
        bool, typer.Option("--onward", help="With --begin: teach that run's model itself on, with new pictures.")
    ] = False,
    fast: Annotated[bool, typer.Option("--fast", help="Fewer rows and runs: checks the path, learns nothing.")] = False,
) -> None:
    """Make the data, search the balance, train q-sit-nano, export it, and train the runs of its tables.

    About four hours on two CPU cores, two with --begin, half an hour with --onward; on a GPU much more data is made. A
    run that was cut goes on where it was, with the same options.
    """
    from ..errors import RunError
    from ..nano.run import run_nano
    from ..nano.spec import BEGUN, FAST, FULL, LARGE, ONWARD, device_here
    from ..quiet import silence

    silence()
    device = replace(device_here(), batch=32, workers=0) if fast else device_here()  # there are few rows
    if onward and not begin:
        raise RunError.about("begin", None, "the folder of a run, to be taught on", "Pass it with --begin.")
    effort = FAST if fast else LARGE if device.name != "cpu" else BEGUN if begin else FULL
    if onward:
        effort = replace(FAST, onward=(16, 24, 16)) if fast else ONWARD
    found = run_nano(output, seed, effort, device, begin, console.say)
    for name, value in found["model"].items():
        console.say(f"{name}: {'undefined' if value is None else f'{value:.3f}'}")
    console.say(f"model {output / 'q-sit-nano'}, all numbers {output / 'summary.json'}")
    console.say(f"figures {output / 'step1' / 'fit.png'}, {output / 'step2' / 'fit.png'}")
