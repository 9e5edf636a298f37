"""`python -m benchmarks data`: what is there of the data sets, and fetching those that the Hub has."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from benchmarks import sets, sets_hub
from benchmarks.commands.options import DataRoot
from benchmarks.runs import bar
from qsit_metric import console
from qsit_metric.evaluation import EvaluationError
from qsit_metric.evaluation.loop import Progress

_STYLES = {"found": "green", "incomplete": "yellow", "missing": "dim"}


def data_command(
    data_root: DataRoot = Path("data"),
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Sets; default: all.")] = None,
    download: Annotated[bool, typer.Option("--download", help="Fetch the named sets from the Hub.")] = False,
    accept_licence: Annotated[
        bool, typer.Option("--accept-licence", help="Agree to the terms that --download shows.")
    ] = False,
    repo: Annotated[str | None, typer.Option("--repo", metavar="OWNER/REPO", help="Another source of the set.")] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Only what is in the Hub cache.")] = False,
) -> int:
    """Say which data sets are there, and whether they are whole. Exit code 1 if a named one is not."""
    if download:
        _fetch(names or [], data_root, accept_licence, repo, offline)
    found = sets.status(data_root)
    if unknown := sorted(set(names or []) - {one.name for one in found}):
        raise EvaluationError.about("NAME", unknown[0], f"one of {', '.join(one.name for one in found)}")
    shown = [one for one in found if not names or one.name in names]
    for one in shown:
        _show(one)
    return int(bool(names) and any(one.state != "found" for one in shown))


def _fetch(names: list[str], data_root: DataRoot, accept: bool, repo: str | None, offline: bool) -> None:
    if not names:
        raise EvaluationError.about("NAME", "<none>", f"sets to download: {', '.join(sets_hub.SOURCES)}")
    for name in names:
        console.say(sets_hub.terms(name, repo))
        with _late_bar(f"unpacking {name}") as progress:
            sets_hub.fetch(name, data_root, accept, repo=repo, local_files_only=offline, progress=progress)


@contextlib.contextmanager
def _late_bar(title: str) -> Iterator[Progress]:
    """A bar that is drawn once there is something to show: the download before has its own."""
    with contextlib.ExitStack() as stack:
        drawn: list[Progress] = []

        def progress(done: int, total: int) -> None:
            if not drawn:
                drawn.append(stack.enter_context(bar(title)))
            drawn[0](done, total)

        yield progress


def _show(one: sets.SetStatus) -> None:
    count = f"{one.n} of {one.expected}" if one.expected is not None else str(one.n)
    out = console.out()
    out.print(f"[{_STYLES[one.state]}]{one.state:10}[/] {one.name:16} {one.title}: {count} rows, {one.images} images")
    for line in (*one.problems, *([one.hint] if one.hint else [])):
        out.print(f"{'':28}{line}", markup=False)
