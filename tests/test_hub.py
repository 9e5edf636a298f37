"""A name becomes a verified folder: names, the cache, the network and everything that can go wrong with them.

The Hub is `hub_server.HubServer`, spoken to by the real Hub client. That client reads its environment when it is
imported, so each story runs in a fresh process (`Child`) with an HF_HOME of its own; several steps share one process.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from checkpoints import TEXTS, safetensors, write_json, write_sharded, write_texts, write_whole
from hub_server import HubServer
from qsit_metric import catalog, errors, hub
from qsit_metric.errors import CheckpointError, HubError, InputError, UnknownNameError
from qsit_metric.hub import cache as store
from qsit_metric.hub import errors as hub_errors

pytestmark = pytest.mark.compat

GOLDEN = Path(__file__).parent / "golden"
WEIGHTS = "model.safetensors"

# Reads one step (JSON) a line and answers with one. The Hub client waits between its tries, so `time.sleep` is dropped.
CHILD = r"""
import dataclasses, json, logging, os, resource, shutil, signal, sys, time
from pathlib import Path
from qsit_metric import catalog, hub

answers, warnings = os.fdopen(os.dup(1), "w"), []
os.dup2(2, 1)
keeper = logging.Handler()
keeper.emit = lambda record: warnings.append(record.getMessage())
logging.getLogger("qsit_metric").addHandler(keeper)
time.sleep = lambda seconds: None

def plain(value):
    if dataclasses.is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value

def embed(weights, name, repo=None):
    catalog._WEIGHTS = Path(weights)
    common = dict(backend="llava_onevision", recipe="train", paper="", description="", embedded=name)
    catalog._RECORDS += (catalog.ModelRecord(name=name, repo=repo, **common),)

def limit(size):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

def disk(free):
    shutil.disk_usage = lambda path: shutil._ntuple_diskusage(free, 0, free)

calls = {"resolve": hub.resolve, "on_disk": hub.on_disk}
calls |= {"embed": embed, "limit": limit, "disk": disk, "setuid": os.setuid}
for line in sys.stdin:
    call, args, kwargs = json.loads(line)
    warnings.clear()
    try:
        answer = {"value": plain(calls[call](*args, **kwargs))}
    except Exception as error:
        causes = [type(error.__cause__).__name__, type(error.__cause__).__module__]
        answer = {"error": type(error).__name__, "text": str(error), "cause": causes}
    answers.write(json.dumps(answer | {"warnings": warnings}) + "\n")
    answers.flush()
"""


class Child:
    """A Python process of its own that resolves models; errors are raised here as they were there."""

    def __init__(self, home: Path, endpoint: str, **env: str) -> None:
        home.mkdir(exist_ok=True)
        self.home, self.log = home, home / "stderr.txt"
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "TRANSFORMERS_"))}
        clean = {key: value for key, value in clean.items() if not key.lower().endswith("_proxy")}
        settings = {"HF_HOME": str(home), "HF_ENDPOINT": endpoint, "HF_HUB_DOWNLOAD_TIMEOUT": "2"}
        settings |= {"HF_HUB_ETAG_TIMEOUT": "2", "HF_HUB_DISABLE_TELEMETRY": "1", "HOME": str(home)}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", CHILD],
                env=clean | settings | env,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self.answer: dict[str, object] = {}

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.stdin.close()
        self.process.wait(timeout=30)
        self.process.stdout.close()

    def send(self, call: str, *args: object, **kwargs: object) -> None:
        self.process.stdin.write(json.dumps([call, args, kwargs]) + "\n")
        self.process.stdin.flush()

    def receive(self):
        line = self.process.stdout.readline()
        assert line, self.log.read_text()
        self.answer = json.loads(line)
        if "error" in self.answer:
            assert hasattr(errors, self.answer["error"]), f"{self.answer}\n{self.log.read_text()[-2000:]}"
            raise getattr(errors, self.answer["error"])(self.answer["text"])
        return self.answer["value"]

    def __call__(self, call: str, *args: object, **kwargs: object):
        self.send(call, *args, **kwargs)
        return self.receive()

    def resolve(self, model: str, **kwargs: object) -> hub.Checkpoint:
        value = self("resolve", model, **kwargs)
        return hub.Checkpoint(Path(value["folder"]), value["name"], value["repo"], value["revision"], value["record"])

    @property
    def warnings(self) -> str:
        return "\n".join(self.answer["warnings"])


@pytest.fixture
def server():
    with HubServer() as running:
        yield running


@pytest.fixture
def start(tmp_path, server):
    """Start a child at this test's server; all share one HF_HOME."""
    children = []

    def begin(endpoint: str = "", **env: str) -> Child:
        children.append(Child(tmp_path / "hf", endpoint or server.url, **env))
        return children[-1]

    yield begin
    for child in children:
        child.__exit__()


@pytest.fixture
def tiny(tmp_path, server):
    """The folder behind `owner/tiny`; its commit is `server.sha`."""
    folder = write_whole(tmp_path / "tiny")
    server.sha = server.publish("owner/tiny", folder)
    return folder


