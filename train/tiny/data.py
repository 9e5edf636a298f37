"""The data of the tiny run: drawn by seed in seconds, frozen like any other.

D1: the score falls linearly with the strength of the degradation (`pictures.quality`); half of the rows state it on a
scale of 0 to 100 ("north"), half on 1 to 5 ("south"), as KonIQ and SPAQ differ. D2: feedback of a viewer who knows the
degradation, through the D2 builder. D3: colour, shape, number and place. A folder of its own holds what the base is
taught before (`base`), about other pictures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np

from qsit_metric.evaluation import Question
from qsit_metric.evaluation.manifest import Item

from ..data.frozen import Frozen, Validation, freeze
from ..data.interpreting import build
from ..data.rows import Row
from ..data.scoring import Scale, hold_out, scoring_row
from ..errors import DataError
from .pictures import DEGRADATIONS, as_image, degrade, draw, quality
from .rows import WRITER, Shot, asked, choice, content, feedback, general, question

SCALES: Mapping[str, Scale] = MappingProxyType({"north": Scale(0.0, 100.0), "south": Scale(1.0, 5.0)})
_SPREAD = 0.1  # standard deviation by which viewers differ, in points on 1..5
_VALIDATION = 0.25  # share of D1
# Kinds of D2 in a hundred rows, about as the paper has them; conversations are long, and little of them is tested.
_KINDS = MappingProxyType({"pathway": 20, "yes_no": 18, "what_how": 20, "conversation": 2})


@dataclass(frozen=True)
class Amounts:
    """How much data is made.

    Attributes:
        d1: Scoring rows, the validation's quarter included.
        d2: Interpreting rows.
        d3: General rows.
        questions: LLVisionQA questions.
        base: Rows that the bases are taught.
    """

    d1: int = 600
    d2: int = 800
    d3: int = 400
    questions: int = 160
    base: int = 1600

    def __post_init__(self) -> None:
        if min(asdict(self).values()) < 40:
            raise DataError.about("amounts", tuple(asdict(self).values()), "40 or more of each")


def make_data(folder: Path, amounts: Amounts, seed: int) -> tuple[Frozen, Frozen]:
    """Draw the pictures and freeze the rows, or read what is frozen there.

    Args:
        folder: Gets `images/`, `data/` and `base/`.
        amounts: How much of each.
        seed: Any whole number of 0 or more; equal arguments give equal files.

    Returns:
        The data of the recipe, and that of its base.

    Raises:
        DataError: The folder holds data of another seed or amount.
    """
    how = {"seed": seed, **asdict(amounts)}
    if (folder / "base" / "data.json").is_file():
        return _read(folder / "data", how), _read(folder / "base", how)
    camera = _Camera(folder / "images", seed)
    d1 = [_scored(camera, number) for number in range(amounts.d1)]
    split = hold_out(d1, _VALIDATION, seed)
    examined = _questions(camera, amounts.questions, seed)
    sets = {"d1": split.train, "d2": _interpreting(camera, amounts.d2, seed), "d3": _general(camera, amounts.d3)}
    taught = [general(camera.shot("base"), number, camera.rng) for number in range(amounts.base)]
    validation = Validation(split.validation, tuple(examined))
    roots = dict.fromkeys(("d1", "d2", "d3", "scoring", "questions"), folder / "images")
    data = freeze(sets, validation, folder / "data", roots=_relative(roots), how=how, force=True)
    base = freeze({"d3": taught}, validation, folder / "base", roots=_relative(roots), how=how, force=True)
    return data, base


def all_texts(*frozen: Frozen) -> list[str]:
    """Every question and answer, for the tokenizer."""
    rows = [row for one in frozen for name in ("d1", "d2", "d3") for row in one.rows(name)]
    said = [text for row in rows for turn in row.turns for text in turn]
    return said + [text for one in frozen[0].val_questions for text in (one.question, *one.choices)]


class _Camera:
    """Takes degraded pictures, each of a new scene."""

    def __init__(self, root: Path, seed: int) -> None:
        self.root, self.rng = root, np.random.default_rng([seed, 0])
        root.mkdir(parents=True, exist_ok=True)
        self._taken = 0

    def shot(self, name: str, scene: str | None = None, most: float = 1.0) -> Shot:
        kind = list(DEGRADATIONS)[self.rng.integers(len(DEGRADATIONS))]
        drawing, strength = draw(self.rng, scene), float(self.rng.uniform(0, most))
        image = f"{name}-{self._taken:05d}.png"
        as_image(degrade(drawing.pixels, kind, strength, self.rng)).save(self.root / image, compress_level=1)
        self._taken += 1
        return Shot(image, drawing, kind, strength)


def _scored(camera: _Camera, number: int) -> Row:
    source = list(SCALES)[number % len(SCALES)]
    shot = camera.shot(source)
    said = float(np.clip(quality(shot.strength) + camera.rng.normal(0, _SPREAD), 1, 5))
    scale = SCALES[source]
    mos = round(scale.low + (said - 1) / 4 * (scale.high - scale.low), 2)
    return scoring_row(Item(shot.image, mos, shot.image), scale, source)


def _interpreting(camera: _Camera, count: int, seed: int) -> list[Row]:
    """The builder's rows, and beside them questions whose options stand in their natural order."""
    limits = {kind: count * share // 100 for kind, share in _KINDS.items()}
    shots = [camera.shot("said") for _ in range(count * 2 // 5)]
    said = [feedback(shot, camera.rng) for shot in shots]
    rows = build(said, WRITER, list(_KINDS), seed, limits=limits)
    # Pictures are asked about twice, in other words.
    drawn = [one for turn in range(2) for one in asked(shots, len(shots), seed + 2 * turn + 1)]
    return rows + [choice(one, number) for number, one in enumerate(drawn[: count - len(rows)])]


def _general(camera: _Camera, count: int) -> list[Row]:
    scenes = ("shapes", "shapes", "shapes", "leaves", "texture")
    shots = [camera.shot("seen", scenes[number % len(scenes)], most=0.5) for number in range(count)]
    return [content(shot, number, camera.rng) for number, shot in enumerate(shots)]


def _questions(camera: _Camera, count: int, seed: int) -> list[Question]:
    found = asked([camera.shot("asked") for _ in range(count + count // 4)], count, seed)
    return [question(one, number) for number, one in enumerate(found)]


def _relative(roots: Mapping[str, Path]) -> dict[str, Path]:
    """Roots as `freeze` records them relative to the folder, so that it can be moved."""
    return {name: Path(*root.parts) for name, root in roots.items()}


def _read(folder: Path, how: Mapping[str, int]) -> Frozen:
    frozen = Frozen.load(folder)
    if dict(frozen.record["how"]) != dict(how):
        raise DataError.about("output", str(folder), f"data of {dict(how)}", "Use another folder.")
    return frozen
