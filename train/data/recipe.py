"""Data recipes: files that name lists, scales, image folders, what to keep out and what to validate on.

Paths in a recipe are relative to the recipe. Unknown and duplicate keys are refused.

How much of a list is taken follows the strategies of the authors' `single_image.yaml`, `datasets: [{json_path,
sampling_strategy}]` (github.com/Q-Future/Q-SiT at 4e4d1df), which LLaVA-NeXT's `train.py` (df17966) reads; it draws
`random` without a seed on every rank. Here one seed decides, everywhere the same.
"""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass

from qsit_metric.errors import shorten
from qsit_metric.levels import Convention

from ..errors import DataError, RecipeError
from ..recipe import checked, load_yaml
from .scoring import SCALES, Scale

_CLOSED = ConfigDict(extra="forbid")
_SCALES = (
    f"{', '.join(SCALES)}, or [low, high, convention] with low < high and the convention "
    f"{' or '.join(get_args(Convention))}, such as [1, 5, eq1]"
)
_FORM = re.compile(r"(?P<how>first|end|random):(?P<number>\d+(?:\.\d+)?)(?P<percent>%?)")
_EXPECTED = "all, first:N, end:N or random:N, where N is a count of rows or a percentage such as 22%"


def _check_scale(value: Any) -> Any:
    """Check a scale; one sentence for all that can be wrong, where pydantic has one for each form of the value."""
    known = value is None or (isinstance(value, str) and value in SCALES)
    if not known and not (isinstance(value, (list, tuple)) and len(value) == 3 and _is_scale(*value)):
        raise ValueError(f"got {shorten(value)}, expected {_SCALES}")
    return value


def _is_scale(low: object, high: object, convention: object) -> bool:
    numbers = all(isinstance(end, (int, float)) and not isinstance(end, bool) for end in (low, high))
    if not numbers or convention not in get_args(Convention):
        return False
    try:
        Scale(low, high, convention)  # type: ignore[arg-type]  # looked at above
    except DataError:
        return False
    return True


@dataclass(frozen=True, config=_CLOSED)
class ScoringSource:
    """A source of D1: a list, or a public IQA set in its own folder.

    Attributes:
        file: The list.
        set: Instead of a list, the name of a public set (`qsit_metric.evaluation.IQA_SETS`) ...
        folder: ... and the folder into which it was unpacked.
        reader: How `file` is read: "authors" for their D1 JSON, "auto" or a format of `read_scores` for label files.
        scale: "koniq", "spaq", or [low, high, convention]. May be left out for the authors' JSON (the image's folder
            names it) and for public sets.
        images: Folder of the images; default: the list's own, or the set's.
        source: What the rows' `source` is; default: the image's first folder, the set's name, or the file's.
        split: Take only the rows of this split.
        columns: Names of the label file's columns, where it has its own: keys image, mos, split, group.
        lower_is_better: Whether a smaller number is a better picture, where the label file does not tell.
        sampling: all, first:N, end:N or random:N, with N a count or a percentage; default: what `mix` says, or all.
    """

    file: str | None = None
    set: str | None = None
    folder: str | None = None
    reader: str = "authors"
    scale: Annotated[str | tuple[float, float, Convention] | None, BeforeValidator(_check_scale)] = None
    images: str | None = None
    source: str = ""
    split: str = ""
    columns: dict[Literal["image", "mos", "split", "group"], str | int] = Field(default_factory=dict)
    lower_is_better: bool | None = None
    sampling: str | None = None

    def __post_init__(self) -> None:
        _check_place(self.file, self.set, self.folder, alone=False)
        _check_sampling(self.sampling)
        if self.file and self.reader != "authors" and self.scale is None:
            raise ValueError(f"a label file needs `scale`: {_SCALES}")
        if self.file and self.reader == "authors" and self.split:
            raise ValueError("the authors' JSON has no splits; leave `split` out")
        if (self.set or self.reader == "authors") and (self.columns or self.lower_is_better is not None):
            raise ValueError("`columns` and `lower_is_better` go with a label file: set `reader` to auto")

    def levels(self) -> Scale | None:
        """The scale, if one is given."""
        if isinstance(self.scale, str):
            return SCALES[self.scale]
        return None if self.scale is None else Scale(*self.scale)


@dataclass(frozen=True, config=_CLOSED)
class ConversationSource:
    """A source of D2 or D3.

    Attributes:
        file: An LLaVA list, JSON or JSON Lines.
        images: Folder of the images; default: the list's own.
        source: What the rows' `source` is; default: the file's name without suffix.
        sampling: As in `ScoringSource`.
    """

    file: str
    images: str | None = None
    source: str = ""
    sampling: str | None = None

    def __post_init__(self) -> None:
        _check_sampling(self.sampling)


