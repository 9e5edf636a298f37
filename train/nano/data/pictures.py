"""A made picture and all that is known of it: its content's facts, degradations and their words, score. Pure.

The words are a data file, `wordings.json`: attributes that the common vocabulary lacks, how each degradation is said,
which families of attributes it hides, and how often an attribute that is right is praised. That chance was solved by
simulation of `draw_degradations`, so that each is praised half as often as it is blamed: then its three steps are about
equally frequent, and the question alone does not tell the answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from PIL import Image

from qsit_metric.prompts import Describing, Fault

from ...data.corruptions import CORRUPTIONS, Floats, corrupt
from ...data.interpreting.vocabulary import Attribute, Knowledge, attributes, knowledge, read_words
from .kadid import DISTORTIONS, distort, drawn_mos, mean_mos

FOLDER = Path(__file__).parent
_UNUSED = ("composition",)  # attributes that feedback on made pictures never speaks of
ABSENT, SLIGHT, STRONG, SEVERE = range(4)
_GRADES = ((4.3, ABSENT), (3.3, SLIGHT), (2.1, STRONG))  # lowest score of a grade
_GRADES_OF_LIGHT = ((4.3, ABSENT), (4.0, SLIGHT), (2.1, STRONG))  # people mind a wrong exposure less than they see it
# At these severities a corruption is slight, by KADID-10k's scores of the same strength; all others are strong.
_LIGHT_SEVERITIES = {"jpeg_compression": 2, "brightness": 1, "elastic_transform": 1}
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "brown", "grey", "black", "white")
KINDS: Mapping[str, str] = MappingProxyType(
    {
        "person": "a person",
        "animal": "an animal",
        "object": "an object",
        "building": "a building",
        "flower": "a flower",
        "texture": "a texture",
        "sky": "the night sky",
        "eye": "the inside of an eye",
        "landscape": "a landscape",
        "writing": "writing",
        "shapes": "geometric shapes",
        "pattern": "a regular pattern",
        "leaves": "overlapping pieces",
        "noise": "cloudy noise",
        "gradient": "a smooth gradient",
    }
)
"""Kinds of subject, and how an answer names them."""
SHAPES = ("disk", "square", "triangle", "ring")
PLACES = ("left", "right", "top", "bottom", "middle")
LAYOUTS = ("wider than high", "higher than wide", "square")
COUNTS = ("one", "two", "three", "four", "five")
_CLEAR = 0.45  # share of the pixels that the dominant colour has at least, and twice as many as the next


@dataclass(frozen=True)
class Wording:
    """How a degradation is said.

    Attributes:
        attribute: Name of the attribute that it lowers.
        words: Adjectives for it.
        causes: What may have done it; completes "A likely cause is ...".
    """

    attribute: str
    words: tuple[str, ...]
    causes: tuple[str, ...]


@dataclass(frozen=True)
class Wordings:
    """The words for made pictures.

    Attributes:
        attributes: The attributes that feedback speaks of, by name.
        degradations: How each degradation is said; the two sides of mean_shift and contrast_change end in + and -.
        hides: Family of a degradation -> families of which nothing can be said any more.
        praised: Chance that an attribute that is right is said to be so, by its name.
        knowledge: What is known of each problem, those of the common vocabulary included.
    """

    attributes: Mapping[str, Attribute]
    degradations: Mapping[str, Wording]
    hides: Mapping[str, tuple[str, ...]]
    praised: Mapping[str, float]
    knowledge: Mapping[str, Knowledge]


@cache
def wordings() -> Wordings:
    """Read the words."""
    read = read_words("wordings", FOLDER)
    used = (*attributes(), *map(Attribute.from_json, read["attributes"]))
    said = {
        kind: Wording(one["attribute"], tuple(one["words"]), tuple(one["causes"]))
        for kind, one in read["degradations"].items()
    }
    own = {problem: Knowledge.from_json(one) for problem, one in read["knowledge"].items()}
    return Wordings(
        {one.name: one for one in used if one.name not in _UNUSED},
        said,
        {family: tuple(hidden) for family, hidden in read["hides"].items()},
        read["praised"],
        {**knowledge(), **own},
    )


def describing() -> Describing:
    """What a small model is asked for a description, in the words that it was taught: every problem, and how strong."""
    found: dict[str, Fault] = {}
    for one in wordings().attributes.values():
        words = [step.asked[0] for step in one.steps]
        choices = tuple(word[:1].upper() + word[1:] for word in words)
        for step, word in zip(one.steps, words, strict=True):
            if step.problem and step.problem not in found:
                asked = f"How is the {one.nouns[0]} of this image?"
                found[step.problem] = Fault(step.problem, asked, choices, word, f"slightly {word}")
    return Describing("What problem affects this image?", tuple(found.values()))


@dataclass(frozen=True)
class Degradation:
    """A degradation of a picture.

    Attributes:
        kind: One of `DISTORTIONS`, or of `CORRUPTIONS`.
        level: 1.0 to 5.0; a whole number for a corruption.
        corruption: Which of the two; some names are in both.
    """

    kind: str
    level: float
    corruption: bool = False

    def apply(self, image: Image.Image, seed: int) -> Image.Image:
        """The degraded picture."""
        if self.corruption:
            return corrupt(image, self.kind, int(self.level), seed)
        return distort(image, self.kind, self.level, seed)

    @property
    def wording(self) -> Wording:
        """The words for it."""
        known, side = wordings().degradations, f"{self.kind}{'+' if self.level < 3 else '-'}"
        return known[side if side in known and not self.corruption else self.kind]

    @property
    def grade(self) -> int:
        """How much of it is seen: ABSENT, SLIGHT, STRONG or SEVERE."""
        if self.corruption:
            light = self.level <= _LIGHT_SEVERITIES.get(self.kind, 0)
            return SLIGHT if light else SEVERE if self.level >= 4 else STRONG
        if self.kind == "contrast_change":  # its scores do not peak at the untouched picture's
            return ABSENT if abs(self.level - 3) < 0.4 else SLIGHT if abs(self.level - 3) < 1.4 else STRONG
        mos = mean_mos(self.kind, self.level)
        grades = _GRADES_OF_LIGHT if self.kind in ("brighten", "darken", "mean_shift") else _GRADES
        return next((grade for least, grade in grades if mos >= least), SEVERE)

    @property
    def family(self) -> str:
        """Family of its attribute."""
        return wordings().attributes[self.wording.attribute].family


@dataclass(frozen=True)
class Tone:
    """Measured on the pristine picture, each 0..1: mean and deviation of the light, mean saturation."""

    light: float
    contrast: float
    saturation: float


@dataclass(frozen=True)
class MadePicture:
    """A made picture.

    Attributes:
        image: Its path below the image root.
        name: Its content's name.
        facts: What it shows.
        tone: Of the pristine picture.
        degradations: None, one or two, in the order in which they were applied.
    """

    image: str
    name: str
    facts: Facts
    tone: Tone
    degradations: tuple[Degradation, ...] = ()

    @property
    def mos(self) -> float | None:
        """The score, if it has one: an untouched picture, or one with a single degradation of KADID-10k."""
        if not self.degradations:
            return mean_mos(None)
        if len(self.degradations) > 1 or self.degradations[0].corruption:
            return None
        return round(mean_mos(self.degradations[0].kind, self.degradations[0].level), 4)

    def drawn_mos(self, rng: np.random.Generator) -> float:
        """Draw a score that people gave this one picture, around `mos`; of a picture that has a score."""
        if not self.degradations:
            return drawn_mos(None, 1.0, rng)
        return drawn_mos(self.degradations[0].kind, self.degradations[0].level, rng)

    def as_dict(self) -> dict[str, Any]:
        """Plain fields."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> MadePicture:
        """The inverse of `as_dict`."""
        found = tuple(Degradation(**one) for one in fields["degradations"])
        return cls(fields["image"], fields["name"], Facts(**fields["facts"]), Tone(**fields["tone"]), found)


