"""Removal of test and validation images from training: by what names them, and on request by perceptual hash.

Between collections file names are compared without folder and case, because the sources lie in other folders in each
list: Q-Instruct has `spaq_koniq/1.jpg` for what D1 calls `koniq/1.jpg`. That holds where a file name is one picture's.
Within a collection the path names a picture (every folder of LIVE has an `img1.bmp`), two different public sets share
none, and where a name is that of several pictures, longer ends of the paths decide, then the files' contents.

Paper: Q-SiT, arXiv 2503.09197, Sec. III-B ("cleaned"); overlaps: Q-Instruct, arXiv 2311.06783, Tab. 6.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, takewhile
from pathlib import Path
from typing import Any

from qsit_metric.errors import EvaluationError, counted, shorten
from qsit_metric.evaluation import IQA_SETS, read_llvisionqa, read_scores
from qsit_metric.evaluation.manifest import check_image
from qsit_metric.evaluation.readers import format_of
from qsit_metric.files import sha256
from qsit_metric.pixels import load

from ..errors import DataError
from .rows import Row, read_elements

_BITS = 64
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff"})
_SHOWN = 5
_HEAD = 65536


@dataclass(frozen=True)
class Listed:
    """Images that training must not see.

    Attributes:
        name: What the list is called in reports.
        images: Paths, as the list has them.
        root: Folder of the images; for what looks into the files.
        prefix: Folder in which the images count as lying, for `same_as`; empty if their paths say it.
        of: The collection they are of: a public set (a key of `IQA_SETS`), or a set of the rows ("d1"); empty if that
            is not known.
        among: All images of that collection, by which it is told whether a file name is one picture's; default:
            `images`.
    """

    name: str
    images: tuple[str, ...]
    root: Path | None = None
    prefix: str = ""
    of: str = ""
    among: tuple[str, ...] = ()

    def named(self, image: str) -> str:
        """An image's path with the prefix."""
        return f"{self.prefix}/{image}" if self.prefix else image


@dataclass(frozen=True)
class Removal:
    """A row that was taken out.

    Attributes:
        set: Name of the set ("d1" ...).
        id: Name of the row.
        image: Its image.
        reason: "name" or "phash".
        list: The list in which its image stands.
        match: The image there.
        distance: Bits in which the perceptual hashes differ, 0..64; None if the names are equal.
    """

    set: str
    id: str
    image: str
    reason: str
    list: str
    match: str
    distance: int | None = None


@dataclass(frozen=True)
class Cleaned:
    """The result of a cleaning.

    Attributes:
        sets: The rows of each set that stay, in order.
        removals: Every row that was removed, in order.
    """

    sets: Mapping[str, tuple[Row, ...]]
    removals: tuple[Removal, ...]


def removal_counts(removals: Iterable[Removal], name: str) -> dict[str, Any]:
    """How many rows of a set were removed: in all, per reason and list, and per pair of folders that matched.

    Example:
        >>> removal_counts([Removal("d2", "7", "spaq_koniq/a.jpg", "name", "test.json", "koniq/a.jpg")], "d2")
        {'removed': 1, 'reasons': {'name: test.json': 1}, 'folders': {'spaq_koniq/ = koniq/': 1}}
    """
    found = [removal for removal in removals if removal.set == name]
    why = Counter(f"{removal.reason}: {removal.list}" for removal in found)
    pairs = Counter(f"{prefix(removal.image)}/ = {prefix(removal.match)}/" for removal in found)
    return {"removed": len(found), "reasons": dict(sorted(why.items())), "folders": dict(sorted(pairs.items()))}


def prefix(image: str) -> str:
    """The first folder of a path, case-folded; empty if there is none.

    Example:
        >>> prefix("spaq_koniq/1.jpg"), prefix("1.jpg")
        ('spaq_koniq', '')
    """
    return image.split("/", maxsplit=1)[0].casefold() if "/" in image else ""


def base(image: str) -> str:
    """The file name of a path, case-folded.

    Example:
        >>> base("livec/A.JPG")
        'a.jpg'
    """
    return image.rsplit("/", maxsplit=1)[-1].casefold()