def test_small_files_without_weights(start, server, tiny):
    """For a model that a server has; a whole copy of before stays what the branch is, and what is lacking is fetched."""
    child = start()
    found = child.resolve("owner/tiny", weights=False)
    assert fetched(server) == set(TEXTS)
    assert not (found.folder / WEIGHTS).exists()
    assert child.resolve("owner/tiny", weights=False, local_files_only=True).revision == server.sha
    with pytest.raises(CheckpointError, match=f"{WEIGHTS}.* is missing"):
        child.resolve("owner/tiny", local_files_only=True)
    assert (child.resolve("owner/tiny").folder / WEIGHTS).is_file()
    write_json(tiny / "config.json", TEXTS["config.json"] | {"newer": True})
    newer = server.publish("owner/tiny", tiny)
    assert child.resolve("owner/tiny", weights=False).revision == newer
    assert child.resolve("owner/tiny", local_files_only=True).revision == server.sha


def dead(server: HubServer) -> str:
    """An address where nobody listens."""
    with HubServer() as gone:
        return gone.url


def fetched(server: HubServer) -> set[str]:
    return {path.rpartition("/")[2].partition("?")[0] for path in server.paths("GET", part="/resolve/")}


def store_of(child: Child, repo: str = "owner/tiny") -> Path:
    return child.home / "hub" / f"models--{repo.replace('/', '--')}"


# ----------------------------------------------------------------------------------- names, no network


@pytest.mark.parametrize("spell", [str, Path, lambda path: f"{path}/", os.path.relpath])
def test_a_local_folder(tmp_path, monkeypatch, spell):
    folder = write_whole(tmp_path / "runs" / "mine")
    monkeypatch.chdir(tmp_path)
    found = hub.resolve(spell(folder))
    assert found == hub.Checkpoint(folder, str(spell(folder)), None, None, None)


@pytest.mark.parametrize("written", ["mine", "./mine", "../runs/mine", "~/mine", "mine@v1"])
def test_spellings_of_a_folder(tmp_path, monkeypatch, written):
    folder = write_whole(tmp_path / "runs" / "mine")
    shutil.copytree(folder, tmp_path / "runs" / "mine@v1")
    monkeypatch.chdir(folder.parent)
    monkeypatch.setenv("HOME", str(folder.parent))
    expected = folder.with_name("mine@v1") if "@" in written else folder
    assert hub.resolve(written).folder == expected


def test_a_folder_wins_over_a_repository_and_a_catalog_name_over_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = write_whole(tmp_path / "owner" / "repo")
    assert hub.resolve("owner/repo").folder == folder
    folder = write_whole(tmp_path / "zhangzicheng" / "q-sit-mini")
    assert hub.resolve("zhangzicheng/q-sit-mini").folder == folder
    write_whole(tmp_path / "q-sit-mini")
    assert hub.resolve("./q-sit-mini").folder == tmp_path / "q-sit-mini"
    with pytest.raises(HubError, match=r"zhangzicheng/q-sit-mini@main"):
        hub.resolve("q-sit-mini", cache_dir=tmp_path, local_files_only=True)


def test_a_local_folder_needs_no_hub_client(tmp_path):
    folder = write_whole(tmp_path / "mine")
    code = (
        "import sys; from qsit_metric import hub; hub.resolve(sys.argv[1]);"
        "heavy = {'huggingface_hub', 'requests', 'httpx', 'httpx2', 'torch', 'transformers'};"
        "print([name for name in sys.modules if name.split('.')[0] in heavy])"
    )
    done = subprocess.run([sys.executable, "-c", code, folder], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("model", "text"),
    [
        ("./absent", r"got './absent', expected a folder that exists"),
        ("../absent", r"expected a folder that exists.*The current folder is"),
        ("/no/such/folder", r"got '/no/such/folder', expected a folder that exists"),
        ("~/absent", r"got '~/absent', expected a folder that exists"),
        ("~nobody-here/absent", r"expected a folder that exists"),
        ("runs/mine/last", r"got 'runs/mine/last', expected a folder that exists"),
        ("https://huggingface.co/owner/repo", r"A Hub repository is written 'owner/repo'"),
        (Path("absent"), r"got 'absent', expected a folder that exists"),
        (".", r"expected a whole safetensors checkpoint, but config.json is missing"),
        ("./weights.safetensors", r"the folder of a checkpoint, not a file. Pass the folder it is in."),
        ("weights.safetensors", r"the folder of a checkpoint, not a file"),
    ],
)
def test_folders_that_are_none(tmp_path, monkeypatch, model, text):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "weights.safetensors").write_bytes(safetensors(a=3))
    with pytest.raises(CheckpointError, match=text):
        hub.resolve(model)


def test_a_broken_local_folder_is_refused(tmp_path):
    folder = write_whole(tmp_path / "mine")
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=r"truncated .*Copy or save the checkpoint again"):
        hub.resolve(folder)


def test_the_outer_folder_of_a_cache_is_explained(tmp_path):
    write_whole(tmp_path / "models--owner--tiny" / "snapshots" / ("a" * 40))
    with pytest.raises(CheckpointError, match="pass one of the folders below its `snapshots`"):
        hub.resolve(tmp_path / "models--owner--tiny")


@pytest.mark.parametrize(
    ("model", "text"),
    [
        (
            "q-sit-mimi",
            r"expected a known name \(q-sit-mini, .*Did you mean 'q-sit-mini'.*'owner/q-sit-mimi'.*'./q-sit-mimi'",
        ),
        ("Q-SiT", r"Did you mean 'q-sit'"),
        ("bert", r"expected a known name .*or a folder. A Hub repository is written 'owner/bert', a folder './bert'"),
        ("bert@main", r"written 'owner/bert'"),
        ("", r"got '', expected a known name"),
        ("two words/x y", r"expected a (known name|folder)"),
        ("x" * 5000, r"expected a known name"),
        ("nul\0byte", r"expected a known name"),
    ],
)
def test_names_that_nobody_knows(tmp_path, monkeypatch, model, text):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((UnknownNameError, CheckpointError), match=text):
        hub.resolve(model)


