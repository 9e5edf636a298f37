"""Score and question a few photographs, good and degraded, and print a table: `python examples/demo.py [MODEL]`.

The pictures are public domain or CC0 and ship with the repository (`tests/golden/README.md` names them). Without an
argument the model inside the package is used: no network is needed.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter
from rich.console import Console
from rich.table import Table

from qsit_metric import QSiT

GOLDEN = Path(__file__).resolve().parent.parent / "tests" / "golden" / "images"
SHARP = "Is this image sharp?"
NOISY = "Is this image noisy?"
YES_NO = ["Yes", "No"]
CAPTION = "score: 1 (bad) to 5 (excellent), higher is better\nq-sit-nano was taught with parts of the first two"
BARS = "▁▂▃▄▅▆▇█"


def pictures() -> dict[str, Image.Image]:
    """Three photographs, and one of them twice more: out of focus, and with the noise of a dark room.

    The model inside the package was trained on parts of the first two; the rocket is new to it.
    """
    names = {"astronaut": "square_512.png", "cup of coffee": "large_1800x1350.jpg", "rocket": "portrait_300x449.jpg"}
    found = {name: Image.open(GOLDEN / file).convert("RGB") for name, file in names.items()}
    person = found["astronaut"]
    noise = np.random.default_rng(0).normal(0, 30, (person.height, person.width, 3))
    noisy = np.clip(np.asarray(person) + noise, 0, 255).astype(np.uint8)
    blurred = person.filter(ImageFilter.GaussianBlur(4))
    return {**found, "astronaut, heavy blur": blurred, "astronaut, heavy noise": Image.fromarray(noisy)}


def bars(probs: list[float]) -> str:
    """Five probabilities as small columns, worst level first."""
    return "".join(BARS[min(int(p * len(BARS)), len(BARS) - 1)] for p in probs)


def main() -> None:
    """Print the table."""
    model = sys.argv[1] if len(sys.argv) > 1 else "q-sit-nano"
    metric, console, found = QSiT(model), Console(), pictures()
    console.print(f"Model: {model}")
    images = list(found.values())
    scores = metric.score(images)
    sharp = metric.ask(images, SHARP, choices=YES_NO)
    noisy = metric.ask(images, NOISY, choices=YES_NO)

    table = Table(title="Five pictures", caption=CAPTION)
    for column in ("photograph", "score", "level", "1…5", SHARP, NOISY):
        table.add_column(column, justify="right" if column == "score" else "left")
    for name, score, *answers in zip(found, scores, sharp, noisy, strict=True):
        bar = bars(list(score.probs.values()))
        table.add_row(name, f"{score:.2f}", score.level, bar, *(f"{a} ({a.probs[a]:.0%})" for a in answers))
    console.print(table)

    with metric.open(images[-1]) as view:  # the picture is encoded once for all that follows
        console.print(f"The last one, opened once: {view.score()!r}. In words: {view.describe()}")


if __name__ == "__main__":
    main()
