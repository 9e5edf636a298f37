"""The manifest: what it takes and refuses, its file, its hash."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import shared
from qsit_metric import QSiTError, files
from qsit_metric.evaluation import EvaluationError, Item, Manifest
from qsit_metric.levels import LEVELS

A, B = Item("a.jpg", 3, "a"), Item("sub/b.jpg", 4.5, "b", "test", "good")


def write(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def test_an_item_has_a_float_and_is_frozen():
    assert isinstance(A.mos, float)
    with pytest.raises(AttributeError):
        A.mos = 4


@pytest.mark.parametrize(
    "image",
    ["", " ", None, 7, "/abs/a.jpg", "C:/a.jpg", "c:a.jpg", "sub\\a.jpg", "../a.jpg", "sub/../../a.jpg", "a\0.jpg"],
)
def test_paths_that_are_not_below_the_root_are_refused(image):
    with pytest.raises(EvaluationError, match=r"`image`: got .* below the image folder"):
        Item(image, 3, "a")


@pytest.mark.parametrize(
    "mos", [float("nan"), float("inf"), "-inf", "nan", "", "three", None, True, "1_0", [3], 10**400]
)
def test_scores_that_are_no_finite_numbers_are_refused(mos):
    with pytest.raises(EvaluationError, match="`mos`: got .* a finite number"):
        Item("a.jpg", mos, "a")


def test_other_fields_are_checked():
    with pytest.raises(EvaluationError, match="`level`: got 'superb', expected one of bad, poor"):
        Item("a.jpg", 3, "a", level="superb")
    with pytest.raises(EvaluationError, match="`id`: got 7"):
        Item("a.jpg", 3, 7)
    with pytest.raises(EvaluationError, match="`split`: got None"):
        Item("a.jpg", 3, "a", split=None)


def test_errors_are_ours_and_value_errors():
    assert issubclass(EvaluationError, QSiTError)
    assert issubclass(EvaluationError, ValueError)


def test_a_manifest_knows_paths_splits_and_what_is_missing(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.jpg").write_bytes(b"")
    manifest = Manifest("mine", [A, B, A], tmp_path)
    assert len(manifest) == 3
    assert manifest.path(B) == tmp_path / "sub" / "b.jpg"
    assert manifest.missing() == ["a.jpg"]
    assert manifest.subset("test").items == (B,)
    assert manifest.subset("test").name == "mine-test"
    with pytest.raises(EvaluationError, match="`split`: got 'val', expected one of '', 'test'"):
        manifest.subset("val")
    assert manifest.at("elsewhere").path(A) == Path("elsewhere/a.jpg")
    assert pickle.loads(pickle.dumps(manifest)) == manifest


def test_an_empty_manifest_is_refused():
    with pytest.raises(EvaluationError, match="<no items>"):
        Manifest("mine", [], ".")


def test_an_image_with_two_scores_is_refused_and_one_that_stands_twice_is_not():
    assert len(Manifest("mine", [A, A], ".")) == 2
    with pytest.raises(
        EvaluationError, match=r"`mine`: 1 of 2 images cannot be used: 'a.jpg' has the scores 3.0 and 4.0"
    ):
        Manifest("mine", [A, B, Item("a.jpg", 4, "a2")], ".")


def test_the_hash_is_that_of_the_file_and_knows_neither_root_nor_name(tmp_path):
    manifest = Manifest("mine", [A, B], "x")
    manifest.save(tmp_path / "m.json")
    assert hashlib.sha256((tmp_path / "m.json").read_bytes()).hexdigest() == manifest.sha256
    assert Manifest("yours", [A, B], "y").sha256 == manifest.sha256
    assert Manifest("mine", [A, B], "y") == manifest
    others = [
        [B, A],
        [A],
        [A, Item("sub/b.jpg", 4.5, "b", "test")],
        [A, Item("sub/b.jpg", 4.50001, "b", "test", "good")],
    ]
    assert len({Manifest("mine", items, "x").sha256 for items in others} | {manifest.sha256}) == 5
    # Written once, on 2026-11-23: a change of the format would orphan every frozen manifest.
    assert manifest.sha256 == "15d707094ae58f78f384f20e252b0c31c3218348edc4c0070a924572e7e9c664"


@given(
    st.lists(
        st.builds(
            Item,
            st.from_regex(r"[a-zäöü0-9 _-]{1,8}/[a-z0-9]{1,8}\.(jpg|png)", fullmatch=True).filter(lambda s: s.strip()),
            st.floats(allow_nan=False, allow_infinity=False),
            st.text(max_size=9),
            st.sampled_from(["", "train", "test"]),
            st.sampled_from([None, *LEVELS]),
        ),
        min_size=1,
        max_size=6,
        unique_by=lambda item: item.image,
    )
)
def test_saving_and_loading_gives_the_same(tmp_path_factory, items):
    folder = tmp_path_factory.mktemp("m")
    manifest = Manifest("m", items, folder)
    manifest.save(folder / "m.json")
    assert Manifest.load(folder / "m.json") == manifest
    assert Manifest.load(folder / "m.json").sha256 == manifest.sha256


def test_a_file_of_qbench_loads(tmp_path):
    path = write(
        tmp_path / "a3_x.json",
        [{"img_path": "a.jpg", "gt_score": "3.83"}, {"img_path": "b.jpg", "gt_score": 4, "extra": 1}],
    )
    manifest = Manifest.load(path)
    assert manifest.items == (Item("a.jpg", 3.83, "a.jpg"), Item("b.jpg", 4, "b.jpg"))
    assert (manifest.name, manifest.root) == ("a3_x", tmp_path)
    assert Manifest.load(path, root="images", name="x").path(manifest.items[0]) == Path("images/a.jpg")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "at least one element"),
        ({}, "a JSON list"),
        ([{"img_path": "a.jpg"}], "1 of 1 row cannot be used: row 0: no gt_score. Repair it"),
        ([{"gt_score": 1}], "row 0: no img_path"),
        ([{}], "row 0: no img_path and no gt_score"),
        ([7], "row 0: it is 7, expected an object"),
        ([{"img_path": "a.jpg", "gt_score": "NaN"}], "row 0: `gt_score`: got 'NaN'"),
        ([{"img_path": "a.jpg", "gt_score": 1}, {"img_path": "a.jpg", "gt_score": 2}], r"m.json`: 2 of 2 rows cannot be used: row 0: 'a.jpg' has the scores 1.0 and 2.0; row 1: 'a.jpg'"),
        ([{"img_path": "/a.jpg", "gt_score": 1}], "row 0: `img_path`: got '/a.jpg'"),
        ([{"img_path": "a.jpg", "gt_score": 1}, *[{"img_path": "b.jpg"}] * 7], "7 of 8 rows cannot be used: row 1: .*; row 5: no gt_score; ..."),
    ],
)  # fmt: skip
def test_files_with_bad_rows_are_refused_with_their_numbers(tmp_path, content, message):
    with pytest.raises(EvaluationError, match=message):
        Manifest.load(write(tmp_path / "m.json", content))


def test_files_that_are_no_json_are_refused(tmp_path):
    with pytest.raises(EvaluationError, match="No such file"):
        Manifest.load(tmp_path / "none.json")
    (tmp_path / "m.json").write_text("[{")
    with pytest.raises(EvaluationError, match="a JSON list"):
        Manifest.load(tmp_path / "m.json")
    (tmp_path / "m.json").write_bytes(b"\xff\xfe[")
    with pytest.raises(EvaluationError, match="UTF-8"):
        Manifest.load(tmp_path / "m.json")


def test_a_full_disk_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "m.json"
    Manifest("mine", [A], ".").save(path)
    before = path.read_bytes()

    def full(_descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(EvaluationError, match=r"`path`: .*m.json.* No space left on device"):
        Manifest("mine", [A, B], ".").save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(EvaluationError, match="No such file or directory"):
        Manifest("mine", [A], ".").save(tmp_path / "no" / "m.json")


@pytest.mark.parametrize(
    ("name", "count", "low", "high"),
    [("koniq", 10073, 1.10, 4.31), ("spaq", 11125, 2.0, 96.0), ("livec", 1169, 3.42, 92.4319526627219), ("agi", 2982, 0, 4.488740784), ("kadid", 10125, 1.0, 4.93)],
)  # fmt: skip
def test_the_published_lists_load_whole(name, count, low, high):
    """Counts and ranges of Q-Bench's a3_iqa_databases/jsons at f19783e."""
    manifest = Manifest.load(shared("labels") / f"a3_{name}.json")
    scores = [item.mos for item in manifest.items]
    assert (len(manifest), min(scores), max(scores)) == (count, low, high)
