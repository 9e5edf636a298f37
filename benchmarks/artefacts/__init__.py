"""Every table and figure: a record that says what it needs, and a module that makes it.

To add one, write a module here with `page(request)`, which puts its table or figure on a `Page`, and a record in
`ARTEFACTS`; `benchmarks.commands` gives it a command line.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import sets
from benchmarks.options import JudgeOptions, RunOptions
from benchmarks.page import Page, write, write_html
from benchmarks.runs import Process, Results, awaited, bar, describe_run, question_run, score_run
from qsit_metric import console
from qsit_metric.evaluation import EvaluationError
from qsit_metric.prompts import DESCRIBE

if TYPE_CHECKING:
    from qsit_metric import QSiT

RATE = "How would you rate the quality of the image?"
"""What Table I asks, as in its caption; the text before it has a full stop in place of the question mark."""

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

    def given(self, name: str) -> Any:
        """What was said of an option that this cannot do without.

        Raises:
            EvaluationError: Nothing.
        """
        if not (value := getattr(self, name)):
            raise EvaluationError.about(f"--{name}", None, "what this is made of")
        return value

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
        loaded = {name: _LOADERS[kind](name, self.options.data_root) for name in chosen}
        self.images |= {name: one[1] if isinstance(one, tuple) else one.root for name, one in loaded.items()}
        ended = []
        for model, metric in self.options.metrics():
            for name in chosen:
                folder = self.options.folder(model, f"{name}-rating" if kind == "ratings" else name)
                ended.append(finished(_run(self, kind, metric, name, loaded[name], folder)))
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


_LOADERS: Mapping[str, Callable[..., Any]] = {
    "scores": sets.load_scores,
    "questions": sets.load_questions,
    "descriptions": sets.load_descriptions,
    "ratings": sets.load_scores,
}
"""Kind of run -> what loads a set for it."""


def _run(request: Request, kind: str, metric: QSiT, name: str, loaded: Any, folder: Path) -> Results:
    """Run a model on a set."""
    with bar(name) as progress:
        again: dict[str, Any] = {"retry_failed": request.options.retry_failed, "progress": progress}
        if kind == "scores":
            return score_run(metric, loaded, folder, **again)
        if kind == "questions":
            questions, root = loaded
            return question_run(metric, questions, root, folder, name=name, **again)
        again |= {"name": name, "max_new_tokens": request.max_new_tokens}
        if kind == "descriptions":
            items, root = loaded
            return describe_run(metric, [item.image for item in items], root, folder, **again)
        images = list(dict.fromkeys(item.image for item in loaded.items))
        return describe_run(metric, images, loaded.root, folder, RATE, **again)


@dataclass(frozen=True)
class Artefact:
    """One table or figure; its module here has `page(request)`, which runs what is missing and makes the page.

    Attributes:
        name: Its module, its command, and the stem of its files.
        kind: Of the sets that a model is run on; empty: none.
        only: The sets that are taken if none is named; empty: all of the kind.
        wants: The field of `Request`, which is an option of `all`, that it cannot do without.
        html: Title of a page of its own; empty: it has none.
    """

    name: str
    kind: str = ""
    only: tuple[str, ...] = ()
    wants: str = ""
    html: str = ""

    def page(self, request: Request) -> Page:
        """Run what is missing, and make the page.

        Raises:
            QSiTError: Something that it needs is not there or cannot be used.
        """
        made: Page = import_module(f"{__name__}.{self.name}").page(request)
        return made

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
    Artefact("table1", kind="scores", only=("livec",)),
    Artefact("table2", wants="labels"),
    Artefact("table4", kind="scores", html="Agreement of scores with people"),
    Artefact("table5", kind="questions"),
    Artefact("table6", kind="descriptions", wants="judge"),
    Artefact("table7", wants="ablation"),
    Artefact("fig4", wants="sweep"),
    Artefact("fig5"),
    Artefact("fig6", wants="picture", html="Scores and answers"),
    Artefact("fig7"),
    Artefact("discrepancies"),
)

BY_NAME: Mapping[str, Artefact] = {one.name: one for one in ARTEFACTS}
