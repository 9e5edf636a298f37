"""Public sets as people unpack them: folders, official splits, what single files need. Miniatures, no real labels."""

from __future__ import annotations

import logging
import shutil

import numpy as np
import pytest
import scipy.io

import miniature_sets
from miniature_sets import build, paint, table, write
from qsit_metric.evaluation import EvaluationError, evaluate, read_iqa, read_scores


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return build(tmp_path_factory.mktemp("sets"), ["koniq", "spaq", "csiq", *miniature_sets.MORE])


def splits(manifest):
    return [item.split for item in manifest.items]


def test_koniqs_official_split_and_its_two_scales(built, tmp_path, caplog):
    manifest = read_iqa("koniq", built["koniq"].folder)
    assert splits(manifest) == ["train"] * 3 + ["val"] + ["test"] * 2
    assert manifest.scale == "MOS_zscore, 16.25..78.75"
    assert evaluate(lambda path: float(len(path)), manifest).as_dict()["labels"] == "MOS_zscore, 16.25..78.75"
    alone = shutil.copytree(built["koniq"].folder, tmp_path / "koniq")
    (alone / "koniq10k_scores_and_distributions.csv").unlink()
    with caplog.at_level(logging.WARNING, "qsit_metric"):
        sets = read_iqa("koniq", alone)
    assert (splits(sets), sets.subset("val").scale) == (splits(manifest), "MOS, 0.81..3.94")  # the miniature's raw MOS
    write(alone / "koniq10k_distributions_sets.csv", "image_name,MOS,set\n1000.jpg,50,training\n")
    shutil.copy(built["koniq"].folder / "koniq10k_scores_and_distributions.csv", alone)
    with pytest.raises(EvaluationError, match="got <5 images without a split, first 1001.jpg>"):
        read_iqa("koniq", alone)


def test_a_column_of_splits_wins_over_a_built_in_one(tmp_path):
    """A list of KADID-10k with 8100, 1012 and 1013 pictures in splits of its own."""
    rows = [("I01_01_01.png", "I01.png", 4, 0.5, "validation"), ("I66_01_01.png", "I66.png", 3, 0.5, "train")]
    path = write(tmp_path / "split_kadid10k.csv", table(["dist_img", "ref_img", "dmos", "var", "split"], rows))
    found = read_scores(path)
    assert (splits(found), [item.group for item in found.items]) == (["val", "train"], ["I01.png", "I66.png"])


@pytest.mark.parametrize(
    ("name", "moves"),
    [
        ("csiq", {"dst_imgs": "DST_IMGS", "DST_IMGS/awgn": "DST_IMGS/AWGN", "DST_IMGS/jpeg": "DST_IMGS/Jpeg", "DST_IMGS/blur": "DST_IMGS/BLUR"}),
        ("csiq", {"dst_imgs": "CSIQ/dst_imgs"}),
        ("koniq", {"1024x768": "512x384"}),
        ("koniq", {"1024x768": "koniq10k_1024x768/1024x768"}),
        ("spaq", {"TestImage": "Dataset/TestImage"}),
        ("spaq", {"TestImage": "SPAQ zip/testimage", "Annotations": "annotations"}),
        ("pipal", {"Train_Dist": "Train_dist"}),
    ],
)  # fmt: skip
def test_folders_as_people_have_them(built, tmp_path, name, moves):
    folder = shutil.copytree(built[name].folder, tmp_path / "set")
    for old, new in moves.items():
        (folder / new).parent.mkdir(parents=True, exist_ok=True)
        (folder / old).rename(folder / "moved")
        (folder / "moved").rename(folder / new)
    manifest = read_iqa(name, folder)
    assert manifest.missing() == []
    assert [item.mos for item in manifest.items] == [item.mos for item in read_iqa(name, built[name].folder).items]


def test_new_sets_have_their_facts(built):
    found = {name: read_iqa(name, built[name].folder, differences=[]) for name in miniature_sets.MORE}
    assert splits(found["flive"]) == ["train"] * 4 + ["val", "test"]
    assert splits(found["uhd-iqa"]) == ["train", "val", "test"] * 2
    assert splits(found["ava"]) == ["test"] + ["train"] * 5
    assert splits(found["piq23"]) == ["test"] + ["train"] * 5
    assert [item.group for item in found["piq23"].items[:2]] == ["Indoor_Scene_0", "Indoor_Scene_1"]
    assert [found["aigciqa2023"].items[place].group for place in (0, 3, 4, 400, 2399)] == ["prompt 0", "prompt 0", "prompt 1", "prompt 0", "prompt 99"]  # fmt: skip
    assert found["cid2013"].items[1].group == "IS2 C02"
    assert found["livemd"].scale == "100 - DMOSscores, 20..90"
    assert found["bid"].items[0].id == "0001"


