"""Label files in the layouts of their publishers, and the published lists themselves."""

from __future__ import annotations

import builtins
import json
import logging
from collections import Counter

import numpy as np
import openpyxl
import pytest
import scipy.io
from hypothesis import given
from hypothesis import strategies as st

import miniature_sets
from conftest import shared
from qsit_metric.errors import DependencyError
from qsit_metric.evaluation import FORMATS, IQA_SETS, EvaluationError, Item, Manifest, read_iqa, read_scores
from qsit_metric.levels import LEVELS, level_of

SAID = "Assume you are an image quality evaluator."


def koniq(folder):
    (folder / "1024x768").mkdir(parents=True)
    (folder / "1024x768" / "1.jpg").write_bytes(b"")
    text = (
        '"image_name","c1","c_total","MOS","SD","MOS_zscore"\n"1.jpg",0,105,3.9,0.5,77.38\n"2.jpg",2,110,2.5,0.6,31.5\n'
    )
    (folder / "koniq10k_scores_and_distributions.csv").write_text(text)


def spaq(folder):
    (folder / "Annotations").mkdir(parents=True)
    book = openpyxl.Workbook()
    book.active.append(["Image name", "MOS", "Brightness", "Colorfulness", "Contrast", "Noisiness", "Sharpness"])
    book.active.append(["00001.jpg", 48.86, 1, 2, 3, 4, 5])
    book.active.append(["00002.jpg", 62, 1, 2, 3, 4, 5])
    book.active.append([None] * 7)
    book.save(folder / "Annotations" / "MOS and Image attribute scores.xlsx")


def livec(
    folder, names=("t1.bmp", "t2.bmp", "t3.bmp", "t4.bmp", "t5.bmp", "t6.bmp", "t7.bmp", "3.bmp", "4.bmp"), scores=9
):
    (folder / "Data").mkdir(parents=True)
    (folder / "Images" / "trainingImages").mkdir(parents=True)
    (folder / "Images" / "trainingImages" / "t1.bmp").write_bytes(b"")
    (folder / "Images" / "3.bmp").write_bytes(b"")
    cells = np.empty((len(names), 1), dtype=object)
    cells[:, 0] = names
    scipy.io.savemat(folder / "Data" / "AllImages_release.mat", {"AllImages_release": cells})
    scipy.io.savemat(folder / "Data" / "AllMOS_release.mat", {"AllMOS_release": np.linspace(10, 90, scores)[None]})


def agiqa(folder):
    folder.mkdir(parents=True)
    text = "name,prompt,adj1,adj2,style,mos_quality,std_quality,mos_align,std_align\n"
    text += 'a_000.jpg,"a cat, sitting",x,y,z,0.965602553,0.1,4.5,0.2\nb_001.jpg,dog,x,y,z,1.36,0.1,4.4,0.2\n'
    (folder / "data.csv").write_text(text)


def kadid(folder):
    folder.mkdir(parents=True)
    text = "dist_img,ref_img,dmos,var\nI01_01_01.png,I01.png,4.57,0.5\nI65_01_01.png,I65.png,3.1,0.5\n"
    text += "I66_01_01.png,I66.png,2.67,0.5\nI81_25_05.png,I81.png,1.1,0.5\n"
    (folder / "dmos.csv").write_text(text)


def tid2013(folder):
    (folder / "distorted_images").mkdir(parents=True)
    (folder / "distorted_images" / "i01_01_1.bmp").write_bytes(b"")
    (folder / "distorted_images" / "I25_24_5.BMP").write_bytes(b"")
    (folder / "mos_with_names.txt").write_text("5.51429 I01_01_1.bmp\r\n3.02857 i25_24_5.bmp\r\n\r\n")


