"""`qsit serve`: its doors, its limits, who is let in, one queue for all clients, lines on stdin, and the page."""

from __future__ import annotations

import base64
import contextlib
import io
import itertools
import json
import os
import pickle
import signal
import socket
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image
from typer.testing import CliRunner

import browser
from brightness import Brightness
from conftest import IMAGES
from qsit_metric import QSiT
from qsit_metric.cli import app as qsit
from qsit_metric.cli.options import ModelOptions
from qsit_metric.errors import ImageError, InputError
from qsit_metric.server.batcher import Batcher, Full
from qsit_metric.server.bodies import decoded, unpickled
from qsit_metric.server.lines import Lines


class Answering(Brightness):
    def generate(self, requests, max_new_tokens):
        from qsit_metric.backends.base import Reply

        return [Reply("It is bright.", (1,), True) for _ in requests]


def picture(level, kind="PNG"):
    file = io.BytesIO()
    Image.new("RGB", (48, 40), (level,) * 3).save(file, kind)
    return file.getvalue()


def text(content):
    return base64.b64encode(content).decode()


DARK, LIGHT, BROKEN = picture(40), picture(220), b"no picture"


@pytest.fixture(scope="module")
def metric():
    return QSiT(Answering())


@pytest.fixture(scope="module")
def build():
    for name in ("fastapi", "python_multipart", "prometheus_client", "httpx"):
        pytest.importorskip(name)
    from qsit_metric.server.app import build

    return build


@pytest.fixture
def client(metric, build):
    from fastapi.testclient import TestClient

    made = []

    def opened(**settings):
        made.append(TestClient(build(metric, **settings), base_url="http://localhost", raise_server_exceptions=False))
        return made[-1].__enter__()

    yield opened
    for one in made:
        one.__exit__(None, None, None)


def limits(**fields):
    from qsit_metric.server.gate import Limits

    return Limits(**fields)


# ---- scores by every door


def test_every_form_of_score_gives_the_scores_of_the_library(client, metric):
    here, http = metric.score([DARK, LIGHT]), client()
    forms = [
        http.post("/score", files=[("images", ("a.png", DARK)), ("images", ("b.png", LIGHT))]),
        http.post("/score", json={"images": [text(DARK), f"data:image/png;base64,{text(LIGHT)}"]}),
    ]
    for reply in forms:
        assert reply.status_code == 200
        assert [row["score"] for row in reply.json()["results"]] == pytest.approx(
            [float(one) for one in here], abs=1e-6
        )
        assert reply.json()["results"][0]["probs"] == pytest.approx(here[0].probs)
        assert reply.json()["made"]["backend"] == "brightness"
    assert [row["name"] for row in forms[0].json()["results"]] == ["a.png", "b.png"]
    (one,) = http.post("/score", content=DARK, headers={"content-type": "image/png"}).json()["results"]
    assert one["score"] == pytest.approx(float(here[0]))


def test_golden_pictures_by_the_model_of_the_package(build):
    from fastapi.testclient import TestClient

    nano = QSiT("q-sit-nano")
    paths = [IMAGES / name for name in ("tiny_7x5.png", "rgba_300.png", "portrait_300x449.jpg")]
    with TestClient(build(nano), base_url="http://localhost") as http:
        found = http.post("/score", files=[("images", path.read_bytes()) for path in paths]).json()["results"]
    assert [row["score"] for row in found] == pytest.approx([float(one) for one in nano.score(paths)], abs=1e-4)


def test_a_picture_that_fails_is_a_row_and_says_so_if_it_is_alone(client):
    http = client()
    mixed = http.post("/score", json={"images": [text(DARK), text(BROKEN), "/etc/passwd", 7]})
    assert mixed.status_code == 200
    assert ["error" in row for row in mixed.json()["results"]] == [False, True, True, True]
    alone = http.post("/score", files=[("images", BROKEN)])
    assert (alone.status_code, "error" in alone.json()["results"][0]) == (422, True)


