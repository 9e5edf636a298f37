"""A model behind a server: the same scores, what is asked and how often, and no wrong score from a wrong server.

The server here is `vllm_server`, which looks as a real one was recorded; `test_served_real` runs a real one.
"""

from __future__ import annotations

import asyncio
import csv
import dataclasses
import json
import pickle
import shutil
import socket
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from conftest import GOLDEN, IMAGES, expected
from qsit_metric import QSiT, QSiTLoss, Server
from qsit_metric.backends import server as http
from qsit_metric.backends import vllm
from qsit_metric.cli import app
from qsit_metric.cli.doctor import serving
from qsit_metric.cli.options import ModelOptions
from qsit_metric.errors import BackendError, CheckpointError, DependencyError, InputError, QSiTError
from qsit_metric.pixels import load
from vllm_server import CHAT, EXACT, RECORDED, VllmServer

WAYS = ("exact", "chat")
TIED = GOLDEN / "tied"
NAMES = ("tiny_7x5.png", "rgba_300.png", "cmyk_427x640.jpg", "portrait_300x449.jpg")
SMALL = IMAGES / "tiny_7x5.png"


@pytest.fixture(scope="module")
def running():
    with VllmServer(TIED) as server:
        yield server


@pytest.fixture
def server(running, monkeypatch):
    monkeypatch.setattr(http, "_PAUSE", 0.01)
    monkeypatch.delenv(http.KEY_VARIABLE, raising=False)
    running.reset()
    return running


@pytest.fixture(scope="module")
def served(running):
    """A metric for each way."""
    running.reset()
    return {way: QSiT(running.url, server=Server(way=way, timeout=30)) for way in WAYS}


@pytest.fixture(params=WAYS)
def metric(request, served, server):
    return served[request.param]


def refusal(call, kind=BackendError):
    with pytest.raises(kind) as caught:
        call()
    return str(caught.value)


# ---- the same answers


def test_golden_scores(metric):
    stored = expected("tied")["images"]
    for name, score in zip(NAMES, metric.score([IMAGES / name for name in NAMES]), strict=True):
        assert score == pytest.approx(stored[name]["score15"], abs=1e-4), name
        assert score.probs == pytest.approx({k.lower(): v for k, v in stored[name]["probs"].items()}, abs=1e-4)
        assert sum(np.exp(list(score.logits.values()))) < 1, "log-probabilities among all tokens"


def test_tensors_arrays_views_and_maps(metric, tied):
    array = np.random.default_rng(3).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    x = torch.from_numpy(array).permute(2, 0, 1)[None] / 255
    want = tied.score(array)
    assert metric(x).tolist() == pytest.approx([want], abs=1e-4)
    assert metric.score(x[0] + 1e-4) == pytest.approx(tied.score(x[0] + 1e-4), abs=1e-4)
    with metric.open(array) as view:
        assert view.score() == pytest.approx(want, abs=1e-4)
        assert (
            view.ask("Is it sharp?", choices=["yes", "no"]).choice
            == tied.ask(array, "Is it sharp?", choices=["yes", "no"]).choice
        )
    assert metric.map(array).values == pytest.approx(tied.map(array).values, abs=1e-4)


def test_questions(metric, tied):
    questions = ["Is it sharp?", "Worst fault?"]
    assert metric.ask(SMALL, questions, max_new_tokens=4) == tied.ask(SMALL, questions, max_new_tokens=4)
    many = [f"option {n}" for n in range(26)]
    theirs, ours = (m.ask(SMALL, "Which?", choices=many) for m in (metric, tied))
    assert theirs.probs == pytest.approx(ours.probs, abs=1e-5)
    how = {"choices": many[:3], "method": "generate", "max_new_tokens": 3}
    assert metric.ask(SMALL, "Which?", **how) == tied.ask(SMALL, "Which?", **how)


def test_whole_texts_are_compared_in_the_exact_way(served, server, tied):
    choices = ["noise", "a blur"]
    pictures = [SMALL, IMAGES / "gray_256.png"]
    theirs, ours = (m.ask(pictures, "Which?", choices=choices, method="texts") for m in (served["exact"], tied))
    for their, our in zip(theirs, ours, strict=True):
        assert their.probs == pytest.approx(our.probs, abs=1e-5)
    said = refusal(lambda: served["chat"].ask(SMALL, "Which?", choices=choices, method="texts"))
    assert "letters" in said
    assert "--enable-scale-out" in said


