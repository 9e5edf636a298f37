"""Shards as inputs of `qsit score` and `qsit ask`: what is read, how rows are named, and runs that are gone on with."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from conftest import GOLDEN, IMAGES, expected
from qsit_metric import sources
from qsit_metric.cli import rows as row_files
from qsit_metric.sources import Shard, Wanted, chunks, kind_of, listed, of_pictures, shard_of
from test_cli import child_environment, make_pictures, qsit, rows

TIED = str(GOLDEN / "tied")
NAMES = [
    "landscape_451x300.png",
    "portrait_300x449.jpg",
    "gray_256.png",
    "rgba_300.png",
    "square_512.png",
    "tile_384.png",
]
GOLDEN_SCORES = {name: expected("tied")["images"][name] for name in NAMES}
parquet = pytest.importorskip("pyarrow.parquet")
pa = pytest.importorskip("pyarrow")


def golden(name: str) -> float:
    return GOLDEN_SCORES[name]["score15"]


def write_tar(path: Path, members: list[tuple[str, bytes]], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def picture(name: str) -> bytes:
    return (IMAGES / name).read_bytes()


def samples(names: list[str]) -> list[tuple[str, bytes]]:
    """A webdataset: picture, caption and JSON of each sample, the caption before the picture of every other one."""
    found = []
    for place, name in enumerate(names):
        key = f"{place:04d}"
        parts = [
            (f"{key}{Path(name).suffix}", picture(name)),
            (f"{key}.json", json.dumps({"width": place, "tags": ["a"]}).encode()),
            (f"{key}.txt", f"caption {place}".encode()),
        ]
        found += parts if place % 2 else parts[::-1]
    return found


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """The golden pictures in every kind of shard; a broken one in each."""
    folder = tmp_path_factory.mktemp("data")
    broken = [("0003.jpg", b"no picture"), ("0003.txt", b"none")]
    write_tar(folder / "a.tar", samples(NAMES[:3]) + broken)
    write_tar(folder / "b.tar.gz", samples(NAMES[3:]), "w:gz")
    images = [{"bytes": picture(name), "path": name} for name in NAMES[:3]] + [{"bytes": b"abc", "path": "x"}, None]
    table = {"image": images, "caption": [f"caption {i}" for i in range(5)], "id": list(range(5)), "ok": [True] * 5}
    parquet.write_table(pa.table(table), folder / "t.parquet", row_group_size=2)
    lines = [json.dumps({"url": str(IMAGES / name), "n": i}) for i, name in enumerate(NAMES[:2])]
    (folder / "l.jsonl").write_text("\n".join([*lines, json.dumps({"url": "gone.png", "n": 2})]))
    (folder / "l.csv").write_text("id,path\n" + "".join(f"{i},{IMAGES / name}\n" for i, name in enumerate(NAMES[:2])))
    (folder / "l.txt").write_text("".join(f"{IMAGES / name}\n" for name in NAMES[:2]) + "\n\n")
    return folder


def read(path: Path | str, keep: tuple[str, ...] = (), column: str | None = None, known: bytes = b"") -> list:
    return list(chunks(shard_of(str(path)), Wanted(column, keep), known))


def items(*args, **kwargs) -> list:
    return [item for chunk in read(*args, **kwargs) for item in chunk.items]


# ---- what is read


def test_a_tar_gives_its_pictures_and_what_stands_beside_them(data):
    found = items(data / "a.tar", keep=("key", "txt", "width", "json"))
    assert [Path(item.path).name for item in found] == ["0000.png", "0001.jpg", "0002.png", "0003.jpg"]
    assert [item.index for item in found] == [0, 1, 2, 3]
    assert [item.content for item in found[:3]] == [picture(name) for name in NAMES[:3]]
    assert [item.kept["key"] for item in found] == ["0000", "0001", "0002", "0003"]
    assert [item.kept["txt"] for item in found] == ["caption 0", "caption 1", "caption 2", "none"]
    assert [item.kept["width"] for item in found] == [0, 1, 2, None]
    assert json.loads(found[0].kept["json"]) == {"width": 0, "tags": ["a"]}
    (last,) = read(data / "a.tar")
    assert (last.rows, last.left_out, last.error, last.share) == (4, 7, None, 1.0)


def test_known_pictures_are_not_read_again(data):
    assert [item.index for item in items(data / "a.tar", known=b"\1\0\1")] == [1, 3]
    assert [item.index for item in items(data / "t.parquet", known=b"\1\0\1")] == [1, 3, 4]
    assert read(data / "a.tar", known=b"\1\1\1\1")[-1].rows == 4


def test_a_tar_that_breaks_off_says_so_and_keeps_what_was_whole(data, tmp_path):
    whole = (data / "a.tar").read_bytes()
    with tarfile.open(data / "a.tar") as tar:
        ends = [member.offset_data for member in tar if member.name.endswith((".png", ".jpg"))]
    for cut in (ends[1] + 1, ends[1] - 512, ends[1] - 100):
        (tmp_path / "cut.tar").write_bytes(whole[:cut])
        last = read(tmp_path / "cut.tar")[-1]
        assert [item.index for item in last.items] == [0]
        assert last.rows is None
        assert last.error is not None
        assert "expected a shard that can be read to its end. After 1 pictures" in str(last.error).replace(
            "After 2", "After 1"
        )


def test_tarfile_alone_would_lose_pictures_without_a_word(data, tmp_path):
    """Joined archives, and a damaged header: for `tarfile` both are the end."""
    whole = (data / "a.tar").read_bytes()
    (tmp_path / "joined.tar").write_bytes(whole + whole)
    with tarfile.open(data / "a.tar") as tar:
        second = [member.offset for member in tar][3]
    (tmp_path / "damaged.tar").write_bytes(whole[:second] + b"\xff" * 512 + whole[second + 512 :])
    for name in ("joined", "damaged"):
        with tarfile.open(tmp_path / f"{name}.tar") as tar:
            assert len(list(tar)) <= 11, "no error of its own"
        last = read(tmp_path / f"{name}.tar")[-1]
        assert last.error is not None, name
        assert last.rows is None


def test_a_table_gives_bytes_pairs_paths_and_urls(data):
    found = items(data / "t.parquet", keep=("caption", "id", "key"))
    assert [Path(item.path).name for item in found] == [f"t.parquet#{i}" for i in range(5)]
    assert [item.content for item in found[:4]] == [*(picture(name) for name in NAMES[:3]), b"abc"]
    assert "a picture in this row" in str(found[4].error)
    assert found[1].kept == {"caption": "caption 1", "id": 1, "key": NAMES[1]}
    lines = items(data / "l.jsonl", keep=("n",))
    assert [item.content for item in lines] == [picture(NAMES[0]), picture(NAMES[1]), None]
    assert [item.kept["n"] for item in lines] == [0, 1, 2]
    assert "an existing file" in str(lines[2].error)
    assert [item.content for item in items(data / "l.csv")] == [picture(name) for name in NAMES[:2]]


def test_a_path_in_a_table_may_stand_beside_it(tmp_path):
    shutil.copy(IMAGES / NAMES[0], tmp_path / "here.png")
    (tmp_path / "metadata.csv").write_text("file_name,text\nhere.png,a\n")
    (item,) = items(tmp_path / "metadata.csv", keep=("text",))
    assert (item.content, item.kept, item.path) == (picture(NAMES[0]), {"text": "a"}, str(tmp_path / "here.png"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"column": "nothing"}, "`--column`: got 'nothing', expected a column of"),
        ({"keep": ("nothing",)}, "`--keep`: got 'nothing', expected a column of"),
    ],
)
def test_a_column_that_is_not_there(data, arguments, message):
    assert message in str(read(data / "t.parquet", **arguments)[-1].error)


def test_a_table_whose_pictures_cannot_be_told(tmp_path):
    parquet.write_table(pa.table({"a": [b"x"], "b": [b"y"]}), tmp_path / "two.parquet")
    assert "--column names it; it has a, b" in str(read(tmp_path / "two.parquet")[-1].error)
    assert [item.content for item in items(tmp_path / "two.parquet", column="b")] == [b"y"]


def test_an_object_store_gives_what_the_disk_gives(data):
    fsspec = pytest.importorskip("fsspec")
    store = fsspec.filesystem("memory")
    for name in ("a.tar", "t.parquet"):
        store.pipe(f"/bucket/{name}", (data / name).read_bytes())
    store.pipe("/bucket/more/p.png", picture(NAMES[0]))
    assert listed("memory://bucket/*.tar") == ["memory:///bucket/a.tar"]
    assert listed("memory://bucket") == ["memory:///bucket/a.tar", "memory:///bucket/t.parquet"]
    assert [i.content for i in items("memory://bucket/a.tar")] == [i.content for i in items(data / "a.tar")]
    assert [i.content for i in items("memory://bucket/t.parquet")] == [i.content for i in items(data / "t.parquet")]
    (shard,) = of_pictures(["memory://bucket/more/p.png"])
    assert next(chunks(shard, Wanted())).items[0].content == picture(NAMES[0])
    with pytest.raises(sources.InputError, match="something that is there"):
        listed("memory://bucket/none/*.tar")
    with pytest.raises(sources.InputError, match="a kind of address that is known"):
        listed("nosuch://bucket/a.tar")


def test_a_folder_gives_its_shards_only_without_pictures(data, tmp_path):
    assert [Path(one).name for one in listed(str(data))] == ["a.tar", "b.tar.gz", "t.parquet"]
    shutil.copy(data / "a.tar", tmp_path)
    assert len(listed(str(tmp_path))) == 1
    shutil.copy(IMAGES / NAMES[0], tmp_path)
    assert listed(str(tmp_path)) == []
    assert kind_of("a/b.TAR.GZ") == "tar"


def test_chunks_are_small(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "BYTES", 100_000)
    path = write_tar(tmp_path / "a.tar", [(f"{i}.png", bytes(40_000)) for i in range(7)])
    assert [len(chunk.items) for chunk in read(path)] == [3, 3, 1]
    monkeypatch.setattr(sources, "ROWS", 2)
    assert [len(chunk.items) for chunk in read(path)] == [2, 2, 2, 1]
    shares = [chunk.share for chunk in read(path)]
    assert shares == sorted(shares)
    assert 0.2 < shares[0] < 0.5


def test_plain_pictures_keep_their_places():
    found = list(of_pictures(["a", "b", "c"], [0, 1, 5]))
    assert [(shard.first, shard.pictures) for shard in found] == [(0, ("a", "b")), (5, ("c",))]
    assert next(chunks(Shard("", "pictures"), Wanted())).rows == 0


# ---- the command


def test_every_kind_of_shard_gets_the_golden_scores(data, tmp_path):
    out = tmp_path / "out.jsonl"
    inputs = [data / name for name in ("a.tar", "b.tar.gz", "t.parquet", "l.jsonl", "l.csv", "l.txt")]
    qsit("score", *inputs, "-m", TIED, "-o", out, code=1)
    found = [json.loads(line) for line in out.read_text().splitlines()]
    by_shard = {}
    for row in found:
        by_shard.setdefault(Path(row.get("shard", "")).name, []).append(row)
    counts = {name: len(one) for name, one in by_shard.items()}
    assert counts == {"a.tar": 4, "b.tar.gz": 3, "t.parquet": 5, "l.jsonl": 3, "l.csv": 2, "": 2}
    for names, some in ((NAMES[:3], "a.tar"), (NAMES[3:], "b.tar.gz"), (NAMES[:3], "t.parquet"), (NAMES[:2], "")):
        scores = [row["score"] for row in by_shard[some]]
        assert scores[: len(names)] == pytest.approx([golden(name) for name in names], abs=1e-4)
    failed = [row for row in found if row.get("error")]
    assert [row["score"] for row in failed] == [None] * 4
    assert {"shard", "index", "modified", "size"} <= set(by_shard["a.tar"][0])


def test_rows_of_csv_are_those_of_plain_files_and_more(data, tmp_path):
    out = tmp_path / "out.csv"
    result = qsit("score", data / "a.tar", "-m", TIED, "-o", out, "--keep", "txt", "--keep", "width", code=1)
    assert "3 pictures scored" in result.stderr
    assert "4 added, 0 were there already" in result.stderr
    found = rows(out.read_text())
    assert list(found[0])[:9] == ["path", "score", "unit", "level", "bad", "poor", "fair", "good", "excellent"]
    assert list(found[0])[-5:] == ["shard", "index", "error", "txt", "width"]
    assert [row["txt"] for row in found] == ["caption 0", "caption 1", "caption 2", "none"]
    assert float(found[0]["score"]) == pytest.approx(golden(NAMES[0]), abs=1e-4)
    assert found[3]["score"] == found[3]["level"] == ""
    before = out.read_bytes()
    result = qsit("score", data / "a.tar", "-m", TIED, "-o", out, "--keep", "txt", "--keep", "width")
    assert "0 added, 4 were there already" in result.stderr
    assert out.read_bytes() == before
    result = qsit("score", data / "a.tar", "-m", TIED, "-o", out, "--keep", "txt", "--keep", "width", "--retry", code=1)
    assert "1 added, 3 were there already" in result.stderr
    assert [row["index"] for row in rows(out.read_text())] == ["0", "1", "2", "3"]


def test_stdout_takes_rows_too(data):
    found = rows(qsit("score", data / "b.tar.gz", "-m", TIED).stdout)
    assert [Path(row["path"]).name for row in found] == ["0000.png", "0001.png", "0002.png"]
    lines = qsit("score", data / "b.tar.gz", "-m", TIED, "--json").stdout.splitlines()
    assert [json.loads(line)["index"] for line in lines] == [0, 1, 2]


def test_a_file_of_plain_pictures_is_gone_on_with_both_ways(tmp_path):
    paths = make_pictures(tmp_path / "p", 3)
    out = tmp_path / "out.csv"
    qsit("score", paths[0], "-m", TIED, "-o", out)
    result = qsit("score", *paths[:2], "-m", TIED, "-o", out, "--retry")
    assert "1 added, 1 were there already" in result.stderr
    assert "1 added, 2 were there already" in qsit("score", *paths, "-m", TIED, "-o", out).stderr
    found = rows(out.read_text())
    assert [row["path"] for row in found] == paths
    assert all(row["sha256"] for row in found)


def test_a_folder_gets_parts_that_are_one_table(data, tmp_path, monkeypatch):
    monkeypatch.setattr(row_files, "PART", 3)
    out = tmp_path / "out"
    qsit("score", data / "a.tar", data / "t.parquet", "-m", TIED, "-o", out, "--keep", "key", code=1)
    qsit("score", IMAGES / NAMES[4], "-m", TIED, "-o", tmp_path / "plain", "--keep", "key")  # which has no key
    assert parquet.read_table(tmp_path / "plain")["key"].to_pylist() == [None]
    table = parquet.read_table(out)
    assert table.num_rows == 9
    assert table.schema.field("probabilities").type.num_fields == 5
    found = table.to_pylist()
    assert [row["index"] for row in found] == [0, 1, 2, 3, 0, 1, 2, 3, 4]
    assert found[0]["score"] == pytest.approx(golden(NAMES[0]), abs=1e-4)
    assert sum(found[0]["probabilities"].values()) == pytest.approx(1)
    assert [row["error"] is None for row in found] == [True] * 3 + [False] + [True] * 3 + [False] * 2
    assert len(list(out.glob("part-*.parquet"))) == 3
    again = qsit("score", data / "a.tar", data / "t.parquet", "-m", TIED, "-o", out, "--keep", "key")
    assert "0 added, 9 were there already" in again.stderr
    result = qsit(
        "score", data / "a.tar", data / "t.parquet", "-m", TIED, "-o", out, "--keep", "key", "--retry", code=1
    )
    assert "3 added, 6 were there already" in result.stderr
    assert parquet.read_table(out).num_rows == 9


def test_a_kill_between_part_and_journal_doubles_nothing(data, tmp_path, monkeypatch):
    out = tmp_path / "out"
    qsit("score", data / "b.tar.gz", "-m", TIED, "-o", out)
    part = next(out.glob("part-*"))
    journal = [
        json.dumps({**row, "probs": row.pop("probabilities"), "kept": {}})
        for row in parquet.read_table(part).to_pylist()
    ]
    (out / "_rows.jsonl").write_text("\n".join(journal) + "\n" + journal[0][:30])
    result = qsit("score", data / "b.tar.gz", "-m", TIED, "-o", out)
    assert "0 added, 3 were there already" in result.stderr
    part.unlink()  # the part was never written: the journal has the rows
    result = qsit("score", data / "b.tar.gz", "-m", TIED, "-o", out)
    assert "0 added, 3 were there already" in result.stderr
    assert [row["index"] for row in parquet.read_table(out).to_pylist()] == [0, 1, 2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.tar", "-o", "out.parquet"], "expected a name that ends in .csv or .jsonl, or a folder"),
        (["a.tar", "-o", "full"], "`--output`: got 'full', expected a new folder, or one that `qsit` wrote"),
        (["gone.tar"], "gone.tar', expected an existing file"),
        (["a.tar", "--keep", "score"], "`--keep`: got 'score', expected a name that results do not have themselves"),
        (["a.tar", "--format", "table"], "`--format`: got 'table', expected csv or jsonl for shards"),
        (["t.parquet", "--keep", "nothing"], "`--keep`: got 'nothing', expected a column of"),
        (["gone.txt"], "`PATHS`: got 'gone.txt', expected a readable list"),
        (["a.tar", "--sort", "score"], "`--sort`: got 'score', expected plain files and one process"),
    ],
)
def test_what_cannot_be_done_is_one_line(data, tmp_path, monkeypatch, arguments, message):
    for name in ("a.tar", "t.parquet"):
        (tmp_path / name).symlink_to(data / name)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("")
    monkeypatch.chdir(tmp_path)
    assert message in qsit("score", *arguments, "-m", TIED, code=2).stderr


def test_results_of_another_model_or_shard_are_refused(data, tmp_path):
    shutil.copy(data / "b.tar.gz", tmp_path / "b.tar.gz")
    for out in (tmp_path / "out.csv", tmp_path / "out.jsonl", tmp_path / "out"):
        qsit("score", tmp_path / "b.tar.gz", "-m", TIED, "-o", out)
        other = qsit("score", tmp_path / "b.tar.gz", "-m", GOLDEN / "untied", "-o", out, code=2)
        assert "made as now" in other.stderr
        later = time.time() + 100
        os.utime(tmp_path / "b.tar.gz", (later, later))
        changed = qsit("score", tmp_path / "b.tar.gz", "-m", TIED, "-o", out, code=2)
        assert "expected the shard that the rows were made of" in changed.stderr
        assert (
            "3 were there already"
            in qsit("score", tmp_path / "b.tar.gz", "-m", TIED, "-o", out, "--trust-names").stderr
        )
        os.utime(tmp_path / "b.tar.gz", (shard_time := later - 100, shard_time))
        qsit("score", tmp_path / "b.tar.gz", "-m", TIED, "-o", out, "--overwrite")


def test_questions_with_choices_are_asked_of_shards(data, tmp_path, tied):
    out = tmp_path / "answers.jsonl"
    asked = ["Is it sharp?", "Which is worst?", "--choice", "blur", "--choice", "noise", "-m", TIED]
    qsit("ask", data / "b.tar.gz", *asked, "-o", out)
    found = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(row["index"], row["question"]) for row in found[:3]] == [(0, asked[0]), (0, asked[1]), (1, asked[0])]
    for row, name in zip(found[::2], NAMES[3:], strict=True):
        answer = tied.ask(IMAGES / name, asked[0], choices=["blur", "noise"])
        assert row["choice"] == answer.choice
        assert row["probs"] == pytest.approx(answer.probs, abs=1e-4)
    assert "6 were there already" in qsit("ask", data / "b.tar.gz", *asked, "-o", out).stderr
    folder = qsit("ask", data / "a.tar", *asked, "-o", tmp_path / "out", code=1)
    assert "8 added" in folder.stderr
    assert parquet.read_table(tmp_path / "out").num_rows == 8
    assert "two or more choices" in qsit("ask", data / "a.tar", "Is it sharp?", "-m", TIED, code=2).stderr


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("name", ["out.jsonl", "out"])
def test_a_killed_run_goes_on_and_neither_loses_nor_doubles(tmp_path, name):
    members = [(Path(path).name, Path(path).read_bytes()) for path in make_pictures(tmp_path / "p", 200)]
    path, out = write_tar(tmp_path / "a.tar", members), tmp_path / name
    command = [sys.executable, "-c", "from qsit_metric.cli import main; main()", "score", path, "-m", TIED, "-o", out]
    journal = out if out.suffix else out / "_rows.jsonl"
    with subprocess.Popen(command, env=child_environment(), stderr=subprocess.DEVNULL) as process:
        while not (journal.exists() and journal.stat().st_size > 1000) and process.poll() is None:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    result = qsit("score", path, "-m", TIED, "-o", out)
    found = (
        [json.loads(line) for line in out.read_text().splitlines()]
        if out.suffix
        else parquet.read_table(out).to_pylist()
    )
    assert sorted(row["index"] for row in found) == list(range(200))
    assert " 0 were there already" not in result.stderr
