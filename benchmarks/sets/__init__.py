"""The data sets of the benchmarks below one data root: which are there, whole, and how they are loaded.

    for one in status(root): ...            # found, missing or incomplete, with what is absent
    load_scores("koniq", root)              # a Manifest
    load_questions("llvisionqa-dev", root)  # the questions, and the folder of their images
    load_descriptions("lldescribe", root)

Each set lies in a folder below the root as its publisher ships it (`SETS[name].folders`). Q-Align's test parts lie in
`q-align/`: images in `koniq/`, `spaq/` ..., lists in `test_jsons/`. KonIQ gets its official split if
`koniq10k_distributions_sets.csv` lies beside its labels. Any `NAME.csv` in the root (columns image, mos) is a set, too,
with its images in `NAME/` or beside it. Nothing is downloaded here; see `benchmarks.sets.download`.
"""

from __future__ import annotations

import difflib
import logging
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeVar

from benchmarks.sets.catalog import SETS, BenchmarkSet, Kind
from benchmarks.sets.places import Place, Read, below, own, pack, places
from qsit_metric.errors import QSiTError, counted
from qsit_metric.evaluation import IQA_SETS, EvaluationError, Manifest, Question, ToDescribe, check_counts
from qsit_metric.files import PathLike

__all__ = ["SETS", "BenchmarkSet", "SetStatus", "load_descriptions", "load_questions", "load_scores", "rows", "status"]

_LOG = logging.getLogger("qsit_metric")
_SHOWN = 5
_SUM = 0.005  # published scores have two decimals or more, so one that was changed shows

State = Literal["found", "missing", "incomplete"]
Sets = Mapping[str, BenchmarkSet]
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
    """Status of the best place: the one that is found, else the one with most rows, else with most images."""
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
    """Check that a value is of this kind.

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


def status(root: PathLike, sets: Sets = SETS) -> list[SetStatus]:
    """Say of each set, and of each csv in the data root, whether it is there and whole.

    Args:
        root: The data root.
        sets: The sets to look for.

    Returns:
        One record for each of `sets`, in their order, then the csv files by name.

    Raises:
        EvaluationError: The root is no folder.

    Example:
        >>> import tempfile
        >>> {one.state for one in status(tempfile.mkdtemp())}
        {'missing'}
    """
    folder = _root(root)
    return [_status(record, folder) for record in sets.values()] + [_own(path, folder, sets) for path in _csvs(folder)]


def rows(statuses: Iterable[SetStatus]) -> list[dict[str, object]]:
    """The statuses as rows of a table: set, title, state, rows, images, problem, get."""
    return [
        {
            "set": one.name, "title": one.title, "state": one.state,
            "rows": f"{one.n} of {one.expected}" if one.expected is not None else str(one.n),
            "images": one.images, "problem": " ".join(one.problems), "get": one.hint,
        }
        for one in statuses
    ]  # fmt: skip


def load_scores(name: str, root: PathLike, *, refused: list[str] | None = None, sets: Sets = SETS) -> Manifest:
    """Images with their scores, higher is better.

    A set that is not whole is loaded as far as it is there; what differs from the published set is logged.

    Args:
        name: A key of `sets` of the kind "scores", or the name of a csv in the root.
        root: The data root.
        refused: A list that takes the rows that cannot be used, which leaves them out; default: they are an error.
        sets: The sets that are known.

    Raises:
        EvaluationError: An unknown name, a set that is not there, or rows that cannot be used.
        DependencyError: A package is missing that reads the label file.

    Example:
        >>> load_scores("kadid-test", "data").items[0].split  # doctest: +SKIP
        'test'
    """
    _, read = _load(name, root, "scores", refused, sets)
    found = of(read.rows, Manifest)
    return Manifest(name, found.items, found.root, found.scale)


def load_questions(
    name: str, root: PathLike, *, refused: list[str] | None = None, sets: Sets = SETS
) -> tuple[list[Question], Path]:
    """Questions, and the folder of their images; pictures inside parquet files are written into a folder first.

    Args and errors are those of `load_scores`; the kind is "questions".
    """
    place, read = _load(name, root, "questions", refused, sets)
    read = pack(place, read, sets[name].split)
    return [of(one, Question) for one in of(read.rows, tuple)], read.images


def load_descriptions(
    name: str, root: PathLike, *, refused: list[str] | None = None, sets: Sets = SETS
) -> tuple[list[ToDescribe], Path]:
    """Pictures to be described, with golden texts if `golden.json` lies in the set's folder, and their own folder.

    Args and errors are those of `load_scores`; the kind is "descriptions".
    """
    _, read = _load(name, root, "descriptions", refused, sets)
    return [of(one, ToDescribe) for one in of(read.rows, tuple)], read.images


def _root(root: PathLike) -> Path:
    folder = Path(root)
    if not folder.is_dir():
        raise EvaluationError.about("root", str(root), "a folder with the data sets", "Pass it as --data-root.")
    return folder


def _csvs(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.suffix.lower() == ".csv" and path.is_file())


def _status(record: BenchmarkSet, root: Path) -> SetStatus:
    try:
        found = places(record, root)
    except EvaluationError as error:
        return without(record, "incomplete", (str(error),))
    if not found:
        return without(record, "missing", _strange(record, root))
    shown = best(inspect(record, place) for place in found)
    if problem := _twice(record, found):
        return replace(shown, state="incomplete", problems=(problem, *shown.problems))
    return shown


def _twice(record: BenchmarkSet, found: Iterable[Place]) -> str:
    """Say which two folders have labels of one set: nobody could tell which was measured."""
    folders = [str(place.folder) for place in found if place.labels and record.iqa and place.labels.suffix != ".json"]
    return f"{' and '.join(folders)} are both this set; keep one." if len(folders) > 1 else ""


def _strange(record: BenchmarkSet, root: Path) -> tuple[str, ...]:
    """Name a folder that has the set's name alone, or a data root that is the set's folder itself."""
    labels = IQA_SETS[record.iqa].labels if record.iqa else ()
    if any((root / name).is_file() for name in labels):
        return (f"{root} is its own folder; pass the folder above it.",)
    named = below(root, record.folders)
    return (f"{named[0]} has its name, but nothing of it.",) if named else ()


def _own(path: Path, root: Path, sets: Sets) -> SetStatus:
    """The status of a csv of one's own, of which nothing is published."""
    shown = replace(inspect(BenchmarkSet(path.stem, path.name, "scores", (), 0), own(path)), expected=None, hint="")
    if problem := _taken(path, root, sets):
        return replace(shown, state="incomplete", problems=(problem, *shown.problems))
    return shown