@pytest.mark.parametrize(
    ("kwargs", "text"),
    [
        (
            {"model": "owner/x@v1", "revision": "v2"},
            r"`revision`: got 'v2', expected the revision that the name .*'v1'",
        ),
        ({"model": "q-sit@v1", "revision": "main"}, r"`revision`: got 'main', expected the revision"),
        ({"model": "owner/x@"}, r"`revision`: got '', expected a branch, a tag or a commit"),
        ({"model": "owner/x", "revision": ""}, r"`revision`: got ''"),
        ({"model": "owner/x", "revision": "../../secret"}, r"expected a branch, a tag or a commit"),
        ({"model": "owner/x", "revision": "/etc"}, r"expected a branch, a tag or a commit"),
        ({"model": "owner/x", "revision": "a b"}, r"expected a branch, a tag or a commit"),
        (
            {"model": "./here", "revision": "main"},
            r"`revision`: got 'main', expected no revision for a folder \(./here\)",
        ),
        ({"model": Path("here"), "revision": "main"}, r"expected no revision for a folder"),
        ({"model": None}, r"`model`: got None, expected a name, 'owner/repo\[@revision\]' or a folder"),
        ({"model": 3}, r"`model`: got 3"),
    ],
)
def test_arguments_that_cannot_be_used(kwargs, text):
    with pytest.raises(InputError, match=text):
        hub.resolve(**kwargs)


def test_embedded_weights_need_no_network_and_no_client(tmp_path, monkeypatch):
    common = {"backend": "llava_onevision", "recipe": "train", "paper": "", "description": "", "embedded": "tiny"}
    record = catalog.ModelRecord(name="tiny-inside", repo=None, **common)
    monkeypatch.setattr(catalog, "_RECORDS", (*catalog._RECORDS, record))
    monkeypatch.setattr(catalog, "_WEIGHTS", tmp_path)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)  # importing it now fails
    with pytest.raises(CheckpointError, match=r"got 'tiny-inside', expected weights that ship with the package"):
        hub.resolve("tiny-inside")
    folder = write_whole(tmp_path / "tiny")
    assert hub.resolve("tiny-inside") == hub.Checkpoint(folder, "tiny-inside", None, None, record)
    assert hub.resolve("tiny-inside", local_files_only=True).folder == folder
    with pytest.raises(InputError, match="expected no revision for 'tiny-inside', which ships with the package"):
        hub.resolve("tiny-inside@main")
    (folder / WEIGHTS).unlink()
    with pytest.raises(CheckpointError, match=r"is missing. Reinstall the package"):
        hub.resolve("tiny-inside")


# ------------------------------------------------------------------------------ download and the cache


