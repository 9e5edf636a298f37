"""What scores and replies say about a model. Pure."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.intervals import Interval, wilson
from benchmarks.nano.asking import RULES, Replied
from benchmarks.nano.baselines import text_only
from benchmarks.nano.questions import KINDS
from benchmarks.nano.sample import MONOTONE
from benchmarks.nano.scoring import Scored
from qsit_metric.evaluation import UndefinedError, bootstrap_interval, correlate
from qsit_metric.evaluation.correlations import STATISTICS
from train.nano.data.kadid import DISTORTIONS, LEVELS

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