@pytest.mark.parametrize(
    ("scale", "value"), [("mos", lambda s: float(s)), ("unit", lambda s: s.unit), ("fifth", lambda s: s / 5)]
)
def test_compute_speaks_both_forms(client, metric, scale, value):
    http, here = client(scale=scale), [value(one) for one in metric.score([DARK, LIGHT])]
    for body in (
        {"prompt": ["a", "b"], "image": [text(DARK), text(LIGHT)], "video": None, "condition_images": None},
        {"prompts": ["a", "b"], "images": [text(DARK), text(LIGHT)]},
    ):
        assert http.post("/compute", json=body).json() == {"rewards": pytest.approx(here)}


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("/compute", {"images": [text(DARK), text(BROKEN)]}, "picture 1: "),
        ("/compute", {"images": [text(DARK)], "prompts": ["a", "b"]}, "one for each of 1 pictures"),
        ("/compute", {"image": None, "video": ["x"]}, "Videos have no Q-SiT score."),
        ("/compute", [1], "a JSON object"),
        ("/score", {}, "a picture or a list of pictures"),
        ("/ask", {"image": text(DARK)}, "`question`"),
        ("/ask", {"image": text(DARK), "question": 3}, "`question`"),
        ("/ask", {"image": text(DARK), "question": "a", "choices": "yes"}, "`choices`"),
        ("/ask", {"image": text(DARK), "question": "a", "choices": ["one"]}, "`choices`"),
        ("/ask", {"image": text(DARK), "question": "a", "method": {}}, "`method`"),
        ("/ask", {"image": text(DARK), "question": "a", "max_new_tokens": 0}, "`max_new_tokens`"),
        ("/ask", {"image": [text(DARK)] * 2, "question": "a"}, "one picture"),
        ("/map", {"image": text(BROKEN)}, "`image`"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_is_one_clear_error(client, path, body, words):
    reply = client().post(path, json=body)
    assert reply.status_code == 422
    assert words in reply.json()["error"]


def test_bodies_that_are_none(client):
    http = client()
    for content, kind in ((b"{", "application/json"), (b"[" * 100_000, "application/json"), (b"", "")):
        assert http.post("/score", content=content, headers={"content-type": kind}).status_code == 422
    torn = http.post("/score", content=b"--x\r\nConte", headers={"content-type": "multipart/form-data; boundary=x"})
    assert (torn.status_code < 500, "error" in torn.json()) == (True, True)
    half = http.post("/ask", content=b'{"image": "%s", "question": "\\ud800"}' % text(DARK).encode())
    assert half.status_code == 422


def test_questions_and_maps(client, metric):
    http = client()
    free = http.post("/ask", files={"image": DARK}, data={"question": "Is it bright?", "max_new_tokens": "5"})
    assert free.json() == {"answer": "It is bright.", "finished": True}
    chosen = http.post("/ask", files={"image": DARK}, data={"question": "Which?", "choices": ["yes", "no"]}).json()
    assert chosen["probs"] == pytest.approx(metric.ask(DARK, "Which?", choices=["yes", "no"]).probs)
    several = http.post("/ask", json={"image": text(DARK), "question": ["One?", "Two?"]}).json()["answers"]
    assert [one["question"] for one in several] == ["One?", "Two?"]
    mapped = http.post("/map", content=DARK, headers={"content-type": "image/png"}).json()
    assert Image.open(io.BytesIO(decoded(mapped["overlay"]))).format == "PNG"
    assert mapped["score"] == pytest.approx(float(metric.score(DARK)))


def test_health_metrics_and_openapi(client):
    http = client()
    http.post("/score", json={"images": [text(DARK), text(BROKEN)]})
    assert http.get("/health").json()["status"] == "ok"
    said = http.get("/metrics").text
    assert 'qsit_pictures_total{outcome="scored"} 1.0' in said
    assert 'qsit_requests_total{path="/score",status="200"} 1.0' in said
    assert "qsit_queue 0.0" in said
    paths = http.get("/openapi.json").json()["paths"]
    assert set(paths) == {"/score", "/compute", "/ask", "/map", "/health", "/metrics"}
    assert "multipart/form-data" in paths["/score"]["post"]["requestBody"]["content"]


# ---- who is let in, and how much of it


def test_a_token_is_asked_for_and_compared(client):
    http = client(token="s3cret")
    assert http.post("/score", json={"images": [text(DARK)]}).status_code == 401
    assert http.get("/metrics", headers={"authorization": "Bearer other"}).status_code == 401
    assert http.get("/metrics?token=s3cret").status_code == 401
    assert http.get("/metrics", headers={"authorization": "bearer s3cret", "host": "box"}).status_code == 200
    assert [http.get(path).status_code for path in ("/", "/page.js", "/health")] == [200, 200, 200]


def test_without_a_token_other_pages_cannot_use_the_browser(client):
    http = client()
    assert http.get("/health", headers={"host": "evil.example"}).status_code == 421
    assert http.get("/health", headers={"host": "[::1]:8080"}).status_code == 200
    assert http.post("/score", content=DARK, headers={"origin": "http://evil.example"}).status_code == 403


def test_sizes_are_limited_before_they_are_read(client):
    http = client(limits=limits(body=1000, memory=1500))
    for content in (b"x" * 1001, iter([b"x" * 600] * 2)):
        reply = http.post("/score", content=content)
        assert (reply.status_code, "1000 bytes" in reply.json()["error"]) == (413, True)
    assert client(limits=limits(memory=100)).post("/score", content=b"x" * 101).headers["retry-after"] == "1"
    assert http.post("/score", content=picture(3), headers={"content-type": "image/png"}).status_code == 200


class Slow(Brightness):
    """Waits at every batch until it may go on."""

    def __init__(self):
        super().__init__()
        self.begun, self.go = threading.Event(), threading.Event()

    def logits(self, requests):
        self.begun.set()
        assert self.go.wait(20)
        return super().logits(requests)


def test_a_full_queue_says_when_to_come_again_and_a_late_answer_is_given_up(build):
    from fastapi.testclient import TestClient

    engine = Slow()
    app = build(QSiT(engine), limits=limits(queue=2, seconds=0.3))
    with TestClient(app, base_url="http://localhost") as http, ThreadPoolExecutor(1) as pool:
        first = pool.submit(http.post, "/score", json={"images": [text(DARK)] * 2})
        assert engine.begun.wait(10)
        full = http.post("/score", json={"images": [text(DARK)]})
        assert (full.status_code, full.headers["retry-after"]) == (503, "1")
        assert first.result().status_code == 504
        assert http.post("/score", json={"images": [text(DARK)] * 3}).status_code == 413
        engine.go.set()
        while http.post("/score", json={"images": [text(DARK)]}).status_code == 503:
            time.sleep(0.01)
        assert http.post("/score", json={"images": [text(DARK)]}).status_code == 200


# ---- the queue


def test_clients_share_batches_and_keep_their_order(metric):
    engine = Slow()
    batcher = Batcher(QSiT(engine), 100)
    first = batcher.score([DARK])
    assert engine.begun.wait(10)
    groups = [batcher.score([picture(10 * k), BROKEN, picture(10 * k + 5)]) for k in range(8)]
    asked = batcher.call(lambda metric: metric.info["backend"])
    cancelled = batcher.score([DARK])[0]
    assert cancelled.cancel()
    failing = batcher.call(lambda metric: 1 / 0)
    engine.go.set()
    batcher.close()
    assert first[0].result() == metric.score(DARK)
    for k, (low, broken, high) in enumerate(groups):
        assert [low.result(), high.result()] == metric.score([picture(10 * k), picture(10 * k + 5)])
        assert isinstance(broken.result(), ImageError)
    assert asked.result() == "brightness"
    assert isinstance(failing.exception(), ZeroDivisionError)
    assert max(engine.batches) > 2, "pictures of several clients stand in one batch"
    assert batcher.waiting == 0
    with pytest.raises(Full, match="it stops"):
        batcher.score([DARK])


def test_a_thread_that_meets_a_fault_of_ours_goes_on():
    class Faulty(Brightness):
        def prepare(self, picture):
            raise KeyboardInterrupt if picture is None else SystemError("odd")

    batcher = Batcher(QSiT(Faulty()), 4)
    for _ in range(2):
        (future,) = batcher.score([DARK])
        assert "odd" in str(future.exception() or future.result())
    assert batcher.alive
    batcher.close()


# ---- pickles


def test_the_client_of_flow_grpo(client, metric):
    jpegs = [picture(40, "JPEG"), picture(220, "JPEG")]
    reply = client(pickles=True).post("/", content=pickle.dumps({"images": jpegs}))
    assert pickle.loads(reply.content) == {"outputs": pytest.approx([one / 5 for one in metric.score(jpegs)])}
    assert client().post("/", content=pickle.dumps({"images": jpegs})).status_code == 405


class Evil:
    def __reduce__(self):
        return os.system, ("exit 1",)


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps(Evil()),
        pickle.dumps({"images": [b"a", Evil()]}),
        pickle.dumps({"images": {1, 2}}),
        pickle.dumps(OSError),
        pickle.dumps({"images": [b"a"]}, protocol=2),
        b"cos\nsystem\n(S'true'\ntR.",
        b"\x80\x04\x82\x01.",
        b"\x80\x04Nr\xff\xff\xff\x7f.",  # a memo of 16 GB
        pickle.dumps({"images": [b"abc"]})[:-3],
        b"",
    ],
)
def test_pickles_with_anything_but_plain_values_are_refused(content):
    with pytest.raises(InputError, match="pickle"):
        unpickled(content)