def test_first_run_fetches_what_is_needed_and_the_second_nothing(tmp_path, server, start):
    folder = shutil.copytree(GOLDEN / "tied", tmp_path / "repo")
    for name in (
        "README.md",
        "pytorch_model.bin",
        "model.onnx",
        "pytorch_model.bin.index.json",
        "tf_model.h5",
        "run.py",
    ):
        (folder / name).write_bytes(b"not needed")
    (folder / "onnx").mkdir()
    (folder / "onnx" / "config.json").write_text("{}")
    sha = server.publish("zhangzicheng/q-sit-mini", folder)
    child = start()

    first = child.resolve("q-sit-mini")
    assert (first.name, first.repo, first.revision) == ("q-sit-mini", "zhangzicheng/q-sit-mini", sha)
    assert first.record["recipe"] == "authors"
    assert first.folder == store_of(child, first.repo) / "snapshots" / sha
    names = {path.name for path in (GOLDEN / "tied").iterdir() if path.is_file()}
    assert fetched(server) == names
    assert {path.name for path in first.folder.iterdir()} == names
    assert all((first.folder / name).read_bytes() == (folder / name).read_bytes() for name in names)

    server.forget()
    assert child.resolve("q-sit-mini").folder == first.folder
    assert [path.lower() for path in server.paths()] == ["/api/models/zhangzicheng/q-sit-mini/revision/main?blobs=true"]

    server.forget()
    for kwargs in ({"revision": sha}, {"local_files_only": True}):
        assert child.resolve("q-sit-mini", **kwargs).folder == first.folder
        assert child.resolve("zhangzicheng/q-sit-mini", **kwargs) == child.resolve("q-sit-mini", **kwargs)
    assert child.resolve(f"q-sit-mini@{sha}").revision == sha
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        assert start(**{name: "1"}).resolve("q-sit-mini").folder == first.folder
    assert server.paths() == []

    # The Hub client itself finds the files under the branch: the layout is the ordinary one.
    code = "import huggingface_hub as h; print(h.try_to_load_from_cache('zhangzicheng/q-sit-mini', 'config.json'))"
    env = os.environ | {"HF_HOME": str(child.home)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert Path(done.stdout.strip()) == first.folder / "config.json"


def test_a_branch_that_moves(tmp_path, server, start, tiny):
    child = start()
    old = child.resolve("owner/tiny")
    moved = shutil.copytree(tiny, tmp_path / "moved")
    write_json(moved / "config.json", {"model_type": "llava_onevision", "new": True})
    server.publish("owner/tiny", moved, branch="dev/next")
    server.forget()
    new = child.resolve("owner/tiny@dev/next")
    assert json.loads((new.folder / "config.json").read_text())["new"]
    assert fetched(server) == {"config.json"}, "what both commits share is linked, not fetched again"
    assert child.resolve("owner/tiny").revision == old.revision

    server.publish("owner/tiny", moved)
    assert child.resolve("owner/tiny").revision == new.revision != old.revision
    assert child.resolve("owner/tiny", revision=old.revision).folder == old.folder
    assert child.resolve("owner/tiny", local_files_only=True).revision == new.revision
    assert child.resolve("owner/tiny@dev/next", local_files_only=True).revision == new.revision


def test_shards(tmp_path, server, start):
    folder = write_sharded(tmp_path / "sharded")
    (folder / "model-00003-of-00003.safetensors").write_bytes(safetensors(stale=3))
    server.publish("owner/tiny", folder)
    child = start()
    child.resolve("owner/tiny")
    shards = {f"model-0000{number}-of-00002.safetensors" for number in (1, 2)}
    assert fetched(server) == {*TEXTS, "model.safetensors.index.json", *shards}
    server.forget()
    child.resolve("owner/tiny")
    assert len(server.paths()) == 1

    (folder / "model-00002-of-00002.safetensors").unlink()
    server.publish("owner/tiny", folder, branch="lacking")
    server.forget()
    with pytest.raises(CheckpointError, match=r"in owner/tiny: model-00002-of-00002.safetensors is missing"):
        child.resolve("owner/tiny@lacking")
    assert not any("model-00001" in name for name in fetched(server))


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        ({WEIGHTS: None}, r"got 'owner/tiny', expected a repository .* in owner/tiny: model.safetensors is missing"),
        ({WEIGHTS: None, "old/pytorch_model.bin": b"x"}, r"model.safetensors is missing. It is not a checkpoint"),
        (
            {WEIGHTS: None, "pytorch_model.bin": b"x"},
            r"only pickled weights are there \(pytorch_model.bin\).*can run code",
        ),
        ({WEIGHTS: None, "adapter_config.json": b"{}"}, r"expected a checkpoint; owner/tiny is an adapter\. Merge it"),
        ({"config.json": None, "tokenizer.json": None}, r"config.json is missing; tokenizer.json \(or vocab.json"),
    ],
)
def test_a_repository_that_is_no_checkpoint_is_refused_before_the_transfer(server, start, tiny, damage, text):
    (tiny / "old").mkdir()
    for name, content in damage.items():
        (tiny / name).unlink() if content is None else (tiny / name).write_bytes(content)
    server.publish("owner/tiny", tiny)
    with pytest.raises(CheckpointError, match=text):
        start().resolve("owner/tiny")
    assert fetched(server) == set()


def test_a_repository_whose_files_are_broken(server, start, tiny):
    (tiny / WEIGHTS).write_bytes((tiny / WEIGHTS).read_bytes()[:-7])
    server.publish("owner/tiny", tiny)
    child = start()
    with pytest.raises(CheckpointError, match=r"model.safetensors is truncated .*delete .*models--owner--tiny and run"):
        child.resolve("owner/tiny")
    with pytest.raises(HubError, match="the network is switched off"):
        child.resolve("owner/tiny", local_files_only=True)


def test_a_bare_mirror_that_lists_names_only(server, start, tiny):
    server.faults.bare = True
    child = start()
    assert child.resolve("owner/tiny").revision == server.sha
    server.forget()
    child.resolve("owner/tiny")
    assert len(server.paths()) == 1


def test_settings_of_the_hub_client_are_honoured(tmp_path, server, start, tiny):
    quiet = start(HF_HUB_CACHE=str(tmp_path / "elsewhere"), HF_HUB_DISABLE_PROGRESS_BARS="1")
    assert quiet.resolve("owner/tiny").folder.is_relative_to(tmp_path / "elsewhere")
    assert "Fetching" not in quiet.log.read_text()
    loud = start()
    assert loud.resolve("owner/tiny", cache_dir=str(tmp_path / "third")).folder.is_relative_to(tmp_path / "third")
    assert "Fetching" in loud.log.read_text()
    assert not store_of(loud).exists()


# ------------------------------------------------------------------------------------ broken transfers


def test_a_cut_connection_is_resumed(server, start, tiny):
    """The Hub client writes in pieces of 10 MiB, so a larger file is needed to see it go on in the middle."""
    write_whole(tiny, size=12 << 20)
    server.publish("owner/tiny", tiny)
    server.faults.cut[WEIGHTS] = 11 << 20
    assert (start().resolve("owner/tiny").folder / WEIGHTS).read_bytes() == (tiny / WEIGHTS).read_bytes()
    ranges = [request.range for request in server.requests if request.method == "GET" and WEIGHTS in request.path]
    assert ranges[-1] == f"bytes={10 << 20}-"


