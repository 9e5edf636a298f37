"""Data sets from a Hub on 127.0.0.1, spoken to by the real client, and archives that are not what they should be."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
from huggingface_hub import constants, file_download

from benchmarks.sets.download import SOURCES, fetch, terms, unpack
from hub_server import HubServer
from miniature_sets import build
from qsit_metric.errors import HubError
from qsit_metric.evaluation import EvaluationError

REPO = "nanyangtu/LLDescribe-QBench"


def tar(path, files, **kinds):
    """An archive of names and contents; `kinds` are members of another type, name -> (type, link)."""
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for name, (kind, link) in kinds.items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, link
            archive.addfile(member)
    return path


def tree(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


FILES = {f"images/{place}.jpg": bytes([place]) * 100 for place in range(6)}


# ------------------------------------------------------------------------------------------- unpacking


def test_an_archive_is_unpacked_once(tmp_path):
    path = tar(tmp_path / "a.tar", {**FILES, "images/._1.jpg": b"left by macOS"})
    seen = []
    assert unpack(path, tmp_path / "out", lambda *numbers: seen.append(numbers)) == 6
    assert tree(tmp_path / "out") == FILES
    assert seen == [(place, 6) for place in range(1, 7)]
    times = {file: file.stat().st_mtime_ns for file in (tmp_path / "out").rglob("*.jpg")}
    (tmp_path / "out" / "images" / "3.jpg").unlink()
    unpack(path, tmp_path / "out")
    assert tree(tmp_path / "out") == FILES
    changed = [file.name for file, before in times.items() if file.stat().st_mtime_ns != before]
    assert changed == ["3.jpg"]


@pytest.mark.parametrize(
    "name", ["../evil.jpg", "/tmp/evil.jpg", "images/../../evil.jpg", "C:/evil.jpg", "a\\..\\evil"]
)
def test_a_path_that_leaves_the_folder_is_refused_before_anything_is_written(tmp_path, name):
    path = tar(tmp_path / "a.tar", {**FILES, name: b"evil"})
    with pytest.raises(EvaluationError, match="1 of 7 members cannot be used: .* would leave the folder"):
        unpack(path, tmp_path / "deep" / "out")
    assert [one.name for one in tmp_path.iterdir()] == ["a.tar"]


@pytest.mark.parametrize(
    "member",
    [(tarfile.SYMTYPE, "/etc"), (tarfile.LNKTYPE, "images/0.jpg"), (tarfile.FIFOTYPE, ""), (tarfile.CHRTYPE, "")],
)
def test_links_and_devices_are_refused(tmp_path, member):
    path = tar(tmp_path / "a.tar", FILES, extra=member)
    with pytest.raises(EvaluationError, match="'extra' is a link or a device"):
        unpack(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_link_in_the_folder_is_not_followed_out_of_it(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out" / "images").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(EvaluationError, match="which no link leads out of"):
        unpack(tar(tmp_path / "a.tar", FILES), tmp_path / "out")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_other_files_are_never_written_over(tmp_path):
    (tmp_path / "out" / "images").mkdir(parents=True)
    (tmp_path / "out" / "images" / "2.jpg").write_bytes(b"x" * 100)  # of the same size
    with pytest.raises(EvaluationError, match="2.jpg', expected the file that a.tar has under this name. Move it away"):
        unpack(tar(tmp_path / "a.tar", FILES), tmp_path / "out")
    assert (tmp_path / "out" / "images" / "2.jpg").read_bytes() == b"x" * 100


def test_archives_that_are_cut_or_none(tmp_path):
    path = tar(tmp_path / "a.tar", {**FILES, "images/big.jpg": bytes(range(256)) * 100})
    path.write_bytes(path.read_bytes()[:-20000])
    with pytest.raises(EvaluationError, match="expected a whole tar"):
        unpack(path, tmp_path / "out")
    assert not (tmp_path / "out" / "images" / "big.jpg").exists()
    path.write_bytes(b"<html>log in</html>")
    with pytest.raises(EvaluationError, match="expected a whole tar"):
        unpack(path, tmp_path / "out")
    with pytest.raises(EvaluationError, match="expected a tar with files"):
        unpack(tar(tmp_path / "b.tar", {}), tmp_path / "out")


KILLED = """
import os, signal, sys
from pathlib import Path
from benchmarks.sets.download import unpack
def stop(done, total):
    if done == 3:
        os.kill(os.getpid(), signal.SIGKILL)
