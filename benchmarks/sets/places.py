"""Where a set may lie below a data root, and how it is read there.

Each way in which a set may lie is a `Place`. Folder names count in any case; the first that is there is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple, TypeAlias

from benchmarks.sets.catalog import FOLDERS, KONIQ_SPLITS, QALIGN_FOLDERS, BenchmarkSet
from qsit_metric.evaluation import (
    IQA_SETS,
    EvaluationError,
    Manifest,
    Question,
    ToDescribe,
    extract_images,
    read_iqa,
    read_lldescribe,
    read_llvisionqa,
    read_scores,
)
from qsit_metric.evaluation.manifest import renamed

Rows: TypeAlias = "Manifest | tuple[Question, ...] | tuple[ToDescribe, ...]"
_GOLDEN = ("golden.json", "lldescribe_golden.json")
_LISTS = ("test_jsons", "jsons", "labels", ".")


class Read(NamedTuple):
    """What was read: the rows, the folder of their images, and the images that are not there."""

    rows: Rows
    images: Path
    absent: tuple[str, ...]


@dataclass(frozen=True)
class Place:
    """A folder that is a set's, by its name and by what is in it.

    Attributes:
        folder: The folder.
        labels: Its label file; None if it is not there.
        wanted: What the label file may be called, for messages.
        read: Takes a list for the rows that cannot be used, or None to have them raised.
    """

    folder: Path
    labels: Path | None
    wanted: tuple[str, ...]
    read: Callable[[list[str] | None], Read]


def places(record: BenchmarkSet, root: Path) -> list[Place]:
    """Every way in which the set lies below the root; the better first.

    Raises:
        EvaluationError: A folder cannot be read.
    """
    ways = {"scores": _scores, "questions": _questions, "descriptions": _descriptions}
    try:
        return list(ways[record.kind](record, root))
    except OSError as error:
        hint = f"The system says: {error.strerror or error}."
        raise EvaluationError.about("root", str(error.filename or root), "a folder that can be read", hint) from error


def below(root: Path, names: Iterable[str]) -> list[Path]:
    """The folders of these names below a root, whatever their case; "a/b" is a folder in a folder."""
    found: dict[Path, None] = {}
    for name in names:
        steps = [root]
        for part in name.split("/"):
            inside = (child for step in steps for child in sorted(step.iterdir()))
            steps = [child for child in inside if child.name.lower() == part.lower() and child.is_dir()]
        found |= dict.fromkeys(steps)
    return list(found)


def own(path: Path) -> Place:
    """A csv of one's own; its images lie in the folder of its name, or beside it."""
    images = path.with_suffix("") if path.with_suffix("").is_dir() else path.parent

    def read(refused: list[str] | None) -> Read:
        manifest = read_scores(path, root=images, refused=refused)
        return Read(manifest, images, tuple(manifest.missing()))

    return Place(path.parent, path, (path.name,), read)


def pack(place: Place, read: Read, split: str) -> Read:
    """Write the pictures inside parquet files into a folder, if any is not there yet.

    Raises:
        EvaluationError: They cannot be written.
    """
    if not _parquets(place.folder, split) or all((read.images / name).is_file() for name in _names(read.rows)):
        return read
    try:
        for path in _parquets(place.folder, split):
            extract_images(path, read.images)
    except OSError as error:
        hint = f"The system says: {error.strerror or error}."
        raise EvaluationError.about("root", str(read.images), "a folder that can be written", hint) from error
    return read


def _scores(record: BenchmarkSet, root: Path) -> Iterator[Place]:
    if record.iqa:
        yield from (_official(record, folder) for folder in below(root, record.folders) if _is(record.iqa, folder))
    if record.listed:
        yield from _lists(record, root)


def _is(iqa: str, folder: Path) -> bool:
    """Whether a folder has a set's labels or its images, and not just its name."""
    known = IQA_SETS[iqa]
    folders = [name for name in known.images if name != "."]
    folders += [] if folders else list(_top(known.name))
    return any((folder / name).exists() for name in (*known.labels, *folders))


def _top(name: str) -> tuple[str, ...]:
    """Folders of the images where they lie in the set's own folder."""
    return ("jp2k", "jpeg", "wn", "gblur", "fastfading") if name == "live" else ()


def _official(record: BenchmarkSet, folder: Path) -> Place:
    wanted = IQA_SETS[record.iqa].labels
    labels = next((folder / name for name in wanted if (folder / name).is_file()), None)

    def read(refused: list[str] | None) -> Read:
        manifest = read_iqa(record.iqa, folder, refused=refused, differences=[])
        manifest = _part(manifest, record, folder)
        return Read(manifest, manifest.root, tuple(manifest.missing()))

    return Place(folder, labels, wanted, read)


