"""Every table and figure, a record each: what it needs, how it is run, and the page that is made of it.

To add one, write what makes its table (`benchmarks.tables`) or draws it (`benchmarks.figures`), a function here that
puts both on a `Page`, and a record in `ARTEFACTS`; `benchmarks.commands` gives it a command line.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import sets
from benchmarks.options import JudgeOptions, RunOptions, model_name, safe
from benchmarks.page import Page, write, write_html
from benchmarks.paper import printed, radar_rows, under
from benchmarks.runs import Process, Results, awaited, bar, describe_run, question_run, score_run
from qsit_metric import console
from qsit_metric.evaluation import EvaluationError, read_lldescribe
from qsit_metric.prompts import DESCRIBE

if TYPE_CHECKING:
    from qsit_metric import QSiT

_PATIENCE = 900.0  # seconds without a result, after which the other processes are given up


@dataclass
class Request:
    """What one call asks for, and what has been run for it so far.

    Attributes:
        options: Which models on which data, and where results go.
        judging: Who rates descriptions.
        names: Sets; None: all of the kind that are in the data root.
        max_new_tokens: Limit of a reply.
        labels: Folder of label files, for Table II.
        ablation: File of a training, for Table VII.
        sweep: Folders of sweeps, for Fig. 4.
        picture: Picture files, for Fig. 6.
        questions: What is asked about them.
        shapes: Published shapes, for Fig. 7.
        measure: Those of them that are measured, not only counted.
        repeats: Measured rounds of Fig. 7.
        new_tokens: Of an answer of Fig. 7.
        done: Kind -> runs that have ended.
        images: Set -> folder of its images, of the sets that were run on.
    """

    options: RunOptions
    judging: JudgeOptions = field(default_factory=JudgeOptions)
    names: Sequence[str] | None = None
    max_new_tokens: int = 200
    labels: Path | None = None
    ablation: Path | None = None
    sweep: Sequence[Path] = ()
    picture: Sequence[Path] = ()
    questions: Sequence[str] = (DESCRIBE,)
    shapes: Sequence[str] = ("mini", "7b")
    measure: Sequence[str] = ()
    repeats: int = 3
    new_tokens: int = 32
    done: dict[str, list[Results]] = field(default_factory=dict)
    images: dict[str, Path] = field(default_factory=dict)

    @property
    def judge(self) -> str | None:
        """The judge's name."""
        return self.judging.judge

    def found(self, kind: str) -> list[str]:
        """The sets that were named, or all of the kind that are in the data root, whole or not."""
        if self.names:
            return list(self.names)
        there = sets.status(self.options.data_root)
        return [one.name for one in there if one.kind == kind and one.state != "missing" and one.n]

    def runs(self, kind: str, names: Sequence[str] | None = None) -> list[Results]:
        """Run each model on each set; what was done before is read, and not done again.

        Args:
            kind: "scores", "questions", "descriptions" or "ratings" (Table I's question about images with scores).
            names: The sets; default: see `found`.

        Raises:
            EvaluationError: No such sets, or one that cannot be loaded; it shows before a model is fetched.
        """
        if not (chosen := list(names or self.found(kind))):
            hint = "`python -m benchmarks data --data-root FOLDER` says what is missing."
            root = str(self.options.data_root)
            raise EvaluationError.about("--data-root", root, f"a folder with sets of {kind}", hint)
        load, run = _RUNS[kind]
        loaded = {name: load(name, self.options.data_root) for name in chosen}
        self.images |= {name: one[1] if isinstance(one, tuple) else one.root for name, one in loaded.items()}
        ended = []
        for model, metric in self.options.metrics():
            for name in chosen:
                folder = self.options.folder(model, f"{name}-rating" if kind == "ratings" else name)
                with bar(name) as progress:
                    ended.append(finished(run(self, metric, name, loaded[name], folder, progress)))
        self.done[kind] = ended
        return ended


def first() -> bool:
    """Whether this process writes what all have done."""
    return Process.current().rank == 0


def finished(run: Results) -> Results:
    """The results of all processes that share a run, once they are there; of those that have died, what there is."""
    whole = run if run.complete or Process.current().world == 1 else awaited(run.folder, _PATIENCE)
    console.say(f"{whole.run['made']['model']} on {whole.standing()}")
    return whole


def _score(request: Request, metric: QSiT, name: str, manifest: Any, folder: Path, progress: Any) -> Results:
    return score_run(metric, manifest, folder, retry_failed=request.options.retry_failed, progress=progress)


