"""examples/restore.py from end to end, with a few steps: a figure, a table, and a sentence that says what came out."""

from __future__ import annotations

import csv
import math
import os
import subprocess
import sys

import pytest
from PIL import Image

from conftest import HERE

ROOT = HERE.parent


def test_the_example_runs(tmp_path):
    for package in ("skimage", "sklearn", "matplotlib"):
        pytest.importorskip(package)
    figure, table = tmp_path / "made" / "figure.png", tmp_path / "made" / "table.csv"
    command = [
        sys.executable,
        str(ROOT / "examples" / "restore.py"),
        "--fast",
        "--figure",
        str(figure),
        "--table",
        str(table),
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "COLUMNS": "300"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Pixels pushed 3 steps: score" in done.stdout
    assert Image.open(figure).width > 1000
    with table.open(newline="") as file:
        rows = {row["who"]: row for row in csv.DictReader(file)}
    assert list(rows)[:5] == ["original", "degraded", "L1", "L1 + QSiT", "L1 + far too much QSiT"]
    assert math.isinf(float(rows["original"]["psnr"]))
    assert 10 < float(rows["degraded"]["psnr"]) < 40
    assert list(rows)[5:] == [f"pixels, step {step}" for step in range(4)]
    assert float(rows["pixels, step 3"]["score"]) > float(rows["pixels, step 0"]["score"])