def clean(
    sets: Mapping[str, Sequence[Row]],
    lists: Sequence[Listed],
    same_as: Sequence[Sequence[str]] = (),
    roots: Mapping[str, Path] | None = None,
) -> Cleaned:
    """Remove every row whose image stands in a list.

    Args:
        sets: Rows of each set.
        lists: Images that training must not see.
        same_as: Groups of folders that hold the same collection, such as ("spaq_koniq", "koniq", "spaq"). If groups are
            given, equal file names count only within a folder, within a group, and where one side has no folder; for
            data whose unrelated sets both have a `1.jpg`. Without groups, equal names always count.
        roots: Folder of the images of each set. With it and a list's `root` the contents of two files decide where
            nothing else does; without them such a row is removed.

    Returns:
        What is left, with every removal by name.

    Raises:
        DataError: A folder stands in two groups.

    Example:
        >>> rows = [Row("1", "spaq_koniq/A.jpg", (("Sharp?", "Yes."),)), Row("2", "coco/b.jpg", (("Sharp?", "No."),))]
        >>> cleaned = clean({"d2": rows}, [Listed("koniq test", ("koniq/a.jpg",))])
        >>> [row.id for row in cleaned.sets["d2"]], cleaned.removals[0].match
        (['2'], 'koniq/a.jpg')
    """
    same = _comparer(same_as)
    known: dict[str, list[tuple[Listed, str]]] = defaultdict(list)
    for listed in lists:
        for image in listed.images:
            known[base(image)].append((listed, image))
    shared = {listed.name: _by_base(listed.among or listed.images) for listed in lists}
    own = {name: _by_base(row.image for row in rows) for name, rows in sets.items()}

    def is_same(name: str, row: Row, listed: Listed, image: str) -> bool:
        if not same(prefix(row.image), prefix(listed.named(image))):
            return False
        if (kin := _kin(name, row, listed)) is not None:
            return kin and _ends(row.image, image) == min(_depth(row.image), _depth(image))
        alike = own[name][base(image)]
        if len(alike) == 1 and len(shared[listed.name][base(image)]) == 1:
            return True
        longest = max(_ends(one, listed.named(image)) for one in alike)
        if longest > 1:
            return _ends(row.image, listed.named(image)) == longest
        return _may_be_one((roots or {}).get(name), row.image, listed.root, image)

    def find(name: str, row: Row) -> Removal | None:
        for listed, image in known.get(base(row.image), ()):
            if is_same(name, row, listed, image):
                return Removal(name, row.id, row.image, "name", listed.name, listed.named(image))
        return None

    return _sift(sets, find)


def _by_base(images: Iterable[str]) -> Mapping[str, set[str]]:
    """The different paths that end in each file name."""
    found: dict[str, set[str]] = defaultdict(set)
    for image in images:
        found[base(image)].add(image.casefold())
    return found


def _kin(name: str, row: Row, listed: Listed) -> bool | None:
    """Whether a row's image is of the same collection as a list's; None if one of them is not known."""
    if listed.of == name:
        return True
    if listed.of not in IQA_SETS:
        return None
    of = row.source if row.source in IQA_SETS else prefix(row.image)
    return of == listed.of if of in IQA_SETS else None


def _depth(image: str) -> int:
    return image.count("/") + 1