def _ask(request: Request, metric: QSiT, name: str, loaded: Any, folder: Path, progress: Any) -> Results:
    questions, images = loaded
    again = request.options.retry_failed
    return question_run(metric, questions, images, folder, name=name, retry_failed=again, progress=progress)


def _describe(request: Request, metric: QSiT, name: str, loaded: Any, folder: Path, progress: Any) -> Results:
    items, images = loaded
    return describe_run(
        metric, [item.image for item in items], images, folder, name=name, max_new_tokens=request.max_new_tokens,
        retry_failed=request.options.retry_failed, progress=progress,
    )  # fmt: skip


def _rate(request: Request, metric: QSiT, name: str, manifest: Any, folder: Path, progress: Any) -> Results:
    from benchmarks.tables.table1 import PROMPT

    images = list(dict.fromkeys(item.image for item in manifest.items))
    return describe_run(
        metric, images, manifest.root, folder, PROMPT, name=name, max_new_tokens=request.max_new_tokens,
        retry_failed=request.options.retry_failed, progress=progress,
    )  # fmt: skip


_RUNS: Mapping[str, tuple[Callable[..., Any], Callable[..., Results]]] = {
    "scores": (sets.load_scores, _score),
    "questions": (sets.load_questions, _ask),
    "descriptions": (sets.load_descriptions, _describe),
    "ratings": (sets.load_scores, _rate),
}
"""Kind of run -> what loads a set for it, and what runs a model on that."""


# ---- pages


def table1(request: Request) -> Page:
    """How models rate when nobody tells them how."""
    from benchmarks.tables import table1 as table

    return Page((table.make(request.runs("ratings", request.names or ["livec"]), paper=printed("table1")),))


def table2(request: Request) -> Page:
    """What five levels keep of the scores."""
    from benchmarks.tables import table2 as table

    return Page((table.make(_given(request.labels)),))


def table4(request: Request) -> Page:
    """Both tables, a scatter plot of each model, and the images that are furthest off."""
    from benchmarks.figures.canvas import save_png
    from benchmarks.figures.scatter import scatter
    from benchmarks.statistics import furthest
    from benchmarks.tables import table4 as table

    done = request.runs("scores")
    figures, off = {}, []
    for model, rows in table.images(done, request.images).items():
        path = request.options.output / f"table4-{safe(model)}.png"
        figures[f"{model}: scores against people's"] = save_png(scatter(rows, model), path)
        off += furthest(rows)
    return Page((table.make(done, paper=printed("table4")), table.details(done)), figures, tuple(off))


def table5(request: Request) -> Page:
    """The answers, and a table with counts."""
    from benchmarks.tables import table5 as table

    done = request.runs("questions")
    return Page((table.make(done, paper=printed("table5")), table.details(done)))


def table6(request: Request) -> Page:
    """The ratings of descriptions, or nothing if there is no judge: then the descriptions are made and kept.

    Raises:
        EvaluationError: A judge, and no golden text; it is said before anything is described.
    """
    from benchmarks.tables import table6 as table

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
    return Page((table.make(rated, paper=printed("table6")),))


def _golden(request: Request, name: str) -> dict[str, str]:
    """Image -> what experts wrote."""
    items, images = sets.load_descriptions(name, request.options.data_root)
    file = request.judging.golden
    read = items if file is None else read_lldescribe(images, file)
    return {item.image: item.golden for item in read if item.golden is not None}


def _rated(request: Request, judge: Any, described: Results, golden: Mapping[str, str]) -> Results:
    from benchmarks.judge import judge_run

    folder = described.folder.with_name(f"{described.folder.name}-by-{safe(str(judge.facts['model']))}")
    again = request.options.retry_failed
    with bar("rating") as progress:
        rounds = request.judging.rounds
        return finished(
            judge_run(judge, described, golden, folder, rounds=rounds, retry_failed=again, progress=progress)
        )


def table7(request: Request) -> Page:
    """What each set and each step of the balance strategy brings."""
    from benchmarks.tables import table7 as table

    path = _given(request.ablation)
    return Page((table.make(table.read(path), paper=printed("table7"), made={"file": path.name}),))


def fig4(request: Request) -> Page:
    """The curves of sweeps."""
    from benchmarks.figures import mix
    from benchmarks.figures.canvas import save_png

    path = save_png(mix.mix(mix.read_fits(request.sweep)), request.options.output / "fig4.png")
    return Page(figures={"Fig. 4: performance over the mix ratio": path})


