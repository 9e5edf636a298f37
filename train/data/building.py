"""A data recipe -> a frozen folder: read, refuse, sample, clean, split, freeze. Thin shell.

Order: the lists to keep out are cleaned from everything; then the validation rows are drawn from what is left of D1;
then these are cleaned from D1 (another row of the same image), D2 and D3, unless the mode "authors" leaves them in.
"""

from __future__ import annotations

import dataclasses
import json
import platform
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from qsit_metric import __version__
from qsit_metric.evaluation import Question

from ..errors import DataError
from ..mixture import SETS
from .cleaning import Cleaned, Listed, Removal, clean, clean_by_hash, removal_counts
from .folders import check_target, sha256_of
from .freezing import MANIFEST, Frozen, Validation, freeze
from .gathering import conversation_rows, excluded, ledger, scoring_rows, validation_questions
from .pictures import Pictures
from .recipe import DataRecipe, load_recipe
from .rows import Row
from .scoring import level_in
from .splitting import Split, hold_out


@dataclass(frozen=True)
class Built:
    """Everything that is frozen.

    Attributes:
        sets: Rows of d1, d2 and d3.
        validation: What runs validate on.
        roots: Image roots by name.
        refused: What could not be used.
        removed: What was cleaned out.
        report: Counts.
    """

    sets: Mapping[str, tuple[Row, ...]]
    validation: Validation
    roots: Mapping[str, Path]
    refused: Sequence[Mapping[str, Any]]
    removed: Sequence[Mapping[str, Any]]
    report: Mapping[str, Any]


def build(
    recipe: DataRecipe,
    base: Path,
    *,
    name: str = "recipe",
    drop_refused: bool = False,
    check_images: bool = True,
    decode: bool = True,
    say: Callable[[str], None] = lambda _: None,
) -> Built:
    """Make training data in memory.

    Args:
        recipe: What it is made of.
        base: Folder to which the recipe's paths are relative.
        name: What messages call the recipe.
        drop_refused: Leave rows out that cannot be used, and list them, instead of stopping.
        check_images: Refuse rows whose image file is missing.
        decode: With `check_images`: also refuse rows whose picture cannot be decoded; reads every picture once.
        say: Told what is being done.

    Returns:
        The data.

    Raises:
        DataError: Rows cannot be used, or none are left.
        RecipeError: The recipe does not fit its files.
        EvaluationError: A label or question file cannot be used.
    """
    book = ledger(recipe, base, Pictures(check_images, decode, say))
    say("Reading the lists ...")
    gathered = {"d1": scoring_rows(recipe.d1, book)}
    gathered |= {one: conversation_rows(one, getattr(recipe, one), book) for one in ("d2", "d3")}
    questions, asked_root = validation_questions(recipe.validation, book)
    book.check(name, drop_refused)
    roots = {one: root for one, (rows, root) in gathered.items() if rows}
    if not roots:
        raise DataError.about("sources", "<no rows>", "at least one row in d1, d2 or d3", "Give a list in the recipe.")
    lists = [*(excluded(one, book) for one in recipe.exclude), *_asked(questions, asked_root)]
    say("Cleaning ...")
    sweeper = _Sweeper(recipe, roots)
    sets = sweeper.sweep({one: tuple(rows) for one, (rows, _) in gathered.items()}, lists)
    split = _split(sets["d1"], recipe)
    sets = sweeper.sweep({**sets, "d1": split.train}, _held(split, recipe, roots))
    roots |= {"scoring": roots["d1"]} if split.validation else {}
    roots |= {"questions": asked_root} if questions else {}
    report: dict[str, Any] = {
        one: _counts(rows, book.lists.get(one, []), sweeper.removals, one) for one, rows in sets.items()
    }
    report |= {"validation": _validated(split, len(questions), recipe), "excluded": _sizes(lists)}
    removed = [dataclasses.asdict(removal) for removal in sweeper.removals]
    return Built(sets, Validation(split.validation, questions), roots, tuple(book.refused), removed, report)