unpack(Path(sys.argv[1]), Path(sys.argv[2]), stop)
"""


def test_unpacking_goes_on_after_a_kill(tmp_path):
    path, out = tar(tmp_path / "a.tar", FILES), tmp_path / "out"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    command = [sys.executable, "-c", KILLED, str(path), str(out)]
    assert subprocess.run(command, cwd=Path(__file__).parent.parent, env=env).returncode == -signal.SIGKILL
    assert sorted(tree(out)) == sorted(FILES)[:3]
    (out / "images" / ".3.jpg.1-aa.part").write_bytes(b"half")  # what a kill in the middle of a file leaves
    times = {file: file.stat().st_mtime_ns for file in out.rglob("*.jpg")}
    assert unpack(path, out) == 6
    assert tree(out) == FILES
    assert {file: file.stat().st_mtime_ns for file in times} == times


# ------------------------------------------------------------------------------------------- the Hub


@pytest.fixture
def hub(monkeypatch):
    with HubServer(lfs_from=1000) as running:
        monkeypatch.setattr(constants, "ENDPOINT", running.url)
        template = running.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        if hasattr(file_download, "HUGGINGFACE_CO_URL_TEMPLATE"):  # huggingface_hub 0 has a copy of it there
            monkeypatch.setattr(file_download, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(time, "sleep", lambda _seconds: None)
        yield running


@pytest.fixture
def repo(tmp_path, hub):
    """The repository of LLDescribe as a folder; its images come in a tar."""
    built = build(tmp_path / "source", ["lldescribe"])["lldescribe"]
    folder = tmp_path / "repo"
    folder.mkdir()
    with tarfile.open(folder / "images.tar", "w") as archive:
        archive.add(built.images, "images")
    (folder / "README.md").write_text("A card.")
    hub.publish(REPO, folder, kind="datasets")
    return folder


@pytest.fixture
def get(tmp_path):
    def call(name="lldescribe", **options):
        options = {"accept_licence": True, "cache_dir": tmp_path / "cache", "token": False} | options
        return fetch(name, tmp_path / "data", **options)

    return call


def test_terms_come_first(hub, get, repo, tmp_path):
    with pytest.raises(
        EvaluationError, match=r"`accept_licence`: got False, expected agreement .*lldescribe is fetched"
    ):
        get(accept_licence=False)
    assert hub.requests == []
    assert not (tmp_path / "data").exists()
    assert "Its card states 'cc-by-nc-sa-4.0'" in terms("llvisionqa-dev")
    assert "licence is not known here" in terms("llvisionqa-dev", "q-future/Q-Bench-HF")
    assert "terms of the publishers of each set" in terms("koniq-qalign")


@pytest.mark.compat
def test_a_set_is_fetched_once(hub, get, repo, tmp_path):
    one = get()
    folder = tmp_path / "data" / "LLDescribe-QBench"
    assert (one.state, one.n, one.folder) == ("incomplete", 6, folder)
    assert one.problems == ("6 images, published are 499.",)
    assert {path.rpartition("/")[2].partition("?")[0] for path in hub.paths("GET", part="/resolve/")} == {"images.tar"}
    noted = (folder / "fetched.json").read_text()
    assert hub.locate("datasets", REPO, "main")[0] in noted
    assert "not known here" in noted
    hub.forget()
    get()
    assert hub.paths("GET", part="/resolve/") == []


def test_files_and_archives_of_one_repository(hub, get, tmp_path):
    built = build(tmp_path / "source", ["llvisionqa-dev"])["llvisionqa-dev"]
    with tarfile.open(built.folder / "images_llvisionqa.tar", "w") as archive:
        archive.add(built.images, "images")
    hub.publish("nanyangtu/LLVisionQA-QBench", built.folder, kind="datasets")
    one = get("llvisionqa-dev")
    assert (one.n, one.images, one.n_absent) == (6, 6, 0)
    assert (tmp_path / "data" / "LLVisionQA-QBench" / "llvisionqa_dev.json").is_file()
    (tmp_path / "data" / "LLVisionQA-QBench" / "llvisionqa_dev.json").write_text("mine")
    with pytest.raises(EvaluationError, match="the file that the Hub has under this name. Move it away"):
        get("llvisionqa-dev")


def test_parquet_files_are_another_source(hub, get, tmp_path):
    built = build(tmp_path / "source", ["llvisionqa-dev-hf"])["llvisionqa-dev-hf"]
    hub.publish("q-future/Q-Bench-HF", built.folder, kind="datasets")
    one = get("llvisionqa-dev", repo="q-future/Q-Bench-HF")
    assert (one.n, one.folder) == (6, tmp_path / "data" / "Q-Bench-HF")


def test_labels_that_are_not_on_the_hub_are_named(hub, get, tmp_path):
    built = build(tmp_path / "source", ["koniq-qalign"])["koniq-qalign"]
    (tmp_path / "repo").mkdir()
    with tarfile.open(tmp_path / "repo" / "koniq.tar", "w") as archive:
        archive.add(built.images / "koniq", "koniq")
    hub.publish("q-future/q-align-datasets", tmp_path / "repo", kind="datasets")
    one = get("koniq-qalign")
    assert one.state == "incomplete"
    assert "has no test_jsons/test_koniq.json" in one.problems[0]
    assert "github.com/Q-Future/Q-Align (the list, in playground/data/test_jsons)" in one.hint


@pytest.mark.compat
def test_a_transfer_goes_on_where_it_broke_off(hub, get, repo):
    """Within one call (the client writes in pieces of 10 MiB), and in the next call after one that failed for good."""
    tar(repo / "images.tar", {"images/0.jpg": bytes(12 << 20)})
    hub.publish(REPO, repo, kind="datasets")
    hub.faults.cut["images.tar"] = 11 << 20
    assert get().n == 1
    asked = [request.range for request in hub.requests if request.method == "GET" and "images.tar" in request.path]
    assert asked[-1] == f"bytes={10 << 20}-"
    tar(repo / "images.tar", FILES)
    hub.publish(REPO, repo, kind="datasets")
    hub.faults.always_cut["images.tar"] = 2000
    with pytest.raises(
        HubError, match=r"`repo`: got .*; the transfer broke off .*Call again: what has arrived is kept"
    ):
        get()
    hub.faults.always_cut.clear()
    with pytest.raises(EvaluationError, match="0.jpg', expected the file that images.tar has under this name"):
        get()  # the archive arrived; the picture of the other commit is in the way


def test_a_file_that_was_altered_on_the_way_is_not_kept(hub, get, repo, tmp_path):
    hub.faults.altered["images.tar"] = b"evil"
    with pytest.raises(HubError, match=r"lists them; lost or altered: images.tar. The cache does not keep them"):
        get()
    assert not (tmp_path / "data").exists()
    hub.faults.altered.clear()
    assert get().n == 6


def test_an_archive_that_leaves_its_folder_is_refused(hub, get, repo, tmp_path):
    tar(repo / "images.tar", {"images/1.jpg": b"x", "../../evil.jpg": b"evil"})
    hub.publish(REPO, repo, kind="datasets")
    with pytest.raises(EvaluationError, match="'../../evil.jpg' would leave the folder"):
        get()
    assert not list(tmp_path.rglob("evil.jpg"))
    assert not list((tmp_path / "data").rglob("*.jpg"))


def test_offline(hub, get, repo, monkeypatch, caplog):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match=r"`repo`: got .*because the network is switched off.*Ways out: fetch it where"):
        get()
    assert hub.requests == []
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    get()
    hub.forget()
    assert get(local_files_only=True).n == 6
    assert hub.requests == []
    hub.faults.status = 503
    assert get().n == 6
    assert "the Hub cannot be reached" in caplog.text


def test_a_hub_that_cannot_be_reached(hub, get):
    hub.stop()
    with pytest.raises(HubError, match="could not be reached .*and no complete copy is in .*Ways out: ") as caught:
        get()
    assert not {"`model`", "qsit download", "q-sit"} & set(str(caught.value).split())
    assert "model" not in str(caught.value)


@pytest.mark.compat
@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"status": 503}, "could not be reached"),
        ({"refused": True}, "Check that your token may read it"),
        ({"token": "hf_x"}, "is private or does not exist"),
        ({"page": "<html>log in</html>"}, "what answered there is not the Hub's API"),
    ],
)
def test_what_the_hub_may_answer(hub, get, repo, fault, message):
    for name, value in fault.items():
        setattr(hub.faults, name, value)
    with pytest.raises(HubError, match=message) as caught:
        get()
    assert "`model`" not in str(caught.value)


@pytest.mark.compat
def test_repositories_and_files_that_are_not_there(hub, get, tmp_path):
    with pytest.raises(HubError, match=f"a repository that exists; .* has no {REPO}") as caught:
        get()
    assert "A folder is written" not in str(caught.value)
    (tmp_path / "repo").mkdir()
    (tmp_path / "repo" / "README.md").write_text("A card.")
    hub.publish(REPO, tmp_path / "repo", kind="datasets")
    with pytest.raises(HubError, match="expected a data set with images.tar at .* It has README.md"):
        get()
    with pytest.raises(HubError, match=r"`revision`: got 'v9'.*/datasets/nanyangtu/LLDescribe-QBench/commits/main"):
        get(revision="v9")


def test_sets_and_repositories_without_a_source(get):
    with pytest.raises(
        EvaluationError, match="a set on the Hub: koniq-qalign, .* Get it from database.mmsp-kn.de/kadid"
    ):
        get("kadid")
    with pytest.raises(EvaluationError, match="a repository of lldescribe: nanyangtu/LLDescribe-QBench"):
        get(repo="someone/else")
    assert all(source.files and source.folder for sources in SOURCES.values() for source in sources)
