"""The judge of LLDescribe against a real server on loopback: strict reading, every way to fail, and going on after it."""

from __future__ import annotations

import json
import shutil
import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a program of the checkout, which nobody installs

from benchmarks.judge import EndpointJudge, LocalJudge, Unjudged, judge_run, messages, rating
from benchmarks.runs import Process, Results
from qsit_metric.errors import QSiTError
from qsit_metric.evaluation import EvaluationError
from tests.tiny_models import TIED

ALONE = Process()
SECRET = "sk-very-secret"
GOLDEN = {f"{name}.jpg": f"Golden text of {name}." for name in "ab"}


def reply(text, reason="stop"):
    return 200, json.dumps({"choices": [{"message": {"content": text}, "finish_reason": reason}]})


class Server:
    """Says what is in its script, one thing a request, then "Score: 2"; remembers what it was asked."""

    def __init__(self):
        self.script, self.seen, self.lock, self.over = [], [], threading.Lock(), threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with outer.lock:
                    outer.seen.append((self.headers.get("Authorization"), body))
                    said = outer.script.pop(0) if outer.script else reply("Score: 2")
                if said == "hang":
                    outer.over.wait(30)
                    return
                content = said[1].encode()
                self.send_response(said[0])
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *args):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("SOME_KEY", SECRET)
    one = Server()
    yield one
    one.over.set()
    one.http.shutdown()
    one.http.server_close()


def judge(server, **given):
    return EndpointJudge(server.url, "m", **{"workers": 1, "pause": 0.0, "attempts": 3, **given})


@pytest.fixture
def described(tmp_path):
    """A finished run of descriptions, of which the third failed."""
    folder = tmp_path / "described"
    folder.mkdir()
    run = {
        "kind": "descriptions", "set": "lldescribe", "n": 3, "sha256": "0", "exif": False, "prompt": "Describe.",
        "made": {"model": "q-sit-mini"},
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps(run))
    common = {"seconds": 1.0, "waited": 0.0}
    rows = [
        {"id": f"{n}.jpg", "image": f"{n}.jpg", "place": p, "reply": f"{n} is {{dark}}.", "finished": True, "error": ""}
        for p, n in enumerate("ab")
    ]
    rows.append({"id": "c.jpg", "image": "c.jpg", "place": 2, "reply": None, "finished": None, "error": "broken"})
    (folder / "part-00000.jsonl").write_text("".join(json.dumps(row | common) + "\n" for row in rows))
    return Results.read(folder)


def run(judge, described, folder, golden=GOLDEN, **given):
    return judge_run(judge, described, golden, folder, **{"process": ALONE, **given})


def lines(folder):
    return len((folder / "part-00000.jsonl").read_text().splitlines())


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Score: 2", 2),
        ("score:0", 0),
        ("1", 1),
        (" 2.\n", 2),
        ("**Score:** 1", 1),
        ("Score: [2]", 2),
        ("It leaves the noise out.\nScore: 1.", 1),
        ("Score: 1\nIn short: Score: 1", 1),
        ("", None),
        ("two", None),
        ("3", None),
        ("Score: 3", None),
        ("Score: 1.5", None),
        ("Score: -1", None),
        ("Score: 2/2", None),
        ("Score: 0, 1 or 2", None),
        ("Score: 12", None),
        ("Score: 1\nScore: 2", None),
        ("Score: 2\nScore: none", None),
        ("I rate it 2", None),
        ("Score:", None),
    ],
)
def test_a_rating_is_read_or_there_is_none(text, found):
    assert rating(text) == found


def test_questions_hold_both_texts_as_they_are():
    [turn] = messages("completeness", "{golden} {x} 50 %", "the golden one")
    assert "description [{golden} {x} 50 %] completely" in turn["content"]
    assert "[the golden one]" in turn["content"]
    assert "golden" not in messages("relevance", "Dark.")[0]["content"]
    for dimension, golden in (("precision", None), ("beauty", "x")):
        with pytest.raises(EvaluationError, match="`dimension, golden`"):
            messages(dimension, "Dark.", golden)


