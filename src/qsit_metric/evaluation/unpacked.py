"""Public sets as people have them on the disk: labels and images in folders of any case and depth, official splits.

Official splits: KonIQ-10k's `koniq10k_distributions_sets.csv` (subpic/koniq at 1c27157, folder metadata); PIQ23's
`Device Split.csv` (DXOMARK-Research/PIQ2023 at 4a20fa8); FLIVE's `labels640.csv` and `labels=640_padded.csv`, and AVA's
`generic_test.jpgl`, as IQA-PyTorch's `scripts/process_flive.py` and `process_ava.py` at 01ae427 read them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from ..errors import EvaluationError
from .formats import SPLIT_NAMES
from .manifest import Manifest
from .tables import Source

Splits = Callable[[Path], "Mapping[str, str] | None"]

KONIQ_SETS = "koniq10k_distributions_sets.csv"


def find(folder: Path, candidates: Sequence[str]) -> Path | None:
    """The first of the files or folders that is there: as it is written, in any case, or one folder further down.

    Archives are unpacked into folders of their own name, and lists say "jpeg" where the archive has "JPEG". The folder
    itself (".") is taken where nothing else is there.
    """
    wanted = [name for name in candidates if name != "."]
    itself = folder if len(wanted) < len(candidates) else None
    exact = next((folder / name for name in wanted if (folder / name).exists()), None)
    if exact is not None or not folder.is_dir():
        return exact or itself
    below = sorted(child for child in folder.iterdir() if child.is_dir())
    return next((path for place in (folder, *below) for name in wanted for path in _any_case(place, name)), itself)


def _any_case(folder: Path, name: str) -> Iterator[Path]:
    """Paths below a folder that are this one up to case."""
    found = [folder]
    for part in name.split("/"):
        inside = (child for place in found if place.is_dir() for child in sorted(place.iterdir()))
        found = [child for child in inside if child.name.casefold() == part.casefold()]
    yield from found


def names_on_disk(manifest: Manifest, subfolders: Iterable[str]) -> dict[str, str]:
    """Images of a label file that lie in a subfolder, or under a name that differs in case.

    Raises:
        EvaluationError: A name fits two files.
    """
    missing = manifest.missing()
    if not missing or not manifest.root.is_dir():
        return {}
    wanted = {name.casefold() for name in subfolders}
    there: dict[str, list[str]] = {}
    for child in sorted(manifest.root.iterdir()):
        inside = child.iterdir() if child.is_dir() and child.name.casefold() in wanted else ()
        for file in (child, *inside):
            there.setdefault(file.name.casefold(), []).append(file.relative_to(manifest.root).as_posix())
    names: dict[str, str] = {}
    for image in missing:
        found = [one for one in there.get(PurePosixPath(image).name.casefold(), ()) if _ends_alike(one, image)]
        if len(found) > 1:
            raise EvaluationError.about("image", image, f"one file, not {', '.join(sorted(found))}")
        names |= dict.fromkeys([image], found[0]) if found else {}
    return names


def _ends_alike(one: str, other: str) -> bool:
    """Whether one path is the end of the other, up to case."""
    shorter, longer = sorted((one.casefold(), other.casefold()), key=len)
    return f"/{longer}".endswith(f"/{shorter}")


def with_split(manifest: Manifest, name: str, folder: Path) -> Manifest:
    """The manifest with the official split of a set, if the files that have it lie in its folder.

    Raises:
        EvaluationError: They leave an image out.
    """
    splits = SPLITS[name](folder) if name in SPLITS else None
    if splits is None:
        return manifest
    keys = [
        next((key for key in (item.id, item.image, _base(item.image)) if key in splits), "") for item in manifest.items
    ]
    default = splits.get("", "")
    if not default and (without := [item.image for item, key in zip(manifest.items, keys, strict=True) if not key]):
        found = f"<{len(without)} images without a split, first {without[0]}>"
        raise EvaluationError.about("set", found, f"a split for each image in the official file below {folder}")
    items = [replace(item, split=splits.get(key, default)) for item, key in zip(manifest.items, keys, strict=True)]
    return Manifest(manifest.name, items, manifest.root, manifest.scale)


def _base(image: str) -> str:
    return PurePosixPath(image).name


def _column(path: Path | None, image: str, split: str) -> dict[str, str] | None:
    """Image -> split of a table."""
    if path is None:
        return None
    rows = Source(path).check_columns((image, split)).picked({"image": image, "split": split})
    named = [(str(cells["image"]), str(cells["split"])) for _, cells, reason in rows if not reason]
    return {one: SPLIT_NAMES.get(name.lower(), name.lower()) for one, name in named}


def _koniq(folder: Path) -> dict[str, str] | None:
    return _column(find(folder, (KONIQ_SETS, f"metadata/{KONIQ_SETS}")), "image_name", "set")


def _piq23(folder: Path) -> dict[str, str] | None:
    return _column(find(folder, ("Device Split.csv", "Test split/Device Split.csv")), "IMAGE", "SPLIT")


def _flive(folder: Path) -> dict[str, str] | None:
    """Pictures with a side above 640 are to test with, those marked `is_valid` to validate; the others to train."""
    test, other = (find(folder, (name, f"database/{name}")) for name in ("labels640.csv", "labels=640_padded.csv"))
    if test is None or other is None:
        return None
    splits = {"": "train"}
    for _, cells, _ in Source(other).check_columns(("name_image", "is_valid")).picked(_FLIVE):
        if str(cells["valid"]).strip().lower() in ("true", "1", "1.0"):
            splits[str(cells["name"])] = "val"
    for _, cells, _ in Source(test).check_columns(("name_image",)).picked({"name": "name_image"}):
        splits[str(cells["name"])] = "test"
    return splits


def _ava(folder: Path) -> dict[str, str] | None:
    path = find(folder, ("aesthetics_image_lists/generic_test.jpgl", "generic_test.jpgl"))
    if path is None:
        return None
    names = (line.split()[0] for line in Source(path).text.splitlines() if line.strip())
    return {"": "train"} | {f"{name}.jpg": "test" for name in names}


_FLIVE = {"name": "name_image", "valid": "is_valid"}

SPLITS: Mapping[str, Splits] = {"koniq": _koniq, "piq23": _piq23, "flive": _flive, "ava": _ava}
"""Set -> reader of its official split from its folder; the key "" is what all others are."""
