"""D1: mean opinion score -> level word -> one question and one answer; the authors' published form; validation rows.

Format: `train_koniq_qsit.json` and `train_spaq_qsit.json` (github.com/Q-Future/Q-SiT at 4e4d1df): rows with the id
`<basename>-><MOS>` and the answer "The quality of the image is good.". Paper: Q-SiT, arXiv 2503.09197, Sec. III-A,
Eq. 1.

The validation rows of D1 are a seeded share of every source, with the levels in proportion. What belongs together, such
as the versions of one reference, is held out together: a model that has seen one version knows the picture. The paper
keeps a tenth of KonIQ's and SPAQ's training images for validation (Sec. IV-A), but the published lists are not reduced
by it; so both readings are offered.
"""

from __future__ import annotations

import hashlib
import logging
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Literal

from qsit_metric.errors import InputError, counted
from qsit_metric.evaluation.manifest import Item
from qsit_metric.evaluation.names import named, reference
from qsit_metric.levels import LEVELS, Convention, level_of
from qsit_metric.prompts import TRAIN, Recipe

from ..errors import DataError
from .rows import Refusals, Row, read_llava

_LOG = logging.getLogger("qsit_metric")
_ARROW = "->"
_LOOK_AHEAD = 8  # groups among which the best for the levels is taken
_WORDS = "v|q|level|frame|img|crop|edit|edited|blur|noise|jpg|jpeg|jp2k|copy"
_MARK = re.compile(rf"(?:[ _.-]*(?:{_WORDS})?[ _.-]*\d+|[ _.-](?:{_WORDS})|\s*\(\d+\))$", re.IGNORECASE)
_CAMERAS = frozenset(
    {"img", "dsc", "dscn", "dscf", "imgp", "pxl", "p", "dji", "gopr", "sam", "image", "photo", "picture"}
)
Mode = Literal["holdout", "authors"]


@dataclass(frozen=True)
class Scale:
    """A data set's MOS scale, and which ends its five levels include.

    Attributes:
        low: Lowest score (m in Eq. 1).
        high: Highest score (M in Eq. 1).
        convention: "eq1" as the paper prints it, or "authors" as the published labels are made; see
            `qsit_metric.levels.level_of`.

    Raises:
        DataError: The ends are no finite numbers with low < high, or the convention is unknown.

    Example:
        >>> Scale(1, 5).level(3.0), SCALES["spaq"].level(37.6), Scale(0, 94).level(37.6)
        ('fair', 'fair', 'poor')
    """

    low: float
    high: float
    convention: Convention = "eq1"

    def __post_init__(self) -> None:
        try:
            level_of(self.high, self.low, self.high, self.convention)
        except InputError as error:
            raise DataError.about(
                "scale", (self.low, self.high, self.convention), "low < high and 'eq1' or 'authors'"
            ) from error

    def level(self, mos: float) -> str:
        """The level of a score.

        Raises:
            DataError: The score lies outside the scale (with "eq1") or is no number.
        """
        try:
            return level_of(mos, self.low, self.high, self.convention)
        except InputError as error:
            raise error.turned(DataError) from error


SCALES: Mapping[str, Scale] = {"koniq": Scale(6.68, 85.36, "authors"), "spaq": Scale(0.0, 94.0, "authors")}
"""The scales behind the published labels: every level word in them follows from its MOS and one of these."""


