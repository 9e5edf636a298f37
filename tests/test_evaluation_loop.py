"""From a manifest or questions to a report: real metric, foreign metrics, failures, result files."""

from __future__ import annotations

import csv
import gc
import json
import subprocess
import sys
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch

import qsit_metric.evaluation
from conftest import IMAGES, expected
from qsit_metric import Score
from qsit_metric.errors import ImageError
from qsit_metric.evaluation import EvaluationError, Item, Manifest, Question, correlate, evaluate, evaluate_questions
from qsit_metric.evaluation.qbench import CONCERNS, TYPES
from qsit_metric.prompts import AUTHORS

NAMES = ("tiny_7x5.png", "gray_256.png", "tile_384.png", "rgba_300.png")


def golden(*names):
    return Manifest("golden", [Item(name, place, f"id-{name}", "test") for place, name in enumerate(names)], IMAGES)


@pytest.fixture(scope="module")
def found(tied):
    seen = []
    manifest = golden(NAMES[0], NAMES[1], "missing.png", NAMES[2], NAMES[3])
    return manifest, evaluate(tied, manifest, progress=lambda *now: seen.append(now)), seen


def test_importing_it_brings_nothing_heavy():
    heavy = ("torch", "transformers", "numpy", "scipy", "openpyxl", "pyarrow", "PIL")
    code = f"import sys, qsit_metric.evaluation; print([m for m in {heavy} if m in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )
    use = "from qsit_metric.evaluation import *; import sys; print('torch' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", use], capture_output=True, text=True, check=True).stdout.strip()
        == "False"
    )


def test_public_names():
    public = qsit_metric.evaluation
    assert set(public.__all__) == {
        "Accuracy", "Correlations", "Evaluation", "EvaluationError", "FORMATS", "IQASet", "IQA_SETS", "Item", "Manifest",
        "Question", "QuestionReport", "RULES", "ToDescribe", "UndefinedError", "bootstrap_interval", "check_counts",
        "correlate", "evaluate", "evaluate_questions", "extract_images", "krcc", "plcc", "plcc_fitted", "read_iqa",
        "read_lldescribe", "read_llvisionqa", "read_scores", "rmse", "srcc", "write_llvisionqa",
    }  # fmt: skip
    assert set(public.__all__) <= set(dir(public))
    for name in public.__all__:
        assert getattr(public, name) is not None
    with pytest.raises(AttributeError, match=r"qsit_metric.evaluation attribute evaluat$"):
        public.evaluat  # noqa: B018


def test_a_metric_on_a_manifest(tied, found):
    manifest, result, seen = found
    assert [item.image for item, _ in result.scores] == list(NAMES)
    assert [score for _, score in result.scores] == tied.score([IMAGES / name for name in NAMES], exif=False)
    assert all(isinstance(score, Score) for _, score in result.scores)
    assert result.correlations == correlate([score for _, score in result.scores], [0, 1, 3, 4])
    assert (result.name, result.n, result.exif) == ("golden", 4, False)
    assert (result.manifest, result.made["model"]) == (manifest.sha256, tied.info["model"])
    assert seen == [(n, 5) for n in range(1, 6)]


def test_scores_are_the_golden_ones(found):
    """The authors' flow on pictures stored without loss; provenance in tests/test_golden.py."""
    golden_scores = {name: fields["probs"] for name, fields in expected("tied")["images"].items()}
    for item, score in found[1].scores:
        probs = [golden_scores[item.image][word] for word in AUTHORS.words]
        assert score == pytest.approx(sum(p * value for value, p in enumerate(probs, start=1)), abs=1e-4)


def test_a_failed_image_is_counted_and_named(found, caplog):
    _, result, _ = found
    [(item, error)] = result.failed
    assert item.image == "missing.png"
    assert isinstance(error, ImageError)
    evaluate(lambda _: 1 / 0, golden("a.png", "b.png"))
    assert "golden: 2 of 2 images failed, first a.png: division by zero" in caplog.text


