"""Fig. 7: what a score and an answer cost in time, memory and operations, with one model for both or one for each.

Paper: Q-SiT, arXiv 2503.09197, Sec. IV-H: Q-Instruct, which answers, Q-Align, which scores, and Q-SiT and Q-SiT-mini,
which do both, as averages over all test tasks on one A800. The heights of its bars are not printed, only how much less
Q-SiT-mini needs than Q-SiT. The models of those who do one thing are not rebuilt here: "two models" is one of the same
shape for each task.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, median
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.artefacts.shared import Cells, beside
from benchmarks.canvas import MUTED, colour, new_figure, plain, save_png
from benchmarks.cost.clock import BUSY, interleaved, memory_of
from benchmarks.cost.counting import Counter, Counts
from benchmarks.cost.mixed import photo
from benchmarks.cost.models import DTYPES, SHAPES, build_backend, dialogue, shaped_config, stored_geometry
from benchmarks.cost.report import conditions
from benchmarks.options import model_name
from benchmarks.output import Table
from benchmarks.page import Page
from benchmarks.paper import number, printed
from qsit_metric import QSiT
from qsit_metric.backends.llava_onevision import LlavaOnevisionBackend
from qsit_metric.evaluation import EvaluationError
from qsit_metric.model.config import Config
from qsit_metric.prompts import AUTHORS, DESCRIBE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from benchmarks.artefacts import Request

SCORE, ANSWER, MEAN = "score", "answer", "mean of score and answer"
ONE, TWO = "score and answer, one model", "score and answer, two models"
RANDOM, GIVEN = "random", "given"

COLUMNS = (
    "model", "source", "weights", "task", "parameters", "weights_gib", "tflop", "flops_of_qsit", "latency",
    "latency_low", "latency_high", "latency_of_qsit", "memory_mib", "vram_of_qsit", "tiles", "image_tokens",
    "new_tokens", "others", "device", "dtype",
)  # fmt: skip
"""Latency in seconds, operations in 1e12; "..._of_qsit" is the share of what the reference needs for the same task."""

RATIOS: Mapping[str, str] = MappingProxyType(
    {"flops_of_qsit": "tflop", "latency_of_qsit": "latency", "vram_of_qsit": "memory_mib"}
)
"""Column of a share -> column of what it is a share of."""


def page(request: Request) -> Page:
    """The table, and bars of the means."""
    options, shapes = request.options, list(request.shapes)
    metrics = {model_name(name): metric for name, metric in options.metrics()} if options.models else {}
    if strange := sorted(set(request.measure) - set(shapes)):
        raise EvaluationError.about("--measure", strange[0], f"one of {', '.join(shapes)}")
    made = make(
        shapes, metrics, Task(repeats=request.repeats, new_tokens=request.new_tokens),
        measure={*request.measure, *metrics}, device=options.device or "cpu", dtype=options.dtype or "float32",
        reference="7b" if "7b" in shapes else [*shapes, *metrics][0], paper=printed("fig7"),
    )  # fmt: skip
    path = save_png(bars(means(made)), options.output / "fig7.png")
    return Page((made,), {"Fig. 7: what a picture costs, mean of a score and an answer": path})


@dataclass(frozen=True)
class Cost:
    """Cost of one task; None where it was neither counted nor measured."""

    tflop: float | None = None
    latency: float | None = None
    latency_low: float | None = None
    latency_high: float | None = None
    memory_mib: float | None = None


@dataclass(frozen=True)
class Found:
    """What was counted and measured of one model.

    Attributes:
        name: Its name.
        weights: `RANDOM` or `GIVEN`.
        parameters: Their number; 0 if it is not known.
        bytes: That they take.
        dtype: Their type.
        new_tokens: Of the answer.
        counts: What was counted, or None.
        clocked: What was measured, or None.
        device: Where.
    """

    name: str
    weights: str
    parameters: int
    bytes: int
    dtype: str
    new_tokens: int
    counts: Counts | None = None
    clocked: Clocked | None = None
    device: str | None = None

    def rows(self) -> list[Cells]:
        """A score, an answer, their mean, and both with one model and with two."""
        score, answer, both = (self._cost(task) for task in ("score", "answer", "both"))
        beside_it = self.bytes / 2**20  # of the model that waits
        return [
            self._row(SCORE, score, new_tokens=None),
            self._row(ANSWER, answer),
            self._row(MEAN, _joined(score, answer, fmean, fmean)),
            self._row(ONE, both),
            self._row(TWO, _joined(score, answer, sum, lambda peaks: max(peaks) + beside_it), models=2),
        ]

    def _cost(self, task: str) -> Cost:
        tflop = getattr(self.counts, task) if self.counts else None
        if self.clocked is None:
            return Cost(tflop)
        times = self.clocked.seconds[task]
        return Cost(tflop, median(times), min(times), max(times), self.clocked.memory[task])

    def _row(self, task: str, cost: Cost, models: int = 1, **changed: object) -> Cells:
        counts, clocked = self.counts, self.clocked
        cells: Cells = {
            "model": self.name, "source": "measured" if clocked else "counted", "weights": self.weights, "task": task,
            "parameters": models * self.parameters or None, "weights_gib": models * self.bytes / 2**30 or None,
            **vars(cost), "tiles": counts.tiles if counts else None, "image_tokens": counts.tokens if counts else None,
            "new_tokens": self.new_tokens, "others": clocked.others if clocked else None, "device": self.device,
            "dtype": self.dtype,
        }  # fmt: skip
        return {**cells, **changed}


def shares(rows: Sequence[Cells], reference: str) -> list[Cells]:
    """Add to each row its numbers over those of the reference model in the same task, in the columns of `RATIOS`."""
    base = {row["task"]: row for row in rows if row["model"] == reference}
    return [{**row, **_shares(row, base.get(row["task"], {}))} for row in rows]


def _shares(row: Mapping[str, object], base: Mapping[str, object]) -> Cells:
    pairs = {name: (row[column], base.get(column)) for name, column in RATIOS.items()}
    return {
        name: mine / theirs if isinstance(mine, (int, float)) and isinstance(theirs, (int, float)) and theirs else None
        for name, (mine, theirs) in pairs.items()
    }


Join = Callable[[Iterable[float]], float]


def _joined(first: Cost, second: Cost, how: Join, memory: Join) -> Cost:
    """Cost of two tasks together; unknown as soon as that of one of them is."""
    return Cost(
        _of_both(how, first.tflop, second.tflop),
        _of_both(how, first.latency, second.latency),
        memory_mib=_of_both(memory, first.memory_mib, second.memory_mib),
    )


def _of_both(how: Join, first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else how((first, second))


TASKS = ("score", "answer", "both")


@dataclass(frozen=True)
class Clocked:
    """What was measured.

    Attributes:
        seconds: Task -> every measured round.
        memory: Task -> most memory while it ran, the loaded model included, in MiB: allocated on CUDA, resident
            elsewhere, with the program itself; None where the system does not say.
        new_tokens: That the answers really had: a model may stop before the limit.
        others: Cores that other processes kept busy meanwhile; None where the system does not say.
    """

    seconds: Mapping[str, list[float]]
    memory: Mapping[str, float | None]
    new_tokens: int
    others: float | None


def clock(metric: QSiT, image: Any, new_tokens: int, repeats: int) -> Clocked:
    """Measure a metric on one picture, after a round that does not count.

    Args:
        metric: The metric.
        image: A picture, decoded.
        new_tokens: Limit of an answer.
        repeats: Measured rounds.
    """
    flows = _flows(metric, image, new_tokens)
    rounds = interleaved(flows, repeats, metric.device)
    found = {task: memory_of(work, metric.device) for task, work in flows.items()}
    memory = {task: one.peak if one else None for task, one in found.items()}
    return Clocked(rounds.times, memory, rounds.first["answer"], rounds.others)


def _flows(metric: QSiT, image: Any, new_tokens: int) -> dict[str, Callable[[], int]]:
    """Function of each task, which does it and says how many tokens it wrote."""

    def score() -> int:
        metric.score(image)
        return 0

    def answer() -> int:
        return len(metric.ask(image, DESCRIBE, max_new_tokens=new_tokens).tokens)

    def both() -> int:
        with metric.open(image) as view:
            view.score()
            return len(view.ask(DESCRIBE, max_new_tokens=new_tokens).tokens)

    return dict(zip(TASKS, (score, answer, both), strict=True))


@dataclass(frozen=True)
class Task:
    """Settings of what is done to a picture.

    Attributes:
        width: Of the picture, in pixels.
        height: Likewise.
        new_tokens: Of the answer.
        repeats: Measured rounds; the latency is their median.
    """

    width: int = 1024
    height: int = 768
    new_tokens: int = 32
    repeats: int = 3

    def __post_init__(self) -> None:
        if min(asdict(self).values()) < 1:
            raise EvaluationError.about("task", self, "whole numbers of 1 or more")


def make(
    shapes: Sequence[str] = ("mini", "7b"),
    metrics: Mapping[str, QSiT] | None = None,
    task: Task | None = None,
    *,
    measure: bool | Collection[str] = True,
    device: str = "cpu",
    dtype: str = "float32",
    reference: str = "7b",
    paper: Sequence[Mapping[str, object]] = (),
) -> Table:
    """Five rows a model: a score, an answer, their mean, and both with one model and with two.

    Args:
        shapes: Published shapes of `benchmarks.cost.models.SHAPES`, with random weights: neither time nor memory
            depends on their values.
        metrics: Name -> a metric to be measured as it is. Operations are counted for LLaVA-OneVision checkpoints only.
        task: What is done.
        measure: Whether time and memory are measured, too, or the names for which they are; without, no model is built.
        device: Of the models with random weights.
        dtype: Likewise; a name of `benchmarks.cost.models.DTYPES`.
        reference: The model of which the shares are taken, Q-SiT in the paper.
        paper: `benchmarks.paper.printed("fig7")`.

    Raises:
        EvaluationError: No model, a name twice, or an unknown one.

    Example:
        >>> make(("mini", "7b"), measure=False, paper=printed("fig7")).rows[-1]["parameters"]  # doctest: +SKIP
        16060697664
    """
    job, given = task or Task(), dict(metrics or {})
    _check(shapes, given, measure, dtype)
    timed = {*shapes, *given} if measure is True else set(measure or ())
    found = [_of_shape(name, job, name in timed, device, dtype) for name in shapes]
    found += [_of_metric(name, metric, GIVEN, job, name in timed) for name, metric in given.items()]
    rows = shares([row for one in found for row in one.rows()], reference)
    formats = {"weights_gib": ".2f", "memory_mib": ".0f", "others": ".1f"}
    title = "Fig. 7: cost of a score and of an answer"
    table = tuple(beside(rows, _printed(paper), COLUMNS))
    return Table("fig7", title, COLUMNS, table, _notes(found, reference), _made(job, reference, device), formats)


def means(table: Table) -> list[Cells]:
    """Mean of a score and an answer of each model, as `bars` draws it."""
    return [
        {
            "model": row["model"], "latency": row["latency"], "tflop": row["tflop"],
            "memory": row["memory_mib"] / 1024 if isinstance(row["memory_mib"], (int, float)) else None,
        }
        for row in table.rows
        if row["task"] == MEAN and row["source"] != "paper"
    ]  # fmt: skip


def _check(shapes: Sequence[str], given: Collection[str], measure: bool | Collection[str], dtype: str) -> None:
    names = [*shapes, *given]
    if not names or len(set(names)) < len(names) or not set(shapes) <= set(SHAPES):
        expected = f"at least one model, each name once, and shapes among {', '.join(SHAPES)}"
        raise EvaluationError.about("shapes, metrics", names, expected)
    if not isinstance(measure, bool) and (strange := sorted(set(measure) - set(names))):
        raise EvaluationError.about("measure", strange, f"names among {', '.join(names)}")
    if dtype not in DTYPES:
        raise EvaluationError.about("dtype", dtype, f"one of {', '.join(DTYPES)}")


def _of_shape(name: str, task: Task, timed: bool, device: str, dtype: str) -> Found:
    if timed:
        backend = build_backend(SHAPES[name], DTYPES[dtype], torch.device(device))
        return _of_metric(name, QSiT(backend), RANDOM, task, timed)
    counts = _counts_of_shape(name, task.width, task.height, task.new_tokens)
    return Found(
        name, RANDOM, counts.parameters, DTYPES[dtype].itemsize * counts.parameters, dtype, task.new_tokens, counts
    )


@functools.cache  # the same in every page of a process, and some seconds each time
def _counts_of_shape(name: str, width: int, height: int, new_tokens: int) -> Counts:
    config = Config.of(shaped_config(SHAPES[name]))
    return Counter(config, *dialogue(), stored_geometry(), AUTHORS).count(width, height, new_tokens)


def _of_metric(name: str, metric: QSiT, weights: str, task: Task, timed: bool) -> Found:
    clocked = clock(metric, photo(task.width, task.height), task.new_tokens, task.repeats) if timed else None
    new_tokens = clocked.new_tokens if clocked else task.new_tokens
    values = list(metric.backend.model.parameters()) if hasattr(metric.backend, "model") else []
    size = sum(value.numel() * value.element_size() for value in values)
    return Found(
        name, weights, sum(value.numel() for value in values), size, str(metric.info["dtype"]), new_tokens,
        _counted(metric, task, new_tokens), clocked, str(metric.device) if timed else None,
    )  # fmt: skip


def _counted(metric: QSiT, task: Task, new_tokens: int) -> Counts | None:
    backend = metric.backend
    if not isinstance(backend, LlavaOnevisionBackend):
        return None
    chat = backend._dialogue
    counter = Counter(backend.model.config, chat.tokenizer, chat.template, backend.geometry, metric.recipe)
    return counter.count(task.width, task.height, new_tokens)


def _printed(paper: Sequence[Mapping[str, object]]) -> list[Cells]:
    """The paper's rows with at least one number."""
    rows = [{"model": row["model"], "task": MEAN, **{name: row[name] for name in RATIOS}} for row in paper]
    return [row for row in rows if any(row[name] is not None for name in RATIOS)]


