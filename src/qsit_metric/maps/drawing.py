"""Drawing of a quality map: the photograph in the map's colours, the worst window framed, and a scale. Pure.

Hue and colourfulness are the map's, lightness is the photograph's. The space is OKLab (B. Ottosson, "A perceptual color
space for image processing", 2020), in which equal steps look about equal. Only its two matrices are taken from there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont, features

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

_LONGEST, _SHORTEST = 1280, 480  # of the drawn photograph's longer side
_FONT, _GAP, _BAR = 15, 12, 18
_PANEL = 150
_INK, _PAPER = (30, 30, 30), (255, 255, 255)

_LMS = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)
_TO_RGB, _FROM_LAB = np.linalg.inv(_LMS), np.linalg.inv(_LAB)

_DARK, _LIGHT = 0.34, 0.86  # black and white would show no colour
_MIDDLE = 0.62  # lightness of the scale
_CHROMA = 0.15
_ORANGE, _BLUE = np.deg2rad((50.0, 252.0))


@dataclass(frozen=True)
class Legend:
    """Scale beside a map: its heading, ends and ticks.

    Attributes:
        heading: Lines above it.
        low: Value at its lower end.
        high: Value at its upper end.
        ticks: Values with the words beside them.
        diverging: From orange over grey to blue, high values are good; or only from grey to orange, of values whose
            large ones ask for attention and whose small ones are no praise.
    """

    heading: Sequence[str]
    low: float
    high: float
    ticks: Sequence[tuple[float, str]]
    diverging: bool

    def share(self, values: NDArray[Any]) -> NDArray[Any]:
        """Values as places in the colours, 0 to 1."""
        share = (values - self.low) / (self.high - self.low)
        return share if self.diverging else 0.5 - share / 2


@dataclass(frozen=True)
class Frame:
    """Frame around a window, and the words in it.

    Attributes:
        box: Its left, top, right and bottom edge in pixels of the whole picture.
        size: (width, height) of the whole picture.
        words: What is written in it, if there is room.
    """

    box: tuple[int, int, int, int]
    size: tuple[int, int]
    words: str


def draw(
    picture: Image.Image, values: Callable[[tuple[int, int]], NDArray[Any]], legend: Legend, frame: Frame | None
) -> Image.Image:
    """Draw a map over a picture, with its scale.

    Args:
        picture: RGB; it is drawn at a size at which words fit beside it.
        values: (height, width) -> the map at this size.
        legend: The scale.
        frame: The window that is framed, or None.

    Returns:
        An RGB picture.
    """
    photo = _sized(picture)
    share = legend.share(values((photo.height, photo.width)))
    photo = Image.fromarray(tinted(np.asarray(photo), share))
    if frame:
        _frame(photo, frame)
    panel = _panel(legend, max(photo.height, 10 * _FONT))
    sheet = Image.new("RGB", (photo.width + panel.width, panel.height), _PAPER)
    sheet.paste(photo, (0, 0))
    sheet.paste(panel, (photo.width, 0))
    return sheet


def tinted(picture: NDArray[np.uint8], share: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Colour a picture by a map.

    Args:
        picture: (H, W, 3) RGB.
        share: (H, W), 0 is orange, 0.5 grey, 1 blue; what lies outside is taken as the end.

    Returns:
        (H, W, 3) RGB, with the lightness of the picture in a smaller range.

    Example:
        >>> grey = np.full((1, 3, 3), 128, dtype=np.uint8)
        >>> red, _, blue = np.moveaxis(tinted(grey, np.array([[0.0, 0.5, 1.0]])).astype(int), -1, 0)
        >>> (red - blue).tolist()[0][0] > 100, (red - blue).tolist()[0][1], (red - blue).tolist()[0][2] < -80
        (True, 0, True)
    """
    return _rgb(_DARK + (_LIGHT - _DARK) * _lightness(picture), share)


def tinted_scale(share: NDArray[np.floating]) -> NDArray[np.uint8]:
    """The colours of these places at one lightness, (count, 3)."""
    return _rgb(np.full(len(share), _MIDDLE), share)


def _lightness(picture: NDArray[np.uint8]) -> Floats:
    """OKLab's L, 0..1; the 256 values are made linear once."""
    values = np.arange(256) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    found: Floats = np.cbrt(linear[picture] @ _LMS.T) @ _LAB[0]
    return found


def _rgb(lightness: Floats, share: NDArray[np.floating]) -> NDArray[np.uint8]:
    side = np.clip(2 * share - 1, -1, 1)
    hue = np.where(side < 0, _ORANGE, _BLUE)
    chroma = _CHROMA * np.abs(side)
    lab = np.stack([lightness, chroma * np.cos(hue), chroma * np.sin(hue)], axis=-1)
    linear = np.clip((lab @ _FROM_LAB.T) ** 3 @ _TO_RGB.T, 0, 1)
    values = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    found: NDArray[np.uint8] = np.rint(255 * values).astype(np.uint8)
    return found


def _sized(picture: Image.Image) -> Image.Image:
    """The picture at a size at which words fit beside it."""
    longest = max(picture.size)
    ratio = min(max(longest, _SHORTEST), _LONGEST) / longest
    if ratio == 1:
        return picture
    width, height = (max(1, round(side * ratio)) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.BICUBIC)


def _frame(picture: Image.Image, frame: Frame) -> None:
    """Draw a frame, dark and light, so that it stands out on anything, and its words."""
    across, down = picture.width / frame.size[0], picture.height / frame.size[1]
    left, top, right, bottom = frame.box
    box = [round(left * across), round(top * down), round(right * across) - 1, round(bottom * down) - 1]
    pen = ImageDraw.Draw(picture)
    for inset, ink in ((0, _INK), (1, _PAPER), (2, _PAPER), (3, _INK)):
        x0, y0, x1, y1 = box[0] + inset, box[1] + inset, box[2] - inset, box[3] - inset
        if x0 < x1 and y0 < y1:
            pen.rectangle((x0, y0, x1, y1), outline=ink)
    size = pen.textbbox((0, 0), frame.words, font=_font())
    if size[2] + 12 <= box[2] - box[0] and size[3] + 10 <= box[3] - box[1]:
        pen.rectangle((box[0] + 4, box[1] + 4, box[0] + size[2] + 12, box[1] + size[3] + 10), fill=_PAPER)
        pen.text((box[0] + 8, box[1] + 6), frame.words, fill=_INK, font=_font())


def _panel(legend: Legend, height: int) -> Image.Image:
    """The scale with its ticks, and the heading above it; the best, or the most, is above."""
    panel = Image.new("RGB", (_PANEL, height), _PAPER)
    pen = ImageDraw.Draw(panel)
    for line, words in enumerate(legend.heading):
        pen.text((_GAP, _GAP // 2 + 20 * line), words, fill=_INK, font=_font())
    top, bottom = 2 * _FONT + 3 * _GAP, height - 2 * _GAP
    strip = tinted_scale(legend.share(np.linspace(legend.high, legend.low, bottom - top)))
    panel.paste(Image.fromarray(np.repeat(strip[:, None], _BAR, axis=1)), (_GAP, top))
    for value, words in legend.ticks:
        y = bottom - round((value - legend.low) / (legend.high - legend.low) * (bottom - top))
        pen.line((_GAP + _BAR, y, _GAP + _BAR + 5, y), fill=_INK)
        pen.text((_GAP + _BAR + 9, y - _FONT * 0.6), words, fill=_INK, font=_font())
    return panel


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own; a Pillow that was built without FreeType has one size only."""
    return ImageFont.load_default(_FONT) if features.check("freetype2") else ImageFont.load_default()
