"""What is asked and said about a drawn picture: feedback for D2, content for D3, both for the base. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from qsit_metric.evaluation import Question
from qsit_metric.evaluation.qbench import Concern
from qsit_metric.prompts import LETTERS, multiple_choice

from ..data.interpreting import Feedback, Task, TemplateWriter
from ..data.interpreting.build import INSTRUCTION
from ..data.interpreting.vocabulary import attributes, overall_quality
from ..data.interpreting.writer import Draft
from ..data.rows import Refusals, Row
from ..data.scoring import Scale
from .pictures import COLOURS, COUNTS, DEGRADATIONS, PLACES, SCENES, SHAPES, Drawing, quality

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

_NAMED = {name for name, *_ in _SAID.values()}
WRITER_ATTRIBUTES = tuple(attribute for attribute in attributes() if attribute.name in _NAMED)
WRITER = TemplateWriter(WRITER_ATTRIBUTES)


@dataclass(frozen=True, eq=False)
class Shot:
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


def feedback(shot: Shot, rng: np.random.Generator) -> Feedback:
    """What a careful viewer would say: the degradation, two things that are right, and the conclusion."""
    said = []
    name, strong, light, absent = _SAID[shot.kind]
    word = absent if shot.strength < _NONE else light if shot.strength < _LIGHT else strong
    said += [(name, word)] if word else []
    fine = [kind for kind in _SAID if kind != shot.kind and kind not in _ALIKE[shot.kind]]
    said += [(_SAID[kind][0], _SAID[kind][3]) for kind in rng.permutation(fine)[:2]]
    level = _SCALE.level(quality(shot.strength))
    order = rng.permutation(len(said))
    attributes = tuple(said[index] for index in order)
    return Feedback(shot.image, attributes, f"Thus, the quality of the image is {level}.", "tiny", None)


@dataclass(frozen=True, eq=False)
class Asked:
    """A question of the D2 builder's with its options in their natural order: Yes before No, a scale from bad to good.

    A model of this size does not learn within minutes to look a letter up among shuffled options; with a fixed order
    the letter says what it sees. Over all questions each place is right about equally often.

    Attributes:
        shot: The picture.
        draft: Question and answer.
        options: All options.
        place: Index of the right one.
    """

    shot: Shot
    draft: Draft
    options: tuple[str, ...]
    place: int


def asked(shots: Sequence[Shot], count: int, seed: int) -> list[Asked]:
    """Questions of the three types in turn about different pictures; fewer if the pictures give no more.

    Args:
        shots: The pictures; each gives one question at most.
        count: Most questions.
        seed: Decides wording and choice.
    """
    rng = np.random.default_rng([seed, 1])
    found: list[Asked] = []
    right: Counter[tuple[int, int]] = Counter()  # how often each place of so many was right
    for number, shot in enumerate(shots):
        kind: Literal["yes_no", "what_how"] = ("yes_no", "what_how")[number % 2]
        task = Task(feedback(shot, rng), kind, number=number, seed=seed)
        drafts = [draft for draft in next(WRITER.write([task], Refusals())) if draft.kind != "what" or number % 4 == 1]
        chances = [_natural(shot, draft) for index in rng.permutation(len(drafts)) for draft in [drafts[index]]]
        if chances:
            best = min(chances, key=lambda one: right[len(one.options), one.place])
            right[len(best.options), best.place] += 1
            found.append(best)
    return found[:count]


def question(one: Asked, number: int) -> Question:
    """As LLVisionQA has it."""
    concern: Concern = "other" if _SAID[one.shot.kind][0] in _OTHER else "distortion"
    kind: Any = "yes-no" if one.draft.kind == "yes_no" else one.draft.kind
    return Question(str(number), one.shot.image, one.draft.question, one.options, one.place, kind, concern)


def choice(one: Asked, number: int) -> Row:
    """As D2 has it: with the instruction, or as LLVisionQA asks."""
    text = multiple_choice(one.draft.question, one.options) + (INSTRUCTION if number % 2 else "")
    return Row(f"choice/{number:06d}", one.shot.image, ((text, LETTERS[one.place]),), "tiny")


def _natural(shot: Shot, draft: Draft) -> Asked:
    options = (draft.answer, *draft.distractors) if draft.distractors else ("Yes", "No")
    ordered = tuple(sorted(options, key=_ORDER.__getitem__))
    return Asked(shot, draft, ordered, ordered.index(draft.answer))


def _order() -> dict[str, int]:
    """Place of every option among those that may stand beside it."""
    words = ["Yes", "No"]
    for attribute in (*WRITER_ATTRIBUTES, overall_quality()):
        words += [word[:1].upper() + word[1:] for step in attribute.steps for word in step.asked]
    words += sorted({step.problem for attribute in WRITER_ATTRIBUTES for step in attribute.steps if step.problem})
    return {word: place for place, word in enumerate(words)}


_ORDER = _order()

_CONTENT: dict[str, tuple[tuple[str, ...], Sequence[str]]] = {
    "colour": (("What colour are the shapes?", "Which colour do the shapes have?"), tuple(COLOURS)),
    "shape": (("What shape is shown?", "Which shape can be seen?"), SHAPES),
    "count": (("How many shapes are there?", "What is the number of shapes?"), COUNTS),
    "place": (("Where are the shapes?", "On which side are the shapes?"), PLACES),
}


def content(shot: Shot, number: int, rng: np.random.Generator) -> Row:
    """A D3 row: one or two questions about what is shown, not about how well."""
    drawing = shot.drawing
    if drawing.scene != "shapes":
        turns = [("What does the image show?", f"The image shows {drawing.scene}.")]
    else:
        asked = list(rng.permutation(list(_CONTENT))[: rng.integers(1, 3)])
        turns = [(_one(_CONTENT[name][0], rng), f"{getattr(drawing, name)}.".capitalize()) for name in asked]
    return Row(f"content/{number:05d}", shot.image, tuple(turns), "tiny")


def general(shot: Shot, number: int, rng: np.random.Generator) -> Row:
    """A row for the base: which change was made, how strong it is, and the content, each freely or with options.

    It gives the base what a published one brings along: words for what the tower sees, and questions with options.
    """
    facts: list[tuple[str, str, Sequence[str]]] = [
        ("Which change was made to the image?", shot.kind, tuple(DEGRADATIONS)),
        ("How strong is the change?", _strength(shot.strength), _STRENGTHS),
        _asked_content(shot, rng),
    ]
    turns = []
    for index in rng.permutation(len(facts)):
        text, answer, known = facts[index]
        options = [option.capitalize() for option in known]
        if rng.random() < 0.5:
            turns.append((text, f"{answer.capitalize()}."))
        else:
            turns.append((multiple_choice(text, options), LETTERS[list(known).index(answer)]))
    return Row(f"general/{number:05d}", shot.image, tuple(turns), "base")


_STRENGTHS = ("none", "weak", "medium", "strong", "extreme")


def _strength(strength: float) -> str:
    return _STRENGTHS[min(int(strength * len(_STRENGTHS)), len(_STRENGTHS) - 1)]


def _asked_content(shot: Shot, rng: np.random.Generator) -> tuple[str, str, Sequence[str]]:
    if shot.drawing.scene != "shapes":
        return "What does the image show?", shot.drawing.scene, SCENES
    name = _one(tuple(_CONTENT), rng)
    texts, known = _CONTENT[name]
    return _one(texts, rng), str(getattr(shot.drawing, name)), known


def _one(texts: Sequence[str], rng: np.random.Generator) -> str:
    return texts[int(rng.integers(len(texts)))]
