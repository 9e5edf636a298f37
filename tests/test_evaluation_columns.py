"""Label files as people have them: columns by name, any delimiter, encoding and quoting, JSON, Excel; directions told."""

from __future__ import annotations

import csv
import json
import logging

import numpy as np
import openpyxl
import pytest
import scipy.io

from qsit_metric.evaluation import EvaluationError, Item, evaluate, read_scores

NAMES = ("a.jpg", "b c.jpg", "d.jpg")
SCORES = (3.5, 1.25, 4.0)


def pairs(manifest):
    return [(item.image, item.mos) for item in manifest.items]


WANTED = list(zip(NAMES, SCORES, strict=True))


def put(tmp_path, text, name="labels.csv", encoding="utf-8"):
    path = tmp_path / name
    path.write_bytes(text.encode(encoding))
    return path


def rows(delimiter=",", head=("img", "score"), point="."):
    lines = [delimiter.join(head)]
    lines += [delimiter.join((name, str(score).replace(".", point))) for name, score in WANTED]
    return lines


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("\n".join(rows()), "utf-8"),
        ("\r\n".join(rows(";")) + "\r\n", "utf-8-sig"),
        ("\n".join(rows("\t")), "utf-16"),
        ("\n".join(rows("\t", point=",")), "utf-16-le"),
        ("\r".join(rows("|")), "utf-8"),
        ("\n".join(rows(";", point=",")), "utf-8"),
        ("sep=;\n" + "\n".join(rows(";", point=",")), "utf-8"),
        ("\n\n" + "\n".join(rows(";", head=("  IMG ", "Score "))) + "\n\n", "utf-8"),
        ('"img","score"\n"a.jpg","3,5"\n"b c.jpg","1,25"\n"d.jpg","4"\n', "utf-8"),
        ("'img','score'\n'a.jpg','3.5'\n'b c.jpg','1.25'\n'd.jpg','4'\n", "utf-8"),
        ("img score\na.jpg 3.5\n'b c.jpg' 1.25\nd.jpg   4.0 \n".replace("'", '"'), "utf-8"),
        (",img,score\n0,a.jpg,3.5\n1,b c.jpg,1.25\n2,d.jpg,4\n", "utf-8"),
        ("img,score\n1,a.jpg,3.5\n2,b c.jpg,1.25\n3,d.jpg,4\n", "utf-8"),
        ("img,score\na.jpg,3.5,\nb c.jpg,1.25,\nd.jpg,4,\n", "utf-8"),
        ("img,score,\na.jpg , 3.5 ,\nb c.jpg,1.25,\n.\\d.jpg,4,\n", "utf-8"),
    ],
)
def test_two_names_are_enough(tmp_path, text, encoding):
    assert pairs(read_scores(put(tmp_path, text, encoding=encoding), image="img", mos="score")) == WANTED


def test_other_columns_come_along(tmp_path):
    path = put(tmp_path, 'id;img;score;set;Ref;text\n7;x\\a.jpg;3;training;r1;"a;b"\n8;x/b.jpg;4;test;r1;c\n')
    found = read_scores(path, image="IMG", mos="score", split="set", group="ref", name="mine", folder=tmp_path)
    assert found.items == (
        Item("x/a.jpg", 3.0, "7", "train", group="r1"), Item("x/b.jpg", 4.0, "8", "test", group="r1"),
    )  # fmt: skip
    again = found.load if found.save(tmp_path / "m.json") else type(found).load(tmp_path / "m.json")
    assert [item.group for item in again.items] == ["r1", "r1"]
    assert again.sha256 == found.sha256


def test_a_file_without_a_header_has_numbers_for_columns(tmp_path):
    path = put(tmp_path, "a.jpg,3.5\nb c.jpg,1.25\nd.jpg,4\n")
    assert pairs(read_scores(path, image=0, mos=1)) == WANTED
    assert pairs(read_scores(path, lower_is_better=False)) == WANTED
    with pytest.raises(EvaluationError, match="a table with the columns 2. It has a.jpg, 3.5"):
        read_scores(path, image=0, mos=2)


