"""LLDescribe: pictures of a folder, and golden texts of one's own."""

from __future__ import annotations

import json

import pytest

from miniature_sets import build
from qsit_metric.evaluation import EvaluationError, ToDescribe, read_lldescribe


def test_pictures_and_their_golden_texts(tmp_path):
    built = build(tmp_path, ["lldescribe"])["lldescribe"]
    (built.images / "._00000.jpg").write_bytes(b"left by an archive")
    (built.images / "notes.txt").write_text("no picture")
    assert [one.image for one in read_lldescribe(built.images)] == built.names
    assert {one.golden for one in read_lldescribe(built.images)} == {None}
    read = read_lldescribe(built.images, built.folder / "golden.json")
    assert {one.image: one.golden for one in read} == dict(built.golden)


def test_other_keys_and_pictures_without_a_text(tmp_path):
    built = build(tmp_path, ["lldescribe"], pictures=2)["lldescribe"]
    path = tmp_path / "mine.json"
    path.write_text(json.dumps([{"image": "00001.jpg", "description": "Dark.", "more": 1}]))
    assert read_lldescribe(built.images, path) == [ToDescribe("00000.jpg"), ToDescribe("00001.jpg", "Dark.")]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (7, "row 1: it is 7, expected an object"),
        ({"golden": "x"}, "row 1: `image`: got ''"),
        ({"img_path": "../a.jpg", "golden": "x"}, "row 1: `image`: got '../a.jpg'"),
        ({"img_path": "9.jpg", "golden": "x"}, "row 1: '9.jpg' is none of the pictures"),
        ({"img_path": "00001.jpg"}, "row 1: `golden`: got ''"),
        ({"img_path": "00001.jpg", "golden": 3}, "row 1: `golden`: got 3"),
        ({"img_path": "00000.jpg", "golden": "Other."}, "row 1: '00000.jpg' has two golden texts"),
    ],
)
def test_rows_that_cannot_be_used(tmp_path, row, reason):
    built = build(tmp_path, ["lldescribe"], pictures=2)["lldescribe"]
    path = tmp_path / "mine.json"
    path.write_text(json.dumps([{"img_path": "00000.jpg", "golden": "Dark."}, row]))
    with pytest.raises(EvaluationError, match=f"1 of 2 rows cannot be used: {reason}"):
        read_lldescribe(built.images, path)
    refused = []
    assert read_lldescribe(built.images, path, refused=refused)[0].golden == "Dark."
    assert refused[0].startswith(reason)


def test_folders_without_pictures(tmp_path):
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(EvaluationError, match="a folder with pictures. Get LLDescribe from huggingface"):
            read_lldescribe(folder)
