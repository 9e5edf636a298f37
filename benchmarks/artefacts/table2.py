"""Table II: how well the five levels keep the order and the distances of the scores that they are made from.

Needs label files only. Score -> level is Eq. 1 or the authors' variant of it (`qsit_metric.levels.level_of`), level ->
score is Eq. 2: bad is 1, excellent is 5. Paper: Q-SiT, arXiv 2503.09197, Sec. III-A.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import qsit_metric
from benchmarks.output import Table
from benchmarks.page import Page
from benchmarks.paper import beside, number, printed
from qsit_metric.evaluation import IQA_SETS, EvaluationError, Item, plcc, read_scores, srcc
from qsit_metric.levels import LEVELS, SCORE_RANGE, Convention, level_of

if TYPE_CHECKING:
    from benchmarks.artefacts import Request


_PUBLISHED = "published labels"
_OBSERVED = "smallest and largest score"

# Set -> its name in the paper, and lists with its scores: the authors' and Q-Align's training and test lists, or
# Q-Bench's JSON. The set's own label file is tried after them. KonIQ in Q-Bench's JSON is on another scale.
_SETS: Mapping[str, tuple[str, tuple[tuple[str, ...], ...]]] = MappingProxyType(
    {
        "koniq": ("KonIQ", (
            ("train_koniq_qsit.json", "qalign_test_koniq.json"), ("train_koniq_qsit.json", "test_koniq.json"),
        )),
        "spaq": ("SPAQ", (
            ("train_spaq_qsit.json", "qalign_test_spaq.json"), ("train_spaq_qsit.json", "test_spaq.json"),
            ("a3_spaq.json",), ("spaq.json",),
        )),
        "livec": ("LIVEC", (("a3_livec.json",), ("livec.json",))),
        "agiqa": ("AGIQA-3K", (("a3_agi.json",), ("agi.json",))),
        "kadid": ("KADID", (("a3_kadid.json",), ("kadid.json",))),
    }
)  # fmt: skip


def page(request: Request) -> Page:
    """What five levels keep of the scores."""
    return Page((make(request.given("labels")),))


@dataclass(frozen=True)
class Conversion:
    """Scores that went through levels.

    Attributes:
        n: Images.
        low: Lower end of the scale that was cut into five.
        high: Its upper end.
        srcc: Spearman's correlation of the levels' scores with the scores, -1..1.
        plcc: Pearson's, -1..1.
        stated: Images whose level the label file states.
        differ: Images of these whose stated level is another.
    """

    n: int
    low: float
    high: float
    srcc: float
    plcc: float
    stated: int
    differ: int


def convert(items: Sequence[Item], low: float, high: float, convention: Convention) -> Conversion:
    """Turn scores into levels and back, and see what is left of them.

    Args:
        items: Three or more images with scores.
        low: Lower end of the scale.
        high: Its upper end.
        convention: See `qsit_metric.levels.level_of`.

    Raises:
        InputError: A score outside the scale, with "eq1".
        UndefinedError: All scores have one level.

    Example:
        >>> items = [Item(f"{mos}.jpg", mos, "") for mos in (1, 2.2, 2.4, 4, 5)]
        >>> found = convert(items, 1, 5, "eq1")
        >>> round(found.srcc, 3), found.stated
        (0.975, 0)
    """
    levels = [level_of(item.mos, low, high, convention) for item in items]
    scores = [SCORE_RANGE[0] + LEVELS.index(level) for level in levels]
    mos = [item.mos for item in items]
    said = [(item.level, level) for item, level in zip(items, levels, strict=True) if item.level is not None]
    differ = sum(stated != level for stated, level in said)
    return Conversion(len(items), low, high, srcc(scores, mos), plcc(scores, mos), len(said), differ)


def make(labels: Path) -> Table:
    """Table II from the label files in a folder.

    Args:
        labels: Has, for each set, one of: the authors' training list and Q-Align's test list, Q-Bench's JSON, or the
            set's own label file, as `qsit_metric.evaluation.IQA_SETS` names it, here or one folder further down.

    Returns:
        A row for each set of the paper, with the paper's numbers; empty where there is no label file.

    Raises:
        EvaluationError: There is no label file of any set, or one that cannot be read.
    """
    paths = {name: _files(labels, name) for name in _SETS}
    if not any(paths.values()):
        expected = "a folder with label files, such as train_koniq_qsit.json with qalign_test_koniq.json"
        raise EvaluationError.about("labels", str(labels), expected)
    joined = beside([_row(name, found) for name, found in paths.items()], printed("table2"), ["set"])
    rows = tuple({**row, "reproduced": _reproduced(row)} for row in joined)
    return Table(
        name="table2", title="Table II: precision of the conversion of scores to levels", columns=tuple(rows[0]),
        rows=rows, notes=tuple(_notes(rows)), made=_made(paths), formats={"low": ".4g", "high": ".4g"},
    )  # fmt: skip


def _files(labels: Path, name: str) -> list[Path]:
    """The first of the known lists or label files that is there; none of them: an empty list."""
    for group in _SETS[name][1]:
        if all((labels / one).is_file() for one in group):
            return [labels / one for one in group]
    for own in IQA_SETS[name].labels:
        found = [path for path in (labels / own, *sorted(labels.glob(f"*/{own}"))) if path.is_file()]
        if found:
            return found[:1]
    return []


def _row(name: str, paths: Sequence[Path]) -> dict[str, object]:
    row: dict[str, object] = {"set": _SETS[name][0]}
    if not paths:
        return row
    items = [item for path in paths for item in read_scores(path).items]
    scale = IQA_SETS[name].level_scale
    low, high = scale or (min(item.mos for item in items), max(item.mos for item in items))
    found = convert(items, low, high, "authors" if scale else "eq1")
    return row | {
        "n": found.n, "low": low, "high": high, "ends": _PUBLISHED if scale else _OBSERVED,
        "srcc": found.srcc, "plcc": found.plcc, "stated": found.stated, "differ": found.differ,
    }  # fmt: skip


def _reproduced(row: Mapping[str, object]) -> str | None:
    """Whether both correlations are the printed ones, to the last printed digit."""
    if row["srcc"] is None:
        return None
    gaps = [abs(round(number(row, kind), 3) - number(row, f"{kind} (paper)")) for kind in ("srcc", "plcc")]
    return "yes" if max(gaps) < 5e-4 else "within 0.001" if max(gaps) < 1.5e-3 else "no"


def _notes(rows: Sequence[Mapping[str, object]]) -> Iterator[str]:
    differ, stated = (_total(rows, name) for name in ("differ", "stated"))
    yield (
        f"low and high are the ends of the scale that is cut into five. With the ends of the {_PUBLISHED} and "
        f"intervals closed below, {differ} of {stated} levels that the files state differ."
    )
    if guessed := [str(row["set"]) for row in rows if row.get("ends") == _OBSERVED and row["reproduced"] == "no"]:
        yield (
            f"{', '.join(guessed)}: not reproducible. The paper does not say which ends it took; with the {_OBSERVED} "
            "and Eq. 1 its numbers do not come out."
        )
    if absent := [str(row["set"]) for row in rows if row["srcc"] is None]:
        yield f"{', '.join(absent)}: no label file."


def _total(rows: Sequence[Mapping[str, object]], name: str) -> int:
    return sum(int(number(row, name)) for row in rows if row[name] is not None)


def _made(paths: Mapping[str, Sequence[Path]]) -> dict[str, object]:
    files = {name: [path.name for path in found] for name, found in paths.items() if found}
    return {"labels": files, "qsit_metric": qsit_metric.__version__}
