"""`python -m benchmarks table2|table4|table5|table7`: run what is missing, then write the table beside the paper's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchmarks import sets
from benchmarks.commands.options import RESULTS, Output, RunOptions, safe
from benchmarks.commands.pages import Page, write, write_html
from benchmarks.commands.running import Names, first, found, runs
from benchmarks.figures.canvas import save_png
from benchmarks.figures.scatter import scatter
from benchmarks.paper import printed
from benchmarks.runs import Results, bar, question_run, score_run
from benchmarks.tables import table2, table4, table5, table7
from benchmarks.worst import worst

if TYPE_CHECKING:
    from qsit_metric import QSiT


def table2_command(
    labels: Annotated[Path, typer.Option("--labels", metavar="FOLDER", help="Label files; no image is needed.")],
    output: Output = RESULTS,
) -> None:
    """Table II: what five levels keep of the scores."""
    write(Page((table2.make(labels),)), output)


def table4_command(options: RunOptions, names: Names = None) -> None:
    """Table IV: agreement of scores with people on the IQA sets."""
    done, roots = scored(options, names or found(options, "scores"))
    if first():
        page = table4_page(done, roots, options.output)
        write(page, options.output)
        write_html(page, options.output / "table4.html", "Agreement of scores with people")


def table5_command(options: RunOptions, names: Names = None) -> None:
    """Table V: questions about low-level vision, LLVisionQA."""
    done = asked(options, names or found(options, "questions"))
    if first():
        write(table5_page(done), options.output)


def table7_command(
    ablation: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="ablation.json of `python -m benchmarks.nano.trials`, or ablations.json of a training."
        ),
    ],
    output: Output = RESULTS,
) -> None:
    """Table VII: what each set and each step of the balance strategy brings, of finished trainings."""
    write(table7_page(ablation), output)


def scored(options: RunOptions, names: Sequence[str]) -> tuple[list[Results], dict[str, Path]]:
    """Scores of each model on each set, and the folder of each set's images."""
    # First of all, so that whatever is wrong with a set shows before a model is fetched.
    manifests = {name: sets.load_scores(name, options.data_root) for name in names}

    def one(metric: QSiT, name: str, folder: Path) -> Results:
        with bar(name) as progress:
            return score_run(metric, manifests[name], folder, retry_failed=options.retry_failed, progress=progress)

    return runs(options, names, one), {name: manifest.root for name, manifest in manifests.items()}


def asked(options: RunOptions, names: Sequence[str]) -> list[Results]:
    """Answers of each model to the questions of each set."""
    loaded = {name: sets.load_questions(name, options.data_root) for name in names}

    def one(metric: QSiT, name: str, folder: Path) -> Results:
        questions, images = loaded[name]
        with bar(name) as progress:
            return question_run(
                metric, questions, images, folder, name=name, retry_failed=options.retry_failed, progress=progress
            )

    return runs(options, names, one)


def table4_page(done: Sequence[Results], roots: Mapping[str, Path], output: Path) -> Page:
    """Both tables, a scatter plot of each model, and the images that are furthest off."""
    figures, off = {}, []
    for model in dict.fromkeys(str(run.run["made"]["model"]) for run in done):
        rows = [row for run in done if run.run["made"]["model"] == model for row in _images(run, roots)]
        caption = f"{model}: scores against people's"
        figures[caption] = save_png(scatter(rows, model), output / f"table4-{safe(model)}.png")
        off += worst(rows)
    return Page((table4.make(done, paper=printed("table4")), table4.details(done)), figures, tuple(off))


def table5_page(done: Sequence[Results]) -> Page:
    """The table, and one with counts."""
    return Page((table5.make(done, paper=printed("table5")), table5.details(done)))


def table7_page(ablation: Path) -> Page:
    """The table of a file."""
    return Page((table7.make(table7.read(ablation), paper=printed("table7"), made={"file": ablation.name}),))


def _images(run: Results, roots: Mapping[str, Path]) -> list[dict[str, object]]:
    """What scatter plots and lists of images read of a run."""
    name = str(run.run["set"])
    return [
        {
            "set": name,
            "image": row["image"],
            "path": roots[name] / row["image"],
            "mos": row["mos"],
            "score": row["score"],
        }
        for row in run.rows
    ]