def scoring_row(item: Item, scale: Scale, source: str = "", recipe: Recipe = TRAIN) -> Row:
    """Build the scoring conversation of one image.

    Args:
        item: Image and MOS.
        scale: The data set's scale.
        source: Name of the data set.
        recipe: Wording of question and answer.

    Returns:
        A row as the authors publish it, id included.

    Raises:
        DataError: The MOS lies outside the scale, or the item states another level.

    Example:
        >>> row = scoring_row(Item("koniq/10004473376.jpg", 77.3836206897, "1"), SCALES["koniq"], "koniq")
        >>> row.id, row.turns[0][1]
        ('10004473376.jpg->77.3836206897', 'The quality of the image is excellent.')
    """
    level = scale.level(item.mos)
    if item.level is not None and item.level != level:
        raise DataError(f"{item.image}: the file says {item.level!r}, but MOS {item.mos} is {level!r} on {scale}")
    answer = f"{recipe.answer_prefix}{recipe.words[LEVELS.index(level)]}."
    name = f"{PurePosixPath(item.image).name}{_ARROW}{item.mos}"
    return Row(name, item.image, ((recipe.question, answer),), source, item.mos)


def level_in(row: Row, recipe: Recipe = TRAIN) -> str:
    """The level that a scoring row answers with.

    Raises:
        DataError: It is no scoring row, or its word is none of the five.

    Example:
        >>> level_in(scoring_row(Item("a.jpg", 4.9, "a"), Scale(1, 5)))
        'excellent'
    """
    answers = [f"{recipe.answer_prefix}{word}." for word in recipe.words]
    said = row.turns[0][1]
    if len(row.turns) != 1 or said not in answers:
        raise DataError.about(f"{row.id}: answer", said, f"one turn that ends in one of {', '.join(LEVELS)}")
    return LEVELS[answers.index(said)]


def read_d1(
    path: Path, scale: Scale | None = None, source: str = "", refusals: Refusals | None = None, recipe: Recipe = TRAIN
) -> list[Row]:
    """Read a published D1 list and hold each level word against the MOS in the row's id.

    Args:
        path: The authors' JSON. Q-Align's lists have doubled prompts, whose rows are refused here; read their scores
            with `read_scores` and build rows with `scoring_row`.
        scale: The scale of all rows; None takes the preset that the image's first folder names (koniq/, spaq/).
        source: `source` of the rows whose images lie in no folder; the others have the folder's name.
        refusals: Where rows that cannot be used are noted; None raises for them.
        recipe: Wording of the answer.

    Returns:
        The rows whose level is right, in order, with `mos` and `source` filled in.

    Raises:
        DataError: No LLaVA list, an empty one, scores that fall with quality, or (without `refusals`) rows with a word
            off the list, a level that does not follow from the MOS, or no MOS; the message counts and names them.
    """
    found = Refusals() if refusals is None else refusals
    rows = [row for one in read_llava(path, refusals=found) if (row := _checked(one, scale, source, found, recipe))]
    if refusals is None:
        found.check(path)
    _check_direction(path, rows)
    return rows


def _check_direction(path: Path, rows: Sequence[Row]) -> None:
    """Refuse what calls untouched pictures bad, as Q-Align's `ft/csiq` and `ft/live` at 14dfdff do."""
    scores = {row.image: row.mos for row in rows if row.mos is not None}
    of = named(scores)
    if of is not None and of.best is not None and of.falls(scores) is not False:
        expected = f"scores that rise with quality; of {of.title} it has the DMOS, and levels made of it"
        raise DataError.about("file", str(path), expected, "Read it with `reader: auto`, which turns them round.")


def _checked(row: Row, scale: Scale | None, source: str, refusals: Refusals, recipe: Recipe) -> Row | None:
    try:
        mos = _mos_of(row)
        folder = PurePosixPath(row.image).parts[0].casefold() if "/" in row.image else source
        said, found = level_in(row, recipe), (scale or _preset(row, folder)).level(mos)
        if said != found:
            raise DataError(f"{row.id}: the row says {said!r}, but its MOS is {found!r} on this scale")
    except DataError as error:
        refusals.add(error)
        return None
    return replace(row, mos=mos, source=row.source or folder)