def csiq(folder):
    """Values are those of the published set."""
    (folder / "dst_imgs" / "awgn").mkdir(parents=True)
    (folder / "dst_imgs" / "awgn" / "1600.AWGN.1.png").write_bytes(b"")
    book = openpyxl.Workbook()
    book.active.append(["image", "dst_type", "dst_lev", "dmos"])  # another sheet, which is not read
    sheet = book.create_sheet("all_by_image")
    head = [None] * 3 + ["image", "dst_idx", "dst_type", "dst_lev", "dmos_std", "dmos"]
    rows = [
        [None] * 3 + [1600, 1, "noise", 1, 0.061, 0.062],
        [None] * 3 + ["aerial_city", 3, "jpeg 2000", 5, 0.1, 0.956],
    ]
    for row in ([], ["CSIQ"], [], head, *rows, [None] * 9):
        sheet.append(row)
    book.save(folder / "csiq.DMOS.xlsx")


def live(folder, scores=982, order=("orgs", "dmos_std", "dmos_new")):
    folder.mkdir(parents=True)
    dmos = np.zeros((1, scores))
    dmos[0, [1, 227, 460, 981]] = [28.00384536, 55.67451331, 111.5, -2.5]
    fields = {"orgs": (dmos == 0).astype(np.uint8), "dmos_std": dmos, "dmos_new": dmos}
    scipy.io.savemat(folder / "dmos_realigned.mat", {name: fields[name] for name in order}, do_compression=True)


LIVE = [
    (f"{below}/img{place}.bmp", 100.0, "reference")
    for below, count in (("jp2k", 227), ("jpeg", 233), ("wn", 174), ("gblur", 174), ("fastfading", 174))
    for place in range(1, count + 1)
]
LIVE[1] = ("jp2k/img2.bmp", 100 - 28.00384536, "test")
LIVE[227] = ("jpeg/img1.bmp", 100 - 55.67451331, "test")
LIVE[460] = ("wn/img1.bmp", -11.5, "test")
LIVE[981] = ("fastfading/img174.bmp", 102.5, "test")


# name -> writer, label file, root below the folder, (image, MOS, split) of the rows
LAYOUTS = {
    "koniq": (koniq, "koniq10k_scores_and_distributions.csv", "1024x768", [("1.jpg", 77.38, ""), ("2.jpg", 31.5, "")]),
    "spaq": (spaq, "Annotations/MOS and Image attribute scores.xlsx", "TestImage", [("00001.jpg", 48.86, ""), ("00002.jpg", 62.0, "")]),
    "livec": (livec, "Data/AllMOS_release.mat", "Images", [
        ("trainingImages/t1.bmp", 10.0, "training"), *[(f"t{i}.bmp", 10.0 * i, "training") for i in range(2, 8)],
        ("3.bmp", 80.0, "test"), ("4.bmp", 90.0, "test")]),
    "agiqa": (agiqa, "data.csv", ".", [("a_000.jpg", 0.965602553, ""), ("b_001.jpg", 1.36, "")]),
    "kadid": (kadid, "dmos.csv", "images", [
        ("I01_01_01.png", 4.57, "train"), ("I65_01_01.png", 3.1, "train"), ("I66_01_01.png", 2.67, "test"), ("I81_25_05.png", 1.1, "test")]),
    "csiq": (csiq, "csiq.DMOS.xlsx", "dst_imgs", [("awgn/1600.AWGN.1.png", 1 - 0.062, ""), ("aerial_city.jpeg2000.5.png", 1 - 0.956, "")]),
    "live": (live, "dmos_realigned.mat", ".", LIVE),
    "tid2013": (tid2013, "mos_with_names.txt", "distorted_images", [("i01_01_1.bmp", 5.51429, ""), ("I25_24_5.BMP", 3.02857, "")]),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYOUTS)
def test_official_layouts(name, tmp_path, caplog):
    build, label, root, rows = LAYOUTS[name]
    build(tmp_path / "set")
    with caplog.at_level(logging.WARNING, "qsit_metric"):
        manifest = read_iqa(name, tmp_path / "set")
    assert [(item.image, item.mos, item.split) for item in manifest.items] == rows
    assert manifest.root == tmp_path / "set" / root
    assert manifest.name == name
    if name != "live":  # which is refused where its number differs
        assert f"{len(rows)} images, published are {IQA_SETS[name].n}" in caplog.text
    # One file, its format told by its content, whatever it is called (the .mat names its neighbour).
    alone = tmp_path / "set" / label
    renamed = alone if name == "livec" else alone.rename(tmp_path / "labels")
    assert [(item.id, item.mos) for item in read_scores(renamed).items] == [
        (item.id, item.mos) for item in manifest.items
    ]


