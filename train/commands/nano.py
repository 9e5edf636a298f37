"""`python -m train nano` and `tiny`: the embedded model from nothing, and the same way at a small size. Thin shell."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qsit_metric import console

if TYPE_CHECKING:
    from rich.table import Table


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
    from ..nano.effort import plan_run
    from ..nano.run import run_nano

    if onward and not begin:
        raise RunError.about("begin", None, "the folder of a run, to be taught on", "Pass it with --begin.")
    effort, device = plan_run(fast, begin is not None, onward)
    _show(run_nano(output, seed, effort, device, begin, console.say), output)


def tiny_command(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Where everything goes.")] = Path(
        "runs/tiny"
    ),
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of data, models and sweeps.")] = 0,
    fast: Annotated[bool, typer.Option("--fast", help="Fewer rows and runs: checks the path, learns nothing.")] = False,
) -> None:
    """Run Algorithm 1 from small pictures to an exported model: both sweeps, the small and the primary model."""
    from ..nano.effort import Q_SIT_TINY, TINY, TINY_DEVICE, TINY_FAST
    from ..nano.run import run_nano

    effort = TINY_FAST if fast else TINY
    _show(run_nano(output, seed, effort, TINY_DEVICE, say=console.say, product=Q_SIT_TINY), output)


def _show(found: dict[str, Any], output: Path) -> None:
    for table in _tables(found):
        console.out().print(table)
    used = found["used"]
    console.say(f"{used['picture']}: {used['score']}  {used['question']} {' '.join(used['answer'].split())[:80]}")
    console.say(f"model {output / used['model']}, all numbers {output / 'summary.json'}")
    console.say(f"figures {output / 'step1' / 'fit.png'}, {output / 'step2' / 'fit.png'}")


def _tables(found: dict[str, Any]) -> list[Table]:
    small = found["small"] or {}  # a model that was taught on has none
    results = [("parameters", *(f"{found[name]:,}" for name in ("small_parameters", "parameters")))]
    results += [(name, *(_shown(one.get(name)) for one in (small, found["model"]))) for name in found["model"]]
    searched = []
    for name, what in (("r", "r* = D2 : D3"), ("q", "q* = |D2* + D3*| : D1")):
        low, high = found[name]["interval"]
        edge = ", at the edge" if found[name]["edge"] else ""
        searched.append((what, f"{found[name]['best_ratio']:.2f} (90 % {low:.2f} to {high:.2f}{edge})"))
    epochs = [" : ".join(map(str, sizes)) for sizes in found["mixture"]["model"]]
    searched += [
        ("lambda = L_S : L_I", _shown(found["lambda"])),
        ("accuracy of guessing", _shown(found["chance"])),
        ("rows in each epoch", "  ".join(epochs)),
    ]
    times = [(name, f"{seconds:.0f}") for name, seconds in found["seconds"].items()]
    return [
        console.table(("", ""), searched, header=False),
        console.table(("", ">small model", ">model"), results),
        console.table(("stage", ">seconds"), times),
    ]


def _shown(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"