def tone_of(image: Image.Image) -> Tone:
    """Measure a picture."""
    x = np.asarray(image.resize((64, 64), Image.Resampling.BOX), dtype=np.float64) / 255
    light = x @ np.array((0.299, 0.587, 0.114))
    value = x.max(axis=2)
    saturation = np.ptp(x, axis=2) / np.maximum(value, 0.05)
    return Tone(round(float(light.mean()), 3), round(float(light.std()), 3), round(float(saturation.mean()), 3))


def draw_degradation(rng: np.random.Generator, kinds: tuple[str, ...] = DISTORTIONS) -> Degradation:
    """Draw one of the 25, or of some of them, each equally often; levels 1 to 5, two fifths of them whole."""
    kind = kinds[rng.integers(len(kinds))]
    return Degradation(kind, _level(rng))


def draw_degradations(
    rng: np.random.Generator, pristine: float, corrupted: float, pairs: float, kinds: tuple[str, ...] = DISTORTIONS
) -> tuple[Degradation, ...]:
    """None, one or two degradations, attributes equally often, so that no answer is the usual one.

    Args:
        rng: Random numbers.
        pristine: Share of untouched pictures.
        corrupted: Share of pictures with one of the fifteen corruptions.
        pairs: Share of pictures with two degradations.
        kinds: Of `DISTORTIONS`, those that are drawn.
    """
    share = rng.random()
    if share < pristine:
        return ()
    if share < pristine + corrupted:
        severity = float(rng.integers(1, 6))
        return (_one_attribute([Degradation(kind, severity, True) for kind in CORRUPTIONS], rng),)
    first = _by_attribute(rng, kinds)
    if share >= pristine + corrupted + pairs:
        return (first,)
    while True:
        second = _by_attribute(rng, kinds)
        hides = wordings().hides
        far = second.family not in (first.family, *hides[first.family]) and first.family not in hides[second.family]
        if far:
            return first, second