def test_the_registry_covers_the_layouts_and_names_known_formats():
    assert set(IQA_SETS) == {*LAYOUTS, *miniature_sets.MORE}
    for record in IQA_SETS.values():
        assert record.reader in FORMATS
        assert record.scale[0] < record.scale[1]


def test_livec_without_the_images_that_taught_the_raters(tmp_path):
    livec(tmp_path / "set")
    assert [item.image for item in read_iqa("livec", tmp_path / "set").subset("test").items] == ["3.bmp", "4.bmp"]


def test_livec_keeps_ids_as_they_are_labelled(tmp_path):
    livec(tmp_path / "set")
    item = read_iqa("livec", tmp_path / "set").items[0]
    assert (item.id, item.image) == ("t1.bmp", "trainingImages/t1.bmp")


def test_tid_names_that_fit_two_files_are_refused(tmp_path):
    tid2013(tmp_path / "set")
    (tmp_path / "set" / "distorted_images" / "I25_24_5.bmp").write_bytes(b"")
    with pytest.raises(
        EvaluationError, match="`image`: got 'i25_24_5.bmp', expected one file, not I25_24_5.BMP, I25_24_5.bmp"
    ):
        read_iqa("tid2013", tmp_path / "set")


def test_warnings_name_scores_outside_the_scale_and_absent_images(tmp_path, caplog):
    kadid(tmp_path / "set")
    with (tmp_path / "set" / "dmos.csv").open("a") as file:
        file.write("I02_01_01.png,I02.png,45.7,0.5\n")
    read_iqa("kadid", tmp_path / "set")
    assert "1 score outside 1..5, first I02_01_01.png 45.7" in caplog.text
    assert "5 images are not in" in caplog.text


def test_a_whole_set_warns_of_nothing(tmp_path, caplog, monkeypatch):
    kadid(tmp_path / "set")
    (tmp_path / "set" / "images").mkdir()
    names = [
        f"I{ref:02}_{kind:02}_{level:02}.png" for ref in range(1, 82) for kind in range(1, 26) for level in range(1, 6)
    ]
    text = "".join(f"{name},{name[:3]}.png,3.0,0.5\n" for name in names)
    (tmp_path / "set" / "dmos.csv").write_text(f"dist_img,ref_img,dmos,var\n{text}")
    monkeypatch.setattr(Manifest, "missing", lambda _self: [])
    manifest = read_iqa("kadid", tmp_path / "set")
    assert caplog.text == ""
    assert (len(manifest), len(manifest.subset("test")), len(manifest.subset("train"))) == (10125, 2000, 8125)


def test_sets_and_folders_that_are_not_there(tmp_path):
    with pytest.raises(EvaluationError, match="`name`: got 'kadid10k', expected one of koniq, .* Did you mean 'kadid'"):
        read_iqa("kadid10k", tmp_path)
    with pytest.raises(EvaluationError, match=r"`folder`: got .* expected a folder with dmos.csv. Get KADID-10k from"):
        read_iqa("kadid", tmp_path)


@pytest.mark.parametrize("name", IQA_SETS)
def test_miniatures_are_read_as_they_were_written(name, tmp_path):
    built = miniature_sets.build(tmp_path, [name])[name]
    manifest = read_iqa(name, built.folder)
    manifest = manifest.subset("test") if name == "live" else manifest
    assert {item.image: item.mos for item in manifest.items} == pytest.approx(dict(built.mos))
    assert manifest.root == built.images
    assert len(manifest.missing()) == max(0, len(manifest) - 6 if len(manifest) > 1000 else 0)


def test_live_is_told_whatever_variable_comes_first(tmp_path):
    for place, order in enumerate((("dmos_new", "orgs"), ("orgs", "dmos_new"), ("dmos_std", "dmos_new", "orgs"))):
        live(tmp_path / str(place), order=order)
        assert read_scores(tmp_path / str(place) / "dmos_realigned.mat").items[1].image == "jp2k/img2.bmp"


