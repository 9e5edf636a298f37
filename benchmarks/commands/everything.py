"""`python -m benchmarks all`: whatever can be made of what is there, on one page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from benchmarks import sets
from benchmarks.commands import figures, tables, words
from benchmarks.commands.options import JudgeOptions, RunOptions
from benchmarks.commands.pages import Page, joined, write, write_html
from benchmarks.commands.running import first
from benchmarks.runs import Results
from benchmarks.slips import slips
from benchmarks.tables import fig7, table2
from qsit_metric import console
from qsit_metric.commands.frame import FAILED, one_line
from qsit_metric.errors import QSiTError
from qsit_metric.prompts import DESCRIBE

PAGE = "index.html"


@dataclass(frozen=True)
class Extras:
    """What cannot be found in a data root."""

    labels: Annotated[Path | None, typer.Option("--labels", metavar="FOLDER", help="Label files, for Table II.")] = None
    ablation: Annotated[
        Path | None, typer.Option("--ablation", metavar="FILE", help="ablation.json of a training, for Table VII.")
    ] = None
    sweeps: Annotated[
        list[Path] | None, typer.Option("--sweep", metavar="FOLDER", help="A finished sweep, for Fig. 4; repeat it.")
    ] = None
    pictures: Annotated[list[Path] | None, typer.Option("--picture", metavar="FILE", help="For Fig. 6; repeat it.")] = (
        None
    )


@dataclass
class _Done:
    """What the steps of one call have made, and what they can use of each other."""

    pages: list[Page] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def step(self, name: str, missing: str, make: Callable[[], Page]) -> None:
        """Make one page; what goes wrong is kept for the end, and the others are made all the same."""
        if missing:
            self.skipped[name] = missing
            return
        console.say(f"{name} ...", "dim")
        try:
            self.pages.append(make())
        except QSiTError as error:
            self.failed[name] = one_line(error)
            console.say(f"{name}: {self.failed[name]}", "red")


def all_command(options: RunOptions, judging: JudgeOptions, extras: Extras) -> int:
    """Every table and figure for which there is data. Exit code 1 if one of them failed."""
    names = _sets(options)
    done = _Done()
    _measured(done, options, judging, names)
    if first():
        _made(done, options, extras)
        write(joined(done.pages), options.output, shown=False)
        write_html(joined(done.pages), options.output / PAGE, "Benchmarks")
        for title, group in (("left out", done.skipped), ("failed", done.failed)):
            for name, reason in group.items():
                console.say(f"{title}: {name}: {reason}")
    return FAILED if done.failed else 0


def _measured(done: _Done, options: RunOptions, judging: JudgeOptions, names: Mapping[str, Sequence[str]]) -> None:
    """What a model is run for; Fig. 5 draws the runs of Tables IV and V."""
    scores: list[Results] = []
    answers: list[Results] = []

    def score() -> Page:
        found, roots = tables.scored(options, names["scores"])
        scores.extend(found)
        return tables.table4_page(found, roots, options.output)

    def ask() -> Page:
        answers.extend(tables.asked(options, names["questions"]))
        return tables.table5_page(answers)

    no = {kind: "" if found else f"no set of {kind} in {options.data_root}" for kind, found in names.items()}
    livec = "" if "livec" in names["scores"] else f"no livec in {options.data_root}"
    judge = "" if judging.judge else "no --judge"
    done.step("table4", no["scores"], score)
    done.step("table5", no["questions"], ask)
    done.step("table1", livec, lambda: words.table1_page(words.rated(options, ["livec"])))
    done.step("table6", no["descriptions"] or judge, lambda: words.table6_page(options, judging, names["descriptions"]))
    done.step("fig5", "", lambda: figures.fig5_page(scores, answers, options.output))


def _made(done: _Done, options: RunOptions, extras: Extras) -> None:
    """What the first process makes alone."""
    labels, ablation, sweeps, pictures = extras.labels, extras.ablation, extras.sweeps or [], extras.pictures or []
    if labels:
        done.step("table2", "", lambda: Page((table2.make(labels),)))
    else:
        done.step("table2", "no --labels", Page)
    if ablation:
        done.step("table7", "", lambda: tables.table7_page(ablation))
    else:
        done.step("table7", "no --ablation", Page)
    done.step("fig4", "" if sweeps else "no --sweep", lambda: figures.fig4_page(sweeps, options.output))
    done.step("fig6", "" if pictures else "no --picture", lambda: figures.fig6_page(pictures, options, [DESCRIBE]))
    done.step("fig7", "", lambda: figures.fig7_page(options, ["mini", "7b"], [], fig7.Task()))
    done.step("slips", "", lambda: Page((slips(),)))


def _sets(options: RunOptions) -> dict[str, list[str]]:
    """The sets of each kind that are in the data root."""
    there = [one for one in sets.status(options.data_root) if one.state != "missing" and one.n]
    kinds = ("scores", "questions", "descriptions")
    return {kind: [one.name for one in there if one.kind == kind] for kind in kinds}