def _part(manifest: Manifest, record: BenchmarkSet, folder: Path) -> Manifest:
    if record.iqa == "koniq" and record.split and not (folder / KONIQ_SPLITS).is_file():
        hint = "It is in github.com/subpic/koniq, folder metadata."
        raise EvaluationError.about("folder", str(folder), f"a folder with {KONIQ_SPLITS}, the official split", hint)
    return manifest.subset(record.split) if record.split else manifest


def _lists(record: BenchmarkSet, root: Path) -> Iterator[Place]:
    """Q-Align's folder, or the data root itself if the list is there."""
    for folder in (*below(root, QALIGN_FOLDERS), root):
        wanted = tuple(f"{name}/{record.listed}".removeprefix("./") for name in _LISTS)
        labels = next((folder / name for name in wanted if (folder / name).is_file()), None)
        if labels or (folder != root and (folder / record.pictures).is_dir()):
            yield Place(folder, labels, wanted, _list_reader(record, root, folder, labels))


def _list_reader(
    record: BenchmarkSet, root: Path, folder: Path, labels: Path | None
) -> Callable[[list[str] | None], Read]:
    def read(refused: list[str] | None) -> Read:
        manifest = read_scores(labels or folder, root=folder, name=record.name, refused=refused)
        absent = manifest.missing()
        for other in _elsewhere(record, root) if len(absent) == len({item.image for item in manifest.items}) else ():
            moved = renamed(manifest, {name: PurePosixPath(name).name for name in absent}).at(other)
            if len(moved.missing()) < len(absent):
                manifest, absent = moved, moved.missing()
        return Read(manifest, manifest.root, tuple(absent))

    return read


def _elsewhere(record: BenchmarkSet, root: Path) -> list[Path]:
    """Image folders of the official set, where the list's images lie under their bare names."""
    if not record.official:
        return []
    names = [name for name in IQA_SETS[record.official].images if name != "."]
    return [
        path for folder in below(root, FOLDERS[record.official]) for name in names if (path := folder / name).is_dir()
    ]


def _questions(record: BenchmarkSet, root: Path) -> Iterator[Place]:
    file = f"llvisionqa_{record.split}.json"
    for folder in below(root, record.folders):
        wanted = (file, f"jsons/{file}")
        labels = next((folder / name for name in wanted if (folder / name).is_file()), None)
        if packed := _parquets(folder, record.split):
            yield Place(folder, packed[0], wanted, _packed_reader(packed, folder / f"images-{record.split}"))
        elif labels or (folder / "images").is_dir():
            yield Place(folder, labels, wanted, _json_reader(folder, labels, record.split))


def _parquets(folder: Path, split: str) -> list[Path]:
    return sorted([*folder.glob(f"data/{split}-*.parquet"), *folder.glob(f"{split}-*.parquet")])


def _packed_reader(paths: Sequence[Path], images: Path) -> Callable[[list[str] | None], Read]:
    """Reader of parquet files, whose pictures are inside, so that none is absent."""
    return lambda refused: Read(tuple(read_llvisionqa(*paths, refused=refused)), images, ())


def _json_reader(folder: Path, labels: Path | None, split: str) -> Callable[[list[str] | None], Read]:
    names = ("images", f"images/{split}", "images_llvisionqa", "images_llvisionqa/images", split, ".")

    def read(refused: list[str] | None) -> Read:
        rows = tuple(read_llvisionqa(labels or folder, refused=refused))
        roots = [folder / name for name in names if (folder / name).is_dir()]
        absent, _, images = min((_absent(rows, one), place, one) for place, one in enumerate(roots))
        return Read(rows, images, absent.names)

    return read


class _Absent(NamedTuple):
    """Images that are not there, compared by their number."""

    n: int
    names: tuple[str, ...]


def _absent(rows: Rows, images: Path) -> _Absent:
    names = tuple(name for name in _names(rows) if not (images / name).is_file())
    return _Absent(len(names), names)


def _names(rows: Rows) -> list[str]:
    """The images, each once."""
    return list(dict.fromkeys(one.image for one in (rows.items if isinstance(rows, Manifest) else rows)))


def _descriptions(record: BenchmarkSet, root: Path) -> Iterator[Place]:
    for folder in below(root, record.folders):
        images = folder / "images" if (folder / "images").is_dir() else folder
        golden = next((folder / name for name in _GOLDEN if (folder / name).is_file()), None)
        yield Place(folder, images, ("images",), _description_reader(images, golden))


def _description_reader(images: Path, golden: Path | None) -> Callable[[list[str] | None], Read]:
    return lambda refused: Read(tuple(read_lldescribe(images, golden, refused=refused)), images, ())
