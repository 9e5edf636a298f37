"""Is a set whole, and is it what was published? One `SetStatus` for each place in which it lies."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from benchmarks.sets.catalog import BenchmarkSet, Kind
from benchmarks.sets.places import Place, Read
from qsit_metric.errors import QSiTError, counted
from qsit_metric.evaluation import IQA_SETS, EvaluationError, Manifest, Question, check_counts

_SHOWN = 5
_SUM = 0.005  # published scores have two decimals or more, so one that was changed shows

State = Literal["found", "missing", "incomplete"]
T = TypeVar("T")


@dataclass(frozen=True)
class SetStatus:
    """What is there of one set.

    Attributes:
        name: What commands take.
        title: How papers call it.
        kind: "scores", "questions" or "descriptions".
        state: "found" (whole, as published), "incomplete" (something is there) or "missing".
        folder: Where it was found; None if it was not.
        n: Rows (images with a score, questions, pictures to be described) that can be used.
        images: Images that are there.
        expected: Rows as published; None for a csv of one's own.
        absent: The first images that are not there.
        n_absent: How many are not there.
        problems: What differs from the published set, a sentence each.
        hint: Where to get it; empty if it is found.
    """

    name: str
    title: str
    kind: Kind
    state: State
    folder: Path | None = None
    n: int = 0
    images: int = 0
    expected: int | None = None
    absent: tuple[str, ...] = ()
    n_absent: int = 0
    problems: tuple[str, ...] = ()
    hint: str = ""


def best(statuses: Iterable[SetStatus]) -> SetStatus:
    """The one that is found, else the one with most rows, else with most images."""
    return min(statuses, key=lambda one: (one.state != "found", -one.n, one.n_absent))


def without(record: BenchmarkSet, state: State, problems: tuple[str, ...], folder: Path | None = None) -> SetStatus:
    """The status of a set of which nothing could be read."""
    hint = f"Get it from {record.get}."
    return SetStatus(
        record.name, record.title, record.kind, state, folder, expected=record.n, problems=problems, hint=hint
    )


def inspect(record: BenchmarkSet, place: Place) -> SetStatus:
    """Read a set where it lies and compare it with what was published; rows that cannot be used are counted."""
    if place.labels is None:
        problem = f"{place.folder} has no {' or '.join(place.wanted)}."
        return without(record, "incomplete", (problem,), place.folder)
    refused: list[str] = []
    try:
        read = place.read(refused)
    except (QSiTError, OSError) as error:
        return without(record, "incomplete", (str(error),), place.folder)
    found = [f"{counted(len(refused), 'row')} cannot be used, first {refused[0]}."] if refused else []
    found += differences(record, read)
    items, images = _numbers(read)
    return SetStatus(
        record.name, record.title, record.kind, "incomplete" if found else "found", place.folder, items,
        images - len(read.absent), record.n, read.absent[:_SHOWN], len(read.absent), tuple(found),
        f"Get it from {record.get}." if found else "",
    )  # fmt: skip


def differences(record: BenchmarkSet, read: Read) -> list[str]:
    """What differs from the published set, and which images are not there, a sentence each; an own set has n 0."""
    said = _numbers_differ(record, read) if record.n else []
    if read.absent:
        are = "is" if len(read.absent) == 1 else "are"
        said.append(f"{counted(len(read.absent), 'image')} {are} not in {read.images}, first {read.absent[0]}.")
    return said


def of(value: object, kind: type[T]) -> T:
    """The value, which is of this kind.

    Raises:
        EvaluationError: It is not.
    """
    if not isinstance(value, kind):
        raise EvaluationError.about("name", type(value).__name__, kind.__name__)
    return value


def _numbers(read: Read) -> tuple[int, int]:
    """Rows, and images; several rows may be on one image."""
    items = read.rows.items if isinstance(read.rows, Manifest) else read.rows
    return len(items), len({one.image for one in items})


def _numbers_differ(record: BenchmarkSet, read: Read) -> list[str]:
    if record.kind == "questions":
        try:
            check_counts([of(one, Question) for one in of(read.rows, tuple)], record.split)
        except EvaluationError as error:
            return [str(error)]
        return []
    n, images = _numbers(read)
    said = [] if n == record.n else [f"{counted(n, 'image')}, published are {record.n}."]
    said += [f"{counted(n - images, 'row')} with an image that was there before."] if n > images else []
    return said + (_scores_differ(record, read.rows) if isinstance(read.rows, Manifest) else [])


def _scores_differ(record: BenchmarkSet, manifest: Manifest) -> list[str]:
    said = []
    low, high = IQA_SETS[record.iqa].scale if record.iqa else (-math.inf, math.inf)
    if outside := [item for item in manifest.items if not low <= item.mos <= high]:
        first = f"first {outside[0].image} {outside[0].mos:g}"
        said.append(f"{counted(len(outside), 'score')} outside {low:g}..{high:g}, {first}.")
    total = math.fsum(item.mos for item in manifest.items)
    if record.total is not None and len(manifest) == record.n and abs(total - record.total) > _SUM:
        said.append(f"The scores add up to {total:.3f}, published are {record.total:.3f}.")
    return said
