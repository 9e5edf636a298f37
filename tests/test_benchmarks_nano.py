"""The measurement of the small model at toy size: what is drawn, how it is counted, and that a cut run goes on."""

from __future__ import annotations

import csv
import json
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a program of the checkout, which nobody installs

from benchmarks.nano import __main__ as nano
from benchmarks.nano import draw as drawing
from benchmarks.nano import measure as run
from benchmarks.nano import pictures, speed, statistics
from benchmarks.nano import questions as asking
from benchmarks.nano.evaluate import Replied, Scored
from benchmarks.nano.pictures import MONOTONE, Case, Picture, cases
from benchmarks.nano.questions import Asked, draw, text_only, tones
from benchmarks.nano.statistics import Target, answering, monotone, over_photographs, scoring, targets, wilson
from benchmarks.options import app_of
from qsit_metric import QSiT
from qsit_metric.evaluation import EvaluationError, Question, plcc
from qsit_metric.journal import Journal
from tests.training import small_base
from train.nano.data.kadid import DISTORTIONS, LEVELS, distort, mean_mos
from train.nano.data.pictures import Degradation

NAMES = [f"{number}.jpg" for number in range(8)]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for number, size in enumerate([(96, 64), (64, 80)]):
        coarse = np.random.default_rng(number).integers(0, 256, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def metric(tmp_path_factory):
    torch.set_num_threads(1)
    return QSiT(small_base(tmp_path_factory.mktemp("model") / "small"), device="cpu")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(statistics, "_ROUNDS", 60)
    monkeypatch.setattr(pictures, "_BOX", (300, 200, 380, 280))


def settings(photos, output, **changes):
    few = {"images": 4, "questions": 6, "workers": 1, "speed": False, "limit": 3}
    return run.Settings(photos, output, **{**few, **changes})


# ----------------------------------------------------------------------------------------------------------- sampling


def test_a_sample_has_every_type_level_and_photograph_equally_often_and_the_levels_complete():
    found = cases(NAMES, 250, seed=3)
    assert found == cases(NAMES[::-1], 250, seed=3) != cases(NAMES, 250, seed=4)
    assert len({one.key for one in found}) == len(found)
    sampled = [one for one in found if one.sampled and one.kind]
    assert Counter((one.kind, one.level) for one in sampled) == {(k, n): 2 for k in DISTORTIONS for n in LEVELS}
    assert max(Counter(one.photograph for one in sampled).values()) <= 32  # 250 / 8, rounded up
    assert min(Counter(one.photograph for one in sampled).values()) >= 31
    full = {(name, kind, level) for name in NAMES for kind in MONOTONE for level in LEVELS}
    assert full <= {(one.photograph, one.kind, one.level) for one in found}
    assert {one.kind for one in found if not one.sampled} == set(MONOTONE)
    assert [one.photograph for one in found if one.kind is None] == NAMES


@pytest.mark.parametrize("images", [0, 8 * 125, 10**6])
def test_the_full_set_has_everything_once(images):
    found = cases(NAMES, images, seed=0)
    assert len(found) == 8 + 8 * 125
    assert all(one.sampled for one in found)


def test_samples_of_a_few_and_of_odd_sizes_are_exact():
    for images in (1, 7, 126, 999):
        assert sum(one.sampled and one.kind is not None for one in cases(NAMES, images, seed=0)) == images


def test_a_picture_is_what_the_data_builder_makes_and_levels_share_their_pattern(photos):
    weak, strong = (Case("0.png", "white_noise", level).picture(seed=5) for level in (1, 5))
    assert weak.seed == strong.seed != Case("1.png", "white_noise", 1).picture(seed=5).seed
    plain = Image.open(photos / "0.png").convert("RGB")
    assert pictures.make(photos, strong) == distort(plain, "white_noise", 5, strong.seed)
    assert pictures.make(photos, Case("0.png").picture(seed=5)) == plain
    assert Case("0.png", "jpeg", 3).label == mean_mos("jpeg", 3)
    assert Case("0.png").label == mean_mos(None)


def test_pictures_of_other_processes_are_the_same_and_errors_keep_their_place(photos, monkeypatch):
    # One process is enough to see whether pictures and errors come back.
    monkeypatch.setattr(pictures, "ProcessPoolExecutor", lambda _count, **how: ProcessPoolExecutor(1, **how))
    wanted = [Picture("0.png", (Degradation("jpeg", 4.0),)), Picture("none.png"), Picture("1.png")]
    here, there = (list(pictures.pictures(photos, wanted, workers)) for workers in (1, 2))
    assert here[0] == there[0]
    assert here[2] == there[2]
    assert [type(one) for one in (here[1], there[1])] == [EvaluationError] * 2


def test_questions_are_drawn_evenly(photos):
    measured = tones(photos, ["0.png", "1.png"])
    found = draw(measured, 60, seed=1)
    assert found == draw(measured, 60, seed=1) != draw(measured, 60, seed=2)
    kinds = Counter(one.question.type for one in found)
    assert kinds == {"what": 20, "yes-no": 20, "how": 20}
    assert {(one.question.type, len(one.question.choices)) for one in found} == {("what", 4), ("yes-no", 2), ("how", 3)}
    yes = [one.question for one in found if one.question.type == "yes-no"]
    assert sum(one.choices[one.answer] == "Yes" for one in yes) == 10
    assert min(Counter(one.picture.photograph for one in found).values()) > 20
    assert all(one.picture.degradations for one in found if one.question.type == "what")
    with pytest.raises(EvaluationError, match="multiple of 6"):
        draw(measured, 10, seed=0)


# ----------------------------------------------------------------------------------------------------------- counting


def scored(value):
    return [Scored(one, value(one), "good") for one in cases(NAMES, 125, seed=0)]


def test_correlations_are_over_the_sample_and_untouched_photographs_are_counted_apart():
    found = scoring(scored(lambda one: one.label if one.sampled else 9.0), seed=0)
    assert (found["all"]["n"], found["degraded"]["n"], found["pristine"]["n"]) == (133, 125, 8)
    assert [found["all"]["srcc"], found["degraded"]["plcc"]] == pytest.approx([1, 1])
    assert found["all"]["srcc_interval"] == (pytest.approx(1), pytest.approx(1))
    assert found["pristine"]["mean"] == pytest.approx(4.61)
    assert found["by_type"]["lens_blur"] == {"n": 5, "srcc": pytest.approx(1)}
    assert found["by_type"]["jpeg"]["n"] == 40
    assert scoring(scored(lambda one: -one.label), seed=0)["all"]["srcc"] == pytest.approx(-1)
    assert scoring(scored(lambda _: 3.0), seed=0)["all"]["srcc_interval"] is None


def test_the_interval_draws_whole_photographs():
    rng = np.random.default_rng(0)
    # Each photograph has its own offset, 30 times the same picture: as pictures there are 240, as photographs 8.
    groups = {name: [(x, x + y)] * 30 for name, x, y in zip(NAMES, rng.normal(size=8), rng.normal(size=8), strict=True)}
    low, high = over_photographs(groups, "plcc", seed=0)
    pairs = np.array([pair for group in groups.values() for pair in group])
    assert low < plcc(pairs[:, 1], pairs[:, 0]) < high
    assert high - low > 0.3
    assert (low, high) == over_photographs(groups, "plcc", seed=0)


def test_levels_that_fall_are_told_from_those_that_do_not():
    worse = monotone(scored(lambda one: 5 - one.level / 2))
    assert all(one["falls"] and one["below"] == 1 and one["n"] == 8 for one in worse.values())
    assert worse["jpeg"]["means"] == [4.5, 4.0, 3.5, 3.0, 2.5]
    flat = monotone(scored(lambda one: 3.0 if one.level in (2, 3) else 5 - one.level / 2))
    assert not any(one["falls"] for one in flat.values())
    up = monotone(scored(lambda one: float(one.level) if one.photograph < "2" else 5.0 - one.level))
    assert up["pixelate"]["below"] == 0.75
    lost = [replace(one, score=None) if one.case.kind == "jpeg" else one for one in scored(lambda one: 1.0)]
    assert monotone(lost)["jpeg"] == {"means": [None] * 5, "falls": False, "below": None, "n": 0}


def asked(number, photograph, question, choices, answer, kind="yes-no"):
    return Asked(Question(str(number), "x.png", question, choices, answer, kind, "distortion"), Picture(photograph))


def test_words_alone_are_judged_by_other_photographs_only():
    noisy = [
        asked(0, "a", "Is the image noisy?", ("Yes", "No"), 0),
        asked(1, "a", "Is it correct that this photo is grainy?", ("No", "Yes"), 1),
        asked(2, "b", "Does the picture look noisy?", ("Yes", "No"), 1),
        asked(3, "b", "Is the image sharp?", ("Yes", "No"), 1),
    ]
    # a: the only other photograph with this word says No; b: a says Yes twice; of "sharp" nothing is known.
    assert text_only(noisy) == [0, 0, 0, 0.5]
    right = [*noisy[:2], asked(2, "b", "Is the image grainy?", ("No", "Yes"), 1)]
    assert text_only(right) == [1, 1, 1]


def test_words_alone_know_steps_and_problems():
    def how(number, photograph, choices, answer):
        return asked(number, photograph, "How is the noise level of the image?", choices, answer, "how")

    steps = [
        how(0, "a", ("Noisy", "Slightly grainy", "Clean"), 2),
        how(1, "b", ("Free of noise", "Grainy", "Slightly noisy"), 0),
        how(2, "c", ("Slightly noisy", "Grainy", "Clean"), 1),
    ]
    assert text_only(steps) == [0.5, 0.5, 0]
    what = [
        asked(n, name, "What problem affects the image?", ("Blur", "Noise", "Haze", "Banding"), 1, "what")
        for n, name in enumerate("abc")
    ]
    assert text_only(what) == [1, 1, 1]


def test_words_alone_know_all_words_of_the_builder(photos):
    found = [one.question for one in draw(tones(photos, ["0.png", "1.png"]), 300, seed=0)]
    steps = [asking._words(one).split() for one in found if one.type == "yes-no"]
    assert all(len(words) == 3 and words[-1] in "012" for words in steps)
    for one in found:
        if one.type == "how":
            assert len({asking._meaning(choice).rpartition(" ")[0] for choice in one.choices}) == 1


def replied(number, seen, hidden, written="A"):
    one = asked(number, f"{number}.jpg", "Is the image noisy?", ("Yes", "No"), 0)
    return Replied(one, {"logits": seen, "authors": written}, {"logits": hidden, "authors": "B"})


def test_replies_are_counted_by_both_rules_and_beside_the_hidden_picture():
    replies = [
        replied(0, "Yes", "No"), replied(1, "Yes", "Yes"), replied(2, "No", "No", "Yes, it is"),
        Replied(replied(3, "", "").asked, {}, {}, "ImageError: broken"),
    ]  # fmt: skip
    found = answering(replies)["yes-no"]
    assert (found["n"], found["logits"]["accuracy"], found["logits"]["hidden"]) == (3, 2 / 3, 1 / 3)
    assert (found["authors"]["accuracy"], found["authors"]["hidden"]) == (2 / 3, 0)
    assert found["logits"]["interval"] == wilson(2, 3)
    assert found["text_only"] == 1
    assert answering(replies)["how"]["logits"]["accuracy"] is None


@pytest.mark.parametrize(
    ("right", "count", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_is_the_published_interval(right, count, low, high):
    # R. G. Newcombe, "Two-sided confidence intervals for the single proportion", 1998, Table I, method 3.
    assert wilson(right, count) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


# ------------------------------------------------------------------------------------------------------------ targets


def results(**changes):
    rule = {"accuracy": 0.9, "hidden": 0.4}
    found = {
        "scoring": {"all": {"srcc": 0.9}, "pristine": {"mean": 4.3}},
        "monotone": {kind: {"falls": True, "below": 0.9} for kind in MONOTONE},
        "questions": {kind: {"logits": dict(rule), "text_only": 0.5} for kind in ("what", "yes-no", "how")},
        "speed": {
            "large": {"seconds": 1.0, "increase": 200.0, "peak": 700.0},
            "many": {"batch": 6.0, "singles": 5.0},
            "load": {"again": 0.5},
        },
    }
    return {**found, **changes}


def unmet(found):
    return [one.name for one in targets(found) if not one.met]


def test_targets_are_met_and_missed_by_the_numbers():
    assert unmet(results()) == []
    low = {"all": {"srcc": 0.79}, "pristine": {"mean": 4.2}}
    assert unmet(results(scoring=low)) == ["SRCC, all pictures", "mean score of untouched photographs"]
    levels = results()["monotone"] | {"jpeg": {"falls": False, "below": 0.89}}
    assert len(unmet(results(monotone=levels))) == 2
    asked_ = results()["questions"]
    asked_["what"]["text_only"] = 0.95
    assert unmet(results(questions=asked_)) == ["what questions, lead over words alone"]
    asked_["how"]["logits"]["accuracy"] = 0.4
    assert len(unmet(results(questions=asked_))) == 4
    slow = {"large": {"seconds": 1.5, "increase": 1024.0, "peak": 2000.0}, "many": {"batch": 4.9, "singles": 4.9}}
    assert len(unmet(results(speed=slow))) == 6
    assert len(unmet(results(speed=None))) == 6


@pytest.mark.parametrize("relation", [">", ">=", "<"])
def test_what_was_not_measured_is_not_met(relation):
    assert not Target("x", None, relation, 0.0).met
    assert Target("x", 1.0, relation, 1.0).met == (relation == ">=")


# ----------------------------------------------------------------------------------------------------------- the runs


def test_a_run_writes_everything_and_a_cut_one_goes_on(metric, photos, tmp_path, monkeypatch):
    whole = tmp_path / "whole"
    found = run.measure(metric, settings(photos, whole))
    with (whole / "nano-scores.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == found["images"]["scored"] == len(cases(["0.png", "1.png"], 4, 0))
    first = next(row for row in rows if row["type"] == "jpeg")
    picture = Case(first["photograph"], "jpeg", int(first["level"])).picture(0)
    assert float(first["score"]) == pytest.approx(float(metric.score(pictures.make(photos, picture))), abs=1e-4)
    assert found["made"]["model"] == "small"
    assert str(tmp_path) not in (whole / "nano.json").read_text(encoding="utf-8")
    table = (whole / "nano.md").read_text(encoding="utf-8")
    assert table.count("| no |") + table.count("| yes |") >= len(found["targets"])

    # The same, killed after some pictures and in the middle of a question's line, then run again.
    cut = tmp_path / "cut" / "progress"
    cut.mkdir(parents=True)
    for name, kept in (("scores.jsonl", 21), ("questions.jsonl", 3)):
        lines = (whole / "progress" / name).read_bytes().splitlines(keepends=True)
        (cut / name).write_bytes(b"".join(lines[:kept]) + lines[kept][:9])
    scores = []
    monkeypatch.setattr(
        metric, "score", lambda images, **how: scores.append(len(images)) or QSiT.score(metric, images, **how)
    )
    again = run.measure(metric, settings(photos, cut.parent))
    assert sum(scores) == len(rows) - 20 + 18  # those that were lost, and the strip
    for name in ("scoring", "monotone", "questions", "targets", "strip"):
        assert json.dumps(again[name]) == json.dumps(found[name])
    for name in ("nano-scores.csv", "nano-questions.csv"):
        assert (cut.parent / name).read_text() == (whole / name).read_text()

    # Tables of training appear beside the rest; another seed is another run.
    (whole / "ablation.json").write_text(
        '{"rows": [{"name": "no D3", "srcc": 0.5, "plcc": 0.5, "n": 7, "accuracy": 0.5, "questions": 6, "seconds": null}]}'
    )
    run.measure(metric, settings(photos, whole))
    assert "| no D3 | 0.500 | 0.500 | 7 | 0.500 | 6 | - |" in (whole / "nano.md").read_text(encoding="utf-8")
    with pytest.raises(EvaluationError, match=r"made as now \(seed 1\), but it has seed 0"):
        run.measure(metric, settings(photos, whole, seed=1))
    (whole / "ablation.json").write_text('{"rows": [{"name": "no D3"}]}')
    with pytest.raises(EvaluationError, match=r"ablation\.json.*srcc"):
        run.measure(metric, settings(photos, whole))

    # Figures of the results.
    runner = CliRunner()
    assert runner.invoke(app_of(drawing.main), [str(cut.parent), "--to", str(tmp_path / "png")]).exit_code == 0
    assert [Image.open(tmp_path / "png" / f"nano-{name}.png").size for name in ("scoring", "strip")] == [
        (1600, 1400), (1600, 1000),
    ]  # fmt: skip
    assert runner.invoke(app_of(drawing.main), [str(photos), "--to", str(tmp_path / "no")]).exit_code == 2
    assert not (tmp_path / "no").exists()


def test_a_log_of_something_else_is_left_as_it_is(tmp_path):
    path = tmp_path / "scores.jsonl"
    path.write_text('{"seed": 0}\n{"key": "a", "score": 1.0}\n')  # as it was written before there was a journal
    with Journal(path, {"seed": 0}, run.FILES) as log:
        assert log.done == {"a": {"key": "a", "score": 1.0}}
    before = path.read_bytes()
    with pytest.raises(EvaluationError, match="made as now .seed 1., but it has seed 0"):
        Journal(path, {"seed": 1}, run.FILES)
    assert path.read_bytes() == before
    path.write_text("photograph,score\n")
    with pytest.raises(EvaluationError, match="a result of a run"):
        Journal(path, {"seed": 0}, run.FILES)


def test_a_picture_that_cannot_be_used_is_reported_and_does_not_sink_the_others(metric, photos, tmp_path):
    for name in ("0.png", "1.png"):
        (tmp_path / name).write_bytes((photos / name).read_bytes())
    Image.new("RGB", (40, 40)).save(tmp_path / "2.png")
    found = run.measure(metric, settings(tmp_path, tmp_path / "out", images=10))
    assert found["images"]["scored"] > 50
    assert {one["what"].split()[0] for one in found["failed"]} >= {"2.png"}
    assert all("64 pixels" in one["error"] for one in found["failed"] if one["what"].startswith("2.png"))
    assert found["monotone"]["jpeg"]["n"] == 2
    assert found["scoring"]["pristine"]["n"] == 3
    assert "## Failed" in (tmp_path / "out" / "nano.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", ["missing", "empty", "model", "questions"])
def test_what_cannot_be_measured_is_one_clear_error(kind, photos, tmp_path):
    folder = {"missing": tmp_path / "none", "empty": tmp_path}.get(kind, photos)
    model = "no-such-model" if kind == "model" else str(Path(__file__).parent / "golden" / "tied")
    arguments = [model, "--photos", str(folder), "-o", str(tmp_path / "out"), "--no-speed", "--workers", "1"]
    done = CliRunner().invoke(app_of(nano.main), [*arguments, "--questions", "7" if kind == "questions" else "6"])
    said = {"missing": "`--photos`", "empty": "`--photos`", "model": "no-such-model", "questions": "multiple of 6"}
    assert done.exit_code == 2
    assert "error: " in done.stderr
    assert said[kind] in done.stderr
    assert "Traceback" not in done.output
    assert not (tmp_path / "out").exists()


def test_speed_is_of_the_calls_that_people_make(metric, photos, tmp_path, monkeypatch):
    monkeypatch.setattr(speed, "_metric", lambda _model, _device: metric)
    picture = tmp_path / "common.png"
    speed._fitted(photos / "0.png", (64, 48)).save(picture)
    found = speed.many("small", "cpu", picture, 1)
    assert min(found["batch"], found["singles"], found["default"]) > 0
    assert Image.open(picture).size == (64, 48)
    found = speed.large("small", "cpu", picture, 1)
    assert found["seconds"] > 0
    assert found["peak"] - found["baseline"] == found["increase"] >= 0


@pytest.mark.long
def test_speed_is_measured_in_processes_of_their_own(photos):
    found = speed.measure_speed(str(Path(__file__).parent / "golden" / "tied"), "cpu", photos / "0.png", 1)
    assert 0 < found["load"]["again"] < found["load"]["whole"]
    assert found["large"]["peak"] > found["large"]["baseline"] > 0
    assert found["conditions"]["shape"] == "tied"