def test_plain_pickles_come_back():
    value = {"images": [b"a", b"b" * 70_000], "more": (1, 2.5, None, True, "ü", [[]], 1 << 40)}
    assert [unpickled(pickle.dumps(value, protocol=p)) for p in (3, 4, 5)] == [value] * 3


# ---- lines


def test_lines_are_answered_one_by_one(metric, tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(DARK)
    told = [
        json.dumps({"id": 1, "image": str(path)}), json.dumps(str(path)), "", "no json", "[1]", "[" * 99_999,
        json.dumps({"image": str(path), "question": "Which?", "choices": ["yes", "no"]}),
        json.dumps({"id": "q", "question": "In words?"}), json.dumps({"image": f"data:image/png;base64,{text(LIGHT)}"}),
        json.dumps({"id": 2, "image": "missing.png"}), json.dumps({"imgae": "x"}), json.dumps({"image": 3}), "\xff", "x" * 3_000_000,
        json.dumps({"id": 3, "image": str(path)}),
    ]  # fmt: skip
    source = io.BytesIO("\n".join(told).encode("latin-1"))
    replies = []
    Lines(metric, most=1_000_000).run(source, lambda line: replies.append(json.loads(line)))
    assert len(replies) == len(told) - 1, "each line has its reply, but the empty one"
    assert replies[0] == {"id": 1, "image": str(path), **metric.score(DARK).as_dict()}
    assert replies[1]["score"] == replies[0]["score"]
    assert ["error" in one for one in replies[2:5]] == [True] * 3
    assert replies[5]["choice"] in ("yes", "no")
    assert (replies[6]["id"], replies[6]["answer"]) == ("q", "It is bright.")
    assert (replies[7]["image"], replies[7]["score"]) == ("<data URI>", pytest.approx(float(metric.score(LIGHT))))
    assert (replies[8]["id"], "missing.png" in replies[8]["error"]) == (2, True)
    assert all("error" in one for one in replies[9:13])
    assert replies[13]["id"] == 3


# ---- the command


def run(*words):
    return CliRunner().invoke(qsit, ["serve", *map(str, words)])


def test_the_command_refuses_early(monkeypatch):
    monkeypatch.delenv("QSIT_SERVE_TOKEN", raising=False)
    found = run("--host", "0.0.0.0")
    assert (found.exit_code, "QSIT_SERVE_TOKEN" in found.stderr) == (2, True)
    secret = run("--host", "0.0.0.0", "--access-token", "a b")
    assert (secret.exit_code, "a b" in secret.output) == (2, False)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        found = run("--port", taken.getsockname()[1])
    assert (found.exit_code, "a port that is free" in found.stderr) == (2, True)


def test_a_missing_package_is_named_with_the_line_to_install(monkeypatch):
    from qsit_metric import packages

    monkeypatch.setattr(packages, "installed", lambda name: None)
    found = run()
    assert found.exit_code == 2
    assert "pip install 'qsit-metric[serve]'" in found.stderr


def test_a_stop_finishes_what_has_begun_and_no_token_is_said(build, monkeypatch):
    import httpx

    engine, port, replies = Slow(), free_port(), []
    monkeypatch.setattr(ModelOptions, "load", lambda self: QSiT(engine))
    monkeypatch.setenv("QSIT_SERVE_TOKEN", "s3cret")

    def visit():
        headers = {"authorization": "Bearer s3cret"}
        way = httpx.HTTPTransport(retries=6)  # until it listens
        address = f"http://127.0.0.1:{port}"
        with httpx.Client(base_url=address, headers=headers, transport=way) as http, ThreadPoolExecutor(1) as pool:
            reply = pool.submit(http.post, "/score?key=s3cret", json={"images": [text(DARK)]}, timeout=20)
            engine.begun.wait(20)
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.2)
            engine.go.set()
            replies.append(reply.result().status_code)

    with ThreadPoolExecutor(1) as pool:
        visitor = pool.submit(visit)
        found = run("--port", port)
        visitor.result()
    assert (found.exit_code, replies) == (0, [200])
    assert f"Listening on http://127.0.0.1:{port}" in found.stderr
    assert "Stopped." in found.stderr
    assert "s3cret" not in found.output


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as one:
        return one.getsockname()[1]