def _mos_of(row: Row) -> float:
    name, arrow, text = row.id.rpartition(_ARROW)
    try:
        mos = float(text)
    except ValueError:
        mos = math.nan
    if not arrow or name != PurePosixPath(row.image).name or not math.isfinite(mos):
        raise DataError(f"{row.id}: the id of {row.image!r} is not its file name, '->' and its MOS")
    if row.mos not in (None, mos):
        raise DataError(f"{row.id}: `mos` is {row.mos}, but the id says {mos}")
    return mos


def _preset(row: Row, folder: str) -> Scale:
    if folder not in SCALES:
        known = " or ".join(f"{name}/" for name in SCALES)
        raise DataError(
            f"{row.id}: {row.image!r} is not in {known}, so its scale must be given as [low, high, convention]"
        )
    return SCALES[folder]


@dataclass(frozen=True)
class Split:
    """D1 in two parts.

    Attributes:
        train: Rows to train on, in order; with the mode "authors" these are all.
        validation: Rows to validate on, in order.
    """

    train: tuple[Row, ...]
    validation: tuple[Row, ...]


def hold_out(rows: Sequence[Row], fraction: float = 0.1, seed: int = 0, mode: Mode = "holdout") -> Split:
    """Choose the validation rows.

    Of each source, `fraction` of its rows, rounded, are chosen; the five levels get their share by largest remainder.
    Which rows of a level these are depends on the seed and the rows' own names, not on their order. Rows of one
    group (`group_of`) stay together: then whole groups are chosen whose rows come nearest to these numbers.

    Args:
        rows: Scoring rows.
        fraction: Share, in (0, 1).
        seed: Any whole number.
        mode: "holdout" takes the rows out of training, "authors" leaves them in.

    Returns:
        Both parts.

    Raises:
        DataError: A fraction outside (0, 1), an unknown mode, a row that is no scoring row, or a source so small that
            it has no validation row.

    Example:
        >>> from qsit_metric.evaluation.manifest import Item
        >>> rows = [scoring_row(Item(f"{i}.jpg", 1 + i / 10, str(i)), Scale(1, 5)) for i in range(40)]
        >>> split = hold_out(rows, 0.25)
        >>> len(split.train), len(split.validation)
        (30, 10)
    """
    if not 0 < fraction < 1:
        raise DataError.about("fraction", fraction, "a number between 0 and 1")
    if mode not in ("holdout", "authors"):
        raise DataError.about("mode", mode, "'holdout' or 'authors'")
    sources: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for index, row in enumerate(rows):
        sources[row.source][group_of(row)].append(index)
    chosen: set[int] = set()
    for source, groups in sources.items():
        alone = len(groups) == 1 or all(len(group) == 1 for group in groups.values())
        if len(groups) == 1 and len(rows) > 1:
            said = "%s: all rows are of one group, %r, so those to validate on are versions of those to train on"
            _LOG.warning(said, source, next(iter(groups)))
        chosen |= (_rows_held if alone else _groups_held)(rows, source, groups, fraction, seed)
    kept = [row for index, row in enumerate(rows) if mode == "authors" or index not in chosen]
    return Split(tuple(kept), tuple(rows[index] for index in sorted(chosen)))


def group_of(row: Row) -> str:
    """What a row is held out with: its group, the reference that its image's name tells, or its image.

    Example:
        >>> turns = (("Rate it.", "The quality of the image is good."),)
        >>> group_of(Row("1", "images/I01_10_03.png", turns)), group_of(Row("2", "a.jpg", turns))
        ('i01', 'a.jpg')
    """
    return row.group or reference(row.image) or row.image


def _rows_held(
    rows: Sequence[Row], source: str, groups: Mapping[str, Sequence[int]], fraction: float, seed: int
) -> set[int]:
    levels: dict[str, list[int]] = defaultdict(list)
    for index in sorted(index for group in groups.values() for index in group):
        levels[level_in(rows[index])].append(index)
    chosen: set[int] = set()
    for level, count in _shares(source, {name: len(found) for name, found in levels.items()}, fraction).items():
        chosen |= set(sorted(levels[level], key=lambda index: _rank(rows[index], seed))[:count])
    return chosen