def test_every_image_dimension_and_round_is_asked_anew(server, described, tmp_path):
    found = run(judge(server, api_key_env="SOME_KEY", workers=3), described, tmp_path / "out")
    assert len(server.seen) == len(found.rows) == 2 * 3 * 5
    assert found.complete
    assert {row["rating"] for row in found.good} == {2}
    assert found.rows[0]["id"] == "a.jpg|completeness|1"
    assert found.run["judge"] == {"model": "m", "temperature": 0, "max_tokens": 256}
    assert (found.run["rounds"], found.run["images"], found.run["descriptions_failed"]) == (5, 2, 1)
    assert {key for key, _ in server.seen} == {f"Bearer {SECRET}"}
    asked = {body["messages"][0]["content"] for _, body in server.seen}
    assert len(asked) == 2 * 3
    assert {(body["model"], body["temperature"]) for _, body in server.seen} == {("m", 0)}
    assert all(SECRET not in path.read_text() for path in (tmp_path / "out").iterdir() if path.is_file())


def test_replies_without_a_rating_are_kept_and_listed(server, described, tmp_path):
    server.script = [reply("It is fine."), reply("Score: 1"), reply("Score: 0", "length"), (200, "{}")]
    found = run(judge(server), described, tmp_path / "out", rounds=1)
    assert found.complete
    assert [row["rating"] for row in found.rows] == [None, 1, None, None, 2, 2]
    texts = [row["error"] for row in found.failed]
    assert "no rating in the reply 'It is fine.'" in texts[0]
    assert found.failed[0]["reply"] == "It is fine."
    assert "cut at `max_tokens`" in texts[1]
    assert "no choices[0].message.content" in texts[2]
    before = len(server.seen)
    assert not run(judge(server), described, tmp_path / "out", rounds=1, retry_failed=True).failed
    assert len(server.seen) == before + 3


@pytest.mark.parametrize("passing", [[(429, "slow down")] * 2, [(503, "")], ["hang"], [(200, "no JSON")]])
def test_what_passes_is_tried_again(server, described, tmp_path, passing):
    server.script = list(passing)
    found = run(judge(server, timeout=2.0 if passing == ["hang"] else 60.0), described, tmp_path / "out", rounds=1)
    assert not found.failed
    assert len(server.seen) == 6 + len(passing)


def test_time_outs_end_the_run_and_what_was_judged_stays(server, described, tmp_path):
    server.script = [reply("Score: 1"), reply("Score: 0"), "hang"]
    with pytest.raises(EvaluationError, match=r"timed out.*, 1 times"):
        run(judge(server, timeout=2.0, attempts=1), described, tmp_path / "out", rounds=1)
    assert lines(tmp_path / "out") == 2
    found = run(judge(server), described, tmp_path / "out", rounds=1)
    assert [row["rating"] for row in found.rows] == [1, 0, 2, 2, 2, 2]
    assert len(server.seen) == 3 + 4


def test_a_judge_that_is_none_is_not_asked_for_hours(server, described, tmp_path):
    """The address of some web page, say."""
    server.script = [(200, "<html>")] * 30
    with pytest.raises(EvaluationError, match=r"no usable reply to 8 questions in a row.*no JSON.*--judge-url"):
        run(judge(server, attempts=1), described, tmp_path / "j")
    assert lines(tmp_path / "j") == len(server.seen) == 8
    server.script = [(200, "<html>")] * 7  # one less, and nobody gives up
    found = run(judge(server, attempts=1), described, tmp_path / "j", retry_failed=True)
    assert (found.complete, len(found.failed)) == (True, 7)


def test_a_refused_key_is_one_clear_error_without_the_key(server, described, tmp_path):
    server.script = [(401, f"Incorrect API key provided: {SECRET}")]
    with pytest.raises(
        EvaluationError, match=r"refuses the key in the environment variable SOME_KEY \(HTTP 401\)"
    ) as caught:
        run(judge(server, api_key_env="SOME_KEY"), described, tmp_path / "out")
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None
    assert len(server.seen) == 1
    assert lines(tmp_path / "out") == 0


def test_another_refusal_hides_the_key_too(server, described, tmp_path):
    server.script = [(400, f"bad request of {SECRET}")]
    with pytest.raises(EvaluationError, match=r"HTTP 400: bad request of \*\*\*"):
        run(judge(server, api_key_env="SOME_KEY"), described, tmp_path / "out")


def test_what_was_under_way_when_the_judge_failed_is_kept(server, described, tmp_path):
    server.script = [reply("Score: 1"), (400, "no"), reply("Score: 0"), reply("Score: 2")]
    with pytest.raises(EvaluationError, match="HTTP 400"):
        run(judge(server, workers=4), described, tmp_path / "out", rounds=1)
    assert lines(tmp_path / "out") >= len(server.seen) - 1 >= 3