def test_live_of_another_length_is_refused(tmp_path):
    """An image's name is its place in the list, so a missing entry would shift all names behind it."""
    live(tmp_path / "short")
    scipy.io.savemat(tmp_path / "short" / "refnames_all.mat", {"refnames_all": np.zeros((1, 981))})
    with pytest.raises(EvaluationError, match="got <981 entries>, expected 982 entries of refnames_all"):
        read_iqa("live", tmp_path / "short")
    scipy.io.savemat(tmp_path / "dmos_realigned.mat", {"dmos_new": np.zeros((1, 981)), "orgs": np.zeros((1, 981))})
    with pytest.raises(EvaluationError, match="got <981 and 981 entries>, expected 982 entries of dmos_new and orgs"):
        read_iqa("live", tmp_path)


def test_a_live_score_that_is_no_number_is_named(tmp_path):
    live(tmp_path / "set")
    content = scipy.io.loadmat(tmp_path / "set" / "dmos_realigned.mat")
    content["dmos_new"][0, 3] = np.nan
    scipy.io.savemat(tmp_path / "set" / "dmos_realigned.mat", {key: content[key] for key in ("dmos_new", "orgs")})
    with pytest.raises(EvaluationError, match="1 of 982 rows cannot be used: row 3: `dmos_new`: got nan"):
        read_iqa("live", tmp_path / "set")


def test_csiq_as_csv_and_in_one_folder(tmp_path):
    """IQA-PyTorch's csv, and hyperIQA's flat folder."""
    (tmp_path / "dst_imgs_all").mkdir()
    for name in ("1600.AWGN.1.png", "1600.JPEG.1.png"):
        (tmp_path / "dst_imgs_all" / name).write_bytes(b"")
    text = "ref_name,dist_name,dmos\n1600.png,1600.AWGN.1.png,0.062\n1600.png,dst_imgs/jpeg/1600.JPEG.1.png,0.013\n"
    (tmp_path / "meta_info_CSIQDataset.csv").write_text(text)
    manifest = read_iqa("csiq", tmp_path)
    assert [(one.image, one.mos) for one in manifest.items] == [("1600.AWGN.1.png", 0.938), ("1600.JPEG.1.png", 0.987)]
    assert not manifest.missing()
    alone = read_scores(tmp_path / "meta_info_CSIQDataset.csv")  # told by the pictures' names
    assert [one.mos for one in alone.items] == [0.938, 0.987]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (["boats", 1, "glare", 1, 0.1, 0.5], "row 7: image 'boats', dst_type 'glare', dst_lev 1: expected a name, one of noise"),
        (["boats", 1, "noise", "x", 0.1, 0.5], "dst_lev 'x'"),
        ([None, 1, "noise", 1, 0.1, 0.5], "image None"),
        (["boats", 1, "noise", 1, 0.1, "#REF!"], "row 7: `dmos`: got '#REF!', expected a finite number"),
        ([1600, 1, "noise", 1, 0.1, 0.5], "row 5: '1600.AWGN.1.png' has the scores 0.938 and 0.5; row 7"),
    ],
)  # fmt: skip
def test_csiq_rows_that_cannot_be_used(tmp_path, row, reason):
    csiq(tmp_path / "set")
    path = tmp_path / "set" / "csiq.DMOS.xlsx"
    book = openpyxl.load_workbook(path)
    for column, cell in enumerate(row, start=4):
        book["all_by_image"].cell(7, column, cell)
    book.save(path)
    with pytest.raises(EvaluationError, match=f"of 3 rows cannot be used: .*{reason}"):
        read_iqa("csiq", tmp_path / "set")


