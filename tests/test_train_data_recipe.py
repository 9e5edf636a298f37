"""From a data recipe to a frozen folder: strict YAML, the published lists end to end, your own files, every refusal."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from collections import Counter
from pathlib import Path

import openpyxl
import pytest
import typer
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

from conftest import IMAGES, shared
from qsit_metric import console
from qsit_metric.evaluation import FORMATS, IQA_SETS, EvaluationError, read_llvisionqa, read_scores
from qsit_metric.levels import LEVELS
from train.commands.corrupt import corrupt_command
from train.commands.data import build_d2_command, freeze_command, show_command
from train.data import sources
from train.data.cleaning import Removal, base
from train.data.freeze import build, freeze_recipe
from train.data.frozen import Frozen
from train.data.interpreting.feedback import read_feedback
from train.data.recipe import ConversationSource, DataRecipe, Exclude, ScoringSource, ValidationSource, load_recipe
from train.data.rows import read_llava
from train.data.scoring import level_in
from train.errors import DataError, RecipeError
from train.recipe import load_yaml

RECIPES = Path(__file__).parent.parent / "train" / "recipes"


def written(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (90, 120, 150)).save(path)


def talk(image, id="1"):
    return {
        "id": id,
        "image": image,
        "conversations": [{"from": "human", "value": "Is it sharp?\n<image>"}, {"from": "gpt", "value": "Yes."}],
    }


def question(image, **fields):
    return {
        "img_path": image,
        "question": "Sharp?",
        "candidates": ["Yes", "No"],
        "correct_ans": "No",
        "type": 0,
        "concern": 0,
        **fields,
    }


# --- YAML ------------------------------------------------------------------------------------------------------------


def test_scalars_are_those_of_yaml_12(tmp_path):
    text = "a: 1e-5\nb: no\nc: 1:30\nd: 010\ne: 150_000\nf: .5\ng:\nh: ~\ni: true\nj: 2001-01-01\nk: -3.5E+2\nl: '1'\nm: random:22%\nn: =\n"
    assert load_yaml(written(tmp_path / "a.yaml", text)) == {
        "a": 1e-5, "b": "no", "c": "1:30", "d": 10, "e": 150_000, "f": 0.5, "g": None, "h": None, "i": True,
        "j": "2001-01-01", "k": -350.0, "l": "1", "m": "random:22%", "n": "=",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb:\n  c: 2\n  c: 3\n", "line 4: the key 'c' stands here and in line 3"),
        ("a: 1\n'a': 2\n", "line 2: the key 'a' stands here and in line 1"),
        ("x: [{a: 1, a: 2}]", "line 1: the key 'a' stands"),
        ("1: 2", "line 1: the key '1' is not text"),
        ("? [a]\n: 1", "this key is not text"),
        ("[1]", "not a list"),
        ("a: [1\nb: 2", "line 2: this is no YAML: "),
        ("a: 1\n---\nb: 2", "found another document"),
        ("a: !!python/object:os.system x", "could not determine a constructor"),
        ("a: !!int x", "this is no YAML: invalid literal"),
        ("a: 1_", "this is no YAML: invalid literal"),
        ("a: &b {c: 1}\nd:\n  <<: *b", "line 3: the key '<<' is not text"),
    ],
)
def test_bad_yaml_is_refused_with_file_and_line(tmp_path, text, message):
    with pytest.raises(RecipeError, match=rf"a\.yaml.*{message}"):
        load_yaml(written(tmp_path / "a.yaml", text))


def test_yaml_that_is_not_there_or_empty(tmp_path):
    with pytest.raises(RecipeError, match="a readable UTF-8 file"):
        load_yaml(tmp_path / "gone.yaml")
    assert load_yaml(written(tmp_path / "a.yaml", "# nothing\n")) == {}


# --- recipes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["data-q-sit.yaml", "data-own.yaml"])
def test_shipped_recipes_load(name):
    recipe = load_recipe(RECIPES / name)
    assert recipe.d1
    assert recipe.validation.mode == "holdout"
    assert recipe.validation.fraction == 0.1


SCALE = (
    r"expected koniq, spaq, or \[low, high, convention\] with low < high and the convention eq1 or authors, such as "
    r"\[1, 5, eq1\]"
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sede: 1", "`sede` is no key here"),
        ("d1: [{fiel: a.json}]", "`d1.0.fiel` is no key here"),
        ("d1: a.json", "`d1`: got 'a.json': Input should be a valid tuple"),
        ("seed: -1", "`seed`: got -1"),
        ("d1: [{}]", "`d1.0`: expected `file`, or `set` with `folder`"),
        ("d1: [{folder: x}]", "`d1.0`: expected `file`, or `set` with `folder`"),
        ("d1: [{file: a, set: koniq, folder: x}]", "`d1.0`: expected `file`, or `set` with `folder`"),
        ("d1: [{file: a.csv, reader: csv}]", "a label file needs `scale`"),
        ("d1: [{file: a.json, split: train}]", "has no splits"),
        ("d1: [{file: a.json, scale: live}]", "`d1.0.scale`: got 'live', expected koniq, spaq, or"),
        *[
            (
                f"d1: [{{file: a.json, scale: {bad}}}]",
                rf"r.yaml`: `d1.0.scale`: got .*, {SCALE}\. The keys are described",
            )
            for bad in (
                "[1, 5]",
                "[5, 1, eq1]",
                "[1, 5, both]",
                "[a, b, eq1]",
                "5",
                "{low: 1}",
                "[true, 5, eq1]",
                "[0, .inf, eq1]",
                "[]",
            )
        ],
        ("d2: [{file: a.json, sampling: most}]", "got 'most', expected all, first:N"),
        ("exclude: [{}]", "`exclude.0`: expected `file`, or `set` with `folder`, or `folder`"),
        ("exclude: [{file: a, split: test}]", "`split` goes with `set`"),
        ("validation: {mode: both}", "`validation.mode`: got 'both'"),
        ("validation: {fraction: 1.0}", "`validation.fraction`: got 1.0"),
        ("phash: 64", "`phash`: got 64"),
        ("seed: 1\nseed: 2", "the key 'seed' stands here and in line 1"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused(tmp_path, text, message):
    with pytest.raises(RecipeError, match=message):
        load_recipe(written(tmp_path / "r.yaml", text))


# --- the published lists ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """The authors' D1 and test lists, without images; D2 has one image of each kind that matters."""
    labels, place = shared("labels"), tmp_path_factory.mktemp("published")
    (place / "labels").symlink_to(labels)
    koniq, spaq = (json.loads((labels / f"train_{name}_qsit.json").read_text()) for name in ("koniq", "spaq"))
    test = json.loads((labels / "qalign_test_spaq.json").read_text())
    names = [row["image"].split("/")[1] for row in (*koniq, *spaq)]
    d2 = [talk(f"spaq_koniq/{name}", name) for name in names]
    d2 += [talk(f"spaq_koniq/{row['image'].split('/')[1].upper()}", "test") for row in test]
    d2 += [talk("livefb_liveitw_aigc/t1.bmp", "livec"), talk("livefb_liveitw_aigc/free.jpg", "free")]
    written(place / "q.json", d2)
    written(place / "q-dev.json", [question("free.jpg"), question("dev.jpg")])
    lists = "\n".join(f"  - {{file: labels/{name}}}" for name in ("qalign_test_koniq.json", "qalign_test_spaq.json", "a3_livec.json", "a3_agi.json", "a3_kadid.json"))  # fmt: skip
    written(
        place / "r.yaml",
        f"""
d1: [{{file: labels/train_koniq_qsit.json, images: images}}, {{file: labels/train_spaq_qsit.json, images: images}}]
d2: [{{file: q.json, source: q-instruct}}]
exclude:
{lists}
validation: {{mode: holdout, fraction: 0.1, questions: q-dev.json}}
""",
    )
    return place


