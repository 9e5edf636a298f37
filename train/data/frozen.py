"""Training data as one folder of plain files with their hashes: what every run reads, and can name.

The folder holds the three sets and the validation rows, what was refused and removed, and `data.json`, which says how
all of it came about. It is written beside its place and renamed, so it is there whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qsit_metric.errors import counted
from qsit_metric.evaluation import Question, read_llvisionqa, write_llvisionqa
from qsit_metric.files import new_folder, sha256, write_atomic

from ..errors import DataError
from ..mixture import SETS, Sizes
from .rows import Row, read_llava, to_jsonl

VERSION = 1
MANIFEST = "data.json"
FILES: dict[str, str] = {name: f"{name}.jsonl" for name in SETS} | {
    "scoring": "val_scoring.jsonl",
    "questions": "val_questions.json",
}
LISTS: dict[str, str] = {"refused": "refused.jsonl", "removed": "removed.jsonl"}
_SHOWN = 3


@dataclass(frozen=True)
class Validation:
    """Validation data of a run.

    Attributes:
        scoring: Scoring rows with their MOS.
        questions: LLVisionQA questions.
    """

    scoring: tuple[Row, ...] = ()
    questions: tuple[Question, ...] = ()


@dataclass(frozen=True, eq=False)
class Frozen:
    """A frozen folder, read and verified; `load` makes it.

    Attributes:
        folder: The folder.
        record: The content of its `data.json`.
        val_scoring: The scoring rows to validate on.
        val_questions: The questions to validate on.
    """

    folder: Path
    record: Mapping[str, Any]
    val_scoring: tuple[Row, ...]
    val_questions: tuple[Question, ...]
    _sets: Mapping[str, tuple[Row, ...]]
    _roots: Mapping[str, Path]

    @classmethod
    def load(cls, folder: str | os.PathLike[str], images: Mapping[str, str] | None = None) -> Frozen:
        """Read a frozen folder and hold every file against its hash.

        Args:
            folder: The folder.
            images: Image roots that replace the recorded ones; keys d1, d2, d3, scoring, questions.

        Raises:
            DataError: No frozen folder, or a file in it is not what was frozen; the message names it.
        """
        place = Path(folder)
        record = _record(place)
        if unknown := sorted(set(images or {}) - set(FILES)):
            raise DataError.about("images", unknown[0], f"keys among {', '.join(FILES)}")
        entries = _verified(place, record)
        roots = {name: place / entry["images"] for name, entry in entries.items() if entry.get("images") is not None}
        roots |= {name: Path(root) for name, root in (images or {}).items()}
        rows = {name: _read(place, name, entry, read_llava) for name, entry in entries.items() if name != "questions"}
        questions = _read(place, "questions", entries["questions"], read_llvisionqa)
        return cls(place, record, rows.pop("scoring"), questions, rows, roots)

    def rows(self, name: str) -> tuple[Row, ...]:
        """The rows of "d1", "d2" or "d3".

        Raises:
            DataError: Another name.
        """
        if name not in self._sets:
            raise DataError.about("set", name, f"one of {', '.join(SETS)}")
        return self._sets[name]

    @property
    def counts(self) -> Sizes:
        """Rows of each set."""
        return Sizes(*(len(self._sets[name]) for name in SETS))

    @property
    def digest(self) -> str:
        """SHA-256 over all files of rows and questions; the same wherever the folder and the images lie."""
        return _digest({**self.record["sets"], **self.record["validation"]})

    def root(self, name: str) -> Path:
        """The image root of d1, d2, d3, scoring or questions.

        Raises:
            DataError: Another name, or no root was frozen or given.
        """
        if name not in FILES:
            raise DataError.about("set", name, f"one of {', '.join(FILES)}")
        if name not in self._roots:
            raise DataError.about(
                f"images.{name}",
                "<nothing>",
                f"the folder of its images: none was frozen in {self.folder}",
                f"Say where they are: --set 'data.images={{{name}: FOLDER}}'.",
            )
        return self._roots[name]

    def check_images(self) -> None:
        """Look that every image is there.

        Raises:
            DataError: Some are not; the message counts them by set, names the first ones, and says how to go on.
        """
        named: dict[str, Iterable[str]] = {name: (row.image for row in rows) for name, rows in self._sets.items()}
        named["scoring"] = (row.image for row in self.val_scoring)
        named["questions"] = (question.image for question in self.val_questions)
        lacking: dict[str, str] = {}
        files: set[Path] = set()  # a picture of two sets is one picture
        for name, found in named.items():
            images = dict.fromkeys(found)
            if missing := [image for image in images if not self._is_there(name, image)]:
                files |= {self._roots.get(name, Path(name)) / image for image in missing}
                lacking[name] = self._lacking(name, missing, len(images))
        if lacking:
            folders = ", ".join(f"{name}: FOLDER" for name in lacking)
            hint = f"Say where they are: --set 'data.images={{{folders}}}', or freeze again with --drop-refused."
            are = "is" if len(files) == 1 else "are"
            raise DataError(
                f"`{self.folder}`: {counted(len(files), 'image')} {are} missing: {'; '.join(lacking.values())}. {hint}"
            )

    def _is_there(self, name: str, image: str) -> bool:
        return name in self._roots and (self._roots[name] / image).is_file()

    def _lacking(self, name: str, missing: Sequence[str], total: int) -> str:
        """Say what one set lacks."""
        count = f"{name}: {len(missing)} of {total}"
        if name not in self._roots:
            return f"{count}, no folder was frozen"
        shown = ", ".join(missing[:_SHOWN]) + (", ..." if len(missing) > _SHOWN else "")
        return f"{count} in {self._roots[name]} ({shown})"


def freeze(
    sets: Mapping[str, Sequence[Row]],
    validation: Validation,
    folder: str | os.PathLike[str],
    *,
    roots: Mapping[str, Path] | None = None,
    refused: Sequence[Mapping[str, Any]] = (),
    removed: Sequence[Mapping[str, Any]] = (),
    how: Mapping[str, Any] | None = None,
    report: Mapping[str, Any] | None = None,
    force: bool = False,
) -> Frozen:
    """Write training data to a folder, whole or not at all.

    Args:
        sets: Rows of d1, d2 and d3; a set that is not there is empty.
        validation: What runs validate on.
        folder: Where to.
        roots: Image roots by name (d1, d2, d3, scoring, questions); a relative one is recorded relative to the folder.
        refused: What could not be used, one JSON object each.
        removed: What was cleaned out, one JSON object each.
        how: How the data was made: arguments, seeds, versions.
        report: Counts.
        force: Replace a frozen folder that is already there.

    Returns:
        The folder, read back and verified.

    Raises:
        DataError: The folder is there (and `force` is not given, or it is no frozen folder), cannot be written, or a
            name is unknown.
    """
    if unknown := sorted((set(sets) - set(SETS)) | (set(roots or {}) - set(FILES))):
        raise DataError.about("sets", unknown[0], f"names among {', '.join(FILES)}")
    target = Path(folder)
    check_target(target, MANIFEST, force)
    texts = {name: to_jsonl(sets.get(name, ())) for name in SETS} | {"scoring": to_jsonl(validation.scoring)}
    texts |= {"refused": _lines(refused), "removed": _lines(removed)}
    counts = {name: len(sets.get(name, ())) for name in SETS} | {"scoring": len(validation.scoring)}
    counts |= {"questions": len(validation.questions), "refused": len(refused), "removed": len(removed)}
    images = {name: _portable(root, target) for name, root in (roots or {}).items()}
    try:
        with new_folder(target.resolve()) as place:
            _write_lists(place, texts, validation.questions)
            record = {**_describe(place, counts, images), "how": dict(how or {}), "report": dict(report or {})}
            write_atomic(place / MANIFEST, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    except OSError as error:
        hint = f"The system says: {error}."
        raise DataError.about("output", str(target), "a folder that can be written", hint) from error
    return Frozen.load(target)


def _write_lists(place: Path, texts: Mapping[str, str], questions: Sequence[Question]) -> None:
    for name, text in texts.items():
        write_atomic(place / (FILES | LISTS)[name], text)
    if questions:
        write_llvisionqa(place / FILES["questions"], questions)
    else:
        write_atomic(place / FILES["questions"], "[]\n")


def _describe(place: Path, counts: Mapping[str, int], roots: Mapping[str, str]) -> dict[str, Any]:
    entries: dict[str, dict[str, Any]] = {}
    for name, file in (FILES | LISTS).items():
        entries[name] = {"file": file, "rows": counts[name], "sha256": sha256(place / file)}
        entries[name] |= {"images": roots.get(name)} if name in FILES else {}
    sets = {name: entries[name] for name in SETS}
    validation = {name: entries[name] for name in ("scoring", "questions")}
    lists = {name: entries[name] for name in LISTS}
    return {
        "version": VERSION,
        "digest": _digest({**sets, **validation}),
        "sets": sets,
        "validation": validation,
        **lists,
    }


def _digest(entries: Mapping[str, Mapping[str, Any]]) -> str:
    return hashlib.sha256("".join(f"{name} {entries[name]['sha256']}\n" for name in FILES).encode()).hexdigest()


def _portable(root: Path, folder: Path) -> str:
    """An image root as it is recorded: a relative one between the real places, as `..` leaves a link by its target."""
    return str(root) if root.is_absolute() else Path(os.path.relpath(root.resolve(), folder.resolve())).as_posix()


def _record(place: Path) -> dict[str, Any]:
    try:
        record = json.loads((place / MANIFEST).read_text(encoding="utf-8"))
        version = record["version"]
    except (OSError, ValueError, TypeError, KeyError) as error:
        hint = "Make one with `python -m train data freeze`."
        raise DataError.about("folder", str(place), f"a frozen folder with a readable {MANIFEST}", hint) from error
    if version != VERSION:
        raise DataError.about(f"{place / MANIFEST}: version", version, str(VERSION), "Freeze the data again.")
    return dict(record)


def _verified(place: Path, record: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The entries of all files of rows and questions, once each file has the hash that its entry states."""
    try:
        entries = {**record["sets"], **record["validation"], **{name: record[name] for name in LISTS}}
        hashes = {name: (str(entries[name]["sha256"]), int(entries[name]["rows"])) for name in FILES | LISTS}
    except (KeyError, TypeError, ValueError) as error:
        raise DataError.about("folder", str(place), f"a {MANIFEST} as it was frozen", f"No {error} in it.") from error
    for name, (frozen, _) in hashes.items():
        path = place / (FILES | LISTS)[name]
        if not path.is_file():
            raise DataError.about("file", str(path), "the file that was frozen", "It is gone; freeze the data again.")
        if (found := sha256(path)) != frozen:
            hint = "The file was changed: put the original back, or freeze the data again."
            raise DataError.about("file", str(path), f"the SHA-256 {frozen[:12]}... not {found[:12]}...", hint)
    return {name: dict(entries[name]) for name in FILES}


def _read(place: Path, name: str, entry: Mapping[str, Any], read: Callable[[Path], Iterable[Any]]) -> tuple[Any, ...]:
    rows = tuple(read(place / FILES[name])) if entry["rows"] else ()
    if len(rows) != entry["rows"]:
        raise DataError.about(
            f"{place / FILES[name]}", f"<{counted(len(rows), 'row')}>", f"{entry['rows']}, as {MANIFEST} says"
        )
    return rows


def _lines(entries: Iterable[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(dict(entry), ensure_ascii=False) + "\n" for entry in entries)


def check_target(target: Path, mark: str, force: bool) -> None:
    """Refuse a place that is taken.

    Args:
        target: The folder to write.
        mark: Name of the file that every folder of this kind has; a folder without it is somebody else's.
        force: A folder of this kind may be replaced.

    Raises:
        DataError: The folder is not empty and is of another kind, or `force` is not given.
    """
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    if not (target / mark).is_file():
        raise DataError.about("output", str(target), "a new folder, or one that was frozen before", "Name another one.")
    if not force:
        raise DataError.about("output", str(target), "a folder that is not there yet", "Replace it with --force.")
