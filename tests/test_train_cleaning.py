"""What training must not see is kept out: lists of every kind, names across folders, perceptual hashes."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from conftest import IMAGES, shared
from qsit_metric.errors import ImageError
from qsit_metric.evaluation import EvaluationError
from train.data.cleaning import Listed, Near, clean, clean_by_hash, images_in, perceptual_hash, removal_counts
from train.data.rows import EmptyFileError, Row
from train.errors import DataError


def rows(*images):
    return tuple(Row(str(place), image, (("Sharp?", "Yes."),)) for place, image in enumerate(images))


def left(cleaned, name="d2"):
    return [row.image for row in cleaned.sets[name]]


# --- by name ---------------------------------------------------------------------------------------------------------


def test_names_count_without_folder_and_case():
    """Q-Instruct's spaq_koniq/ and livefb_liveitw_aigc/ hold the images of koniq/, spaq/ and livec/."""
    d2 = rows("spaq_koniq/00001.JPG", "livefb_liveitw_aigc/1.bmp", "spaq_koniq/2.jpg", "coco/000000000001.jpg")
    lists = [Listed("spaq test", ("spaq/00001.jpg",)), Listed("livec", ("1.bmp", "t1.bmp"))]
    cleaned = clean({"d1": rows("koniq/2.jpg"), "d2": d2}, lists)
    assert left(cleaned) == ["spaq_koniq/2.jpg", "coco/000000000001.jpg"]
    assert left(cleaned, "d1") == ["koniq/2.jpg"]
    assert removal_counts(cleaned.removals, "d2") == {
        "removed": 2,
        "reasons": {"name: livec": 1, "name: spaq test": 1},
        "folders": {"livefb_liveitw_aigc/ = /": 1, "spaq_koniq/ = spaq/": 1},
    }
    first = cleaned.removals[0]
    assert (first.set, first.id, first.image, first.list, first.match) == ("d2", "0", "spaq_koniq/00001.JPG", "spaq test", "spaq/00001.jpg")  # fmt: skip


GROUPS = [["spaq_koniq", "KonIQ/", "spaq"], ["livec", "aigc"]]


@pytest.mark.parametrize(
    ("image", "listed", "same"),
    [
        ("spaq_koniq/1.jpg", "koniq/1.jpg", True),  # one group
        ("Spaq/1.jpg", "koniq/1.jpg", True),
        ("livec/1.jpg", "koniq/1.jpg", False),  # two groups
        ("coco/1.jpg", "koniq/1.jpg", False),  # one of them in no group
        ("coco/1.jpg", "kadid/1.jpg", False),
        ("coco/1.jpg", "coco/1.jpg", True),  # one folder
        ("1.jpg", "koniq/1.jpg", True),  # one side has no folder: better one row too few
        ("coco/1.jpg", "1.jpg", True),
    ],
)
def test_groups_narrow_what_counts_as_the_same(image, listed, same):
    assert (left(clean({"d2": rows(image)}, [Listed("test", (listed,))], GROUPS)) == []) is same
    assert left(clean({"d2": rows(image)}, [Listed("test", (listed,))])) == []


def test_a_list_can_say_in_which_folder_its_images_count_as_lying():
    lists = [Listed("test.csv", ("1.jpg",), prefix="livec")]
    cleaned = clean({"d2": rows("koniq/1.jpg", "aigc/1.jpg")}, lists, GROUPS)
    assert left(cleaned) == ["koniq/1.jpg"]
    assert cleaned.removals[0].match == "livec/1.jpg"


def test_a_folder_in_two_groups_is_refused():
    with pytest.raises(DataError, match="got 'B/', expected each folder in one group only"):
        clean({}, [], [["a", "b"], ["B/"]])


@given(st.lists(st.sampled_from("abcdefgh"), max_size=12), st.sets(st.sampled_from("abcdefgh")))
def test_every_row_is_kept_or_named(names, listed):
    found = rows(*(f"x/{name}.jpg" for name in names))
    cleaned = clean({"d1": found, "d2": found}, [Listed("t", tuple(f"y/{name}.JPG" for name in listed))])
    for name in ("d1", "d2"):
        gone = [removal.id for removal in cleaned.removals if removal.set == name]
        assert sorted([row.id for row in cleaned.sets[name]] + gone) == sorted(row.id for row in found)
        assert not {row.image[2] for row in cleaned.sets[name]} & listed


def test_published_lists_overlap_as_they_should():
    """Training and test lists of the authors share no image; Q-Bench's KonIQ list has all of KonIQ's."""
    labels = shared("labels")
    train = {"d1": rows(*images_in(labels / "train_koniq_qsit.json"), *images_in(labels / "train_spaq_qsit.json"))}
    tests = [Listed(name, images_in(labels / name)) for name in ("qalign_test_koniq.json", "qalign_test_spaq.json", "a3_livec.json", "a3_agi.json", "a3_kadid.json")]  # fmt: skip
    assert [len(one.images) for one in tests] == [2010, 2224, 1169, 2982, 10125]
    assert len(clean(train, tests).sets["d1"]) == 15_943
    whole = Listed("koniq", images_in(labels / "a3_koniq.json"))
    assert len(clean(train, [whole]).sets["d1"]) == 8_897


# --- by perceptual hash ----------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 2**64 - 1), max_size=30), st.integers(0, 63), st.data())
def test_the_index_finds_what_a_full_search_finds(codes, threshold, data):
    query = data.draw(st.integers(0, 2**64 - 1))
    if codes and data.draw(st.booleans()):
        query = codes[data.draw(st.integers(0, len(codes) - 1))]
        for bit in data.draw(st.lists(st.integers(0, 63), max_size=threshold + 2)):
            query ^= 1 << bit
    distances = [(code ^ query).bit_count() for code in codes]
    nearest = min(range(len(codes)), key=lambda place: (distances[place], place), default=None)
    expected = None if nearest is None or distances[nearest] > threshold else (nearest, distances[nearest])
    assert Near(codes, threshold).nearest(query) == expected


