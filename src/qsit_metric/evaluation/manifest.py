"""Manifest of a data set: which images, with which mean opinion scores, below which folder.

Format: Q-Bench's `a3_iqa_databases/jsons/*.json` (github.com/Q-Future/Q-Bench at f19783e), a JSON list of
`{"img_path", "gt_score"}`; ours may also carry `id`, `split` and `level`.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple

from ..errors import DependencyError, refuse, shorten
from ..errors import EvaluationError as EvaluationError  # noqa: PLC0414  # exported by the package
from ..files import Files, PathLike
from ..levels import LEVELS

FILES = Files(EvaluationError)


@dataclass(frozen=True)
class Item:
    """One image with its mean opinion score.

    Attributes:
        image: Path below the manifest's root, with forward slashes.
        mos: Mean opinion score on the data set's own scale, higher is better.
        id: Name of the row.
        split: "train", "test" ...; empty if the set has none.
        level: The level word that the label file states, one of `qsit_metric.levels.LEVELS`; None if it states none.
        group: What belongs together, such as versions of one reference; empty if that is not known. It decides nothing
            about scores, and is not part of a manifest's hash.

    Raises:
        EvaluationError: An absolute path, one that leaves the root, a MOS that is no finite number, or an unknown
            level.

    Example:
        >>> Item("koniq/1.jpg", 3.5, "1").mos
        3.5
    """

    image: str
    mos: float
    id: str
    split: str = ""
    level: str | None = None
    group: str = ""

    def __post_init__(self) -> None:
        check_image(self.image)
        object.__setattr__(self, "mos", number(self.mos, "mos"))
        for name in ("id", "split", "group"):
            if not isinstance(getattr(self, name), str):
                raise EvaluationError.about(name, getattr(self, name), "text")
        if self.level is not None and self.level not in LEVELS:
            raise EvaluationError.about("level", self.level, f"one of {', '.join(LEVELS)}")

    def as_dict(self) -> dict[str, Any]:
        """The item as a manifest file has it; what is empty is left out."""
        fields: dict[str, Any] = {"img_path": self.image, "gt_score": self.mos}
        fields |= {"id": self.id} if self.id != self.image else {}
        fields |= {"split": self.split} if self.split else {}
        return fields | ({"level": self.level} if self.level is not None else {})


@dataclass(frozen=True, init=False)
class Manifest:
    """Images with their mean opinion scores, and the folder in which they lie.

    Attributes:
        name: Name of the data set, for reports.
        items: The items, in order.
        root: Folder of the images; it is not part of the file or of the hash.
        scale: What the scores are, such as "MOS_zscore, 3.91..88.39", for reports; not part of them either.

    Raises:
        EvaluationError: No items, or an image with two different scores.

    Example:
        >>> m = Manifest("mine", [Item("a.jpg", 3, "a"), Item("b.jpg", 4, "b", "test")], "images")
        >>> len(m), m.subset("test").items[0].image, m.path(m.items[0]).as_posix()
        (2, 'b.jpg', 'images/a.jpg')
    """

    name: str
    items: tuple[Item, ...]
    root: Path = field(compare=False)
    scale: str = field(compare=False)

    def __init__(self, name: str, items: Sequence[Item], root: PathLike, scale: str = "") -> None:
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "items", tuple(items))
        object.__setattr__(self, "root", Path(root))
        object.__setattr__(self, "scale", scale)
        if not self.items:
            raise EvaluationError.about("items", "<no items>", "at least one image with its score")
        odd = _contradictory(self.items)
        refuse(name, list(odd.values()), len({item.image for item in self.items}), "image")

    def __len__(self) -> int:
        return len(self.items)

    def path(self, item: Item) -> Path:
        """Where an item's image lies."""
        return self.root / item.image

    def subset(self, split: str) -> Manifest:
        """The items of one split.

        Raises:
            EvaluationError: No item has this split; the message lists the splits.
        """
        picked = [item for item in self.items if item.split == split]
        if not picked:
            known = ", ".join(sorted({repr(item.split) for item in self.items}))
            raise EvaluationError.about("split", split, f"one of {known}")
        return Manifest(f"{self.name}-{split}", picked, self.root, self.scale)

    def at(self, root: PathLike) -> Manifest:
        """The same items below another folder."""
        return Manifest(self.name, self.items, root, self.scale)

    def missing(self) -> list[str]:
        """The images that are not there, each once, in order."""
        names = dict.fromkeys(item.image for item in self.items)
        return [name for name in names if not (self.root / name).is_file()]

    @property
    def sha256(self) -> str:
        """Hash of the file that `save` writes; root, name and groups are not part of it."""
        return hashlib.sha256(self._text().encode()).hexdigest()

    def save(self, path: PathLike) -> None:
        """Write the manifest, whole or not at all.

        Raises:
            EvaluationError: The file cannot be written.
        """
        FILES.write(Path(path), self._text(groups=True))

    @classmethod
    def load(cls, path: PathLike, root: PathLike | None = None, name: str | None = None) -> Manifest:
        """Read a manifest, ours or one of Q-Bench's.

        Args:
            path: JSON list of `{"img_path", "gt_score"}`; scores may be numbers or numeric text. `id`, `split`,
                `level` and `group` are kept, other keys are ignored.
            root: Folder of the images; default: the file's own.
            name: Name of the data set; default: the file's, without suffix.

        Raises:
            EvaluationError: No such file or format, or rows that cannot be used; the message names them.
        """
        source = Path(path)
        items = usable_items(source, manifest_rows(source), image="img_path", mos="gt_score")
        return cls(name or source.stem, items, source.parent if root is None else root)

    def _text(self, groups: bool = False) -> str:
        fields = [item.as_dict() | ({"group": item.group} if groups and item.group else {}) for item in self.items]
        lines = [json.dumps(one, sort_keys=True, ensure_ascii=True) for one in fields]
        return "[\n" + ",\n".join(lines) + "\n]\n"


