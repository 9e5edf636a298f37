"""A data recipe -> a frozen folder: read, refuse, sample, clean, split, freeze.

Order: the lists to keep out are cleaned from everything; then the validation rows are drawn from what is left of D1;
then these are cleaned from D1 (another row of the same image), D2 and D3, unless the mode "authors" leaves them in.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import platform
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from qsit_metric import __version__
from qsit_metric.evaluation import IQA_SETS
from qsit_metric.files import sha256

from ..errors import DataError
from ..mixture import SETS
from .cleaning import Cleaner, Listed, removal_counts
from .frozen import MANIFEST, Frozen, Validation, check_target, freeze
from .recipe import DataRecipe, load_recipe
from .rows import Row
from .scoring import Split, group_of, hold_out, level_in, versions_by_name
from .sources import Pictures, Rooted, Sources

_LOG = logging.getLogger("qsit_metric")


@dataclass(frozen=True)
class TrainingData:
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
) -> TrainingData:
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
        The data, with everything that was refused and cleaned out, and the counts.

    Raises:
        DataError: Rows cannot be used, or none are left.
        RecipeError: The recipe does not fit its files.
        EvaluationError: A label or question file cannot be used.
    """
    sources = Sources(recipe, base, Pictures(check_images, decode, say))
    say("Reading the lists ...")
    read = {one: sources.rows(one) for one in SETS}
    questions, asked_root = sources.questions()
    sources.check(name, drop_refused)
    roots = _roots(read)
    lists = [*sources.excluded(), *_listed("validation questions", (one.image for one in questions), asked_root)]
    say("Cleaning ...")
    cleaner = Cleaner(recipe.same_as, recipe.phash, dict(roots))
    sets = cleaner.clean({one: tuple(rows) for one, (rows, _) in read.items()}, lists)
    split = hold_out(sets["d1"], recipe.validation.fraction, recipe.seed, recipe.validation.mode)
    alike = _alike(sets["d1"], recipe)
    held = split.validation if recipe.validation.mode == "holdout" else ()
    seen = _listed("validation rows", (row.image for row in held), roots.get("d1"), sets["d1"])
    sets = cleaner.clean({**sets, "d1": split.train}, seen)
    report: dict[str, Any] = {one: _counts(one, rows, sources, cleaner) for one, rows in sets.items()}
    report["validation"] = _validated(split, len(questions), recipe) | ({"versions": alike} if alike else {})
    report["excluded"] = [{"list": listed.name, "images": len(listed.images)} for listed in lists]
    roots |= {"scoring": roots["d1"]} if split.validation else {}
    roots |= {"questions": asked_root} if questions else {}
    removed = tuple(dataclasses.asdict(removal) for removal in cleaner.removals)
    validation = Validation(split.validation, questions)
    return TrainingData(sets, validation, roots, tuple(sources.refused), removed, report)


def _alike(rows: Sequence[Row], recipe: DataRecipe) -> list[str]:
    """Sources whose pictures look like versions of fewer, a sentence each, also as a warning.

    The public sets are known: those that have references say them.
    """
    own = dict.fromkeys(row.source for row in rows if row.source not in IQA_SETS)
    found = {source: versions_by_name(row for row in rows if row.source == source) for source in own}
    said = [f"{source}: {what}" for source, what in found.items() if what]
    for one in said if recipe.validation.mode == "holdout" else ():
        _LOG.warning("%s. Validation may hold versions of what is trained on: name a column `group`.", one)
    return said


def _roots(read: Mapping[str, Rooted]) -> dict[str, Path]:
    roots = {name: root for name, (rows, root) in read.items() if rows}
    if not roots:
        raise DataError.about("sources", "<no rows>", "at least one row in d1, d2 or d3", "Give a list in the recipe.")
    return roots


def _listed(name: str, images: Iterable[str], root: Path | None, of_d1: Sequence[Row] = ()) -> list[Listed]:
    """A list of images that training must not see, of D1 if its rows are given; none if it is empty."""
    found = tuple(dict.fromkeys(images))
    among = tuple(dict.fromkeys(row.image for row in of_d1))
    return [Listed(name, found, root, of=SETS[0] if of_d1 else "", among=among)] if found else []


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
    """Freeze the data of a recipe file; see `build` and `train.data.frozen.freeze`."""
    check_target(output, MANIFEST, force)  # before the work, not only after it
    recipe = load_recipe(path)
    checks = {"drop_refused": drop_refused, "check_images": check_images, "decode": check_images and decode}
    data = build(recipe, path.parent, name=path.name, **checks, say=say)
    how = {
        "recipe": json.loads(json.dumps(dataclasses.asdict(recipe))),
        "recipe_sha256": sha256(path),
        "arguments": checks,
        "seed": recipe.seed,
        "versions": {"qsit-metric": __version__, "numpy": np.__version__, "python": platform.python_version()},
    }
    say("Writing ...")
    return freeze(
        data.sets, data.validation, output,
        roots=data.roots, refused=data.refused, removed=data.removed, how=how, report=data.report, force=force,
    )  # fmt: skip


def _counts(name: str, rows: Sequence[Row], sources: Sources, cleaner: Cleaner) -> dict[str, Any]:
    """Count one set for the report."""
    fields: dict[str, Any] = {"lists": sources.lists.get(name, []), **removal_counts(cleaner.removals, name)}
    fields |= {"rows": len(rows), "images": len({row.image for row in rows})}
    fields |= {"sources": _tally(row.source for row in rows)}
    return fields | ({"levels": _tally(level_in(row) for row in rows)} if name == SETS[0] else {})


def _validated(split: Split, questions: int, recipe: DataRecipe) -> dict[str, Any]:
    """The validation rows' counts; `held out` is how many of them left D1."""
    rows = split.validation
    counts = {"rows": len(rows), "held out": len(rows) if recipe.validation.mode == "holdout" else 0}
    counts |= {"groups": len({(row.source, group_of(row)) for row in rows})}
    tallies = {"sources": _tally(row.source for row in rows), "levels": _tally(level_in(row) for row in rows)}
    return {**counts, **tallies, "questions": questions}


def _tally(names: Iterable[str]) -> Mapping[str, int]:
    return dict(sorted(Counter(names).items()))
