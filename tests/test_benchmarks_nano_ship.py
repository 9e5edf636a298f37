"""The comparison runs on photographs, and what goes into the checkout with the small model: on untrained weights."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a program of the checkout, which nobody installs

from benchmarks.nano import measure as run
from benchmarks.nano import pictures, ship, statistics, trials
from benchmarks.nano.pictures import make
from benchmarks.nano.ship import card
from benchmarks.options import app_of
from qsit_metric import QSiT
from qsit_metric.evaluation import srcc
from tests.training import SMALL, TEXTS, small_base
from train.nano.data.kadid import mean_mos
from train.nano.scratch import build_base

SUMMARY: dict[str, Any] = {
    "parameters": 4_480_000,
    "rows": {"d1": 13, "d2": 1400, "d3": 15},
    "tower": {"tiles": 768_000, "pictures": 13_000, "accuracy": 0.625, "srcc": 0.8},
    "r": {"best_ratio": 2.5, "interval": [1.25, 4.0], "edge": False, "runs": 14, "ratios": [1, 2, 3, 4, 5, 6, 7]},
    "q": {"best_ratio": 3.5, "interval": [3.0, 8.0], "edge": True, "runs": 6, "ratios": [1, 2, 8]},
    "lambda": 0.0701,
    "mixture": {"frozen": [[100, 200, 80], [120, 200, 80]], "model": [[60, 90, 40]]},
}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for number, size in enumerate([(96, 64), (64, 80)]):
        coarse = np.random.default_rng(number).integers(0, 256, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    torch.set_num_threads(1)
    folder = small_base(tmp_path_factory.mktemp("model") / "q-sit-nano")
    recipe = {"name": "q-sit-nano", "model": {"base": "nothing"}}
    (folder / "training.json").write_text(json.dumps({"recipe": recipe, "metrics": {}}), encoding="utf-8")
    return folder


@pytest.fixture
def made(tmp_path, model, photos, monkeypatch):
    """A run, its measurement, and a checkout to put them into."""
    monkeypatch.setattr(statistics, "_ROUNDS", 60)
    monkeypatch.setattr(pictures, "_BOX", (300, 200, 380, 280))
    for name, place in (("_WEIGHTS", "weights"), ("_RESULTS", "results"), ("_PICTURES", "pictures")):
        monkeypatch.setattr(ship, name, tmp_path / "checkout" / place)
    shutil.copytree(model, tmp_path / "run" / "q-sit-nano")
    (tmp_path / "run" / "summary.json").write_text(json.dumps(SUMMARY), encoding="utf-8")
    wanted = run.Settings(photos, tmp_path / "measured", images=4, questions=6, workers=1, speed=False, limit=3)
    run.measure(QSiT(tmp_path / "run" / "q-sit-nano", device="cpu"), wanted)
    return tmp_path


def _invoke(main: Any, *arguments: object) -> Any:
    return CliRunner().invoke(app_of(main), [str(one) for one in arguments])


def test_the_model_its_card_its_results_and_figures_come_into_the_checkout(made: Path) -> None:
    (made / "run" / "step1").mkdir()
    Image.new("RGB", (4, 3)).save(made / "run" / "step1" / "fit.png")
    for _ in range(2):  # the second time over what is there
        done = _invoke(ship.main, made / "run", made / "measured")
        assert done.exit_code == 0, done.output
    checkout = made / "checkout"
    names = {path.name for path in (checkout / "weights" / "q-sit-nano").iterdir()}
    assert names == {path.name for path in (made / "run" / "q-sit-nano").iterdir()} | {"README.md"}
    measured = json.loads((checkout / "results" / "nano.json").read_text(encoding="utf-8"))
    said = (checkout / "weights" / "q-sit-nano" / "README.md").read_text(encoding="utf-8")
    assert said == card(measured, SUMMARY, {"name": "q-sit-nano", "model": {"base": "nothing"}})
    assert sorted(path.name for path in (checkout / "pictures").iterdir()) == [
        "nano-scoring.png", "nano-step1.png", "nano-strip.png",
    ]  # fmt: skip
    assert not list((checkout / "weights").glob(".nano-*"))
    assert 1 <= QSiT(checkout / "weights" / "q-sit-nano").score(torch.rand(3, 60, 80)) <= 5


def _onward(before: str = "means", labels: str = "drawn") -> dict[str, Any]:
    """A run that taught the model of another on."""
    rows = {"d1": 100, "d2": 200, "d3": 30}
    mixture = {"model": [[20, 25, 1]]}
    return SUMMARY | {"rows": rows, "mixture": mixture, "labels": labels, "before": SUMMARY | {"labels": before}}


def test_a_card_says_what_was_measured_and_how_it_was_trained(made: Path) -> None:
    measured = json.loads((made / "measured" / "nano.json").read_text(encoding="utf-8"))
    said = card(measured, SUMMARY, {"name": "q-sit-nano"})
    assert "4.5 M parameters" in said
    assert "768,000 windows of 13,000 pictures" in said
    assert "14 small runs at 7 ratios and 6 small runs at 3 ratios" in said
    assert "taken from another run" not in said
    begun = card(measured, SUMMARY | {"begun": True, "device": {"name": "cpu"}}, {"name": "q-sit-nano"})
    assert "taken from another run" in begun
    assert "trained on cpu" in begun
    assert "in an earlier run" in card(measured, SUMMARY | {"balance_taken": True}, {"name": "q-sit-nano"})
    assert "62%" in said
    assert "2.50 (90 % 1.25 to 4.00)" in said
    assert "3.50 (90 % 3.00 to 8.00, at the edge)" in said
    assert "100 : 200 : 80, 120 : 200 : 80" in said
    assert f"| {measured['scoring']['all']['n']} | {measured['scoring']['all']['srcc']:.3f}" in said
    assert "CC BY 2.0" in said
    assert "not a replacement for q-sit-mini" in said
    for target in measured["targets"]:
        assert target["name"] in said
    onward = card(measured, _onward(labels="drawn"), {"name": "q-sit-nano"})
    assert "14 small runs at 7 ratios" in onward
    assert "taught on with 330 rows about pictures that were new to it" in onward
    assert (
        onward.rstrip().count("again with a frozen tower and without a new search for the balance: 20 : 25 : 1.") == 1
    )
    assert "a score drawn around the mean score" in onward
    assert "before it was taught on, that mean itself" in onward
    assert "before it was taught on, that mean itself" not in card(
        measured, _onward("drawn", labels="drawn"), {"name": "q-sit-nano"}
    )
    assert "Label: the mean score that people gave the type and level (" in said
    bare = {name: value for name, value in SUMMARY.items() if name not in ("r", "q", "lambda")}
    assert "The mix ratio was not searched" in card(measured, bare, {"name": "q-sit-nano"})


def test_measurements_of_other_weights_are_refused_and_nothing_is_written(made: Path, tmp_path: Path) -> None:
    build_base(SMALL, TEXTS, tmp_path / "other" / "q-sit-nano", seed=1)
    shutil.copyfile(made / "run" / "summary.json", tmp_path / "other" / "summary.json")
    done = _invoke(ship.main, tmp_path / "other", made / "measured")
    assert done.exit_code == 2
    assert "`RESULTS`" in done.output
    assert "with the exported model" in done.output
    done = _invoke(ship.main, tmp_path / "other", tmp_path)
    assert done.exit_code == 2
    assert "nano.json" in done.output
    assert not (made / "checkout").exists()


def test_comparison_runs_are_measured_on_the_same_pictures(photos: Path, model: Path, tmp_path: Path) -> None:
    rows = []
    for name in ("without-d1", "fine"):
        shutil.copytree(model, tmp_path / "ablations" / name / "last")
        rows.append({"name": f"the run {name}", "folder": name, "metrics": {}, "seconds": 7.5})
    (tmp_path / "ablations.json").write_text(json.dumps({"rows": rows}), encoding="utf-8")
    shutil.copytree(model, tmp_path / "without" / "white_noise" / "run" / "last")
    few = ("--images", 4, "--questions", 6, "--workers", 1)
    done = _invoke(trials.main, tmp_path, "--photos", photos, "-o", tmp_path / "out", *few)
    assert done.exit_code == 0, done.output
    first, second = json.loads((tmp_path / "out" / "ablation.json").read_text(encoding="utf-8"))["rows"]
    assert {**first, "name": ""} == {**second, "name": ""}  # equal weights on equal pictures
    assert (first["name"], first["seconds"]) == ("the run without-d1", 7.5)
    assert 0 <= first["accuracy"] <= 1
    (left,) = json.loads((tmp_path / "out" / "leave-one-out.json").read_text(encoding="utf-8"))["rows"]
    assert (left["type"], left["n"]) == ("white_noise", 12)  # two photographs at five levels, and untouched
    metric = QSiT(model, device="cpu")
    cases = [trials.Case(name, "white_noise", level) for name in ("0.png", "1.png") for level in range(1, 6)]
    cases += [trials.Case(name) for name in ("0.png", "1.png")]
    scores = [float(metric.score(make(photos, one.picture(0)))) for one in cases]
    labels = [mean_mos(one.kind, one.level or 1) for one in cases]
    assert left["srcc"] == pytest.approx(srcc(scores, labels), abs=0.02)

    done = _invoke(trials.main, photos, "--photos", photos, "-o", tmp_path / "no", *few)
    assert done.exit_code == 2
    assert "ablations.json" in done.output