def _ends(one: str, other: str) -> int:
    """How many parts of two paths are the same, counted from the end."""
    pairs = zip(reversed(one.casefold().split("/")), reversed(other.casefold().split("/")), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _may_be_one(root: Path | None, image: str, listed_root: Path | None, listed: str) -> bool:
    """Whether two files have one content; also if one of them is not at hand: better one row too few."""
    paths = [place / name for place, name in ((root, image), (listed_root, listed)) if place is not None]
    if len(paths) < 2 or not all(path.is_file() for path in paths):
        return True
    return paths[0].stat().st_size == paths[1].stat().st_size and sha256(paths[0]) == sha256(paths[1])


def clean_by_hash(
    sets: Mapping[str, Sequence[Row]],
    lists: Sequence[Listed],
    roots: Mapping[str, Path],
    threshold: int = 4,
    cache: dict[Path, int] | None = None,
) -> Cleaned:
    """Remove every row whose image looks like one in a list: resized, recompressed or renamed copies.

    Args:
        sets: Rows of each set.
        lists: Images that training must not see, each list with its `root`.
        roots: Folder of the images of each set.
        threshold: Largest number of differing bits, 0..63, of the 64-bit DCT hash.
        cache: Hashes of an earlier pass, by path; new ones are added.

    Returns:
        What is left, with every removal by name.

    Raises:
        DataError: A list or set without a root, a threshold out of range, or imagehash is not installed.
        ImageError: An image cannot be read.

    Reference:
        `imagehash.phash`; images are read without EXIF rotation, as training reads them.
    """
    if not 0 <= threshold < _BITS:
        raise DataError.about("phash.threshold", threshold, f"a number of bits in 0..{_BITS - 1}")
    if rootless := [f"<the list {listed.name}>" for listed in lists if listed.root is None]:
        raise DataError.about(
            "phash", rootless[0], "an `images` folder for each list", "Give one, or switch phash off."
        )
    if unknown := [f"<the set {name}>" for name, rows in sets.items() if rows and name not in roots]:
        raise DataError.about("phash", unknown[0], "an `images` folder for each set")
    hashed = {} if cache is None else cache

    def hash_of(path: Path) -> int:
        if path not in hashed:
            hashed[path] = perceptual_hash(path)
        return hashed[path]

    names = [
        (listed.name, listed.named(image), hash_of((listed.root or Path()) / image))
        for listed in lists
        for image in listed.images
    ]
    index = Near([code for _, _, code in names], threshold)

    def find(name: str, row: Row) -> Removal | None:
        found = index.nearest(hash_of(roots[name] / row.image)) if names else None
        if found is None:
            return None
        place, distance = found
        return Removal(name, row.id, row.image, "phash", names[place][0], names[place][1], distance)

    return _sift(sets, find)


class Cleaner:
    """Cleaning by name, then by hash if that is asked for, and the account of what was removed.

    Args:
        same_as: As for `clean`.
        phash: Most bits in which perceptual hashes may differ; None compares names only.
        roots: Folder of the images of each set.

    Attributes:
        removals: Every row that was removed so far, in order.
    """

    def __init__(self, same_as: Sequence[Sequence[str]], phash: int | None, roots: Mapping[str, Path]) -> None:
        self.removals: list[Removal] = []
        self._same_as, self._phash, self._roots = same_as, phash, roots
        self._hashes: dict[Path, int] = {}

    def clean(self, sets: Mapping[str, tuple[Row, ...]], lists: Sequence[Listed]) -> Mapping[str, tuple[Row, ...]]:
        """Remove every row whose image stands in a list; gives what is left of the sets."""
        cleaned = clean(sets, lists, self._same_as, self._roots)
        self.removals += cleaned.removals
        if self._phash is not None and lists:
            cleaned = clean_by_hash(cleaned.sets, lists, self._roots, self._phash, self._hashes)
            self.removals += cleaned.removals
        return cleaned.sets


class Near:
    """Looks 64-bit codes up by Hamming distance.

    Codes within `threshold` bits agree in at least one of `threshold + 1` bands, so only those are compared.

    Args:
        codes: The codes to look among.
        threshold: Largest distance.

    Example:
        >>> Near([0b1111, 0b0], threshold=2).nearest(0b0111)
        (0, 1)
    """

    def __init__(self, codes: Iterable[int], threshold: int) -> None:
        self._codes = tuple(codes)
        self._threshold = threshold
        ends = [_BITS * band // (threshold + 1) for band in range(threshold + 2)]
        self._bands = [(low, (1 << (high - low)) - 1) for low, high in pairwise(ends)]
        self._places: list[dict[int, list[int]]] = [defaultdict(list) for _ in self._bands]
        for place, code in enumerate(self._codes):
            for (low, mask), places in zip(self._bands, self._places, strict=True):
                places[code >> low & mask].append(place)

    def nearest(self, code: int) -> tuple[int, int] | None:
        """Place and distance of the nearest code, the first of equals; None if all are farther than the threshold."""
        near = {
            place
            for (low, mask), places in zip(self._bands, self._places, strict=True)
            for place in places.get(code >> low & mask, ())
        }
        distances = [((self._codes[place] ^ code).bit_count(), place) for place in near]
        distance, place = min(distances, default=(_BITS + 1, 0))
        return (place, distance) if distance <= self._threshold else None


def perceptual_hash(path: Path) -> int:
    """The 64-bit DCT hash of a picture.

    Raises:
        DataError: imagehash is not installed.
        ImageError: The picture cannot be read.
    """
    try:
        import imagehash
    except ImportError as error:
        hint = "Install it: pip install 'qsit-metric[train]'."
        raise DataError.about("phash", "<no imagehash>", "the package imagehash", hint) from error
    return int(str(imagehash.phash(load(path, exif=False).pixels)), 16)


def _sift(sets: Mapping[str, Sequence[Row]], find: Callable[[str, Row], Removal | None]) -> Cleaned:
    removals: list[Removal] = []
    kept: dict[str, tuple[Row, ...]] = {}
    for name, rows in sets.items():
        found = [find(name, row) for row in rows]
        kept[name] = tuple(row for row, removal in zip(rows, found, strict=True) if removal is None)
        removals += [removal for removal in found if removal]
    return Cleaned(kept, tuple(removals))


def _comparer(groups: Sequence[Sequence[str]]) -> Callable[[str, str], bool]:
    group: dict[str, int] = {}
    for place, names in enumerate(groups):
        for name in names:
            if group.setdefault(name.strip("/").casefold(), place) != place:
                raise DataError.about("same_as", name, "each folder in one group only")

    def same(one: str, other: str) -> bool:
        if not groups or not one or not other or one == other:
            return True
        return one in group and group[one] == group.get(other)

    return same


def images_in(path: Path) -> tuple[str, ...]:
    """The images that a list names.

    Args:
        path: A folder of images; a JSON list or JSON Lines whose elements are paths or have `image` or `img_path`
            (LLaVA lists, Q-Bench's and Q-Align's test lists, LLVisionQA); a label file that `read_scores` knows; a
            parquet file of Q-Bench-HF; or a text file with one path per line.

    Returns:
        Each image once, in order.

    Raises:
        DataError: Nothing is there, or an element names no image: a list that is read in part protects in part.
        EvaluationError: A label file with rows that cannot be used.
    """
    if path.is_dir():
        found = [file.relative_to(path).as_posix() for file in sorted(path.rglob("*")) if _is_image(file)]
        if not found:
            raise DataError.about("exclude", str(path), f"a folder with images ({', '.join(sorted(SUFFIXES))})")
        return tuple(found)
    head = _head(path)
    if head.startswith(b"PAR1"):
        return tuple(dict.fromkeys(question.image for question in read_llvisionqa(path)))
    if head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in (b"[", b"{", b""):
        return _whole(path, [(f"row {place}", _image(fields)) for place, fields in enumerate(read_elements(path))])
    if path.suffix.lower() not in (".txt", ".lst") or format_of(path) is not None:
        return tuple(dict.fromkeys(item.image for item in read_scores(path).items))
    lines = path.read_text(encoding="utf-8-sig").split("\n")
    return _whole(path, [(f"line {place}", line.strip()) for place, line in enumerate(lines, 1) if line.strip()])


def _is_image(file: Path) -> bool:
    return file.suffix.lower() in SUFFIXES and file.is_file()


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_HEAD)
    except OSError as error:
        raise DataError.about("exclude", str(path), "a readable list", f"The system says: {error}.") from error


def _image(fields: object) -> object:
    if not isinstance(fields, Mapping):
        return fields
    image = fields.get("image", fields.get("img_path"))
    return image[0] if isinstance(image, list) and len(image) == 1 else image


def _whole(path: Path, found: list[tuple[str, object]]) -> tuple[str, ...]:
    reasons = [f"{where} has {shorten(image)}" for where, image in found if not _usable(image)]
    if reasons:
        shown = "; ".join(reasons[:_SHOWN]) + (" ..." if len(reasons) > _SHOWN else "")
        raise DataError(
            f"`{path}`: {len(reasons)} of {counted(len(found), 'element')} name no image file: {shown}. "
            "Repair them: an image that is not read here cannot be kept out of training."
        )
    return tuple(dict.fromkeys(str(image) for _, image in found))


def _usable(image: object) -> bool:
    try:
        check_image(image)
    except EvaluationError:
        return False
    return bool(Path(str(image)).suffix)