def test_published_setting_end_to_end(published):
    data = freeze_recipe(published / "r.yaml", published / "frozen", check_images=False)
    assert Counter(row.source for row in data.val_scoring) == {"koniq": 705, "spaq": 890}
    assert data.counts.d1 == 15_943 - 1_595
    held = {base(row.image) for row in data.val_scoring}
    assert not held & {base(row.image) for row in data.rows("d1")}
    assert not held & {base(row.image) for row in data.rows("d2")}
    assert data.counts.d2 == 15_943 - 1_595  # the test images, LIVE Challenge's and the dev question's are gone, too
    assert [one.image for one in data.val_questions] == ["free.jpg", "dev.jpg"]
    report = data.record["report"]
    assert report["d2"]["removed"] == 1_595 + 2_224 + 2
    assert report["d2"]["reasons"] == {
        "name: labels/a3_livec.json": 1,
        "name: labels/qalign_test_spaq.json": 2_224,
        "name: validation questions": 1,
        "name: validation rows": 1_595,
    }
    assert report["d2"]["folders"] == {
        "livefb_liveitw_aigc/ = /": 2, "spaq_koniq/ = koniq/": 705, "spaq_koniq/ = spaq/": 890 + 2_224,
    }  # fmt: skip
    assert report["d1"]["removed"] == 0
    assert report["validation"]["held out"] == 1_595
    # A tenth of each level's 183/666/1393/2798/2006 + 507/2447/2123/2546/1274, within one row per source.
    levels = Counter(map(level_in, data.val_scoring))
    for level, total in zip(LEVELS, (690, 3113, 3516, 5344, 3280), strict=True):
        assert abs(levels[level] - total / 10) < 2
    removed = (published / "frozen" / "removed.jsonl").read_text().splitlines()
    assert len(removed) == report["d2"]["removed"]
    assert data.root("d1").resolve() == (published / "images").resolve()


