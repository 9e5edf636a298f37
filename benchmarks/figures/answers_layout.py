"""How Fig. 6 is laid out: cards of one width, as high as their texts, in rows. All lengths are in pixels."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import TYPE_CHECKING, Any, Protocol

from qsit_metric.errors import DependencyError
from qsit_metric.levels import SCORE_RANGE

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL import Image

COLOURS = ("#b2182b", "#ef8a62", "#e0c36a", "#92c5de", "#2166ac")
"""Of the levels, worst first; told apart by people who do not tell red from green."""

_DPI = 160
_WIDTH, _GAP, _IN_ROW = 720, 40, 3  # of a card, around it, and cards in a row
_PICTURE = 480  # height of the place for a picture
_LINE, _SMALL = 32, 27  # height of a line of text
_POINTS, _SMALL_POINTS = 10.0, 8.5
_BAR = 26
_INK, _GREY, _PAPER = "#1f2933", "#52606d", "#f1f3f5"


class Card(Protocol):
    """What is laid out; see `benchmarks.figures.answers.Shown`."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def image(self) -> Image.Image: ...  # noqa: D102
    @property
    def score(self) -> float: ...  # noqa: D102
    @property
    def probs(self) -> Mapping[str, float]: ...  # noqa: D102
    @property
    def answers(self) -> tuple[tuple[str, str], ...]: ...  # noqa: D102
    @property
    def note(self) -> str | None: ...  # noqa: D102


@dataclass(frozen=True)
class _Text:
    """A line: its text, height, size in points, weight and colour."""

    text: str
    height: int = _LINE
    points: float = _POINTS
    weight: str = "normal"
    colour: str = _INK


def draw(cards: Sequence[Card]) -> bytes:
    """A PNG file of all cards.

    Raises:
        DependencyError: matplotlib is not installed.
    """
    sheet = _Sheet()
    rows = [cards[start : start + _IN_ROW] for start in range(0, len(cards), _IN_ROW)]
    texts = [[_lines(card, sheet.width) for card in row] for row in rows]
    heights = [max(_height(lines) for lines in row) for row in texts]
    sheet.resize(_GAP + max(map(len, rows)) * (_WIDTH + _GAP), _GAP + sum(height + _GAP for height in heights))
    top = _GAP
    for row, lines, height in zip(rows, texts, heights, strict=True):
        for place, (card, text) in enumerate(zip(row, lines, strict=True)):
            _card(sheet, card, text, _GAP + place * (_WIDTH + _GAP), top)
        top += height + _GAP
    return sheet.png()


class _Sheet:
    """A matplotlib figure on which everything is placed in pixels from the upper left corner."""

    def __init__(self) -> None:
        self._figure = _figure()
        self._size = (1.0, 1.0)
        self._fonts: dict[tuple[float, str], Any] = {}

    def resize(self, width: float, height: float) -> None:
        self._size = (width, height)
        self._figure.set_size_inches(width / _DPI, height / _DPI)

    def width(self, text: str, line: _Text) -> float:
        """Of a text in a line's font."""
        renderer = self._figure.canvas.get_renderer()  # type: ignore[attr-defined]
        width: float = renderer.get_text_width_height_descent(text, self._font(line), False)[0]
        return width

    def text(self, left: float, top: float, line: _Text) -> None:
        x, y = self._place(left, top)
        self._figure.text(
            x, y, line.text, va="top", fontproperties=self._font(line), color=line.colour, parse_math=False
        )

    def box(self, left: float, top: float, width: float, height: float, colour: str) -> None:
        from matplotlib.patches import Rectangle

        corner = self._place(left, top + height)
        size = width / self._size[0], height / self._size[1]
        patch = Rectangle(corner, *size, transform=self._figure.transFigure, facecolor=colour, linewidth=0)
        patch.set_zorder(-1)  # below the pictures
        self._figure.add_artist(patch)

    def image(self, left: float, top: float, image: Image.Image) -> None:
        x, y = self._place(left, top + image.height)
        axes = self._figure.add_axes((x, y, image.width / self._size[0], image.height / self._size[1]))
        axes.imshow(image, interpolation="antialiased", aspect="auto")
        axes.set_axis_off()

    def png(self) -> bytes:
        file = io.BytesIO()
        self._figure.savefig(file, format="png")
        return file.getvalue()

    def _place(self, left: float, top: float) -> tuple[float, float]:
        return left / self._size[0], 1 - top / self._size[1]

    def _font(self, line: _Text) -> Any:
        from matplotlib.font_manager import FontProperties

        key = (line.points, line.weight)
        if key not in self._fonts:
            self._fonts[key] = FontProperties(size=line.points, weight=line.weight)
        return self._fonts[key]


