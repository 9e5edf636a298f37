"""This checkout against another one: children that import what they are told, and rows that say who was faster."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a program of the checkout, which nobody installs

from benchmarks import efficiency, startup
from benchmarks.cost import mixed
from benchmarks.cost.child import ROOT, Checkout, in_child
from benchmarks.cost.models import SHAPES, build_backend, save_checkpoint
from benchmarks.options import app_of
from qsit_metric import QSiT
from qsit_metric.errors import EvaluationError


@pytest.fixture
def other(tmp_path):
    """A checkout whose package does nothing but say that it is another one."""
    package = tmp_path / "other" / "src" / "qsit_metric"
    (package / "cli").mkdir(parents=True)
    (package / "__init__.py").write_text("OTHER = True\n")
    (package / "cli" / "__init__.py").write_text("def main():\n    print('the other one')\n")
    return Checkout(tmp_path / "other")


def test_a_child_has_the_package_of_its_checkout(other):
    assert in_child("math:gcd", 12, 18) == 6
    said = json.loads(other.run("-c", "import json, qsit_metric as q, benchmarks; print(json.dumps(q.OTHER))"))
    assert said is True
    assert other.name == "other"
    assert Checkout().folder == ROOT
    with pytest.raises(RuntimeError, match="no_such_module"):
        in_child("no_such_module:f")
    with pytest.raises(EvaluationError, match="`--against`.*a checkout of this repository"):
        Checkout(other.folder / "src")


def test_whole_processes_are_measured_in_turn(other, tmp_path, monkeypatch):
    monkeypatch.setattr(startup, "commands", lambda _picture: {"help": ["--help"]})
    done = CliRunner().invoke(
        app_of(startup.main), ["--against", str(other.folder), "--repeats", "1", "-o", str(tmp_path / "rows.csv")]
    )
    assert done.exit_code == 0, done.output
    with (tmp_path / "rows.csv").open(newline="", encoding="utf-8") as file:
        theirs, ours = csv.DictReader(file)
    assert (theirs["flow"], ours["flow"], ours["what"]) == ("other", "ours", "start-up, help")
    assert float(ours["ratio"]) == pytest.approx(float(theirs["median"]) / float(ours["median"]), rel=1e-4)
    refused = CliRunner().invoke(app_of(startup.main), ["--against", str(tmp_path)])
    assert refused.exit_code == 2
    assert "--against" in refused.output


def test_photographs_of_many_sizes(monkeypatch, other):
    sizes = mixed.mixed_sizes(32)
    assert len(sizes) == 32
    assert {mixed.SMALLEST, mixed.LARGEST} <= {tuple(sorted(size, reverse=True)) for size in sizes}
    assert sum(height > width for width, height in sizes) == 10
    asked = []

    def child(place, model, device, dtype, folder, threads, checkout):
        asked.append((checkout.name, len(list(Path(folder).iterdir()))))
        return {"seconds": 2.0 * len(asked), "peak": 100.0 + len(asked), "scores": [1.0, 2.0 + len(asked)]}

    monkeypatch.setattr(mixed, "in_child", child)
    settings = {"device": "cpu", "dtype": "float32", "images": 2, "repeats": 2, "threads": 1}
    theirs, ours = mixed.compare("m", [other, Checkout()], **settings)
    assert [name for name, _ in asked] == [other.name, Checkout().name] * 2
    assert {count for _, count in asked} == {2}
    assert theirs.rates == [2 / 2, 2 / 6]
    assert (ours.rates, ours.peak) == ([2 / 4, 2 / 8], 104.0)
    assert mixed.apart(theirs.scores, ours.scores) == 1.0


def test_a_shape_is_loaded_as_a_checkpoint(tmp_path):
    picture = mixed.photo(200, 150)
    (tmp_path / "pictures").mkdir()
    picture.save(tmp_path / "pictures" / "one.png")
    folder = save_checkpoint(SHAPES["tiny"], torch.float32, tmp_path / "tiny")
    found = mixed.score_files(str(folder), "cpu", "float32", str(tmp_path / "pictures"), 0)
    whole = QSiT(build_backend(SHAPES["tiny"], torch.float32, torch.device("cpu"))).score(picture)
    assert found["scores"] == pytest.approx([float(whole)], abs=1e-5)
    assert found["seconds"] > 0
    assert found["peak"] > 10


def test_rows_say_who_was_faster_and_whether_that_is_enough(monkeypatch, other):
    paces = [mixed.Pace([2.0, 4.0, 3.0], 200.0, [1.0, 2.0]), mixed.Pace([6.0, 6.0, 3.0], 400.0, [1.0, 2.5])]
    monkeypatch.setattr(efficiency, "compare", lambda *_, **__: paces)
    rows = efficiency.compared_with(other, "q-sit-nano", "cpu", "float32", 32, 3, 0)
    assert [(row.what, row.flow, row.ratio, row.met) for row in rows] == [
        ("mixed, q-sit-nano", "other", 1.0, ""),
        ("mixed, q-sit-nano", "ours", 2.0, "yes"),
        ("memory, q-sit-nano", "other", 1.0, ""),
        ("memory, q-sit-nano", "ours", 0.5, "no"),
    ]
    assert (rows[1].gap, rows[1].batch, rows[1].target) == (0.5, 32, 1.5)