def test_another_recipe_is_asked_in_its_own_words(running, server, tied):
    metric = QSiT(server.url, recipe="train", server=Server(way="exact"))
    want = QSiT(TIED, recipe="train").score(SMALL)
    assert metric.score(SMALL) == pytest.approx(want, abs=1e-4)
    assert "--chat-template" in refusal(
        lambda: QSiT(server.url, recipe="train", server=Server(way="chat")), CheckpointError
    )


def test_what_made_a_score_is_told(served, server):
    info = served["exact"].info
    assert (info["backend"], info["device"], info["dtype"], info["vllm"]) == (
        "served",
        server.url,
        "served, exact",
        "0.32.0",
    )
    assert info["model"] == info["served_model"] == str(TIED)
    assert info["revision"] == QSiT(TIED).info["revision"]
    assert server.url in repr(served["chat"])


# ---- what has no answer


def test_what_a_server_cannot_is_one_refusal(metric, server):
    x = torch.rand(1, 3, 20, 20, requires_grad=True)
    assert server.url in refusal(lambda: metric.to("cpu"))
    assert "windows" in refusal(lambda: metric.map(SMALL, method="saliency"))
    assert "gradient" in refusal(lambda: metric(x))
    assert "gradient" in refusal(lambda: QSiTLoss(metric))
    assert not server.asked(EXACT) + server.asked(CHAT)


def test_arguments_that_belong_to_a_local_model(server):
    for argument in ({"dtype": "float16"}, {"device": "meta"}, {"backend": "transformers"}):
        assert next(iter(argument)) in refusal(lambda argument=argument: QSiT(server.url, **argument), InputError)
    assert "server" in refusal(lambda: QSiT(TIED, server=Server()), InputError)
    assert "http://host:8000" in refusal(lambda: QSiT(TIED, backend="served"), InputError)
    for url in ("http://", "http://me:secret@127.0.0.1:1", "http://127.0.0.1:1/?key=secret"):
        assert "secret" not in refusal(lambda url=url: QSiT(url), InputError)
    assert "'owner/repo'" in refusal(lambda: QSiT("https://huggingface.co/owner/repo"), InputError)
    for wrong in ({"way": "fast"}, {"concurrency": 0}, {"retries": -1}, {"timeout": 0}, {"timeout": float("nan")}):
        assert next(iter(wrong)) in refusal(lambda wrong=wrong: Server(**wrong), InputError)


def test_packages_that_are_missing_are_named(monkeypatch, server):
    monkeypatch.setattr("qsit_metric.packages.installed", lambda name: None)
    assert "qsit-metric[served]" in refusal(lambda: QSiT(server.url), DependencyError)


# ---- a reply that does not fit is no score


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ({"lost_id": expected("tied")["level_token_ids"]["Good"]}, "no log-probability for the ids"),
        ({"not_a_number": True}, "no numbers"),
        ({"bare": True}, "no log-probabilities"),
        ({"miscounted": 1}, "as our plan says"),
        ({"page": "<html>Please log in</html>"}, "expected JSON"),
        ({"location": "http://127.0.0.1:9/elsewhere"}, "name that address instead"),
    ],
)
def test_replies_that_do_not_fit(metric, server, fault, said):
    server.faults = dataclasses.replace(server.faults, **fault)
    (error,) = metric.score([SMALL], errors="return")
    assert isinstance(error, (BackendError, CheckpointError))
    assert said in str(error)


def test_another_prompt_of_the_same_length_is_seen(served, server):
    server.faults.reworded = True
    assert "differs" in refusal(lambda: served["chat"].score(SMALL), CheckpointError)


def test_a_server_of_another_geometry_is_refused_before_it_sees_a_picture(server):
    """Its engine would end at the first picture that it cuts in another way."""
    few = server.backend.geometry.at_most(5)
    with VllmServer(TIED, geometry=few, name="few") as other:
        for way in WAYS:
            said = refusal(lambda way=way: QSiT(other.url, server=Server(TIED, way=way)), CheckpointError)
            assert "2304x384" in said
        assert other.alive
        assert not [seen for seen in other.asked(EXACT) + other.asked(CHAT) if seen.body]


def test_each_chat_is_held_against_the_plan(served, server, monkeypatch):
    monkeypatch.setattr(server, "geometry", server.backend.geometry.at_most(2))
    found = served["chat"].score([IMAGES / "gray_256.png", IMAGES / "panorama_1600x200.jpg"], errors="return")
    assert isinstance(found[1], CheckpointError)
    assert "1600x200" in str(found[1])
    assert found[0] == pytest.approx(expected("tied")["images"]["gray_256.png"]["score15"], abs=1e-4)