def test_authors_mode_leaves_the_validation_rows_in(published, tmp_path):
    text = (published / "r.yaml").read_text().replace("mode: holdout", "mode: authors")
    built = build(load_recipe(written(tmp_path / "r.yaml", text)), published, check_images=False)
    assert len(built.sets["d1"]) == len(built.sets["d2"]) == 15_943
    assert len(built.validation.scoring) == 1_595
    assert built.report["validation"]["held out"] == 0


def test_the_authors_mix_is_applied_by_file_name(published, tmp_path):
    text = (published / "r.yaml").read_text().replace("file: q.json", "file: q_instruct.json") + "mix: mix.yaml\n"
    written(published / "r3.yaml", text)
    (published / "q_instruct.json").write_bytes((published / "q.json").read_bytes())
    mix = (shared("labels") / "single_image.yaml").read_text()
    written(published / "mix.yaml", mix)
    with pytest.raises(RecipeError, match=r"`mix`: got 'llava_instruct_150k.json', expected each of .*q_instruct.json"):
        freeze_recipe(published / "r3.yaml", tmp_path / "a", check_images=False)
    written(published / "mix.yaml", mix[: mix.index("  - json_path: /jsons/llava")])
    data = freeze_recipe(published / "r3.yaml", tmp_path / "a", check_images=False)
    entry = data.record["report"]["d2"]["lists"][0]
    assert (entry["sampling"], entry["usable"], entry["sampled"]) == ("random:22%", 18_169, 3_998)  # ceil(0.22 * 18169)
    assert data.record["report"]["d1"]["lists"][0]["sampling"] == "all"


# --- your own files --------------------------------------------------------------------------------------------------

OWN = (RECIPES / "data-own.yaml").read_text().replace("fraction: 0.1", "fraction: 0.25")


@pytest.fixture
def own(tmp_path):
    written(tmp_path / "data-own.yaml", OWN)
    written(tmp_path / "scores.csv", "image,mos\n" + "".join(f"x/{i}.jpg,{1 + i / 2}\n" for i in range(8)))
    written(tmp_path / "answers.json", [talk(f"x/{i}.jpg", str(i)) for i in range(4)] + [talk("y/9.jpg", "9")])
    for name in [f"x/{i}.jpg" for i in range(8)] + ["y/9.jpg"]:
        picture(tmp_path / "images" / name)
    return tmp_path


