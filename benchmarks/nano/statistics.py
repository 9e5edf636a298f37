"""What scores and replies say about a model, and whether that is what is asked of it. Pure."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.nano.evaluate import RULES, Replied, Scored
from benchmarks.nano.pictures import MONOTONE
from benchmarks.nano.questions import KINDS, text_only
from benchmarks.nano.training import DISTORTIONS, LEVELS
from benchmarks.statistics import Interval, wilson
from qsit_metric.evaluation import UndefinedError, bootstrap_interval, correlate
from qsit_metric.evaluation.correlations import STATISTICS

_ROUNDS = 1000
Pairs = Sequence[tuple[float, float]]


def scoring(scored: Sequence[Scored], seed: int) -> dict[str, Any]:
    """Correlations over the sample, with and without the untouched photographs, and of each type.

    Returns:
        "all", "degraded" (n, srcc, plcc and their 95 % intervals over photographs), "pristine" (n, mean score), and
        "by_type" (type -> n, srcc; all its pictures and the untouched photographs).
    """
    good = [one for one in scored if one.score is not None]
    sampled = [one for one in good if one.case.sampled]
    pristine = [one for one in good if one.case.kind is None]
    scores = [value for _, value in _pairs(pristine)]
    return {
        "all": _correlations(sampled, seed),
        "degraded": _correlations([one for one in sampled if one.case.kind], seed),
        "pristine": {"n": len(pristine), "mean": fmean(scores) if scores else None},
        "by_type": {kind: _of_type(good, pristine, kind) for kind in DISTORTIONS},
        "beside_the_sample": sum(not one.case.sampled for one in good),
    }


def monotone(scored: Sequence[Scored]) -> dict[str, Any]:
    """For each type of `MONOTONE`: mean score at levels 1 to 5, whether it falls at each, and by photograph.

    Returns:
        type -> means (None where nothing was scored), falls, share of photographs whose level 5 is below level 1, n.
    """
    cells = {(one.case.kind, one.case.level, one.case.photograph): one.score for one in scored if one.score is not None}
    photographs = sorted({one.case.photograph for one in scored})
    return {kind: _levels(kind, cells, photographs) for kind in MONOTONE}


def answering(replied: Sequence[Replied]) -> dict[str, Any]:
    """Accuracy of each kind of question by each rule, with Wilson's 95 % interval, beside what is had without seeing.

    Returns:
        kind -> n, rule -> (accuracy, interval, hidden), text_only. Accuracies are 0..1, None without questions.
    """
    good = [one for one in replied if not one.error]
    chances = text_only([one.asked for one in good])
    found: dict[str, Any] = {}
    for kind in KINDS:
        picked = [(one, chance) for one, chance in zip(good, chances, strict=True) if one.asked.question.type == kind]
        rules = {rule: _by_rule([one for one, _ in picked], rule) for rule in RULES}
        found[kind] = {"n": len(picked), **rules, "text_only": fmean(c for _, c in picked) if picked else None}
    return found


def over_photographs(groups: Mapping[str, Pairs], statistic: str, seed: int) -> Interval | None:
    """95 % interval of a correlation on other photographs: whole photographs are drawn, with all their pictures.

    Args:
        groups: Photograph -> (label, score) of its pictures.
        statistic: A key of `STATISTICS`.
        seed: Equal seeds give equal intervals.

    Returns:
        Lower and upper bound; None where the correlation is undefined.
    """
    arrays = [np.array(pairs, dtype=np.float64).reshape(-1, 2) for _, pairs in sorted(groups.items())]

    def drawn(places: npt.NDArray[np.float64], _: npt.NDArray[np.float64]) -> float:
        rows = np.concatenate([arrays[int(place)] for place in places])
        return STATISTICS[statistic](rows[:, 1], rows[:, 0])

    numbers = range(len(arrays))
    try:
        return bootstrap_interval(numbers, numbers, drawn, seed=seed, rounds=_ROUNDS)
    except UndefinedError:
        return None


def _correlations(scored: Sequence[Scored], seed: int) -> dict[str, Any]:
    groups: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for one, pair in zip(scored, _pairs(scored), strict=True):
        groups[one.case.photograph].append(pair)
    found = correlate([score for _, score in _pairs(scored)], [label for label, _ in _pairs(scored)])
    values = {name: getattr(found, name) for name in ("srcc", "plcc")}
    intervals = {f"{name}_interval": over_photographs(groups, name, seed) for name in values}
    return {"n": len(scored), **values, **intervals, "undefined": dict(found.undefined)}


def _of_type(good: Sequence[Scored], pristine: Sequence[Scored], kind: str) -> dict[str, Any]:
    own = [one for one in good if one.case.kind == kind]
    pairs = _pairs([*own, *pristine]) if own else []
    return {"n": len(own), "srcc": correlate([s for _, s in pairs], [label for label, _ in pairs]).srcc}


def _levels(kind: str, cells: Mapping[Any, float | None], photographs: Sequence[str]) -> dict[str, Any]:
    columns = [[cells.get((kind, level, name)) for name in photographs] for level in LEVELS]
    known = [[score for score in column if score is not None] for column in columns]
    means = [fmean(column) if column else None for column in known]
    ends = [(a, b) for a, b in zip(columns[0], columns[-1], strict=True) if a is not None and b is not None]
    steps = list(itertools.pairwise(means))
    falls = all(a is not None and b is not None and b < a for a, b in steps)
    return {
        "means": means, "falls": falls, "below": fmean(b < a for a, b in ends) if ends else None, "n": len(ends)
    }  # fmt: skip


def _by_rule(replied: Sequence[Replied], rule: Any) -> dict[str, Any]:
    if not replied:
        return {"accuracy": None, "interval": None, "hidden": None}
    right = sum(one.correct(rule) for one in replied)
    hidden = fmean(one.correct(rule, hidden=True) for one in replied)
    return {"accuracy": right / len(replied), "interval": wilson(right, len(replied)), "hidden": hidden}


def _pairs(scored: Sequence[Scored]) -> list[tuple[float, float]]:
    """(label, score) of those that have one."""
    return [(one.case.label, one.score) for one in scored if one.score is not None]


ACCURACY = {"what": 0.75, "yes-no": 0.85, "how": 0.70}
SRCC = 0.88  # after training with a GPU; 0.80 is what is asked of one on a processor
_GIB = 1024.0  # MiB


@dataclass(frozen=True)
class Target:
    """One demand.

    Attributes:
        name: What is measured.
        measured: The value; None if it was not measured, or is undefined.
        relation: ">", ">=" or "<".
        bound: What it is compared with.
        unit: Of both; "%" shows shares as percent.
    """

    name: str
    measured: float | None
    relation: str
    bound: float
    unit: str = ""

    @property
    def met(self) -> bool:
        """Whether the value keeps the bound; what was not measured does not."""
        if self.measured is None:
            return False
        return {
            ">": self.measured > self.bound,
            ">=": self.measured >= self.bound,
            "<": self.measured < self.bound,
        }[self.relation]

    def as_dict(self) -> dict[str, Any]:
        """Plain fields for result files."""
        return {**asdict(self), "met": self.met}


def targets(found: Mapping[str, Any]) -> list[Target]:
    """All demands, of the results as they stand in `nano.json`."""
    return [*_scoring(found), *_questions(found["questions"]), *_speed(found.get("speed") or {})]


def _scoring(found: Mapping[str, Any]) -> list[Target]:
    types = found["monotone"].values()
    below = [one["below"] for one in types]
    least = None if None in below else min(below, default=None)
    return [
        Target("SRCC, all pictures", found["scoring"]["all"]["srcc"], ">=", SRCC),
        Target("mean score of untouched photographs", found["scoring"]["pristine"]["mean"], ">", 4.2),
        Target("types whose mean score falls at every level", sum(one["falls"] for one in types), ">=", len(types)),
        Target("photographs with level 5 below level 1, worst type", least, ">=", 0.9, "%"),
    ]


def _questions(found: Mapping[str, Any]) -> list[Target]:
    listed = []
    for kind in KINDS:
        seen, hidden = found[kind]["logits"]["accuracy"], found[kind]["logits"]["hidden"]
        listed.append(Target(f"{kind} questions", seen, ">=", ACCURACY[kind], "%"))
        for name, baseline in (("picture hidden", hidden), ("words alone", found[kind]["text_only"])):
            lead = None if None in (seen, baseline) else seen - baseline
            listed.append(Target(f"{kind} questions, lead over {name}", lead, ">", 0.0, "%"))
    return listed


def _speed(found: Mapping[str, Any]) -> list[Target]:
    large, many, load = (found.get(task, {}) for task in ("large", "many", "load"))
    rates = (many.get("batch"), many.get("singles"))
    ratio = None if None in rates else rates[0] / rates[1]
    return [
        Target("12-megapixel JPEG, from path to score", large.get("seconds"), "<", 1.5, "s"),
        Target("12-megapixel JPEG, increase of the peak memory", large.get("increase"), "<", _GIB, "MiB"),
        Target("12-megapixel JPEG, peak memory of the process", large.get("peak"), "<", _GIB, "MiB"),
        Target("512x384, batch of 16", many.get("batch"), ">=", 5.0, "images/s"),
        Target("512x384, batch of 16 to singles", ratio, ">", 1.0, "times"),
        Target("loading, once everything is imported", load.get("again"), "<", 2.0, "s"),
    ]
