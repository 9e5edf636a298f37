"""The page of `qsit score --report`: what is in it, where its pictures lie, and what it does in a real browser."""

from __future__ import annotations

import json
import re

import pytest
from PIL import Image

import browser
from qsit_metric import QSiT
from qsit_metric.cli import report
from qsit_metric.cli.scores import Record
from qsit_metric.errors import ImageError
from qsit_metric.files import Stamp
from test_cli import LEVELS, TIED, clean_environment, loaded, make_pictures, qsit, quick, rows  # noqa: F401

MADE = {"model": "q-sit-nano", "revision": "r", "recipe": "train", "dtype": "float32", "exif": "True"}


def data_of(path):
    return json.loads(re.search(r'id="data">(.*?)</script>', path.read_text(encoding="utf-8"), re.DOTALL)[1])


def record(path, score, level="fair", **fields):
    return Record(str(path), score, (score - 1) / 4, level, dict.fromkeys(LEVELS, 0.2), **fields)


@pytest.fixture
def folder(tmp_path):
    make_pictures(tmp_path / "in" / "a", 2)
    make_pictures(tmp_path / "in" / "b" / "c", 1)
    return tmp_path / "in"


def test_a_run_writes_a_page_and_a_finished_file_does(folder, tmp_path, quick):  # noqa: F811
    page, output = tmp_path / "page.html", tmp_path / "s.csv"
    result = qsit("score", "-m", TIED, folder, "missing.png", "-r", "-o", output, "--report", page, code=1)
    assert result.stdout == ""
    assert f"{page}: 3 pictures, 0 maps; small pictures in the page, 0.0 MB" in result.stderr
    data, text = data_of(page), page.read_text(encoding="utf-8")
    assert data["levels"] == LEVELS
    assert [row[0] for row in data["rows"]] == ["a/000.png", "a/001.png", "b/c/000.png"]
    assert [row[1] for row in data["rows"]] == ["./in/a/000.png", "./in/a/001.png", "./in/b/c/000.png"]
    assert data["rows"][0][2] == pytest.approx(quick(folder / "a" / "000.png"), abs=1e-4)
    assert all(row[5].startswith("data:image/jpeg;base64,") for row in data["rows"])
    assert "missing.png: expected an existing file.</li>" in text
    again = tmp_path / "again.html"
    qsit("score", output, "--report", again)
    assert data_of(again) == data
    everything = sorted(map(str, folder.rglob("*.png")), key=lambda path: (quick(path), path))
    assert [row["path"] for row in rows(qsit("score", output, "--worst", 2).stdout)] == everything[:2]
    assert not re.search(r"(src|href)=\"(https?:)?//", text), "nothing is fetched from elsewhere"


def test_maps_of_the_worst_are_made_with_the_page(folder, tmp_path, quick, monkeypatch):  # noqa: F811
    class Map:
        def overlay(self):
            return Image.new("RGB", (40, 30), "red")

    asked = []

    def mapped(self, path, **_):
        asked.append(path)
        if len(asked) == 2:
            raise ImageError.about("image", path, "a picture")
        return Map()

    monkeypatch.setattr(QSiT, "map", mapped)
    page = tmp_path / "page.html"
    qsit("score", "-m", TIED, folder, "-r", "--report", page, "--maps", 2)
    everything = sorted(map(str, folder.rglob("*.png")), key=lambda path: (quick(path), path))
    assert asked == everything[:2]
    text = page.read_text(encoding="utf-8")
    assert text.count('alt="Quality map of') == 1
    assert '<div class="lost">expected a picture.</div>' in text


