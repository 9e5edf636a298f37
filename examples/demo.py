"""Score and question a few real photographs, and print a table: `python examples/demo.py [MODEL]`.

The pictures are public domain or CC0 and ship with the repository (`tests/golden/README.md` names them). Without an
argument the embedded model is used; while the package has none, a checkpoint with random weights takes its place.
"""

from __future__ import annotations

import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table
from transformers.utils.logging import disable_progress_bar

from qsit_metric import QSiT
from qsit_metric.catalog import embedded_names

GOLDEN = Path(__file__).resolve().parent.parent / "tests" / "golden"
PHOTOS = {
    "cat": "landscape_451x300.png",
    "cat, blurred": "blurred_451x300.png",
    "cup of coffee": "large_1800x1350.jpg",
    "astronaut": "square_512.png",
    "rocket": "portrait_300x449.jpg",
    "cameraman": "gray_256.png",
}
SHARP = "How sharp is this image?", ["sharp", "soft", "blurred"]
WORST = "Which problem of this image is the worst?", ["blur", "noise", "light", "JPEG", "none"]
BARS = "▁▂▃▄▅▆▇█"


def bars(probs: list[float]) -> str:
    """Five probabilities as small columns, worst level first."""
    return "".join(BARS[min(int(p * len(BARS)), len(BARS) - 1)] for p in probs)


def load() -> tuple[QSiT, str]:
    """The model of the command line, the embedded one, or the random one, and what to say about it."""
    if len(sys.argv) > 1:
        return QSiT(sys.argv[1]), f"Model: {sys.argv[1]}"
    if names := embedded_names():
        return QSiT(names[0]), f"Model: {names[0]}, embedded in the package."
    return QSiT(GOLDEN / "tied"), "Model: a tiny one with RANDOM weights; its scores and answers mean nothing."


def main() -> None:
    """Print the table."""
    disable_progress_bar()  # loading so small a model needs none
    metric, said = load()
    console = Console()
    console.print(said, style="yellow" if "RANDOM" in said else "")
    paths = [GOLDEN / "images" / name for name in PHOTOS.values()]
    scores = metric.score(paths)
    sharpness = metric.ask(paths, SHARP[0], choices=SHARP[1])
    problems = metric.ask(paths, WORST[0], choices=WORST[1])

    table = Table(title="Six photographs", caption="score: 1 (bad) to 5 (excellent), higher is better")
    for column in ("photograph", "score", "level", "1…5", "how sharp?", "worst problem?"):
        table.add_column(column, justify="right" if column == "score" else "left")
    for name, score, sharp, worst in zip(PHOTOS, scores, sharpness, problems, strict=True):
        bar = bars(list(score.probs.values()))
        table.add_row(name, f"{score:.2f}", score.level, bar, *(f"{a} ({a.probs[a]:.0%})" for a in (sharp, worst)))
    console.print(table)

    with metric.open(paths[0]) as view:  # the picture is encoded once for all that follows
        console.print(f"The cat, opened once: {view.score()!r}, {view.ask(SHARP[0], choices=SHARP[1])}.")
        if "RANDOM" not in said:
            console.print(f"In words: {view.describe()}")


if __name__ == "__main__":
    main()