def test_a_published_flaw_is_left_out_and_said(built, caplog):
    manifest = read_iqa("agiqa1k", built["agiqa1k"].folder)
    assert len(manifest) == 6
    assert "2 rows left out: row 8: 'dreamStudio_8_9_1_1.jpg' has the scores 0.4 and 2.1; row 9" in caplog.text
    refused = []
    read_iqa("agiqa1k", built["agiqa1k"].folder, refused=refused)
    assert len(refused) == 2
    with pytest.raises(EvaluationError, match="2 of 8 rows cannot be used"):
        read_scores(built["agiqa1k"].folder / "AIGC_MOS_Zscore.xlsx")


def test_pipal_in_its_forms(built, tmp_path):
    """A folder of files, one of them, IQA-PyTorch's csv."""
    folder = shutil.copytree(built["pipal"].folder / "Train_Label", tmp_path / "Train_Label")
    whole, one = read_scores(folder), read_scores(folder / "A0001.txt")
    assert (len(whole), len(one), whole.items[0].mos) == (6, 3, one.items[0].mos)
    rows = [("A0001.bmp", item.image, item.mos) for item in whole.items]
    path = write(tmp_path / "csv" / "meta_info_PIPALDataset.csv", table(["hq_name", "dist_name", "elo_score"], rows))
    listed = read_iqa("pipal", path.parent)
    assert [item.mos for item in listed.items] == [item.mos for item in whole.items]
    assert listed.items[0].group == "A0001.bmp"
    (tmp_path / "none").mkdir()
    with pytest.raises(EvaluationError, match="known format"):
        read_scores(tmp_path / "none")
    write(folder / "A0001.txt", "A0001_00_00.bmp,1400\nA0001_00_01.bmp,x\n")
    with pytest.raises(EvaluationError, match="cannot be used: A0001.txt, line 2: 'A0001_00_01.bmp,x' is no score"):
        read_scores(folder)


@pytest.mark.parametrize(
    ("name", "file", "content", "message"),
    [
        ("mdid", "mos.txt", "1\n2\n", "got <2 entries>, expected 1600 entries of scores"),
        ("ava", "AVA.txt", "1 7 0 0 0 0 0 0 0 0 0 0 1 2 3\n", "has no ten counts of votes"),
        ("ava", "AVA.txt", "1 7 1 2\n", "has no ten counts of votes"),
        ("piq23", "Scores_Overall.csv", "IMAGE PATH,JOD\nOverall\\a.jpg,\n", "line 2: `JOD`: got ''"),
        ("uhd-iqa", "uhd-iqa-metadata.csv", "image_name,mos\na.jpg,1\n", "columns quality_mos. It has image_name, mos"),
        ("bid", "DatabaseGrades.xls", "nothing", "columns Image Number, Average Subjective Grade. It has nothing"),
        ("gfiqa", "mos_val_rating.csv", "img_name,score\na.png,1\n", "a table with the columns mos"),
    ],
)
def test_files_that_cannot_be_read(tmp_path, name, file, content, message):
    write(tmp_path / file, content)
    with pytest.raises(EvaluationError, match=message):
        read_iqa(name, tmp_path)


def test_a_foreign_matlab_file_says_what_it_contains(tmp_path):
    scipy.io.savemat(tmp_path / "mosz1.mat", {"MOSz": np.zeros((3, 1)), "note": "x"})
    with pytest.raises(EvaluationError, match="got <3 entries>, expected 2400 entries of MOSz"):
        read_iqa("aigciqa2023", tmp_path)
    scipy.io.savemat(tmp_path / "dmos_realigned.mat", {"subjective": np.zeros((2, 5))})
    with pytest.raises(EvaluationError, match=r"the variable dmos_new. It has subjective \(2 x 5\)"):
        read_iqa("live", tmp_path)


def test_a_name_that_fits_two_folders_is_refused(built, tmp_path):
    folder = shutil.copytree(built["pipal"].folder, tmp_path / "set")
    name = next((folder / "Train_Dist" / "Distortion_2").iterdir()).name
    paint(folder / "Train_Dist", [f"Distortion_1/{name}"])
    with pytest.raises(EvaluationError, match=f"one file, not Distortion_1/{name}, Distortion_2/{name}"):
        read_iqa("pipal", folder)