@pytest.fixture
def pictures(tmp_path):
    """A test image; in training a smaller JPEG of it under another name, and another picture."""
    (tmp_path / "test").mkdir()
    (tmp_path / "d2").mkdir()
    image = Image.open(IMAGES / "landscape_600x400.jpg").convert("RGB")
    image.save(tmp_path / "test" / "a.png")
    image.resize((300, 200)).save(tmp_path / "d2" / "copy.jpg", quality=70)
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "d2" / "other.png")
    return tmp_path


def test_a_resized_and_renamed_copy_is_found(pictures):
    sets = {"d2": rows("copy.jpg", "other.png"), "d3": ()}
    lists = [Listed("test", ("a.png",), pictures / "test", "t")]
    assert left(clean(sets, lists)) == ["copy.jpg", "other.png"]
    cache = {}
    cleaned = clean_by_hash(sets, lists, {"d2": pictures / "d2"}, cache=cache)
    assert left(cleaned) == ["other.png"]
    found = cleaned.removals[0]
    assert (found.reason, found.match, found.image) == ("phash", "t/a.png", "copy.jpg")
    assert 0 <= found.distance <= 4
    assert len(cache) == 3


def test_exif_rotation_is_ignored_as_training_ignores_it(tmp_path):
    image = Image.open(IMAGES / "landscape_600x400.jpg").convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "plain.png")
    image.save(tmp_path / "turned.png", exif=exif)
    assert perceptual_hash(tmp_path / "plain.png") == perceptual_hash(tmp_path / "turned.png")


def test_a_hash_pass_needs_folders_pictures_and_the_package(pictures, monkeypatch):
    sets, roots = {"d2": rows("copy.jpg")}, {"d2": pictures / "d2"}
    with pytest.raises(DataError, match="got <the list test>, expected an `images` folder for each list"):
        clean_by_hash(sets, [Listed("test", ("a.png",))], roots)
    with pytest.raises(DataError, match="got <the set d2>, expected an `images` folder"):
        clean_by_hash(sets, [Listed("test", ("a.png",), pictures / "test")], {})
    with pytest.raises(ImageError, match="gone.png"):
        clean_by_hash(sets, [Listed("test", ("gone.png",), pictures / "test")], roots)
    with pytest.raises(DataError, match=r"`phash.threshold`: got 64, expected a number of bits in 0..63"):
        clean_by_hash(sets, [], roots, 64)
    monkeypatch.setitem(sys.modules, "imagehash", None)
    with pytest.raises(DataError, match=r"pip install 'qsit-metric\[train\]'"):
        perceptual_hash(pictures / "test" / "a.png")


# --- lists -----------------------------------------------------------------------------------------------------------

QUESTION = {"img_path": "q.jpg", "question": "Sharp?", "candidates": ["Yes", "No"], "type": 0, "concern": 0}


@pytest.mark.parametrize(
    ("name", "text", "images"),
    [
        ("llava.json", json.dumps([{"image": "koniq/a.jpg"}, {"image": ["b.jpg"]}, {"image": "koniq/a.jpg"}]), ("koniq/a.jpg", "b.jpg")),
        ("rows.jsonl", '{"image": "a.jpg"}\n\n{"img_path": "b.jpg"}\n', ("a.jpg", "b.jpg")),
        ("paths.json", '["a.jpg", "x/b.png"]', ("a.jpg", "x/b.png")),
        ("llvisionqa_test.json", json.dumps([QUESTION]), ("q.jpg",)),  # its answers are withheld
        ("names.txt", "\ufeffa.jpg\n\n x/b.png \r\n", ("a.jpg", "x/b.png")),
        ("mos_with_names.txt", "5.51429 I01_01_1.bmp\n5.56757 i01_01_2.bmp\n", ("I01_01_1.bmp", "i01_01_2.bmp")),  # TID2013
        ("labels.csv", "image,mos\na.jpg,3\nb.jpg,4\n", ("a.jpg", "b.jpg")),
    ],
)  # fmt: skip
def test_every_kind_of_list_is_read(tmp_path, name, text, images):
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert images_in(tmp_path / name) == images


def test_a_folder_is_a_list_of_its_images(tmp_path):
    (tmp_path / "sub").mkdir()
    for name in ("b.JPG", "sub/a.png", "readme.txt"):
        (tmp_path / name).touch()
    assert images_in(tmp_path) == ("b.JPG", "sub/a.png")


@pytest.mark.parametrize(
    ("name", "text", "error", "message"),
    [
        ("a.json", '[{"image": "a.jpg"}, {"id": 1}, 3]', DataError, "2 of 3 elements name no image file: row 1 has None; row 2 has 3"),
        ("a.txt", "image\na.jpg\n", DataError, "1 of 2 elements name no image file: line 1 has 'image'"),
        ("a.txt", "/data/a.jpg\n", DataError, "cannot be kept out of training"),
        ("a.json", "", EmptyFileError, "not an empty file"),
        ("a.csv", "file,score\na.jpg,1\n", EvaluationError, "a label file in a known format"),
        ("a.csv", "image,mos\na.jpg,high\n", EvaluationError, "1 of 1 row cannot be used"),
    ],
)  # fmt: skip
def test_a_list_that_is_read_in_part_is_refused(tmp_path, name, text, error, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(error, match=message):
        images_in(tmp_path / name)


def test_a_list_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match="a readable list"):
        images_in(tmp_path / "gone.json")
    with pytest.raises(DataError, match="a folder with images"):
        images_in(tmp_path)