def _taken(path: Path, root: Path, sets: Sets) -> str:
    """Say what is wrong with a csv's name."""
    if path.stem.lower() in sets:
        return f"{path.name} has the name of a public set; call it otherwise."
    alike = [other.name for other in _csvs(root) if other.stem.lower() == path.stem.lower()]
    return f"{' and '.join(alike)} have one name; call them otherwise." if len(alike) > 1 else ""


def _load(name: str, root: PathLike, kind: Kind, refused: list[str] | None, sets: Sets) -> tuple[Place, Read]:
    """Read the best place of a set, and log what differs from the published set."""
    folder = _root(root)
    record = sets[name] if name in sets else _own_record(name, folder, kind, sets)
    if record.kind != kind:
        raise EvaluationError.about("name", name, f"a set of {kind}; this one is of {record.kind}")
    place = _chosen(record, folder) if name in sets else own(folder / record.title)
    read = place.read(refused)
    for difference in differences(record, read):
        _LOG.warning("%s: %s", record.title, difference)
    return place, read


def _chosen(record: BenchmarkSet, root: Path) -> Place:
    found = [place for place in places(record, root) if place.labels]
    if not found or _twice(record, found):
        shown = _status(record, root)
        expected = f"{record.title} in {' or '.join(record.folders) or 'q-align'} below {root}"
        raise EvaluationError.about("name", record.name, expected, " ".join((*shown.problems, shown.hint)))
    if len(found) == 1:
        return found[0]
    shown = best(inspect(record, place) for place in found)
    return next(place for place in found if place.folder == shown.folder)


def _own_record(name: str, root: Path, kind: Kind, sets: Sets) -> BenchmarkSet:
    path = next((path for path in _csvs(root) if path.stem == name), None)
    if path is None or kind != "scores":
        near = difflib.get_close_matches(str(name), sets, n=1, cutoff=0.4)
        hint = f"Did you mean {near[0]!r}?" if near else ""
        raise EvaluationError.about("name", name, f"one of {', '.join(sets)}, or the name of a csv in {root}", hint)
    if problem := _taken(path, root, sets):
        raise EvaluationError.about("name", name, "a name of its own", problem)
    return BenchmarkSet(path.stem, path.name, "scores", (), 0)
