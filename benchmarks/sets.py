"""The data sets of the benchmarks below one data root: which are there, whole, and how they are loaded.

    for one in status(root): ...            # found, missing or incomplete, with what is absent
    load_scores("koniq", root)              # a Manifest
    load_questions("llvisionqa-dev", root)  # the questions, and the folder of their images
    load_descriptions("lldescribe", root)

Each set lies in a folder below the root as its publisher ships it (`SETS[name].folders`). Q-Align's test parts lie in
`q-align/`: images in `koniq/`, `spaq/` ..., lists in `test_jsons/`. KonIQ gets its official split if
`koniq10k_distributions_sets.csv` lies beside its labels. Any `NAME.csv` in the root (columns image, mos) is a set, too,
with its images in `NAME/` or beside it. Nothing is downloaded here; see `benchmarks.sets_hub`.
"""

from __future__ import annotations

import difflib
import logging
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

from benchmarks.sets_places import Place, Read, below, own, pack, places
from benchmarks.sets_records import SETS, BenchmarkSet, Kind
from qsit_metric.errors import QSiTError
from qsit_metric.evaluation import IQA_SETS, EvaluationError, Manifest, Question, ToDescribe, check_counts
from qsit_metric.evaluation.errors import counted
from qsit_metric.evaluation.files import PathLike

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
    problems: tuple[str, ...] = field(default=())
    hint: str = ""


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
            "rows": f"{one.n} of {one.expected}" if one.expected is not None else one.n,
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
        >>> load_scores("kadid-test", "data").items[0]  # doctest: +SKIP
        Item(image='I66_01_01.png', mos=4.1, id='I66_01_01.png', split='test', level=None)
    """
    _, read = _load(name, root, "scores", refused, sets)
    return _of(read.rows, Manifest)


def load_questions(
    name: str, root: PathLike, *, refused: list[str] | None = None, sets: Sets = SETS
) -> tuple[list[Question], Path]:
    """Questions, and the folder of their images; pictures inside parquet files are written into a folder first.

    Args and errors are those of `load_scores`; the kind is "questions".
    """
    place, read = _load(name, root, "questions", refused, sets)
    read = pack(place, read, sets[name].split)
    return [_of(one, Question) for one in _of(read.rows, tuple)], read.images


def load_descriptions(
    name: str, root: PathLike, *, refused: list[str] | None = None, sets: Sets = SETS
) -> tuple[list[ToDescribe], Path]:
    """Pictures to be described, with golden texts if `golden.json` lies in the set's folder, and their own folder.

    Args and errors are those of `load_scores`; the kind is "descriptions".
    """
    _, read = _load(name, root, "descriptions", refused, sets)
    return [_of(one, ToDescribe) for one in _of(read.rows, tuple)], read.images


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
        return _made(record, "incomplete", (str(error),))
    if not found:
        return _made(record, "missing", _strange(record, root))
    statuses = [_inspect(record, place) for place in found]
    best = _best(statuses)
    if len(twice := [str(place.folder) for place in found if place.labels and record.iqa]) > 1:
        problem = f"{' and '.join(twice)} are both this set; keep one."
        return _made(record, "incomplete", (problem, *best.problems), best.folder)
    return best


def _best(statuses: list[SetStatus]) -> SetStatus:
    return min(statuses, key=lambda one: (one.state != "found", -one.n, one.n_absent))


def _made(record: BenchmarkSet, state: State, problems: tuple[str, ...], folder: Path | None = None) -> SetStatus:
    hint = f"Get it from {record.get}."
    return SetStatus(
        record.name, record.title, record.kind, state, folder, expected=record.n, problems=problems, hint=hint
    )


def _strange(record: BenchmarkSet, root: Path) -> tuple[str, ...]:
    """A folder that has the set's name alone, or a data root that is the set's folder itself."""
    labels = IQA_SETS[record.iqa].labels if record.iqa else ()
    if any((root / name).is_file() for name in labels):
        return (f"{root} is its own folder; pass the folder above it.",)
    named = below(root, record.folders)
    return (f"{named[0]} has its name, but nothing of it.",) if named else ()


def _inspect(record: BenchmarkSet, place: Place) -> SetStatus:
    if place.labels is None:
        problem = f"{place.folder} has no {' or '.join(place.wanted)}."
        return _made(record, "incomplete", (problem,), place.folder)
    refused: list[str] = []
    try:
        read = place.read(refused)
    except (QSiTError, OSError) as error:
        return _made(record, "incomplete", (str(error),), place.folder)
    return _judged(record, place, read, (*_refused(refused), *_problems(record, read)))


def _judged(record: BenchmarkSet, place: Place, read: Read, problems: tuple[str, ...]) -> SetStatus:
    whole = not problems and not read.absent
    if read.absent:
        are = "is" if len(read.absent) == 1 else "are"
        problems += (f"{counted(len(read.absent), 'image')} {are} not in {read.images}, first {read.absent[0]}.",)
    n, images = _numbers(read)
    return SetStatus(
        record.name, record.title, record.kind, "found" if whole else "incomplete", place.folder, n,
        images - len(read.absent), record.n, read.absent[:_SHOWN], len(read.absent), problems,
        "" if whole else f"Get it from {record.get}.",
    )  # fmt: skip


def _numbers(read: Read) -> tuple[int, int]:
    """Rows, and images; several questions may be on one image."""
    items = read.rows.items if isinstance(read.rows, Manifest) else read.rows
    return len(items), len({one.image for one in items})


def _refused(reasons: list[str]) -> tuple[str, ...]:
    return (f"{counted(len(reasons), 'row')} cannot be used, first {reasons[0]}.",) if reasons else ()


def _problems(record: BenchmarkSet, read: Read) -> tuple[str, ...]:
    """What differs from the published numbers."""
    if record.kind == "questions":
        try:
            check_counts([_of(one, Question) for one in _of(read.rows, tuple)], record.split)
        except EvaluationError as error:
            return (str(error),)
        return ()
    n, images = _numbers(read)
    said = [] if n == record.n else [f"{counted(n, 'image')}, published are {record.n}."]
    said += [f"{counted(n - images, 'row')} name an image again."] if n > images else []
    return (*said, *(_score_problems(record, read.rows) if isinstance(read.rows, Manifest) else ()))


def _score_problems(record: BenchmarkSet, manifest: Manifest) -> list[str]:
    said = []
    low, high = IQA_SETS[record.iqa].scale if record.iqa else (-math.inf, math.inf)
    if outside := [item for item in manifest.items if not low <= item.mos <= high]:
        first = f"first {outside[0].image} {outside[0].mos:g}"
        said.append(f"{counted(len(outside), 'score')} outside {low:g}..{high:g}, {first}.")
    total = math.fsum(item.mos for item in manifest.items)
    if record.total is not None and len(manifest) == record.n and abs(total - record.total) > _SUM:
        said.append(f"The scores add up to {total:.3f}, published are {record.total:.3f}.")
    return said


def _own(path: Path, root: Path, sets: Sets) -> SetStatus:
    record = BenchmarkSet(path.stem, path.name, "scores", (), 0)
    place = own(path)
    problems = _name_problems(path, root, sets)
    refused: list[str] = []
    try:
        read = place.read(refused)
    except (QSiTError, OSError) as error:
        made = _made(record, "incomplete", (*problems, str(error)), root)
        return SetStatus(**{**vars(made), "expected": None, "hint": "A csv with the columns image and mos is a set."})
    judged = _judged(record, place, read, (*problems, *_refused(refused)))
    return SetStatus(**{**vars(judged), "expected": None, "hint": ""})


def _name_problems(path: Path, root: Path, sets: Sets) -> tuple[str, ...]:
    alike = Counter(other.stem.lower() for other in _csvs(root))[path.stem.lower()]
    if path.stem.lower() in sets:
        return (f"{path.name} has the name of a public set; call it otherwise.",)
    return (f"{alike} csv files are called {path.stem}; call them otherwise.",) if alike > 1 else ()


def _load(name: str, root: PathLike, kind: Kind, refused: list[str] | None, sets: Sets) -> tuple[Place, Read]:
    """Read the best place of a set, and log what differs from the published set."""
    folder = _root(root)
    if name not in sets:
        return _load_own(name, folder, kind, refused, sets)
    record = sets[name]
    if record.kind != kind:
        raise EvaluationError.about("name", name, f"a set with {kind}; this one has {record.kind}")
    found = {place.folder: place for place in reversed(places(record, folder)) if place.labels}
    shown = _status(record, folder)
    if shown.folder not in found or any("are both this set" in problem for problem in shown.problems):
        expected = f"{record.title} in {' or '.join(record.folders) or 'q-align'} below {folder}"
        raise EvaluationError.about("name", name, expected, " ".join((*shown.problems, shown.hint)))
    place = found[shown.folder]
    read = place.read(refused)
    for problem in shown.problems:
        _LOG.warning("%s: %s", record.title, problem)
    return place, read


def _load_own(name: str, root: Path, kind: Kind, refused: list[str] | None, sets: Sets) -> tuple[Place, Read]:
    paths = [path for path in _csvs(root) if path.stem == name]
    if kind != "scores" or not paths:
        near = difflib.get_close_matches(str(name), sets, n=1, cutoff=0.4)
        hint = f"Did you mean {near[0]!r}?" if near else ""
        raise EvaluationError.about("name", name, f"one of {', '.join(sets)}, or the name of a csv in {root}", hint)
    if problems := _name_problems(paths[0], root, sets):
        raise EvaluationError.about("name", name, "a name of its own", " ".join(problems))
    place = own(paths[0])
    return place, place.read(refused)


def _of(value: object, kind: type[T]) -> T:
    if not isinstance(value, kind):  # pragma: no cover - each kind has its own reader
        raise EvaluationError.about("name", type(value).__name__, kind.__name__)
    return value
