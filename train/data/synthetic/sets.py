"""All rows about the pictures of the five sets. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from types import MappingProxyType

import numpy as np

from ...errors import DataError
from ..frozen import Validation
from ..interpreting import Feedback, build
from ..interpreting.choices import INSTRUCTION
from ..rows import Row
from .content_rows import content_row
from .rows import WRITER, feedback, questions, scored
from .shots import Shot

# Rows of each kind for a hundred pictures of D2, about as the paper has them. Besides, there is a round of questions
# about every picture, the cheapest way to many questions: a picture costs more than all that is asked about it.
_KINDS = MappingProxyType({"pathway": 20, "yes_no": 15, "what_how": 15, "choice": 15, "conversation": 10})
_MOST_TURNS = 9
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
    """

    d1: int = 20000
    d2: int = 10000
    d3: int = 10000
    rounds: int = 10000
    scoring: int = 500
    questions: int = 600

    def __post_init__(self) -> None:
        if min(asdict(self).values()) < 6:
            raise DataError.about("amounts", tuple(asdict(self).values()), "6 or more of each")
        if self.rounds > self.d1:
            raise DataError.about("rounds", self.rounds, f"no more than pictures of D1, {self.d1}")

    def pictures(self, name: str) -> int:
        """How many pictures a set needs."""
        count: int = getattr(self, name)
        return 2 * count + 6 if name == "questions" else count


def rows_of(shots: dict[str, list[Shot]], amounts: Amounts, seed: int) -> tuple[dict[str, list[Row]], Validation]:
    """All rows about the pictures of the five sets. Pure."""
    rng, opinions = (np.random.default_rng([seed, stream]) for stream in (3, 4))
    said = [feedback(shot, rng) for shot in shots["d2"]]
    limits = {kind: amounts.d2 * share // 100 for kind, share in _KINDS.items()}
    sets = {
        "d1": [scored(shot, opinions) for shot in shots["d1"]],
        "d2": [
            *build(said, WRITER, seed=seed, limits=limits),
            *_rounds([_of_round(shot, rng) for shot in shots["d2"]], seed + 1, rng),
            *_rounds([_of_round(shot, rng) for shot in shots["d1"][: amounts.rounds]], seed + 2, rng),
        ],
        "d3": [content_row(shot, number, rng) for number, shot in enumerate(shots["d3"])],
    }
    sets |= {name: [_bare(row, rng) for row in sets[name]] for name in ("d2", "d3")}
    asked = questions(shots["questions"], amounts.questions, seed)
    return sets, Validation(tuple(scored(shot) for shot in shots["scoring"]), tuple(asked))


def _of_round(shot: Shot, rng: np.random.Generator) -> Feedback:
    """Feedback for a round about a picture."""
    return feedback(shot, rng, level=bool(rng.random() < _OF_LEVELS))


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
        turns = tuple(turn for row in order[:_MOST_TURNS] for turn in row.turns)
        found.append(replace(order[0], id=f"round-{seed}/{number:06d}", turns=turns))
    return found


def _bare(row: Row, rng: np.random.Generator) -> Row:
    """Half of the multiple-choice questions without the instruction, as `prompts.multiple_choice` asks them.

    A model that starts from nothing takes a question without it for a free one.
    """
    turns = [
        (question.removesuffix(INSTRUCTION) if rng.random() < 0.5 else question, answer)
        for question, answer in row.turns
    ]
    return replace(row, turns=tuple(turns))