def freeze_recipe(
    path: Path,
    output: Path,
    *,
    drop_refused: bool = False,
    force: bool = False,
    check_images: bool = True,
    decode: bool = True,
    say: Callable[[str], None] = lambda _: None,
) -> Frozen:
    """Freeze the data of a recipe file; see `build` and `train.data.freezing.freeze`."""
    check_target(output, MANIFEST, force)  # before the work, not only after it
    recipe = load_recipe(path)
    checks = {"drop_refused": drop_refused, "check_images": check_images, "decode": check_images and decode}
    built = build(recipe, path.parent, name=path.name, **checks, say=say)
    how = {
        "recipe": json.loads(json.dumps(dataclasses.asdict(recipe))),
        "recipe_sha256": sha256_of(path),
        "arguments": checks,
        "seed": recipe.seed,
        "versions": {"qsit-metric": __version__, "numpy": np.__version__, "python": platform.python_version()},
    }
    say("Writing ...")
    return freeze(
        built.sets, built.validation, output,
        roots=built.roots, refused=built.refused, removed=built.removed, how=how, report=built.report, force=force,
    )  # fmt: skip


class _Sweeper:
    """Cleans by name, then by hash if the recipe asks for it, and keeps the account."""

    def __init__(self, recipe: DataRecipe, roots: Mapping[str, Path]) -> None:
        self.removals: list[Removal] = []
        self._recipe, self._roots = recipe, dict(roots)
        self._hashes: dict[Path, int] = {}

    def sweep(self, sets: Mapping[str, tuple[Row, ...]], lists: Sequence[Listed]) -> Mapping[str, tuple[Row, ...]]:
        """What is left of the sets."""
        left = self._noted(clean(sets, lists, self._recipe.same_as))
        if self._recipe.phash is not None and lists:
            left = self._noted(clean_by_hash(left, lists, self._roots, self._recipe.phash, self._hashes))
        return left

    def _noted(self, cleaned: Cleaned) -> Mapping[str, tuple[Row, ...]]:
        self.removals += cleaned.removals
        return cleaned.sets


def _split(rows: Sequence[Row], recipe: DataRecipe) -> Split:
    if not rows:
        return Split((), ())
    return hold_out(rows, recipe.validation.fraction, recipe.seed, recipe.validation.mode)


def _counts(rows: Sequence[Row], lists: Sequence[Any], removals: Sequence[Removal], name: str) -> dict[str, Any]:
    fields: dict[str, Any] = {"lists": list(lists), **removal_counts(removals, name), "rows": len(rows)}
    fields |= {"images": len({row.image for row in rows}), "sources": _tally(row.source for row in rows)}
    return fields | ({"levels": _tally(level_in(row) for row in rows)} if name == SETS[0] else {})


def _validated(split: Split, questions: int, recipe: DataRecipe) -> dict[str, Any]:
    """The validation rows' counts; `held out` is how many of them left D1."""
    rows = split.validation
    counts = {"rows": len(rows), "held out": len(rows) if recipe.validation.mode == "holdout" else 0}
    tallies = {"sources": _tally(row.source for row in rows), "levels": _tally(level_in(row) for row in rows)}
    return {**counts, **tallies, "questions": questions}


def _asked(questions: Sequence[Question], root: Path) -> list[Listed]:
    images = tuple(dict.fromkeys(question.image for question in questions))
    return [Listed("validation questions", images, root)] if images else []


def _held(split: Split, recipe: DataRecipe, roots: Mapping[str, Path]) -> list[Listed]:
    if recipe.validation.mode == "authors" or not split.validation:
        return []
    return [Listed("validation rows", tuple(row.image for row in split.validation), roots["d1"])]


def _sizes(lists: Sequence[Listed]) -> list[dict[str, Any]]:
    return [{"list": listed.name, "images": len(listed.images)} for listed in lists]


def _tally(names: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(names).items()))