def test_many_small_pictures_go_to_a_folder_beside_the_page(folder, tmp_path):
    records = [record(path, 3.0) for path in sorted(folder.rglob("*.png"))]
    page = tmp_path / "page & co.html"
    said = report.write(page, report.Content("T", records, (), MADE), QSiT, limit=1000)
    beside = tmp_path / "page & co_files"
    assert f"small pictures in {beside}, 0.0 MB" in said
    assert sorted(path.name for path in beside.iterdir()) == ["0.jpg", "1.jpg", "2.jpg"]
    assert [row[5] for row in data_of(page)["rows"]] == [f"./page%20%26%20co_files/{i}.jpg" for i in range(3)]
    report.write(page, report.Content("T", records[:1], (), MADE), QSiT, limit=1000)
    assert [path.name for path in beside.iterdir()] == ["0.jpg"]


def test_pictures_that_are_gone_or_replaced_say_so(folder, tmp_path):
    paths = sorted(folder.rglob("*.png"))
    records = [record(path, 3.0, stamp=Stamp.of(path)) for path in paths]
    paths[0].unlink()
    paths[1].write_bytes(paths[1].read_bytes() + b"\0")
    report.write(tmp_path / "p.html", report.Content("T", records, (), MADE), QSiT)
    reasons = [row[6] for row in data_of(tmp_path / "p.html")["rows"]]
    assert reasons == ["expected an existing file", "replaced since it was scored", ""]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda place: place / "page.txt", "a name that ends in .html"),
        (lambda place: place / "no" / "page.html", "a file in a folder that exists"),
        (lambda place: place / "mine.html", "a new file, or a page of an earlier run"),
        (lambda place: place / "other.html", "no other folder of this name, for small pictures"),
    ],
)
def test_what_is_not_its_own_is_never_written_over(tmp_path, make, message):
    (tmp_path / "mine.html").write_text("<html>my own</html>")
    (tmp_path / "other_files").mkdir()
    (tmp_path / "other_files" / "thesis.txt").write_text("x")
    assert message in qsit("score", "x.png", "--report", make(tmp_path), code=2).stderr
    assert (tmp_path / "mine.html").read_text() == "<html>my own</html>"


def test_what_does_not_fit_together(tmp_path, quick):  # noqa: F811
    picture, output = make_pictures(tmp_path, 1)[0], tmp_path / "s.csv"
    qsit("score", picture, "-o", output)
    for arguments, message in (
        ([output, picture], "pictures, or files of scores, but not both"),
        ([output, "-o", "x.csv"], "nothing together with a finished file"),
        ([tmp_path / "no.csv"], "a .csv file that `qsit score` wrote"),
        ([picture, "--maps", 2], "a page that shows them. Add --report."),
    ):
        assert message in qsit("score", *arguments, code=2).stderr
    output.write_bytes(output.read_bytes().replace(b"float32", b"float16"))
    other = tmp_path / "t.csv"
    qsit("score", picture, "-o", other)
    assert "but it has dtype float32" in qsit("score", output, other, code=2).stderr
    foreign = tmp_path / "f.csv"
    foreign.write_text("path,mos\na,1\n")
    assert "It holds something else" in qsit("score", foreign, code=2).stderr


def test_names_cannot_break_out_of_the_page(tmp_path):
    name = "<script><img src=x onerror=alert(1)>.png"
    text = report.page(
        report.Content("<b>", [record(f"/x/{name}", float("nan"))], ["<i>"], MADE), [("", "<u>")], [], tmp_path
    )
    assert all(sign not in text for sign in ("<img", "<b>", "<i>", "<u>"))
    assert data_of_text(text)["rows"][0][:3] == [name, data_of_text(text)["rows"][0][1], None]


def data_of_text(text):
    return json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1])


