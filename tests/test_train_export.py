"""Export of a run: files, card, safety of what was there, and the push to a Hub on loopback."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from conftest import GOLDEN, IMAGES
from qsit_metric import QSiT
from qsit_metric.backends.training import Whole, projected
from qsit_metric.errors import HubError
from qsit_metric.pixels import load
from qsit_metric.pixels.tiles import cut, normalise, plan
from qsit_metric.prompts import TRAIN
from train import export as exporting
from train import model
from train.card import card, metadata, public
from train.commands.run import export_command
from train.errors import RunError
from train.export import check_target, checkpoint_of, export, push
from train.model import JointModel, load_parts
from train.recipe import Model, parse_yaml

PICTURE = IMAGES / "tiny_7x5.png"
FACTS = {
    "recipe": {"name": "q-sit-mini", "model": {"base": "q-sit-mini"}, "data": {"folder": "/home/ann/data/q-sit"}},
    "recipe_sha256": "ab" * 32,
    "data": {"digest": "cd" * 32, "folder": "/home/ann/data/q-sit", "counts": [15943, 40000, 20000]},
    "metrics": {"loss_scoring": 0.51234, "srcc/koniq": 0.91, "accuracy": None},
    "epoch": 2,
    "step": 0,
    "total": 120,
    "mixture": {"sizes": [[100, 250, 104], [100, 300, 104]]},
    "versions": {"torch": "2.13.0", "transformers": "5.23.0"},
}
EVENTS = [
    {"kind": "start", "total": 0, "recipe": "q-sit-mini"},
    {"kind": "balance", "total": 60, "epoch": 1, "before": [100, 250, 104], "sizes": [100, 300, 104], "ratio": 1.5,
     "reference": 1.25, "action": "grow_interpreting"},
    {"kind": "balance", "total": 500, "epoch": 9, "before": [1, 1, 1], "sizes": [2, 2, 2], "ratio": 1.0,
     "reference": 1.0, "action": "late"},
]  # fmt: skip


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return dressed("tied", tmp_path / "run")


def dressed(source: str, run: Path) -> Path:
    """A golden checkpoint, dressed up as a run's best model."""
    model = run / "models" / "step-0000120"
    shutil.copytree(GOLDEN / source, model)
    shutil.rmtree(model / "video_processor")
    TRAIN.save(model)
    (model / "training.json").write_text(json.dumps(FACTS))
    (run / "best").symlink_to(Path("models") / "step-0000120")
    (run / "recipe.yaml").write_text("name: small\nstop: {patience: 3}\n")
    (run / "log.jsonl").write_text("".join(json.dumps(event) + "\n" for event in EVENTS))
    return run


def files(folder: Path) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.rglob("*") if p.is_file()
    }


def test_a_float32_export_scores_as_the_run_does(run, tmp_path):
    done = export(run, tmp_path / "out", dtype="float32", licence="apache-2.0")
    assert float(QSiT(done.folder).score(PICTURE)) == pytest.approx(float(QSiT(run / "best").score(PICTURE)), abs=1e-6)
    assert QSiT(done.folder).recipe == TRAIN
    assert 1 <= done.score <= 5
    assert done.size == sum(path.stat().st_size for path in done.folder.iterdir())
    assert {path.name for path in (tmp_path).iterdir()} == {"run", "out"}  # nothing half done is left


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_weights_are_cast_once(run, tmp_path, dtype):
    done = export(run, tmp_path / "out", dtype=dtype)
    kind = getattr(torch, dtype)
    old, new = (load_file(folder / "model.safetensors") for folder in (run / "best", done.folder))
    before, after = (next(w for n, w in ws.items() if n.endswith("image_newline")) for ws in (old, new))
    assert {weight.dtype for weight in new.values()} == {kind}
    assert torch.equal(before.to(kind), after)
    assert json.loads((done.folder / "config.json").read_text())["torch_dtype"] == dtype


@pytest.mark.compat
def test_it_has_all_files(run, tmp_path):
    names = set(files(export(run, tmp_path / "out").folder))
    assert {
        "config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
        "chat_template.jinja", "preprocessor_config.json", "processor_config.json", "qsit_recipe.json", "README.md",
        "training.json",
    } <= names  # fmt: skip
    assert (tmp_path / "out" / "chat_template.jinja").read_text() == TRAIN.template
    settings = json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())
    assert not {"is_local", "local_files_only"} & settings.keys()
    # A list, as transformers 5 writes it, is an error to transformers 4.57; its own empty mapping is none.
    assert not isinstance(settings.get("extra_special_tokens"), list)


