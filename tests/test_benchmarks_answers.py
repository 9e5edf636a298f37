"""Fig. 6: every text is there, pictures are where they belong, and HTML stays HTML."""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a program of the checkout, which nobody installs

from benchmarks.artefacts.fig6 import Shown, collect, fragment
from qsit_metric.evaluation import EvaluationError
from qsit_metric.levels import LEVELS
from tests.conftest import IMAGES

PROBS = dict(zip(LEVELS, (0.5, 0.25, 0.25, 0.0, 0.0), strict=True))


def shown(size=(300, 200), answer="Yes.", colour=(10, 200, 30), name="(A)"):
    return Shown(name, Image.new("RGB", size, colour), 1.75, PROBS, (("Is it sharp?", answer),))


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


def test_what_cannot_be_shown_is_refused(tied):
    for given in ({"images": []}, {"questions": []}, {"names": ["a", "b"]}):
        with pytest.raises(EvaluationError, match="`images, questions, names`"):
            collect(tied, **{"images": ["a.jpg"], **given})


def test_the_bar_is_as_long_as_the_levels_are_probable():
    widths = re.findall(r'<span style="width:([\d.]+)%;background:(#\w+)">', fragment([shown()]))
    assert [float(width) for width, _ in widths] == [50, 25, 25, 0, 0]
    assert len({colour for _, colour in widths}) == 5