def test_csiq_without_its_sheet_or_columns(tmp_path):
    spaq(tmp_path / "set")
    (tmp_path / "set" / "Annotations" / "MOS and Image attribute scores.xlsx").rename(tmp_path / "csiq.DMOS.xlsx")
    with pytest.raises(EvaluationError, match="an Excel file with the sheet all_by_image. It has Sheet"):
        read_iqa("csiq", tmp_path)
    book = openpyxl.load_workbook(tmp_path / "csiq.DMOS.xlsx")
    book["Sheet"].title = "all_by_image"
    book.save(tmp_path / "csiq.DMOS.xlsx")
    with pytest.raises(EvaluationError, match="columns image, dst_type, dst_lev, dmos. It has Image name, MOS, Bright"):
        read_iqa("csiq", tmp_path)


def plain(tmp_path, text, encoding="utf-8"):
    path = tmp_path / "labels.csv"
    path.write_bytes(text.encode(encoding))
    return path


def test_plain_csv(tmp_path):
    manifest = read_scores(
        plain(tmp_path, "id, image,mos,split\n7, a.jpg,3.5,test\n8,b c.jpg, 4,\n", "utf-8-sig"), root="images"
    )
    assert manifest.items == (Item("a.jpg", 3.5, "7", "test"), Item("b c.jpg", 4.0, "8"))
    assert manifest.root.name == "images"
    assert read_scores(plain(tmp_path, "image,mos\r\na.jpg,3\r\n"), name="x").name == "x"


@given(
    st.lists(
        st.tuples(st.text("abcü ,\"'", min_size=1, max_size=5).filter(str.strip), st.floats(-1e6, 1e6)),
        min_size=1,
        max_size=5,
        unique_by=lambda row: row[0],
    )
)
def test_csv_round_trip(tmp_path_factory, rows):
    import csv

    path = tmp_path_factory.mktemp("csv") / "x.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows([("image", "mos"), *rows])
    assert [(item.image, item.mos) for item in read_scores(path).items] == rows


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,mos\na.jpg,\n", "1 of 1 row cannot be used: line 2: `mos`: got ''"),
        ("image,mos\na.jpg,3\nb.jpg\nc.jpg,3,4\nd.jpg,x\n", "3 of 4 rows cannot be used: line 3: not 2 fields; line 4: not 2 fields; line 5"),
        ("image,mos\na.jpg,3\na.jpg,4\n", "labels.csv`: 2 of 2 rows cannot be used: line 2: 'a.jpg' has the scores 3.0 and 4.0; line 3: 'a.jpg' has"),
        ("image,mos\n/data/a.jpg,3\n", "line 2: `image`: got '/data/a.jpg'"),
        ("image,mos\n", "<no items>"),
        ('image,mos\na.jpg,3\n"b.jpg,4\nc.jpg,5\n', "a csv file. After line 2: unexpected end"),
        ("picture,score\na.jpg,3\n", r"a label file in a known format \(livec, .*, csv, .*\). It has picture, score. Name the columns"),
        ("", "known format"),
        ("[]", "known format"),
        ('[{"a": 1}]', "known format"),
    ],
)  # fmt: skip
def test_csv_files_that_cannot_be_used(tmp_path, text, message):
    with pytest.raises(EvaluationError, match=message):
        read_scores(plain(tmp_path, text))


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("csv", "image,mos\na.jpg,3\nb.jpg,\n", "line 3: `mos`: got '', expected a finite number"),
        ("koniq", "image_name,MOS_zscore\na.jpg,3\nb.jpg,x\n", "line 3: `MOS_zscore`: got 'x', expected a finite number"),
        ("kadid", "dist_img,ref_img,dmos\na.jpg,I01.png,3\n,I01.png,3\n", "line 3: `dist_img`: got ''"),
        ("tid2013", "3 a.jpg\n- b.jpg\n", "line 2: `mos`: got '-', expected a finite number"),
        ("qbench", '[{"img_path": "a.jpg", "gt_score": 3}, {"img_path": "b.jpg"}]', "row 1: no gt_score"),
        ("conversations", json.dumps([{"id": "a.jpg->3", "image": "a.jpg", "conversations": [{"value": "good"}]}, 7]), "row 1: it is 7"),
    ],
)  # fmt: skip
def test_rows_that_cannot_be_used_may_be_collected(tmp_path, name, text, reason):
    refused = []
    manifest = read_scores(plain(tmp_path, text), name, refused=refused)
    assert [(item.image, item.mos) for item in manifest.items] == [("a.jpg", 3.0)]
    assert len(refused) == 1
    assert refused[0].startswith(reason)
    with pytest.raises(EvaluationError, match="1 of 2 rows cannot be used"):
        read_scores(plain(tmp_path, text), name)


