"""`python -m benchmarks fig4|fig5|fig6|fig7`, and where the paper's numbers disagree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.commands.options import RESULTS, Output, RunOptions, safe
from benchmarks.commands.pages import Page, write, write_html
from benchmarks.commands.running import first, found
from benchmarks.commands.tables import asked, scored
from benchmarks.figures import answers, bars, mix, radar
from benchmarks.figures.canvas import save_png
from benchmarks.paper import printed, radar_rows, under
from benchmarks.runs import Results
from benchmarks.slips import slips
from benchmarks.tables import fig5, fig7
from benchmarks.tables.fig7_costs import MEAN
from qsit_metric.evaluation import EvaluationError
from qsit_metric.evaluation.files import write_atomic
from qsit_metric.prompts import DESCRIBE

Sweeps = Annotated[list[Path], typer.Argument(metavar="SWEEP...", help="Folders of `python -m train sweep`.")]
Pictures = Annotated[list[Path], typer.Argument(metavar="PICTURE...", help="Picture files.")]
Questions = Annotated[
    list[str] | None,
    typer.Option("--question", "-q", metavar="TEXT", help="Repeat it; default: the question for a description."),
]


def fig4_command(sweeps: Sweeps, output: Output = RESULTS) -> None:
    """Fig. 4: performance over the mix ratio, of finished sweeps."""
    write(fig4_page(sweeps, output), output)


def fig5_command(options: RunOptions) -> None:
    """Fig. 5: models as rings: what the paper's tables print, and each --model on the sets of the data root."""
    scores = scored(options, found(options, "scores"))[0] if options.models else []
    questions = asked(options, found(options, "questions")) if options.models else []
    if first():
        write(fig5_page(scores, questions, options.output), options.output)


def fig6_command(pictures: Pictures, options: RunOptions, questions: Questions = None) -> None:
    """Fig. 6: pictures side by side with what each model makes of them."""
    if first():
        page = fig6_page(pictures, options, questions or [DESCRIBE])
        write(page, options.output)
        write_html(page, options.output / "fig6.html", "Scores and answers")


def fig7_command(
    options: RunOptions,
    shapes: Annotated[
        list[str] | None,
        typer.Option("--shape", metavar="NAME", help="Published shape with random weights: mini, 7b (default: both)."),
    ] = None,
    measure: Annotated[
        list[str] | None,
        typer.Option("--measure", metavar="NAME", help="Measure this shape, too; each --model always is."),
    ] = None,
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="Measured rounds.")] = 3,
    new_tokens: Annotated[int, typer.Option("--new-tokens", min=1, help="Of an answer.")] = 32,
) -> None:
    """Fig. 7: time, memory and operations of a score and an answer. Operations are counted without weights."""
    if first():
        task = fig7.Task(repeats=repeats, new_tokens=new_tokens)
        write(fig7_page(options, shapes or ["mini", "7b"], measure or [], task), options.output)


def slips_command(output: Output = RESULTS) -> None:
    """Printed numbers of the paper that do not follow from each other."""
    write(Page((slips(),)), output)


def fig4_page(sweeps: Sequence[Path], output: Path) -> Page:
    """The curves of sweeps."""
    path = save_png(mix.mix(mix.read_fits(sweeps)), output / "fig4.png")
    return Page(figures={"Fig. 4: performance over the mix ratio": path})


def fig5_page(scores: Sequence[Results], questions: Sequence[Results], output: Path) -> Page:
    """The rings of measured runs and of the paper."""
    rows = under(fig5.rows(scores, questions), radar_rows())
    caption = "Fig. 5: (SRCC + PLCC) / 2 on each set, and accuracy on each kind of question"
    return Page(figures={caption: save_png(radar.radar(rows), output / "fig5.png")})


def fig6_page(pictures: Sequence[Path], options: RunOptions, questions: Sequence[str]) -> Page:
    """A figure for each model."""
    figures, pages = {}, {}
    for model, metric in options.metrics():
        shown = answers.collect(metric, pictures, questions)
        path = options.output / f"fig6-{safe(_called(model))}.png"
        write_atomic(path, answers.figure(shown))
        caption = f"Fig. 6: scores and answers of {_called(model)}"
        figures[caption] = path
        pages[caption] = answers.fragment(shown)
    return Page(figures=figures, answers=pages)


def fig7_page(options: RunOptions, shapes: Sequence[str], measure: Sequence[str], task: fig7.Task) -> Page:
    """The table, and bars of the means."""
    metrics = {_called(name): metric for name, metric in options.metrics()} if options.models else {}
    if strange := sorted(set(measure) - set(shapes)):
        raise EvaluationError.about("--measure", strange[0], f"one of {', '.join(shapes)}")
    table = fig7.make(
        shapes, metrics, task, measure={*measure, *metrics}, device=options.device or "cpu",
        dtype=options.dtype or "float32", reference="7b" if "7b" in shapes else [*shapes, *metrics][0],
        paper=printed("fig7"),
    )  # fmt: skip
    path = save_png(bars.bars(_bars(table.rows)), options.output / "fig7.png")
    return Page((table,), {"Fig. 7: what a picture costs, mean of a score and an answer": path})


def _bars(rows: Sequence[Mapping[str, object]]) -> list[dict[str, object]]:
    means = [row for row in rows if row["task"] == MEAN and row["source"] != "paper"]
    return [
        {"model": row["model"], "latency": row["latency"], "memory": _gib(row["memory_mib"]), "tflop": row["tflop"]}
        for row in means
    ]


def _gib(mib: object) -> float | None:
    return mib / 1024 if isinstance(mib, (int, float)) else None


def _called(model: str) -> str:
    return Path(model).name if Path(model).is_dir() else model
