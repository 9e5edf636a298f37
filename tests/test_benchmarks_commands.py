"""`python -m benchmarks` as a newcomer types it, on miniatures of the data sets and an untrained model."""

from __future__ import annotations

import csv
import json
import shutil
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a program of the checkout, which nobody installs

from benchmarks.__main__ import COMMANDS, build
from benchmarks.artefacts import fig7, table4
from qsit_metric import QSiT
from qsit_metric.backends.llava_onevision import LlavaOnevisionBackend
from qsit_metric.evaluation import bootstrap_interval
from tests.miniature_sets import build as build_sets
from tests.training import small_base

SETS = ["livec", "agiqa", "kadid", "llvisionqa-dev", "lldescribe", "mine"]


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
    assert all(name in said for name, *_ in COMMANDS if name != "slips")


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
    assert typed("discrepancies", "-o", tmp_path).exit_code == 0
    assert any(row["table"] == "IV" for row in rows(tmp_path / "paper-discrepancies.csv"))
    former = typed("slips", "-o", tmp_path)
    assert former.exit_code == 0
    assert "called `discrepancies`" in former.output
    assert typed("fig5", "-o", tmp_path).exit_code == 0
    with Image.open(tmp_path / "fig5.png") as figure:
        assert figure.width > 600
    done = typed("fig4", tmp_path / "no", "-o", tmp_path)
    assert done.exit_code == 2
    assert typed("table2", "--labels", tmp_path, "-o", tmp_path).exit_code == 2


# ---- words, figures, everything


