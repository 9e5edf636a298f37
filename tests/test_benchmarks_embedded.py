"""Tables IV and V from end to end with the model in the package, on a miniature of every data set in its own layout."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a program of the checkout, which nobody installs

from benchmarks.__main__ import build
from benchmarks.artefacts import table4
from qsit_metric import catalog
from qsit_metric.evaluation import bootstrap_interval, correlate
from tests.miniature_sets import Miniature
from tests.miniature_sets import build as build_sets

# Each public set once, and a part of two, which share the pictures' folder with the whole.
SCORES = ["koniq", "koniq-qalign", "spaq", "spaq-qalign", "livec", "agiqa", "kadid", "tid2013", "csiq", "live", "mine"]
QUESTIONS = ["llvisionqa-dev", "llvisionqa-test"]
PICTURES = 4
ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def model() -> str:
    """The embedded model; a build without its weights has the stored checkpoint in its place."""
    torch.set_num_threads(1)
    if "q-sit-nano" in catalog.embedded_names():
        return "q-sit-nano"
    return str(Path(__file__).resolve().parent / "golden" / "tied")


@pytest.fixture(autouse=True)
def few_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Intervals of eleven sets take longer than all their scores."""
    monkeypatch.setattr(
        table4, "bootstrap_interval", lambda *given, **named: bootstrap_interval(*given, **{**named, "rounds": 20})
    )


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Miniature]]:
    root = tmp_path_factory.mktemp("data")
    return root, build_sets(root, [*SCORES, *QUESTIONS], PICTURES)


def typed(*arguments: object) -> str:
    done = CliRunner().invoke(build(), [str(one) for one in arguments])
    assert done.exit_code == 0, done.output
    return done.output


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def results(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "results.jsonl").read_text(encoding="utf-8").splitlines()]


def test_table4_of_every_set(model: str, sets: tuple[Path, dict[str, Miniature]], tmp_path: Path) -> None:
    root, built = sets
    chosen = [word for name in SCORES for word in ("--set", name)]
    said = typed("table4", "--model", model, "--data-root", root, "-o", tmp_path, *chosen)
    details = {row["set"]: row for row in rows(tmp_path / "table4-details.csv")}
    assert list(details) == SCORES
    ours = next(row for row in rows(tmp_path / "table4.csv") if row["source"] == "measured")
    for name, row in details.items():
        assert (int(row["N"]), row["failed"]) == (built[name].n, "0"), name
        assert row["partial"].startswith(f"{name}: {built[name].n} of the published") is (name != "mine")
        assert float(row["images/s"]) > 0
        assert 0 <= float(row["waiting"]) < 0.9
        kept = results(tmp_path / "runs" / Path(model).name / name)
        assert {one["image"]: one["mos"] for one in kept} == pytest.approx(dict(built[name].mos)), name
        found = correlate([one["score"] for one in kept], [one["mos"] for one in kept])
        shown = {"SRCC": found.srcc, "PLCC": found.plcc}
        for statistic, value in shown.items():
            said_so = ours[f"{name} {statistic}"]
            assert (float(said_so) == value) if value is not None else said_so.startswith("undefined"), name
        assert f"on {name}: {built[name].n} of {built[name].n} done, 0 failed" in said
    parts = [table4.standing(SCORES)[name] for name in table4.SETS]
    assert parts == ["koniq-qalign", "spaq-qalign", "livec", "agiqa", "kadid"]
    means = [(float(ours[f"{name} SRCC"]) + float(ours[f"{name} PLCC"])) / 2 for name in parts]
    assert float(ours["average"]) == pytest.approx(sum(means) / 5)
    theirs = next(
        row for row in rows(tmp_path / "table4.csv") if row["training"] == "SPAQ+KonIQ" and row["model"] == "Q-SiT-mini"
    )
    assert (theirs["koniq-qalign SRCC"], theirs["spaq-qalign SRCC"], theirs["koniq SRCC"]) == ("0.914", "0.926", "")
    assert all(ours[name] for name in ("backend", "recipe", "dtype", "device", "qsit_metric", "torch", "transformers"))


def test_two_processes_make_one_whole_table(
    model: str, sets: tuple[Path, dict[str, Miniature]], tmp_path: Path
) -> None:
    """The command of docs/benchmarks.md: the first process writes when the others are done, too."""
    root, built = sets
    config = ROOT / "train" / "configs" / "cpu2.yaml"
    start = [
        "-m",
        "accelerate.commands.launch",
        "--config_file",
        config,
        "--num_processes",
        2,
        "--main_process_port",
        0,
    ]
    asked = [
        "-m",
        "benchmarks",
        "table4",
        "-m",
        model,
        "--data-root",
        root,
        "-o",
        tmp_path,
        "--set",
        "livec",
        "--set",
        "tid2013",
    ]
    done = subprocess.run(
        [sys.executable, *map(str, start), *map(str, asked)], capture_output=True, text=True, check=False, timeout=500,
        cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'src'}"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    details = {row["set"]: row for row in rows(tmp_path / "table4-details.csv")}
    assert {name: int(row["N"]) for name, row in details.items()} == {
        name: built[name].n for name in ("livec", "tid2013")
    }
    assert "the rest is with other processes" not in done.stdout
    parts = sorted((tmp_path / "runs" / Path(model).name / "livec").glob("part-*.jsonl"))
    assert len(parts) == 2
    assert all(part.stat().st_size for part in parts)


def test_table5_of_both_splits(model: str, sets: tuple[Path, dict[str, Miniature]], tmp_path: Path) -> None:
    root, built = sets
    typed("table5", "--model", model, "--data-root", root, "-o", tmp_path)
    ours = [row for row in rows(tmp_path / "table5.csv") if row["source"] == "measured"]
    assert [(row["set"], row["rule"]) for row in ours] == [
        (name, rule) for name in QUESTIONS for rule in ("authors", "strict", "logits")
    ]
    for row in ours:
        n = built[row["set"]].n
        withheld = row["set"] == "llvisionqa-test"  # published without answers
        assert (row["N"], row["withheld"], row["failed"]) == (str(0 if withheld else n), str(n if withheld else 0), "0")
        assert (row["overall"] == "") if withheld else 0 <= float(row["overall"]) <= 100
    assert all(ours[0][name] for name in ("yes-no", "what", "how", "distortion", "in-context other"))
    kept = results(tmp_path / "runs" / Path(model).name / "llvisionqa-dev")
    assert sum(one["correct"]["logits"] for one in kept) / len(kept) * 100 == pytest.approx(float(ours[2]["overall"]))
