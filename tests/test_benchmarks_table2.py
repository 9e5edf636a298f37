"""Table II from label files: the paper's numbers where its scales are known, and words where they are not."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a program of the checkout, which nobody installs

from benchmarks.artefacts.table2 import convert, make
from conftest import shared
from qsit_metric.evaluation import EvaluationError, Item
from qsit_metric.levels import LEVELS


def conversation(image, mos, word):
    said = [{"from": "human", "value": "<image>"}, {"from": "gpt", "value": f"The quality of the image is {word}."}]
    return {"id": f"{image}->{mos}", "image": image, "conversations": said}


def written(path, rows):
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


@pytest.fixture
def small(tmp_path):
    """SPAQ on 0..94 with one wrong word, split in two lists; KADID of three images."""
    words = [(2.0, "bad"), (37.6, "fair"), (50.0, "fair"), (93.0, "excellent"), (60.0, "fair")]
    rows = [conversation(f"spaq/{place}.jpg", mos, word) for place, (mos, word) in enumerate(words)]
    written(tmp_path / "train_spaq_qsit.json", rows[:3])
    written(tmp_path / "qalign_test_spaq.json", rows[3:])
    written(tmp_path / "kadid.json", [{"img_path": f"I01_01_0{n}.png", "gt_score": mos} for n, mos in enumerate("135")])
    return tmp_path


def by_set(table):
    return {row["set"]: row for row in table.rows}


# --- the real labels -------------------------------------------------------------------------------------------------


def test_the_papers_table_comes_out_where_the_scales_are_known():
    table = make(shared("labels"))
    found = by_set(table)
    shown = {name: (round(row["srcc"], 3), round(row["plcc"], 3), row["reproduced"]) for name, row in found.items()}
    assert shown["KonIQ"] == (0.952, 0.961, "yes")
    assert shown["SPAQ"] == (0.969, 0.968, "yes")
    assert shown["KADID"] == (0.979, 0.981, "within 0.001")
    assert shown["LIVEC"][2] == shown["AGIQA-3K"][2] == "no"
    assert (found["LIVEC"]["srcc (paper)"], found["AGIQA-3K"]["plcc (paper)"]) == (0.933, 0.955)
    assert any(note.startswith("LIVEC, AGIQA-3K: not reproducible.") for note in table.notes)


def test_every_published_level_follows_from_its_score():
    table = make(shared("labels"))
    assert sum(row["stated"] for row in table.rows) == 20177
    assert sum(row["differ"] for row in table.rows) == 0
    assert "0 of 20177 levels that the files state differ" in table.notes[0]


# --- miniatures ------------------------------------------------------------------------------------------------------


def test_levels_that_do_not_follow_are_counted(small):
    row = by_set(make(small))["SPAQ"]
    assert (row["n"], row["stated"], row["differ"]) == (5, 5, 1)  # 60 of 94 is good
    assert (row["low"], row["high"], row["ends"]) == (0.0, 94.0, "published labels")


def test_sets_without_a_label_file_keep_their_row(small):
    table = make(small)
    assert [row["set"] for row in table.rows] == ["KonIQ", "SPAQ", "LIVEC", "AGIQA-3K", "KADID"]
    empty = by_set(table)["KonIQ"]
    assert (empty["n"], empty["srcc"], empty["srcc (paper)"], empty["reproduced"]) == (None, None, 0.952, None)
    assert table.notes[-1] == "KonIQ, LIVEC, AGIQA-3K: no label file."
    assert table.made["labels"] == {
        "spaq": ["train_spaq_qsit.json", "qalign_test_spaq.json"], "kadid": ["kadid.json"],
    }  # fmt: skip


def test_a_list_that_lacks_its_other_half_is_not_read(small):
    (small / "qalign_test_spaq.json").unlink()
    assert by_set(make(small))["SPAQ"]["n"] is None


def test_the_sets_own_label_files_are_read_where_they_lie(tmp_path):
    folder = tmp_path / "KADID-10k"
    folder.mkdir()
    rows = [f"I01_01_0{n}.png,I01.png,{mos},0.5" for n, mos in enumerate((1.0, 2.0, 4.93))]
    (folder / "dmos.csv").write_text("\n".join(["dist_img,ref_img,dmos,var", *rows]), encoding="utf-8")
    row = by_set(make(tmp_path))["KADID"]
    assert (row["n"], row["low"], row["high"], row["ends"]) == (3, 1.0, 4.93, "smallest and largest score")


def test_a_folder_without_labels_is_refused(tmp_path):
    with pytest.raises(EvaluationError, match="`labels`: got .* expected a folder with label files"):
        make(tmp_path)
    written(tmp_path / "livec.json", [{"img_path": "a.bmp"}])
    with pytest.raises(EvaluationError, match="1 of 1 row cannot be used: row 0: no gt_score"):
        make(tmp_path)


def test_the_convention_decides_about_scores_on_an_edge():
    items = [Item(f"{mos}.jpg", mos, "", level=level) for mos, level in zip((0.5, 2, 2.5, 3.5, 5), LEVELS, strict=True)]
    assert convert(items, 0, 5, "authors").differ == 1  # 2 of 5 is fair
    assert convert(items, 0, 5, "eq1").differ == 0
    assert convert(items, 0, 5, "eq1").srcc == pytest.approx(1)
