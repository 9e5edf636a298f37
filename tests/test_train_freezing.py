"""Frozen folders: what is written is what is read, every change is noticed, and nothing is replaced by accident."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import train.data.frozen as frozen_module
from qsit_metric.evaluation import Item, Question
from qsit_metric.files import write_atomic
from train.data.frozen import FILES, LISTS, Frozen, Validation, freeze
from train.data.rows import Row
from train.data.scoring import Scale, scoring_row
from train.errors import DataError
from train.mixture import Sizes
from train.recipe import load_recipe

D1 = tuple(scoring_row(Item(f"koniq/{i}.jpg", 1 + i, str(i)), Scale(1, 5), "koniq") for i in range(4))
VAL = (
    scoring_row(Item("koniq/v.jpg", 4.5, "v"), Scale(1, 5), "koniq"),
    scoring_row(Item("spaq/w.jpg", 90.0, "w"), Scale(0, 94), "spaq"),
)
D2 = (Row("1", "q/a.jpg", (("Is it sharp?", "Yes."), ("Why\u2028?", "Fokus ist gut: \u00fcberall."))),)
QUESTIONS = (Question("0", "v/1.jpg", "Sharp?", ("Yes", "No"), 1, "yes-no", "distortion"),)
CONTENT = ({"d1": D1, "d2": D2}, Validation(VAL, QUESTIONS))


def frozen(folder, **options):
    images = folder.parent / "images"
    roots = dict.fromkeys(FILES, images)
    return freeze(*CONTENT, folder, **({"roots": roots} | options))


@pytest.fixture
def place(tmp_path):
    frozen(tmp_path / "data")
    return tmp_path / "data"


def test_what_is_frozen_is_what_is_read(place):
    data = Frozen.load(place)
    assert (data.rows("d1"), data.rows("d2"), data.rows("d3")) == (D1, D2, ())
    assert data.val_scoring == VAL
    assert data.val_questions == QUESTIONS
    assert data.counts == Sizes(4, 1, 0)
    assert sorted(path.name for path in place.iterdir()) == sorted([*FILES.values(), *LISTS.values(), "data.json"])
    assert [path.name for path in place.parent.iterdir()] == ["data"]  # no temporary folder stays


def test_nothing_but_rows_and_questions_may_be_frozen_empty(tmp_path):
    data = freeze({}, Validation(), tmp_path / "empty")
    assert data.counts == Sizes(0, 0, 0)
    assert (data.val_scoring, data.val_questions) == ((), ())


def test_record_says_how_and_what(tmp_path):
    refused = [{"set": "d2", "file": "q.json", "reason": "no"}]
    data = frozen(
        tmp_path / "data", how={"seed": 3}, report={"d1": {"removed": 1}}, refused=refused, removed=[{"id": "1"}]
    )
    record = json.loads((tmp_path / "data" / "data.json").read_text())
    assert record == data.record
    assert (record["version"], record["how"], record["report"]) == (1, {"seed": 3}, {"d1": {"removed": 1}})
    assert record["sets"]["d1"] == {"file": "d1.jsonl", "rows": 4, "sha256": frozen_module.sha256(tmp_path / "data" / "d1.jsonl"), "images": str(tmp_path / "images")}  # fmt: skip
    assert json.loads((tmp_path / "data" / "refused.jsonl").read_text()) == refused[0]
    assert record["refused"]["rows"] == record["removed"]["rows"] == 1
    assert record["digest"] == data.digest


def test_digest_is_that_of_the_rows_wherever_they_lie(place, tmp_path):
    moved = freeze(*CONTENT, tmp_path / "other", how={"seed": 1}, refused=[{"reason": "x"}])
    assert moved.digest == Frozen.load(place).digest
    changed = freeze({"d1": D1[1:], "d2": D2}, CONTENT[1], tmp_path / "third")
    assert changed.digest != moved.digest
    swapped = freeze({"d2": D1, "d1": D2}, CONTENT[1], tmp_path / "fourth")
    assert swapped.digest != moved.digest


@pytest.mark.parametrize("file", [*FILES.values(), *LISTS.values()])
def test_every_change_is_noticed_and_named(place, file):
    with (place / file).open("a") as stream:
        stream.write("\n")
    with pytest.raises(DataError, match=f"{file}.*expected the SHA-256.*The file was changed"):
        Frozen.load(place)
    (place / file).unlink()
    with pytest.raises(DataError, match=f"{file}.*the file that was frozen"):
        Frozen.load(place)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda record: record.pop("version"), "a frozen folder with a readable data.json"),
        (lambda record: record.update(version=2), "got 2, expected 1. Freeze the data again"),
        (lambda record: record.pop("sets"), "a data.json as it was frozen"),
        (lambda record: record["sets"].pop("d2"), "No 'd2' in it"),
        (lambda record: record["sets"]["d1"].update(rows=5), "got <4 rows>, expected 5, as data.json says"),
    ],
)
def test_a_record_that_was_edited_is_refused(place, edit, message):
    record = json.loads((place / "data.json").read_text())
    edit(record)
    (place / "data.json").write_text(json.dumps(record))
    with pytest.raises(DataError, match=message):
        Frozen.load(place)


def test_a_folder_that_was_never_frozen(tmp_path):
    with pytest.raises(DataError, match="Make one with `python -m train data freeze`"):
        Frozen.load(tmp_path)


def test_image_roots(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    relative = frozen(tmp_path / "data").root("d1")
    assert relative == tmp_path / "images"
    freeze(*CONTENT, "here/data", roots={"d1": Path("images")})
    assert json.loads(Path("here/data/data.json").read_text())["sets"]["d1"]["images"] == "../../images"
    shutil.move("here", "there")
    Path("images").mkdir()
    assert Frozen.load("there/data").root("d1").samefile("images")
    data = Frozen.load("there/data", images={"d1": "/elsewhere", "questions": "/q"})
    assert (data.root("d1"), data.root("questions")) == (Path("/elsewhere"), Path("/q"))
    with pytest.raises(DataError, match="`images.d2`: got <nothing>"):
        data.root("d2")
    with pytest.raises(DataError, match="expected one of d1, d2, d3, scoring, questions"):
        data.root("d4")
    with pytest.raises(DataError, match="expected one of d1, d2, d3"):
        data.rows("scoring")
    with pytest.raises(DataError, match="`images`: got 'd9'"):
        Frozen.load("there/data", images={"d9": "x"})


def test_relative_roots_hold_below_a_linked_folder(tmp_path, monkeypatch):
    """`..` leaves a linked folder by its target, not by the place of the link."""
    (tmp_path / "scratch" / "deep" / "runs").mkdir(parents=True)
    (tmp_path / "images").mkdir()
    (tmp_path / "runs").symlink_to(tmp_path / "scratch" / "deep" / "runs")
    monkeypatch.chdir(tmp_path)
    data = freeze(*CONTENT, Path("runs/data"), roots={"d1": Path("images")})
    assert data.root("d1").samefile(tmp_path / "images")


def test_missing_images_are_counted_and_named(place):
    data = Frozen.load(place)
    images = place.parent / "images"
    with pytest.raises(DataError) as caught:
        data.check_images()
    assert str(caught.value) == (
        f"`{place}`: 8 images are missing: d1: 4 of 4 in {images} (koniq/0.jpg, koniq/1.jpg, koniq/2.jpg, ...); "
        f"d2: 1 of 1 in {images} (q/a.jpg); scoring: 2 of 2 in {images} (koniq/v.jpg, spaq/w.jpg); "
        f"questions: 1 of 1 in {images} (v/1.jpg). Say where they are: --set 'data.images={{d1: FOLDER, d2: FOLDER, "
        "scoring: FOLDER, questions: FOLDER}', or freeze again with --drop-refused."
    )
    for name in [row.image for row in (*D1, *VAL)] + ["v/1.jpg"]:
        path = images / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    with pytest.raises(DataError, match=r"1 image is missing: d2: 1 of 1 in .*'data.images=\{d2: FOLDER\}'"):
        data.check_images()
    (images / "q").mkdir()
    (images / "q" / "a.jpg").touch()
    data.check_images()


def test_sets_whose_folder_was_never_frozen_are_named_with_the_others(tmp_path):
    data = freeze(*CONTENT, tmp_path / "data", roots={"d2": tmp_path})
    with pytest.raises(
        DataError, match=r"d1: 4 of 4, no folder was frozen; d2: 1 of 1 in .*\{d1: FOLDER, d2: FOLDER, s"
    ):
        data.check_images()
    with pytest.raises(DataError, match=r"Say where they are: --set 'data.images=\{d1: FOLDER\}'"):
        data.root("d1")


def test_the_way_out_is_one_that_a_run_takes(place):
    """What the message says to type, typed."""
    with pytest.raises(DataError) as caught:
        Frozen.load(place).check_images()
    argument = str(caught.value).split("--set '")[1].split("'")[0].replace("FOLDER", "elsewhere")
    recipe = load_recipe("q-sit-mini", [argument])
    assert Frozen.load(place, recipe.data.images).root("questions") == Path("elsewhere")


def test_a_frozen_folder_is_replaced_only_by_force(place):
    with pytest.raises(DataError, match="Replace it with --force"):
        frozen(place)
    before = Frozen.load(place).digest
    assert freeze({"d1": D1[1:]}, Validation(), place, force=True).digest != before
    assert [path.name for path in place.parent.iterdir()] == ["data"]


def test_a_folder_of_another_kind_is_never_replaced(tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").touch()
    with pytest.raises(DataError, match="a new folder, or one that was frozen before"):
        frozen(tmp_path / "thesis", force=True)
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="a new folder"):
        frozen(tmp_path / "file", force=True)
    (tmp_path / "empty").mkdir()
    assert frozen(tmp_path / "empty").counts.d1 == 4


@pytest.mark.parametrize("fail_at", ["d1.jsonl", "data.json"])
def test_a_full_disk_leaves_what_was_there(place, monkeypatch, fail_at):
    before = Frozen.load(place).digest

    def full(path, text):
        if path.name == fail_at:
            raise OSError(28, "No space left on device")
        write_atomic(path, text)

    monkeypatch.setattr(frozen_module, "write_atomic", full)
    with pytest.raises(DataError, match="a folder that can be written. The system says: .*No space left"):
        freeze({"d1": D1[1:]}, Validation(), place, force=True)
    assert Frozen.load(place).digest == before
    assert [path.name for path in place.parent.iterdir()] == ["data"]


def test_a_failed_exchange_puts_the_old_folder_back(place, monkeypatch):
    before, rename = Frozen.load(place).digest, Path.rename

    def failing(self, target):
        if Path(target) == place.resolve() and not self.name.endswith(".old"):
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(DataError, match="Input/output error"):
        freeze({"d1": D1[1:]}, Validation(), place, force=True)
    assert Frozen.load(place).digest == before
    assert [path.name for path in place.parent.iterdir()] == ["data"]


def test_unknown_sets_are_refused(tmp_path):
    with pytest.raises(DataError, match="got 'd4', expected names among d1, d2, d3"):
        freeze({"d4": D1}, Validation(), tmp_path / "data")
