"""The efficiency benchmark at toy size: every row is there, and both flows do the same work. No speed is asserted."""

from __future__ import annotations

import csv
import math
import sys
from pathlib import Path

import pytest
import torch
from typer import Typer
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a program of the checkout, which nobody installs

from benchmarks import efficiency
from benchmarks.cost import clock, flows, report

SIZES = ("512x384", "1024x768", "4000x3000")


@pytest.fixture(autouse=True)
def one_thread():
    """Threads of a busy machine wait for each other far longer than a toy model computes."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def smoke(path: Path, *kinds: str) -> list[dict[str, str]]:
    settings = efficiency.Settings(
        device=torch.device("cpu"),
        dtype="float32",
        shape="tiny",
        sizes=SIZES[:1],
        repeats=1,
        kinds=kinds,
        batches=(1, 2),
        images=4,
    )
    efficiency.run(settings, report.Report(path, report.conditions(settings.device, "float32", "tiny")))
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def check_numbers(rows: list[dict[str, str]]) -> None:
    for row in rows:
        values = [float(row[name]) for name in ("median", "minimum", "maximum", "ratio")]
        assert all(math.isfinite(value) and value > 0 for value in values)
        assert values[1] <= values[0] <= values[2]
        assert row["ratio"] == "1" or row["flow"] != "authors"
        assert all(
            row[name] for name in ("date", "cpu", "torch", "transformers", "pillow", "qsit_metric", "dtype", "shape")
        )


@pytest.mark.compat
def test_every_row_is_written_and_both_flows_agree(tmp_path):
    rows = smoke(tmp_path / "new" / "rows.csv", "pixels", "score", "session", "throughput")
    pair = ["authors", "ours"]
    assert [(row["what"], row["size"], row["flow"], row["batch"]) for row in rows] == [
        *[("pixels", size, flow, "1") for size in SIZES for flow in pair],
        *[("score", SIZES[0], flow, "1") for flow in pair],
        *[("session", SIZES[0], flow, "1") for flow in [*pair, "ours, two calls"]],
        *[
            ("throughput", SIZES[0], flow, batch)
            for flow, batch in [
                ("authors", "1"),
                ("ours", "1"),
                ("ours", "2"),
                ("ours, decoded", "1"),
                ("ours, decoded", "2"),
            ]
        ],
    ]
    check_numbers(rows)
    assert all(float(row["gap"]) == 0 for row in rows if row["what"] == "pixels" and row["flow"] != "authors")
    ours = [row for row in rows if row["what"] in ("score", "session", "throughput") and row["flow"] != "authors"]
    assert all(float(row["gap"]) < 1e-4 for row in ours)
    assert [row["same_tokens"] for row in ours] == ["", "1", "1", "", "", "", ""]
    assert all(float(row["share_of_peak"]) > 0 for row in rows if row["what"] == "throughput")
    assert list((tmp_path / "new").iterdir()) == [tmp_path / "new" / "rows.csv"]


@pytest.mark.long
def test_memory_is_measured_in_processes_of_their_own(tmp_path):
    rows = smoke(tmp_path / "rows.csv", "memory")
    assert [(row["what"], row["flow"], row["unit"]) for row in rows] == [
        ("memory", f, "MiB") for f in ("authors", "ours")
    ]
    check_numbers(rows)
    assert all(0 < float(row["baseline"]) <= float(row["median"]) for row in rows)


def test_flows_are_interleaved_after_one_unmeasured_round():
    calls: list[str] = []
    both = {name: (lambda name=name: calls.append(name) or len(calls)) for name in "ab"}
    rounds = clock.interleaved(both, 2, torch.device("cpu"))
    assert calls == list("ababab")
    assert rounds.first == {"a": 1, "b": 2}
    assert [len(values) for values in rounds.times.values()] == [2, 2]
    assert rounds.others is None or rounds.others >= 0


def test_ratio_says_how_many_times_better():
    def ratios(unit):
        return [
            r.ratio
            for r in report.compared(
                [report.measured("x", "1x1", f, [v], unit=unit) for f, v in (("a", 6.0), ("b", 2.0))]
            )
        ]

    assert ratios("s") == [1.0, 3.0]
    assert ratios("images/s") == [1.0, pytest.approx(1 / 3)]


def test_disagreement_is_reported():
    row = report.measured("session", "1x1", "ours", [1.0])
    efficiency.agree(row, flows.Result(3.0, ((1, 2), (3, 4))), flows.Result(3.5, ((1, 2), (3, 5))))
    assert (row.gap, row.same_tokens) == (0.5, 0.75)


def test_finished_rows_survive_a_kill(tmp_path):
    made = report.Report(tmp_path / "rows.csv", report.conditions(torch.device("cpu"), "float32", "tiny"))
    for count in (1, 2):
        made.add([report.measured("score", "1x1", "ours", [1.0, 2.0, 4.0])])
        assert len((tmp_path / "rows.csv").read_text(encoding="utf-8").splitlines()) == 1 + count


@pytest.mark.parametrize(
    ("option", "value"),
    [("--dtype", "int3"), ("--shape", "huge"), ("--what", "speed"), ("--sizes", "512"), ("--sizes", "0x5")],
)
def test_unknown_values_are_refused_before_anything_runs(option, value, tmp_path):
    app = Typer()
    app.command()(efficiency.main)
    result = CliRunner().invoke(app, [option, value, "--output", str(tmp_path / "rows.csv")])
    assert result.exit_code == 2
    assert not list(tmp_path.iterdir())


def test_what_is_asked_for_depends_on_the_machine(monkeypatch):
    def goals(device, dtype, shape="mini"):
        bench = efficiency.Bench(efficiency.Settings(torch.device(device), dtype, shape, SIZES[:1], 1, (), (1,), 1))
        return [bench._goal(kind) for kind in ("score", "session", "throughput", "memory")]

    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True)
    assert goals("cpu", "bfloat16") == [2.0, 6.0, None, 1.0]
    assert goals("cpu", "float32") == [1 / 1.05, 3.5, None, 1.0]
    assert goals("cuda", "float16") == [None, 4.0, 5.0, 1.0]
    assert goals("cpu", "bfloat16", "tiny") == [None] * 4
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    assert goals("cpu", "bfloat16") == [1 / 1.05, 3.5, None, 1.0]
