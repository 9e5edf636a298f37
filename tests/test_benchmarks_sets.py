"""Data sets below a data root: found, missing or incomplete, and what is loaded of them."""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import replace

import pytest

from benchmarks.sets import SETS, load_descriptions, load_questions, load_scores, rows, status
from benchmarks.sets.catalog import KONIQ_SPLITS
from miniature_sets import build, paint
from qsit_metric.evaluation import EvaluationError, write_llvisionqa

QUESTIONS = ("llvisionqa-dev", "llvisionqa-test")


def small(built):
    """The records as if the miniatures were what was published."""
    return {name: replace(SETS[name], n=one.n, total=None) for name, one in built.items() if name in SETS}


def of(root, name, sets=SETS):
    return {one.name: one for one in status(root, sets)}[name]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """All miniatures in one root; to be read only."""
    root = tmp_path_factory.mktemp("data")
    return root, build(root)


@pytest.fixture
def mini(tmp_path):
    """Builds one set in a root of its own; gives the root, what was built and records that fit it."""

    def made(*names):
        built = build(tmp_path, names)
        return tmp_path, built, small(built)

    return made


# ------------------------------------------------------------------------------------------- found, loaded


def test_what_is_whole_is_found(whole):
    root, built = whole
    found = {one.name: one for one in status(root, small(built))}
    assert set(found) == set(SETS) | {"mine"}
    for name in set(found) - set(QUESTIONS):
        one = found[name]
        assert (one.state, one.n, one.images, one.n_absent, one.problems, one.hint) == (
            ("found", built[name].n, built[name].n, 0, (), "")
        ), one  # fmt: skip
        assert one.folder == built[name].folder
    assert rows([found["csiq"], found["mine"]]) == [
        {"set": "csiq", "title": "CSIQ", "state": "found", "rows": "6 of 6", "images": 6, "problem": "", "get": ""},
        {"set": "mine", "title": "mine.csv", "state": "found", "rows": "6", "images": 6, "problem": "", "get": ""},
    ]


def test_a_part_of_what_was_published_is_incomplete(whole):
    """The miniatures themselves, held against the real numbers."""
    root, _ = whole
    found = status(root)
    assert {one.state for one in found if one.name in SETS} == {"incomplete"}
    shown = {row["set"]: row for row in rows(found)}
    assert (shown["koniq"]["rows"], shown["koniq"]["problem"]) == ("6 of 10073", "6 images, published are 10073.")
    assert shown["koniq"]["get"] == "Get it from database.mmsp-kn.de/koniq-10k-database.html."
    assert shown["live"]["rows"] == "6 of 779"
    assert "all: 6, published are 1495" in shown["llvisionqa-dev"]["problem"]
    assert shown["lldescribe"]["problem"] == "6 images, published are 499."


def test_scores_are_loaded_as_they_were_written(whole):
    root, built = whole
    for name in (name for name, one in built.items() if one.mos):
        manifest = load_scores(name, root)
        assert {item.image: item.mos for item in manifest.items} == dict(built[name].mos), name
        assert (manifest.root, manifest.missing()) == (built[name].images, []), name


def test_questions_and_descriptions_are_loaded(whole):
    root, built = whole
    for name in QUESTIONS:
        questions, images = load_questions(name, root)
        assert [one.question for one in questions] == [row["question"] for row in built[name].questions]
        assert [one.answer is None for one in questions] == [name.endswith("test")] * 6
        assert images == built[name].images
    descriptions, images = load_descriptions("lldescribe", root)
    assert {one.image: one.golden for one in descriptions} == dict(built["lldescribe"].golden)
    assert images == built["lldescribe"].images


def test_koniq_has_its_official_split_if_the_file_is_there(mini):
    root, _, sets = mini("koniq", "koniq-test")
    counts = [item.split for item in load_scores("koniq", root).items]
    assert counts == ["train"] * 3 + ["val"] + ["test"] * 2
    (root / "koniq10k" / KONIQ_SPLITS).unlink()
    assert {item.split for item in load_scores("koniq", root).items} == {""}
    assert of(root, "koniq", sets).state == "found"
    one = of(root, "koniq-test", sets)
    assert one.state == "incomplete"
    assert "the official split. It is in github.com/subpic/koniq" in one.problems[0]
    with pytest.raises(EvaluationError, match="the official split"):
        load_scores("koniq-test", root)


