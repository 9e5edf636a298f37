"""`python -m benchmarks table2|table4|table5`: run what is missing, then write the table beside the paper's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchmarks import sets
from benchmarks.commands.options import Output, RunOptions, safe
from benchmarks.figures.canvas import save_png
from benchmarks.figures.scatter import scatter
from benchmarks.output import Table, markdown, save
from benchmarks.paper import printed
from benchmarks.runs import Process, Results, bar, question_run, score_run
from benchmarks.tables import table2, table4, table5
from benchmarks.worst import worst
from qsit_metric.commands import terminal
from qsit_metric.evaluation import EvaluationError
from qsit_metric.evaluation.files import write_atomic

if TYPE_CHECKING:
    from qsit_metric import QSiT

Names = Annotated[
    list[str] | None, typer.Option("--set", metavar="NAME", help="Repeat it; default: all that are in the data root.")
]


def table2_command(
    labels: Annotated[Path, typer.Option("--labels", metavar="FOLDER", help="Label files; no image is needed.")],
    output: Output = Path("benchmark-results"),
) -> None:
    """Table II: what five levels keep of the scores."""
    _write([table2.make(labels)], output)


def table4_command(options: RunOptions, names: Names = None) -> None:
    """Table IV: agreement of scores with people on the IQA sets."""
    wanted, roots = names or _found(options, "scores"), dict[str, Path]()

    def one(metric: QSiT, name: str, folder: Path) -> Results:
        manifest = sets.load_scores(name, options.data_root)
        roots[manifest.name] = manifest.root
        with bar(name) as progress:
            return score_run(metric, manifest, folder, retry_failed=options.retry_failed, progress=progress)

    runs = _runs(options, wanted, one)
    if Process.current().rank == 0:
        tables = [table4.make(runs, paper=printed("table4")), table4.details(runs)]
        _write(tables, options.output)
        _page(tables, runs, roots, options.output)


def table5_command(options: RunOptions, names: Names = None) -> None:
    """Table V: questions about low-level vision, LLVisionQA."""
    wanted = names or _found(options, "questions")

    def one(metric: QSiT, name: str, folder: Path) -> Results:
        questions, images = sets.load_questions(name, options.data_root)
        with bar(name) as progress:
            return question_run(
                metric, questions, images, folder, name=name, retry_failed=options.retry_failed, progress=progress
            )

    runs = _runs(options, wanted, one)
    if Process.current().rank == 0:
        _write([table5.make(runs, paper=printed("table5")), table5.details(runs)], options.output)


def _found(options: RunOptions, kind: str) -> list[str]:
    """Sets of a kind that are in the data root, whole or not."""
    there = [
        one.name for one in sets.status(options.data_root) if one.kind == kind and one.state != "missing" and one.n
    ]
    if not there:
        hint = "`python -m benchmarks data --data-root FOLDER` says what is missing."
        raise EvaluationError.about("--data-root", str(options.data_root), f"a folder with sets of {kind}", hint)
    return there


def _runs(options: RunOptions, names: Iterable[str], one: Callable[[QSiT, str, Path], Results]) -> list[Results]:
    """Each model on each set; what was done before is read, and not done again."""
    found = []
    for model, metric in options.metrics():
        for name in names:
            result = one(metric, name, options.folder(model, name))
            terminal.say(result.standing())
            found.append(result)
    return found


def _page(tables: Sequence[Table], runs: Sequence[Results], roots: Mapping[str, Path], output: Path) -> None:
    """Scatter plots of each model, and one page with tables, plots and the images that are furthest off."""
    from benchmarks.html import report

    figures, off = {}, []
    for model in dict.fromkeys(str(run.run["made"]["model"]) for run in runs):
        rows = [row for run in runs if run.run["made"]["model"] == model for row in _images(run, roots)]
        name = f"table4-{safe(model)}.png"
        figures[f"{model}: scores against people's"] = save_png(scatter(rows, model), output / name)
        off += worst(rows)
    path = output / "table4.html"
    write_atomic(path, report(tables, figures, off, "Agreement of scores with people"))
    terminal.say(f"written: {path}")


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


def _write(tables: Iterable[Table], output: Path) -> None:
    for table in tables:
        paths = save(table, output)
        terminal.out().print(markdown(table), markup=False)
        terminal.say(f"written: {', '.join(str(path) for path in paths)}")
