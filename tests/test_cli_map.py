"""`qsit map`: words, files, what is kept and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from brightness import Brightness
from qsit_metric import QSiT
from qsit_metric.cli import options
from test_cli import TIED, clean_environment, qsit  # noqa: F401  # the environment is cleaned for each test


@pytest.fixture(autouse=True)
def metric(monkeypatch):
    """The bright is good, the dark bad; loaded once for each test."""
    metric = QSiT(Brightness())
    metric._origin = {"model": "brightness", "repo": None, "revision": "1"}
    monkeypatch.setattr(options.ModelOptions, "load", lambda self: metric)
    return metric


@pytest.fixture
def photos(tmp_path):
    """Two pictures with a dark quadrant, one of them in a folder below."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    for name, corner in (("a.png", (slice(48, 96), slice(0, 64))), ("more/b.png", (slice(0, 48), slice(64, 128)))):
        pixels = np.full((96, 128, 3), 220, dtype=np.uint8)
        pixels[corner] = 30
        Image.fromarray(pixels).save(folder / name)
    return folder


def test_where_it_is_worst_in_words(photos):
    shown = qsit("map", photos, "-r").stdout.splitlines()
    assert shown[0].startswith(f"{photos / 'a.png'}: 3.")
    assert shown[0].endswith("; worst at the lower left: 2.28 in 32x32 pixels at (0, 48)")
    assert "worst at the upper centre: 2.28 in 32x32 pixels at (64, 0)" in shown[1]


def test_other_words(photos, tmp_path):
    photo = photos / "a.png"
    assert "one window of 128x96 pixels, the whole picture: a smaller" in qsit("map", photo, "--window", "500").stdout
    assert "a change of pixels moves the score most at the" in qsit("map", photo, "--method", "saliency").stdout
    Image.new("RGB", (90, 90), (150, 150, 150)).save(tmp_path / "flat.png")
    assert "; much the same everywhere: 3.18 to 3.18" in qsit("map", tmp_path / "flat.png").stdout


def test_json_lines_hold_everything(photos):
    (line,) = qsit("map", photos / "a.png", "--json", "--window", "48", "--overlap", "0").stdout.splitlines()
    record = json.loads(line)
    assert record["path"] == str(photos / "a.png")
    assert record["asked"] == {"method": "windows", "window": 48, "stride": None, "overlap": 0}
    assert np.shape(record["values"]) == (len(record["tops"]), len(record["lefts"])) == (2, 3)
    assert record["worst"]["left"] == 0
    assert record["worst"]["top"] == 48
    assert {"score", "level", "probs", "model", "revision", "recipe", "dtype", "exif", "qsit_metric"} <= set(record)


def test_a_png_shows_the_map_and_holds_its_record(photos, tmp_path, metric):
    target = tmp_path / "map.png"
    result = qsit("map", photos / "a.png", "-o", target)
    assert result.stderr.endswith(f"{target}: 1 added, 0 were there already\n")
    with Image.open(target) as image:
        image.load()
        record = json.loads(image.info["qsit"])
        assert np.array_equal(np.asarray(image), np.asarray(metric.map(photos / "a.png").overlay()))
    assert record["worst"]["value"] == pytest.approx(2.28, abs=0.01)


def test_npz_and_json(photos, tmp_path, metric):
    found = metric.map(photos / "a.png")
    qsit("map", photos / "a.png", "-o", tmp_path / "map.npz")
    qsit("map", photos / "a.png", "-o", tmp_path / "map.json")
    with np.load(tmp_path / "map.npz") as arrays:
        assert np.array_equal(arrays["values"], found.values)
        assert arrays["boxes"].shape == (*found.shape, 4)
        assert tuple(arrays["boxes"].reshape(-1, 4)[found.values.argmin()]) == found.worst
        assert json.loads(str(arrays["record"])) == json.loads((tmp_path / "map.json").read_text())


def test_many_go_to_a_folder_and_keep_their_places(photos, tmp_path):
    out = tmp_path / "new" / "maps"
    qsit("map", photos, "-r", "-o", out)
    assert sorted(str(path.relative_to(out)) for path in out.rglob("*.*")) == ["a.png.map.png", "more/b.png.map.png"]
    qsit("map", photos / "a.png", "-o", out, "--format", "npz")
    assert (out / "a.png.map.npz").is_file()


def test_a_second_run_computes_only_what_is_missing(photos, tmp_path, metric, monkeypatch):
    out = tmp_path / "maps"
    first = qsit("map", photos, "-r", "-o", out)
    (out / "a.png.map.png").unlink()
    before = (out / "more" / "b.png.map.png").stat().st_mtime_ns
    metric.backend.batches.clear()
    again = qsit("map", photos, "-r", "-o", out)
    assert again.stderr.endswith("1 added, 1 were there already\n")
    assert again.stdout == first.stdout, "what is kept is shown, too"
    assert sum(metric.backend.batches) == 1 + 5 * 7
    assert (out / "more" / "b.png.map.png").stat().st_mtime_ns == before
    assert qsit("map", photos, "-r", "-o", out, "--overwrite").stderr.endswith("2 added, 0 were there already\n")


def test_maps_among_the_pictures_are_not_mapped(photos):
    qsit("map", photos, "-r", "-o", photos)
    assert qsit("map", photos, "-r", "-o", photos).stderr.endswith("0 added, 2 were there already\n")
    assert len(list(photos.rglob("*.png"))) == 4
    given = photos / "a.png.map.png"
    assert str(given) in qsit("map", given).stdout, "unless one is named"


