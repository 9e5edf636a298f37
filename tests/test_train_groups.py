"""What names a picture when training data is cleaned, and what is held out together."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
import scipy.io

from qsit_metric.levels import LEVELS
from qsit_metric.prompts import TRAIN
from train.data.cleaning import Listed, clean
from train.data.freeze import build
from train.data.recipe import DataRecipe, Exclude, ScoringSource, ValidationSource
from train.data.rows import Row
from train.data.scoring import Scale, group_of, hold_out, level_in, read_d1, versions_by_name
from train.errors import DataError

LIVE_FOLDERS = (("jp2k", 227), ("jpeg", 233), ("wn", 174), ("gblur", 174), ("fastfading", 174))


def row(image, level="good", source="own", group=""):
    return Row(image, image, ((TRAIN.question, f"The quality of the image is {level}."),), source, group=group)


def left(cleaned, name="d1"):
    return [one.image for one in cleaned.sets[name]]


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    """LIVE's label files: 982 pictures of 29 references, of which every folder has an img1.bmp."""
    folder = tmp_path_factory.mktemp("live")
    names = np.empty((1, 982), dtype=object)
    names[0, :] = [f"ref{place % 29}.bmp" for place in range(982)]
    fields = {"dmos_new": np.linspace(0, 99, 982)[None], "orgs": np.zeros((1, 982), np.uint8)}
    scipy.io.savemat(folder / "dmos_realigned.mat", fields)
    scipy.io.savemat(folder / "refnames_all.mat", {"refnames_all": names})
    return folder


def test_no_picture_of_live_is_taken_for_another(live):
    recipe = DataRecipe(d1=(ScoringSource(set="live", folder=str(live)),))
    data = build(recipe, live, check_images=False)
    train, held = data.sets["d1"], data.validation.scoring
    assert len(train) + len(held) == 982
    assert data.removed == ()
    assert not {one.group for one in train} & {one.group for one in held}
    assert 60 < len(held) < 140
    assert data.report["validation"]["groups"] == len({one.group for one in held})


def test_live_is_kept_out_of_itself_and_of_nothing_else(live, tmp_path):
    """Its own set is excluded by path; another public set shares no picture, whatever the names are."""
    (tmp_path / "dmos.csv").write_text(
        "dist_img,ref_img,dmos,var\njp2k/img1.bmp,I01.png,3,1\njp2k/img2.bmp,I02.png,4,1\n"
    )
    sources = (ScoringSource(set="kadid", folder=str(tmp_path)), ScoringSource(set="live", folder=str(live)))
    recipe = DataRecipe(d1=sources, exclude=(Exclude(set="live", folder=str(live)),), validation=ValidationSource(fraction=0.5))  # fmt: skip
    data = build(recipe, tmp_path, check_images=False)
    assert {one.source for one in (*data.sets["d1"], *data.validation.scoring)} == {"kadid"}
    assert Counter(one["reason"] for one in data.removed) == {"name": 982}


def test_an_ambiguous_name_is_told_by_more_of_the_path():
    """Bare names where they are one picture's, as published; else longer ends; else better one row too few."""
    names = ("q/jp2k/img1.bmp", "q/jpeg/img1.bmp", "q/jpeg/img2.bmp", "b/7.png", "c/7.png")
    lists = [Listed("test", ("live/jp2k/img1.bmp", "IMG2.bmp", "x/7.png"))]
    assert left(clean({"d1": [row(name) for name in names]}, lists)) == ["q/jpeg/img1.bmp"]


def test_contents_decide_where_names_cannot(tmp_path):
    for name, content in {"d/b/7.png": b"1", "d/c/7.png": b"2", "t/x/7.png": b"1"}.items():
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(content)
    rows, lists = [row("b/7.png"), row("c/7.png")], [Listed("test", ("x/7.png",), tmp_path / "t")]
    assert left(clean({"d1": rows}, lists, roots={"d1": tmp_path / "d"})) == ["c/7.png"]
    assert left(clean({"d1": rows}, lists)) == []


