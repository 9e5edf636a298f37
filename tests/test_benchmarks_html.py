"""The page with all results: whole in itself, everything escaped, and columns that sort as people expect."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a program of the checkout, which nobody installs

from benchmarks.output import Table
from benchmarks.page import SIDE, report, thumbnail
from benchmarks.statistics import Residual, furthest
from qsit_metric.evaluation import EvaluationError

NASTY = "<img src=x onerror=alert('1')>&\"quoted\".jpg"
VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Elements with their attributes and text; raises where tags do not match."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.found = [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        element = [tag, dict(attrs), ""]
        self.found.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        for element in self.open:
            element[2] += data

    def all(self, tag):
        return [(attrs, text.strip()) for name, attrs, text in self.found if name == tag]


def table(name="table4", **changes):
    rows = (
        {"model": NASTY, "SRCC": 0.91449999, "n": 9, "ours": True},
        {"model": "b", "SRCC": None, "n": 10, "ours": False},
        {"model": None, "SRCC": -0.2, "n": 100, "ours": None},
    )
    given = {"name": name, "title": "Scoring <1>", "columns": ("model", "SRCC", "n", "ours"), "rows": rows}
    return Table(**(given | {"notes": ("a < b",), "made": {"model": NASTY}} | changes))


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    path = tmp_path_factory.mktemp("photos") / "wide.jpg"
    pixels = np.random.default_rng(0).integers(0, 256, (300, 640, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    Image.fromarray(pixels).save(path, comment=b"my house", exif=exif)
    return path


@pytest.fixture(scope="module")
def page(photo):
    figure = io.BytesIO()
    Image.new("RGB", (20, 10)).save(figure, format="PNG")
    cards = [
        Residual("KonIQ", NASTY, photo, 20.0, 4.5, -51.26),
        Residual("SPAQ", "gone.jpg", photo.with_name("gone.jpg"), 80.0, 1.5, 60.0),
        Residual("SPAQ", "text.jpg", Path(__file__), 80.0, 1.5, 50.0),
    ]
    return report([table(), table("table5")], {NASTY: figure.getvalue(), "photo": photo}, cards, f"Results {NASTY}")


# --- the page --------------------------------------------------------------------------------------------------------


def test_the_page_is_well_formed_and_has_everything(page):
    found = Page(page)
    assert found.all("html")[0][0] == {"lang": "en"}
    assert found.all("title")[0][1] == found.all("h1")[0][1] == f"Results {NASTY}"
    assert len(found.all("table")) == 2
    assert [text for _, text in found.all("td")][:12] == [
        NASTY, "0.914", "9", "yes", "b", "", "10", "no", "", "-0.200", "100", "",
    ]  # fmt: skip
    targets = {attrs["id"] for _, attrs, _ in found.found if "id" in attrs}
    links = [attrs["href"] for attrs, _ in found.all("a")]
    assert links == ["#table-table4", "#table-table5", "#figures", "#worst"]
    assert {link[1:] for link in links} == targets
    assert len([text for _, text in found.all("li") if text == "a < b"]) == 2


def test_nothing_is_asked_of_the_network(page):
    found = Page(page)
    for _, attrs, _ in found.found:
        for name in ("src", "href", "action", "data", "poster", "srcset"):
            assert attrs.get(name, "#").startswith(("#", "data:image/")), (name, attrs[name][:80])
    assert not re.search(r"https?:|@import|url\(|fetch\(|XMLHttp", page)
    assert {name for name, _, _ in found.found} & {"link", "iframe", "object", "form"} == set()
    policy = next(attrs["content"] for attrs, _ in found.all("meta") if "http-equiv" in attrs)
    assert policy.startswith("default-src 'none'; img-src data:;")


def test_whatever_is_put_in_is_escaped(page):
    found = Page(page)
    assert not [attrs for attrs, _ in found.all("img") if "onerror" in attrs]
    assert len(found.all("script")) == 1
    assert "<img src=x" not in page
    assert [attrs["alt"] for attrs, _ in found.all("img")] == [NASTY, "photo", f"{NASTY} of KonIQ"]
    assert found.all("td")[0][0]["data-key"] == NASTY


def test_the_page_suits_dark_rooms_phones_and_paper(page):
    for rule in ("prefers-color-scheme: dark", "@media print", "overflow-x: auto", "color-scheme: light dark"):
        assert rule in page
    assert ({"name": "viewport", "content": "width=device-width, initial-scale=1"}, "") in Page(page).all("meta")


def test_equal_arguments_give_equal_pages():
    assert report([table()], {}) == report([table()], {})
    assert "Figures</a>" not in report([table()], {})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([table(), table()], {}), "`tables`: got .*tables of different names"),
        (([], {"a": b"<svg>"}), "`figures: a`: got <5 bytes>, expected a PNG or JPEG file"),
        (([], {"a": Path("nowhere.png")}), r"`figures: a`: got 'nowhere\.png', expected a readable file"),
    ],
)
def test_what_cannot_be_shown_is_refused(arguments, message):
    with pytest.raises(EvaluationError, match=message):
        report(*arguments)


# --- sorting ---------------------------------------------------------------------------------------------------------


def test_headings_are_buttons_and_cells_carry_every_digit(page):
    found = Page(page)
    headings = found.all("th")
    assert [(attrs["scope"], attrs["aria-sort"]) for attrs, _ in headings] == [("col", "none")] * 8
    assert [attrs["data-kind"] for attrs, _ in headings][:4] == ["text", "number", "number", "text"]
    assert [attrs["type"] for attrs, _ in found.all("button")] == ["button"] * 8
    keys = [attrs.get("data-key") for attrs, _ in found.all("td")][:12]
    assert keys == [NASTY, "0.91449999", "9", "True", "b", None, "10", "False", None, "-0.2", "100", None]


DOM = """
// As much of a table as the script asks for.
const body = {rows: ROWS.map((cells) => ({cells: cells.map((key) => ({dataset: key === null ? {} : {key: key}}))}))};
body.append = (...rows) => { body.rows = rows; };
const line = {children: []};
for (const [place, kind] of KINDS.entries()) {
  const marks = {"aria-sort": "none"};
  line.children.push({
    cellIndex: place, dataset: {kind: kind}, parentElement: line, closest: () => ({tBodies: [body]}),
    getAttribute: (name) => marks[name], setAttribute: (name, value) => { marks[name] = value; },
  });
}
const seen = [];
for (const place of CLICKS) {
  sortBy(line.children[place]);
  seen.push([
    body.rows.map((row) => row.cells[place].dataset.key ?? null), line.children.map((one) => one.getAttribute("aria-sort")),
  ]);
}
console.log(JSON.stringify(seen));
"""


def sorted_by(page, rows, kinds, clicks):
    node = shutil.which("node")
    if not node:
        pytest.skip("no Node.js, which runs the page's script")
    script = Page(page).all("script")[0][1]
    given = "".join(
        f"const {name} = {json.dumps(value)};\n"
        for name, value in (("ROWS", rows), ("KINDS", kinds), ("CLICKS", clicks))
    )
    done = subprocess.run([node, "-e", script + given + DOM], capture_output=True, text=True, check=False)
    assert not done.stderr
    return json.loads(done.stdout)


@pytest.mark.browser
def test_numbers_sort_as_numbers_and_empty_cells_stand_last(page):
    rows = [["b", "9"], [None, None], ["A10", "-0.25"], ["a9", "100"], ["c", "1e-05"]]
    up, down, names = sorted_by(page, rows, ["text", "number"], [1, 1, 0])
    assert up == [["-0.25", "1e-05", "9", "100", None], ["none", "ascending"]]
    assert down == [["100", "9", "1e-05", "-0.25", None], ["none", "descending"]]
    assert names == [["a9", "A10", "b", "c", None], ["ascending", "none"]]


def test_the_script_asks_for_what_the_page_has(page):
    script = Page(page).all("script")[0][1]
    assert 'querySelectorAll("th button")' in script
    for name in re.findall(r"dataset\.(\w+)", script):
        assert f"data-{name}=" in page
    assert script.count('"aria-sort"') == 3


# --- the worst images ------------------------------------------------------------------------------------------------


def test_small_pictures_are_small_and_carry_no_words(photo, page):
    small = Image.open(io.BytesIO(thumbnail(photo)))
    assert (small.format, small.size) == ("JPEG", (SIDE, 75))  # as the model saw it: not turned
    assert not set(small.info) & {"comment", "exif", "icc_profile"}
    card = next(attrs for attrs, _ in Page(page).all("img") if attrs["alt"].endswith("of KonIQ"))
    assert base64.b64decode(card["src"].partition("base64,")[2]) == thumbnail(photo)


def test_cards_say_score_and_residual_and_what_could_not_be_read(page, photo):
    said = [" ".join(text.split()) for _, text in Page(page).all("figcaption")]
    assert said[2] == f"KonIQ {NASTY}MOS 20.00, score 4.50, residual -51.26"
    assert said[3].endswith("residual +60.00")
    lost = [text for attrs, text in Page(page).all("div") if attrs.get("class") == "lost"]
    assert lost[0] == "The file cannot be opened: No such file or directory."
    assert "picture" in lost[1]
    assert str(photo.parent) not in page
    assert str(Path(__file__).parent) not in page


def test_the_worst_are_furthest_from_the_curve_of_their_set():
    rng = np.random.default_rng(0)
    rows = []
    for name, scale in (("KonIQ", 100.0), ("AGIQA-3K", 5.0)):
        score = rng.uniform(1, 5, 60)
        mos = scale / (1 + np.exp(-2 * (score - 3))) + rng.normal(0, scale / 50, 60)
        for place, (x, y) in enumerate(zip(score.tolist(), mos.tolist(), strict=True)):
            rows.append({"set": name, "image": f"{place}.jpg", "path": f"x/{place}.jpg", "mos": y, "score": x})
    rows[7] |= {"mos": rows[7]["mos"] - 40.0}
    rows[70] |= {"mos": rows[70]["mos"] + 3.0}
    rows[8] |= {"mos": -1000.0, "score": None}
    rows += [{"set": "one", "image": "a.jpg", "path": "a.jpg", "mos": 1.0, "score": 2.0}]
    found = furthest(rows, 5)
    assert {(one.set, one.image) for one in found[:2]} == {("KonIQ", "7.jpg"), ("AGIQA-3K", "10.jpg")}
    residual = {one.set: one.residual for one in found[:2]}
    assert -45 < residual["KonIQ"] < -30
    assert 2.2 < residual["AGIQA-3K"] < 3.4
    assert len(found) == 5
    assert furthest([]) == []