@pytest.mark.compat
@pytest.mark.parametrize("source", ["tied", "untied"])
def test_transformers_own_class_computes_an_export_alike(source, tmp_path):
    """The golden pictures through transformers' tower, projector, decoder and head, and through ours: 1e-5 in float32.

    Tiles and their packing are ours in both: releases of transformers disagree about them.
    """
    from transformers import LlavaOnevisionForConditionalGeneration

    model_folder = dressed(source, tmp_path / "run")
    done = export(model_folder, tmp_path / "out", dtype="float32")
    theirs, report = LlavaOnevisionForConditionalGeneration.from_pretrained(
        done.folder, output_loading_info=True, attn_implementation="sdpa"
    )
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    parts = load_parts(Model(base=str(done.folder)), "train")
    joint, core = JointModel(parts.model, parts.geometry), theirs.model
    ids = parts.tokenizer.encode("Is the picture sharp? The quality of the image is")
    for path in sorted(IMAGES.iterdir()):
        picture = load(path, exif=False)
        tiles, layout = cut(picture, parts.geometry), plan(parts.geometry, picture.height, picture.width)
        with torch.no_grad():
            pixels = normalise(tiles, parts.geometry)
            states = core.vision_tower(pixels, output_hidden_states=True).hidden_states[
                parts.model.config.feature_layer
            ]
            seen = joint.model.states(pixels)
            assert torch.allclose(
                core.multi_modal_projector(states), joint.model.model.multi_modal_projector(seen), atol=1e-5
            ), path.name
            [features] = projected(parts.model, [seen], [layout])
            words = parts.model.get_input_embeddings()(torch.tensor(ids))
            embedded = torch.cat([features, words])
            reading = Whole([len(embedded)], embedded.device, every=True)
            ours = parts.model.lm_head(parts.model.model.language_model(embedded, reading)[-len(ids) :])
            mask = torch.ones(1, len(embedded), dtype=torch.long)
            read = core.language_model(inputs_embeds=embedded[None], attention_mask=mask).last_hidden_state[0]
            assert torch.allclose(theirs.lm_head(read[-len(ids) :]), ours, atol=1e-5), path.name


def test_large_models_are_cut_into_shards(run, tmp_path, monkeypatch):
    monkeypatch.setattr(model, "_SHARD", "200KB")
    done = export(run, tmp_path / "out", dtype="float32")
    assert len(list(done.folder.glob("model-*.safetensors"))) > 1
    assert (done.folder / "model.safetensors.index.json").is_file()


def test_the_card(run, tmp_path):
    text = (export(run, tmp_path / "mine", licence="apache-2.0").folder / "README.md").read_text()
    _, head, body = text.split("---\n", 2)
    assert parse_yaml(head)["license"] == "apache-2.0"
    assert parse_yaml(head)["library_name"] == "transformers"
    assert parse_yaml(head)["base_model"].count("/") == 1
    for part in ("# mine", 'QSiT("mine")', "| loss_scoring | 0.5123 |", "| accuracy | undefined |", "cd" * 32, "ab" * 32,
                 "| scoring (D1) | 15943 |", "| 2 | 100 | 300 | 104 |", "transformers 5.23.0", "## Limits"):  # fmt: skip
        assert part in body
    assert "After epoch 1: grow_interpreting, loss ratio 1.5000 against 1.2500" in body
    assert "late" not in body  # of after the checkpoint
    assert "/home/ann" not in text
    assert "/home/ann" not in (tmp_path / "mine" / "training.json").read_text()


@pytest.mark.compat
def test_the_head_is_what_the_hub_reads():
    from huggingface_hub import ModelCardData

    head = metadata({"model": {"base": "owner/base"}}, None)
    assert ModelCardData(**head).to_dict()["pipeline_tag"] == "image-text-to-text"
    assert head["license"] == "other"
    assert head["license_name"]  # the Hub asks for a name of "other"
    assert head["base_model"] == "owner/base"
    assert "base_model" not in metadata({"model": {"base": "./mine"}}, None)


def test_a_card_of_little():
    text = card("x", {"recipe": {}}, [], "float32", None, TRAIN)
    assert "Nothing was measured" in text
    assert "The mixture was not adjusted" in text


def test_public_cuts_absolute_paths_only():
    assert public({"a": ["/x/y", "~/z", "runs/a", 3, None], "b": "C:\\data\\q"}) == {
        "a": ["y", "z", "runs/a", 3, None],
        "b": "q",
    }


