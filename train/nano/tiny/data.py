"""The data of the tiny run: pictures drawn by seed in seconds, rows about them, frozen like any other.

D1: the score falls linearly with the strength of the degradation (`pictures.quality`); half of the rows state it on a
scale of 0 to 100 ("north"), half on 1 to 5 ("south"), as KonIQ and SPAQ differ. D2: feedback of a viewer who knows the
degradation, through the D2 builder. D3: colour, shape, number and place. A folder of its own holds what the base is
taught before (`base`), about other pictures.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np

from qsit_metric.evaluation import Question
from qsit_metric.evaluation.manifest import Item
from qsit_metric.evaluation.qbench import Concern
from qsit_metric.files import Files
from qsit_metric.journal import check_same
from qsit_metric.prompts import LETTERS, multiple_choice

from ...data.frozen import Frozen, Validation, freeze
from ...data.interpreting import Feedback, Task, TemplateWriter, build
from ...data.interpreting.build import INSTRUCTION
from ...data.interpreting.vocabulary import Attribute, attributes, overall_quality
from ...data.interpreting.writer import Draft
from ...data.rows import Refusals, Row
from ...data.scoring import Scale, hold_out, scoring_row
from ...errors import DataError
from ..tokenizer import texts_of
from .pictures import COLOURS, COUNTS, DEGRADATIONS, PLACES, SCENES, SHAPES, Drawing, as_image, degrade, draw, quality

SCALES: Mapping[str, Scale] = MappingProxyType({"north": Scale(0.0, 100.0), "south": Scale(1.0, 5.0)})
_FILES = Files(DataError, "output")
_SPREAD = 0.1  # standard deviation by which viewers differ, in points on 1..5
_VALIDATION = 0.25  # share of D1
# Kinds of D2 in a hundred rows, about as the paper has them; conversations are long, and little of them is tested.
_KINDS = MappingProxyType({"pathway": 20, "yes_no": 18, "what_how": 20, "conversation": 2})
_SCALE = Scale(1.0, 5.0)
_NONE, _LIGHT = 0.15, 0.5  # strengths below which nothing, and only a light degradation, is to be seen

# Degradation -> attribute, and how it is said when it is strong, light ("" is not said) and absent.
_SAID = {
    "blur": ("sharpness", "blurry", "slightly blurry", "sharp"),
    "noise": ("noise", "noisy", "slightly noisy", "free of noise"),
    "blocks": ("compression", "blocky", "slightly blocky", "free of compression artifacts"),
    "fade": ("contrast", "low in contrast", "", "balanced in contrast"),
    "darken": ("exposure", "dark", "", "well exposed"),
}
# What cannot be told from each other in a degraded picture is not said of it.
_ALIKE = {"blur": ("blocks",), "noise": ("blocks",), "blocks": ("blur",), "fade": ("darken",), "darken": ("fade",)}
_OTHER = ("contrast", "exposure")  # Q-Bench counts them as "other", not as distortions
_STRENGTHS = ("none", "weak", "medium", "strong", "extreme")


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
    taught = [general(camera.take("base"), number, camera.rng) for number in range(amounts.base)]
    validation = Validation(split.validation, tuple(examined))
    roots = dict.fromkeys(("d1", "d2", "d3", "scoring", "questions"), folder / "images")
    data = freeze(sets, validation, folder / "data", roots=roots, how=how, force=True)
    base = freeze({"d3": taught}, validation, folder / "base", roots=roots, how=how, force=True)
    return data, base


def all_texts(*frozen: Frozen) -> list[str]:
    """Every question and answer, for the tokenizer."""
    return texts_of(*frozen) + [text for one in frozen[0].val_questions for text in (one.question, *one.choices)]


class _Camera:
    """Takes degraded pictures, each of a new scene."""

    def __init__(self, root: Path, seed: int) -> None:
        self.root, self.rng = root, np.random.default_rng([seed, 0])
        root.mkdir(parents=True, exist_ok=True)
        self._number = 0

    def take(self, name: str, scene: str | None = None, most: float = 1.0) -> Degraded:
        kind = list(DEGRADATIONS)[self.rng.integers(len(DEGRADATIONS))]
        drawing, strength = draw(self.rng, scene), float(self.rng.uniform(0, most))
        image = f"{name}-{self._number:05d}.png"
        as_image(degrade(drawing.pixels, kind, strength, self.rng)).save(self.root / image, compress_level=1)
        self._number += 1
        return Degraded(image, drawing, kind, strength)


def _scored(camera: _Camera, number: int) -> Row:
    source = list(SCALES)[number % len(SCALES)]
    picture = camera.take(source)
    said = float(np.clip(quality(picture.strength) + camera.rng.normal(0, _SPREAD), 1, 5))
    scale = SCALES[source]
    mos = round(scale.low + (said - 1) / 4 * (scale.high - scale.low), 2)
    return scoring_row(Item(picture.image, mos, picture.image), scale, source)


def _interpreting(camera: _Camera, count: int, seed: int) -> list[Row]:
    """The builder's rows, and beside them questions whose options stand in their natural order."""
    limits = {kind: count * share // 100 for kind, share in _KINDS.items()}
    pictures = [camera.take("said") for _ in range(count * 2 // 5)]
    said = [feedback(picture, camera.rng) for picture in pictures]
    rows = build(said, _writer(), list(_KINDS), seed, limits=limits)
    # Pictures are asked about twice, in other words.
    drawn = [one for turn in range(2) for one in asked(pictures, len(pictures), seed + 2 * turn + 1)]
    return rows + [choice(one, number) for number, one in enumerate(drawn[: count - len(rows)])]


def _general(camera: _Camera, count: int) -> list[Row]:
    scenes = ("shapes", "shapes", "shapes", "leaves", "texture")
    pictures = [camera.take("seen", scenes[number % len(scenes)], most=0.5) for number in range(count)]
    return [content(picture, number, camera.rng) for number, picture in enumerate(pictures)]


def _questions(camera: _Camera, count: int, seed: int) -> list[Question]:
    found = asked([camera.take("asked") for _ in range(count + count // 4)], count, seed)
    return [question(one, number) for number, one in enumerate(found)]


def _read(folder: Path, how: Mapping[str, int]) -> Frozen:
    frozen = Frozen.load(folder)
    check_same(folder, frozen.record["how"], how, _FILES, what="data", hint="Use another folder.")
    return frozen


@dataclass(frozen=True, eq=False)
class Degraded:
    """A degraded picture and all that is known of it.

    Attributes:
        image: Its path below the image root.
        drawing: The pristine picture.
        kind: A key of `DEGRADATIONS`.
        strength: 0..1.
    """

    image: str
    drawing: Drawing
    kind: str
    strength: float


def feedback(picture: Degraded, rng: np.random.Generator) -> Feedback:
    """Write what a careful viewer would say: the degradation, two things that are right, and the conclusion."""
    said = []
    name, strong, light, absent = _SAID[picture.kind]
    word = absent if picture.strength < _NONE else light if picture.strength < _LIGHT else strong
    said += [(name, word)] if word else []
    fine = [kind for kind in _SAID if kind != picture.kind and kind not in _ALIKE[picture.kind]]
    said += [(_SAID[kind][0], _SAID[kind][3]) for kind in rng.permutation(fine)[:2]]
    level = _SCALE.level(quality(picture.strength))
    order = rng.permutation(len(said))
    attributes = tuple(said[index] for index in order)
    return Feedback(picture.image, attributes, f"Thus, the quality of the image is {level}.", "tiny", None)


@dataclass(frozen=True, eq=False)
class Asked:
    """A question of the D2 builder's with its options in their natural order: Yes before No, a scale from bad to good.

    A model of this size does not learn within minutes to look a letter up among shuffled options; with a fixed order
    the letter says what it sees. Over all questions each place is right about equally often.

    Attributes:
        picture: The picture.
        draft: Question and answer.
        options: All options.
        place: Index of the right one.
    """

    picture: Degraded
    draft: Draft
    options: tuple[str, ...]
    place: int


def asked(pictures: Sequence[Degraded], count: int, seed: int) -> list[Asked]:
    """Questions of the three types in turn about different pictures; fewer if the pictures give no more.

    Args:
        pictures: The pictures; each gives one question at most.
        count: Most questions.
        seed: Decides wording and choice.
    """
    rng = np.random.default_rng([seed, 1])
    found: list[Asked] = []
    right: Counter[tuple[int, int]] = Counter()  # how often each place of so many was right
    for number, picture in enumerate(pictures):
        kind: Literal["yes_no", "what_how"] = ("yes_no", "what_how")[number % 2]
        task = Task(feedback(picture, rng), kind, number=number, seed=seed)
        written = next(_writer().write([task], Refusals()))
        drafts = [draft for draft in written if draft.kind != "what" or number % 4 == 1]
        chances = [_natural(picture, draft) for index in rng.permutation(len(drafts)) for draft in [drafts[index]]]
        if chances:
            best = min(chances, key=lambda one: right[len(one.options), one.place])
            right[len(best.options), best.place] += 1
            found.append(best)
    return found[:count]


def question(one: Asked, number: int) -> Question:
    """Write it as a question of LLVisionQA."""
    concern: Concern = "other" if _SAID[one.picture.kind][0] in _OTHER else "distortion"
    kind: Any = "yes-no" if one.draft.kind == "yes_no" else one.draft.kind
    return Question(str(number), one.picture.image, one.draft.question, one.options, one.place, kind, concern)


def choice(one: Asked, number: int) -> Row:
    """Write it as a row of D2: with the instruction, or as LLVisionQA asks."""
    text = multiple_choice(one.draft.question, one.options) + (INSTRUCTION if number % 2 else "")
    return Row(f"choice/{number:06d}", one.picture.image, ((text, LETTERS[one.place]),), "tiny")


def _natural(picture: Degraded, draft: Draft) -> Asked:
    options = (draft.answer, *draft.distractors) if draft.distractors else ("Yes", "No")
    ordered = tuple(sorted(options, key=_order().__getitem__))
    return Asked(picture, draft, ordered, ordered.index(draft.answer))


@cache
def _vocabulary() -> tuple[Attribute, ...]:
    named = {name for name, *_ in _SAID.values()}
    return tuple(attribute for attribute in attributes() if attribute.name in named)


@cache
def _writer() -> TemplateWriter:
    return TemplateWriter(_vocabulary())


@cache
def _order() -> dict[str, int]:
    """Place of every option among those that may stand beside it."""
    words = ["Yes", "No"]
    for attribute in (*_vocabulary(), overall_quality()):
        words += [word[:1].upper() + word[1:] for step in attribute.steps for word in step.asked]
    words += sorted({step.problem for attribute in _vocabulary() for step in attribute.steps if step.problem})
    return {word: place for place, word in enumerate(words)}


_CONTENT: dict[str, tuple[tuple[str, ...], Sequence[str]]] = {
    "colour": (("What colour are the shapes?", "Which colour do the shapes have?"), tuple(COLOURS)),
    "shape": (("What shape is shown?", "Which shape can be seen?"), SHAPES),
    "count": (("How many shapes are there?", "What is the number of shapes?"), COUNTS),
    "place": (("Where are the shapes?", "On which side are the shapes?"), PLACES),
}


def content(picture: Degraded, number: int, rng: np.random.Generator) -> Row:
    """A D3 row: one or two questions about what is shown, not about how well."""
    drawing = picture.drawing
    if drawing.scene != "shapes":
        turns = [("What does the image show?", f"The image shows {drawing.scene}.")]
    else:
        asked = list(rng.permutation(list(_CONTENT))[: rng.integers(1, 3)])
        turns = [(_one(_CONTENT[name][0], rng), f"{getattr(drawing, name)}.".capitalize()) for name in asked]
    return Row(f"content/{number:05d}", picture.image, tuple(turns), "tiny")


def general(picture: Degraded, number: int, rng: np.random.Generator) -> Row:
    """A row for the base: which change was made, how strong it is, and the content, each freely or with options.

    It gives the base what a published one brings along: words for what the tower sees, and questions with options.
    """
    facts: list[tuple[str, str, Sequence[str]]] = [
        ("Which change was made to the image?", picture.kind, tuple(DEGRADATIONS)),
        ("How strong is the change?", _strength(picture.strength), _STRENGTHS),
        _asked_content(picture, rng),
    ]
    turns = []
    for index in rng.permutation(len(facts)):
        text, answer, known = facts[index]
        options = [option.capitalize() for option in known]
        if rng.random() < 0.5:
            turns.append((text, f"{answer.capitalize()}."))
        else:
            turns.append((multiple_choice(text, options), LETTERS[list(known).index(answer)]))
    return Row(f"general/{number:05d}", picture.image, tuple(turns), "base")


def _strength(strength: float) -> str:
    return _STRENGTHS[min(int(strength * len(_STRENGTHS)), len(_STRENGTHS) - 1)]


def _asked_content(picture: Degraded, rng: np.random.Generator) -> tuple[str, str, Sequence[str]]:
    if picture.drawing.scene != "shapes":
        return "What does the image show?", picture.drawing.scene, SCENES
    name = _one(tuple(_CONTENT), rng)
    texts, known = _CONTENT[name]
    return _one(texts, rng), str(getattr(picture.drawing, name)), known


def _one(texts: Sequence[str], rng: np.random.Generator) -> str:
    return texts[int(rng.integers(len(texts)))]