def test_the_next_call_goes_on_with_what_came(server, start, tiny):
    """Also in a new process, and although the Hub client itself (1.0 and later) begins such a file again."""
    write_whole(tiny, size=12 << 20)
    server.publish("owner/tiny", tiny)
    server.faults.stuck[WEIGHTS] = 11 << 20
    child = start()
    with pytest.raises(HubError, match=r"the transfer broke off .*Call again: what has arrived is kept"):
        child.resolve("owner/tiny")
    assert [path.stat().st_size for path in store_of(child).glob("blobs/*.part")] == [10 << 20]
    server.faults.stuck.clear()
    server.forget()
    again = start()
    assert (again.resolve("owner/tiny").folder / WEIGHTS).read_bytes() == (tiny / WEIGHTS).read_bytes()
    ranges = [request.range for request in server.requests if request.method == "GET" and WEIGHTS in request.path]
    assert ranges == [f"bytes={10 << 20}-"] * len(ranges) != []
    assert "going on with model.safetensors behind the first 10.5 MB" in again.warnings
    assert not list(store_of(child).glob("blobs/*.part"))


def test_a_part_that_is_damaged_does_not_stay(server, start, tiny):
    write_whole(tiny, size=12 << 20)
    server.publish("owner/tiny", tiny)
    child = start()
    digest = hashlib.sha256((tiny / WEIGHTS).read_bytes()).hexdigest()
    part = store_of(child) / "blobs" / f"{digest}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"\xff" * (11 << 20))
    with pytest.raises(HubError, match=r"lost or altered: model.safetensors"):
        child.resolve("owner/tiny")
    part.write_bytes(b"\xff" * (13 << 20))  # more than there is
    assert (child.resolve("owner/tiny").folder / WEIGHTS).read_bytes() == (tiny / WEIGHTS).read_bytes()


def test_a_connection_that_is_always_cut(server, start, tiny):
    server.faults.always_cut[WEIGHTS] = 0
    child = start()
    with pytest.raises(HubError, match=r"owner/tiny@main from http.*the transfer broke off \(.*Call again"):
        child.resolve("owner/tiny")
    assert child.answer["cause"][1].split(".")[0] in {"requests", "httpx", "httpx2"}
    with pytest.raises(HubError, match="the network is switched off"):
        child.resolve("owner/tiny", local_files_only=True)
    server.faults.always_cut.clear()
    server.forget()
    child.resolve("owner/tiny")
    assert fetched(server) == {WEIGHTS}, "files that had arrived are kept"


def test_a_short_body(server, start, tiny):
    server.faults.short[WEIGHTS] = 10
    child = start()
    with pytest.raises(HubError, match=r"another size than announced .*should be of size 41\d\d.*Call again") as caught:
        child.resolve("owner/tiny")
    assert "s3cret" not in str(caught.value), "the signature of an address must not be told"
    server.faults.short.clear()
    child.resolve("owner/tiny")


@pytest.mark.parametrize(("name", "start_bytes"), [(WEIGHTS, b"\xff"), ("config.json", b"[")])
def test_altered_bytes_do_not_stay_in_the_cache(server, start, tiny, name, start_bytes):
    """Same length, so that only the hash can tell."""
    server.faults.altered[name] = start_bytes
    child = start()
    with pytest.raises(HubError, match=rf"lost or altered: {name}. The cache does not keep them"):
        child.resolve("owner/tiny")
    content = (tiny / name).read_bytes()
    assert not any(path.read_bytes() == start_bytes + content[1:] for path in store_of(child).glob("blobs/*"))
    server.faults.altered.clear()
    child.resolve("owner/tiny")


def test_a_listing_that_disagrees_with_the_file(server, start, tiny):
    server.faults.mislisted["config.json"] = 7
    with pytest.raises(HubError, match=r"lost or altered: config.json"):
        start().resolve("owner/tiny")


def test_a_file_that_is_listed_but_not_there(server, start, tiny):
    server.faults.lost.add("config.json")
    with pytest.raises(HubError, match=r"the Hub client failed \(.*EntryNotFound"):
        start().resolve("owner/tiny")


def test_an_update_that_breaks_off_leaves_the_old_copy_usable(tmp_path, server, start, tiny):
    child = start()
    old = child.resolve("owner/tiny")
    moved = write_whole(tmp_path / "moved", size=5000)
    server.publish("owner/tiny", moved)
    server.faults.always_cut[WEIGHTS] = 0
    with pytest.raises(HubError, match="the transfer broke off"):
        child.resolve("owner/tiny")
    assert child.resolve("owner/tiny", local_files_only=True) == old


def test_a_wrong_size_in_the_cache_is_fetched_again(server, start, tiny):
    child = start()
    folder = child.resolve("owner/tiny").folder
    for name in (WEIGHTS, "tokenizer.json"):
        (folder / name).resolve().write_bytes(b"x")
    with pytest.raises(
        CheckpointError, match=r"tokenizer.json is not.*truncated.*Run `qsit download owner/tiny` with a"
    ):
        child.resolve("owner/tiny", local_files_only=True)
    server.forget()
    assert child.resolve("owner/tiny").folder == folder
    assert fetched(server) == {WEIGHTS, "tokenizer.json"}
    told = "owner/tiny: wrong size in the cache, fetching again: "
    assert child.warnings == f"{told}tokenizer.json\n{told}model.safetensors"
    assert (folder / WEIGHTS).read_bytes() == (tiny / WEIGHTS).read_bytes()


