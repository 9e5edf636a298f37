"""The command lines of `python -m benchmarks`: what may be asked of each table and figure, and of all at once."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks import sets
from benchmarks.artefacts import ARTEFACTS, BY_NAME, Request, first
from benchmarks.options import RESULTS, DataRoot, JudgeOptions, Output, RunOptions
from benchmarks.page import Page, joined, write, write_html
from benchmarks.runs import bar
from benchmarks.sets import download as hub
from qsit_metric import console
from qsit_metric.cli.command import FAILED, Command, one_line, options_of, with_options
from qsit_metric.errors import QSiTError
from qsit_metric.evaluation import EvaluationError
from qsit_metric.evaluation.loop import Progress
from qsit_metric.prompts import DESCRIBE

Names = Annotated[
    list[str] | None, typer.Option("--set", metavar="NAME", help="Repeat it; default: all that are in the data root.")
]
Tokens = Annotated[
    int, typer.Option("--max-new-tokens", min=1, metavar="N", help="Limit of a reply; one that is cut is counted.")
]

_PAGE = "index.html"
_STYLES = {"found": "green", "incomplete": "yellow", "missing": "dim"}


def table1(ctx: typer.Context, names: Names = None, max_new_tokens: Tokens = 200) -> None:
    """Table I: how models rate when nobody tells them how; default set: livec."""
    _produce(ctx, names=names, max_new_tokens=max_new_tokens)


def table2(
    ctx: typer.Context,
    labels: Annotated[Path, typer.Option("--labels", metavar="FOLDER", help="Label files; no image is needed.")],
    output: Output = RESULTS,
) -> None:
    """Table II: what five levels keep of the scores."""
    _produce(ctx, RunOptions(output=output), labels=labels)


def table4(ctx: typer.Context, names: Names = None) -> None:
    """Table IV: agreement of scores with people on the IQA sets."""
    _produce(ctx, names=names)


def table5(ctx: typer.Context, names: Names = None) -> None:
    """Table V: questions about low-level vision, LLVisionQA."""
    _produce(ctx, names=names)


def table6(ctx: typer.Context, names: Names = None, max_new_tokens: Tokens = 200) -> None:
    """Table VI: descriptions (LLDescribe), rated by a language model against what experts wrote."""
    _produce(ctx, names=names, max_new_tokens=max_new_tokens)


def table7(
    ctx: typer.Context,
    ablation: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="ablation.json of `python -m benchmarks.nano.trials`, or ablations.json of a training."
        ),
    ],
    output: Output = RESULTS,
) -> None:
    """Table VII: what each set and each step of the balance strategy brings, of finished trainings."""
    _produce(ctx, RunOptions(output=output), ablation=ablation)


def fig4(
    ctx: typer.Context,
    sweeps: Annotated[list[Path], typer.Argument(metavar="SWEEP...", help="Folders of `python -m train sweep`.")],
    output: Output = RESULTS,
) -> None:
    """Fig. 4: performance over the mix ratio, of finished sweeps."""
    _produce(ctx, RunOptions(output=output), sweep=sweeps)


def fig5(ctx: typer.Context) -> None:
    """Fig. 5: models as rings: what the paper's tables print, and each --model on the sets of the data root."""
    options = options_of(ctx, RunOptions)
    request = Request(options)
    for kind in ("scores", "questions") if options.models else ():
        request.runs(kind)
    BY_NAME["fig5"].produce(request)


def fig6(
    ctx: typer.Context,
    pictures: Annotated[list[Path], typer.Argument(metavar="PICTURE...", help="Picture files.")],
    questions: Annotated[
        list[str] | None,
        typer.Option("--question", "-q", metavar="TEXT", help="Repeat it; default: the question for a description."),
    ] = None,
) -> None:
    """Fig. 6: pictures side by side with what each model makes of them."""
    _produce(ctx, picture=pictures, questions=questions or (DESCRIBE,))