def _by_attribute(rng: np.random.Generator, kinds: tuple[str, ...]) -> Degradation:
    level = _level(rng)
    return _one_attribute([Degradation(kind, level) for kind in kinds], rng)


def _one_attribute(candidates: Sequence[Degradation], rng: np.random.Generator) -> Degradation:
    groups: dict[str, list[Degradation]] = {}
    for one in candidates:
        groups.setdefault(one.wording.attribute, []).append(one)
    found = groups[sorted(groups)[rng.integers(len(groups))]]
    return found[rng.integers(len(found))]


def _level(rng: np.random.Generator) -> float:
    return float(rng.integers(1, 6)) if rng.random() < 0.4 else round(float(rng.uniform(1, 5)), 3)


@dataclass(frozen=True)
class Facts:
    """Facts about what a picture shows; "" is what is not known, or does not apply.

    Attributes:
        kind: A key of `KINDS`.
        subject: What is shown, with its article ("a cup of coffee").
        colour: The colour that most of the picture has, one of `COLOURS`.
        writing: "yes" or "no".
        word: The large word that is written.
        shape: One of `SHAPES`.
        shape_colour: Colour of the shapes.
        count: Number of shapes, of `COUNTS`.
        place: Where the shapes or the word are, of `PLACES`.
        layout: "wider than high", "higher than wide" or "square".
    """

    kind: str
    subject: str
    colour: str = ""
    writing: str = "no"
    word: str = ""
    shape: str = ""
    shape_colour: str = ""
    count: str = ""
    place: str = ""
    layout: str = ""


def dominant_colour(image: Image.Image) -> str:
    """The name of the colour that clearly covers most of a picture, or "".

    Example:
        >>> dominant_colour(Image.new("RGB", (64, 64), (200, 30, 20)))
        'red'
    """
    small: Floats = np.asarray(image.resize((48, 48), Image.Resampling.BOX), dtype=np.float32) / np.float32(255)
    shares = {name: float(np.mean(found)) for name, found in _named(small).items()}
    first, second = sorted(shares, key=lambda name: -shares[name])[:2]
    return first if shares[first] >= _CLEAR and shares[first] >= 2 * shares[second] else ""


def layout(image: Image.Image) -> str:
    """The layout of a picture, one of `LAYOUTS`."""
    if image.width == image.height:
        return "square"
    return "wider than high" if image.width > image.height else "higher than wide"


def _named(x: Floats) -> dict[str, np.ndarray]:
    """Find which pixels have which colour; those between two names have none."""
    value, spread = x.max(axis=2), np.ptp(x, axis=2)
    saturation = spread / np.maximum(value, 1e-3)
    hue = _hue(x, value, spread)
    coloured = (saturation > 0.3) & (value > 0.2)
    grey = (saturation < 0.15) & ~coloured
    warm = coloured & ((hue < 45) | (hue >= 340))
    return {
        "red": warm & ((hue < 15) | (hue >= 340)) & (value > 0.35),
        "orange": warm & (hue >= 18) & (hue < 45) & (value > 0.65),
        "brown": warm & (hue >= 10) & (hue < 45) & (value < 0.6),
        "yellow": coloured & (hue >= 48) & (hue < 68) & (value > 0.5),
        "green": coloured & (hue >= 75) & (hue < 165),
        "blue": coloured & (hue >= 190) & (hue < 255),
        "purple": coloured & (hue >= 265) & (hue < 325),
        "grey": grey & (value > 0.25) & (value < 0.75),
        "black": value < 0.15,
        "white": grey & (value > 0.85),
    }


def _hue(x: Floats, value: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """(H, W) hues in degrees, 0 is red."""
    red, green, blue = np.moveaxis(x, 2, 0)
    safe = np.maximum(spread, 1e-6)
    found = np.where(
        value == red,
        ((green - blue) / safe) % 6,
        np.where(value == green, (blue - red) / safe + 2, (red - green) / safe + 4),
    )
    return np.asarray(60 * found)