def test_errors_show_the_header(tmp_path):
    path = put(tmp_path, "img;Score;Score\na.jpg;3;4\n")
    with pytest.raises(EvaluationError, match=r"known format \(.*\)\. It has img, Score, Score\. Name the columns"):
        read_scores(path)
    with pytest.raises(EvaluationError, match="a table with the columns mos. It has img, Score, Score"):
        read_scores(path, image="img", mos="mos")
    with pytest.raises(EvaluationError, match="`column`: got 'score', .* not of two. .* counted from 0: 1 or 2"):
        read_scores(path, image="img", mos="score")
    assert pairs(read_scores(path, image="img", mos=2)) == [("a.jpg", 4.0)]
    with pytest.raises(EvaluationError, match="`mos`: got None, .* It has img, Score, Score"):
        read_scores(path, image="img")
    with pytest.raises(EvaluationError, match="a table with the columns img, Score. It has img;Score;Score"):
        read_scores(path, image="img", mos="Score", delimiter="comma")
    with pytest.raises(
        EvaluationError, match="`delimiter`: got ';;', expected one character such as ';', or one of comma"
    ):
        read_scores(path, image="img", mos="Score", delimiter=";;")
    with pytest.raises(EvaluationError, match="UTF-8 or UTF-16. Save it as UTF-8"):
        read_scores(put(tmp_path, "image,mos\nü.jpg,3\n", encoding="latin-1"))


def test_a_comma_that_might_be_a_thousand_is_not_guessed(tmp_path):
    path = put(tmp_path, "image;mos\na.jpg;1,460\nb.jpg;1,520\n")
    with pytest.raises(EvaluationError, match="2 of 2 rows cannot be used: line 2: `mos`: got '1,460'"):
        read_scores(path)
    mixed = put(tmp_path, "image;mos\na.jpg;1.460\nb.jpg;1,5\n")
    with pytest.raises(EvaluationError, match="1 of 2 rows cannot be used: line 3: `mos`: got '1,5'"):
        read_scores(mixed)


@pytest.mark.parametrize(
    "content",
    [
        json.dumps([{"img": name, "score": score} for name, score in WANTED]),
        "\n".join(json.dumps({"img": [name], "score": str(score)}) for name, score in WANTED),
        ",\n".join(json.dumps({"img": name, "score": score}, indent=1) for name, score in WANTED),
        json.dumps({"name": "x", "images": [{"img": name, "score": score} for name, score in WANTED]}),
        json.dumps({"img": list(NAMES), "score": SCORES}),
        json.dumps({"img": dict(enumerate(NAMES)), "score": dict(enumerate(SCORES))}),
        json.dumps({"columns": ["img", "score"], "index": [0, 1, 2], "data": WANTED}),
    ],
)
def test_json_in_its_forms(tmp_path, content):
    assert pairs(read_scores(put(tmp_path, content, "labels.json"), image="img", mos="score")) == WANTED


def test_json_objects_of_names(tmp_path):
    path = put(tmp_path, json.dumps(dict(WANTED)), "labels.json")
    assert pairs(read_scores(path, image=0, mos=1)) == WANTED
    nested = put(tmp_path, json.dumps({name: {"q": score} for name, score in WANTED}), "nested.json")
    assert pairs(read_scores(nested, image="key", mos="q")) == WANTED
    with pytest.raises(EvaluationError, match="known format .* It has key, q"):
        read_scores(nested)
    with pytest.raises(EvaluationError, match="a JSON list or JSON Lines"):
        read_scores(put(tmp_path, '[{"image": "a.jpg"', "cut.json"))


@pytest.mark.parametrize("key", ["image", "img_path"])
def test_lists_need_no_conversations(tmp_path, key):
    """Q-Align's csiq, live and ava, Compare2Score, MR-IQA; the latter two with fields of their own."""
    listed = [{key: name, "gt_score": f"{score} ", "std": 0.1} for name, score in WANTED]
    assert pairs(read_scores(put(tmp_path, json.dumps(listed), "a.json"))) == WANTED
    lines = "".join(json.dumps(row) + "\n" for row in listed)
    assert pairs(read_scores(put(tmp_path, lines, "a.jsonl"))) == WANTED


def test_a_bad_level_word_refuses_its_level_and_not_its_row(tmp_path, caplog):
    said = ("The quality of the image is good.", "The quality is pristine.", "")
    listed = [
        {"id": f"{name}->{score}", "image": name, "conversations": [{"from": "gpt", "value": text}]}
        for (name, score), text in zip(WANTED, said, strict=True)
    ]
    refused = []
    found = read_scores(put(tmp_path, json.dumps(listed), "a.json"), refused=refused)
    assert (pairs(found), [item.level for item in found.items], refused) == (WANTED, ["good", None, None], [])
    assert "2 of 3 rows state a level that is none of bad, poor" in caplog.text
    assert "first row 1, 'pristine'" in caplog.text