def test_nobody_listens(described, tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{place.getsockname()[1]}/v1"
    with pytest.raises(EvaluationError, match=r"refused.*, 2 times"):
        run(EndpointJudge(url, "m", attempts=2, pause=0.0), described, tmp_path / "out")


def test_a_torn_line_is_judged_again_and_another_judge_gets_another_folder(server, described, tmp_path):
    out = tmp_path / "out"
    run(judge(server), described, out, rounds=1)
    part = out / "part-00000.jsonl"
    part.write_text(part.read_text()[:-20])
    assert run(judge(server), described, out, rounds=1).complete
    assert len(server.seen) == 6 + 1
    with pytest.raises(EvaluationError, match=r"results of a run made as now \(.*rounds 2\), but it has .*rounds 1\."):
        run(judge(server), described, out, rounds=2)
    with pytest.raises(EvaluationError, match="but it has sha256 .*images, scores or texts have changed"):
        run(judge(server), described, out, {**GOLDEN, "a.jpg": "Other."}, rounds=1)
    with pytest.raises(EvaluationError, match="but it has judge.model m"):
        run(EndpointJudge(server.url, "n"), described, out, rounds=1)


def test_an_image_without_a_golden_text_is_rated_by_relevance_only(server, described, tmp_path):
    found = run(judge(server), described, tmp_path / "out", {"a.jpg": "Text."}, rounds=1)
    assert found.complete
    assert len(server.seen) == 4
    assert [row["id"] for row in found.failed] == ["b.jpg|completeness|1", "b.jpg|precision|1"]
    assert all("no text for this image" in row["error"] for row in found.failed)


def test_descriptions_must_be_complete(server, described, tmp_path):
    part = described.folder / "part-00000.jsonl"
    part.write_text("".join(part.read_text().splitlines(keepends=True)[:2]))
    with pytest.raises(EvaluationError, match="a complete run of descriptions.*2 of 3 are there"):
        run(judge(server), Results.read(described.folder), tmp_path / "out")


@pytest.mark.parametrize(
    ("given", "message"),
    [({"base_url": "ftp://x"}, "`base_url`"), ({"model": ""}, "`model`"), ({"api_key_env": "NOT_SET"}, "`api_key_env`"),
     ({"workers": 0}, "`workers`"), ({"attempts": 0}, "`attempts")],
)  # fmt: skip
def test_settings_are_checked_before_anything_is_asked(given, message):
    with pytest.raises(QSiTError, match=message):
        EndpointJudge(**{"base_url": "http://localhost/v1", "model": "m", **given})


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """A text model of 2 layers with the golden tokenizer."""
    from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

    folder = tmp_path_factory.mktemp("local") / "tiny-judge"
    tokenizer = AutoTokenizer.from_pretrained(TIED)
    tokenizer.chat_template = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}{% endfor %}"
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_hidden_layers": 2}
    config = Qwen2Config(**sizes, num_key_value_heads=2, vocab_size=len(tokenizer), eos_token_id=None)
    Qwen2ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.compat
def test_a_local_model_judges_once_and_its_nonsense_is_counted(local, described, tmp_path):
    found = run(LocalJudge(str(local), max_new_tokens=3), described, tmp_path / "out")
    assert found.run["rounds"] == 1
    assert found.run["judge"]["model"] == "tiny-judge"
    assert found.complete
    assert len(found.rows) == 6
    assert all((row["rating"] is None) == bool(row["error"]) and row["reply"] is not None for row in found.rows)


def test_a_local_model_must_be_there_and_be_a_chat_model(local, tmp_path):
    with pytest.raises(EvaluationError, match="`model`.*causal language model"):
        LocalJudge(str(tmp_path), local_files_only=True)
    bare = shutil.copytree(local, tmp_path / "bare")
    for path in bare.glob("*chat_template*"):
        path.unlink()
    settings = json.loads((bare / "tokenizer_config.json").read_text())
    settings.pop("chat_template", None)
    (bare / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(EvaluationError, match="chat template"):
        LocalJudge(str(bare))


def test_unjudged_is_an_error_of_evaluation():
    assert issubclass(Unjudged, EvaluationError)