def test_an_output_that_is_there_stays(run, tmp_path):
    out = tmp_path / "out"
    first = export(run, out, dtype="float32")
    before = files(out)
    with pytest.raises(RunError, match=r"`output`: got .* expected a folder that is not there yet.* --force"):
        export(run, out)
    assert files(out) == before
    assert export(run, out, dtype="bfloat16", force=True).fingerprint != first.fingerprint
    (tmp_path / "diary").mkdir()
    (tmp_path / "diary" / "note.txt").write_text("keep")
    with pytest.raises(RunError, match="which --force may replace"):
        export(run, tmp_path / "diary", force=True)
    with pytest.raises(RunError, match="other than a run's own checkpoint"):
        export(run, run / "models" / "step-0000120", force=True)
    assert (tmp_path / "diary" / "note.txt").read_text() == "keep"


def test_a_failure_leaves_what_was_there(run, tmp_path, monkeypatch):
    out = tmp_path / "out"
    export(run, out, dtype="float32")
    before = files(out)
    monkeypatch.setattr(exporting, "card", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(RunError, match=r"`output`: .*No space left on device. What was there before"):
        export(run, out, force=True)
    assert files(out) == before
    assert {path.name for path in tmp_path.iterdir()} == {"run", "out"}


def test_an_export_that_does_not_work_is_taken_back(run, tmp_path, monkeypatch):
    monkeypatch.setattr(exporting.Parts, "save", lambda self, folder: folder.mkdir(exist_ok=True))
    with pytest.raises(RunError, match=r"it cannot be used: .*config.json.* The export was taken back"):
        export(run, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_weight_that_float16_cannot_hold(run, tmp_path):
    path = run / "best" / "model.safetensors"
    weights = load_file(path)
    name = next(name for name in weights if name.endswith("image_newline"))
    weights[name][0] = 1e6
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(RunError, match=r"`dtype`: got <.*image_newline in torch.float16>.* --dtype bfloat16"):
        export(run, tmp_path / "out", dtype="float16")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda run: (run / "best").unlink(), r"a run's folder with a model in it \(best\).*Train first"),
        (lambda run: (run / "best" / "training.json").unlink(), r"a checkpoint with training.json"),
        (lambda run: (run / "best" / "training.json").write_text("{"), r"training.json', expected a JSON file"),
        (lambda run: (run / "best" / "training.json").write_text("{}"), r"an object with the run's recipe"),
        (lambda run: (run / "best" / "qsit_recipe.json").unlink(), r"with its scoring recipe"),
        (lambda run: (run / "log.jsonl").write_text("{no"), r"a log with one JSON object in each line"),
    ],
)  # fmt: skip
def test_runs_that_cannot_be_exported(run, tmp_path, change, text):
    change(run)
    with pytest.raises(RunError, match=text):
        export(run, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_wrong_words(run, tmp_path):
    with pytest.raises(RunError, match="`which`: got 'first', expected 'best' or 'last'"):
        checkpoint_of(run, "first")
    with pytest.raises(RunError, match="`dtype`: got 'int4', expected one of float32, bfloat16, float16"):
        export(run, tmp_path / "out", dtype="int4")


class UploadHub:
    """The part of a Hub that takes a model: create, validate, preupload, LFS batch and verify, commit."""

    def __init__(self, status: int = 0) -> None:
        self.status, self.seen, self.files, self.repos = status, [], {}, {}
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args: object) -> None: ...

            def _answer(self) -> None:
                if "chunked" in self.headers.get("Transfer-Encoding", ""):
                    body = b"".join(iter(self._chunk, b""))
                else:
                    body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                path = urlsplit(self.path).path
                hub.seen.append((self.command, path, self.headers.get("Authorization")))
                status, answer = hub.answer(self.command, path, body)
                data = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data)

            def _chunk(self) -> bytes:
                size = int(self.rfile.readline(), 16)
                data = self.rfile.read(size)
                self.rfile.readline()
                return data

            do_GET = do_POST = do_PUT = do_HEAD = _answer

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, object]:
        if self.status:
            return self.status, {"error": "no"}
        if path == "/api/repos/create":
            fields = json.loads(body)
            repo = f"{fields['organization']}/{fields['name']}"
            self.repos[repo] = fields
            return 200, {"url": f"{self.url}/{repo}"}
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        if "/preupload/" in path:
            wanted = json.loads(body)["files"]
            large = [{"path": f["path"], "uploadMode": "lfs" if f["path"].endswith(".safetensors") else "regular",
                      "shouldIgnore": False, "oid": None} for f in wanted]  # fmt: skip
            return 200, {"files": large}
        if path.endswith("/info/lfs/objects/batch"):
            objects = [
                {**one, "actions": {"upload": {"href": f"{self.url}/lfs/{one['oid']}"}}}
                for one in json.loads(body)["objects"]
            ]
            return 200, {"transfer": "basic", "objects": objects}
        if path.startswith("/lfs/"):
            self.files[path.removeprefix("/lfs/")] = body
            return 200, {}
        if found := re.fullmatch(r"/api/models/(.+)/commit/main", path):
            for line in map(json.loads, body.splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    self.files[value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "lfsFile":
                    self.files[value["path"]] = self.files[value["oid"]]
            url = f"{self.url}/{found[1]}/commit/{'1' * 40}"
            return 200, {"success": True, "commitOid": "1" * 40, "commitUrl": url, "hookOutput": ""}
        if method == "GET" and path.startswith("/api/models/"):
            return 200, {"_id": "0", "id": "owner/mine", "sha": "0" * 40, "private": False, "siblings": []}
        return 404, {"error": f"{method} {path}"}


@pytest.fixture
def at(monkeypatch):
    """Point the Hub client at an address."""

    def set_to(url: str) -> None:
        monkeypatch.setattr(constants, "ENDPOINT", url)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", "/nonexistent/token")

    return set_to


@pytest.mark.compat
def test_a_push_brings_every_file(run, tmp_path, at, capsys):
    with UploadHub() as hub:
        at(hub.url)
        export_command(
            run, tmp_path / "mine", "best", "float32", "owner/mine", True, "hf_" + "x" * 34, "apache-2.0", False
        )
    sent = {
        name: hashlib.sha256(data).hexdigest()
        for name, data in hub.files.items()
        if not re.fullmatch("[0-9a-f]{64}", name)
    }
    assert sent == files(tmp_path / "mine")
    fields = hub.repos["owner/mine"]
    assert fields.get("private") is True or fields.get("visibility") == "private"
    assert {token for *_, token in hub.seen if token} == {"Bearer hf_" + "x" * 34}
    told = capsys.readouterr().err.replace("\n", "")
    assert "owner/mine/commit/" + "1" * 40 in told
    assert "tried with QSiT" in told


@pytest.mark.compat
@pytest.mark.parametrize(
    ("status", "text"),
    [
        (401, r"`token`: got <a token>, expected one that http.* knows; it answered 401. Log in .*hf upload owner/mine"),
        (403, r"`push`: got 'owner/mine', expected a repository that you may write.* role 'write'"),
        (503, r"`push`: .*a Hub that can be reached"),
        (400, r"`push`: .*an upload that http.* accepts; it failed"),
    ],
)  # fmt: skip
def test_a_hub_that_refuses(tmp_path, at, status, text, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda _: None)
    with UploadHub(status) as hub:
        at(hub.url)
        with pytest.raises(HubError, match=text):
            push(tmp_path, "owner/mine", token="hf_bad")


@pytest.mark.compat
def test_no_hub_at_all(tmp_path, at, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda _: None)
    with UploadHub() as hub:
        at(hub.url)
    with pytest.raises(
        HubError, match=r"`push`: got 'owner/mine', expected a Hub that can be reached.*The model is whole in"
    ):
        push(tmp_path, "owner/mine", token="hf_any")


@pytest.mark.compat
def test_what_cannot_be_pushed_is_refused_before_the_work(run, tmp_path, at):
    at("http://127.0.0.1:9")
    for repo, token, licence, text in (
        ("mine", "t", "mit", "'owner/name'"),
        ("a/b/c", "t", "mit", "`push`: got 'a/b/c'"),
        ("owner/mine", "t", None, "`license`: .*Pass --license"),
        ("owner/mine", None, "mit", "`token`: .*hf auth login"),
    ):
        with pytest.raises(HubError, match=text):
            check_target(repo, token, licence)
    with pytest.raises(HubError, match="`license`"):
        export_command(run, tmp_path / "mine", push="owner/mine", token="t")
    assert not (tmp_path / "mine").exists()


def test_a_run_of_so_many_epochs_gives_its_last_model(run):
    """Provenance: the paper's primary model is the one after its last epoch; only the small one stops at a plateau."""
    shutil.copytree(run / "models" / "step-0000120", run / "models" / "step-0000200")
    (run / "last").symlink_to(Path("models") / "step-0000200")
    assert checkpoint_of(run).name == "step-0000120"
    (run / "recipe.yaml").write_text("name: large\nstop: {epochs: 3, patience: null}\n")
    assert checkpoint_of(run).name == "step-0000200"
    assert checkpoint_of(run, "best").name == "step-0000120"
