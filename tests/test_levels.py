"""Eq. 1 and Eqs. 4-5, recipes, multiple choice, and the results' own behaviour."""

from __future__ import annotations

import copy
import json
import math
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from conftest import shared
from qsit_metric import Answer, Recipe, Score
from qsit_metric.errors import BackendError, InputError
from qsit_metric.levels import LEVELS, expect, level_of, unit
from qsit_metric.prompts import AUTHORS, CHATML, TRAIN, check_choices, choice_in, multiple_choice
from qsit_metric.results import scores

PRESETS = {"koniq": (6.68, 85.36), "spaq": (0.0, 94.0)}


@pytest.mark.parametrize(
    ("mos", "eq1", "authors"),
    [(0.0, "bad", "bad"), (37.6, "poor", "fair"), (56.4, "fair", "fair"), (75.2, "good", "excellent"), (94.0, "excellent", "excellent")],
)  # fmt: skip
def test_interval_ends(mos, eq1, authors):
    assert level_of(mos, 0.0, 94.0) == eq1
    assert level_of(mos, 0.0, 94.0, "authors") == authors


@given(st.floats(-5, 5), st.floats(0.01, 100), st.floats(-0.2, 1.2))
def test_authors_levels_are_numpys_digitize(low, width, at):
    high, mos = low + width, low + at * width
    index = int(np.clip(np.digitize(mos, np.linspace(low, high, 6)), 1, 5)) - 1
    assert level_of(mos, low, high, "authors") == LEVELS[index]


@pytest.mark.parametrize("name", PRESETS)
def test_published_labels_are_reproduced(name):
    """Every level word in the authors' training file follows from its MOS."""
    rows = json.loads((shared("labels") / f"train_{name}_qsit.json").read_text())
    for row in rows:
        mos = float(row["id"].split("->")[1])
        word = row["conversations"][1]["value"].removeprefix("The quality of the image is ").removesuffix(".")
        assert level_of(mos, *PRESETS[name], "authors") == word
    assert rows[0]["conversations"][0]["value"].removesuffix("\n<image>") == TRAIN.question
    assert rows[0]["conversations"][1]["value"].startswith(TRAIN.answer_prefix + " ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((3, 5, 1), "`low, high`: got"),
        ((3, 1, math.inf), "finite numbers with low < high"),
        ((6, 1, 5), r"`mos`: got 6, expected a number in \[1, 5\]"),
        ((math.nan, 1, 5), "`mos`: got nan"),
        ((3, 1, 5, "paper"), "`convention`: got 'paper'"),
        ((math.nan, 1, 5, "authors"), "a MOS that is a number"),
    ],
)
def test_level_errors(arguments, message):
    with pytest.raises(InputError, match=message):
        level_of(*arguments)


@given(st.lists(st.floats(-30, 30), min_size=2, max_size=7))
def test_expectation(logits):
    probs, score = expect(torch.tensor(logits, dtype=torch.float64))
    want = np.exp(np.array(logits) - max(logits))
    want /= want.sum()
    assert probs.numpy() == pytest.approx(want, abs=1e-12)
    assert float(score) == pytest.approx(want @ np.linspace(1, 5, len(logits)), abs=1e-12)
    assert 1 - 1e-9 <= float(score) <= 5 + 1e-9
    shifted = expect(torch.tensor(logits, dtype=torch.float64) + 5)[1]
    assert float(shifted) == pytest.approx(float(score), abs=1e-9)


def test_expectation_extremes():
    big = torch.tensor([0.0, 0, 0, 0, 1000])
    assert float(expect(big)[1]) == 5.0
    assert expect(torch.zeros(3, 4, 5))[1].shape == (3, 4)
    assert float(expect(torch.tensor([0.0, 3.0]), scale=(0, 1))[1]) == pytest.approx(1 / (1 + math.exp(-3)))
    with pytest.raises(InputError, match="two or more words"):
        expect(torch.zeros(1))