MANY = 10_000
LOOK = """
const pause = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done, 20)));
const names = () => [...document.querySelectorAll("#list .row")]
  .sort((a, b) => a.ariaPosInSet - b.ariaPosInSet).map((row) => row.querySelector(".name").textContent);
const said = () => document.getElementById("summary").textContent;
const choose = (id, value) => { const one = document.getElementById(id); one.value = value; one.dispatchEvent(new Event("change")); };
const found = { first: names().slice(0, 2), drawn: [names().length], summary: [said()] };
found.image = await new Promise((done) => { const i = document.querySelector("#list img"); i.decode().then(() => done(i.naturalWidth)); });
found.inside = [...document.querySelectorAll("#list .row")].every((row) => [...row.children].every((part) =>
  part.getBoundingClientRect().bottom <= row.getBoundingClientRect().bottom + 1));
found.bars = document.querySelectorAll("#histogram rect").length;
for (const share of [0.25, 0.5, 1]) {
  window.scrollTo(0, share * document.documentElement.scrollHeight);
  await pause();
  found.drawn.push(names().length);
}
found.last = names().at(-1);
found.wide = document.documentElement.scrollWidth <= window.innerWidth;
choose("order", "best"); await pause(); found.best = names()[0];
choose("folder", "f1"); found.summary.push(said()); found.folder = names().every((name) => name.startsWith("f1/"));
document.querySelector("#levels button").click(); found.summary.push(said());
const text = document.getElementById("text"); text.value = "no such"; text.dispatchEvent(new Event("input"));
found.nothing = !document.getElementById("nothing").hidden;
document.getElementById("all").click(); found.summary.push(said());
return found;
"""


@pytest.mark.browser
@pytest.mark.parametrize("size", [(1280, 900), (390, 844)])
def test_ten_thousand_pictures_in_a_real_browser(tmp_path, size):
    small = tmp_path / "small.png"
    Image.new("RGB", (8, 6), "red").save(small, "JPEG")
    source = report._inlined(small.read_bytes())
    records = [record(f"/p/f{i % 4}/{i:05d}.jpg", 1 + 4 * i / MANY, LEVELS[5 * i // MANY]) for i in range(MANY)]
    page = tmp_path / "page.html"
    content = report.Content("Many", records[::-1], ["lost.png: why"], MADE)
    page.write_text(report.page(content, [(source, "")] * MANY, [], tmp_path), encoding="utf-8")
    with browser.opened(page, size) as tab:
        found = tab.run(LOOK)
    assert found["first"] == ["f0/00000.jpg", "f1/00001.jpg"]
    assert found["last"] == "f3/09999.jpg"
    assert found["best"] == "f3/09999.jpg"
    assert max(found["drawn"]) < 40, "only what is seen is in the page"
    assert found["image"] == 8
    assert found["bars"] == 32
    assert found["inside"], "no part of a row hangs out of it"
    assert found["wide"], "nothing is cut off at the side"
    assert found["folder"]
    assert found["nothing"]
    assert [text.split(":")[0] for text in found["summary"]] == [
        "10000 pictures", "2500 of 10000 pictures", "2000 of 10000 pictures", "10000 pictures",
    ]  # fmt: skip
    assert found["summary"][0] == "10000 pictures: mean 3.00, 1.00 to 5.00"


@pytest.mark.browser
def test_pictures_of_the_folder_are_shown_by_the_browser(folder, tmp_path):
    page = tmp_path / "my page.html"
    records = [record(path, 3.0) for path in sorted(folder.rglob("*.png"))]
    report.write(page, report.Content("T", records, (), MADE), QSiT, limit=0)
    look = """
    const images = [...document.querySelectorAll("#list img")];
    await Promise.all(images.map((one) => one.decode()));
    return images.map((one) => one.naturalWidth);
    """
    with browser.opened(page) as tab:
        assert tab.run(look) == [64, 64, 64]


@pytest.mark.browser
def test_a_page_that_complains_or_reaches_out_does_not_pass(tmp_path):
    page = tmp_path / "page.html"
    for bad in (
        "<script>console.error('oops')</script>",
        "<script>nowhere()</script>",
        "<img src='http://127.0.0.1:9/'>",
    ):
        page.write_text(f"<html><body>{bad}</body></html>")
        with pytest.raises(AssertionError, match=r"oops|nowhere|127\.0\.0\.1"), browser.opened(page) as tab:
            tab.run("return 1")