def test_excel_and_matlab_rows_may_be_collected(tmp_path):
    book = openpyxl.Workbook()
    for row in (["Image name", "MOS"], ["1.jpg", 3], ["2.jpg", None]):
        book.active.append(row)
    book.save(tmp_path / "a.xlsx")
    refused = []
    assert [item.image for item in read_scores(tmp_path / "a.xlsx", refused=refused).items] == ["1.jpg"]
    assert refused == ["row 3: `MOS`: got None, expected a finite number"]
    livec(tmp_path / "set", names=("/t1.bmp", "t2.bmp"), scores=2)
    assert [item.id for item in read_iqa("livec", tmp_path / "set", refused=refused).items] == ["t2.bmp"]
    assert refused[1].startswith("row 0: `AllImages_release`: got '/t1.bmp'")


def test_of_an_image_with_two_scores_no_row_is_left(tmp_path):
    refused = []
    path = plain(tmp_path, "image,mos\na.jpg,3\nb.jpg,1\na.jpg,4\nc.jpg,2\nc.jpg,2\n")
    assert [item.image for item in read_scores(path, refused=refused).items] == ["b.jpg", "c.jpg", "c.jpg"]
    assert refused == [f"line {line}: 'a.jpg' has the scores 3.0 and 4.0" for line in (2, 4)]


def test_a_file_without_one_usable_row_is_an_error_all_the_same(tmp_path):
    refused = []
    with pytest.raises(EvaluationError, match=r"labels.csv`: 2 of 2 rows cannot be used: line 2: .*Repair them\.$"):
        read_scores(plain(tmp_path, "image,mos\na.jpg,\nb.jpg,\n"), refused=refused)
    assert refused == []


def test_a_format_that_is_forced_must_fit(tmp_path):
    path = plain(tmp_path, "image,mos\na.jpg,3\n")
    with pytest.raises(EvaluationError, match=r"a table with the columns image_name, MOS_zscore. It has image, mos"):
        read_scores(path, "koniq")
    with pytest.raises(EvaluationError, match="1 of 2 rows cannot be used: line 1: .* is no score and name"):
        read_scores(path, "tid2013")
    with pytest.raises(EvaluationError, match="`format`: got 'excel', expected one of livec, live, livemd"):
        read_scores(path, "excel")
    with pytest.raises(EvaluationError, match="columns Image name. It has image, mos"):
        read_scores(path, "spaq")
    with pytest.raises(EvaluationError, match="readable label file. The system says: No such file"):
        read_scores(tmp_path / "none.csv")


def test_xlsx_with_other_columns_or_bad_rows(tmp_path):
    book = openpyxl.Workbook()
    book.active.append(["Image name", "Score"])
    book.save(tmp_path / "a.xlsx")
    with pytest.raises(EvaluationError, match=r"a table with the columns MOS. It has Image name, Score"):
        read_scores(tmp_path / "a.xlsx", "spaq")
    book.active.cell(1, 2, "MOS")
    for row in (["1.jpg", 3], ["2.jpg"], [None, 4]):
        book.active.append(row)
    book.save(tmp_path / "a.xlsx")
    with pytest.raises(
        EvaluationError, match="2 of 3 rows cannot be used: row 3: `MOS`: got None.*; row 4: `Image name`"
    ):
        read_scores(tmp_path / "a.xlsx")


def test_mat_files_that_do_not_fit_together(tmp_path):
    livec(tmp_path / "set", scores=8)
    with pytest.raises(EvaluationError, match="<9 images and 8 scores>"):
        read_iqa("livec", tmp_path / "set")
    (tmp_path / "set" / "Data" / "AllImages_release.mat").unlink()
    with pytest.raises(
        EvaluationError, match="AllImages_release.mat', expected a readable label file. The system says: No such file"
    ):
        read_scores(tmp_path / "set" / "Data" / "AllMOS_release.mat")