# ---- the page

LOOK = """
const until = async (ready) => { for (let i = 0; i < 400 && !ready(); i++) await new Promise((done) => setTimeout(done, 25)); };
const element = (id) => document.getElementById(id);
const bytes = Uint8Array.from(atob(PICTURE), (letter) => letter.charCodeAt(0));
const data = new DataTransfer();
data.items.add(new File([bytes], "dark <b>.png", { type: "image/png" }));
document.dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
await until(() => !element("result").hidden);
await element("picture").decode();
const found = { score: element("score").textContent, level: element("level").textContent, name: element("name").textContent };
found.levels = [...document.querySelectorAll("#levels th")].map((one) => one.textContent);
found.bars = [...document.querySelectorAll("#levels meter")].map((one) => one.value);
found.shown = element("picture").naturalWidth;
element("map").click();
await until(() => !element("overlay").hidden);
await element("overlay").decode();
found.map = element("overlay").naturalWidth;
element("question").value = "Which?"; element("choices").value = "yes, no";
element("asking").requestSubmit();
await until(() => element("answer").textContent);
found.answer = element("answer").textContent;
found.options = [...document.querySelectorAll("#options th")].map((one) => one.textContent);
found.wide = document.documentElement.scrollWidth <= window.innerWidth;
return found;
"""