def test_a_split_file_that_lacks_images_is_refused(mini):
    root, _, sets = mini("koniq")
    path = root / "koniq10k" / KONIQ_SPLITS
    path.write_text("\n".join(path.read_text().splitlines()[:-1]))
    assert "<1 images without a split, first 1005.jpg>" in of(root, "koniq", sets).problems[0]


@pytest.mark.parametrize("split", ["dev", "test"])
def test_llvisionqa_as_published_is_found(tmp_path, split):
    from test_evaluation_llvisionqa import published

    folder = tmp_path / "llvisionqa"
    (folder / "images").mkdir(parents=True)
    questions = published(split)
    write_llvisionqa(folder / f"llvisionqa_{split}.json", questions)
    for one in questions:
        (folder / "images" / one.image).touch()
    one = of(tmp_path, f"llvisionqa-{split}")
    assert (one.state, one.n, one.images, one.expected) == ("found", 1495, 1495, 1495)
    (folder / "images" / "7.jpg").unlink()
    one = of(tmp_path, f"llvisionqa-{split}")
    assert (one.state, one.absent, one.n_absent) == ("incomplete", ("7.jpg",), 1)


def test_parquet_files_are_unpacked_when_they_are_loaded(tmp_path):
    build(tmp_path, ["llvisionqa-dev-hf"])
    one = of(tmp_path, "llvisionqa-dev")
    assert (one.n, one.images, one.n_absent) == (6, 6, 0)
    questions, images = load_questions("llvisionqa-dev", tmp_path)
    times = {path.name: path.stat().st_mtime_ns for path in images.iterdir()}
    assert set(times) == {question.image for question in questions}
    (images / questions[2].image).unlink()
    load_questions("llvisionqa-dev", tmp_path)
    again = {path.name: path.stat().st_mtime_ns for path in images.iterdir()}
    assert {name for name in times if times[name] != again[name]} == {questions[2].image}


# ------------------------------------------------------------------------------------------- where things lie


def test_folder_names_count_in_any_case(mini):
    root, _, sets = mini("csiq")
    (root / "CSIQ").rename(root / "cSiQ")
    assert of(root, "csiq", sets).state == "found"


def test_archives_of_q_align_hold_sets_in_their_own_layout(mini):
    root, built, sets = mini("live")
    (root / "q-align").mkdir()
    built["live"].folder.rename(root / "q-align" / "live")
    assert of(root, "live", sets).folder == root / "q-align" / "live"


def test_lists_of_q_align_find_images_in_the_official_folder(mini):
    root, _, sets = mini("koniq-qalign")
    official = root / "KONIQ10K" / "1024x768"
    official.parent.mkdir()
    (root / "q-align" / "koniq").rename(official)
    one = of(root, "koniq-qalign", sets)
    assert (one.state, one.folder) == ("found", root / "q-align")
    manifest = load_scores("koniq-qalign", root)
    assert (manifest.root, manifest.missing()) == (official, [])
    assert manifest.items[0].image == "05000.jpg"


def test_lists_of_q_align_may_lie_in_the_root(mini):
    root, _, sets = mini("spaq-qalign")
    for path in list((root / "q-align").iterdir()):
        path.rename(root / path.name)
    assert of(root, "spaq-qalign", sets).state == "found"


def test_q_align_has_livec_and_agiqa_as_lists(tmp_path):
    """Labels as in Q-Align's test_jsons: img_path and gt_score, some of them text."""
    (tmp_path / "q-align" / "test_jsons").mkdir(parents=True)
    for file, image in (("livec.json", "livec/t1.bmp"), ("agi.json", "agi-cgi/xl2.2_normal_298.jpg")):
        (tmp_path / "q-align" / "test_jsons" / file).write_text(json.dumps([{"img_path": image, "gt_score": "3.9"}]))
        paint(tmp_path / "q-align", [image])
    for name in ("livec", "agiqa"):
        one = of(tmp_path, name, {name: replace(SETS[name], n=1, total=3.9)})
        assert (one.state, one.problems) == ("found", ())
        assert [item.mos for item in load_scores(name, tmp_path).items] == [3.9]


