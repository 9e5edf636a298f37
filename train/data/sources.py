"""The sources that a data recipe names, read into rows below one image root per set; every refusal by name."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from qsit_metric import console
from qsit_metric.errors import ImageError, counted
from qsit_metric.evaluation import IQA_SETS, Question, read_iqa, read_llvisionqa, read_scores
from qsit_metric.evaluation.manifest import Item, Manifest
from qsit_metric.pixels import load

from ..errors import DataError, RecipeError
from .cleaning import Listed, images_in
from .recipe import ConversationSource, DataRecipe, Exclude, ScoringSource, parse_strategy, read_mix_yaml
from .rows import EmptyFileError, Refusals, Row, read_llava
from .scoring import SCALES, Scale, read_d1, scoring_row

_T = TypeVar("_T")
_AT_ONCE = 1024  # pictures that wait to be decoded; hundreds of thousands would take memory
Rooted = tuple[list[Row], Path]  # rows, and the folder to which their images are relative


@dataclass(frozen=True)
class Bad:
    """Pictures of one list that cannot be used.

    Attributes:
        reasons: Why, by image.
        missing: Those that are not there; the others cannot be decoded.
    """

    reasons: dict[str, str] = field(default_factory=dict)
    missing: frozenset[str] = frozenset()


@dataclass
class Pictures:
    """A check of picture files before a run: each is looked at once, however many lists have it.

    Attributes:
        check: Look at all; if not, every picture is taken as good.
        decode: Decode them, too, the way training does: a run must not stop days later for one.
        say: Told what is being done.
    """

    check: bool = True
    decode: bool = True
    say: Callable[[str], None] = lambda _: None
    _known: dict[Path, str] = field(default_factory=dict)

    def bad(self, images: Iterable[str], root: Path, title: str) -> Bad:
        """Find the pictures that cannot be used.

        Args:
            images: Paths below the root.
            root: Their folder.
            title: What the list is called.
        """
        if not self.check:
            return Bad()
        paths = {image: root / image for image in images}
        missing = {
            image: f"the image {image!r} is not in {root}" for image, path in paths.items() if not path.is_file()
        }
        broken: dict[str, str] = {}
        if self.decode:
            there = {image: path for image, path in paths.items() if image not in missing}
            self._decode(list(dict.fromkeys(path for path in there.values() if path not in self._known)), title)
            broken = {image: self._known[path] for image, path in there.items() if self._known[path]}
        return Bad(missing | broken, frozenset(missing))

    def _decode(self, paths: Sequence[Path], title: str) -> None:
        if paths:
            self.say(f"Decoding {counted(len(paths), 'picture')} of {title} ...")
        reasons = zip(paths, _in_threads(_problem, paths), strict=True)
        self._known |= dict(console.track(reasons, "Decoding", len(paths)))


class Sources:
    """A recipe's sources, and the account of what they gave.

    Args:
        recipe: Names them.
        base: Folder to which the recipe's paths are relative.
        pictures: Refuses rows whose image file is missing or cannot be decoded.

    Attributes:
        refused: One entry for each refused row: set, file, reason.
        lists: For each list of each set, how many rows it gave.

    Raises:
        RecipeError: An entry of the recipe's `mix` belongs to no source, or two belong to the same.
    """

    def __init__(self, recipe: DataRecipe, base: Path, pictures: Pictures) -> None:
        self.recipe, self.base, self.pictures = recipe, base, pictures
        self.refused: list[dict[str, Any]] = []
        self.lists: dict[str, list[dict[str, Any]]] = {}
        self._strategies = self._mix()

    def rows(self, name: str) -> Rooted:
        """Read "d1", "d2" or "d3"."""
        read: Callable[[Any, Refusals], Rooted] = self._scoring if name == "d1" else self._conversations
        parts = [self._part(name, number, one, read) for number, one in enumerate(getattr(self.recipe, name))]
        return _joined([(rows, root) for rows, root in parts if rows])

    def questions(self) -> tuple[tuple[Question, ...], Path]:
        """Read the validation questions and their image root.

        Refused are malformed ones, those without an answer, and those without a usable image.

        Raises:
            EvaluationError: The file is none, or has no row that can be used.
        """
        source = self.recipe.validation
        if source.questions is None:
            return (), Path()
        path, refusals, kept = self.place(source.questions), Refusals(), []
        root = self.place(source.images) if source.images else path.parent
        questions = read_llvisionqa(path, refused=refusals.reasons)
        bad = self.pictures.bad((one.image for one in questions if one.answer is not None), root, source.questions)
        for question in questions:
            if question.answer is None:
                refusals.add(f"question {question.id}: its answer is withheld; validation needs one")
            elif question.image in bad.reasons:
                refusals.add(f"question {question.id}: {bad.reasons[question.image]}")
            else:
                kept.append(question)
        self._refuse("questions", source.questions, refusals)
        return tuple(kept), root

    def excluded(self) -> list[Listed]:
        """Read the lists of images that training must not see."""
        return [self._excluded(source) for source in self.recipe.exclude]

    def check(self, recipe: object, allowed: bool) -> None:
        """Raise if anything was refused, unless that is allowed.

        Raises:
            DataError: The message counts the refusals and names the first.
        """
        Refusals([f"{one['set']}, {one['file']}: {one['reason']}" for one in self.refused]).check(recipe, allowed)

    def place(self, text: str) -> Path:
        """A path of the recipe: absolute if it was written so, else relative to where we are."""
        path = Path(text).expanduser()
        return path if path.is_absolute() else Path(os.path.relpath(self.base / path))

    def _mix(self) -> Mapping[str, str]:
        """Sampling strategies by file name."""
        recipe = self.recipe
        if recipe.mix is None:
            return {}
        entries = read_mix_yaml(self.place(recipe.mix))
        names = [Path(entry.path).name for entry in entries]
        lists: list[ScoringSource | ConversationSource] = [*recipe.d1, *recipe.d2, *recipe.d3]
        files = {Path(one.file).name for one in lists if one.file}
        if odd := [name for name, count in Counter(names).items() if count > 1 or name not in files]:
            raise RecipeError.about("mix", odd[0], f"each of {', '.join(sorted(files))} once at most")
        return dict(zip(names, (entry.strategy for entry in entries), strict=True))

    def _part(self, name: str, number: int, source: Any, read: Callable[[Any, Refusals], Rooted]) -> Rooted:
        """Read and sample one source, without the rows whose picture cannot be used."""
        title, refusals = source.file or source.folder, Refusals()
        try:
            rows, root = read(source, refusals)
        except EmptyFileError as error:
            refusals.add(error)
            rows, root = [], Path()
        malformed = len(refusals)
        strategy = source.sampling or self._strategies.get(Path(title).name, "all")
        sampled = take(rows, strategy, [self.recipe.seed, int(name[1:]), number])
        bad = self.pictures.bad((row.image for row in sampled), root, title)
        for row in sampled:
            if row.image in bad.reasons:
                refusals.add(f"{row.id}: {bad.reasons[row.image]}")
        kept = [row for row in sampled if row.image not in bad.reasons]
        absent = sum(row.image in bad.missing for row in sampled)
        counts = {"usable": len(rows), "refused": malformed, "sampling": strategy, "sampled": len(sampled)}
        counts |= {"without image": absent, "undecodable": len(sampled) - len(kept) - absent}
        self.lists.setdefault(name, []).append({"list": title, **counts})
        self._refuse(name, title, refusals)
        return kept, root

    def _conversations(self, source: ConversationSource, refusals: Refusals) -> Rooted:
        path = self.place(source.file)
        rows = read_llava(path, source.source or path.stem, refusals)
        return rows, self.place(source.images) if source.images else path.parent

    def _scoring(self, source: ScoringSource, refusals: Refusals) -> Rooted:
        if source.file and source.reader == "authors":
            path = self.place(source.file)
            rows = read_d1(path, source.levels(), source.source or path.stem, refusals)
            return rows, self.place(source.images) if source.images else path.parent
        manifest = _split(self._manifest(source, refusals.reasons), source.split)
        scale = source.levels() or SCALES.get(manifest.name) or Scale(*IQA_SETS[manifest.name].scale)
        found = [_scored(item, scale, source.source or manifest.name, refusals) for item in manifest.items]
        return [row for row in found if row], self.place(source.images) if source.images else manifest.root

    def _manifest(self, source: ScoringSource, refused: list[str]) -> Manifest:
        if source.set and source.folder:
            return read_iqa(source.set, self.place(source.folder), refused=refused)
        reader = None if source.reader == "auto" else source.reader
        names: dict[str, Any] = dict(source.columns.items())
        path, lower = self.place(source.file or ""), source.lower_is_better
        return read_scores(path, reader, refused=refused, lower_is_better=lower, **names)

    def _excluded(self, source: Exclude) -> Listed:
        if source.set and source.folder:
            whole = read_iqa(source.set, self.place(source.folder))
            images, among = (
                tuple(dict.fromkeys(item.image for item in one.items)) for one in (_split(whole, source.split), whole)
            )
            name = f"{source.set} {source.split}".strip()
            return Listed(name, images, whole.root, source.prefix or source.set, source.set, among)
        title = source.file or source.folder or ""
        root = self.place(source.images or title) if source.images or source.folder else None
        return Listed(title, images_in(self.place(title)), root, source.prefix)

    def _refuse(self, name: str, file: str, refusals: Refusals) -> None:
        self.refused += [{"set": name, "file": file, "reason": reason} for reason in refusals.reasons]


def take(rows: Sequence[_T], strategy: str, seed: int | Sequence[int] = 0) -> list[_T]:
    """The part of a list that a strategy names, in the list's own order.

    Args:
        rows: The list.
        strategy: "all", "first:N", "end:N" or "random:N"; N is a count, or `p%` for the ceiling of p percent.
        seed: Decides `random`; whole numbers of 0 or more.

    Raises:
        RecipeError: An unknown strategy.
        DataError: More rows are asked for than there are.

    Example:
        >>> take("abcdefghij", "end:15%"), len(take(range(150_000), "random:22%", seed=1))
        (['i', 'j'], 33000)
    """
    how, number, percent = parse_strategy(strategy)
    count = len(rows) if how == "all" else math.ceil(number * len(rows) / 100) if percent else int(number)
    if count > len(rows):
        raise DataError.about("sampling", strategy, f"at most {counted(len(rows), 'row')}, as there are")
    if how == "random":
        drawn = np.random.default_rng(seed).choice(len(rows), size=count, replace=False)
        return [rows[index] for index in sorted(drawn.tolist())]
    return list(rows[len(rows) - count :] if how == "end" else rows[:count])


def _joined(parts: Sequence[Rooted]) -> Rooted:
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


def _scored(item: Item, scale: Scale, source: str, refusals: Refusals) -> Row | None:
    try:
        return replace(scoring_row(item, scale, source), group=item.group)
    except DataError as error:
        refusals.add(f"{item.image}: {error}")
        return None


def _split(manifest: Manifest, split: str) -> Manifest:
    return manifest.subset(split) if split else manifest


def _problem(path: Path) -> str:
    """Why a picture cannot be decoded; empty if it can. Pillow decodes outside the interpreter's lock."""
    try:
        load(path, exif=False)
    except ImageError as error:
        return f"the picture cannot be decoded: {error}"
    return ""


def _in_threads(work: Callable[[Path], str], paths: Iterable[Path]) -> Iterator[str]:
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        left = iter(paths)
        while batch := list(islice(left, _AT_ONCE)):
            yield from pool.map(work, batch)