def _groups_held(
    rows: Sequence[Row], source: str, groups: Mapping[str, Sequence[int]], fraction: float, seed: int
) -> set[int]:
    """Whole groups, one after the other, each the best for the levels among the next few in the order of the seed."""
    tallies = {name: Counter(level_in(rows[index]) for index in group) for name, group in groups.items()}
    wanted = _shares(source, sum(tallies.values(), Counter()), fraction)
    left = sorted(groups, key=lambda name: hashlib.sha256(_encoded(f"{seed}\0{source}\0{name}")).hexdigest())
    held: Counter[str] = Counter()
    taken: list[str] = []

    def miss(more: Counter[str]) -> int:
        return sum(abs(wanted.get(level, 0) - (held + more)[level]) for level in LEVELS)

    while len(left) > 1:
        best = min(left[:_LOOK_AHEAD], key=lambda name: miss(tallies[name]))
        if taken and miss(tallies[best]) >= miss(Counter()):
            break
        left.remove(best)
        taken.append(best)
        held += tallies[best]
    return {index for name in taken for index in groups[name]}


def versions_by_name(rows: Iterable[Row]) -> str:
    """Why rows look like versions of fewer pictures, of which nobody said what belongs together; empty if they do not.

    Looked at are rows whose groups nobody knows: names that differ in a last number or mark only ("cat_1.png",
    "cat_2.png"), and file names that stand in several folders. One stem for all, as cameras give it, says nothing.

    Example:
        >>> turns = (("Rate it.", "The quality of the image is good."),)
        >>> names = ("cat_1.png", "cat_2.png", "dog_1.png", "dog_2.png")
        >>> versions_by_name(Row(name, name, turns) for name in names)
        "4 of 4 names are versions of 2, such as 'cat_1.png' and 'cat_2.png'"
    """
    images = list(dict.fromkeys(row.image for row in rows if group_of(row) == row.image))
    for stem in (_without_mark, _without_folder):
        alike: dict[str, list[str]] = defaultdict(list)
        for image in images:
            alike[stem(image)].append(image)
        several = [found for name, found in alike.items() if name and len(found) > 1]
        count = sum(map(len, several))
        if len(several) > 1 and 2 * count > len(images):
            one, other = several[0][:2]
            return f"{count} of {len(images)} names are versions of {len(several)}, such as {one!r} and {other!r}"
    return ""


def _without_mark(image: str) -> str:
    """A path without the number or mark at its end; empty for what cameras call pictures, and if no letter is left."""
    path = PurePosixPath(image)
    stem = _MARK.sub("", path.stem)
    telling = stem != path.stem and any(map(str.isalpha, stem)) and stem.strip("_- ").casefold() not in _CAMERAS
    return f"{path.parent}/{stem}" if telling else ""


def _without_folder(image: str) -> str:
    return PurePosixPath(image).name


def _shares(source: str, sizes: Mapping[str, int], fraction: float) -> dict[str, int]:
    """Whole numbers in proportion to the sizes, by largest remainder; ties go to the earlier name."""
    total = math.floor(fraction * sum(sizes.values()) + 0.5)
    if not total:
        found = f"<{counted(sum(sizes.values()), 'row')} of source {source!r}>"
        raise DataError.about(
            "fraction", fraction, f"enough for one validation row of {found}", "Raise it or add rows."
        )
    exact = {name: size * total / sum(sizes.values()) for name, size in sizes.items()}
    shares = {name: math.floor(share) for name, share in exact.items()}
    order = sorted(shares, key=lambda name: (shares[name] - exact[name], name))
    for name in order[: total - sum(shares.values())]:
        shares[name] += 1
    return shares


def _rank(row: Row, seed: int) -> str:
    return hashlib.sha256(_encoded(f"{seed}\0{row.source}\0{row.image}\0{row.id}")).hexdigest()


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