# ------------------------------------------------------------------------------------------- missing, incomplete


def test_nothing_there(tmp_path):
    found = status(tmp_path)
    assert [one.name for one in found] == list(SETS)
    assert {(one.state, one.folder, one.problems) for one in found} == {("missing", None, ())}
    assert all(one.hint.startswith("Get it from ") and len(one.hint) > 20 for one in found)
    with pytest.raises(
        EvaluationError, match=r"expected KonIQ-10k in koniq10k or .* below .*Get it from database.mmsp"
    ):
        load_scores("koniq", tmp_path)


def test_folders_that_are_none_or_another(mini):
    root, _, _ = mini("kadid")
    for wrong in (root / "none", root / "kadid10k" / "dmos.csv"):
        with pytest.raises(EvaluationError, match="`root`: got .* expected a folder with the data sets"):
            status(wrong)
    one = of(root / "kadid10k", "kadid")
    assert one.state == "missing"
    assert one.problems == (f"{root / 'kadid10k'} is its own folder; pass the folder above it.",)
    (root / "tid2013").mkdir()
    one = of(root, "tid2013")
    assert (one.state, one.problems) == ("missing", (f"{root / 'tid2013'} has its name, but nothing of it.",))


def test_half_a_set(mini, caplog):
    root, built, sets = mini("kadid", "kadid-test")
    for name in ("I01_01_02.png", "I66_01_01.png"):
        (built["kadid"].images / name).unlink()
    one = of(root, "kadid", sets)
    assert (one.state, one.n, one.images, one.n_absent) == ("incomplete", 6, 4, 2)
    assert one.absent == ("I01_01_02.png", "I66_01_01.png")
    assert one.problems[0].startswith("2 images are not in ")
    assert of(root, "kadid-test", sets).absent == ("I66_01_01.png",)
    with caplog.at_level(logging.WARNING, "qsit_metric"):
        manifest = load_scores("kadid", root, sets=sets)
    assert manifest.missing() == list(one.absent)
    assert caplog.messages == [f"KADID-10k: {one.problems[0]}"]


def test_many_absent_images_are_counted_and_five_are_named(tmp_path):
    built = build(tmp_path, ["kadid"], pictures=9)
    for name in built["kadid"].names[:7]:
        (built["kadid"].images / name).unlink()
    one = of(tmp_path, "kadid")
    assert (one.n_absent, one.absent) == (7, tuple(built["kadid"].names[:5]))


@pytest.mark.parametrize(
    ("name", "file", "problem"),
    [
        ("kadid", "kadid10k/dmos.csv", "has no dmos.csv."),
        ("csiq", "CSIQ/csiq.DMOS.xlsx", "has no csiq.DMOS.xlsx or csiq.csv or meta_info_CSIQDataset.csv."),
        ("live", "databaserelease2/dmos_realigned.mat", "has no dmos_realigned.mat."),
        ("koniq-qalign", "q-align/test_jsons/test_koniq.json", "has no test_jsons/test_koniq.json or"),
        ("llvisionqa-dev", "LLVisionQA-QBench/llvisionqa_dev.json", "has no llvisionqa_dev.json or"),
    ],
)
def test_images_without_labels(mini, name, file, problem):
    root, _, sets = mini(name)
    (root / file).unlink()
    one = of(root, name, sets)
    assert (one.state, one.n) == ("incomplete", 0)
    assert problem in one.problems[0]
    with pytest.raises(EvaluationError, match=problem.split(" or ")[0]):
        {"llvisionqa-dev": load_questions}.get(name, load_scores)(name, root)