def test_garbage_of_the_right_size_is_refused_and_the_advice_helps(server, start, tiny):
    child = start()
    folder = child.resolve("owner/tiny").folder
    blob = (folder / WEIGHTS).resolve()
    blob.write_bytes(b"\xff" * blob.stat().st_size)
    for kwargs in ({}, {"local_files_only": True}):
        with pytest.raises(CheckpointError, match=r"model.safetensors is not a safetensors file") as caught:
            child.resolve("owner/tiny", **kwargs)
    shutil.rmtree(re.search(r"delete (\S+) and run", str(caught.value)).group(1))
    child.resolve("owner/tiny")


def test_files_deleted_from_the_cache(server, start, tiny):
    child = start()
    folder = child.resolve("owner/tiny").folder
    (folder / "tokenizer.json").unlink()
    (folder / WEIGHTS).resolve().unlink()
    with pytest.raises(CheckpointError, match=r"tokenizer.json .* is missing; model.safetensors .* is missing"):
        child.resolve("owner/tiny", local_files_only=True)
    with pytest.raises(CheckpointError, match=r"is missing"):
        start(HF_HUB_OFFLINE="1").resolve("owner/tiny")
    with pytest.raises(HubError, match=r"could not be reached .*The copy in the cache is not complete: tokenizer.json"):
        start(dead(server)).resolve("owner/tiny")
    server.forget()
    child.resolve("owner/tiny", revision=server.sha)
    assert WEIGHTS in fetched(server)


def test_two_processes_at_once(server, start, tiny, tmp_path):
    shutil.rmtree(tiny)
    shutil.copytree(GOLDEN / "tied", tiny)
    server.publish("owner/tiny", tiny)
    children = [start(), start()]
    for child in children:
        child.send("on_disk")  # both are up and have imported everything
    for child in children:
        child.receive()
    for child in children:
        child.send("resolve", "owner/tiny")
    folders = [child.receive()["folder"] for child in children]
    assert folders[0] == folders[1]
    assert (Path(folders[0]) / WEIGHTS).read_bytes() == (tiny / WEIGHTS).read_bytes()
    assert not list(store_of(children[0]).rglob("*.tmp"))
    assert (store_of(children[0]) / "refs" / "main").read_text() == Path(folders[0]).name


# ---------------------------------------------------------------------------------- a Hub that says no


def test_a_private_repository(server, start, tiny):
    server.faults.token = "hf_s3cret"
    child = start()
    with pytest.raises(
        HubError, match=r"answered 401, so owner/tiny is private or does not exist.*`hf auth login`.*token="
    ):
        child.resolve("owner/tiny")
    assert child.answer["cause"][0] == "RepositoryNotFoundError"
    with pytest.raises(HubError, match="answered 401") as caught:
        child.resolve("owner/tiny", token="hf_wrong-one")
    assert "hf_wrong-one" not in str(caught.value)
    child.resolve("owner/tiny", token="hf_s3cret")
    large = [request for request in server.requests if "signature" in request.path]
    assert large
    assert {request.token for request in large} == {None}, "the token must not leave the Hub"

    with pytest.raises(
        HubError, match=r"answered 401.*A complete copy is in the cache; `local_files_only=True` uses it"
    ):
        child.resolve("owner/tiny")
    assert start(HF_TOKEN="hf_s3cret").resolve("owner/tiny").revision == server.sha


def test_a_gated_repository(server, start, tiny):
    server.faults.gated = True
    child = start()
    for token in (None, "hf_mine"):
        with pytest.raises(
            HubError, match=r"owner/tiny is gated. Accept its conditions at http\S+/owner/tiny, then log in"
        ):
            child.resolve("owner/tiny", token=token)
    assert child.answer["cause"][0] == "GatedRepoError"


def test_a_refused_repository(server, start, tiny):
    server.faults.refused = True
    with pytest.raises(HubError, match=r"refused owner/tiny \(.*403.*Check that your token may read it"):
        start().resolve("owner/tiny")


def test_what_does_not_exist(tmp_path, server, start, tiny):
    child = start()
    with pytest.raises(HubError, match=rf"{server.url} has no zhangzicheng/q-sit-mimi. Did you mean 'q-sit-mini'"):
        child.resolve("zhangzicheng/q-sit-mimi")
    with pytest.raises(HubError, match=r"has no zhangzicheng/q-sit-mini. If it is private"):
        child.resolve("q-sit-mini")
    with pytest.raises(HubError, match=r"has no runs/last.*A folder is written './runs/last'") as caught:
        child.resolve("runs/last")
    assert "Did you mean" not in str(caught.value)
    with pytest.raises(HubError, match=r"`revision`: got 'v9', expected a branch, tag or commit of owner/tiny"):
        child.resolve("owner/tiny@v9")
    with pytest.raises(HubError, match=r"`revision`: got 'bbbbbb.*owner/tiny/commits/main"):
        child.resolve("owner/tiny", revision="b" * 40)
    with pytest.raises(HubError, match=r"expected a repository name that the Hub allows"):
        child.resolve("owner/..tiny--x")


# ----------------------------------------------------------------------------- a Hub that is not there


