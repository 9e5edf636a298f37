"""D3: questions about what a made picture shows, from known facts. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from ..interpreting.choices import ask
from ..rows import Row
from .drawing_scenes import PAINTS, WORDS, shapes_subject
from .facts import COLOURS, COUNTS, KINDS, PLACES, SHAPES, Facts
from .photographs import PHOTOGRAPHS
from .shots import Shot

_SUBJECTS = (
    *(one.subject for one in PHOTOGRAPHS.values()),
    *("overlapping pieces", "cloudy noise", "a smooth gradient", "stripes", "checks", "dots", "hills under the sky"),
    *("one house before hills", "two houses before hills", "three houses before hills"),
)
_WRITTEN, _SHAPED = 5, 10  # written and geometric subjects among the others, about as frequent as they are


_NO_WRITING = 0.15  # most pictures have none; they are asked about it about as often as those that have some


class _Asked(NamedTuple):
    """How a fact is asked for.

    Attributes:
        open: Questions that are answered by the fact.
        said: Answers; `{it}` is the fact.
        other: What else it might be.
        closed: Questions for yes or no.
    """

    open: tuple[str, ...]
    said: tuple[str, ...]
    other: Sequence[str]
    closed: tuple[str, ...]


_ASKED: Mapping[str, _Asked] = MappingProxyType(
    {
        "subject": _Asked(
            ("What does the image show?", "What can be seen in this picture?", "Name the subject."),
            ("The image shows {it}.", "It shows {it}.", "{it}."),
            _SUBJECTS,
            ("Does the image show {it}?", "Is this a picture of {it}?", "Can {it} be seen here?"),
        ),
        "kind": _Asked(
            ("What kind of subject is it?", "What type of content does the image have?", "What is it a picture of?"),
            ("It is {it}.", "{it}.", "The subject is {it}."),
            tuple(KINDS.values()),
            ("Is the subject {it}?", "Is it {it}?"),
        ),
        "colour": _Asked(
            ("What is the main colour of the image?", "Which colour dominates?", "What colour is most of the picture?"),
            ("{it}.", "The main colour is {it}.", "Mostly {it}."),
            COLOURS,
            ("Is most of the picture {it}?", "Is the main colour {it}?", "Does {it} dominate the image?"),
        ),
        "word": _Asked(
            ("What is written in large letters?", "Which large word can be read?", "What does the heading say?"),
            ('The large word is "{it}".', "{it}.", 'It says "{it}".'),
            WORDS,
            ('Does the heading say "{it}"?', 'Is the large word "{it}"?'),
        ),
        "shape": _Asked(
            ("What shape is shown?", "Which shape can be seen?", "What form do the drawn objects have?"),
            ("{it}.", "The shape is a {it}.", "A {it}."),
            SHAPES,
            ("Is the shape a {it}?", "Is a {it} drawn here?"),
        ),
        "shape_colour": _Asked(
            ("What colour are the shapes?", "Which colour do the drawn shapes have?", "How are the shapes coloured?"),
            ("{it}.", "They are {it}.", "The colour is {it}."),
            tuple(PAINTS),
            ("Are the shapes {it}?", "Do the shapes have the colour {it}?"),
        ),
        "count": _Asked(
            ("How many shapes are there?", "What is the number of shapes?", "Count the shapes."),
            ("{it}.", "The number is {it}.", "I count {it}."),
            COUNTS,
            ("Is the number of shapes {it}?",),
        ),
        "place": _Asked(
            ("Where are the drawn elements?", "In which part of the image is the drawn content?"),
            ("In the {it} part.", "{it}.", "The {it} part."),
            PLACES,
            ("Is the drawn content in the {it} part?",),
        ),
        "layout": _Asked(
            ("What format does the image have?", "How do the sides of the picture compare?", "What is the layout?"),
            ("{it}.", "The picture is {it}.", "It is {it}."),
            ("wider than high", "higher than wide", "square"),
            ("Is the picture {it}?", "Is its format {it}?"),
        ),
        "writing": _Asked(
            ("Is there writing in the image?", "Does the picture contain text?", "Can words be seen?"),
            ("{it}.",),
            ("yes", "no"),
            (),
        ),
    }
)  # fmt: skip


def content_row(shot: Shot, number: int, rng: np.random.Generator) -> Row:
    """A D3 row: one to three questions about what is shown, open, for yes or no, or with options.

    Yes is right as often as no; a wrong yes/no fact is drawn from what it might be.
    """
    known = [name for name in _ASKED if getattr(shot.facts, name)]
    if shot.facts.writing == "no" and rng.random() > _NO_WRITING:
        known.remove("writing")
    asked = [str(name) for name in rng.permutation(known)[: rng.integers(1, 4)]]
    return Row(
        f"content/{number:06d}", shot.image, tuple(_turn(name, shot.facts, rng, number) for name in asked), "synthetic"
    )


def _turn(name: str, facts: Facts, rng: np.random.Generator, number: int) -> tuple[str, str]:
    it = KINDS[facts.kind] if name == "kind" else str(getattr(facts, name))
    forms: list[Callable[[], tuple[str, str]]] = [lambda: _open(name, it, rng)]
    if _ASKED[name].closed:
        forms += [lambda: _closed(name, it, rng), lambda: _options(name, it, rng, number)]
    return forms[rng.integers(len(forms))]()


def _open(name: str, it: str, rng: np.random.Generator) -> tuple[str, str]:
    asked = _ASKED[name]
    return _one(asked.open, rng), _capital(_one(asked.said, rng).format(it=it))


def _closed(name: str, it: str, rng: np.random.Generator) -> tuple[str, str]:
    asked = _ASKED[name]
    right = rng.random() < 0.5
    named = it if right else _one(_others(name, it, rng), rng)
    return _one(asked.closed, rng).format(it=named), "Yes." if right else "No."


def _options(name: str, it: str, rng: np.random.Generator, number: int) -> tuple[str, str]:
    asked = _ASKED[name]
    others = _others(name, it, rng)
    wrong = [_capital(str(one)) for one in rng.permutation(others)[: rng.integers(1, min(3, len(others)) + 1)]]
    return ask(_one(asked.open, rng), _capital(it), wrong, int(rng.integers(len(wrong) + 1)), f"{name} {number}")


def _others(name: str, it: str, rng: np.random.Generator) -> list[str]:
    """What it might be; of drawn subjects, too, so that a drawn one in a question is not always the right one."""
    found = list(_ASKED[name].other)
    if name == "subject":
        found += [f'the word "{_one(WORDS, rng)}"' for _ in range(_WRITTEN)]
        found += [
            shapes_subject(_one(COUNTS, rng), _one(tuple(PAINTS), rng), _one(SHAPES, rng)) for _ in range(_SHAPED)
        ]
    return [one for one in dict.fromkeys(found) if one != it]


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _one(texts: Sequence[str], rng: np.random.Generator) -> str:
    return texts[int(rng.integers(len(texts)))]
