"""What is asked and said about a made picture: D1 rows, feedback for D2, D3 rows, questions for validation. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np

from qsit_metric.evaluation import Question
from qsit_metric.evaluation.manifest import Item
from qsit_metric.evaluation.qbench import Concern, Type

from ...errors import DataError
from ..interpreting import Draft, Feedback, Task
from ..interpreting.choices import positions
from ..rows import Refusals, Row
from ..scoring import scoring_row
from .labels import SCALE
from .shots import ABSENT, SEVERE, SLIGHT, Degradation, Shot
from .words import BY_NAME, HIDES, PRAISED
from .writer import SyntheticWriter

SOURCE = "synthetic"
WRITER = SyntheticWriter()
_OPPOSITE = {"Yes": "No", "No": "Yes"}
_OTHER = ("contrast", "exposure", "colour", "tint")  # families that Q-Bench counts as "other", not as distortions

_STRONG = ("{word}", "clearly {word}", "noticeably {word}", "visibly {word}")
_SEVERE = ("very {word}", "severely {word}", "extremely {word}", "heavily {word}")
_CAUSES = ("A likely cause is {cause}.", "This may come from {cause}.", "It looks like the result of {cause}.")
_CONCLUSIONS = (
    "Thus, the quality of the image is {level}.",
    "Overall, the quality of the image is {level}.",
    "In sum, the quality of this picture is {level}.",
    "All in all, this is a picture of {level} quality.",
    "Taken together, its quality is {level}.",
)
# Of pictures without a score nothing is said that is a level.
_UNSCORED = {
    SLIGHT: ("Thus, the image is only lightly affected.", "Overall, this disturbs only at a second look."),
    SEVERE: ("Thus, the image suffers a lot.", "Overall, this spoils the picture to a large degree."),
}


def scored(shot: Shot, rng: np.random.Generator | None = None) -> Row:
    """A D1 row.

    Args:
        shot: The picture.
        rng: Draws the score that people gave this one picture; None takes the mean of its type and level.

    Raises:
        DataError: The picture has no score.
    """
    if shot.mos is None:
        raise DataError.about("shot", shot.image, "a picture with a score: none or one of KADID-10k's degradations")
    mos = shot.mos if rng is None else round(shot.drawn_mos(rng), 4)
    return scoring_row(Item(shot.image, mos, shot.image), SCALE, SOURCE)


def feedback(shot: Shot, rng: np.random.Generator, level: bool = True) -> Feedback:
    """What a careful viewer who knows the degradation would say: it, its cause, something right, a conclusion.

    Args:
        shot: The picture.
        rng: Chooses the words.
        level: Conclude with a level, if the picture has a score.
    """
    said = [one for degradation in shot.degradations for one in _degradation(degradation, rng)]
    named = [name for name, _ in said]
    praised = _fine(shot, rng, named)
    for name in praised[: 1 if said else 2]:
        steps = BY_NAME[name].steps
        words = steps[1 if BY_NAME[name].excluding else 2].asked
        said.insert(_gap(said, rng), (name, words[rng.integers(len(words))]))
    return Feedback(shot.image, tuple(said), _conclusion(shot, rng, level), SOURCE, None)


def _degradation(one: Degradation, rng: np.random.Generator) -> list[tuple[str, str]]:
    """Its attribute, and perhaps its cause."""
    name = one.saying.attribute
    attribute = BY_NAME[name]
    if one.grade == ABSENT:  # it is there and nobody sees it
        words = attribute.steps[1 if attribute.excluding else 2].asked
        return [(name, words[rng.integers(len(words))])]
    word = one.saying.words[rng.integers(len(one.saying.words))]
    forms = ("slightly {word}",) if one.grade == SLIGHT else _SEVERE if one.grade == SEVERE else _STRONG
    found = [(name, forms[rng.integers(len(forms))].format(word=word))]
    if rng.random() < 0.7:
        cause = one.saying.causes[rng.integers(len(one.saying.causes))]
        found.append(("", _CAUSES[rng.integers(len(_CAUSES))].format(cause=cause)))
    return found


def _gap(said: Sequence[tuple[str, str]], rng: np.random.Generator) -> int:
    """A place that does not part a degradation from its cause."""
    gaps = [place for place in range(len(said) + 1) if place == len(said) or said[place][0]]
    return gaps[rng.integers(len(gaps))]


def _fine(shot: Shot, rng: np.random.Generator, named: Sequence[str]) -> list[str]:
    """Attributes of which something good can be said, in random order."""
    seen = [one for one in shot.degradations if one.grade != ABSENT]
    gone = {family for one in seen for family in (one.family, *HIDES[one.family])}
    gone |= {BY_NAME[name].family for name in named if name}
    tone = shot.tone
    unfit = {
        "exposure": not 0.3 <= tone.light <= 0.65,
        "contrast": not 0.14 <= tone.contrast <= 0.27,
        "colour": tone.saturation < 0.35,
        "naturalness": tone.saturation > 0.5,
    }
    fitting = [name for name in PRAISED if BY_NAME[name].family not in gone and not unfit.get(name, False)]
    found: list[str] = []
    taken = [str(name) for name in rng.permutation(fitting) if rng.random() < PRAISED[name]]
    for name in taken or list(rng.permutation(fitting))[: not named]:
        if BY_NAME[name].family not in {BY_NAME[one].family for one in found}:
            found.append(name)
    return found


def _conclusion(shot: Shot, rng: np.random.Generator, level: bool) -> str:
    if shot.mos is None or not level:
        worst = SLIGHT if all(one.grade <= SLIGHT for one in shot.degradations) else SEVERE
        return _UNSCORED[worst][rng.integers(len(_UNSCORED[worst]))]
    return _CONCLUSIONS[rng.integers(len(_CONCLUSIONS))].format(level=SCALE.level(shot.mos))


def questions(shots: Sequence[Shot], count: int, seed: int) -> list[Question]:
    """LLVisionQA questions, a third each yes-no, what and how, about different pictures.

    The words are those of the D2 builder. Yes is right as often as no, of each attribute as far as it goes; the right
    option stands in each place equally often.

    Args:
        shots: Pictures, about three for each two questions.
        count: How many.
        seed: Equal seeds give equal questions.

    Raises:
        DataError: Too few pictures.
    """
    rng = np.random.default_rng([seed, 1])
    sides = {"Yes": count // 6, "No": count // 6}
    limits = {"yes-no": sum(sides.values()), "what": count // 3}
    limits["how"] = count - sum(limits.values())
    found: list[tuple[Shot, Draft, str]] = []
    for number, shot in enumerate(shots):
        done = {kind: sum(kind == one[2] for one in found) for kind in limits}
        said = {answer: sum(answer == one[1].answer for one in found) for answer in sides}
        drafts = _drafts(shot, number, seed, rng)
        drafts["yes-no"] = [one for one in drafts["yes-no"] if said[one.answer] < sides[one.answer]]
        open_kinds = sorted((kind for kind in limits if done[kind] < limits[kind]), key=lambda k: done[k] / limits[k])
        fitting = next((kind for kind in open_kinds if drafts[kind]), None)
        if fitting:
            found.append((shot, _rarest(drafts[fitting], [one for _, one, _ in found]), fitting))
    if len(found) < count:
        raise DataError.about("shots", f"<{len(shots)} pictures>", f"more of them for {count} questions")
    return _placed(found, seed, rng)


def _drafts(shot: Shot, number: int, seed: int, rng: np.random.Generator) -> dict[str, list[Draft]]:
    said = feedback(shot, rng)
    tasks = [Task(said, "yes_no", number=number, seed=seed), Task(said, "what_how", number=number, seed=seed)]
    drafts = [draft for found in WRITER.write(tasks, Refusals()) for draft in found]
    return {kind: [one for one in drafts if one.kind == kind.replace("-", "_")] for kind in ("yes-no", "what", "how")}


def _rarest(drafts: Sequence[Draft], before: Sequence[Draft]) -> Draft:
    """The draft whose answer was given least often to the same words (of yes or no, compared with the other answer)."""

    def surplus(draft: Draft) -> int:
        alike = [one.answer for one in before if one.kind == draft.kind and _words(one) == _words(draft)]
        same = alike.count(draft.answer)
        return same - alike.count(_OPPOSITE[draft.answer]) if draft.kind == "yes_no" else same

    return min(drafts, key=surplus)


def _words(draft: Draft) -> str:
    """What a yes/no question asks for; of the others the answers are compared across all questions."""
    return " ".join(draft.question.rstrip("?").split()[-2:]) if draft.kind == "yes_no" else ""


def _placed(found: Sequence[tuple[Shot, Draft, str]], seed: int, rng: np.random.Generator) -> list[Question]:
    options = [draft.distractors or (_OPPOSITE[draft.answer],) for _, draft, _ in found]
    sizes = [(1 + len(wrong), draft.answer) for (_, draft, _), wrong in zip(found, options, strict=True)]
    asked = []
    for number, ((shot, draft, kind), wrong, place) in enumerate(
        zip(found, options, positions(sizes, seed), strict=True)
    ):
        choices = [str(option) for option in rng.permutation(np.array(wrong, dtype=object))]
        choices.insert(place, draft.answer)
        families = {one.family for one in shot.degradations}
        concern: Concern = "other" if families & set(_OTHER) else "distortion"
        asked.append(
            Question(str(number), shot.image, draft.question, tuple(choices), place, cast(Type, kind), concern)
        )
    return asked