def test_no_hub_and_no_copy(tmp_path, server, start, tiny):
    endpoint = dead(server)
    child = start(endpoint)
    with pytest.raises(HubError) as caught:
        child.resolve("q-sit-mini")
    text = str(caught.value)
    assert (
        f"got 'q-sit-mini', expected zhangzicheng/q-sit-mini@main from {endpoint}, which could not be reached (" in text
    )
    assert f"no complete copy is in {child.home / 'hub'}" in text
    for way in ("`qsit download q-sit-mini`", "copy the folder", "HF_HOME", "set HF_ENDPOINT to a mirror"):
        assert way in text
    assert "or use 'q-sit-nano', which needs no network" in text
    assert "Connection refused)" in text
    assert child.answer["cause"][0] in {"ConnectError", "ConnectionError"}

    write_whole(tmp_path / "tiny-inside")
    child("embed", str(tmp_path), "tiny-inside")
    with pytest.raises(HubError, match="or use 'tiny-inside', which needs no network"):
        child.resolve("q-sit-mini")
    with pytest.raises(HubError, match=r"`qsit download owner/tiny@v1`"):
        child.resolve("owner/tiny@v1")


def test_no_hub_but_a_complete_copy(server, start, tiny):
    there = start()
    first = there.resolve("owner/tiny")
    assert there.warnings == ""
    for fault in ({"status": 503}, {"status": 429}, {"page": "<html>please log in</html>"}, {"silence": 3.0}):
        vars(server.faults).update(fault)
        assert there.resolve("owner/tiny") == first
        assert f"using the cached owner/tiny, commit {first.revision}" in there.warnings
        assert server.url in there.warnings
        server.faults = type(server.faults)()
    away = start(dead(server))
    assert away.resolve("owner/tiny") == first
    assert "the Hub cannot be reached (Connect" in away.warnings
    with pytest.raises(HubError, match="could not be reached"):
        away.resolve("owner/tiny@other")  # another revision is another model
    with pytest.raises(HubError, match="could not be reached"):
        away.resolve("owner/other")


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        ({"status": 503}, r"could not be reached \(.*503.*Ways out"),
        ({"page": "<html>please log in</html>"}, r"what answered there is not the Hub's API .*Check HF_ENDPOINT"),
        (
            {"page": '{"id": "owner/tiny"}'},
            r"not the Hub's API \(ValueError: the answer has no sha or no list of files",
        ),
        ({"silence": 3.0}, r"could not be reached \(\w*Timeout"),
    ],
)
def test_a_hub_that_does_not_serve(server, start, tiny, fault, text):
    vars(server.faults).update(fault)
    with pytest.raises(HubError, match=text):
        start().resolve("owner/tiny")
    assert len(server.paths()) == 1, "asked once, not again and again"


@pytest.mark.parametrize("endpoint", ["mirror.example", "http://", "http://name:s3cret@127.0.0.1:9"])
def test_endpoints_that_cannot_work(server, start, endpoint):
    with pytest.raises(HubError, match=r"from \S*, ?which could not be reached|not the Hub's API") as caught:
        start(endpoint).resolve("owner/tiny")
    assert "s3cret" not in str(caught.value)


def test_the_password_of_an_endpoint_is_not_told(server, start, tiny):
    server.faults.status = 503
    with pytest.raises(HubError, match=r"could not be reached \(.*503") as caught:
        start(server.url.replace("//", "//name:s3cret@")).resolve("owner/tiny")
    assert "s3cret" not in str(caught.value)


def test_offline_without_a_copy(server, start, tiny):
    with pytest.raises(
        HubError, match=r"because the network is switched off. \(`local_files_only=True` or HF_HUB_OFFLINE"
    ):
        start(HF_HUB_OFFLINE="1").resolve("owner/tiny")
    assert server.paths() == []


# -------------------------------------------------------------------------------------------- the disk


def test_a_full_disk(tmp_path, server, start, tiny):
    child = start()
    child("limit", 2000)  # a real failure to write, in the middle of the weights
    with pytest.raises(
        HubError, match=r"`cache_dir`: got '.*', expected a folder with room for owner/tiny; the disk is full"
    ):
        child.resolve("owner/tiny")
    assert child.answer["cause"][0] == "OSError"
    child("limit", 10**9)
    child("disk", 1000)
    server.forget()
    with pytest.raises(HubError, match=r"a folder with 0.0 MB free for owner/tiny; there are 0.0 MB"):
        child.resolve("owner/tiny")
    assert fetched(server) == set()
    child("disk", 10**9)
    child.resolve("owner/tiny")


def test_a_cache_that_cannot_be_written(tmp_path, server, start, tiny):
    child = start()
    (tmp_path / "file").write_text("")
    with pytest.raises(
        HubError, match=r"`cache_dir`: got .*, expected a folder that can be written \(NotADirectoryError"
    ):
        child.resolve("owner/tiny", cache_dir=str(tmp_path / "file" / "cache"))
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    if os.geteuid() == 0:
        child("setuid", 65534)  # root may write anywhere
    with pytest.raises(HubError, match=rf"a folder that can be written \(PermissionError: .*'{locked}"):
        child.resolve("owner/tiny", cache_dir=str(locked), token=False)