def test_a_budget_that_vllm_does_not_know_is_refused(server, variant):
    folder = variant({"config.json": {"vision_aspect_ratio": "anyres_max_4"}})
    assert "anyres_max_9" in refusal(lambda: QSiT(server.url, server=Server(folder)), CheckpointError)


def test_a_server_with_the_template_of_the_hub(server, caplog, tied):
    """Its prompt has a token more, so chat is refused; the exact way needs no template."""
    own = json.loads((TIED / "chat_template.json").read_text())["chat_template"]
    with VllmServer(TIED, template=own) as other:
        assert "qsit serve-template" in refusal(lambda: QSiT(other.url, server=Server(way="chat")), CheckpointError)
        assert QSiT(other.url).score(SMALL) == pytest.approx(tied.score(SMALL), abs=1e-4)
    with VllmServer(TIED, scale_out=False) as other:
        assert "--enable-scale-out" in refusal(lambda: QSiT(other.url, server=Server(way="exact")))
        assert QSiT(other.url).info["way"] == "chat"
        assert EXACT in caplog.text


def test_a_gateway_that_knows_v1_only(server):
    server.faults.only_v1 = True
    metric = QSiT(server.url + "/v1/", server=Server(way="auto"))
    assert (metric.info["way"], metric.info["vllm"]) == ("chat", "unknown")
    assert metric.score(SMALL) == pytest.approx(expected("tied")["images"][SMALL.name]["score15"], abs=1e-4)
    server.faults.miscounted = 2
    assert "as our plan says" in refusal(lambda: QSiT(server.url, server=Server(way="chat")), CheckpointError)


def test_a_prompt_that_the_server_has_no_room_for(server, tied):
    with VllmServer(TIED, positions=2000) as other:
        metric = QSiT(other.url)
        found = metric.score([SMALL, IMAGES / "square_512.png"], errors="return")
        assert found[0] == pytest.approx(tied.score(SMALL), abs=1e-4)
        assert "at most 2000" in str(found[1])
        assert len(other.asked(EXACT)[1:]) == 1, "what cannot be answered is not sent"


# ---- what goes wrong on the way


def test_failures_of_the_server_are_repeated(metric, server):
    want = expected("tied")["images"][SMALL.name]["score15"]
    server.faults.statuses = [500, 503, 429]
    assert metric.score(SMALL) == pytest.approx(want, abs=1e-4)
    server.faults.cuts = 2
    assert metric.score(SMALL) == pytest.approx(want, abs=1e-4)
    server.faults.statuses = [500] * 99
    assert "500" in refusal(lambda: metric.score(SMALL))
    assert len(server.faults.statuses) == 99 - 5
    server.faults.statuses = [400]
    assert "400" in refusal(lambda: metric.score(SMALL))
    assert server.faults.statuses == []


def test_a_repetition_has_another_name_for_the_picture(served, server):
    """A server keeps features under that name; a name under which it has the wrong ones would fail for ever."""
    server.faults.statuses = [500]
    served["exact"].score(SMALL)
    first, second = (seen.body["features"]["mm_hashes"]["image"][0] for seen in server.asked(EXACT))
    assert second == f"{first}-1"


def test_a_picture_that_was_refused_and_comes_again(served, server):
    body = json.loads(served["chat"].backend._way.next_token(*_ask(served["chat"], SMALL), (1, 2), 0)) | {
        "temperature": -1
    }
    with pytest.raises(http.Refusal):
        served["chat"].backend.link.post(CHAT, body)
    assert served["chat"].score(SMALL) == pytest.approx(expected("tied")["images"][SMALL.name]["score15"], abs=1e-4)


def _ask(metric, path):
    prepared = metric.backend.prepare(load(path))
    return metric.backend._ask(metric.backend.encode([prepared])[0], metric.recipe.scoring()), prepared.data.kept


def test_no_answer_in_time(served, server):
    metric = QSiT(server.url, server=Server(timeout=0.3))
    server.faults.silence = 1.0
    said = refusal(lambda: metric.score(SMALL))
    assert "0.3 s" in said
    assert "concurrency" in said
    assert len(server.asked(EXACT)) == 2, "the look at its routes, and one attempt"


def test_a_server_that_is_gone(server):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nowhere = f"http://127.0.0.1:{free.getsockname()[1]}"
    assert "can be reached" in refusal(lambda: QSiT(nowhere))
    metric = QSiT(server.url, server=Server(retries=2))
    server.alive = False
    before = len(server.seen)
    found = metric.score([SMALL] * 3, errors="return")
    assert all(isinstance(one, BackendError) for one in found)
    first = len(server.seen) - before
    assert metric.score([SMALL], errors="return")[0].argument == "server"
    assert len(server.seen) - before == first + 1, "as long as it is gone, one attempt for each picture"
    server.alive = True
    assert metric.score(SMALL) > 1