class Judge(BaseHTTPRequestHandler):
    """Rates everything with 2; counts how often it was asked."""

    asked = 0

    def do_POST(self):
        type(self).asked += 1
        self.rfile.read(int(self.headers["Content-Length"]))
        content = json.dumps({"choices": [{"message": {"content": "Score: 2"}, "finish_reason": "stop"}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args):
        pass


@pytest.fixture
def judge(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(Judge, "asked", 0)
    http = ThreadingHTTPServer(("127.0.0.1", 0), Judge)
    threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield f"http://127.0.0.1:{http.server_port}/v1"
    http.shutdown()
    http.server_close()


@pytest.fixture(scope="module")
def ablation(tmp_path_factory):
    path = tmp_path_factory.mktemp("ablation") / "ablation.json"
    row = {"name": "without D1", "srcc": 0.25, "plcc": 0.75, "accuracy": 0.5, "seconds": 9.0}
    path.write_text(json.dumps({"rows": [row]}))
    return path


def test_table1_asks_about_each_image_of_livec(data: Path, model: Path, tmp_path: Path) -> None:
    done = typed("table1", "-m", model, "--data-root", data, "-o", tmp_path, "--max-new-tokens", 3)
    assert done.exit_code == 0, done.output
    ours = next(row for row in rows(tmp_path / "table1.csv") if row["source"] == "measured")
    assert (ours["set"], ours["images"], ours["cut"]) == ("livec", "13", "13")
    assert sum(int(ours[kind]) for kind in ("qualitative", "numerical", "neither")) == 13


def test_table6_describes_first_and_rates_then(data: Path, model: Path, tmp_path: Path, judge: str) -> None:
    wanted = ("table6", "-m", model, "--data-root", data, "-o", tmp_path, "--max-new-tokens", 3)
    done = typed(*wanted)
    assert done.exit_code == 0, done.output
    assert "--judge" in done.output
    assert not (tmp_path / "table6.csv").exists()
    done = typed(*wanted, "--judge", "some-model", "--judge-url", judge, "--rounds", 2)
    assert done.exit_code == 0, done.output
    ours = next(row for row in rows(tmp_path / "table6.csv") if row["source"] == "measured")
    images = int(ours["images"])
    assert Judge.asked == images * 3 * 2
    assert (ours["judge"], ours["rounds"], float(ours["sum"]), ours["unparsed"]) == ("some-model", "2", 6.0, "0")
    assert typed(*wanted, "--judge", "some-model", "--judge-url", judge, "--rounds", 2).exit_code == 0
    assert Judge.asked == images * 3 * 2  # what was rated is kept


def test_table6_wants_a_judge_with_a_name_and_golden_texts(data: Path, model: Path, tmp_path: Path, judge: str) -> None:
    wanted = ("table6", "-m", model, "-o", tmp_path / "out")
    done = typed(*wanted, "--data-root", data, "--judge-url", judge)
    assert done.exit_code == 2
    assert "`--judge`" in done.output
    (tmp_path / "data" / "LLDescribe-QBench").mkdir(parents=True)
    shutil.copytree(data / "LLDescribe-QBench" / "images", tmp_path / "data" / "LLDescribe-QBench" / "images")
    done = typed(*wanted, "--data-root", tmp_path / "data", "--judge", "m", "--judge-url", judge)
    assert done.exit_code == 2
    assert "`--golden`" in done.output
    assert Judge.asked == 0
    assert not (tmp_path / "out").exists()


def test_table7_and_figures_without_a_model(tmp_path: Path, ablation: Path) -> None:
    assert typed("table7", ablation, "-o", tmp_path).exit_code == 0
    assert any(row["scoring"] == "0.5" for row in rows(tmp_path / "table7.csv"))
    assert typed("table7", tmp_path / "no.json", "-o", tmp_path).exit_code == 2
    done = typed("fig7", "-o", tmp_path)
    assert done.exit_code == 0, done.output
    counted = [row for row in rows(tmp_path / "fig7.csv") if row["source"] == "counted"]
    assert {row["model"] for row in counted} == {"mini", "7b"}
    assert all(row["latency"] == "" and float(row["tflop"]) > 1 for row in counted)
    assert typed("fig7", "-o", tmp_path, "--measure", "nothing").exit_code == 2


def test_fig6_is_a_figure_and_a_page_for_each_model(data: Path, model: Path, tmp_path: Path) -> None:
    pictures = sorted((data / "mine").iterdir())[:2]
    done = typed("fig6", *pictures, "-m", model, "-o", tmp_path, "-q", "Is it sharp?")
    assert done.exit_code == 0, done.output
    assert (tmp_path / "fig6.html").read_text(encoding="utf-8").count("Is it sharp?") == 2
    assert typed("fig6", tmp_path / "no.png", "-m", model, "-o", tmp_path).exit_code == 2


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers of a few tokens, intervals of a few rounds, a model that is not counted; the tables' own tests do that."""
    generate = LlavaOnevisionBackend.generate
    monkeypatch.setattr(
        LlavaOnevisionBackend, "generate", lambda self, asked, limit: generate(self, asked, min(limit, 4))
    )
    monkeypatch.setattr(
        table4, "bootstrap_interval", lambda *given, **named: bootstrap_interval(*given, **{**named, "rounds": 20})
    )
    monkeypatch.setattr(fig7, "_counted", lambda *_: None)


@pytest.mark.usefixtures("brief")
def test_all_makes_what_it_can_and_says_what_not(data: Path, model: Path, tmp_path: Path, ablation: Path) -> None:
    wanted = ("all", "-m", model, "--data-root", data, "-o", tmp_path)
    done = typed(*wanted, "--ablation", ablation, "--sweep", tmp_path / "no")
    assert done.exit_code == 1
    said = {line.split(":")[1].strip(): line.split(":")[0] for line in done.stderr.splitlines() if line.count(":") > 1}
    assert said["fig4"] == "failed"
    assert {said[name] for name in ("table2", "table6", "fig6")} == {"left out"}
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert all(f'id="table-{name}"' in page for name in ("table1", "table4", "table5", "table7", "fig7"))
    assert page.index('id="table-table1"') < page.index('id="table-table4"') < page.index('id="table-fig7"')
    assert 'class="ours"' in page
    assert (tmp_path / "fig5.png").is_file()
    assert typed(*wanted).exit_code == 0