def test_labels_without_images(mini):
    root, built, sets = mini("kadid", "koniq-qalign", "lldescribe")
    shutil.rmtree(built["kadid"].images)
    shutil.rmtree(root / "q-align" / "koniq")
    for path in built["lldescribe"].images.iterdir():
        path.unlink()
    found = {one.name: one for one in status(root, sets)}
    assert [(found[name].state, found[name].n_absent) for name in ("kadid", "koniq-qalign")] == [("incomplete", 6)] * 2
    assert found["lldescribe"].state == "incomplete"
    assert "expected a folder with pictures" in found["lldescribe"].problems[0]


# ------------------------------------------------------------------------------------------- labels that differ


def test_a_changed_score_shows_in_the_sum(mini):
    root, built, sets = mini("kadid")
    total = sum(built["kadid"].mos.values())
    sets = {"kadid": replace(sets["kadid"], total=total)}
    assert of(root, "kadid", sets).state == "found"
    path = root / "kadid10k" / "dmos.csv"
    first = built["kadid"].mos["I01_01_01.png"]
    path.write_text(path.read_text().replace(f"I01.png,{first},", f"I01.png,{first + 0.01:.3f},"))
    one = of(root, "kadid", sets)
    assert one.state == "incomplete"
    assert one.problems == (f"The scores add up to {total + 0.01:.3f}, published are {total:.3f}.",)


def test_the_published_sums():
    """Of the lists that are at hand: the sums in the records are those of the files, not typed by hand."""
    from conftest import shared
    from qsit_metric.evaluation import read_scores

    folder = shared("labels")
    files = {"agiqa": "a3_agi", "kadid": "a3_kadid", "livec": "a3_livec", "spaq": "a3_spaq"}
    files |= {"koniq-qalign": "qalign_test_koniq", "spaq-qalign": "qalign_test_spaq"}
    for name, file in files.items():
        manifest = read_scores(folder / f"{file}.json")
        assert len(manifest) == SETS[name].n
        assert sum(item.mos for item in manifest.items) == pytest.approx(SETS[name].total, abs=1e-6)
    kadid = [item for item in read_scores(folder / "a3_kadid.json").items if 66 <= int(item.image[1:3]) <= 81]
    assert (len(kadid), sum(item.mos for item in kadid)) == (2000, pytest.approx(SETS["kadid-test"].total))


@pytest.mark.parametrize(
    ("edit", "problem"),
    [
        (("dist_img,ref_img,dmos", "dist_img,ref_img,mos"), "a table with the columns dmos. It has dist_img, ref_img, mos"),
        (("I66.png", "I66.png,9"), "3 rows cannot be used, first line 5: not 4 fields."),
        (("I01_01_01.png,I01.png,1.", "I01_01_01.png,I01.png,51."), "1 score outside 1..5, first I01_01_01.png 51."),
        (("I01_01_02.png", "I01_01_01.png"), "2 rows cannot be used, first line 2: 'I01_01_01.png' has the scores"),
        (("I01_01_02.png", "I01_01_02.gif"), "1 image is not in"),
        (("I01_01_02.png", "../I01_01_02.png"), "1 row cannot be used, first line 3: `dist_img`: got '../I01_01_02.png'"),
    ],
)  # fmt: skip
def test_a_changed_csv(mini, edit, problem):
    root, _, sets = mini("kadid")
    path = root / "kadid10k" / "dmos.csv"
    text = path.read_text()
    assert edit[0] in text
    path.write_text(text.replace(*edit))
    one = of(root, "kadid", sets)
    assert one.state == "incomplete"
    assert any(problem in said for said in one.problems), one.problems


def test_rows_that_cannot_be_used_are_an_error_or_are_listed(mini):
    root, _, sets = mini("kadid")
    path = root / "kadid10k" / "dmos.csv"
    path.write_text(path.read_text().replace("I66.png", "I66.png,9"))
    with pytest.raises(EvaluationError, match="3 of 6 rows cannot be used: line 5: not 4 fields"):
        load_scores("kadid", root)
    refused = []
    assert len(load_scores("kadid", root, refused=refused)) == 3
    assert len(refused) == 3
    one = of(root, "kadid", sets)
    assert (one.n, one.problems[1]) == (3, "3 images, published are 6.")