def test_on_disk(tmp_path, server, start):
    folder = write_whole(tmp_path / "mini", size=100_000)
    sha = server.publish("zhangzicheng/q-sit-mini", folder)
    child = start()

    def state(name: str) -> tuple[str, str | None]:
        found = next(entry for entry in child("on_disk") if entry["record"]["name"] == name)
        assert (found["size"] > 0) == (found["state"] != "absent") == (found["folder"] is not None)
        return found["state"], found["revision"]

    states = {entry["record"]["name"]: entry["state"] for entry in child("on_disk")}
    assert states.pop("q-sit-nano") == "embedded"
    assert set(states.values()) == {"absent"}
    server.faults.always_cut[WEIGHTS] = 0
    with pytest.raises(HubError):
        child.resolve("q-sit-mini")
    assert state("q-sit-mini") == ("partial", None)
    server.faults.always_cut.clear()
    child.resolve("q-sit-mini", revision=sha)
    assert state("q-sit-mini") == ("pinned", sha)
    path = child.resolve("q-sit-mini").folder
    assert state("q-sit-mini") == ("complete", sha)
    size = next(entry["size"] for entry in child("on_disk") if entry["record"]["name"] == "q-sit-mini")
    assert 1 <= size / sum(file.stat().st_size for file in folder.iterdir()) < 1.1, "links are not counted again"
    (path / "config.json").resolve().unlink()
    assert state("q-sit-mini") == ("partial", sha)
    write_whole(tmp_path / "tiny-inside")
    server.forget()
    child("embed", str(tmp_path), "tiny-inside")
    assert state("tiny-inside") == ("embedded", None)
    child("embed", str(tmp_path), "left-out")
    assert state("left-out") == ("absent", None)
    assert server.paths() == []


# ------------------------------------------------------------------------------- the table of messages


REQUEST = store.Request("owner/x@v1", "owner/x", "v1", Path("/cache"), "hf_secret")


@pytest.mark.parametrize(
    ("error", "fetching", "text"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device"),
            True,
            r"`cache_dir`: got '/cache', expected .*the disk is full",
        ),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), True, r"the disk is full or a quota is reached"),
        (RuntimeError("Data processing error: No space left on device (os error 28)"), True, r"the disk is full"),
        (OSError(errno.EROFS, "Read-only file system"), True, r"a folder that can be written"),
        (OSError(errno.EACCES, "Denied", "/cache/hub/x"), True, r"a folder that can be written \(PermissionError"),
        (OSError(errno.EACCES, "Denied", "/home/x/token"), False, r"the Hub client failed .*'/home/x/token'"),
        (RuntimeError("at https://cdn/x?Signature=hf_secret\nand more"), True, r"\(RuntimeError: at https://cdn/x\)"),
        (
            ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
            True,
            r"the transfer broke off \(Connection",
        ),
        (
            ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
            False,
            r"could not be reached \(Connection",
        ),
        (TimeoutError(), False, r"could not be reached \(TimeoutError\)"),
        (
            RuntimeError("something in a library"),
            True,
            r"the Hub client failed \(RuntimeError: something in a library\)",
        ),
        (OSError("x" * 999), True, r"the Hub client failed \(OSError: x{180,190}\.\.\.\)"),
        (KeyError("id"), False, r"what answered there is not the Hub's API \(KeyError: 'id'\)"),
    ],
)
def test_failures_are_told_in_one_grammar(error, fetching, text):
    told = hub_errors.explain(REQUEST, error, fetching=fetching)
    assert isinstance(told, HubError)
    assert re.search(text, str(told))
    assert "hf_secret" not in str(told) + repr(REQUEST)
    assert "{" not in str(told)


def test_the_client_hides_the_reason_and_we_do_not():
    from huggingface_hub.errors import LocalEntryNotFoundError

    hidden = LocalEntryNotFoundError("An error happened while trying to locate the file")
    hidden.__cause__ = ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
    assert hub_errors.is_unreachable(hidden)
    assert "Connection refused" in str(hub_errors.explain(REQUEST, hidden))
    assert not hub_errors.is_unreachable(PermissionError(errno.EACCES, "no"))


def test_every_failure_of_the_http_library_is_caught():
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    library = sys.modules[HfHubHTTPError.__bases__[0].__module__.split(".")[0]]
    kinds = [library.ConnectTimeout, library.TooManyRedirects]
    kinds.append(getattr(library, "ConnectionError", None) or library.ConnectError)
    assert all(issubclass(kind, hub_errors.failures()) for kind in [*kinds, HfHubHTTPError, LocalEntryNotFoundError])
    assert not issubclass(KeyboardInterrupt, hub_errors.failures())


def test_a_ref_that_cannot_be_noted_is_a_warning(tmp_path, caplog):
    request = store.Request("owner/x", "owner/x", "main", tmp_path)
    request.snapshot("a" * 40).mkdir(parents=True)
    (request.store / "refs").write_text("a file where a folder is needed")
    store.remember(request, "a" * 40)
    assert "the cache could not note the commit" in caplog.text
    (request.store / "refs").unlink()
    store.remember(request, "a" * 40)
    assert store.cached_commit(request) == "a" * 40
    (tmp_path / "elsewhere").mkdir()
    (request.store / "refs" / "main").write_text("../../elsewhere")
    assert store.cached_commit(request) is None


def test_the_server_serves_datasets_too(tmp_path, server):
    """For those who use it elsewhere: the other kinds of repository go through the same client."""
    write_texts(tmp_path / "data")
    (tmp_path / "data" / "sub").mkdir()
    (tmp_path / "data" / "sub" / "rows.csv").write_text("a,b\n")
    sha = server.publish("owner/data", tmp_path / "data", kind="datasets")
    code = (
        "import sys; from huggingface_hub import HfApi;"
        "print(HfApi().snapshot_download('owner/data', repo_type='dataset', allow_patterns='sub/*'))"
    )
    env = os.environ | {"HF_HOME": str(tmp_path / "hf"), "HF_ENDPOINT": server.url}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert (Path(done.stdout.strip()) / "sub" / "rows.csv").read_text() == "a,b\n"
    assert Path(done.stdout.strip()).name == sha
