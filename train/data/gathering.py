"""A data recipe's sources -> rows below one image root per set; every refusal by name. Thin shell."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from qsit_metric.evaluation import IQA_SETS, Question, read_iqa, read_llvisionqa, read_scores
from qsit_metric.evaluation.manifest import Item, Manifest

from ..errors import DataError, RecipeError
from .cleaning import Listed
from .listing import images_in
from .pictures import Pictures
from .recipe import ConversationSource, DataRecipe, Exclude, ScoringSource, ValidationSource
from .rows import EmptyFileError, Refusals, Row, read_llava
from .sampling import read_mix_yaml, take
from .scoring import SCALES, Scale, read_d1, scoring_row


@dataclass
class Ledger:
    """What is refused on the way, and what each list gave.

    Attributes:
        base: Folder to which the recipe's paths are relative.
        seed: The recipe's seed.
        strategies: Sampling strategies by file name, from `mix`.
        pictures: Refuses rows whose image file is missing or cannot be decoded.
        refused: One entry for each refused row: set, file, reason.
        lists: For each list of each set, what it gave.
    """

    base: Path
    seed: int = 0
    strategies: dict[str, str] = field(default_factory=dict)
    pictures: Pictures = field(default_factory=Pictures)
    refused: list[dict[str, Any]] = field(default_factory=list)
    lists: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def place(self, text: str) -> Path:
        """A path of the recipe: absolute if it was written so, else relative to where we are."""
        path = Path(text).expanduser()
        return path if path.is_absolute() else Path(os.path.relpath(self.base / path))

    def refuse(self, name: str, file: str, refusals: Refusals) -> None:
        """Take over what one list's reader refused."""
        self.refused += [{"set": name, "file": file, "reason": reason} for reason in refusals.reasons]

    def check(self, recipe: object, allowed: bool) -> None:
        """Raise if anything was refused, unless that is allowed.

        Raises:
            DataError: The message counts the refusals and names the first.
        """
        Refusals([f"{one['set']}, {one['file']}: {one['reason']}" for one in self.refused]).check(recipe, allowed)


def ledger(recipe: DataRecipe, base: Path, pictures: Pictures) -> Ledger:
    """Start a ledger; reads `mix`.

    Raises:
        RecipeError: An entry of the mix belongs to no source, or two belong to the same.
    """
    found = Ledger(base, recipe.seed, pictures=pictures)
    if recipe.mix is None:
        return found
    entries = read_mix_yaml(found.place(recipe.mix))
    names = [Path(entry.path).name for entry in entries]
    files = {Path(file).name for file in _files(recipe) if file}
    if odd := [name for name, count in Counter(names).items() if count > 1 or name not in files]:
        raise RecipeError.about("mix", odd[0], f"each of {', '.join(sorted(files))} once at most")
    return replace(found, strategies=dict(zip(names, (entry.strategy for entry in entries), strict=True)))


def _files(recipe: DataRecipe) -> list[str | None]:
    return [*(one.file for one in recipe.d1), *(one.file for one in recipe.d2), *(one.file for one in recipe.d3)]


def scoring_rows(sources: Sequence[ScoringSource], book: Ledger) -> tuple[list[Row], Path]:
    """Read D1: rows and the folder to which their images are relative."""
    return _gathered("d1", sources, _scoring, book)


def conversation_rows(name: str, sources: Sequence[ConversationSource], book: Ledger) -> tuple[list[Row], Path]:
    """Read D2 or D3: rows and the folder to which their images are relative."""
    return _gathered(name, sources, _conversations, book)


def validation_questions(source: ValidationSource, book: Ledger) -> tuple[tuple[Question, ...], Path]:
    """Read the validation questions; refused are malformed ones, those without an answer or without a usable image.

    Raises:
        EvaluationError: The file is none, or has no row that can be used.
    """
    if source.questions is None:
        return (), Path()
    path, refusals, kept = book.place(source.questions), Refusals(), []
    root = book.place(source.images) if source.images else path.parent
    questions = read_llvisionqa(path, refused=refusals.reasons)
    bad = book.pictures.bad((one.image for one in questions if one.answer is not None), root, source.questions)
    for question in questions:
        if question.answer is None:
            refusals.add(f"question {question.id}: its answer is withheld; validation needs one")
        elif question.image in bad.reasons:
            refusals.add(f"question {question.id}: {bad.reasons[question.image]}")
        else:
            kept.append(question)
    book.refuse("questions", source.questions, refusals)
    return tuple(kept), root


