"""Fig. 7: what a score and an answer cost in time, memory and operations, with one model for both or one for each.

Paper: Q-SiT, arXiv 2503.09197, Sec. IV-H: Q-Instruct, which answers, Q-Align, which scores, and Q-SiT and Q-SiT-mini,
which do both, as averages over all test tasks on one A800. The heights of its bars are not printed, only how much less
Q-SiT-mini needs than Q-SiT. The models of those who do one thing are not rebuilt here: "two models" is one of the same
shape for each task.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from benchmarks.output import Table
from benchmarks.tables.fig7_clock import clock
from benchmarks.tables.fig7_costs import COLUMNS, GIVEN, MEAN, RANDOM, RATIOS, TWO, Found, shares
from benchmarks.tables.fig7_counts import Counter, Counts
from benchmarks.tables.shared import Cells, beside
from qsit_metric.evaluation import EvaluationError

if TYPE_CHECKING:
    from qsit_metric import QSiT

_BUSY = 0.1  # cores


@dataclass(frozen=True)
class Task:
    """What is done to a picture.

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
        shapes: Published shapes of `benchmarks._model.SHAPES`, with random weights: neither time nor memory depends on
            their values.
        metrics: Name -> a metric to be measured as it is. Operations are counted for LLaVA-OneVision checkpoints only.
        task: What is done.
        measure: Whether time and memory are measured, too, or the names for which they are; without, no model is built.
        device: Of the models with random weights.
        dtype: Likewise; a name of `benchmarks._model.DTYPES`.
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


def _check(shapes: Sequence[str], given: Collection[str], measure: bool | Collection[str], dtype: str) -> None:
    from benchmarks._model import DTYPES, SHAPES

    names = [*shapes, *given]
    if not names or len(set(names)) < len(names) or not set(shapes) <= set(SHAPES):
        expected = f"at least one model, each name once, and shapes among {', '.join(SHAPES)}"
        raise EvaluationError.about("shapes, metrics", names, expected)
    if not isinstance(measure, bool) and (strange := sorted(set(measure) - set(names))):
        raise EvaluationError.about("measure", strange, f"names among {', '.join(names)}")
    if dtype not in DTYPES:
        raise EvaluationError.about("dtype", dtype, f"one of {', '.join(DTYPES)}")


def _of_shape(name: str, task: Task, timed: bool, device: str, dtype: str) -> Found:
    import torch

    from benchmarks._model import DTYPES, SHAPES, build_backend
    from qsit_metric import QSiT

    if timed:
        backend = build_backend(SHAPES[name], DTYPES[dtype], torch.device(device))
        return _of_metric(name, QSiT(backend), RANDOM, task, timed)
    counts = _counts_of_shape(name, task.width, task.height, task.new_tokens)
    return Found(
        name, RANDOM, counts.parameters, DTYPES[dtype].itemsize * counts.parameters, dtype, task.new_tokens, counts
    )


@functools.cache  # the same in every page of a process, and some seconds each time
def _counts_of_shape(name: str, width: int, height: int, new_tokens: int) -> Counts:
    from benchmarks._model import SHAPES, dialogue, model_config, stored, stored_geometry
    from qsit_metric.prompts import AUTHORS

    config = model_config(stored("config.json"), SHAPES[name])
    return Counter(config, *dialogue(), stored_geometry(), AUTHORS).count(width, height, new_tokens)


def _of_metric(name: str, metric: QSiT, weights: str, task: Task, timed: bool) -> Found:
    from benchmarks._flows import photo

    clocked = clock(metric, photo(task.width, task.height), task.new_tokens, task.repeats) if timed else None
    new_tokens = clocked.new_tokens if clocked else task.new_tokens
    values = list(metric.backend.model.parameters()) if hasattr(metric.backend, "model") else []
    size = sum(value.numel() * value.element_size() for value in values)
    return Found(
        name, weights, sum(value.numel() for value in values), size, str(metric.info["dtype"]), new_tokens,
        _counted(metric, task, new_tokens), clocked, str(metric.device) if timed else None,
    )  # fmt: skip


def _counted(metric: QSiT, task: Task, new_tokens: int) -> Counts | None:
    from qsit_metric.backends.llava_onevision import LlavaOnevisionBackend

    backend = metric.backend
    if not isinstance(backend, LlavaOnevisionBackend):
        return None
    chat = backend._dialogue
    counter = Counter(backend.model.config, chat.tokenizer, chat.template, backend.geometry, metric.recipe)
    return counter.count(task.width, task.height, new_tokens)


def _printed(paper: Sequence[Mapping[str, object]]) -> list[Cells]:
    """The models about which the paper's text says something."""
    rows = [{"model": row["model"], "task": MEAN, **{name: row[name] for name in RATIOS}} for row in paper]
    return [row for row in rows if any(row[name] is not None for name in RATIOS)]


def _notes(found: Sequence[Found], reference: str) -> tuple[str, ...]:
    busy = max((one.clocked.others or 0.0 for one in found if one.clocked), default=0.0) > _BUSY
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
    import torch

    from benchmarks._report import conditions

    place = torch.device(device)
    kept = ("date", "cpu", "cores", "threads", "gpu", "python", "torch", "transformers", "pillow", "qsit_metric")
    machine = asdict(conditions(place, "", ""))
    return {**asdict(task), "reference": reference, **{name: machine[name] for name in kept}}