def test_a_map_of_a_picture_that_was_replaced_is_made_again(photos, tmp_path, metric):
    out = tmp_path / "maps"
    qsit("map", photos, "-r", "-o", out)
    first = next(path for path in sorted(photos.iterdir()) if path.suffix == ".png")
    Image.open(first).transpose(Image.Transpose.FLIP_LEFT_RIGHT).resize((70, 60)).save(first)
    before = (out / f"{first.name}.map.png").read_bytes()
    assert "0 added" in qsit("map", photos, "-r", "-o", out, "--trust-names").stderr
    assert "1 added" in qsit("map", photos, "-r", "-o", out).stderr
    assert (out / f"{first.name}.map.png").read_bytes() != before
    assert "0 added" in qsit("map", photos, "-r", "-o", out).stderr


def test_a_map_that_was_made_otherwise_is_refused_before_anything_is_computed(photos, tmp_path, metric):
    out = tmp_path / "maps"
    qsit("map", photos, "-r", "-o", out, "--window", "48")
    metric.backend.batches.clear()
    error = qsit("map", photos, "-r", "-o", out, "--window", "24", code=2).stderr
    assert "expected a map made as now (window 24), but it has window 48. --overwrite replaces it." in error
    assert error.endswith("--overwrite replaces it.\n")
    assert metric.backend.batches == []
    assert "made as now (exif False), but it has exif True" in qsit(
        "map", photos, "-r", "-o", out, "--window", "48", "--no-exif", code=2
    ).stderr  # fmt: skip
    other = photos / "more" / "b.png"
    qsit("map", photos / "a.png", "-o", tmp_path / "one.json")
    assert "made as now (path " in qsit("map", other, "-o", tmp_path / "one.json", code=2).stderr


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.png", b"not a picture"),
        ("x.png", None),
        ("x.npz", b"PK"),
        ("x.npz", b""),
        ("x.json", b"[1]"),
        ("x.json", b"{}"),
    ],
)
def test_what_is_no_map_is_never_written_over(photos, tmp_path, name, content):
    target = tmp_path / name
    if content is None:
        Image.new("RGB", (8, 8)).save(target)
    else:
        target.write_bytes(content)
    before = target.read_bytes()
    assert "--overwrite replaces it." in qsit("map", photos / "a.png", "-o", target, code=2).stderr
    assert target.read_bytes() == before
    qsit("map", photos / "a.png", "-o", target, "--overwrite")
    assert qsit("map", photos / "a.png", "-o", target).stderr.endswith("0 added, 1 were there already\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.png", "-o", "a.png"], "`--output`: got 'a.png', expected another file than a picture that is read."),
        (["a.png", "-o", "map.jpg"], "`--output`: got 'map.jpg', expected a name that ends in .png, .npz, .json."),
        (["a.png", "more/b.png", "-o", "map.png"], "`--output`: got 'map.png', expected a folder for 2 pictures."),
        (["a.png", "-o", "m.png", "--format", "npz"], "`--format`: got 'npz', expected the format of 'm.png', png."),
        (["a.png", "--format", "npz"], "`--format`: got 'npz', expected a place to write to. Add --output."),
        (["a.png", "--window", "0"], "`window`: got 0, expected a whole number of pixels, 1 or more."),
        (["a.png", "--stride", "3", "--overlap", "3"], "`overlap`: got 3, expected either a stride or an overlap"),
        (["none-*.png"], "`PATHS`: got 'none-*.png', expected at least one picture."),
        (["a.png", "more/../a.png", "other/a.png", "-o", "out"], "a.png and other/a.png, both to out/a.png.map.png>"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_one_line(photos, monkeypatch, metric, arguments, message):
    monkeypatch.chdir(photos)
    (photos / "other").mkdir()
    Image.new("RGB", (9, 9)).save(photos / "other" / "a.png")
    before = (photos / "a.png").read_bytes()
    result = qsit("map", *arguments, code=2)
    assert message in result.stderr
    assert result.stderr.splitlines()[-1].startswith("error: ")
    assert result.stdout == ""
    assert metric.backend.batches == []
    assert (photos / "a.png").read_bytes() == before


def test_a_picture_that_cannot_be_read_does_not_sink_the_others(photos, tmp_path):
    (photos / "broken.png").write_bytes(b"no picture")
    result = qsit("map", photos, "-o", tmp_path / "maps", code=1)
    assert "a.png: " in result.stdout
    assert "failed: " in result.stderr
    assert "broken.png: " in result.stderr
    assert "1 added, 0 were there already\n" in result.stderr


def test_a_picture_that_a_stride_does_not_fit_is_that_pictures_failure(photos):
    Image.new("RGB", (400, 400)).save(photos / "large.png")
    result = qsit("map", photos, "--stride", "1", code=1)
    assert "large.png: `stride`: got 1, expected at most 20000 windows" in result.stderr
    assert "a.png: " in result.stdout


def test_a_folder_that_cannot_be_written(photos, tmp_path):
    (tmp_path / "file").write_text("")
    assert "expected a file that can be written" in qsit(
        "map", photos / "a.png", "-o", tmp_path / "file" / "map.png", code=2
    ).stderr  # fmt: skip


def test_urls_have_file_names():
    from qsit_metric.cli.map_files import _name

    assert _name("https://example.org/a%20b.jpg?size=2", []) == "a_b.jpg"
    assert _name("https://example.org", []) == "example.org"


def test_a_real_model_from_the_command_line(photos, tmp_path, monkeypatch):
    monkeypatch.undo()
    result = qsit("map", photos / "a.png", "-m", TIED, "-o", tmp_path / "map.json", "--window", "64", "--stride", "64")
    assert "worst at the" in result.stdout or "much the same" in result.stdout
    record = json.loads((tmp_path / "map.json").read_text())
    assert len(record["revision"]) > 8
    assert np.shape(record["values"]) == (2, 2)
