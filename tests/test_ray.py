"""Ray: the pool that fits, the callables, and runs of `qsit score --ray` with workers and drivers that are killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from conftest import IMAGES
from qsit_metric.errors import InputError
from test_cli import child_environment, make_pictures, qsit
from test_shards import NAMES, TIED, data, golden, picture, write_tar  # noqa: F401  # a fixture

ray = pytest.importorskip("ray")
pytest.importorskip("ray.data")
host = pytest.importorskip("qsit_metric.integrations.ray")
Pool = host.Pool

pytestmark = pytest.mark.ray


# ---- no cluster


@pytest.mark.parametrize(
    ("nodes", "gpu", "actors", "cpus", "gpus"),
    [
        ([(2, 0)], False, 1, 1, 0),
        ([(1, 0)], False, 1, 0.5, 0),
        ([(8, 0)], False, 1, 7, 0),
        ([(16, 0)], False, 3, 5, 0),
        ([(4, 0)] * 4, False, 3, 4, 0),
        ([(64, 8)], True, 8, 7, 1),
        ([(8, 8)], True, 8, 0.4375, 1),
        ([(16, 4), (16, 0)], True, 4, 4, 1),
    ],
)
def test_the_pool_leaves_something_for_reading(nodes, gpu, actors, cpus, gpus):
    pool = Pool.fitting(nodes, gpu=gpu)
    assert (pool.actors, pool.cpus, pool.gpus) == (actors, cpus, gpus)
    assert pool.actors * pool.cpus + pool.reading <= sum(cpus for cpus, _ in nodes)


@pytest.mark.parametrize(
    ("nodes", "gpu", "actors", "message"),
    [
        ([(2, 0)], False, 2, "`--ray-actors`: got 2, expected 1 to 1, since 2 CPUs and 0 GPUs are free"),
        ([(8, 2)], True, 3, "`--ray-actors`: got 3, expected 1 to 2"),
        ([(8, 0)], True, None, "expected a cluster with a free GPU"),
        ([], False, None, "expected a cluster with a free CPU"),
        ([(4, 0)], False, 0, "`--ray-actors`: got 0, expected 1 to 3"),
    ],
)
def test_what_would_wait_for_ever_is_refused(nodes, gpu, actors, message):
    with pytest.raises(InputError) as caught:
        Pool.fitting(nodes, gpu=gpu, actors=actors)
    assert message in str(caught.value)


def test_the_callables_give_rows_that_keep_what_else_there_is(tied):
    names = [*NAMES[:3], ""]
    batch = {"bytes": [picture(name) if name else b"none" for name in names], "path": names, "id": [1, 2, 3, 4]}
    found = host.Scorer(TIED)(batch)
    assert list(found) == ["path", "id", "score", "unit", "level", "probabilities", "note", "error"]
    assert list(found["score"][:3]) == pytest.approx([golden(name) for name in NAMES[:3]], abs=1e-4)
    assert found["score"][3] is None
    assert [error is None for error in found["error"]] == [True, True, True, False]
    answers = host.Asker("Which is worst?", ["blur", "noise"], TIED)(batch)
    expected = tied.ask(IMAGES / NAMES[0], "Which is worst?", choices=["blur", "noise"])
    assert answers["choice"][0] == expected.choice
    assert answers["probabilities"][0] == pytest.approx(expected.probs, abs=1e-4)
    assert answers["error"][3]
    with pytest.raises(InputError, match="expected one of path, id"):
        host.Scorer(TIED)({"path": names, "id": [1]})


def test_an_address_where_nobody_answers_is_told_at_once(tmp_path):
    begun = time.monotonic()
    result = qsit("score", IMAGES / NAMES[0], "-m", TIED, "-o", tmp_path / "o", "--ray-address", "127.0.0.1:9", code=2)
    assert "`--ray-address`: got '127.0.0.1:9', expected a Ray cluster that answers" in result.stderr
    assert time.monotonic() - begun < 120  # Ray alone waits for five minutes


# ---- a cluster, whose start alone takes Ray some twenty seconds of two cores


@pytest.fixture(scope="module")
def cluster():
    """A cluster with two CPUs: the one of RAY_ADDRESS, or one of this machine."""
    host.connect(None)
    yield
    ray.shutdown()


def told(out: Path) -> list[dict]:
    if out.suffix:
        return [json.loads(line) for line in out.read_text().splitlines()]
    return pytest.importorskip("pyarrow.parquet").read_table(out).to_pylist()


@pytest.mark.long
def test_the_command_gives_the_golden_scores_in_a_file_and_in_parts(cluster, data, tmp_path):  # noqa: F811
    for out in (tmp_path / "out.jsonl", tmp_path / "out"):
        command = ["score", data / "a.tar", data / "t.parquet", IMAGES / NAMES[4], "-m", TIED, "-o", out, "--ray"]
        result = qsit(*command, "--keep", "key", code=1)
        assert "10 added, 0 were there already" in result.stderr
        found = sorted(told(out), key=lambda row: (row.get("shard") or "", row["index"]))
        assert [row["score"] for row in found[1:4]] == pytest.approx([golden(name) for name in NAMES[:3]], abs=1e-4)
        assert found[0]["score"] == pytest.approx(golden(NAMES[4]), abs=1e-4)
        assert sum(bool(row.get("error")) for row in found) == 3
        assert found[1]["key"] == "0000"
        assert "0 added, 10 were there already" in qsit(*command, "--keep", "key").stderr


@pytest.mark.long
def test_questions_are_asked_with_ray(cluster, data, tmp_path, tied):  # noqa: F811
    out = tmp_path / "out.jsonl"
    qsit("ask", data / "b.tar.gz", "Sharp?", "--choice", "yes", "--choice", "no", "-m", TIED, "-o", out, "--ray")
    for row, name in zip(sorted(told(out), key=lambda row: row["index"]), NAMES[3:], strict=True):
        answer = tied.ask(IMAGES / name, "Sharp?", choices=["yes", "no"])
        assert row["probs"] == pytest.approx(answer.probs, abs=1e-4)


@pytest.mark.long
def test_a_pipeline_of_ones_own(cluster, tmp_path):
    """Broken files, several modes, .webp: what `read_images` stops at or loses."""
    from PIL import Image

    for name in NAMES[:4]:
        shutil.copy(IMAGES / name, tmp_path)
    Image.open(IMAGES / NAMES[0]).save(tmp_path / "z.webp", lossless=True)
    (tmp_path / "broken.jpg").write_bytes(b"none")
    files = ray.data.read_binary_files(str(tmp_path), include_paths=True)
    settings = {"fn_constructor_kwargs": {"model": TIED}, "batch_size": 4, **host.pool()}
    found = {Path(row["path"]).name: row for row in files.map_batches(host.Scorer, **settings).take_all()}
    assert len(found) == 6
    assert [found[name]["score"] for name in NAMES[:4]] == pytest.approx([golden(n) for n in NAMES[:4]], abs=1e-4)
    assert found["z.webp"]["score"] == pytest.approx(golden(NAMES[0]), abs=1e-4)
    assert found["broken.jpg"]["score"] is None
    assert found["broken.jpg"]["error"]


@pytest.mark.long
def test_a_model_that_is_not_there_is_the_same_line_as_without_ray(cluster, tmp_path):
    result = qsit("score", IMAGES / NAMES[0], "-m", str(tmp_path / "gone"), "-o", tmp_path / "o.csv", "--ray", code=2)
    plain = qsit("score", IMAGES / NAMES[0], "-m", str(tmp_path / "gone"), "-o", tmp_path / "p.csv", code=2)
    same = 100  # characters: behind them stands the folder of the process
    assert result.stderr.strip().splitlines()[-1][:same] == plain.stderr.strip().splitlines()[-1][:same]


# ---- kills


def _actors() -> list[int]:
    """Processes of the actors that score."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if b"ray::MapWorker" in place.read_bytes():
                found.append(int(place.parent.name))
        except OSError:
            continue
    return found


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_a_killed_worker_and_killed_drivers_lose_and_double_nothing(cluster, tmp_path):
    members = [(Path(path).name, Path(path).read_bytes()) for path in make_pictures(tmp_path / "p", 600)]
    path, out = write_tar(tmp_path / "a.tar", members), tmp_path / "out.jsonl"
    arguments = ["score", str(path), "-m", TIED, "-o", str(out), "--ray"]
    command = [sys.executable, "-c", "from qsit_metric.cli import main; main()", *arguments]
    environment = child_environment() | {k: v for k, v in os.environ.items() if k.startswith("RAY_")}
    environment["RAY_ADDRESS"] = ray.get_runtime_context().gcs_address
    for number, victim in enumerate(("driver", "driver", "worker"), start=1):
        with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
            while process.poll() is None and (not out.exists() or out.read_bytes().count(b"\n") < 130 * number):
                time.sleep(0.01)
            if victim == "driver":
                process.send_signal(signal.SIGKILL)
            else:
                for one in _actors():
                    os.kill(one, signal.SIGKILL)
                assert "failed" not in process.communicate(timeout=300)[1]
    qsit(*arguments)
    counts = Counter(row["index"] for row in told(out))
    assert counts == dict.fromkeys(range(600), 1)
