"""Table VI: descriptions, as a language model judges them against what experts wrote (LLDescribe). Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from benchmarks import sets
from benchmarks.artefacts import finished
from benchmarks.artefacts.shared import CONDITIONS, Cells, beside, failures, identity, state
from benchmarks.judge import judge_run
from benchmarks.options import safe
from benchmarks.output import Table
from benchmarks.page import Page
from benchmarks.paper import DIMENSIONS, printed
from benchmarks.runs import Results, bar
from qsit_metric import console
from qsit_metric.evaluation import EvaluationError, read_lldescribe

if TYPE_CHECKING:
    from benchmarks.artefacts import Request


RATINGS = (0, 1, 2)

_NUMBERS = tuple(f"{one}_{part}" for one in DIMENSIONS for part in (*(f"p{rating}" for rating in RATINGS), "score"))
COLUMNS = (
    "model", "language_model", "set", "judge", "rounds", *_NUMBERS, "sum", "images", "ratings", "unparsed", "failed",
    "descriptions_failed", "partial", *CONDITIONS,
)  # fmt: skip


def page(request: Request) -> Page:
    """The ratings of descriptions, or nothing if there is no judge: then the descriptions are made and kept.

    Raises:
        EvaluationError: A judge, and no golden text; it is said before anything is described.
    """
    options, judging = request.options, request.judging
    judge = judging.load(device=options.place, offline=options.offline)
    golden = {name: _golden(request, name) for name in request.found("descriptions")}
    if judge is not None and (bare := [name for name, texts in golden.items() if not texts]):
        hint = "The texts of LLDescribe are not published; the file is yours."
        raise EvaluationError.about("--golden", None, f'a file of [{{"image", "golden"}}], for {bare[0]}', hint)
    described = request.runs("descriptions")
    if judge is None:
        console.say("Described. Name a --judge, and the same command has the descriptions rated.")
        return Page()
    rated = [_rated(request, judge, run, golden[str(run.run["set"])]) for run in described]
    return Page((make(rated, paper=printed("table6")),))


def _golden(request: Request, name: str) -> dict[str, str]:
    """Image -> what experts wrote."""
    items, images = sets.load_descriptions(name, request.options.data_root)
    file = request.judging.golden
    read = items if file is None else read_lldescribe(images, file)
    return {item.image: item.golden for item in read if item.golden is not None}


def _rated(request: Request, judge: Any, described: Results, golden: Mapping[str, str]) -> Results:

    folder = described.folder.with_name(f"{described.folder.name}-by-{safe(str(judge.facts['model']))}")
    again = request.options.retry_failed
    with bar("rating") as progress:
        rounds = request.judging.rounds
        run = judge_run(judge, described, golden, folder, rounds=rounds, retry_failed=again, progress=progress)
    return finished(run)


def make(runs: Sequence[Results], *, paper: Sequence[Mapping[str, object]] = ()) -> Table:
    """One row a model and judge, as the paper prints it: of each dimension P0, P1, P2 in percent and P1 + 2 P2.

    Args:
        runs: Of `benchmarks.judge.judge_run`, whole or not.
        paper: `benchmarks.paper.printed("table6")`.

    Raises:
        EvaluationError: No such runs, or one model, set and judge twice.

    Example:
        >>> make([Results.read(folder)], paper=printed("table6")).rows[-1]["sum"]  # doctest: +SKIP
        3.60
    """
    found = _judged(runs)
    theirs = [{name: value for name, value in row.items() if name != "group"} for row in paper]
    rows = beside([_row(run) for run in found], theirs, COLUMNS)
    formats = {name: ".3f" if name.endswith("score") else ".2f" for name in (*_NUMBERS, "sum")}
    notes = (
        "p0, p1, p2: percent of the ratings 0, 1, 2, over all images and rounds; score: P1 + 2 P2, 0..2; sum: of the "
        "three scores, 0..6.",
        "unparsed: replies of the judge that give no rating; failed: questions to it that got none, or images without "
        "a golden text. Neither counts in a number. descriptions_failed: images that the model did not describe.",
        "The paper does not name its judge; scores by different judges do not compare.",
        *failures(found),
    )
    title = "Table VI: descriptions of image quality (LLDescribe)"
    return Table("table6", title, COLUMNS, tuple(rows), notes, _made(found), formats)


def _judged(runs: Sequence[Results]) -> list[Results]:
    found = [run for run in runs if run.run["kind"] == "judgements"]
    if not found:
        raise EvaluationError.about("runs", "<none of them>", "at least one run of judgements")
    seen: dict[str, Results] = {}
    for run in found:
        key = f"{sorted(identity(run).items(), key=str)} {run.run['set']} {run.run['judge']}"
        if seen.setdefault(key, run) is not run:
            folders = f"<{seen[key].folder} and {run.folder}>"
            raise EvaluationError.about("runs", folders, "one run of a judge on a model's descriptions of a set")
    return found


def _row(run: Results) -> Cells:
    parts = {one: _dimension(run, one) for one in DIMENSIONS}
    scores = [part["score"] for part in parts.values()]
    unparsed = sum(row["reply"] is not None for row in run.failed)
    return {
        **identity(run), "set": run.run["set"], "judge": run.run["judge"]["model"], "rounds": run.run["rounds"],
        **{f"{one}_{name}": value for one, part in parts.items() for name, value in part.items()},
        "sum": None if None in scores else sum(score for score in scores if score is not None),
        "images": run.run["images"], "ratings": len(run.good), "unparsed": unparsed,
        "failed": len(run.failed) - unparsed, "descriptions_failed": run.run["descriptions_failed"],
        "partial": state(run),
    }  # fmt: skip


def _dimension(run: Results, name: str) -> dict[str, float | None]:
    """P0, P1, P2 in percent, and the score."""
    given = [row["rating"] for row in run.good if row["dimension"] == name]
    if not given:
        return {**{f"p{rating}": None for rating in RATINGS}, "score": None}
    shares = {f"p{rating}": 100 * given.count(rating) / len(given) for rating in RATINGS}
    return {**shares, "score": sum(given) / len(given)}


def _made(runs: Sequence[Results]) -> dict[str, object]:
    judges = {str(run.run["judge"]["model"]): run.run["judge"] for run in runs}
    return {"judges": judges, "prompts": ", ".join(sorted({str(run.run["prompts"]) for run in runs}))}
