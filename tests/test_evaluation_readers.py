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
    assert f"{len(rows)} images, published are {IQA_SETS[name].n}" in caplog.text
    # One file, its format told by its content, whatever it is called (the .mat names its neighbour).
    alone = tmp_path / "set" / label
    renamed = alone if name == "livec" else alone.rename(tmp_path / "labels")
    assert [(item.id, item.mos) for item in read_scores(renamed).items] == [
        (item.id, item.mos) for item in manifest.items
    ]


def test_the_registry_covers_the_layouts_and_names_known_formats():
    assert set(IQA_SETS) == set(LAYOUTS)
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
        ("picture,score\na.jpg,3\n", r"a label file in a known format: spaq \(SPAQ's Excel file\); .*; csv \(csv with image, mos\)"),
        ("image;mos\na.jpg;3\n", "known format"),
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
    with pytest.raises(
        EvaluationError, match="1 of 2 rows cannot be used: line 1: .* is no score and name|2 of 2 rows"
    ):
        read_scores(path, "tid2013")
    with pytest.raises(EvaluationError, match="`format`: got 'excel', expected one of spaq, livec"):
        read_scores(path, "excel")
    with pytest.raises(EvaluationError, match="an Excel file"):
        read_scores(path, "spaq")
    with pytest.raises(EvaluationError, match="readable label file. The system says: No such file"):
        read_scores(tmp_path / "none.csv")


def test_xlsx_with_other_columns_or_bad_rows(tmp_path):
    book = openpyxl.Workbook()
    book.active.append(["Image name", "Score"])
    book.save(tmp_path / "a.xlsx")
    with pytest.raises(EvaluationError, match=r"a table with the columns MOS. It has Image name, Score"):
        read_scores(tmp_path / "a.xlsx")
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
    with pytest.raises(EvaluationError, match="a MATLAB file with the variable AllImages_release. FileNotFoundError"):
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
        (row("The quality is pristine."), "row 1: the answer 'The quality is pristine.' ends in none of bad, poor, fair, good, excellent"),
        (row("goodness"), "ends in none of"),
        (row(conversations=[]), "the answer None ends in none"),
        (row(conversations=[{"from": "gpt"}]), "the answer None ends in none"),
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