def test_a_picture_that_fails_costs_the_others_nothing(metric, server):
    pictures = [Image.new("RGB", (20 + n, 30), "gray") for n in range(5)]
    want = metric.score(pictures)
    server.reset()
    server.faults.refused = frozenset({(22, 30)})
    path = metric.backend._way.path
    found = metric.score(pictures, errors="return")
    if metric.info["way"] == "chat":
        assert "cannot identify" in str(found[2])
        assert [one for n, one in enumerate(found) if n != 2] == [one for n, one in enumerate(want) if n != 2]
    assert len(server.asked(path)) == 5
    broken = metric.score([pictures[0], b"no picture"], errors="return")
    assert broken[0] == want[0]
    assert isinstance(broken[1], QSiTError)


def test_a_view_that_failed_is_tried_again(metric, server):
    with metric.open(SMALL) as view:
        server.faults.statuses = [400]
        refusal(view.score)
        assert view.score() > 1
        view.score()
        assert len(server.asked(metric.backend._way.path)) == 2, "what was said about a picture is not asked again"
    assert "closed" in refusal(view.score)


def test_requests_at_a_time(server):
    metric = QSiT(server.url, server=Server(way="exact", concurrency=3))
    server.faults.silence = 0.05
    server.most = 0
    metric.score([Image.new("RGB", (20 + n, 30)) for n in range(6)])
    assert server.most == 3
    server.most = 0
    with ThreadPoolExecutor(3) as threads:  # all threads together
        list(threads.map(lambda n: metric.score([Image.new("RGB", (20, 30 + n + k)) for k in range(2)]), range(3)))
    assert server.most == 3


def test_it_works_inside_a_running_loop_and_after_pickling(served, server, monkeypatch):
    want = expected("tied")["images"][SMALL.name]["score15"]

    async def inside():
        return served["exact"].score(SMALL)

    assert asyncio.run(inside()) == pytest.approx(want, abs=1e-4)
    monkeypatch.setenv(http.KEY_VARIABLE, "never written down")
    copy = pickle.dumps(QSiT(server.url))
    assert b"never written down" not in copy
    assert pickle.loads(copy).score(SMALL) == pytest.approx(want, abs=1e-4)


# ---- keys, names and checkpoints


def test_the_key_of_the_server_and_the_token_of_the_hub(server, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    with VllmServer(TIED, key="sesame") as guarded:
        said = refusal(lambda: QSiT(guarded.url, token="hf_other"))
        assert "QSIT_SERVER_KEY" in said
        QSiT(guarded.url, server=Server(key="sesame")).score(SMALL)
        monkeypatch.setenv(http.KEY_VARIABLE, "sesame")
        metric = QSiT(guarded.url)
        metric.score(SMALL)
        assert {seen.key for seen in guarded.seen} == {None, "Bearer sesame"}
        assert "sesame" not in repr((metric, metric.info, Server(key="sesame")))
    server.faults.location = f"{server.url}/elsewhere"
    refusal(lambda: QSiT(server.url, server=Server(key="sesame")))
    assert not server.asked("/elsewhere"), "nothing is sent on, the key least of all"


def test_whose_checkpoint_it_is(server, tmp_path):
    with VllmServer(TIED, name="team-model") as other:
        assert QSiT(other.url).info["model"] == str(TIED), "the folder that it was loaded from is here, too"
        other.root = "/models/elsewhere"
        said = refusal(lambda: QSiT(other.url), InputError)
        assert "team-model" in said
        assert "--checkpoint" in said
        texts = tmp_path / "texts"
        texts.mkdir()
        for path in TIED.glob("*.json"):
            (texts / path.name).write_bytes(path.read_bytes())
        metric = QSiT(other.url, server=Server(texts))
        assert metric.score(SMALL) == pytest.approx(expected("tied")["images"][SMALL.name]["score15"], abs=1e-4)
        assert "team-model" in refusal(lambda: QSiT(other.url, server=Server(texts, model="another")), InputError)


def test_a_repository_of_the_hub_without_its_weights(server, tmp_path):
    """How small files alone are fetched is tested in `test_hub`."""
    store, sha = tmp_path / "models--owner--served", "0123456789abcdef0123456789abcdef01234567"
    (store / "refs").mkdir(parents=True)
    (store / "refs" / "main").write_text(sha)
    shutil.copytree(TIED, store / "snapshots" / sha, ignore=shutil.ignore_patterns("*.safetensors"))
    where = {"cache_dir": tmp_path, "local_files_only": True}
    with VllmServer(TIED, name="owner/served") as other:
        other.root = "/models/elsewhere"
        metric = QSiT(other.url, **where)
        assert (metric.info["model"], metric.info["revision"]) == ("owner/served", sha)
        assert metric.score(SMALL) == pytest.approx(expected("tied")["images"][SMALL.name]["score15"], abs=1e-4)
    assert "safetensors" in refusal(lambda: QSiT("owner/served", **where), CheckpointError)


# ---- commands


def run(*words):
    return CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)