def excluded(source: Exclude, book: Ledger) -> Listed:
    """Read one list of images that training must not see."""
    if source.set and source.folder:
        manifest = _split(read_iqa(source.set, book.place(source.folder)), source.split)
        images = tuple(dict.fromkeys(item.image for item in manifest.items))
        return Listed(f"{source.set} {source.split}".strip(), images, manifest.root, source.prefix or source.set)
    title = source.file or source.folder or ""
    root = book.place(source.images or title) if source.images or source.folder else None
    return Listed(title, images_in(book.place(title)), root, source.prefix)


_Read = Callable[[Any, Ledger, Refusals], "tuple[list[Row], Path]"]


def _gathered(name: str, sources: Sequence[Any], read: _Read, book: Ledger) -> tuple[list[Row], Path]:
    parts = [_part(name, number, source, read, book) for number, source in enumerate(sources)]
    return _joined([(rows, root) for rows, root in parts if rows])


def _part(name: str, number: int, source: Any, read: _Read, book: Ledger) -> tuple[list[Row], Path]:
    title, refusals = source.file or source.folder, Refusals()
    try:
        rows, root = read(source, book, refusals)
    except EmptyFileError as error:
        refusals.add(error)
        rows, root = [], Path()
    malformed = len(refusals)
    strategy = source.sampling or book.strategies.get(Path(title).name, "all")
    sampled = take(rows, strategy, [book.seed, int(name[1:]), number])
    bad = book.pictures.bad((row.image for row in sampled), root, title)
    for row in sampled:
        if row.image in bad.reasons:
            refusals.add(f"{row.id}: {bad.reasons[row.image]}")
    kept = [row for row in sampled if row.image not in bad.reasons]
    absent = sum(row.image in bad.missing for row in sampled)
    counts = {"usable": len(rows), "refused": malformed, "sampling": strategy, "sampled": len(sampled)}
    counts |= {"without image": absent, "undecodable": len(sampled) - len(kept) - absent}
    book.lists.setdefault(name, []).append({"list": title, **counts})
    book.refuse(name, title, refusals)
    return kept, root


def _joined(parts: Sequence[tuple[list[Row], Path]]) -> tuple[list[Row], Path]:
    """Rows of several sources below one root; with different roots their images' paths become longer."""
    roots = [root for _, root in parts]
    if len({os.path.realpath(root) for root in roots}) <= 1:
        return [row for rows, _ in parts for row in rows], roots[0] if roots else Path()
    full = [Path(os.path.abspath(root)) for root in roots]  # noqa: PTH100  # links stay as they are named
    common = Path(os.path.commonpath(full))
    rows = [
        replace(row, image=(place.relative_to(common) / row.image).as_posix())
        for (found, _), place in zip(parts, full, strict=True)
        for row in found
    ]
    return rows, common if any(root.is_absolute() for root in roots) else Path(os.path.relpath(common))


def _conversations(source: ConversationSource, book: Ledger, refusals: Refusals) -> tuple[list[Row], Path]:
    path = book.place(source.file)
    rows = read_llava(path, source.source or path.stem, refusals)
    return rows, book.place(source.images) if source.images else path.parent


def _scoring(source: ScoringSource, book: Ledger, refusals: Refusals) -> tuple[list[Row], Path]:
    if source.file and source.reader == "authors":
        path = book.place(source.file)
        rows = read_d1(path, source.levels(), source.source or path.stem, refusals)
        return rows, book.place(source.images) if source.images else path.parent
    manifest = _split(_manifest(source, book, refusals.reasons), source.split)
    scale = source.levels() or SCALES.get(manifest.name) or Scale(*IQA_SETS[manifest.name].scale)
    found = [_scored(item, scale, source.source or manifest.name, refusals) for item in manifest.items]
    return [row for row in found if row], book.place(source.images) if source.images else manifest.root


def _manifest(source: ScoringSource, book: Ledger, refused: list[str]) -> Manifest:
    if source.set and source.folder:
        return read_iqa(source.set, book.place(source.folder), refused=refused)
    reader = None if source.reader == "auto" else source.reader
    return read_scores(book.place(source.file or ""), reader, refused=refused)


def _scored(item: Item, scale: Scale, source: str, refusals: Refusals) -> Row | None:
    try:
        return scoring_row(item, scale, source)
    except DataError as error:
        refusals.add(f"{item.image}: {error}")
        return None


def _split(manifest: Manifest, split: str) -> Manifest:
    return manifest.subset(split) if split else manifest