def test_unit():
    assert [unit(s) for s in (1, 3, 5)] == [0, 0.5, 1]


def test_score_behaves_as_a_number():
    probs = dict(zip(LEVELS, (0.1, 0.2, 0.3, 0.4, 0.0), strict=True))
    score = Score(3.0, probs, {"bad": -1.0}, "first of 2 frames")
    assert score == 3.0
    assert score == 3.0
    assert score < 4
    assert score + 1 == 4
    assert f"{score:.2f}" == "3.00"
    assert str(score) == "3.0"
    assert repr([score]) == "[Score(3.0000, good)]"
    assert json.loads(json.dumps({"s": score})) == {"s": 3.0}
    assert (score.level, score.unit) == ("good", 0.5)
    for other in (pickle.loads(pickle.dumps(score)), copy.copy(score), copy.deepcopy(score)):
        assert other == score
        assert (other.probs, other.logits, other.note) == (probs, {"bad": -1.0}, "first of 2 frames")
    assert score != Score(3.0, {**probs, "bad": 0.0})
    assert hash(score) == hash(3.0)
    assert sorted([score, 1.0]) == [1.0, score]
    assert score.as_dict()["note"] == "first of 2 frames"
    assert "note" not in Score(3.0, probs).as_dict()


def test_answer_behaves_as_text():
    answer = Answer("blur", "blur", {"blur": 0.7, "noise": 0.3}, tokens=(1, 2))
    assert answer == "blur"
    assert answer.upper() == "BLUR"
    assert json.dumps([answer]) == '["blur"]'
    for other in (pickle.loads(pickle.dumps(answer)), copy.deepcopy(answer)):
        assert other == answer
        assert (other.choice, other.probs, other.tokens, other.finished) == ("blur", answer.probs, (1, 2), True)
    assert answer != Answer("blur")
    assert {answer: 1}["blur"] == 1
    assert answer.as_dict() == {"answer": "blur", "finished": True, "choice": "blur", "probs": answer.probs}
    assert Answer("yes").as_dict() == {"answer": "yes", "finished": True}


def test_scores_of_a_batch():
    rows = [torch.tensor([0.0, 0, 0, 0, 9]), torch.tensor([9.0, 0, 0, 0, 0])]
    best, worst = scores(rows, LEVELS, [None, "x"])
    assert best > 4.9 > 1.1 > worst
    assert (best.level, worst.level, worst.note) == ("excellent", "bad", "x")
    assert best.logits == {"bad": 0, "poor": 0, "fair": 0, "good": 0, "excellent": 9}


def test_logits_that_are_no_numbers_are_refused():
    with pytest.raises(BackendError, match="<logits that are not finite>.*dtype='float32'"):
        scores([torch.tensor([0.0, float("nan"), 0, 0, 0])], LEVELS, [None])


def test_recipes_survive_the_disk(tmp_path):
    for recipe in (AUTHORS, TRAIN):
        recipe.save(tmp_path)
        assert Recipe.load(tmp_path) == recipe
    assert Recipe.load(tmp_path / "nowhere") is None
    assert TRAIN.template == CHATML


def test_multiple_choice_text():
    assert multiple_choice("Q?", ["x", "y"]) == "Q?\nA. x\nB. y\n"
    assert check_choices(("x", "y")) == ("x", "y")
    with pytest.raises(InputError, match="`choices`: got 5"):
        check_choices(5)


@pytest.mark.parametrize(
    ("reply", "index"),
    [
        ("A", 0), ("B. Poor", 1), ("Poor", 1), ("the answer is\nB", 1), ("A. or B.", None), ("(A)", None), ("a", None),
        ("", None), ("not A.", 0), ("A: Good", None),
    ],
)  # fmt: skip
def test_the_authors_rule(reply, index):
    """The rule of the LLVisionQA script with its quirks: "not A." names A, "(A)" and "A: x" name nothing."""
    assert choice_in(reply, ["Good", "Poor"]) == index