def test_excel_sheets(tmp_path):
    book = openpyxl.Workbook()
    book.active.append(["notes"])
    sheet = book.create_sheet("scores")
    for row in (
        [],
        [None, None, "Image", "Prompt", "Score "],
        *([None, None, n, "p", s] for n, s in WANTED),
        [None] * 5,
    ):
        sheet.append(row)
    book.save(tmp_path / "a.xlsx")
    assert pairs(read_scores(tmp_path / "a.xlsx", image="image", mos="score")) == WANTED
    with pytest.raises(
        EvaluationError, match="columns quality. It has notes in the sheet Sheet; .*Image, Prompt, Score"
    ):
        read_scores(tmp_path / "a.xlsx", image="image", mos="quality")


def test_a_matlab_file_says_what_it_contains(tmp_path):
    cells = np.empty((3, 1), dtype=object)
    cells[:, 0] = NAMES
    scipy.io.savemat(tmp_path / "a.mat", {"names": cells, "scores": np.array([SCORES])})
    assert pairs(read_scores(tmp_path / "a.mat", image="names", mos="scores")) == WANTED
    with pytest.raises(EvaluationError, match=r"known format .* It has names \(3 x 1\), scores \(1 x 3\)"):
        read_scores(tmp_path / "a.mat")
    with pytest.raises(EvaluationError, match=r"the variable mos. It has names \(3 x 1\)"):
        read_scores(tmp_path / "a.mat", image="names", mos="mos")
    (tmp_path / "b.mat").write_bytes(b"\x89HDF\r\n")
    with pytest.raises(EvaluationError, match="a MATLAB file"):
        read_scores(tmp_path / "b.mat", image="names", mos="scores")


def test_pictures_are_found_where_they_lie(tmp_path):
    (tmp_path / "images" / "jp2k").mkdir(parents=True)
    for name in ("jp2k/1.bmp", "7.png", "8.JPG"):
        (tmp_path / "images" / name).write_bytes(b"")
    deep = put(tmp_path, "image,mos\nset\\jp2k\\1.bmp,3\nset\\jpeg\\1.bmp,4\n")
    assert read_scores(deep, folder="images").missing() == ["jpeg/1.bmp"]
    bare = put(tmp_path, "image,mos\n7,3\n8,4\n9,5\n")
    found = read_scores(bare, folder="images")
    assert [(item.image, item.id) for item in found.items] == [("7.png", "7"), ("8.JPG", "8"), ("9", "9")]
    whole = put(tmp_path, f"image,mos\n{tmp_path}/images/7.png,3\n")
    assert read_scores(whole, folder="images").items[0].image == "7.png"
    with pytest.raises(EvaluationError, match="one of `folder` and `root`"):
        read_scores(whole, folder="images", root="images")


def test_our_own_results_are_label_files(tmp_path):
    path = put(tmp_path, "image,mos\n" + "".join(f"{name},{score}\n" for name, score in [*WANTED, ("e.jpg", 5)]))
    result = evaluate(lambda path: float(len(path)), read_scores(path))
    for name in ("result.csv", "result.json"):
        result.save(tmp_path / name)
        assert pairs(read_scores(tmp_path / name)) == pairs(read_scores(path))
    scored = put(tmp_path, "path,score,level\na.jpg,3.5,good\n", "scores.csv")
    assert pairs(read_scores(scored)) == WANTED[:1]


CSIQ = {f"csiq/dst_imgs/{kind}/{ref}.{kind.upper()}.{level}.png": level / 10 for kind in ("awgn", "blur") for ref in ("1600", "boston") for level in (1, 3, 5)}  # fmt: skip
LIVE = {"live/jp2k/img1.bmp": 0.0, "live/jp2k/img2.bmp": 28.0, "live/jp2k/img4.bmp": 65.13, "live/jp2k/img5.bmp": 68.91}
LIVEMD = {"Part 1/blurjpeg/lunch_blur1.bmp": 20.0, "Part 1/blurjpeg/lunch_blur3_jpeg3.bmp": 80.0}


