"""Draw the data's way through the package: `python docs/making/figure.py` writes docs/images/way.svg.

Numbers in the drawing come from the code (`plan`, `levels.expect`). The colours follow the reader's light or
dark scheme, both inside the site and where the file is shown alone.
"""

from __future__ import annotations

from pathlib import Path

import torch

from qsit_metric import levels
from qsit_metric.pixels import Geometry, Plan, plan

TARGET = Path(__file__).resolve().parents[1] / "images" / "way.svg"
WIDTH, HEIGHT = 560, 716
MIDDLE, LEFT, RIGHT = WIDTH / 2, 143, 417  # centres of the stem and of both branches
PICTURE = (1350, 1800)  # height and width of the picture that is followed
PROBABILITIES = (0.01, 0.05, 0.24, 0.52, 0.18)  # an example, worst level first

LIGHT = "--ink: #1b2733; --soft: #5b6b7b; --line: #9aa8b5; --paper: #f3f6f8; --room: #ffffff; --mark: #00796b;"
DARK = "--ink: #e6ebf0; --soft: #a3b1bf; --line: #64748b; --paper: #262b38; --room: #2f3646; --mark: #4db6ac;"
STYLE = f"""
.way {{ {LIGHT} font-family: system-ui, "Segoe UI", "Noto Sans", sans-serif; }}
@media (prefers-color-scheme: dark) {{ .way {{ {DARK} }} }}
[data-md-color-scheme="default"] .way {{ {LIGHT} }}
[data-md-color-scheme="slate"] .way {{ {DARK} }}
.way text {{ fill: var(--ink); font-size: 14px; text-anchor: middle; }}
.way .name {{ font-family: ui-monospace, "DejaVu Sans Mono", monospace; font-size: 14px; font-weight: 600; }}
.way .soft {{ fill: var(--soft); font-size: 13px; }}
.way .area {{ fill: var(--paper); }}
.way .room {{ fill: var(--room); stroke: var(--line); }}
.way .end {{ fill: none; stroke: var(--mark); stroke-width: 2; }}
.way .arrow {{ fill: none; stroke: var(--line); stroke-width: 1.5; }}
.way .head {{ fill: var(--line); }}
.way .tile {{ fill: none; stroke: var(--mark); }}
.way .bar {{ fill: var(--mark); }}
"""


def rectangle(x: float, y: float, width: float, height: float, kind: str, corner: float = 6) -> str:
    """A rectangle by its left upper corner."""
    return f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="{corner:g}"/>'


def text(x: float, y: float, words: str, kind: str = "") -> str:
    """A line of text, centred on x."""
    return f'<text class="{kind}" x="{x:g}" y="{y:g}">{words}</text>'


def room(x: float, y: float, width: float, name: str, *lines: str) -> str:
    """A box with the name of the code and what happens there, centred on x."""
    box = rectangle(x - width / 2, y, width, 34 + 19 * len(lines), "room")
    below = [text(x, y + 42 + 19 * number, line, "soft") for number, line in enumerate(lines)]
    return "\n".join([box, text(x, y + 22, name, "name"), *below])


def arrow(x: float, y: float, to_x: float, to_y: float) -> str:
    """An arrow downwards; it bends in the middle if it changes sides."""
    half = (y + to_y) / 2
    path = f"M{x:g} {y:g} V{half:g} H{to_x:g} V{to_y - 6:g}"
    head = f'<path class="head" d="M{to_x - 5:g} {to_y - 8:g} h10 l-5 8 z"/>'
    return f'<path class="arrow" d="{path}"/>{head}'


def tiles(layout: Plan) -> str:
    """The whole picture as one tile, and the grid."""
    rows, cols = layout.grid
    side, top, left = 20, 206, 295
    squeezed = rectangle(left - 80, top + (rows - 1) * side / 2, side - 2, side - 2, "tile", 1)
    grid = [
        rectangle(left + c * side, top + r * side, side - 2, side - 2, "tile", 1)
        for r in range(rows)
        for c in range(cols)
    ]
    plus = text(left - 31, top + rows * side / 2 + 5, "and", "soft")
    return "\n".join([squeezed, plus, *grid])


def bars() -> str:
    """The five probabilities as columns over their level words."""
    base, step, start = 614, 51, LEFT - 105
    columns = [
        rectangle(start + step * n - 11, base - 2 - 62 * p, 22, 62 * p + 2, "bar", 1)
        for n, p in enumerate(PROBABILITIES)
    ]
    words = [text(start + step * n, base + 17, word, "soft") for n, word in enumerate(levels.LEVELS)]
    return "\n".join(columns + words)


def stem(layout: Plan) -> str:
    """From what is passed to the tokens of the picture."""
    height, width = layout.size
    rows, cols = layout.grid
    features = f"vision tower, projector, packing: {layout.tokens:,} tokens"
    kept = "kept while a picture is open: each question reads only its own words"
    lines = f"{width} x {height}: {rows} x {cols} tiles, and the whole picture as one more"
    return "\n".join(
        [
            text(MIDDLE, 22, "a path, URL, bytes, PIL image, array or tensor"),
            arrow(MIDDLE, 32, MIDDLE, 54),
            room(MIDDLE, 54, 400, "pixels.load", "one RGB picture, 8 bits, upright"),
            arrow(MIDDLE, 107, MIDDLE, 131),
            rectangle(MIDDLE - 230, 131, 460, 164, "room"),
            text(MIDDLE, 153, "pixels.plan, pixels.cut", "name"),
            text(MIDDLE, 174, lines, "soft"),
            text(MIDDLE, 193, f"{layout.tiles} tiles of 384 x 384 pixels", "soft"),
            tiles(layout),
            arrow(MIDDLE, 295, MIDDLE, 319),
            room(MIDDLE, 319, 460, "backend.encode", features, kept),
        ]
    )


def branches(score: float) -> str:
    """From the tokens to a score, and to an answer."""
    level = levels.LEVELS[max(range(5), key=PROBABILITIES.__getitem__)]
    return "\n".join(
        [
            text(LEFT, 440, "“The quality of this image is …”"),
            text(RIGHT, 440, "“Is the sky noisy?”"),
            arrow(MIDDLE, 391, LEFT, 424),
            arrow(MIDDLE, 391, RIGHT, 424),
            arrow(LEFT, 450, LEFT, 472),
            arrow(RIGHT, 450, RIGHT, 472),
            room(LEFT, 472, 262, "backend.logits", "of the five level words"),
            room(RIGHT, 472, 262, "backend.generate", "word by word; or the options are", "compared, without writing"),
            arrow(LEFT, 525, LEFT, 546),
            rectangle(LEFT - 131, 546, 262, 92, "room"),
            text(LEFT, 567, "levels.expect", "name"),
            bars(),
            rectangle(LEFT - 120, 660, 240, 40, "end"),
            text(LEFT, 685, f"Score {score:.2f}, {level}"),
            arrow(RIGHT, 544, RIGHT, 660),
            arrow(LEFT, 638, LEFT, 660),
            rectangle(RIGHT - 120, 660, 240, 40, "end"),
            text(RIGHT, 685, "Answer"),
        ]
    )


def draw() -> str:
    """The whole drawing as SVG."""
    layout = plan(Geometry(), *PICTURE)
    score = levels.expect(torch.tensor(PROBABILITIES).log())[1].item()
    head = f'<svg xmlns="http://www.w3.org/2000/svg" class="way" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}">'
    parts = [head, f"<style>{STYLE}</style>", stem(layout), branches(score), "</svg>"]
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    TARGET.write_text(draw(), encoding="utf-8")
