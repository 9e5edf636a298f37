"""The words in which people grade a picture's attributes, and what is known of each fault. The lists are data files.

`vocabulary.json` has the attributes of Sec. III-B2 and the places in a picture, chosen by us: the paper's reference
attribute set is not printed. The choice follows the concerns of Q-Bench (arXiv 2309.14181): blur, noise, exposure,
artefacts, colour, lightness, focus, composition. What is known of a fault (causes, advice for the photographer, tools)
is general knowledge of photography and of image processing; nothing in it is taken from a data set.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True)
class Step:
    """A step of an attribute's scale.

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
    """An attribute of a picture's quality, graded in three steps.

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

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Attribute:
        """Read an entry of a vocabulary; a middle step that is null is the first, slightly."""
        first, middle, last = (one and _step(one) for one in fields["steps"])
        if middle is None:
            light = tuple(f"slightly {word}" for word in first.asked)
            middle = Step(light, light, first.problem)
        aliases, nouns = tuple(fields["aliases"]), tuple(fields["nouns"])
        steps = (first, middle, last)
        return cls(fields["name"], aliases, nouns, steps, fields["family"], fields.get("excluding", False))

    def denied(self, step: int) -> tuple[tuple[int, ...], ...]:
        """Steps that are wrong where `step` is right: for each question with the answer no, those to choose from.

        Where all steps are equally frequent, each of them is affirmed as often as it is denied, so that a question
        alone does not tell its answer. (A light defect therefore denies nothing: the good end has its share already.)
        """
        if self.excluding:
            return (tuple(other for other in range(3) if other != step),)
        return (((2,),), (), ((0,), (1,)))[step]


@dataclass(frozen=True)
class Place:
    """A part of a picture in which something may be seen.

    Attributes:
        words: How people name it; a pattern.
        elsewhere: Names of the parts that are certainly other ones.
    """

    words: str
    elsewhere: tuple[str, ...]


@dataclass(frozen=True)
class Knowledge:
    """Causes, advice and tools for one distortion; each text completes a sentence.

    Attributes:
        causes: "A likely cause is ...".
        advice: "I would ...".
        tools: "... helps".
    """

    causes: tuple[str, ...]
    advice: tuple[str, ...]
    tools: tuple[str, ...]

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Knowledge:
        """Read an entry of a vocabulary."""
        return cls(**{name: tuple(texts) for name, texts in fields.items()})


@cache
def attributes() -> tuple[Attribute, ...]:
    """All attributes but the overall quality, which is read from the conclusion."""
    return tuple(map(Attribute.from_json, read_words("vocabulary")["attributes"]))


@cache
def overall_quality() -> Attribute:
    """The overall quality."""
    return Attribute.from_json(read_words("vocabulary")["quality"])


@cache
def places() -> Mapping[str, Place]:
    """Places in a picture by name."""
    found = read_words("vocabulary")["places"]
    return MappingProxyType({name: Place(one["words"], tuple(one["elsewhere"])) for name, one in found.items()})


@cache
def knowledge() -> Mapping[str, Knowledge]:
    """Causes, advice and tools for each distortion, by its name in `Step.problem`."""
    found = read_words("vocabulary")["knowledge"]
    return MappingProxyType({problem: Knowledge.from_json(one) for problem, one in found.items()})


@cache
def read_words(name: str, folder: Path = Path(__file__).parent) -> Any:
    """The content of a list of words, `NAME.json`; to be read only."""
    return json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))


def _step(fields: Mapping[str, Any]) -> Step:
    return Step(tuple(fields["words"]), tuple(fields["asked"]), fields.get("problem", ""))
