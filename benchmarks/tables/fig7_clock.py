"""Latency and peak memory of a score, an answer, and both behind one reading of the picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qsit_metric.prompts import DESCRIBE

if TYPE_CHECKING:
    import torch

    from qsit_metric import QSiT

TASKS = ("score", "answer", "both")

_PEAK = Path("/proc/self/clear_refs")  # writing 5 sets the peak of the resident memory back; Linux


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
    from benchmarks._measure import interleaved

    flows = _flows(metric, image, new_tokens)
    rounds = interleaved(flows, repeats, metric.device)
    memory = {task: _peak(work, metric.device) for task, work in flows.items()}
    return Clocked(rounds.times, memory, rounds.first["answer"], rounds.others)


def _flows(metric: QSiT, image: Any, new_tokens: int) -> dict[str, Callable[[], int]]:
    """Task -> what does it and says how many tokens it wrote."""

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


def _peak(work: Callable[[], object], device: torch.device) -> float | None:
    """Most memory during a call, in MiB."""
    from benchmarks._measure import peak_memory

    if not _set_back(device):
        return None
    work()
    return peak_memory(device)


def _set_back(device: torch.device) -> bool:
    import torch

    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return True
    try:
        _PEAK.write_text("5", encoding="ascii")
    except OSError:
        return False
    return True