class Row(NamedTuple):
    """One row of a label file, unchecked.

    Attributes:
        where: Its place in the file, for messages.
        image: Path of the image.
        mos: Its score.
        id: Name of the row; None: the image.
        split: "train", "test" ...; None if there is none.
        level: The level word that the file states, or None.
        reason: Why the row cannot be used, if that is known already.
        group: What it belongs to, or None.
    """

    where: str
    image: Any = None
    mos: Any = None
    id: Any = None
    split: Any = None
    level: Any = None
    reason: str = ""
    group: Any = None


def usable_items(
    source: object,
    rows: Iterable[Row],
    *,
    image: str = "image",
    mos: str = "mos",
    best: float | None = None,
    refused: list[str] | None = None,
) -> tuple[Item, ...]:
    """Items of a label file's rows; those that cannot be used are counted and named, never dropped unseen.

    Args:
        source: The file, for the message.
        rows: Its rows.
        image: What the file calls its images, for the message.
        mos: What the file calls its scores, for the message.
        best: The best of scores for which lower is better, from which they are subtracted; None leaves scores as they
            are.
        refused: Takes the rows that cannot be used, a line each; None raises for them.

    Returns:
        All rows, or those that can be used; of an image with two scores none can.

    Raises:
        EvaluationError: Rows cannot be used and nobody takes them, or no other row is left.
    """
    read = [(row.where, _item_or_reason(row, image, mos, best)) for row in rows]
    odd = _contradictory(found for _, found in read if isinstance(found, Item))
    usable: list[Item] = []
    reasons: list[str] = []
    for where, found in read:
        if isinstance(found, Item) and found.image not in odd:
            usable.append(found)
        else:
            reasons.append(f"{where}: {odd[found.image] if isinstance(found, Item) else found}")
    refuse(source, reasons, len(read), refused=refused)
    return tuple(usable)


