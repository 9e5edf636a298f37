"""Pictures with one degraded quadrant: how they are made and counted, and that the embedded model's map finds it."""

from __future__ import annotations

import csv
import json
from collections import Counter

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

pytest.importorskip("skimage")

from benchmarks import quadrants
from benchmarks.options import app_of
from benchmarks.quadrants import KINDS, LEVELS, Case, Found, cases, look, measure, share
from brightness import Brightness
from conftest import IMAGES
from qsit_metric import QSiT
from train.nano.data import photographs

GOLDEN = ("landscape_451x300.png", "landscape_600x400.jpg", "square_512.png")  # cat, coffee, astronaut
QUICK = ("gaussian_blur", "white_noise", "jpeg")


@pytest.fixture
def bright():
    return QSiT(Brightness())


@pytest.fixture(scope="module")
def nano():
    return QSiT("q-sit-nano", device="cpu")


def shrunk(image: Image.Image) -> Image.Image:
    """So small that a map takes a fraction of a second, so large that a quadrant holds a window."""
    ratio = 448 / max(image.size)
    return image.resize((round(image.width * ratio), round(image.height * ratio)), Image.Resampling.LANCZOS)


def read(name: str) -> Image.Image:
    return shrunk(Image.open(IMAGES / name).convert("RGB") if name in GOLDEN else photographs.load(name))


def test_only_the_quadrant_changes():
    whole = Image.fromarray(np.random.default_rng(0).integers(0, 256, (151, 200, 3), dtype=np.uint8))
    for place, (left, top, right, bottom) in enumerate(quadrants.quadrants(200, 151)):
        changed = np.asarray(Case("a", "gaussian_blur", 5, place).picture(whole)) != np.asarray(whole)
        assert changed[top:bottom, left:right].mean() > 0.9
        changed[top:bottom, left:right] = False
        assert not changed.any()


def test_every_quadrant_has_its_turn():
    found = cases(["a", "b"])
    assert len(found) == 2 * len(KINDS) * len(LEVELS)
    assert set(Counter(case.quadrant for case in found).values()) <= {12, 13, 14, 15}
    assert found == cases(["a", "b"])
    assert found != cases(["a", "b"], seed=1)


def test_a_map_of_brightness_finds_what_is_dark(bright):
    grey = Image.new("RGB", (200, 160), (180, 180, 180))
    wanted = cases(["a", "b"], ("darken",), (4, 5))
    found = list(measure(bright, wanted, lambda name: grey))
    assert share(found) == 1
    assert all(one.worst == one.case.quadrant for one in found)
    brighter = list(measure(bright, cases(["a"], ("brighten",), (5,)), lambda name: grey))
    assert share(brighter) == 0


def test_the_table_counts():
    hit = Found(Case("a", "jpeg", 5, 1), (3.0, 1.0, 3.0, 3.0), 1, 2.5)
    miss = Found(Case("b", "jpeg", 5, 0), (3.0, 1.0, 3.0, 3.0), 1, 2.5)
    hardly = Found(Case("b", "jpeg", 3, 0), (3.0, 1.0, 3.0, 3.0), 1, 2.5)
    made = quadrants.table([hit, hit, hit, miss, hardly], {"model": "m"})
    assert [(row["degradation"], row["level"], row["n"], row["found"], row["worst window"]) for row in made.rows] == [
        ("jpeg", 5, 4, 0.75, 0.75), ("jpeg", 3, 1, 0, 0),
        ("worse than fair to people", None, 4, 0.75, 0.75), ("all", None, 5, 0.6, 0.6),
    ]  # fmt: skip
    assert [row["people"] for row in made.rows] == [pytest.approx(1.3502), pytest.approx(3.8658), None, None]
    assert made.rows[0]["others minus quadrant"] == pytest.approx((3 * 2.0 - 2 / 3) / 4)
    assert "not met" in made.notes[0]
    assert "worse than fair, met" in quadrants.table([hit], {}).notes[0]
    assert "Nothing here" in quadrants.table([hardly], {}).notes[0]


def test_the_command(bright, tmp_path, monkeypatch):
    for number in range(2):
        pixels = np.random.default_rng(number).integers(0, 256, (130, 150, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    monkeypatch.setattr(quadrants, "QSiT", lambda model, device: bright)
    monkeypatch.setattr(quadrants, "cases", lambda names, seed: cases(names, ("darken", "jpeg"), (5,), seed))
    out = tmp_path / "out"
    arguments = ["nano", "--photos", str(tmp_path), "-o", str(out), "--stride", "32"]
    result = CliRunner().invoke(app_of(quadrants.main), arguments)
    assert result.exit_code == 0, result.output
    made = json.loads((out / "quadrants.json").read_text())
    assert [row["degradation"] for row in made["rows"]] == ["darken", "jpeg", "worse than fair to people", "all"]
    assert made["rows"][0]["found"] == 1
    assert made["made"]["photographs"] == 2
    rows = list(csv.DictReader((out / "quadrants-cases.csv").open()))
    assert len(rows) == 4
    assert rows[0]["quadrant"] == rows[0]["worst"]
    result = CliRunner().invoke(app_of(quadrants.main), ["nano", "--figure", str(tmp_path / "docs" / "map.png")])
    assert result.exit_code == 0, result.output
    with Image.open(tmp_path / "docs" / "map.png") as image:
        assert image.width > 2 * 640


def test_the_command_refuses_a_folder_without_pictures(tmp_path):
    result = CliRunner().invoke(app_of(quadrants.main), ["nano", "--photos", str(tmp_path / "none")])
    assert result.exit_code == 2
    assert "a folder with pictures" in result.output


@pytest.mark.long
def test_maps_of_the_embedded_model_find_the_quadrant(nano):
    """Photographs in colour; one without looks degraded all over, and noise makes that no worse."""
    found = list(measure(nano, cases(["rocket", *GOLDEN], QUICK, (5,)), read))
    assert len(found) == 12
    assert share(found) >= quadrants.TARGET, [(one.case, one.means) for one in found if not one.hit]


@pytest.mark.long
def test_maps_of_the_embedded_model_find_the_quadrant_of_other_photographs(nano, photos):
    paths = {path.name: path for path in photos[::4]}
    wanted = cases(list(paths), QUICK, (4, 5))
    found = list(measure(nano, wanted, lambda name: Image.open(paths[name]).convert("RGB")))
    assert share(found) >= quadrants.TARGET, [(one.case, one.means) for one in found if not one.hit]


def test_saliency_of_the_embedded_model_is_finite(nano):
    found = nano.map(read("square_512.png"), method="saliency")
    assert np.isfinite(found.values).all()
    assert found.values.min() >= 0
    assert found.values.max() > 0


def test_the_blurred_quadrant_of_a_rocket_is_found_and_the_whole_scored(nano):
    case = Case("rocket", "gaussian_blur", 5, 3)
    picture = case.picture(read("rocket"))
    one = look(nano.map(picture), case)
    assert one.score == pytest.approx(float(nano.score(picture)), abs=1e-4)
    assert one.hit
