"""The benchmark of a training step: what is counted is what a real step does, and both files are written."""

from __future__ import annotations

import csv

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks import loss_step
from benchmarks.cost.counting import count_step
from qsit_metric import QSiT


@pytest.fixture(scope="module")
def metric():
    return QSiT("q-sit-nano", device="cpu")


@pytest.mark.parametrize("options", [{}, {"checkpointing": True}, {"max_tiles": 2}])
def test_counts_are_those_of_a_real_step(metric, options):
    """The kernel of attention is another on a CPU: it keeps the same, but its operations are counted when spelled out."""
    empty, prompt = loss_step.shaped("q-sit-nano", "float32")
    counted = count_step(empty.leaner(**options), prompt, 320, 240)
    real = count_step(metric.backend.leaner(**options), metric.recipe.scoring(), 320, 240)
    assert (counted.tiles, counted.tokens) == (real.tiles, real.tokens)
    assert counted.kept == pytest.approx(real.kept, rel=0.05)
    assert counted.peak == pytest.approx(real.peak, rel=0.1)
    assert counted.kept < counted.peak
    with sdpa_kernel(SDPBackend.MATH):
        spelled = count_step(metric.backend.leaner(**options), metric.recipe.scoring(), 320, 240)
    assert counted.tflop == pytest.approx(spelled.tflop, rel=0.1)


def test_checkpointing_keeps_little_and_computes_a_third_more():
    lines = {line.option: line for line in loss_step.computed("q-sit-nano", "float32", "256x256")}
    assert list(lines) == list(loss_step.OPTIONS)
    plain, lean = lines["as it is"], lines["checkpointing"]
    assert lean.kept_mib < 0.3 * plain.kept_mib
    assert lean.peak_mib < plain.peak_mib
    assert 1.2 < lean.tflop / plain.tflop < 1.4
    assert lines["max_tiles=2"].tiles == lines["crop"].tiles == 2


def test_steps_are_measured_and_both_files_written(tmp_path, monkeypatch):
    chosen = {"as it is": {}, "checkpointing": {"checkpointing": True}}
    monkeypatch.setattr(loss_step, "OPTIONS", chosen)
    threads = torch.get_num_threads()
    loss_step.main(
        measure="q-sit-nano",
        compute="q-sit-nano",
        device="cpu",
        dtype="float32",
        size="256x256",
        repeats=1,
        threads=1,
        output=tmp_path,
    )
    torch.set_num_threads(threads)
    with (tmp_path / "loss-step.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    measured = {row["option"]: row for row in rows if row["how"] == "measured"}
    assert list(measured) == ["L1 alone", *chosen]
    assert all(float(row["seconds"]) > 0 and row["torch"] and row["date"] for row in measured.values())
    peaks = {name: float(row["peak_mib"]) for name, row in measured.items()}
    assert peaks["L1 alone"] < peaks["as it is"]
    assert peaks["checkpointing"] < peaks["as it is"]
    page = (tmp_path / "loss-step.md").read_text()
    assert "## q-sit-nano, float32, measured" in page
    assert "| checkpointing | 5 |" in page


def test_a_step_is_a_training_step(metric):
    losses = [loss_step.stepper(metric, name, 64, 64) for name in (loss_step.ALONE, "as it is")]
    for step in losses:
        first, second = step(), step()
        assert second < first


def test_a_size_that_is_none():
    with pytest.raises(Exception, match="'512' is no size such as 512x384"):
        loss_step.computed("q-sit-nano", "float32", "512")