def test_commands(server, tmp_path):
    out = tmp_path / "scores.csv"
    words = ("score", SMALL, IMAGES / "gray_256.png", "--model", server.url, "-o", out)
    assert run(*words).exit_code == 0
    rows = list(csv.DictReader(out.open(newline="")))
    assert float(rows[0]["score"]) == pytest.approx(expected("tied")["images"][SMALL.name]["score15"], abs=1e-4)
    assert rows[0]["dtype"] == "served, exact"
    assert "0 added, 2 were there already" in run(*words).stderr
    other = run(*words, "--way", "chat")
    assert other.exit_code == 2
    assert "dtype" in other.stderr, "scores of both ways do not stand in one file"
    assert run("ask", SMALL, "Sharp?", "--model", server.url, "--choice", "yes", "--choice", "no").exit_code == 0
    assert "no server" in run("score", SMALL, "--model", TIED, "--way", "chat").stderr


def test_the_doctor_looks_at_a_server(server):
    result = run("doctor", "--server", server.url, "--json")
    checks = {one["name"]: one for one in json.loads(result.stdout)["checks"]}
    assert result.exit_code == 0
    for way in WAYS:
        assert checks[f"server, {way}"]["ok"] is True
        assert "probabilities differ by" in checks[f"server, {way}"]["detail"]


def test_what_the_doctor_says_of_other_servers(server):
    own = json.loads((TIED / "chat_template.json").read_text())["chat_template"]
    with VllmServer(TIED, template=own) as other:
        exact, chat = serving(ModelOptions(), other.url)
        assert (exact.ok, chat.ok) == (True, None), "chat is not possible there, but exact is"
        assert "qsit serve-template" in chat.detail
        with torch.no_grad():
            other.backend.model.lm_head.weight.mul_(1.5)  # other weights behind the same name
        (exact,) = serving(ModelOptions(way="exact"), other.url)
        assert exact.ok is False
        other.root = "/models/elsewhere"
        (exact,) = serving(ModelOptions(way="exact", checkpoint=str(TIED)), other.url)
        assert exact.ok is False
    (gone,) = serving(ModelOptions(way="chat"), other.url)
    assert gone.ok is False


def test_the_template_for_a_server(server, tmp_path):
    """The one of the command is the one that the server in these tests uses, where whole prompts are equal."""
    file = tmp_path / "template.jinja"
    assert run("serve-template", "--model", TIED, "-o", file).exit_code == 0
    assert run("serve-template", "--model", TIED).stdout == file.read_text()
    with VllmServer(TIED, template=file.read_text()) as other:
        assert QSiT(other.url, server=Server(way="chat")).info["way"] == "chat"
    assert run("serve-template", "--model", TIED, "--recipe", "train", "-o", file).exit_code == 0
    with VllmServer(TIED, template=file.read_text()) as other:
        metric = QSiT(other.url, recipe="train", server=Server(way="chat"))
        assert metric.score(SMALL) == pytest.approx(QSiT(TIED, recipe="train").score(SMALL), abs=1e-4)


# ---- what a real server said


def test_recorded_replies_are_read(served):
    """Of a real vLLM 0.32.0 (`served/replies.py`): both ways give the same log-probabilities, up to its resizing."""
    ask, _ = _ask(served["chat"], SMALL)
    words = tuple(expected("tied")["level_token_ids"].values())
    chances = [
        WAY.read_chances(served[way].backend._way, RECORDED[way]["reply"], ask, words) for way, WAY in vllm.WAYS.items()
    ]
    assert chances[0] == pytest.approx(chances[1], abs=0.2)
    tokens, finished = vllm.Exact.read_text(served["exact"].backend._way, RECORDED["exact, text"]["reply"], ask)
    assert (len(tokens), finished) == (3, False)
    assert tokens == vllm.Chat.read_text(served["chat"].backend._way, RECORDED["chat, text"]["reply"], ask)[0]
    assert [RECORDED[name]["status"] for name in ("chat, a new picture refused", "chat, the same picture then")] == [
        400,
        500,
    ]
