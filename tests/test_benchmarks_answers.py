"""Fig. 6: every text is there and fits, pictures of any shape are where they belong, and HTML stays HTML."""

from __future__ import annotations

import io
import re
import sys
import warnings
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a program of the checkout, which nobody installs

from benchmarks.figures.answers import Shown, collect, figure, fragment
from benchmarks.figures.answers_layout import wrap
from qsit_metric.evaluation import EvaluationError
from qsit_metric.levels import LEVELS
from tests.conftest import IMAGES

PROBS = dict(zip(LEVELS, (0.5, 0.25, 0.25, 0.0, 0.0), strict=True))


def shown(size=(300, 200), answer="Yes.", colour=(10, 200, 30), name="(A)"):
    return Shown(name, Image.new("RGB", size, colour), 1.75, PROBS, (("Is it sharp?", answer),))


def read(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def place_of(pixels: np.ndarray, colour) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of all pixels of about this colour."""
    rows, columns = np.nonzero(np.abs(pixels - colour).max(axis=2) < 6)
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


@pytest.mark.parametrize(("size", "wide"), [((300, 200), (720, 480)), ((1600, 100), (720, 45)), ((9, 300), (14, 480)), ((1, 1), (480, 480))])  # fmt: skip
def test_a_picture_keeps_its_shape_and_its_place(size, wide):
    left, top, right, bottom = place_of(read(figure([shown(size)])), (10, 200, 30))
    assert (right - left, bottom - top) == pytest.approx(wide, abs=2)
    assert ((left + right) / 2, (top + bottom) / 2) == pytest.approx((40 + 360, 40 + 40 + 240), abs=2)


def test_the_bar_is_as_long_as_the_levels_are_probable():
    pixels = read(figure([shown()]))
    top = place_of(pixels, (10, 200, 30))[3]
    rows = [row for row in pixels[top:] if (np.abs(row - (0xB2, 0x18, 0x2B)).max(axis=1) < 6).sum() > 300]
    assert len(rows) >= 24
    for colour, length in (((0xB2, 0x18, 0x2B), 360), ((0xEF, 0x8A, 0x62), 180), ((0xE0, 0xC3, 0x6A), 180)):
        assert (np.abs(rows[12] - colour).max(axis=1) < 6).sum() == pytest.approx(length, abs=3)


def test_cards_stand_side_by_side_three_in_a_row():
    colours = [(10, 200, 30), (200, 30, 200), (30, 200, 200), (90, 30, 10)]
    pixels = read(figure([shown(colour=colour) for colour in colours]))
    places = [place_of(pixels, colour) for colour in colours]
    assert pixels.shape[1] == 40 + 3 * 760
    assert places[0][1] == places[1][1] == places[2][1] < places[3][1]
    assert places[0][0] < places[1][0] < places[2][0]
    assert places[3][0] == places[0][0]


def test_long_texts_make_the_figure_higher_and_stay_inside():
    short = read(figure([shown()]))
    text = "A long sentence about light. " * 20 + "W" * 200 + " $x^2$ and $5 \\frac{ \x0e"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        long = read(figure([shown(answer=text)]))
    assert long.shape[0] > short.shape[0] + 10 * 32
    assert (long[:, -30:] == 255).all()
    assert (long[-30:] == 255).all()
    assert (long[-80:] != 255).any()


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", [""]),
        ("a bc defghi", ["a bc", "defg", "hi"]),
        ("abcdefghij k", ["abcd", "efgh", "ij k"]),
        ("a\n\nb", ["a", "", "b"]),
        ("  a   b  ", ["a b"]),
    ],
)
def test_wrapping_loses_no_letter(text, lines):
    assert list(wrap(text, lambda line: len(line) <= 4)) == lines
    assert list(wrap("abc", lambda line: False)) == ["a", "b", "c"]


class Balanced(HTMLParser):
    """Collects texts and checks that tags close in order."""

    def __init__(self):
        super().__init__()
        self.open, self.said, self.seen = [], [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        if tag not in ("img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.said.append(data)


def test_html_shows_texts_as_they_are():
    bad = '<script>alert(1)</script> & "quotes"\nnew line \x0e'
    parser = Balanced()
    parser.feed(fragment([shown(answer=bad, name='"><b>'), shown(answer="")]))
    assert not parser.open
    assert parser.seen.count("figure") == parser.seen.count("img") == 2
    assert "script" not in parser.seen
    text = "".join(parser.said)
    assert bad.replace("\x0e", "\N{REPLACEMENT CHARACTER}") in text
    assert "(nothing)" in text
    assert "bad 50%, poor 25%, fair 25%, good 0%, excellent 0%" in text


def test_html_needs_no_other_file():
    assert set(re.findall(r'(?:src|href)="([^"]{11})', fragment([shown((3000, 20))]))) == {"data:image/"}


def test_a_metric_is_asked_about_each_picture_once_for_all(tied):
    names = ["landscape_451x300.png", "gray_256.png"]
    found = collect(tied, [str(IMAGES / name) for name in names], ["Is it sharp?", "Why?"], max_new_tokens=3)
    assert [one.name for one in found] == ["(A)", "(B)"]
    for one, name in zip(found, names, strict=True):
        assert one.score == pytest.approx(float(tied.score(IMAGES / name)), abs=1e-4)
        assert [question for question, _ in one.answers] == ["Is it sharp?", "Why?"]
        direct = tied.ask(IMAGES / name, "Why?", max_new_tokens=3)
        assert one.answers[1][1] == (str(direct) if direct.finished else f"{direct} ...")
    assert found[0].image.size == (451, 300)
    assert figure(found).startswith(b"\x89PNG")


def test_what_cannot_be_shown_is_refused(tied):
    with pytest.raises(EvaluationError, match="at least one picture"):
        figure([])
    for given in ({"images": []}, {"questions": []}, {"names": ["a", "b"]}):
        with pytest.raises(EvaluationError, match="`images, questions, names`"):
            collect(tied, **{"images": ["a.jpg"], **given})
