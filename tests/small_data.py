"""Frozen training data of a few small pictures, for tests of the loop."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from qsit_metric.evaluation import Question
from qsit_metric.levels import LEVELS
from qsit_metric.prompts import TRAIN
from train.data.frozen import Validation, freeze
from train.data.rows import Row


def small_data(
    folder: Path, rows: int = 24, size: tuple[int, int] = (48, 40), questions: bool = True, without: str = ""
) -> Path:
    """`rows` of each of D1, D2, D3, and half as many to validate on; answers follow the picture's brightness."""
    images = folder / "images"
    images.mkdir(parents=True)
    random = np.random.default_rng(0)
    for index in range(rows):
        pixels = np.clip(random.normal(10 + 40 * (index % 5), 20, (size[1], size[0], 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(images / f"{index}.png")

    def scoring(index: int, name: str) -> Row:
        answer = f"{TRAIN.answer_prefix} {LEVELS[index % 5]}."
        return Row(f"{name}-{index}", f"{index}.png", ((TRAIN.question, answer),), "ab"[index % 2], float(index % 5))

    def asking(index: int, name: str, question: str) -> Row:
        return Row(f"{name}-{index}", f"{index}.png", ((question, "Yes." if index % 2 else "No, it is not."),))

    sets = {
        "d1": [scoring(index, "d1") for index in range(rows)],
        "d2": [asking(index, "d2", "Is the image sharp?") for index in range(rows)],
        "d3": [asking(index, "d3", "Is there a cat?\nLook twice.") for index in range(rows)],
    }
    asked = tuple(
        Question(str(index), f"{index}.png", "Is it sharp?", ("Yes", "No"), index % 2, "yes-no", "distortion")
        for index in range(rows // 2 if questions else 0)
    )
    sets.pop(without, None)
    validation = Validation(tuple(scoring(index, "val") for index in range(rows // 2)), asked)
    roots = dict.fromkeys(("d1", "d2", "d3", "scoring", "questions"), images)
    freeze(sets, validation, folder / "frozen", roots=roots)
    return folder / "frozen"