@pytest.mark.parametrize(
    "name",
    ["I{ref:02}_{kind:02}_{level:02}.png", "i{ref:02}_{kind:02}_{level}.bmp", "ref{ref}.AWGN.{level}.png", "A{ref:04}_{kind:02}_{level:02}.bmp"],
)  # fmt: skip
def test_versions_of_a_reference_stay_together(name):
    """By the names of KADID-10k, TID2013, CSIQ and PIPAL, without a column of references."""
    kinds = 1 if "AWGN" in name else 4
    rows = [
        row(f"images/{name.format(ref=ref, kind=kind, level=level)}", LEVELS[5 - level])
        for ref in range(1, 41) for kind in range(1, kinds + 1) for level in range(1, 6)
    ]  # fmt: skip
    split = hold_out(rows, 0.1, seed=3)
    assert len(split.validation) == len(rows) // 10
    assert Counter(map(level_in, split.validation)) == dict.fromkeys(LEVELS, len(rows) // 50)
    assert not {group_of(one) for one in split.train} & {group_of(one) for one in split.validation}
    again = hold_out(rows[::-1], 0.1, seed=3)
    assert {one.id for one in again.validation} == {one.id for one in split.validation}
    assert {one.id for one in hold_out(rows, 0.1, seed=4).validation} != {one.id for one in split.validation}


def test_a_column_of_groups_is_kept_together(tmp_path, caplog):
    lines = [f"{place}.jpg;{1 + place % 5};burst{place // 4}" for place in range(80)]
    (tmp_path / "own.csv").write_text("image;mos;group\n" + "\n".join(lines) + "\n")
    source = ScoringSource(file="own.csv", reader="auto", scale=(1, 5, "eq1"))
    data = build(DataRecipe(d1=(source,)), tmp_path, check_images=False)
    assert len(data.validation.scoring) == 8
    assert not {one.group for one in data.sets["d1"]} & {one.group for one in data.validation.scoring}
    assert "versions" not in caplog.text


def test_a_label_file_with_its_own_columns(tmp_path):
    (tmp_path / "own.csv").write_text("pic\trank\tref\n" + "".join(f"{n}.jpg\t{n % 5}\tr{n // 4}\n" for n in range(40)))
    columns = {"image": "pic", "mos": "rank", "group": "ref"}
    source = ScoringSource(file="own.csv", reader="auto", scale=(-5, 0, "eq1"), columns=columns, lower_is_better=True)
    data = build(DataRecipe(d1=(source,)), tmp_path, check_images=False)
    assert {one.id: level_in(one) for one in data.sets["d1"]}["0.jpg->0.0"] == "excellent"
    with pytest.raises(ValueError, match="go with a label file"):
        ScoringSource(file="own.json", columns=columns)


def test_lists_with_levels_of_upside_down_scores_are_refused(tmp_path):
    """Q-Align's ft/csiq calls untouched pictures bad."""
    listed = [
        {
            "id": f"a.AWGN.{level}.png->{level / 5}",
            "image": f"csiq/a.AWGN.{level}.png",
            "conversations": [
                {"from": "human", "value": "<image>\nRate it."},
                {"from": "gpt", "value": f"The quality of the image is {LEVELS[level - 1]}."},
            ],
        }
        for level in (1, 3, 5)
    ]
    (tmp_path / "csiq.json").write_text(json.dumps(listed))
    with pytest.raises(DataError, match="rise with quality; of CSIQ it has the DMOS.* Read it with `reader: auto`"):
        read_d1(tmp_path / "csiq.json", Scale(0, 1))
    source = ScoringSource(file="csiq.json", reader="auto", scale=(0, 1, "eq1"))
    data = build(DataRecipe(d1=(source,), validation=ValidationSource(fraction=0.4)), tmp_path, check_images=False)
    found = [*data.sets["d1"], *data.validation.scoring]
    assert {one.image[-5]: level_in(one) for one in found} == {"1": "good", "3": "poor", "5": "bad"}


def test_names_that_look_like_versions_are_said(tmp_path, caplog):
    lines = [f"{name}_blur{level},{6 - level}" for name in ("cat", "dog", "car", "sea") for level in range(1, 6)]
    (tmp_path / "own.csv").write_text("image,mos\n" + "\n".join(lines).replace(",", ".png,") + "\n")
    source = ScoringSource(file="own.csv", reader="auto", scale=(1, 5, "eq1"))
    data = build(DataRecipe(d1=(source,)), tmp_path, check_images=False)
    assert "own: 20 of 20 names are versions of 4, such as 'cat_blur1.png' and 'cat_blur2.png'. Valid" in caplog.text
    assert data.report["validation"]["versions"] == [
        "own: 20 of 20 names are versions of 4, such as 'cat_blur1.png' and 'cat_blur2.png'"
    ]


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["clip1_frame001.png", "clip1_frame002.png", "clip2_frame001.png", "clip2_frame002.png"], "4 of 4"),
        (["a/1.png", "b/1.png", "a/2.png", "b/2.png"], "4 of 4"),
        (["IMG_0001.JPG", "IMG_0002.JPG", "DSC_0001.JPG", "DSC_0002.JPG"], ""),
        (["10004473376.jpg", "10007357496.jpg", "10009096245.jpg"], ""),
        (["cat.png", "dog.png", "cat (1).png", "sea.png", "car.png"], ""),
    ],
)
def test_which_names_look_like_versions(names, found):
    assert versions_by_name(row(name) for name in names).startswith(found)
    assert bool(versions_by_name(row(name) for name in names)) is bool(found)


def test_one_group_alone_is_said(caplog):
    split = hold_out([row(f"{place}.png", group="scene") for place in range(20)], 0.1)
    assert len(split.validation) == 2
    assert "own: all rows are of one group, 'scene'" in caplog.text