@contextlib.contextmanager
def running(app):
    """The application on a free port of this machine, by a real server."""
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()


@pytest.mark.browser
def test_the_page_in_a_real_browser(build, metric):
    with running(build(metric)) as port, browser.opened(f"http://127.0.0.1:{port}/", (390, 844)) as tab:
        found = tab.run(f"const PICTURE = '{text(DARK)}'; {LOOK}")
    here = metric.score(DARK)
    assert (found["score"], found["level"], found["name"]) == (f"{here:.2f}", here.level, "dark <b>.png")
    assert found["levels"] == list(here.probs)
    assert found["bars"] == pytest.approx(list(here.probs.values()), abs=1e-6)
    assert (found["shown"], found["map"] > 100) == (48, True)
    assert (found["answer"], found["options"]) == (metric.ask(DARK, "Which?", choices=["yes", "no"]), ["yes", "no"])
    assert found["wide"], "nothing is cut off at the side"


# ---- for a long time (QSIT_SOAK_SECONDS=3600 makes it an hour)


def cut_off(port):
    """A request that ends in the middle of its body."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as one:
        one.sendall(b"POST /score HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999\r\n\r\nabc")


@pytest.mark.long
def test_no_reply_is_lost_and_memory_does_not_grow(build, metric):
    import httpx

    psutil = pytest.importorskip("psutil")

    end, statuses, held = time.monotonic() + float(os.environ.get("QSIT_SOAK_SECONDS", "20")), Counter(), []
    requests = [
        ({"files": [("images", DARK), ("images", BROKEN)]}, 200), ({"files": [("images", BROKEN)]}, 422),
        ({"json": {"images": [text(LIGHT)]}}, 200), ({"content": b"{"}, 422), ({"content": b"x" * 70_000}, 413),
    ]  # fmt: skip

    def client(port):
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as http:
            for asked, expected in itertools.cycle(requests):
                if time.monotonic() > end:
                    return
                found = http.post("/score", **asked).status_code
                statuses[found, expected] += 1
                cut_off(port)

    with running(build(metric, limits=limits(body=60_000))) as port, ThreadPoolExecutor(8) as pool:
        clients = [pool.submit(client, port) for _ in range(8)]
        while not all(one.done() for one in clients):
            held.append(psutil.Process().memory_info().rss)
            time.sleep(1)
        for one in clients:
            one.result()
        left = httpx.get(f"http://127.0.0.1:{port}/metrics").text
    assert all(found == expected for found, expected in statuses), statuses
    assert "qsit_queue 0.0" in left
    assert max(held[len(held) // 2 :]) < 1.1 * max(held[: len(held) // 2]), held