def _notes(found: Sequence[Found], reference: str) -> tuple[str, ...]:
    busy = max((one.clocked.others or 0.0 for one in found if one.clocked), default=0.0) > BUSY
    return (
        f"..._of_qsit: share of what {reference} needs for the same task. The paper prints these shares only, as "
        "averages over its tasks; the heights of its bars, and all of Q-Instruct and Q-Align, are nowhere printed.",
        "weights random: the published shape with random weights; time and memory do not depend on their values, but "
        "such a model never stops before the limit of tokens.",
        "tflop: matrix products by torch.utils.flop_counter, attention in full, counted without weights or memory; "
        "1e12 operations, a multiplication with its addition is two.",
        "latency: seconds, median of the rounds. memory_mib: on CUDA most that was allocated, elsewhere most resident "
        "memory of the program; both with the loaded model.",
        f"{TWO}: one model of this shape for each task, each reading the picture; sums of the two tasks, and in memory "
        "the larger of them beside the other model's weights.",
        *(("Other processes kept the machine busy (column others): times are too long.",) if busy else ()),
    )


def _made(task: Task, reference: str, device: str) -> dict[str, object]:
    place = torch.device(device)
    kept = ("date", "cpu", "cores", "threads", "gpu", "python", "torch", "transformers", "pillow", "qsit_metric")
    machine = asdict(conditions(place, "", ""))
    return {**asdict(task), "reference": reference, **{name: machine[name] for name in kept}}


