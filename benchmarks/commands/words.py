"""`python -m benchmarks table1|table6`: what models write about pictures, sorted or judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchmarks import sets
from benchmarks.commands.options import JudgeOptions, RunOptions, safe
from benchmarks.commands.pages import Page, write
from benchmarks.commands.running import Names, first, found, runs, whole
from benchmarks.paper import printed
from benchmarks.runs import Results, bar, describe_run
from benchmarks.tables import table1, table6
from qsit_metric import console
from qsit_metric.evaluation import EvaluationError, read_lldescribe

if TYPE_CHECKING:
    from benchmarks.judge import Judge
    from qsit_metric import QSiT

Tokens = Annotated[
    int, typer.Option("--max-new-tokens", min=1, metavar="N", help="Limit of a reply; one that is cut is counted.")
]


def table1_command(options: RunOptions, names: Names = None, max_new_tokens: Tokens = 200) -> None:
    """Table I: how models rate when nobody tells them how; default set: livec."""
    done = rated(options, names or ["livec"], max_new_tokens)
    if first():
        write(table1_page(done), options.output)


def table6_command(
    options: RunOptions, judging: JudgeOptions, names: Names = None, max_new_tokens: Tokens = 200
) -> None:
    """Table VI: descriptions (LLDescribe), rated by a language model against what experts wrote."""
    page = table6_page(options, judging, names or found(options, "descriptions"), max_new_tokens)
    if first():
        write(page, options.output)


def rated(options: RunOptions, names: Sequence[str], max_new_tokens: int = 200) -> list[Results]:
    """What each model replies to Table I's question about each image of the sets."""
    manifests = {name: sets.load_scores(name, options.data_root) for name in names}

    def one(metric: QSiT, name: str, folder: Path) -> Results:
        manifest = manifests[name]
        images = list(dict.fromkeys(item.image for item in manifest.items))
        with bar(name) as progress:
            return describe_run(
                metric, images, manifest.root, folder, table1.PROMPT, name=name, max_new_tokens=max_new_tokens,
                retry_failed=options.retry_failed, progress=progress,
            )  # fmt: skip

    return runs(options, names, one, "-rating")


def table1_page(done: Sequence[Results]) -> Page:
    """The table."""
    return Page((table1.make(done, paper=printed("table1")),))


def table6_page(options: RunOptions, judging: JudgeOptions, names: Sequence[str], max_new_tokens: int = 200) -> Page:
    """The table, or nothing if there is no judge: then the descriptions are made and kept.

    Raises:
        EvaluationError: A judge, and no golden text; it is said before anything is described.
    """
    judge = judging.load(device=options.place, offline=options.offline)
    golden = {name: _golden(options, judging, name) for name in names}
    if judge is not None and (bare := [name for name in names if not golden[name]]):
        hint = "The texts of LLDescribe are not published; the file is yours."
        raise EvaluationError.about("--golden", None, f'a file of [{{"image", "golden"}}], for {bare[0]}', hint)
    done = _described(options, names, max_new_tokens)
    if judge is None:
        console.say("Described. Name a --judge, and the same command has the descriptions rated.")
        return Page()
    rows = [_judged(options, judging, judge, run, golden[str(run.run["set"])]) for run in done]
    return Page((table6.make(rows, paper=printed("table6")),))


def _described(options: RunOptions, names: Sequence[str], max_new_tokens: int) -> list[Results]:
    loaded = {name: sets.load_descriptions(name, options.data_root) for name in names}

    def one(metric: QSiT, name: str, folder: Path) -> Results:
        items, images = loaded[name]
        with bar(name) as progress:
            return describe_run(
                metric, [item.image for item in items], images, folder, name=name, max_new_tokens=max_new_tokens,
                retry_failed=options.retry_failed, progress=progress,
            )  # fmt: skip

    return runs(options, names, one)


def _golden(options: RunOptions, judging: JudgeOptions, name: str) -> dict[str, str]:
    """Image -> what experts wrote."""
    items, images = sets.load_descriptions(name, options.data_root)
    read = items if judging.golden is None else read_lldescribe(images, judging.golden)
    return {item.image: item.golden for item in read if item.golden is not None}


def _judged(
    options: RunOptions, judging: JudgeOptions, judge: Judge, described: Results, golden: Mapping[str, str]
) -> Results:
    from benchmarks.judge import judge_run

    folder = described.folder.with_name(f"{described.folder.name}-by-{safe(str(judge.facts['model']))}")
    with bar("rating") as progress:
        found = judge_run(
            judge, described, golden, folder, rounds=judging.rounds, retry_failed=options.retry_failed,
            progress=progress,
        )  # fmt: skip
    found = whole(found)
    console.say(f"ratings of {found.run['made']['model']} on {found.standing()}")
    return found
