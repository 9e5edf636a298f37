"""examples/restore.py from end to end, with a few steps: a figure, a table, and a sentence that says what came out."""

from __future__ import annotations

import csv
import math
import runpy
import sys

import pytest
from PIL import Image

from conftest import HERE

ROOT = HERE.parent


def test_the_example_runs(tmp_path, monkeypatch, capsys):
    for package in ("skimage", "sklearn", "matplotlib"):
        pytest.importorskip(package)
    figure, table = tmp_path / "made" / "figure.png", tmp_path / "made" / "table.csv"
    script = str(ROOT / "examples" / "restore.py")
    monkeypatch.setattr(sys, "argv", [script, "--fast", "--figure", str(figure), "--table", str(table)])
    monkeypatch.setattr(sys, "path", [str(ROOT / "src"), *sys.path])
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.chdir(tmp_path)
    runpy.run_path(script, run_name="__main__")
    assert "Pixels pushed 3 steps: score" in capsys.readouterr().out
    assert Image.open(figure).width > 1000
    with table.open(newline="") as file:
        rows = {row["who"]: row for row in csv.DictReader(file)}
    assert list(rows)[:5] == ["original", "degraded", "L1", "L1 + QSiT", "L1 + far too much QSiT"]
    assert math.isinf(float(rows["original"]["psnr"]))
    assert 10 < float(rows["degraded"]["psnr"]) < 40
    assert list(rows)[5:] == [f"pixels, step {step}" for step in range(4)]
    assert float(rows["pixels, step 3"]["score"]) > float(rows["pixels, step 0"]["score"])
