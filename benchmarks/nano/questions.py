"""Questions about degraded photographs, in the words of the training data. Pure but for measuring the photographs.

They come from the same builder as the questions of validation, about pictures that are degraded in the same ways: what
(one distortion that is there among three that are not), yes-no, and how (three steps).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.nano.pictures import make
from benchmarks.nano.sample import Picture
from qsit_metric.evaluation import EvaluationError, Question
from train.nano.data.facts import Facts
from train.nano.data.pictures import MadePicture, Tone, draw_degradations, tone_of
from train.nano.data.questions import questions

KINDS = ("what", "yes-no", "how")
_PRISTINE, _CORRUPTED, _PAIRS = 0.06, 0.2, 0.15  # as the questions of validation are drawn


@dataclass(frozen=True)
class Asked:
    """A question and the picture that it is about."""

    question: Question
    picture: Picture


def tones(folder: Path, photographs: Sequence[str]) -> dict[str, Tone]:
    """Light, contrast and saturation of each photograph, which decide what may be praised.

    Raises:
        EvaluationError: A photograph cannot be read.
    """
    return {name: tone_of(make(folder, Picture(name))) for name in photographs}


def draw(measured: Mapping[str, Tone], count: int, seed: int) -> list[Asked]:
    """Questions about different pictures, all photographs equally often as far as it goes.

    Args:
        measured: What `tones` gives.
        count: How many; a third of each kind.
        seed: Equal seeds give equal questions and pictures.

    Returns:
        Right answers stand in each place equally often; yes is right as often as no.

    Raises:
        EvaluationError: The number is no multiple of 6, so that kinds and answers cannot be equally frequent.
    """
    if count < 6 or count % 6:
        raise EvaluationError.about("--questions", count, "a multiple of 6, at least 6")
    names = sorted(measured)
    shots = [_shot(names[number % len(names)], number, measured, seed) for number in range(2 * count + 6)]
    made = dict(shots)
    found = questions([shot for shot, _ in shots], count, seed)
    pictures = {shot.image: picture for shot, picture in made.items()}
    return [Asked(one, pictures[one.image]) for one in found]


def _shot(name: str, number: int, measured: Mapping[str, Tone], seed: int) -> tuple[MadePicture, Picture]:
    rng = np.random.default_rng([seed, 2, number])
    degradations = draw_degradations(rng, pristine=_PRISTINE, corrupted=_CORRUPTED, pairs=_PAIRS)
    shot = MadePicture(f"{number:05d}/{name}", name, Facts("", ""), measured[name], degradations)
    return shot, Picture(name, degradations, int(rng.integers(1 << 31)))