@dataclass(frozen=True, config=_CLOSED)
class Exclude:
    """Images that training must not see.

    Attributes:
        file: Any list that names images.
        set: Instead of a list, the name of a public IQA set, with `folder`.
        folder: That set's folder; or, alone, a folder of images.
        split: Of a public set, only the images of this split.
        images: Folder of the images; needed for the perceptual hash only.
        prefix: A folder to put before the list's names, for `same_as`.
    """

    file: str | None = None
    set: str | None = None
    folder: str | None = None
    split: str = ""
    images: str | None = None
    prefix: str = ""

    def __post_init__(self) -> None:
        _check_place(self.file, self.set, self.folder, alone=True)
        if self.split and not self.set:
            raise ValueError("`split` goes with `set`")


@dataclass(frozen=True, config=_CLOSED)
class ValidationSource:
    """Validation data of a recipe.

    Attributes:
        mode: "holdout" takes the validation rows out of D1, "authors" leaves them in, as the published lists do.
        fraction: Share of each source of D1.
        questions: LLVisionQA questions, JSON or parquet; default: none.
        images: Folder of their images; default: the file's own.
    """

    mode: Literal["holdout", "authors"] = "holdout"
    fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    questions: str | None = None
    images: str | None = None


@dataclass(frozen=True, config=_CLOSED)
class DataRecipe:
    """Everything that decides which rows are frozen.

    Attributes:
        seed: Decides the sampling and the validation rows.
        d1: Sources of scoring rows.
        d2: Sources of interpreting rows.
        d3: Sources of general rows.
        mix: A `single_image.yaml`, whose strategies apply to the sources with the same file names.
        exclude: Images that training must not see; the validation questions' and rows' come on top.
        same_as: Groups of folders with the same images; see `train.data.cleaning.clean`.
        phash: Compare images by perceptual hash too, with this many differing bits at most (4 is usual); default: no.
        validation: What runs validate on.
    """

    seed: Annotated[int, Field(ge=0)] = 0
    d1: tuple[ScoringSource, ...] = ()
    d2: tuple[ConversationSource, ...] = ()
    d3: tuple[ConversationSource, ...] = ()
    mix: str | None = None
    exclude: tuple[Exclude, ...] = ()
    same_as: tuple[tuple[str, ...], ...] = ()
    phash: Annotated[int, Field(ge=0, le=63)] | None = None
    validation: ValidationSource = ValidationSource()


def load_recipe(path: Path) -> DataRecipe:
    """Read a data recipe.

    Raises:
        RecipeError: No such file, duplicate or unknown keys, or values that cannot be; the message names each.
    """
    return checked(DataRecipe, load_yaml(path), str(path), "The keys are described in train/DATA.md.")


def _check_place(file: str | None, name: str | None, folder: str | None, alone: bool) -> None:
    if file and not name and not folder:
        return
    if file or not folder or not (name or alone):
        raise ValueError(f"expected `file`, or `set` with `folder`{', or `folder`' if alone else ''}")


def _check_sampling(strategy: str | None) -> None:
    try:
        check_strategy("all" if strategy is None else strategy)
    except RecipeError as error:
        raise ValueError(str(error)) from error


@dataclass(frozen=True)
class Entry:
    """A line of a mix.

    Attributes:
        path: The list, as the file has it.
        strategy: How much of it is taken.
    """

    path: str
    strategy: str


def check_strategy(strategy: str) -> str:
    """Check a strategy, and give it back.

    Raises:
        RecipeError: It is none of the known ones.

    Example:
        >>> check_strategy("random:22%")
        'random:22%'
    """
    parse_strategy(strategy)
    return strategy


def read_mix_yaml(path: Path) -> tuple[Entry, ...]:
    """Read a mix as LLaVA-NeXT takes it.

    Returns:
        Its entries, in order; one without a strategy takes all.

    Raises:
        RecipeError: Not of this form; the message names the entry.
    """
    fields = load_yaml(path)
    listed = fields.get("datasets")
    if set(fields) != {"datasets"} or not isinstance(listed, list) or not listed:
        raise RecipeError.about("file", str(path), "one key, `datasets`, with a list")
    return tuple(_entry(entry, f"{path}: datasets[{place}]") for place, entry in enumerate(listed))


def _entry(fields: object, where: str) -> Entry:
    known = {"json_path", "sampling_strategy"}
    if not isinstance(fields, dict) or not isinstance(fields.get("json_path"), str) or set(fields) - known:
        raise RecipeError.about(where, fields, "`json_path` and `sampling_strategy`, nothing else")
    return Entry(fields["json_path"], check_strategy(fields.get("sampling_strategy", "all")))


def parse_strategy(strategy: str) -> tuple[str, Fraction, bool]:
    """Read a strategy: "all", "first", "end" or "random"; how many; whether that is a percentage.

    Raises:
        RecipeError: It is none of the known ones.
    """
    if strategy == "all":
        return "all", Fraction(100), True
    found = _FORM.fullmatch(strategy) if isinstance(strategy, str) else None
    number = Fraction(found["number"]) if found else Fraction(0)
    percent = bool(found and found["percent"])
    if not found or not number or (number > 100 if percent else number.denominator > 1):
        raise RecipeError.about("sampling", strategy, _EXPECTED)
    return found["how"], number, percent
