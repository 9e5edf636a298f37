"""A quality map as a picture for people: the photograph in the map's colours, the worst window framed, and a scale."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont, features

from .levels import SCORE_RANGE
from .map_colours import scale, tinted

if TYPE_CHECKING:
    from .quality_map import QualityMap

_LONGEST, _SHORTEST = 1280, 480  # of the drawn photograph's longer side
_FONT, _GAP, _BAR = 15, 12, 18
_PANEL = 150
_INK, _PAPER = (30, 30, 30), (255, 255, 255)


def draw(found: QualityMap, low: float, high: float) -> Image.Image:
    """Draw a map with its scale; see `QualityMap.overlay`."""
    photo = _photograph(found, low, high)
    panel = _panel(found, low, high, max(photo.height, 10 * _FONT))
    sheet = Image.new("RGB", (photo.width + panel.width, panel.height), _PAPER)
    sheet.paste(photo, (0, 0))
    sheet.paste(panel, (photo.width, 0))
    return sheet


def _photograph(found: QualityMap, low: float, high: float) -> Image.Image:
    picture = _sized(found.preview)
    share = (found.resized((picture.height, picture.width)) - low) / (high - low)
    if found.method == "saliency":
        share = 0.5 - share / 2  # from grey to orange: much of it is no better than little
    coloured = Image.fromarray(tinted(np.asarray(picture), share))
    if len(found.windows) > 1:
        _frame(coloured, found)
    return coloured


def _sized(picture: Image.Image) -> Image.Image:
    """The preview at a size at which words fit beside it."""
    longest = max(picture.size)
    ratio = min(max(longest, _SHORTEST), _LONGEST) / longest
    if ratio == 1:
        return picture
    width, height = (max(1, round(side * ratio)) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.BICUBIC)


def _frame(picture: Image.Image, found: QualityMap) -> None:
    """A frame around the worst window, dark and light, so that it stands out on anything, and its value."""
    across, down = picture.width / found.windows.width, picture.height / found.windows.height
    left, top, right, bottom = found.worst
    box = [round(left * across), round(top * down), round(right * across) - 1, round(bottom * down) - 1]
    pen = ImageDraw.Draw(picture)
    for inset, ink in ((0, _INK), (1, _PAPER), (2, _PAPER), (3, _INK)):
        x0, y0, x1, y1 = box[0] + inset, box[1] + inset, box[2] - inset, box[3] - inset
        if x0 < x1 and y0 < y1:
            pen.rectangle((x0, y0, x1, y1), outline=ink)
    words = _number(found.worst_value)
    size = pen.textbbox((0, 0), words, font=_font())
    if size[2] + 12 <= box[2] - box[0] and size[3] + 10 <= box[3] - box[1]:
        pen.rectangle((box[0] + 4, box[1] + 4, box[0] + size[2] + 12, box[1] + size[3] + 10), fill=_PAPER)
        pen.text((box[0] + 8, box[1] + 6), words, fill=_INK, font=_font())


def _panel(found: QualityMap, low: float, high: float, height: int) -> Image.Image:
    """The scale, with the levels where they stand, and the whole picture's score above it."""
    panel = Image.new("RGB", (_PANEL, height), _PAPER)
    pen = ImageDraw.Draw(panel)
    pen.text((_GAP, _GAP // 2), f"whole {float(found.score):.2f}", fill=_INK, font=_font())
    pen.text((_GAP, _GAP // 2 + 20), found.score.level, fill=_INK, font=_font())
    top, bottom = 2 * _FONT + 3 * _GAP, height - 2 * _GAP
    # The best, or the most, is above; saliency has only the half from orange to grey.
    strip = scale(2 * (bottom - top))[: bottom - top] if found.method == "saliency" else scale(bottom - top)[::-1]
    panel.paste(Image.fromarray(np.repeat(strip[:, None], _BAR, axis=1)), (_GAP, top))
    for value, words in _ticks(found, low, high):
        y = bottom - round((value - low) / (high - low) * (bottom - top))
        pen.line((_GAP + _BAR, y, _GAP + _BAR + 5, y), fill=_INK)
        pen.text((_GAP + _BAR + 9, y - _FONT * 0.6), words, fill=_INK, font=_font())
    return panel


def _ticks(found: QualityMap, low: float, high: float) -> list[tuple[float, str]]:
    if found.method == "saliency":
        return [(low, _number(low)), (high, _number(high))]
    names = list(found.score.probs) or [""]
    places = np.linspace(*SCORE_RANGE, len(names)).tolist()
    ticks = [(place, f"{place:.3g} {name}") for place, name in zip(places, names, strict=True) if low <= place <= high]
    return ticks or [(low, _number(low)), (high, _number(high))]


def _number(value: float) -> str:
    return f"{value:.2f}" if value == 0 or abs(value) >= 0.1 else f"{value:.2g}"


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own; a Pillow that was built without FreeType has one size only."""
    return ImageFont.load_default(_FONT) if features.check("freetype2") else ImageFont.load_default()