@pytest.mark.parametrize(("scores", "best"), [(CSIQ, 1), (LIVE, 100), (LIVEMD, 100)])
def test_lists_of_sets_with_differences_are_turned_round_once(tmp_path, scores, best, caplog):
    """Q-Align's lists have DMOS, Compare2Score's and MR-IQA's are turned already: the numbers tell."""
    listed = put(tmp_path, json.dumps([{"image": name, "gt_score": score} for name, score in scores.items()]), "a.json")
    turned = [(name, best - score) for name, score in scores.items()]
    assert pairs(read_scores(listed)) == turned
    assert "fall with quality (DMOS): they are turned round" in caplog.text
    for offset in (best, 0):
        listed = json.dumps([{"image": name, "gt_score": offset - score} for name, score in scores.items()])
        rising = read_scores(put(tmp_path, listed, "b.json"))
        assert pairs(rising) == [(name, offset - score) for name, score in scores.items()]
    # IQA-PyTorch has LIVE's DMOS in a column `mos`; IQA-Dataset has all of them in `score`.
    table = "dist_name,mos\n" + "".join(f"{name},{score}\n" for name, score in scores.items())
    assert pairs(read_scores(put(tmp_path, table))) == turned
    assert pairs(read_scores(put(tmp_path, table), lower_is_better=False)) == list(scores.items())


def test_levels_of_upside_down_scores_are_left_out(tmp_path, caplog):
    """Q-Align's ft/csiq calls untouched pictures bad."""
    listed = [
        {"id": name, "image": name, "gt_score": score, "conversations": [{"from": "gpt", "value": "It is bad."}]}
        for name, score in CSIQ.items()
    ]
    found = read_scores(put(tmp_path, json.dumps(listed), "a.json"))
    assert found.items[0].mos == 0.9
    assert {item.level for item in found.items} == {None}
    assert "its level words are made of scores that are turned round" in caplog.text


def test_a_list_that_does_not_tell_its_direction_is_refused(tmp_path):
    told = "expected True or False: nothing says which way the scores .* go. Pass lower_is_better=True if"
    for text in ("23.4 cim1_1_1.bmp\n55.1 cim1_1_2.bmp\n", "cim1_1_1.bmp 23.4\ncim1_1_2.bmp 55.1\n"):
        path = put(tmp_path, text, "lines.txt")
        with pytest.raises(EvaluationError, match=told):
            read_scores(path)
        assert pairs(read_scores(path, lower_is_better=False))[0] == ("cim1_1_1.bmp", 23.4)
        assert pairs(read_scores(path, lower_is_better=True))[0] == ("cim1_1_1.bmp", -23.4)
    path = put(tmp_path, "pic,DMOS\na.jpg,20\nb.jpg,30\n")
    with pytest.raises(EvaluationError, match=told):
        read_scores(path, image="pic", mos="dmos")
    assert pairs(read_scores(path, image="pic", mos="dmos", lower_is_better=True)) == [("a.jpg", -20), ("b.jpg", -30)]
    small = put(tmp_path, json.dumps([{"image": "live/wn/img2.bmp", "gt_score": 20}]), "small.json")
    with pytest.raises(EvaluationError, match=told):
        read_scores(small)


def test_kadids_differences_are_opinions(tmp_path):
    for head in ("dist_img,ref_img,dmos,var", "dist_name,ref_name,dmos,std"):
        path = put(tmp_path, f"{head}\nI01_01_01.png,I01.png,4.57,0.5\nI01_01_05.png,I01.png,1.1,0.5\n")
        assert pairs(read_scores(path)) == [("I01_01_01.png", 4.57), ("I01_01_05.png", 1.1)]


def test_the_order_of_columns_and_quoting_do_not_matter(tmp_path):
    path = tmp_path / "x.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=";", quoting=csv.QUOTE_ALL).writerows(
            [("mos", "prompt", "image"), *((s, 'a "cat"; sitting,\non a mat', n) for n, s in WANTED)]
        )
    assert pairs(read_scores(path)) == WANTED


def test_nothing_is_said_of_an_ordinary_list(tmp_path, caplog):
    with caplog.at_level(logging.DEBUG, "qsit_metric"):
        read_scores(put(tmp_path, "image,mos\na.jpg,3\n"))
    assert caplog.text == ""
