"""`python -m benchmarks` as a newcomer types it, on miniatures of the data sets and an untrained model."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a program of the checkout, which nobody installs

from benchmarks.__main__ import COMMANDS, build
from qsit_metric import QSiT
from tests.miniature_sets import build as build_sets
from tests.training import small_base

SETS = ["livec", "agiqa", "kadid", "llvisionqa-dev", "mine"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    build_sets(folder, SETS)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    torch.set_num_threads(1)
    return small_base(tmp_path_factory.mktemp("model") / "small")


def typed(*arguments: object) -> Any:
    return CliRunner().invoke(build(), [str(one) for one in arguments])


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_help_names_every_command() -> None:
    said = typed("--help").output
    assert all(name in said for name, _ in COMMANDS)


def test_data_says_what_is_there_and_whether_it_is_whole(data: Path, tmp_path: Path) -> None:
    done = typed("data", "--data-root", data)
    assert done.exit_code == 0, done.output
    lines = {line.split()[1]: line.split()[0] for line in done.stdout.splitlines() if line[:1].strip()}
    assert (lines["livec"], lines["spaq"], lines["mine"]) == ("incomplete", "missing", "found")
    assert typed("data", "livec", "--data-root", data).exit_code == 1
    assert typed("data", "mine", "--data-root", data).exit_code == 0
    wrong = typed("data", "lvec", "--data-root", data)
    assert wrong.exit_code == 2
    assert "lvec" in wrong.output
    assert typed("data", "--data-root", tmp_path / "no").exit_code == 2
    refused = typed("data", "lldescribe", "--data-root", data, "--download")
    assert refused.exit_code == 2
    assert "nanyangtu/LLDescribe-QBench" in refused.output
    assert "licence" in refused.output


def test_table4_is_run_once_and_written_beside_the_paper(
    data: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = ("--model", model, "--data-root", data, "-o", tmp_path, "--set", "livec", "--set", "mine")
    done = typed("table4", *wanted)
    assert done.exit_code == 0, done.output
    found = rows(tmp_path / "table4.csv")
    ours = next(row for row in found if row["source"] == "measured")
    theirs = next(row for row in found if row["model"] == "Q-SiT-mini" and row["training"] == "SPAQ+KonIQ")
    assert theirs["livec SRCC"] == "0.859"
    assert ours["average"] == ""  # three of the paper's sets are not there
    assert -1 <= float(ours["livec SRCC"]) <= 1
    details = rows(tmp_path / "table4-details.csv")
    assert [row["set"] for row in details] == ["livec", "mine"]
    assert details[0]["N"] == "13"
    page = (tmp_path / "table4.html").read_text(encoding="utf-8")
    assert "data:image/png;base64," in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    with Image.open(tmp_path / "table4-small.png") as plot:
        assert plot.width > 600

    monkeypatch.setattr(QSiT, "score_iter", lambda *_, **__: pytest.fail("scored again"))
    again = typed("table4", *wanted)
    assert again.exit_code == 0, again.output
    assert rows(tmp_path / "table4.csv") == found


def test_table5_asks_and_judges(data: Path, model: Path, tmp_path: Path) -> None:
    done = typed("table5", "--model", model, "--data-root", data, "-o", tmp_path)
    assert done.exit_code == 0, done.output
    ours = [row for row in rows(tmp_path / "table5.csv") if row["source"] == "measured"]
    assert [row["rule"] for row in ours] == ["authors", "strict", "logits"]
    assert all(0 <= float(row["overall"]) <= 100 for row in ours)
    assert json.loads((tmp_path / "table5.json").read_text(encoding="utf-8"))["made"]["max_new_tokens"] == "200"


def test_sets_that_are_not_there_are_one_clear_error(data: Path, model: Path, tmp_path: Path) -> None:
    for arguments in (["--set", "spaq"], ["--set", "nothing"]):
        done = typed("table4", "--model", model, "--data-root", data, "-o", tmp_path, *arguments)
        assert done.exit_code == 2
        assert done.output.count("error:") == 1
    done = typed("table5", "--model", model, "--data-root", tmp_path, "-o", tmp_path)
    assert done.exit_code == 2
    assert "--data-root" in done.output


def test_what_needs_no_model(tmp_path: Path) -> None:
    assert typed("slips", "-o", tmp_path).exit_code == 0
    assert any(row["table"] == "IV" for row in rows(tmp_path / "paper-slips.csv"))
    assert typed("fig5", "-o", tmp_path).exit_code == 0
    with Image.open(tmp_path / "fig5.png") as figure:
        assert figure.width > 600
    done = typed("fig4", tmp_path / "no", "-o", tmp_path)
    assert done.exit_code == 2
    assert typed("table2", "--labels", tmp_path, "-o", tmp_path).exit_code == 2