COSTS: Mapping[str, str] = MappingProxyType(
    {
        "latency": "latency\n(seconds per picture)",
        "memory": "peak memory\n(GiB)",
        "tflop": "operations\n($10^{12}$ per picture)",
    }
)
"""Column -> name and unit of its axis."""


def bars(rows: Sequence[Mapping[str, object]], costs: Mapping[str, str] = COSTS) -> Figure:
    """Draw the costs of several models; less is better.

    Args:
        rows: One for each model, with "model" and the columns of `costs`, 0 or above; None was not measured, and its
            place says so.
        costs: Column -> name and unit of its axis, a panel each.

    Returns:
        One panel for each cost, models from top to bottom.

    Raises:
        EvaluationError: No rows, or a negative cost.
        DependencyError: matplotlib is not installed.

    Example:
        >>> rows = [{"model": "7B", "latency": 0.4, "memory": 16.0, "tflop": 60.0}]
        >>> len(bars(rows).axes)
        3
    """
    if not rows:
        raise EvaluationError.about("rows", "<no rows>", "at least one model")
    figure = new_figure(3.4 * len(costs) + 1.2, 0.55 * len(rows) + 1.4)
    places = figure.subplots(1, len(costs), sharey=True, squeeze=False).ravel()
    for axes, (name, label) in zip(places, costs.items(), strict=True):
        _panel(axes, [None if row[name] is None else number(row, name) for row in rows])
        axes.set_xlabel(label, fontsize=10.5)
    places[0].set_yticks(range(len(rows)), [str(row["model"]) for row in rows], fontsize=10.5)
    places[0].set_ylim(len(rows) - 0.4, -0.6)  # the first on top
    return figure


def _panel(axes: Axes, values: Sequence[float | None]) -> None:
    if wrong := [value for value in values if value is not None and value < 0]:
        raise EvaluationError.about("rows", wrong[0], "costs of 0 or above")
    most = max((value for value in values if value is not None), default=0.0) or 1.0
    for place, value in enumerate(values):
        axes.barh(place, value or 0.0, height=0.62, color=colour(place))
        text, tint = ("not measured", MUTED) if value is None else (f"{value:.3g}", "black")
        axes.annotate(
            text, (value or 0.0, place), (4, 0), textcoords="offset points", va="center", fontsize=9.5, color=tint
        )
    axes.set_xlim(0, most * 1.22)  # room for the number behind the longest bar
    plain(axes)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