def test_exif_reaches_the_metric(tied, monkeypatch):
    asked = []
    monkeypatch.setattr(
        tied, "score_iter", lambda paths, **options: asked.append(options) or iter([3.0 for _ in paths]), raising=False
    )
    assert evaluate(tied, golden("a.png")).exif is False
    assert evaluate(tied, golden("a.png"), exif=True).exif is True
    assert asked == [{"exif": False, "errors": "return"}, {"exif": True, "errors": "return"}]


@pytest.mark.parametrize(
    "kind", [float, torch.tensor, np.float32, lambda v: torch.tensor([[v]]), lambda v: np.array([v])]
)
def test_functions_of_a_path(kind):
    paths = []

    def metric(path):
        paths.append(path)
        return kind(-(float(len(paths)) ** 2))

    result = evaluate(metric, golden("a.png", "b.png", "c.png"))
    assert paths == [str(IMAGES / name) for name in ("a.png", "b.png", "c.png")]
    assert [score for _, score in result.scores] == [-1, -4, -9]
    assert result.correlations.srcc == -1
    assert result.exif is None
    assert "metric" in result.made["model"]


@pytest.mark.parametrize(
    "value", [float("nan"), None, "text", torch.tensor([1.0, 2.0]), torch.tensor(float("inf")), True]
)
def test_what_is_no_score_is_a_failure(value):
    result = evaluate(
        lambda path: value if path.endswith("b.png") else len(path) + ord(path[-5]),
        golden("a.png", "b.png", "c.png", "d.png"),
    )
    assert [item.image for item, _ in result.failed] == ["b.png"]
    assert result.n == 3
    assert result.correlations.srcc == 1


def test_what_is_no_metric_is_refused():
    with pytest.raises(EvaluationError, match="`metric`: got 'qsit', expected a QSiT or a function of a path"):
        evaluate("qsit", golden("a.png"))


