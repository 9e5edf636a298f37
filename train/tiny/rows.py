"""What is asked and said about a drawn picture: feedback for D2, content for D3, both for the base. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from qsit_metric.evaluation import Question
from qsit_metric.evaluation.llvisionqa import Concern
from qsit_metric.levels import LEVELS
from qsit_metric.prompts import LETTERS, multiple_choice

from ..data.interpreting import Feedback, Task, TemplateWriter
from ..data.interpreting.choices import ask, positions
from ..data.interpreting.vocabulary import ATTRIBUTES
from ..data.rows import Refusals, Row
from ..data.scoring import Scale
from .pictures import COLOURS, COUNTS, DEGRADATIONS, PLACES, SHAPES, Drawing, quality

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
WRITER = TemplateWriter([attribute for attribute in ATTRIBUTES if attribute.name in _NAMED])


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


def questions(shots: Sequence[Shot], count: int, seed: int) -> list[Question]:
    """LLVisionQA questions, of the three types in turn, about different pictures as far as they go.

    The words are those of the D2 builder; the right option stands in each place equally often, and yes is right as
    often as no.
    """
    rng = np.random.default_rng([seed, 1])
    drafts = []
    for number, shot in enumerate(shots):
        said = feedback(shot, rng)
        kinds: list[tuple[str, str]] = [("yes_no", "Yes"), ("what_how", ""), ("yes_no", "No"), ("what_how", "")]
        task, answer = kinds[number % len(kinds)]
        found = next(WRITER.write([Task(said, task, number=number, seed=seed)], Refusals()))  # type: ignore[arg-type]
        fitting = [draft for draft in found if not answer or draft.answer == answer]
        if fitting:
            drafts.append((shot, fitting[rng.integers(len(fitting))]))
    drafts = drafts[:count]
    options = [draft.distractors or ({"Yes": "No", "No": "Yes"}[draft.answer],) for _, draft in drafts]
    sizes = [(1 + len(wrong), draft.answer) for (_, draft), wrong in zip(drafts, options, strict=True)]
    found_questions = []
    for number, ((shot, draft), wrong, place) in enumerate(zip(drafts, options, positions(sizes, seed), strict=True)):
        choices = [str(option) for option in rng.permutation(np.array(wrong, dtype=object))]
        choices.insert(place, draft.answer)
        concern: Concern = "other" if _SAID[shot.kind][0] in _OTHER else "distortion"
        kind = "yes-no" if draft.kind == "yes_no" else draft.kind
        found_questions.append(
            Question(str(number), shot.image, draft.question, tuple(choices), place, kind, concern)  # type: ignore[arg-type]
        )
    return found_questions


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
    """A row for the base: which change was made and how strong it is, or the content, freely or with options.

    It gives the base what a published one brings along: eyes for detail, and the form of a question with options.
    """
    makers: tuple[Callable[[], tuple[str, str, Sequence[str]]], ...] = (
        lambda: ("Which change was made to the image?", shot.kind, tuple(DEGRADATIONS)),
        lambda: ("How strong is the change?", _strength(shot.strength), _STRENGTHS),
        lambda: _asked_content(shot, rng),
    )
    question, answer, known = makers[rng.integers(len(makers))]()
    answer, known = answer.capitalize(), [option.capitalize() for option in known]
    if rng.random() < 0.5:
        return Row(f"general/{number:05d}", shot.image, ((question, f"{answer}."),), "base")
    wrong = [str(option) for option in rng.permutation([option for option in known if option != answer])]
    wrong = wrong[: rng.integers(1, min(len(wrong), 3) + 1)]
    turn = ask(question, answer, wrong, int(rng.integers(len(wrong) + 1)), f"{number}")
    if rng.random() < 0.5:  # as LLVisionQA asks, without the instruction
        turn = (multiple_choice(question, _options(turn[0])), turn[1])
    return Row(f"general/{number:05d}", shot.image, (turn,), "base")


_STRENGTHS = ("none", "weak", "medium", "strong", "extreme")


def _strength(strength: float) -> str:
    return _STRENGTHS[min(int(strength * len(_STRENGTHS)), len(_STRENGTHS) - 1)]


def _asked_content(shot: Shot, rng: np.random.Generator) -> tuple[str, str, Sequence[str]]:
    if shot.drawing.scene != "shapes":
        return "What does the image show?", shot.drawing.scene, ("leaves", "texture", "shapes")
    name = _one(tuple(_CONTENT), rng)
    texts, known = _CONTENT[name]
    return _one(texts, rng), str(getattr(shot.drawing, name)), known


def _options(question: str) -> list[str]:
    """The options of a question with options."""
    lines = question.split("\n")
    return [line.partition(". ")[2] for line in lines if line[:1] in LETTERS and line[1:3] == ". "]


def _one(texts: Sequence[str], rng: np.random.Generator) -> str:
    return texts[rng.integers(len(texts))]


def level_of_strength(strength: float) -> str:
    """The level of a degraded picture on the tiny data's own scale, 1..5.

    Example:
        >>> level_of_strength(0.0), level_of_strength(0.5), level_of_strength(1.0)
        ('excellent', 'fair', 'bad')
    """
    return LEVELS[LEVELS.index(_SCALE.level(quality(strength)))]
