"""Make the whole data set: pictures in parallel processes, rows about them, frozen like any other data.

Each picture follows from the seed, its set and its number alone; so the number of processes does not matter, and a run
that was cut goes on where it was: pictures are made in portions, and the record of a portion is written once all of its
pictures are there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from PIL import Image

from qsit_metric import console
from qsit_metric.evaluation.manifest import Item
from qsit_metric.files import Files
from qsit_metric.journal import Marker

from ...data.frozen import Frozen, Validation, freeze
from ...data.interpreting import Feedback, build
from ...data.interpreting.build import INSTRUCTION
from ...data.rows import Row
from ...data.scoring import scoring_row
from ...errors import DataError
from ..stages import in_processes
from .contents import SIZES, SMALL_SIZES, Content, content, draw_name, photographed
from .kadid import DISTORTIONS, SCALE
from .photographs import Split
from .pictures import Degradation, MadePicture, draw_degradation, draw_degradations, tone_of
from .texts import SOURCE, WRITER, content_row, feedback, questions

_FILES = Files(DataError, "folder", parents=True)
_MAKING = "making.json"
_RECORDS = "shots"  # folder of what is known of each picture
Format = Literal["png", "webp"]
PORTION = 50
_SETS = ("d1", "d2", "d3", "scoring", "questions")
_PRISTINE = 0.3  # share of untouched pictures in D1; a type has less
_SHARED = {"d1": 3}  # pictures in a row that are made of one content
_SMALL_KINDS = ("gaussian_blur", "white_noise", "jpeg", "darken", "color_saturation_hsv")  # seen at 96 pixels, too
_MOST_LOST = 2.0  # level up to which pictures about contents are degraded
_KEEPS_CONTENT = ("gaussian_blur", "jpeg", "white_noise", "jpeg2000", "lens_blur")
# Contents about which much can be asked, and their share in D3 beside the common draw.
_KNOWN, _KNOWN_SHARE = ("shapes", "shapes", "writing", "landscape"), 0.5
# Rows of each kind for a hundred pictures of D2, about as the paper has them. Besides, there is a round of questions
# about every picture, the cheapest way to many questions: a picture costs more than all that is asked about it.
_KINDS = MappingProxyType({"pathway": 20, "yes_no": 15, "what_how": 15, "choice": 15, "conversation": 10})
_MOST_QUESTIONS = 9  # in a round
LABELS = "drawn"
"""How D1 is labelled, for the record of a run: each picture with a score of its own; "means" in runs without this."""
# Behind an answer that names the degradation, a yes/no question is answered from that answer, not from the picture; if
# all yes/no questions came first, they would leave no room for those that name something.
_NAMING_FIRST = 0.3
_OF_LEVELS = 0.3  # rounds that ask for the overall quality, too: D1 teaches that already


@dataclass(frozen=True)
class Amounts:
    """How much is made.

    Attributes:
        d1: Scoring rows; one picture each.
        d2: Pictures of D2's own, untouched ones, pairs and corruptions among them; a round of questions about each, and
            three rows of another kind for four of them.
        d3: Rows about contents; one picture each.
        rounds: More rows of D2, with several questions each, about the first pictures of D1.
        scoring: Scoring rows to validate on, of held-out photographs and new drawings.
        questions: Questions to validate on, of the same.
        small: Pictures of `contents.SMALL_SIZES` under five of the degradations, for models that learn within minutes.
    """

    d1: int = 20000
    d2: int = 10000
    d3: int = 10000
    rounds: int = 10000
    scoring: int = 500
    questions: int = 600
    small: Literal[True] | None = None

    def __post_init__(self) -> None:
        counts = (self.d1, self.d2, self.d3, self.rounds, self.scoring, self.questions)
        if min(counts) < 6:
            raise DataError.about("amounts", counts, "6 or more of each")
        if self.rounds > self.d1:
            raise DataError.about("rounds", self.rounds, f"no more than pictures of D1, {self.d1}")

    def pictures(self, name: str) -> int:
        """How many pictures a set needs."""
        count: int = getattr(self, name)
        return 2 * count + 6 if name == "questions" else count


@dataclass(frozen=True)
class _Portion:
    """Some pictures of a set."""

    folder: Path
    name: str
    start: int
    stop: int
    seed: int
    form: Format
    small: bool

    @property
    def record(self) -> Path:
        return self.folder / _RECORDS / f"{self.name}-{self.start:07d}.jsonl"


def make_dataset(
    folder: Path, amounts: Amounts, seed: int = 0, workers: int = 0, *, form: Format = "png", quiet: bool = False
) -> Frozen:
    """Make pictures and rows and freeze them, or go on with a folder that was begun, or read one that is done.

    Args:
        folder: Gets `images/`, `shots/` (what is known of each picture) and `data/`.
        amounts: How much of each set.
        seed: Any whole number of 0 or more; equal arguments give equal files, whatever `workers` is.
        workers: Processes; 0 takes as many as there are cores, 1 works in this one.
        form: "png" (quick), or "webp" (lossless, about a third smaller, several times slower).
        quiet: No progress bar.

    Returns:
        The data, verified.

    Raises:
        DataError: The folder holds data of another seed, amount or form; or a number is off its range.
    """
    how = {"seed": seed, "form": form, **asdict(amounts)}
    _check(how, workers)
    marker = Marker(folder / _MAKING, how, _FILES, what="data", hint="Name another folder.")
    if (folder / "data" / "data.json").is_file() and marker.read() is not None:
        return Frozen.load(folder / "data")
    marker.claim()
    portions = list(_portions(folder, amounts, seed, form))
    _do([one for one in portions if not one.record.is_file()], workers or os.cpu_count() or 1, quiet)
    pictures = {name: [picture for one in portions if one.name == name for picture in _read(one)] for name in _SETS}
    sets, validation = rows_of(pictures, amounts, seed)
    roots = dict.fromkeys(_SETS, folder / "images")
    return freeze(sets, validation, folder / "data", roots=roots, how=how)


def read_pictures(folder: Path, name: str) -> list[MadePicture]:
    """Read what is known of the pictures of a set that was made.

    Args:
        folder: The folder of `make_dataset`.
        name: "d1", "d2", "d3", "scoring" or "questions".

    Raises:
        DataError: An unknown set, or its pictures are not all there.
    """
    if name not in _SETS:
        raise DataError.about("set", name, f"one of {', '.join(_SETS)}")
    how = _FILES.json(folder / _MAKING)
    how = how.get("made", how)
    amounts = Amounts(**{one.name: how.get(one.name) for one in fields(Amounts)})
    portions = [one for one in _portions(folder, amounts, how["seed"], how["form"]) if one.name == name]
    if missing := [one.record.name for one in portions if not one.record.is_file()]:
        raise DataError.about("folder", str(folder), f"all pictures of {name}", f"{missing[0]} is not there.")
    return [picture for one in portions for picture in _read(one)]


def make_picture(
    name: str, number: int, seed: int, form: Format = "png", *, small: bool = False
) -> tuple[MadePicture, Image.Image]:
    """Make one picture of a set, without a file.

    Args:
        name: "d1", "d2", "d3", "scoring" or "questions".
        number: Which one.
        seed: Of the whole data set.
        form: Ending of the path that it would have.
        small: See `Amounts`.

    Returns:
        What is known of it, and the picture; equal arguments give equal ones.

    Raises:
        DataError: An unknown set.

    Example:
        >>> picture, image = make_picture("d1", 0, seed=0)
        >>> picture.image, image.mode, 1 <= picture.mos <= 5
        ('d1/0000/0000000.png', 'RGB', True)
    """
    if name not in _SETS:
        raise DataError.about("set", name, f"one of {', '.join(_SETS)}")
    rng = np.random.default_rng([seed, _SETS.index(name), number])
    degradations = _drawn(name, rng, _SMALL_KINDS if small else DISTORTIONS)
    made = _made(name, number // _SHARED.get(name, 1), seed, small)
    pristine = image = photographed(made.image, rng)
    for degradation in degradations:
        image = degradation.apply(image, int(rng.integers(1 << 31)))
    path = f"{name}/{number // 1000:04d}/{number:07d}.{form}"
    return MadePicture(path, made.name, made.facts, tone_of(pristine), degradations), image


@lru_cache(maxsize=1)
def _made(name: str, group: int, seed: int, small: bool) -> Content:
    """The pristine content of a picture, or of some in a row: to draw one costs more than to degrade it."""
    rng = np.random.default_rng([seed, _SETS.index(name), group, 1])
    split: Split = "held_out" if name in ("scoring", "questions") else "train"
    sizes = SMALL_SIZES if small else SIZES
    size = sizes[rng.integers(len(sizes))]
    known = name == "d3" and rng.random() < _KNOWN_SHARE
    kind = _KNOWN[rng.integers(len(_KNOWN))] if known else draw_name(rng, size, split)
    return content(kind, size, rng, split)


def _saved(portion: _Portion, number: int) -> MadePicture:
    picture, image = make_picture(portion.name, number, portion.seed, portion.form, small=portion.small)
    target = portion.folder / "images" / picture.image
    target.parent.mkdir(parents=True, exist_ok=True)
    options: dict[str, Any] = {"lossless": True, "method": 0, "quality": 20}
    image.save(target, **({"compress_level": 1} if portion.form == "png" else options))
    return picture


def _drawn(name: str, rng: np.random.Generator, kinds: tuple[str, ...]) -> tuple[Degradation, ...]:
    if name in ("d1", "scoring"):
        return () if rng.random() < _PRISTINE else (draw_degradation(rng, kinds),)
    if name == "d3":
        kind = _KEEPS_CONTENT[rng.integers(len(_KEEPS_CONTENT))]
        return () if rng.random() < 0.5 else (Degradation(kind, round(float(rng.uniform(1, _MOST_LOST)), 3)),)
    corrupted = 0.2 if kinds is DISTORTIONS else 0.0  # the corruptions are made for larger pictures
    return draw_degradations(rng, pristine=0.06, corrupted=corrupted, pairs=0.15, kinds=kinds)


def _portions(folder: Path, amounts: Amounts, seed: int, form: Format) -> Iterator[_Portion]:
    for name in _SETS:
        count = amounts.pictures(name)
        for start in range(0, count, PORTION):
            yield _Portion(folder, name, start, min(count, start + PORTION), seed, form, bool(amounts.small))


def _fill(portion: _Portion) -> int:
    """Make the pictures of a portion, then its record."""
    pictures = [_saved(portion, number) for number in range(portion.start, portion.stop)]
    _FILES.write(portion.record, "".join(json.dumps(picture.as_dict()) + "\n" for picture in pictures))
    return len(pictures)


def _read(portion: _Portion) -> list[MadePicture]:
    lines = portion.record.read_text(encoding="utf-8").splitlines()
    if len(lines) != portion.stop - portion.start:
        expected = f"{portion.stop - portion.start} lines"
        raise DataError.about("file", str(portion.record), expected, "Remove it, and the pictures are made again.")
    return [MadePicture.from_dict(json.loads(line)) for line in lines]


def _do(portions: Sequence[_Portion], workers: int, quiet: bool) -> None:
    """All portions, side by side; the first error ends the others."""
    total, made = sum(one.stop - one.start for one in portions), 0
    with console.progress("pictures", total, quiet=quiet or not total) as move:
        for count in _done(portions, workers):
            made += count
            move(made, total)


def _done(portions: Sequence[_Portion], workers: int) -> Iterator[int]:
    """How many pictures each portion had, as the portions get done."""
    if workers == 1 or len(portions) < 2:
        return map(_fill, portions)
    return in_processes([(_fill, (one,)) for one in portions], workers)


def _check(how: Mapping[str, object], workers: int) -> None:
    seed = how["seed"]
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise DataError.about("seed", seed, "a whole number of 0 or more")
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < 0:
        raise DataError.about("workers", workers, "a whole number of 0 or more")
    if how["form"] not in ("png", "webp"):
        raise DataError.about("form", how["form"], "'png' or 'webp'")


def rows_of(
    pictures: Mapping[str, list[MadePicture]], amounts: Amounts, seed: int
) -> tuple[dict[str, list[Row]], Validation]:
    """Make all rows about the pictures of the five sets. Pure."""
    rng, opinions = (np.random.default_rng([seed, stream]) for stream in (3, 4))
    said = [feedback(picture, rng) for picture in pictures["d2"]]
    limits = {kind: amounts.d2 * share // 100 for kind, share in _KINDS.items()}
    sets = {
        "d1": [scored(picture, opinions) for picture in pictures["d1"]],
        "d2": [
            *build(said, WRITER, seed=seed, limits=limits),
            *_rounds([_of_round(picture, rng) for picture in pictures["d2"]], seed + 1, rng),
            *_rounds([_of_round(picture, rng) for picture in pictures["d1"][: amounts.rounds]], seed + 2, rng),
        ],
        "d3": [content_row(picture, number, rng) for number, picture in enumerate(pictures["d3"])],
    }
    sets |= {name: [_bare(row, rng) for row in sets[name]] for name in ("d2", "d3")}
    asked = questions(pictures["questions"], amounts.questions, seed)
    return sets, Validation(tuple(scored(picture) for picture in pictures["scoring"]), tuple(asked))


def scored(picture: MadePicture, rng: np.random.Generator | None = None) -> Row:
    """A D1 row.

    Args:
        picture: The picture.
        rng: Draws the score that people gave this one picture; None takes the mean of its type and level.

    Raises:
        DataError: The picture has no score.
    """
    if picture.mos is None:
        raise DataError.about("shot", picture.image, "a picture with a score: none or one of KADID-10k's degradations")
    mos = picture.mos if rng is None else round(picture.drawn_mos(rng), 4)
    return scoring_row(Item(picture.image, mos, picture.image), SCALE, SOURCE)


def _of_round(picture: MadePicture, rng: np.random.Generator) -> Feedback:
    """Feedback for a round about a picture."""
    return feedback(picture, rng, level=bool(rng.random() < _OF_LEVELS))


def _rounds(said: Sequence[Feedback], seed: int, rng: np.random.Generator) -> list[Row]:
    """Rows with several questions about a picture; in three of ten those that name something come first."""
    asked: dict[str, list[Row]] = {}
    for row in build(said, WRITER, ["yes_no", "what_how"], seed=seed):
        asked.setdefault(row.image, []).append(row)
    found = []
    for number, rows in enumerate(asked.values()):
        order = [rows[pick] for pick in rng.permutation(len(rows))]
        if rng.random() < _NAMING_FIRST:
            order.sort(key=lambda row: row.id.startswith("yes_no"))
        turns = tuple(turn for row in order[:_MOST_QUESTIONS] for turn in row.turns)
        found.append(replace(order[0], id=f"round-{seed}/{number:06d}", turns=turns))
    return found


def _bare(row: Row, rng: np.random.Generator) -> Row:
    """Take half of the multiple-choice questions without the instruction, as `prompts.multiple_choice` asks them.

    A model that starts from nothing takes a question without it for a free one.
    """
    turns = [
        (question.removesuffix(INSTRUCTION) if rng.random() < 0.5 else question, answer)
        for question, answer in row.turns
    ]
    return replace(row, turns=tuple(turns))