def test_without_openpyxl_the_extra_is_named(tmp_path, monkeypatch):
    spaq(tmp_path / "set")
    real = builtins.__import__

    def absent(name, *args):
        if name == "openpyxl":
            raise ImportError(name)
        return real(name, *args)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(DependencyError, match=r"openpyxl to be installed, .* pip install 'qsit-metric\[eval\]'"):
        read_iqa("spaq", tmp_path / "set")


def row(answer="The quality of the image is good.", **fields):
    said = [{"from": "human", "value": f"{SAID}\n<image>"}, {"from": "gpt", "value": answer}]
    return {"id": "1.jpg->3.5", "image": "koniq/1.jpg", "conversations": said, **fields}


def listed(tmp_path, *rows):
    path = tmp_path / "list.json"
    path.write_text(json.dumps(rows))
    return path


def test_conversations(tmp_path):
    no_image = {key: value for key, value in row().items() if key != "image"}
    other = {**no_image, "img_path": "a->b.jpg", "id": "a->b.jpg->4", "gt_score": "4.25"}
    manifest = read_scores(listed(tmp_path, row(), other, row("Poor", id="a->b.jpg->-1.5", image="c.jpg")))
    assert manifest.items == (
        Item("koniq/1.jpg", 3.5, "1.jpg->3.5", "", "good"),
        Item("a->b.jpg", 4.25, "a->b.jpg->4", "", "good"),
        Item("c.jpg", -1.5, "a->b.jpg->-1.5", "", "poor"),
    )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (row(id="1.jpg"), r"row 1: no gt_score \(or -> in id\)"),
        (row(id="1.jpg->x"), r"row 1: `gt_score \(or -> in id\)`: got 'x'"),
        (row(gt_score=None), r"row 1: `gt_score \(or -> in id\)`: got None"),
        (row(image=None), "row 1: `image`: got None"),
        ({"id": "1.jpg->3", "conversations": []}, "no image or img_path"),
        ("text", "row 1: it is 'text', expected an object"),
    ],
)  # fmt: skip
def test_conversations_that_cannot_be_used(tmp_path, fields, message):
    with pytest.raises(EvaluationError, match=f"1 of 2 rows cannot be used: .*{message}"):
        read_scores(listed(tmp_path, row(image="0.jpg"), fields))


@pytest.mark.parametrize(
    ("name", "count", "low", "high", "levels"),
    [
        ("train_koniq_qsit", 7046, 6.68487394958, 85.0608108108, (183, 666, 1393, 2798, 2006)),
        ("train_spaq_qsit", 8897, 2.0, 93.67, (507, 2447, 2123, 2546, 1274)),
        ("qalign_test_koniq", 2010, 7.05, 83.5, (50, 191, 400, 799, 570)),
        ("qalign_test_spaq", 2224, 4.0, 93.67, (147, 609, 527, 645, 296)),
    ],
)
def test_the_published_lists(name, count, low, high, levels):
    """Q-SiT's training_jsons at 4e4d1df and Q-Align's test_jsons at 14dfdff; their levels follow from `level_scale`."""
    manifest = read_scores(shared("labels") / f"{name}.json")
    scores = [item.mos for item in manifest.items]
    assert (len(manifest), min(scores), max(scores)) == (count, low, high)
    counts = Counter(item.level for item in manifest.items)
    assert tuple(counts[level] for level in LEVELS) == levels
    scale = IQA_SETS["koniq" if "koniq" in name else "spaq"].level_scale
    assert [item for item in manifest.items if level_of(item.mos, *scale, "authors") != item.level] == []


def test_train_and_test_lists_are_disjoint():
    folder = shared("labels")
    for name in ("koniq", "spaq"):
        train, test = read_scores(folder / f"train_{name}_qsit.json"), read_scores(folder / f"qalign_test_{name}.json")
        assert not {item.image for item in train.items} & {item.image for item in test.items}