def test_own_files_end_to_end(own):
    data = freeze_recipe(own / "data-own.yaml", own / "frozen")
    assert (data.counts.d1, len(data.val_scoring), data.counts.d3) == (6, 2, 0)
    data.check_images()
    assert {row.source for row in data.rows("d1")} == {"own"}
    held = {row.image for row in data.val_scoring}
    assert {row.image for row in data.rows("d2")} == {"x/0.jpg", "x/1.jpg", "x/2.jpg", "x/3.jpg", "y/9.jpg"} - held
    assert [level_in(row) for row in data.rows("d1")] == [level for row in data.rows("d1") for level in [LEVELS[min(4, max(0, -int(-(row.mos - 1) // 0.8) - 1))]]]  # fmt: skip
    assert data.record["how"]["recipe"]["d1"][0]["scale"] == [1.0, 5.0, "eq1"]
    assert set(data.record["how"]["versions"]) == {"qsit-metric", "numpy", "python"}


def test_freezing_is_repeatable_and_follows_its_seed(own):
    one, two = (freeze_recipe(own / "data-own.yaml", own / name) for name in ("a", "b"))
    assert one.digest == two.digest
    written(own / "r2.yaml", OWN.replace("seed: 0", "seed: 1"))
    assert freeze_recipe(own / "r2.yaml", own / "c").digest != one.digest


def add_score(line):
    return lambda own: (own / "scores.csv").write_text((own / "scores.csv").read_text() + line)


def truncate(own):
    whole = (own / "images/x/3.jpg").read_bytes()
    (own / "images/x/3.jpg").write_bytes(whole[: len(whole) - 40])


BROKEN = [
    (lambda own: (own / "images/x/3.jpg").unlink(), 2, r"3.jpg->2.5: the image 'x/3.jpg' is not in .*images", "image"),
    (lambda own: written(own / "answers.json", [talk("y/9.jpg"), talk("y/9.jpg") | {"conversations": []}]), 1, "d2, answers.json: row 1 .*expected pairs of turns", "turns"),
    (lambda own: written(own / "answers.json", ""), 1, "not an empty file. The authors publish two of their lists as empty files", "empty"),
    (add_score("x/99.jpg,9\n"), 1, r"x/99.jpg: `mos`: got 9.0, expected a number in \[1.0, 5.0\]. Pass the data set's own low and high\. Repair it", "scale"),
    (add_score("x/99.jpg,\n"), 1, r"d1, scores.csv: line 10: `mos`: got '', expected a finite number", "score"),
    (add_score("x/1.jpg,4.5\n"), 2, r"d1, scores.csv: line 3: 'x/1.jpg' has the scores 1.5 and 4.5; d1, scores.csv: line 10: 'x/1.jpg'", "twice"),
    (truncate, 2, r"d1, scores.csv: 3.jpg->2.5: the picture cannot be decoded: .*3.jpg.*; d2, answers.json: 3: the picture cannot", "truncated"),
    (lambda own: written(own / "images/x/3.jpg", ""), 2, "3.jpg->2.5: the picture cannot be decoded", "empty picture"),
]  # fmt: skip


@pytest.mark.parametrize(("harm", "count", "message", "name"), BROKEN, ids=[one[3] for one in BROKEN])
def test_what_cannot_be_used_is_refused_or_left_out_and_listed(own, harm, count, message, name):
    harm(own)
    with pytest.raises(DataError, match=f"`data-own.yaml`: {count} rows? cannot be used: .*{message}.*--drop-refused"):
        freeze_recipe(own / "data-own.yaml", own / "frozen")
    assert not (own / "frozen").exists()
    data = freeze_recipe(own / "data-own.yaml", own / "frozen", drop_refused=True)
    refused = [json.loads(line) for line in (own / "frozen" / "refused.jsonl").read_text().splitlines()]
    assert len(refused) == count == data.record["refused"]["rows"]
    assert set(refused[0]) == {"set", "file", "reason"}
    data.check_images()


def test_missing_images_may_be_checked_later(own):
    (own / "images/x/3.jpg").unlink()
    data = freeze_recipe(own / "data-own.yaml", own / "frozen", check_images=False)
    with pytest.raises(DataError, match="1 image is missing: d1: 1 of 6 in .*x/3.jpg.*; d2: 1 of "):
        data.check_images()


def test_pictures_are_decoded_once_and_only_if_that_is_wanted(own, monkeypatch):
    read, said = [], []
    monkeypatch.setattr(sources, "load", lambda path, exif: read.append((path.name, exif)))
    freeze_recipe(own / "data-own.yaml", own / "a", say=said.append)
    assert sorted(read) == sorted([(f"{i}.jpg", False) for i in (*range(8), 9)])  # four of them stand in both lists
    assert said[1:3] == ["Decoding 8 pictures of scores.csv ...", "Decoding 1 picture of answers.json ..."]
    made = freeze_recipe(own / "data-own.yaml", own / "b", decode=False)
    assert len(read) == 9
    assert made.record["how"]["arguments"] == {"drop_refused": False, "check_images": True, "decode": False}
    truncate(own)
    freeze_recipe(own / "data-own.yaml", own / "c", decode=False)
    made = freeze_recipe(own / "data-own.yaml", own / "d", check_images=False)
    assert len(read) == 9
    assert made.record["how"]["arguments"]["decode"] is False


def test_missing_and_broken_pictures_are_counted_apart(own):
    truncate(own)
    (own / "images/x/4.jpg").unlink()
    data = freeze_recipe(own / "data-own.yaml", own / "frozen", drop_refused=True)
    lists = {name: data.record["report"][name]["lists"][0] for name in ("d1", "d2")}
    assert {name: (one["without image"], one["undecodable"]) for name, one in lists.items()} == {"d1": (1, 1), "d2": (0, 1)}  # fmt: skip


def test_more_pictures_than_wait_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "_AT_ONCE", 3)
    for i in range(10):
        picture(tmp_path / f"{i}.png")
    (tmp_path / "7.png").write_bytes(b"no picture")
    names = [f"{i}.png" for i in range(10)]
    bad = sources.Pictures().bad([*names, *names, "gone.png"], tmp_path, "list")
    assert (sorted(bad.reasons), bad.missing) == (["7.png", "gone.png"], {"gone.png"})


def test_malformed_questions_and_excel_scores_may_be_left_out(own):
    questions = [question("y/9.jpg", type=7), question("y/9.jpg"), question("y/8.jpg")]
    written(own / "questions.json", questions)
    (own / "images/y/8.jpg").write_bytes(b"\xff\xd8\xff")
    book = openpyxl.Workbook()
    for row in (["Image name", "MOS"], *[[f"x/{i}.jpg", 10 * i + 5] for i in range(7)], ["x/7.jpg", None]):
        book.active.append(row)
    book.save(own / "spaq.xlsx")
    text = "d1: [{file: spaq.xlsx, reader: auto, scale: spaq, images: images}]\nvalidation: {fraction: 0.2, questions: questions.json, images: images}\n"
    recipe = written(own / "r.yaml", text)
    with pytest.raises(DataError, match=r"3 rows cannot be used: d1, spaq.xlsx: row 9: `MOS`: got None, expected a finite number; questions, questions.json: row 0: `type`: got 7, .*; questions, questions.json: question 2: the picture cannot be decoded"):  # fmt: skip
        freeze_recipe(recipe, own / "frozen")
    data = freeze_recipe(recipe, own / "frozen", drop_refused=True)
    assert data.counts.d1 + len(data.val_scoring) == 7
    assert [one.id for one in data.val_questions] == ["1"]
    assert data.record["refused"]["rows"] == 3


def test_a_public_set_with_a_bad_row_may_be_frozen_without_it(own):
    lines = "".join(f"x/{i}.jpg,I01.png,{1 + i / 2},0.5\n" for i in range(7)) + "x/7.jpg,I01.png,,0.5\n"
    written(own / "kadid" / "dmos.csv", "dist_img,ref_img,dmos,var\n" + lines)
    recipe = written(own / "r.yaml", "d1: [{set: kadid, folder: kadid, images: images}]\nvalidation: {fraction: 0.2}\n")
    with pytest.raises(DataError, match="1 row cannot be used: d1, kadid: line 9: `dmos`: got ''"):
        freeze_recipe(recipe, own / "frozen")
    data = freeze_recipe(recipe, own / "frozen", drop_refused=True)
    assert data.counts.d1 + len(data.val_scoring) == 7


def test_questions_without_answer_or_image_are_refused(own):
    written(own / "questions.json", [question("y/9.jpg"), question("y/9.jpg", correct_ans=""), question("gone.jpg")])
    text = OWN.replace("# questions:", "questions:").replace("# images: images", "images: images")
    written(own / "data-own.yaml", text)
    with pytest.raises(DataError, match="2 rows cannot be used: questions, questions.json: question 1: its answer is withheld.*question 2: the image 'gone.jpg'"):  # fmt: skip
        freeze_recipe(own / "data-own.yaml", own / "frozen")
    data = freeze_recipe(own / "data-own.yaml", own / "frozen", drop_refused=True)
    assert [one.id for one in data.val_questions] == ["0"]
    assert "9" not in {row.id for row in data.rows("d2")}


def test_an_image_that_stands_twice_in_d1_is_not_on_both_sides(own):
    text = (own / "scores.csv").read_text()
    written(own / "more.csv", text)
    written(
        own / "data-own.yaml",
        OWN.replace(
            "\nd2:", "  - {file: more.csv, reader: csv, scale: [1, 5, eq1], images: images, source: more}\n\nd2:"
        ),
    )
    data = freeze_recipe(own / "data-own.yaml", own / "frozen")
    assert not {row.image for row in data.val_scoring} & {row.image for row in data.rows("d1")}
    report = data.record["report"]["d1"]
    assert report["rows"] + report["removed"] + len(data.val_scoring) == 16


def test_sources_in_different_folders_get_one_root(own):
    (own / "images/y/9.jpg").rename(own / "9.jpg")
    written(own / "more.json", [talk("9.jpg")])
    written(own / "answers.json", [talk("x/1.jpg")])
    text = OWN.replace("  - {file: answers.json", "  - {file: more.json}\n  - {file: answers.json").replace(
        "holdout", "authors"
    )
    built = build(load_recipe(written(own / "r.yaml", text)), own)
    assert [row.image for row in built.sets["d2"]] == ["9.jpg", "images/x/1.jpg"]
    assert built.roots["d2"].resolve() == own.resolve()
    assert (built.roots["d1"].resolve(), built.sets["d1"][0].image) == (own.resolve() / "images", "x/0.jpg")


def test_a_public_set_in_its_own_folder(own):
    header = "image_name,c1,c2,c3,c4,c5,c_total,MOS,SD,MOS_zscore\n"
    lines = "".join(f"{i}.jpg,0,0,0,0,0,105,3.0,0.5,{10 * i + 5}.0\n" for i in range(8))
    written(own / "koniq10k" / "koniq10k_scores_and_distributions.csv", header + lines)
    written(own / "r.yaml", "d1: [{set: koniq, folder: koniq10k}]\nexclude: [{set: koniq, folder: koniq10k}]\n")
    with pytest.raises(DataError, match="`fraction`: got 0.1, expected enough|8 rows cannot be used"):
        freeze_recipe(own / "r.yaml", own / "frozen")
    for i in range(8):
        picture(own / "koniq10k" / "1024x768" / f"{i}.jpg")
    text = "d1: [{set: koniq, folder: koniq10k}]\nvalidation: {fraction: 0.25}\n"
    data = freeze_recipe(written(own / "r.yaml", text), own / "frozen")
    assert (data.counts.d1, len(data.val_scoring)) == (6, 2)
    assert {row.source for row in data.rows("d1")} == {"koniq"}
    assert {row.mos: level_in(row) for row in (*data.rows("d1"), *data.val_scoring)}[75.0] == "excellent"  # >= 69.624
    text += "exclude: [{set: koniq, folder: koniq10k}]\n"
    built = build(load_recipe(written(own / "r.yaml", text)), own)
    assert built.sets["d1"] == ()
    assert built.report["d1"]["reasons"] == {"name: koniq": 8}


def test_perceptual_hashes_on_request(own):
    image = Image.open(IMAGES / "landscape_600x400.jpg").convert("RGB")
    (own / "test").mkdir()
    image.save(own / "test" / "held.png")
    for i in range(8):
        Image.open(sorted(IMAGES.glob("*.*"))[i]).convert("RGB").resize((64, 64 + i)).save(
            own / "images" / "x" / f"{i}.jpg"
        )
    image.resize((300, 200)).save(own / "images" / "y" / "9.jpg")
    text = OWN.replace("exclude: []", "exclude: [{file: test.txt, images: test}]")
    written(own / "test.txt", "held.png\n")
    built = build(load_recipe(written(own / "r.yaml", text)), own)
    assert "9" in {row.id for row in built.sets["d2"]}
    built = build(load_recipe(written(own / "r.yaml", text + "phash: 4\n")), own)
    assert "9" not in {row.id for row in built.sets["d2"]}
    assert built.report["d2"]["reasons"]["phash: test.txt"] >= 1


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("d1: []", DataError, "at least one row in d1, d2 or d3"),
        ("d1: [{file: gone.json}]", DataError, "a readable UTF-8 file"),
        ("d1: [{set: konik, folder: x}]", EvaluationError, "Did you mean 'koniq'"),
        ("d1: [{file: scores.csv, reader: xml, scale: koniq}]", EvaluationError, "`format`: got 'xml'"),
        ("d2: [{file: answers.json, images: images, sampling: 'first:9'}]", DataError, "at most 5 rows"),
        ("d2: [{file: answers.json, images: images}]\nexclude: [{file: gone.txt}]", DataError, "a readable list"),
        ("d2: [{file: answers.json, images: images}]\nexclude: [{file: t.txt}]\nphash: 4", DataError, "<the list t.txt>, expected an `images` folder"),
        ("d2: [{file: answers.json, images: images}]\nsame_as: [[a], [a]]\nexclude: [{file: t.txt}]", DataError, "each folder in one group only"),
    ],
)  # fmt: skip
def test_a_recipe_that_does_not_fit_its_files(own, text, error, message):
    written(own / "t.txt", "t.jpg\n")
    with pytest.raises(error, match=message):
        freeze_recipe(written(own / "r.yaml", text), own / "frozen")
    assert not (own / "frozen").exists()


# --- commands --------------------------------------------------------------------------------------------------------


def test_commands(own):
    app = typer.Typer()
    app.command("freeze")(freeze_command)
    app.command("show")(show_command)
    run = CliRunner().invoke
    made = run(app, ["freeze", str(own / "data-own.yaml"), "-o", str(own / "frozen")])
    assert made.exit_code == 0, made.output
    again = run(app, ["freeze", str(own / "data-own.yaml"), "-o", str(own / "frozen")])
    assert isinstance(again.exception, DataError)
    assert run(app, ["freeze", str(own / "data-own.yaml"), "-o", str(own / "frozen"), "--force"]).exit_code == 0
    data = Frozen.load(own / "frozen")
    assert data.digest
    (own / "frozen" / "d1.jsonl").write_text("")
    assert isinstance(run(app, ["show", str(own / "frozen")]).exception, DataError)


def test_freezing_says_no_decode_on_the_command_line(own):
    app = typer.Typer()
    app.command("freeze")(freeze_command)
    truncate(own)
    call = [str(own / "data-own.yaml"), "-o", str(own / "frozen")]
    assert "cannot be decoded" in str(CliRunner().invoke(app, call).exception)
    assert CliRunner().invoke(app, [*call, "--no-decode"]).exit_code == 0


@pytest.mark.parametrize("watched", [True, False])
def test_a_progress_bar_is_for_a_person(own, monkeypatch, capsys, watched):
    monkeypatch.setattr(console, "watched", lambda stream: watched and stream is sys.stderr)
    monkeypatch.setattr(sources.console, "err", lambda: Console(file=sys.stderr, force_terminal=True, width=80))
    freeze_recipe(own / "data-own.yaml", own / "frozen")
    said = capsys.readouterr()
    assert ("Decoding" in said.err, "Decoding" in said.out) == (watched, False)


def test_building_d2_says_what_was_written(tmp_path, capsys):
    feedback = [{"image": f"{i}.jpg", "attributes": {"sharpness": "blurry"}, "conclusion": "Thus, the quality of the image is poor."} for i in range(2)]  # fmt: skip
    build_d2_command(written(tmp_path / "f.json", [*feedback, {"image": "z.jpg"}]), tmp_path / "d2.json", kinds=["pathway"], drop_refused=True)  # fmt: skip
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines() == [
        f"Wrote 2 rows about 2 images to {tmp_path / 'd2.json'}: pathway 2.",
        f"Refused: 1 row of feedback and 0 of the writer's results. The report is {tmp_path / 'd2.json.report.json'}.",
    ]


def test_corrupting_says_what_was_written(own, tmp_path, capsys):
    truncate(own)
    for name in ("4.jpg", "5.jpg", "6.jpg", "7.jpg"):
        (own / "images" / "x" / name).unlink()
    for name in ("0.jpg", "1.jpg", "2.jpg"):
        Image.new("RGB", (64, 64), (90, 120, 150)).save(own / "images" / "x" / name)
    corrupt_command(own / "images" / "x", tmp_path / "out", kind="fog", severity=1, drop_refused=True)
    first, second = capsys.readouterr().err.splitlines()
    assert first == f"Wrote 3 pictures to {tmp_path / 'out'}: fog 3."
    assert second.startswith("Refused 1 picture: 3.jpg: ")
    corrupt_command(own / "images" / "x" / "0.jpg", tmp_path / "one.png", kind="contrast", severity=2)
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", f"Wrote 1 picture to {tmp_path / 'one.png'}: contrast 1.\n")


# --- the page --------------------------------------------------------------------------------------------------------


def keys():
    for record in (DataRecipe, ScoringSource, ConversationSource, Exclude, ValidationSource):
        for one in dataclasses.fields(record):
            yield record.__name__, one.name


PAGE = (RECIPES.parent / "DATA.md").read_text(encoding="utf-8")
SECTIONS = {"DataRecipe": "The recipe", "ScoringSource": "`d1`", "ConversationSource": "`d2` and `d3`", "Exclude": "`exclude`", "ValidationSource": "`validation`"}  # fmt: skip


@pytest.mark.parametrize(("record", "key"), [*keys()])
def test_every_key_stands_in_the_table_of_its_section(record, key):
    section = PAGE.split(f"## {SECTIONS[record]}\n")[1].split("\n## ")[0]
    assert re.search(rf"^\| `{key}` \|", section, re.MULTILINE)


def test_the_examples_of_the_page_are_read(tmp_path):
    """Each block is written as the file that the line above it names, and read as `data freeze` reads it."""
    block = r"^`([a-z0-9.-]+)`[^\n]*(?:\n[a-z][^\n]*)?\n\n```\w+\n(.*?)^```"
    for name, text in re.findall(block, PAGE, re.MULTILINE | re.DOTALL):
        written(tmp_path / name, text)
    found = {path.name for path in tmp_path.iterdir()}
    assert found == {"recipe.yaml", "scores.csv", "answers.json", "questions.json", "feedback.json", "refused.jsonl", "removed.jsonl"}  # fmt: skip
    names = [*read_scores(tmp_path / "scores.csv").items, *read_llvisionqa(tmp_path / "questions.json")]
    for one in [*names, *read_llava(tmp_path / "answers.json")]:
        picture(tmp_path / "images" / one.image)
    assert read_feedback(tmp_path / "feedback.json")
    refused, removed = (
        [json.loads(line) for line in (tmp_path / f"{name}.jsonl").read_text().splitlines()]
        for name in ("refused", "removed")
    )
    assert [set(one) for one in refused] == [{"set", "file", "reason"}] * len(refused)
    assert {frozenset(one) for one in removed} == {frozenset(one.name for one in dataclasses.fields(Removal))}
    data = freeze_recipe(tmp_path / "recipe.yaml", tmp_path / "frozen")
    assert (data.counts.d1, len(data.val_scoring), data.counts.d2, len(data.val_questions)) == (3, 1, 2, 1)


def test_the_page_names_every_set_and_format():
    for name in (*IQA_SETS, *FORMATS):
        assert re.search(rf"\b{name}\b", PAGE), name


def test_errors_of_a_recipe_name_the_page(tmp_path):
    with pytest.raises(RecipeError, match=r"`a` is no key here. The keys are described in train/DATA.md\.$"):
        load_recipe(written(tmp_path / "r.yaml", "a: 1"))


def test_show_tells_what_is_in_a_folder(own, capsys):
    data = freeze_recipe(own / "data-own.yaml", own / "frozen")
    show_command(own / "frozen")
    said = capsys.readouterr().out
    assert data.digest in said
    assert data.record["sets"]["d1"]["sha256"][:12] in said
    for word in (
        "d1",
        "d2",
        "d3",
        "scoring",
        "questions",
        "own 6",
        "excellent",
        "name: validation rows",
        "0 rows refused",
    ):
        assert word in said
