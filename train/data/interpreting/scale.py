"""The form of an attribute: a name and three steps from one pole to the other. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """One step of an attribute's scale.

    Attributes:
        words: How people say it; the first ones are adjectives.
        asked: Adjectives that hold for all of `words`: "is the image ...?".
        problem: The distortion that it is, as a noun; "" if it is none.
    """

    words: tuple[str, ...]
    asked: tuple[str, ...]
    problem: str = ""


@dataclass(frozen=True)
class Attribute:
    """One attribute.

    Attributes:
        name: As it is shown in reports.
        aliases: Keys under which feedback files have it.
        nouns: What a how-question asks for ("How is the ... of the image?").
        steps: Three, from one pole to the other.
        family: Attributes of one family look alike, so one is no wrong answer for another.
        excluding: Any two steps contradict each other. Otherwise the middle one is a light form of the first.
    """

    name: str
    aliases: tuple[str, ...]
    nouns: tuple[str, ...]
    steps: tuple[Step, Step, Step]
    family: str
    excluding: bool = False

    def denied(self, step: int) -> tuple[tuple[int, ...], ...]:
        """Steps that are wrong where `step` is right: for each question with the answer no, those to choose from.

        Where all steps are equally frequent, each of them is affirmed as often as it is denied, so that a question
        alone does not tell its answer. (A light defect therefore denies nothing: the good end has its share already.)
        """
        if self.excluding:
            return (tuple(other for other in range(3) if other != step),)
        return (((2,),), (), ((0,), (1,)))[step]