def fig5(request: Request) -> Page:
    """The rings of the paper, and of what has been run."""
    from benchmarks.figures import radar
    from benchmarks.figures.canvas import save_png

    rows = under(radar.rows(request.done.get("scores", ()), request.done.get("questions", ())), radar_rows())
    caption = "Fig. 5: (SRCC + PLCC) / 2 on each set, and accuracy on each kind of question"
    return Page(figures={caption: save_png(radar.radar(rows), request.options.output / "fig5.png")})


def fig6(request: Request) -> Page:
    """Pictures with what each model makes of them."""
    from benchmarks.figures import answers

    shown = {}
    for model, metric in request.options.metrics():
        collected = answers.collect(metric, request.picture, request.questions)
        shown[f"Fig. 6: scores and answers of {model_name(model)}"] = answers.fragment(collected)
    return Page(answers=shown)


def fig7(request: Request) -> Page:
    """The table, and bars of the means."""
    from benchmarks.figures.bars import bars
    from benchmarks.figures.canvas import save_png
    from benchmarks.tables import fig7 as table

    options, shapes = request.options, list(request.shapes)
    metrics = {model_name(name): metric for name, metric in options.metrics()} if options.models else {}
    if strange := sorted(set(request.measure) - set(shapes)):
        raise EvaluationError.about("--measure", strange[0], f"one of {', '.join(shapes)}")
    made = table.make(
        shapes, metrics, table.Task(repeats=request.repeats, new_tokens=request.new_tokens),
        measure={*request.measure, *metrics}, device=options.device or "cpu", dtype=options.dtype or "float32",
        reference="7b" if "7b" in shapes else [*shapes, *metrics][0], paper=printed("fig7"),
    )  # fmt: skip
    path = save_png(bars(table.means(made)), options.output / "fig7.png")
    return Page((made,), {"Fig. 7: what a picture costs, mean of a score and an answer": path})


def discrepancies(request: Request) -> Page:
    """Printed numbers of the paper that do not follow from each other."""
    from benchmarks.paper.discrepancies import discrepancies as table

    return Page((table(),))


def _given(path: Path | None) -> Path:
    if path is None:
        raise EvaluationError.about("path", None, "the file or folder that this is made of")
    return path


# ---- records


@dataclass(frozen=True)
class Artefact:
    """One table or figure.

    Attributes:
        name: Its command, and the stem of its files.
        page: Runs what is missing, and makes the page.
        kind: Of the sets that a model is run on; empty: none.
        only: The sets that are taken if none is named; empty: all of the kind.
        wants: The field of `Request`, which is an option of `all`, that it cannot do without.
        html: Title of a page of its own; empty: it has none.
    """

    name: str
    page: Callable[[Request], Page]
    kind: str = ""
    only: tuple[str, ...] = ()
    wants: str = ""
    html: str = ""

    def missing(self, request: Request) -> str:
        """Why it cannot be made of what is there; empty if it can."""
        root = request.options.data_root
        found = request.found(self.kind) if self.kind else []
        if self.kind and not found:
            return f"no set of {self.kind} in {root}"
        if lacking := [name for name in self.only if name not in found]:
            return f"no {lacking[0]} in {root}"
        return f"no --{self.wants}" if self.wants and not getattr(request, self.wants) else ""

    def produce(self, request: Request) -> None:
        """Make it and write its files; of several processes all run, and the first writes."""
        if not (self.kind or first()):
            return
        page = self.page(request)
        if first():
            write(page, request.options.output)
            if self.html:
                write_html(page, request.options.output / f"{self.name}.html", self.html)


ARTEFACTS = (
    Artefact("table1", table1, kind="scores", only=("livec",)),
    Artefact("table2", table2, wants="labels"),
    Artefact("table4", table4, kind="scores", html="Agreement of scores with people"),
    Artefact("table5", table5, kind="questions"),
    Artefact("table6", table6, kind="descriptions", wants="judge"),
    Artefact("table7", table7, wants="ablation"),
    Artefact("fig4", fig4, wants="sweep"),
    Artefact("fig5", fig5),
    Artefact("fig6", fig6, wants="picture", html="Scores and answers"),
    Artefact("fig7", fig7),
    Artefact("discrepancies", discrepancies),
)

BY_NAME: Mapping[str, Artefact] = {one.name: one for one in ARTEFACTS}
