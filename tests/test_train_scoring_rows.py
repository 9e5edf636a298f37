"""D1: levels from scores, the published lists, sampling strategies, and the validation rows drawn from D1."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import shared
from qsit_metric.evaluation import Item, read_scores
from qsit_metric.levels import LEVELS
from qsit_metric.prompts import AUTHORS, TRAIN
from train.data.recipe import Entry, read_mix_yaml
from train.data.rows import EmptyFileError, Refusals, Row, read_llava, to_jsonl
from train.data.scoring import SCALES, Scale, hold_out, level_in, read_d1, scoring_row
from train.data.sources import take
from train.errors import DataError, RecipeError

# Rows, and rows whose level Eq. 1 gives otherwise (counted with numpy.digitize on the published lists).
TRAINING = {"train_koniq_qsit.json": ("koniq", 7046, 0), "train_spaq_qsit.json": ("spaq", 8897, 12)}
TESTING = {"qalign_test_koniq.json": ("koniq", 2010, 0), "qalign_test_spaq.json": ("spaq", 2224, 3)}
LEVEL_COUNTS = {"koniq": (183, 666, 1393, 2798, 2006), "spaq": (507, 2447, 2123, 2546, 1274)}  # training lists


def d1_row(image="koniq/a.jpg", mos="50.0", word="fair", **fields):
    said = [
        {"from": "human", "value": "Rate it.\n<image>"},
        {"from": "gpt", "value": f"The quality of the image is {word}."},
    ]
    return {"id": f"{Path(image).name}->{mos}", "image": image, "conversations": said, **fields}


def written(path, rows):
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


# --- published lists -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", TRAINING)
def test_every_published_training_row_is_reproduced(file):
    source, count, _ = TRAINING[file]
    path = shared("labels") / file
    rows = read_d1(path)
    assert len(rows) == count
    assert [scoring_row(Item(row.image, row.mos, "x"), SCALES[source], source) for row in rows] == rows
    counts = Counter(map(level_in, rows))
    assert tuple(counts[level] for level in LEVELS) == LEVEL_COUNTS[source]
    assert [row["id"] for row in json.loads(path.read_text())] == [row.id for row in rows]


@pytest.mark.parametrize("file", TESTING)
def test_every_published_test_row_is_reproduced(file):
    """Q-Align's questions vary, and 318 of SPAQ's have two image marks; id and answer are those that we build."""
    source, count, _ = TESTING[file]
    path = shared("labels") / file
    items = read_scores(path).items
    rows = [scoring_row(item, SCALES[source], source) for item in items]
    raw = json.loads(path.read_text())
    assert len(rows) == count
    assert [(row.id, row.turns[0][1]) for row in rows] == [(one["id"], one["conversations"][1]["value"]) for one in raw]


def test_a_list_with_doubled_prompts_is_refused_by_name():
    refusals = Refusals()
    rows = read_d1(shared("labels") / "qalign_test_spaq.json", refusals=refusals)
    assert (len(rows), len(refusals)) == (2224 - 318, 318)
    assert all("turn 0 has 2 <image>" in reason for reason in refusals.reasons)


@pytest.mark.parametrize("file", TRAINING | TESTING)
def test_the_papers_equation_differs_in_spaqs_boundary_rows_only(file):
    source, _, boundary = (TRAINING | TESTING)[file]
    preset = SCALES[source]
    eq1 = Scale(preset.low, preset.high, "eq1")
    items = read_scores(shared("labels") / file).items
    different = [item for item in items if eq1.level(item.mos) != preset.level(item.mos)]
    assert len(different) == boundary
    assert {item.mos for item in different} <= {37.6, 75.2}


def test_rows_that_the_papers_equation_labels_otherwise_are_refused():
    refusals = Refusals()
    rows = read_d1(shared("labels") / "train_spaq_qsit.json", Scale(0, 94, "eq1"), refusals=refusals)
    assert (len(rows), len(refusals)) == (8897 - 12, 12)
    assert all("on this scale" in reason for reason in refusals.reasons)


# --- scales and rows -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [(5, 1), (1, 1), (0, math.inf), (math.nan, 1)])
def test_a_scale_needs_two_ends(bad):
    with pytest.raises(DataError, match="low < high"):
        Scale(*bad)


def test_a_scale_needs_a_known_convention():
    with pytest.raises(DataError, match="'eq1' or 'authors'"):
        Scale(1, 5, "both")


def test_a_score_outside_an_eq1_scale_is_refused():
    with pytest.raises(DataError, match=r"expected a number in \[1, 5\]"):
        scoring_row(Item("a.jpg", 5.5, "a"), Scale(1, 5))


def test_a_row_has_question_answer_and_score_of_its_recipe():
    row = scoring_row(Item("x/a.jpg", 62.0, "a"), SCALES["koniq"], "koniq")
    assert row == Row("a.jpg->62.0", "x/a.jpg", ((TRAIN.question, "The quality of the image is good."),), "koniq", 62.0)
    other = scoring_row(Item("x/a.jpg", 62.0, "a"), SCALES["koniq"], recipe=AUTHORS)
    assert other.turns[0][1] == "The quality of this image is Good."
    assert level_in(other, AUTHORS) == "good"


def test_a_stated_level_must_follow_from_the_score():
    with pytest.raises(DataError, match=r"the file says 'bad', but MOS 4.9 is 'excellent'"):
        scoring_row(Item("a.jpg", 4.9, "a", level="bad"), Scale(1, 5))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (d1_row(word="pristine"), "got 'The quality of the image is pristine.'"),  # off-list words of Q-Align's KADID
        (d1_row(word="Fair"), "ends in one of bad, poor, fair, good, excellent"),
        (d1_row(word="bad"), "the row says 'bad', but its MOS is 'fair'"),
        (d1_row(mos="high"), "is not its file name, '->' and its MOS"),
        (d1_row(mos="nan"), "is not its file name, '->' and its MOS"),
        (d1_row(id="b.jpg->50.0"), "is not its file name, '->' and its MOS"),
        (d1_row(id="50.0"), "is not its file name, '->' and its MOS"),
        (d1_row(mos="51.0") | {"mos": 50.0}, "`mos` is 50.0, but the id says 51.0"),
        (d1_row("live/a.jpg"), r"is not in koniq/ or spaq/, so its scale must be given"),
        (d1_row("a.jpg"), r"its scale must be given as \[low, high, convention\]"),
    ],
)
def test_a_published_row_that_cannot_be_used_is_named(tmp_path, row, message):
    path = written(tmp_path / "d1.json", [d1_row(), row])
    with pytest.raises(DataError, match=f"1 row cannot be used: .*{message}.*Repair it, .*--drop-refused"):
        read_d1(path)
    refusals = Refusals()
    assert [row.id for row in read_d1(path, refusals=refusals)] == ["a.jpg->50.0"]
    assert len(refusals) == 1


def test_a_given_scale_holds_for_every_folder(tmp_path):
    path = written(tmp_path / "d1.json", [d1_row("mine/a.jpg", "3.0"), d1_row("b.jpg", "5.0", "excellent")])
    first, second = read_d1(path, Scale(1, 5), "own")
    assert (first.source, first.mos, second.source, second.mos) == ("mine", 3.0, "own", 5.0)


# --- the LLaVA list --------------------------------------------------------------------------------------------------

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).map(str.strip).filter(lambda t: t and "<" not in t)
NAME = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\\/:\0"), min_size=1).map(
    lambda t: f"x/{t}.jpg"
)


@given(
    st.lists(
        st.builds(
            Row,
            TEXT,
            NAME,
            st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=3).map(tuple),
            TEXT,
            st.none() | st.floats(-9, 9),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_frozen_rows_are_read_back_as_they_were(tmp_path_factory, rows):
    """Also rows with U+2028, U+0085 and their like, at which `splitlines` would cut."""
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    path.write_text(to_jsonl(rows), encoding="utf-8", newline="\n")
    assert read_llava(path) == rows


def test_a_line_separator_inside_a_text_does_not_end_the_line(tmp_path):
    row = Row("1", "a.jpg", (("Is it\u2028sharp?", "Yes\x85."),))
    (tmp_path / "r.jsonl").write_text(to_jsonl([row]) + "\n", encoding="utf-8")
    assert read_llava(tmp_path / "r.jsonl") == [row]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"image": "/data/a.jpg"}, "expected a path below the image folder"),
        ({"image": "../a.jpg"}, "expected a path below the image folder"),
        ({"image": "x\\a.jpg"}, "with forward slashes"),
        ({"image": ["a.jpg", "b.jpg"]}, "expected a path below"),
        ({"mos": math.nan}, "`mos` is nan, expected a finite number"),
        ({"mos": True}, "`mos` is True, expected a finite number"),
        ({"id": "\ud800"}, "half a surrogate pair"),
        (
            {"conversations": [{"from": "human", "value": "<image><|image|>?"}, {"from": "gpt", "value": "Yes"}]},
            "turn 0 has 2 <image>",
        ),
        ({"conversations": [{"from": "human", "value": "Sharp?"}]}, "expected pairs of turns"),
        (
            {"conversations": [{"from": "human", "value": "<image>\n"}, {"from": "gpt", "value": "Yes"}]},
            "turn 0 has no text",
        ),
        (
            {"conversations": [{"from": "gpt", "value": "Yes"}, {"from": "human", "value": "Sharp?"}]},
            "expected text from 'human'",
        ),
    ],
)
def test_a_malformed_row_is_named(tmp_path, fields, message):
    path = written(tmp_path / "rows.json", [d1_row() | fields])
    with pytest.raises(DataError, match=message):
        read_llava(path)


def test_a_row_without_id_is_named_by_its_place(tmp_path):
    path = written(tmp_path / "rows.json", [d1_row() | {"id": None}, {k: v for k, v in d1_row().items() if k != "id"}])
    assert [row.id for row in read_llava(path)] == ["0", "1"]


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "not an empty file. The authors publish two"), (" \n", "not an empty file"), ("[]", "not an empty list")],
)
def test_an_empty_list_is_an_error_of_its_own(tmp_path, text, message):
    (tmp_path / "q_instruct.json").write_text(text)
    with pytest.raises(EmptyFileError, match=message):
        read_llava(tmp_path / "q_instruct.json")


def test_a_broken_line_is_named(tmp_path):
    (tmp_path / "r.jsonl").write_text('{"id": 1}\n\n{"id": \n')
    with pytest.raises(DataError, match="Line 3: "):
        read_llava(tmp_path / "r.jsonl")


# --- sampling --------------------------------------------------------------------------------------------------------


@given(st.integers(1, 400), st.integers(1, 100), st.sampled_from(["first", "end", "random"]), st.integers(0, 99))
def test_percentages_are_ceilings_and_draws_keep_the_order(count, percent, how, seed):
    rows = list(range(count))
    taken = take(rows, f"{how}:{percent}%", seed)
    assert len(taken) == -(-percent * count // 100)
    assert taken == sorted(set(taken))
    assert taken == take(rows, f"{how}:{percent}%", seed)
    assert how != "first" or taken == rows[: len(taken)]
    assert how != "end" or taken == rows[count - len(taken) :]


def test_a_draw_follows_its_seed():
    assert take(range(100), "random:10", 1) != take(range(100), "random:10", 2)
    assert take(range(100), "random:10", [1, 2]) != take(range(100), "random:10", [1, 3])
    taken = [take("abc", strategy) for strategy in ("all", "first:2", "end:2")]
    assert taken == [["a", "b", "c"], ["a", "b"], ["b", "c"]]


def test_the_authors_numbers_of_rows():
    """training.md 4.4: 150,000 and 157,712 rows give 33,000 and 12,617."""
    assert len(take(range(150_000), "random:22%")) == 33_000
    assert len(take(range(157_712), "random:8%")) == 12_617


@pytest.mark.parametrize(
    "strategy",
    ["some", "random", "random:", "random:0", "first:-1", "random:101%", "first:1.5", "random:10 %", "all:3", "", None],
)
def test_an_unknown_strategy_is_refused(strategy):
    with pytest.raises(RecipeError, match="expected all, first:N, end:N or random:N"):
        take([1, 2, 3], strategy)


def test_more_rows_than_there_are_is_refused():
    with pytest.raises(DataError, match="at most 3 rows, as there are"):
        take([1, 2, 3], "first:4")


def test_the_authors_mix():
    assert [
        (Path(entry.path).name, entry.strategy) for entry in read_mix_yaml(shared("labels") / "single_image.yaml")
    ] == [
        ("train_spaq_qsit.json", "all"),
        ("train_koniq_qsit.json", "all"),
        ("q_instruct.json", "random:22%"),
        ("llava_instruct_150k.json", "random:8%"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1", "expected one key, `datasets`"),
        ("datasets: []", "with a list"),
        (
            "datasets: [{json_path: a, weight: 2}]",
            r"datasets\[0\]`: got .* expected `json_path` and `sampling_strategy`",
        ),
        ("datasets: [{json_path: a}, {json_path: b, sampling_strategy: most}]", "got 'most', expected all"),
    ],
)
def test_a_mix_of_another_form_is_refused(tmp_path, text, message):
    (tmp_path / "mix.yaml").write_text(text)
    with pytest.raises(RecipeError, match=message):
        read_mix_yaml(tmp_path / "mix.yaml")


def test_a_mix_entry_without_strategy_takes_all(tmp_path):
    (tmp_path / "mix.yaml").write_text("datasets: [{json_path: a.json}]")
    assert read_mix_yaml(tmp_path / "mix.yaml") == (Entry("a.json", "all"),)


# --- the validation rows ---------------------------------------------------------------------------------------------


def many(counts, source="own"):
    return [
        Row(
            f"{source}-{level}-{i}",
            f"{source}/{level}{i}.jpg",
            ((TRAIN.question, f"The quality of the image is {level}."),),
            source,
        )
        for level, count in zip(LEVELS, counts, strict=True)
        for i in range(count)
    ]


@given(
    st.lists(
        st.lists(st.integers(0, 60), min_size=5, max_size=5).filter(lambda c: sum(c) >= 10), min_size=1, max_size=3
    ),
    st.floats(0.06, 0.9),
    st.integers(0, 5),
)
def test_every_source_and_level_has_its_share(sizes, fraction, seed):
    rows = [row for number, counts in enumerate(sizes) for row in many(counts, f"s{number}")]
    split = hold_out(rows, fraction, seed)
    assert sorted(row.id for row in split.train + split.validation) == sorted(row.id for row in rows)
    for number, counts in enumerate(sizes):
        held = Counter(level_in(row) for row in split.validation if row.source == f"s{number}")
        total = math.floor(fraction * sum(counts) + 0.5)
        assert held.total() == total
        for level, count in zip(LEVELS, counts, strict=True):
            assert abs(held[level] - count * total / sum(counts)) < 1
    assert hold_out(rows, fraction, seed, "authors").validation == split.validation
    assert list(hold_out(rows, fraction, seed, "authors").train) == rows


def test_the_choice_depends_on_the_seed_and_not_on_the_order():
    rows = many((20, 20, 20, 20, 20))
    chosen = {row.id for row in hold_out(rows, 0.1, 1).validation}
    assert chosen == {row.id for row in hold_out(rows[::-1], 0.1, 1).validation}
    assert chosen != {row.id for row in hold_out(rows, 0.1, 2).validation}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((many((9, 0, 0, 0, 0)), 1.0), "between 0 and 1"),
        ((many((9, 0, 0, 0, 0)), math.nan), "between 0 and 1"),
        ((many((9, 0, 0, 0, 0)), 0.1, 0, "both"), "'holdout' or 'authors'"),
        ((many((4, 0, 0, 0, 0)), 0.1), "enough for one validation row of <4 rows of source 'own'>"),
        (([Row("q", "a.jpg", (("Sharp?", "Yes."),))], 0.5), "expected one turn that ends in one of"),
    ],
)
def test_what_cannot_be_split_is_refused(arguments, message):
    with pytest.raises(DataError, match=message):
        hold_out(*arguments)