def test_stopping_is_not_a_failure():
    def stopped(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(stopped, golden("a.png"))


def test_failures_do_not_hold_what_they_had_in_hand():
    class Big:
        pass

    held = []

    def metric(_):
        big = Big()
        held.append(weakref.ref(big))
        raise RuntimeError("out of memory")

    result = evaluate(metric, golden("a.png"))
    gc.collect()
    assert held[0]() is None
    assert str(result.failed[0][1]) == "out of memory"


def test_result_files(found, tmp_path):
    _, result, _ = found
    result.save(tmp_path / "r.json")
    content = json.loads((tmp_path / "r.json").read_text())
    assert content == json.loads(json.dumps(result.as_dict()))
    assert (content["n"], content["n_failed"]) == (4, 1)
    assert content["correlations"]["srcc"] == result.correlations.srcc
    result.save(tmp_path / "r.CSV")
    rows = list(csv.DictReader((tmp_path / "r.CSV").open()))
    assert [row["image"] for row in rows] == [*NAMES, "missing.png"]
    assert [float(row["score"]) for row in rows[:4]] == [float(score) for _, score in result.scores]
    assert rows[0]["id"] == "id-tiny_7x5.png"
    assert rows[-1]["score"] == ""
    assert rows[-1]["error"].startswith("ImageError: ")
    with pytest.raises(EvaluationError, match=r"`path`: got 'r.txt', expected a name that ends in .csv or .json"):
        result.save("r.txt")


def question(id, image, answer, type="yes-no", concern="distortion", choices=("Sharp", "Blurry")):
    return Question(id, image, f"Question {id}?", choices, answer, type, concern)


@pytest.fixture(scope="module")
def questions():
    return [
        question("0", NAMES[0], 0),
        question("1", NAMES[1], 1, "what", "other", ("Red", "Green", "Blue")),
        question("2", "missing.png", 1),
        question("3", NAMES[0], 1, "how", "in-context other", ("Low", "High", "Medium", "None")),
        question("4", NAMES[0], None),
        question("5", NAMES[0], 0, choices=("Same", "Same")),
    ]


@pytest.fixture(scope="module")
def report(tied, questions):
    opened, seen = [], []
    with pytest.MonkeyPatch.context() as patch:
        opening = tied.open
        patch.setattr(
            tied, "open", lambda path, **options: opened.append((path.name, options)) or opening(path, **options)
        )
        result = evaluate_questions(tied, questions, IMAGES, progress=lambda *now: seen.append(now))
    return result, opened, seen


def test_an_image_is_encoded_once_for_all_its_questions(report):
    _, opened, seen = report
    assert opened == [(name, {"exif": False}) for name in (NAMES[0], NAMES[1], "missing.png")]
    assert seen == [(4, 6), (5, 6), (6, 6)]


def test_answers_are_those_of_ask(tied, report, questions):
    result, _, _ = report
    assert [one.question.id for one in result.replies] == ["0", "1", "3", "4"]
    for one in result.replies:
        answer = tied.ask(IMAGES / one.question.image, one.question.question, choices=one.question.choices, exif=False)
        assert one.answer == str(answer)
        assert one.answer.probs == pytest.approx(answer.probs, abs=1e-5)
        assert one.correct == (
            None if one.question.answer is None else answer == one.question.choices[one.question.answer]
        )


def test_accuracies_count_what_was_judged(report):
    result, _, _ = report
    right = [one.correct for one in result.replies if one.correct is not None]
    assert result.overall == (sum(right) / 3, 3)
    assert tuple(result.by_type) == TYPES
    assert tuple(result.by_concern) == CONCERNS
    assert [one.n for one in result.by_type.values()] == [1, 1, 1]
    assert [one.n for one in result.by_concern.values()] == [1, 1, 0, 1]
    assert result.by_concern["in-context distortion"].accuracy is None
    assert result.withheld == 1
    assert [(one.id, type(error).__name__) for one, error in result.failed] == [
        ("2", "ImageError"),
        ("5", "InputError"),
    ]


def test_question_files(report, tmp_path):
    result, _, _ = report
    result.save(tmp_path / "q.json")
    content = json.loads((tmp_path / "q.json").read_text())
    assert content == json.loads(json.dumps(result.as_dict(), allow_nan=False))
    assert content["overall"] == {"accuracy": result.overall.accuracy, "n": 3}
    assert (content["rule"], content["withheld"], content["n_failed"]) == ("logits", 1, 2)
    result.save(tmp_path / "q.csv")
    rows = list(csv.DictReader((tmp_path / "q.csv").open()))
    assert [row["id"] for row in rows] == ["0", "1", "3", "4", "2", "5"]
    assert rows[3]["correct"] == ""
    assert "missing.png" in rows[4]["error"]


class Talker:
    """Stands in for a metric: says what it is told to and notes what it is asked."""

    info = {"model": "talker"}

    def __init__(self, *replies):
        self.replies, self.asked = list(replies), []

    def open(self, path, exif):
        assert isinstance(path, Path)
        return self

    def ask(self, text, **options):
        self.asked.append((text, options))
        return qsit_metric.Answer(self.replies[len(self.asked) - 1])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


@pytest.mark.parametrize(("rule", "right"), [("authors", [True, False, False]), ("strict", [True, True, None])])
def test_written_replies(rule, right):
    metric = Talker("A", "sharp", "?")
    questions = [question(str(i), "a.png", 0) for i in range(3)]
    result = evaluate_questions(metric, questions, "images", rule, max_new_tokens=7)
    assert [one.correct for one in result.replies] == [bool(one) for one in right]
    assert metric.asked[0] == ("Question 0?\nA. Sharp\nB. Blurry\n", {"max_new_tokens": 7})
    assert result.rule == rule


def test_arguments_of_evaluate_questions(tied):
    with pytest.raises(EvaluationError, match="`rule`: got 'gpt'"):
        evaluate_questions(tied, [question("0", "a.png", 0)], IMAGES, "gpt")
    with pytest.raises(EvaluationError, match="<no questions>"):
        evaluate_questions(tied, [], IMAGES)
    with pytest.raises(EvaluationError, match="expected a QSiT and at least one question"):
        evaluate_questions(len, [question("0", "a.png", 0)], IMAGES)