def fig7(
    ctx: typer.Context,
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
    chosen = shapes or ("mini", "7b")
    _produce(ctx, shapes=chosen, measure=measure or (), repeats=repeats, new_tokens=new_tokens)


def discrepancies(output: Output = RESULTS) -> None:
    """Printed numbers of the paper that do not follow from each other."""
    BY_NAME["discrepancies"].produce(Request(RunOptions(output=output)))


def slips(output: Output = RESULTS) -> None:
    """The former name of `discrepancies`."""
    console.say("`slips` is called `discrepancies` now.")
    discrepancies(output)


def everything(
    ctx: typer.Context,
    labels: Annotated[
        Path | None, typer.Option("--labels", metavar="FOLDER", help="Label files, for Table II.")
    ] = None,
    ablation: Annotated[
        Path | None, typer.Option("--ablation", metavar="FILE", help="ablation.json of a training, for Table VII.")
    ] = None,
    sweeps: Annotated[
        list[Path] | None, typer.Option("--sweep", metavar="FOLDER", help="A finished sweep, for Fig. 4; repeat it.")
    ] = None,
    pictures: Annotated[
        list[Path] | None, typer.Option("--picture", metavar="FILE", help="For Fig. 6; repeat it.")
    ] = None,
) -> int:
    """Every table and figure for which there is data. Exit code 1 if one of them failed."""
    options = options_of(ctx, RunOptions)
    judging = options_of(ctx, JudgeOptions)
    request = Request(options, judging, labels=labels, ablation=ablation, sweep=sweeps or (), picture=pictures or ())
    pages: list[Page] = []
    skipped = {one.name: reason for one in ARTEFACTS if (reason := one.missing(request))}
    failed: dict[str, str] = {}
    for one in (one for one in ARTEFACTS if one.name not in skipped and (one.kind or first())):
        console.say(f"{one.name} ...", "dim")
        try:
            pages.append(one.page(request))
        except QSiTError as error:  # the others are made all the same
            failed[one.name] = one_line(error)
            console.say(f"{one.name}: {failed[one.name]}", "red")
    if first():
        write(joined(pages), options.output, shown=False)
        write_html(joined(pages), options.output / _PAGE, "Benchmarks")
        for title, group in (("left out", skipped), ("failed", failed)):
            for name, reason in group.items():
                console.say(f"{title}: {name}: {reason}")
    return FAILED if failed else 0


def data(
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
    if download and not names:
        raise EvaluationError.about("NAME", "<none>", f"sets to download: {', '.join(hub.SOURCES)}")
    for name in (names or []) if download else ():
        console.say(hub.terms(name, repo))
        with _late_bar(f"unpacking {name}") as progress:
            hub.fetch(name, data_root, accept_licence, repo=repo, local_files_only=offline, progress=progress)
    found = sets.status(data_root)
    if unknown := sorted(set(names or []) - {one.name for one in found}):
        raise EvaluationError.about("NAME", unknown[0], f"one of {', '.join(one.name for one in found)}")
    shown = [one for one in found if not names or one.name in names]
    for one in shown:
        _show(one)
    return int(bool(names) and any(one.state != "found" for one in shown))


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


def _produce(ctx: typer.Context, options: RunOptions | None = None, **fields: Any) -> None:
    """Make the table or figure that the command is called after."""
    judging = ctx.obj.get(JudgeOptions) or JudgeOptions()
    request = Request(options or options_of(ctx, RunOptions), judging, **fields)
    BY_NAME[str(ctx.command.name)].produce(request)


_RUN, _JUDGED = with_options(RunOptions), with_options(RunOptions, JudgeOptions)

COMMANDS: tuple[tuple[str, Callable[..., int | None], type[Command]], ...] = (
    ("data", data, Command),
    ("table1", table1, _RUN),
    ("table2", table2, Command),
    ("table4", table4, _RUN),
    ("table5", table5, _RUN),
    ("table6", table6, _JUDGED),
    ("table7", table7, Command),
    ("fig4", fig4, Command),
    ("fig5", fig5, _RUN),
    ("fig6", fig6, _RUN),
    ("fig7", fig7, _RUN),
    ("discrepancies", discrepancies, Command),
    ("slips", slips, Command),
    ("all", everything, _JUDGED),
)
"""Name, function, and the class that has its groups of options; in the order of the help."""