def test_an_image_twice_with_one_score_is_counted(mini):
    root, _, sets = mini("agiqa")
    path = root / "AGIQA-3K" / "data.csv"
    path.write_text(path.read_text() + path.read_text().splitlines()[-1] + "\n")
    one = of(root, "agiqa", sets)
    assert (one.state, one.n, one.images) == ("incomplete", 7, 6)
    assert one.problems == ("7 images, published are 6.", "1 row with an image that was there before.")


@pytest.mark.parametrize(
    ("name", "file", "content", "problem"),
    [
        ("spaq", "SPAQ/Annotations/MOS and Image attribute scores.xlsx", b"PK\x03\x04 and no more", "an Excel file"),
        ("livec", "ChallengeDB_release/Data/AllMOS_release.mat", b"MATLAB 5.0 and no more", "a MATLAB file"),
        ("koniq", "koniq10k/koniq10k_scores_and_distributions.csv", b"\xff\xfe\x00", "a text file in UTF-8 or UTF-16"),
        ("spaq-qalign", "q-align/test_jsons/test_spaq.json", b'[{"conversations": 1}', "a JSON list"),
        ("llvisionqa-test", "LLVisionQA-QBench/llvisionqa_test.json", b"{}", "a JSON list with at least one element"),
        ("lldescribe", "LLDescribe-QBench/golden.json", b"[", "a JSON list"),
    ],
)
def test_label_files_that_cannot_be_read(mini, name, file, content, problem):
    root, _, sets = mini(name)
    (root / file).write_bytes(content)
    one = of(root, name, sets)
    assert (one.state, one.n) == ("incomplete", 0)
    assert problem in one.problems[0]


# ------------------------------------------------------------------------------------------- names


def test_two_folders_of_one_set(mini):
    root, _, sets = mini("kadid")
    shutil.copytree(root / "kadid10k", root / "KADID-10k")
    one = of(root, "kadid", sets)
    assert one.state == "incomplete"
    assert one.problems[0] == f"{root / 'kadid10k'} and {root / 'KADID-10k'} are both this set; keep one."
    with pytest.raises(EvaluationError, match="are both this set"):
        load_scores("kadid", root)
    (root / "KADID-10k" / "dmos.csv").unlink()
    assert of(root, "kadid", sets).state == "found"


def test_a_csv_of_ones_own(tmp_path):
    (tmp_path / "flat.csv").write_text("image,mos\na.png,3\n")
    (tmp_path / "other.csv").write_text("picture,score\na.png,3\n")
    paint(tmp_path, ["a.png"])
    assert of(tmp_path, "flat").state == "found"
    assert load_scores("flat", tmp_path).missing() == []
    assert "a label file in a known format" in of(tmp_path, "other").problems[0]
    (tmp_path / "flat").mkdir()
    one = of(tmp_path, "flat")
    assert (one.state, one.absent, one.expected) == ("incomplete", ("a.png",), None)


def test_names_of_csv_files_that_are_taken(mini):
    root, built, sets = mini("koniq", "mine")
    shutil.copy(root / "mine.csv", root / "koniq.csv")
    found = [one for one in status(root, sets) if one.name == "koniq"]
    assert [one.state for one in found] == ["found", "incomplete"]
    assert found[1].problems[0] == "koniq.csv has the name of a public set; call it otherwise."
    assert {item.image: item.mos for item in load_scores("koniq", root).items} == dict(built["koniq"].mos)
    shutil.copy(root / "mine.csv", root / "MINE.csv")
    if len(list(root.glob("*.csv"))) == 3:  # a file system that tells cases apart
        assert of(root, "mine", sets).problems[0] == "MINE.csv and mine.csv have one name; call them otherwise."
        with pytest.raises(EvaluationError, match="have one name"):
            load_scores("mine", root)


def test_names_that_nobody_knows(whole):
    root, _ = whole
    with pytest.raises(EvaluationError, match=r"got 'kadid10k', expected one of koniq, .* Did you mean 'kadid'"):
        load_scores("kadid10k", root)
    with pytest.raises(EvaluationError, match="got 'kadid', expected a set of questions; this one is of scores"):
        load_questions("kadid", root)
    with pytest.raises(EvaluationError, match="got 'mine', expected one of"):
        load_descriptions("mine", root)