def wrap(text: str, fits: Callable[[str], bool]) -> Iterator[str]:
    """Break a text into lines that fit, at spaces, and within a word only where it is too long for a line.

    Args:
        text: With line breaks, which stay.
        fits: Whether a line does; one character always counts as fitting.

    Example:
        >>> list(wrap("a bc defghi", lambda line: len(line) <= 4))
        ['a bc', 'defg', 'hi']
    """
    for paragraph in printable(text).splitlines() or [""]:
        line = ""
        for word in paragraph.split():
            longer = f"{line} {word}" if line else word
            if fits(longer):
                line = longer
                continue
            if line:
                yield line
            *whole, line = _cut(word, fits)
            yield from whole
        yield line


def printable(text: str) -> str:
    """Without characters that have no shape, such as control characters."""
    return "".join(one if one.isprintable() or one.isspace() else "\N{REPLACEMENT CHARACTER}" for one in text)


def _cut(word: str, fits: Callable[[str], bool]) -> list[str]:
    pieces = [""]
    for character in word:
        if pieces[-1] and not fits(pieces[-1] + character):
            pieces.append("")
        pieces[-1] += character
    return pieces


def _lines(card: Card, width: Callable[[str, _Text], float]) -> list[_Text]:
    """Everything below the bar."""
    found = []
    for question, answer in card.answers:
        found.append(_Text("", _LINE // 2))
        for text, weight in ((question, "bold"), (answer or "(nothing)", "normal")):
            like = _Text("", weight=weight)
            fitting = wrap(text, lambda line, like=like: width(line, like) <= _WIDTH)  # type: ignore[misc]
            found += [_Text(line, weight=weight) for line in fitting]
    return found


def _height(lines: Sequence[_Text]) -> int:
    return _LINE + _PICTURE + 2 * _LINE + _BAR + _SMALL + sum(line.height for line in lines)


def _card(sheet: _Sheet, card: Card, lines: Sequence[_Text], left: float, top: float) -> None:
    note = f"  {card.note}" if card.note else ""
    sheet.text(left, top, _Text(_shortened(card.name + note, sheet), weight="bold"))
    top += _LINE + _LINE // 4
    _picture(sheet, card.image, left, top)
    top += _PICTURE + _LINE // 4
    low, high = SCORE_RANGE
    sheet.text(left, top, _Text(f"score {card.score:.2f} of {low:g} to {high:g}", weight="bold"))
    top += _LINE + _LINE // 4
    _bar(sheet, card.probs, left, top)
    top += _BAR + _LINE // 4 + _SMALL
    for line in lines:
        sheet.text(left, top, line)
        top += line.height


def _shortened(text: str, sheet: _Sheet) -> str:
    like = _Text("", weight="bold")
    first, *rest = wrap(text, lambda line: sheet.width(f"{line} ...", like) <= _WIDTH)
    return f"{first} ..." if rest else first


def _picture(sheet: _Sheet, image: Image.Image, left: float, top: float) -> None:
    """In the middle of its place, as large as fits; small ones are enlarged."""
    from PIL import Image

    scale = min(_WIDTH / image.width, _PICTURE / image.height)
    size = max(1, round(scale * image.width)), max(1, round(scale * image.height))
    sheet.box(left, top, _WIDTH, _PICTURE, _PAPER)
    fitted = image.resize(size, Image.Resampling.LANCZOS)
    sheet.image(left + (_WIDTH - size[0]) / 2, top + (_PICTURE - size[1]) / 2, fitted)


def _bar(sheet: _Sheet, probs: Mapping[str, float], left: float, top: float) -> None:
    """A stripe for each level, as long as it is probable, and a legend below."""
    at = left
    for colour, share in zip(cycle(COLOURS), probs.values(), strict=False):
        sheet.box(at, top, share * _WIDTH, _BAR, colour)
        at += share * _WIDTH
    _legend(sheet, probs, left, top + _BAR + _LINE // 4)


def _legend(sheet: _Sheet, probs: Mapping[str, float], left: float, top: float) -> None:
    """A square and a word for each level, spread over the card."""
    texts = [_Text(f"{level} {share:.0%}", _SMALL, _SMALL_POINTS, colour=_GREY) for level, share in probs.items()]
    widths = [_SMALL - 6 + sheet.width(one.text, one) for one in texts]
    gap = (_WIDTH - sum(widths)) / max(1, len(texts) - 1)
    for colour, text, width in zip(cycle(COLOURS), texts, widths, strict=False):
        sheet.box(left, top + 4, _SMALL - 12, _SMALL - 12, colour)
        sheet.text(left + _SMALL - 6, top, text)
        left += width + gap


def _figure() -> Figure:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        hint = "matplotlib draws the figures: pip install 'qsit-metric[bench]'"
        raise DependencyError(hint) from error
    # The object API: no state that a caller's own figures would share.
    figure = Figure(dpi=_DPI)
    FigureCanvasAgg(figure)
    return figure