def _item_or_reason(row: Row, image: str, mos: str, best: float | None) -> Item | str:
    if row.reason:
        return row.reason
    try:
        check_image(row.image, image)
        score = number(row.mos, mos)
        name = row.image if row.id is None else str(row.id)
        split, group = ("" if one is None else one for one in (row.split, row.group))
        return Item(row.image, score if best is None else best - score, name, split, row.level, str(group))
    except EvaluationError as error:
        return str(error).rstrip(".")


def number(value: Any, name: str = "score") -> float:
    """Read a finite number, or text that is one; `name` is what messages call it.

    Raises:
        EvaluationError: Anything else.

    Example:
        >>> number("3.83"), number(4)
        (3.83, 4.0)
    """
    # Python reads "1_0" as 10; nobody writes a score like that on purpose.
    usable = not isinstance(value, bool) and not (isinstance(value, str) and "_" in value)
    try:
        found = float(value) if usable else math.nan
    except (TypeError, ValueError, OverflowError):
        found = math.nan
    if not math.isfinite(found):
        raise EvaluationError.about(name, value, "a finite number")
    return found


def check_image(image: Any, name: str = "image") -> None:
    """Refuse what is no path below a root; `name` is what messages call it.

    Raises:
        EvaluationError: Empty, absolute, with backward slashes, or leaving the root.
    """
    usable = isinstance(image, str) and bool(image.strip()) and "\\" not in image and "\0" not in image
    if not usable or PurePosixPath(image).is_absolute() or PureWindowsPath(image).drive or ".." in image.split("/"):
        hint = "Pass the folder as `root`."
        raise EvaluationError.about(name, image, "a path below the image folder, with forward slashes", hint)


def json_row(place: int, fields: Any, image_keys: Sequence[str] = ("img_path",), mos_key: str = "gt_score") -> Row:
    """The row that an element of a JSON list stands for; the image is under the first of the keys that is there."""
    where = f"row {place}"
    if not isinstance(fields, Mapping):
        return Row(where, reason=f"it is {shorten(fields)}, expected an object")
    image = next((key for key in image_keys if key in fields), None)
    if absent := [*([] if image else [" or ".join(image_keys)]), *([] if mos_key in fields else [mos_key])]:
        return Row(where, reason=f"no {' and no '.join(absent)}")
    rest = {key: fields[key] for key in ("id", "split", "level", "group") if key in fields}
    return Row(where, fields[image or ""], fields[mos_key], **rest)


def manifest_rows(path: Path) -> Iterator[Row]:
    """Rows of a manifest file; see `Manifest.load`.

    Raises:
        EvaluationError: No such file or format.
    """
    return (json_row(place, fields) for place, fields in enumerate(read_json_list(path)))


def read_json_list(path: Path) -> list[Any]:
    """Read the elements of a JSON list that has some.

    Raises:
        EvaluationError: No JSON, no list, or an empty one.
    """
    expected = "a JSON list with at least one element"
    content: list[Any] = FILES.json(path, list, expected)
    if not content:
        raise EvaluationError.about("path", str(path), expected)
    return content


def missing_package(package: str, path: object) -> DependencyError:
    """The error of a file format whose package is not installed."""
    return DependencyError.about(
        "path", str(path), f"{package} to be installed, which reads this format", "pip install 'qsit-metric[eval]'"
    )


def _contradictory(items: Iterable[Item]) -> dict[str, str]:
    """Images with more than one score, and what is wrong with each."""
    scores: dict[str, dict[float, None]] = {}
    for item in items:
        scores.setdefault(item.image, {})[item.mos] = None
    return {
        image: f"{image!r} has the scores {' and '.join(map(str, found))}"
        for image, found in scores.items()
        if len(found) > 1
    }


def renamed(manifest: Manifest, names: Mapping[str, str]) -> Manifest:
    """The manifest with some images under another path; ids stay as the label file has them."""
    items = [replace(item, image=names.get(item.image, item.image)) for item in manifest.items]
    return Manifest(manifest.name, items, manifest.root, manifest.scale)
