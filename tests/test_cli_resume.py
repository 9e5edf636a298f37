"""Result files of `qsit score`: they grow, break off anywhere, and are gone on with; never mixed, never written twice."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from conftest import GOLDEN
from qsit_metric import QSiT, journal
from qsit_metric.cli import scores
from qsit_metric.cli.inputs import key
from qsit_metric.cli.scores import FORMATS, Record, ScoreFile, identity
from qsit_metric.errors import OutputError, QSiTError
from qsit_metric.files import Stamp
from test_cli import HEADER, LEVELS, child_environment, make_pictures, qsit, rows

TIED = str(GOLDEN / "tied")
MADE = {"model": "m", "repo": None, "revision": None, "recipe": "authors", "dtype": "float32", "exif": True}
MADE |= {"qsit_metric": "0.1.0"}
NAMES = ["plain.png", 'odd, "quoted"\nname\r.png', "käse \udcff.png", "日本.png"]
STAMP = Stamp(12345, "2026-01-02T03:04:05.678900Z", "ab" * 32)
KILLED = -signal.SIGKILL

posix = pytest.mark.skipif(sys.platform == "win32", reason="signals and file locks of POSIX")


def record(path: str, score: float = 3.25, note: str | None = None) -> Record:
    return Record(path, score, (score - 1) / 4, "fair", dict.fromkeys(LEVELS, 0.2), note)


def write(path: Path, names: list[str], made: dict[str, object] = MADE) -> list[str]:
    """One run: score what is not there yet. Returns what it added."""
    with ScoreFile(path) as file:
        file.begin(made, LEVELS)
        todo = [name for name in names if key(name) not in file.done]
        for name in todo:
            file.add(record(name, note="first of 2 frames" if name == "plain.png" else None))
    return todo


# ---- the format


@pytest.mark.parametrize("name", FORMATS)
@given(
    path=st.text(st.characters(exclude_characters="\0"), min_size=1).filter(lambda text: not _lone_surrogate(text)),
    values=st.lists(st.floats(0, 1), min_size=6, max_size=6),
    note=st.none() | st.just("first of 12 frames"),
    stamp=st.none() | st.just(STAMP),
)
@example(path="a\rb.png", values=[0.2] * 6, note=None, stamp=None)
@example(path='a,"\n".png', values=[0.0] * 6, note="first of 2 frames", stamp=STAMP)
@settings(max_examples=100, deadline=None)
def test_a_record_comes_back_as_it_was_written(name, path, values, note, stamp):
    form = FORMATS[name]()
    probs = dict(zip(LEVELS, (round(value, 4) for value in values), strict=False))
    before = Record(path, round(1 + 4 * values[5], 4), round(values[5], 4), "good", probs, note, stamp)
    text = form.header(LEVELS) + form.line(before, MADE)
    content = text.encode("utf-8", "surrogateescape")
    assert form.whole(content) == len(content)
    (line,) = form.read(content)
    assert line.record == before
    assert line.made == identity(MADE)


def _lone_surrogate(text: str) -> bool:
    """What no file name holds: Python gives undecodable bytes as U+DC80..U+DCFF, and never bytes that make a letter."""
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape") != text
    except UnicodeEncodeError:
        return True


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_a_file_that_breaks_off_at_any_byte_is_mended(tmp_path, suffix, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # hundreds of them would take their time
    path = tmp_path / f"out{suffix}"
    assert write(path, NAMES) == NAMES
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        added = write(path, NAMES)
        assert path.read_bytes() == whole, f"cut at {length}"
        complete = FORMATS[suffix[1:]]().whole(whole[:length])
        kept = len(list(FORMATS[suffix[1:]]().read(whole[:complete]))) if complete else 0
        assert added == NAMES[kept:], "what was whole is not scored again"


def test_zeros_that_a_power_cut_leaves_are_cut_off(tmp_path):
    path = tmp_path / "out.csv"
    write(path, NAMES[:2])
    whole = path.read_bytes()
    path.write_bytes(whole + bytes(100))
    assert write(path, NAMES[:2]) == []
    assert path.read_bytes() == whole


def test_a_file_that_went_through_a_spreadsheet_is_read(tmp_path):
    path = tmp_path / "out.csv"
    write(path, ["a.png"])
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert write(path, ["./a.png", "b.png"]) == ["b.png"], "another way to write a path is no other picture"
    assert [row["path"] for row in rows(path.read_text(encoding="utf-8-sig"))] == ["a.png", "b.png"]


# ---- whose file it is


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", b"name,price\nfoo,1\n"),
        ("a.csv", b"name,price"),
        ("a.csv", b"path,score\na.png,1\n"),
        ("a.csv", ",".join(HEADER).encode() + b"\na.png,three\n"),
        ("a.jsonl", b'{"name": 1}\n'),
        ("a.jsonl", b"[1, 2]\n"),
        ("a.jsonl", b"notes"),
        ("a.jsonl", b"\xff\xfe\n"),
        ("a.jsonl", b'{"path": "a", "score": 1, "unit": 0, "level": "bad", "probs": 1}\n'),
    ],
)
def test_a_file_of_something_else_is_refused_and_left_alone(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(
        OutputError, match=rf"expected a {path.suffix} file that `qsit score` wrote. It was left as it is"
    ):
        ScoreFile(path)
    assert path.read_bytes() == content


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
@pytest.mark.parametrize("field", ["model", "revision", "recipe", "dtype", "exif"])
def test_scores_of_another_model_are_never_mixed_in(tmp_path, suffix, field):
    path = tmp_path / f"out{suffix}"
    write(path, NAMES)
    whole = path.read_bytes()
    other = MADE | {field: "other"}
    with pytest.raises(OutputError, match=rf"made as now \({field} other\), but it has {field} .*Use another file"):
        write(path, [*NAMES, "new.png"], other)
    assert path.read_bytes() == whole
    assert write(path, [*NAMES, "new.png"], MADE | {"qsit_metric": "0.2.0"}) == ["new.png"]


def test_other_levels_are_another_file(tmp_path):
    path = tmp_path / "out.csv"
    write(path, ["a.png"])
    with ScoreFile(path) as file, pytest.raises(OutputError, match="with the levels of this model \\(poor, good\\)"):
        file.begin(MADE, ["poor", "good"])
    (tmp_path / "empty.csv").write_text(FORMATS["csv"]().header(LEVELS))
    with ScoreFile(tmp_path / "empty.csv") as file:
        file.begin(MADE, ["poor", "good"])
    assert (tmp_path / "empty.csv").read_text() == FORMATS["csv"]().header(["poor", "good"])


def test_an_empty_file_is_a_beginning(tmp_path):
    for name in ("a.csv", "a.jsonl"):
        (tmp_path / name).touch()
        assert write(tmp_path / name, NAMES) == NAMES
        assert write(tmp_path / name, NAMES) == []


# ---- who writes it


@posix
def test_a_file_in_use_is_refused_at_once(tmp_path):
    import fcntl

    path = tmp_path / "out.csv"
    write(path, ["a.png"])
    with path.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        # It is known before the model is loaded: this one is not there.
        result = qsit("score", "b.png", "-m", tmp_path / "gone", "-o", path, code=2)
    assert "expected a file that no other run is writing" in result.stderr
    assert write(path, ["a.png"]) == [], "and the lock goes with its owner"


@posix
def test_two_runs_that_begin_a_file_at_the_same_time(tmp_path):
    path = tmp_path / "out.csv"
    with ScoreFile(path) as first, ScoreFile(path) as second:
        first.begin(MADE, LEVELS)
        with pytest.raises(OutputError, match="no other run is writing"):
            second.begin(MADE, LEVELS)
        first.add(record("a.png"))
    assert len(rows(path.read_text())) == 1
    with ScoreFile(tmp_path / "late.csv") as late:
        write(tmp_path / "late.csv", ["a.png"])
        late.begin(MADE, LEVELS)
        assert list(late.done) == [key("a.png")], "what the other run wrote meanwhile counts"


def test_a_file_system_without_locks_is_a_warning(tmp_path, monkeypatch, caplog):
    fcntl = pytest.importorskip("fcntl")

    def no_locks(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    write(tmp_path / "a.csv", ["a.png"])
    assert "this file system has no locks" in caplog.text


@posix
def test_a_full_disk_is_said_and_mended(tmp_path):
    import resource

    path = tmp_path / "out.csv"
    write(path, NAMES[:2])
    whole, limits = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    with ScoreFile(path) as file:
        file.begin(MADE, LEVELS)
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 20, limits[1]))
        try:
            with pytest.raises(
                OutputError, match="expected a file that can be written. The system says: File too large"
            ):
                file.add(record("c.png"))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes()[: len(whole)] == whole
    assert write(path, [*NAMES[:2], "c.png"]) == ["c.png"]
    assert [row["path"] for row in rows(path.read_bytes().decode("utf-8", "surrogateescape"))] == [*NAMES[:2], "c.png"]


def test_a_disk_that_does_not_save_is_said(tmp_path, monkeypatch):
    def broken(descriptor):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OutputError, match="The system says: Input/output error"):
        write(tmp_path / "out.csv", ["a.png"])


def test_places_that_cannot_be_written(tmp_path):
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(OutputError, match="expected a file that can be written"):
        ScoreFile(tmp_path / "folder.csv")
    with pytest.raises(QSiTError, match="Make the folder"):
        ScoreFile(tmp_path / "no" / "out.csv")


# ---- the command


@pytest.fixture
def loaded(tied, monkeypatch):
    """The model is loaded once for all of these tests."""
    monkeypatch.setattr("qsit_metric.cli.options.ModelOptions.load", lambda self: tied)
    return tied


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_a_later_run_scores_only_what_is_new_or_failed(tmp_path, loaded, suffix, monkeypatch):
    pictures, output = make_pictures(tmp_path / "pictures", 4), tmp_path / f"out{suffix}"
    hidden = Path(pictures[1]).rename(tmp_path / "hidden")
    result = qsit("score", *pictures[:3], "-o", output, code=1)
    assert result.stdout == "", "a file that takes the scores leaves stdout empty"
    assert "2 added, 0 were there already" in result.stderr
    assert pictures[1] not in output.read_text(), "failures are not written down"
    before = output.read_text()
    hidden.rename(pictures[1])
    asked = []
    score_iter = QSiT.score_iter

    def spy(self, images, **kwargs):
        asked.extend(images := list(images))
        return score_iter(self, images, **kwargs)

    expected = dict(zip(pictures, loaded.score(pictures), strict=True))
    monkeypatch.setattr(QSiT, "score_iter", spy)
    shown = [json.loads(line) for line in qsit("score", *pictures, "-o", output, "--json").stdout.splitlines()]
    assert sorted(line["path"] for line in shown) == pictures, "what was there is shown with what is new"
    assert asked == [pictures[1], pictures[3]]
    assert output.read_text().startswith(before)
    scores = {line["path"]: line["score"] for line in shown}
    assert scores == pytest.approx(expected, abs=1e-4)
    limit = (min(scores.values()) + sorted(scores.values())[1]) / 2
    asked.clear()
    qsit("score", *pictures, "-o", output, "--fail-under", limit, code=3)
    assert asked == [], "a limit counts for what was scored earlier, too"


# ---- pictures that were replaced


def make_older(path: Path) -> None:
    os.utime(path, (1_000_000_000, 1_000_000_000))


def scores_in(output: Path) -> list[tuple[str, float]]:
    """Names and scores, in the file's order."""
    if output.suffix == ".csv":
        return [(Path(row["path"]).name, float(row["score"])) for row in rows(output.read_text())]
    lines = map(json.loads, output.read_text().splitlines())
    return [(Path(line["path"]).name, round(line["score"], 4)) for line in lines]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_a_picture_that_was_replaced_is_scored_again(tmp_path, loaded, suffix):
    pictures, output = make_pictures(tmp_path / "pictures", 3), tmp_path / f"out{suffix}"
    qsit("score", *pictures, "-o", output)
    first = scores_in(output)
    Path(pictures[1]).write_bytes(Path(pictures[2]).read_bytes())
    result = qsit("score", *pictures, "-o", output, "--json")
    assert "1 added, 2 were there already; 1 of a picture that was replaced" in result.stderr
    assert scores_in(output) == [*first, ("001.png", first[2][1])]
    shown = {Path(line["path"]).name: line["score"] for line in map(json.loads, result.stdout.splitlines())}
    assert shown == pytest.approx({"000.png": first[0][1], "001.png": first[2][1], "002.png": first[2][1]}, abs=1e-4)
    result = qsit("score", *pictures, "-o", output)
    assert "0 added, 3 were there already" in result.stderr
    assert "replaced" not in result.stderr
    assert len(scores_in(output)) == 4, "the last line of a picture counts"


def test_a_picture_of_the_same_size_and_another_time_is_told_by_its_content(tmp_path, loaded):
    folder, output = tmp_path / "pictures", tmp_path / "out.csv"
    folder.mkdir()
    for name, grey in (("a.bmp", 40), ("b.bmp", 40), ("c.bmp", 200)):
        Image.new("L", (32, 32), grey).save(folder / name)
    qsit("score", folder, "-o", output)
    make_older(folder / "a.bmp")
    size = (folder / "b.bmp").stat().st_size
    (folder / "b.bmp").write_bytes((folder / "c.bmp").read_bytes())
    assert (folder / "b.bmp").stat().st_size == size
    make_older(folder / "b.bmp")
    assert "1 added, 2 were there already" in qsit("score", folder, "-o", output).stderr
    assert [name for name, _ in scores_in(output)] == ["a.bmp", "b.bmp", "c.bmp", "b.bmp"]


def test_names_may_be_trusted(tmp_path, loaded):
    pictures, output = make_pictures(tmp_path / "pictures", 2), tmp_path / "out.csv"
    qsit("score", *pictures, "-o", output)
    Path(pictures[0]).write_bytes(Path(pictures[1]).read_bytes())
    before = output.read_bytes()
    assert "0 added, 2 were there already" in qsit("score", *pictures, "-o", output, "--trust-names").stderr
    assert output.read_bytes() == before


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_a_file_from_before_there_were_stamps_goes_on_as_it_is(tmp_path, loaded, suffix):
    pictures, output = make_pictures(tmp_path / "pictures", 3), tmp_path / f"out{suffix}"
    qsit("score", *pictures[:2], "-o", output)
    if suffix == ".csv":
        old = [",".join(line.split(",")[:-3]) for line in output.read_text().splitlines()]
    else:
        stamp = ("size", "modified", "sha256")
        lines = map(json.loads, output.read_text().splitlines())
        old = [json.dumps({name: value for name, value in line.items() if name not in stamp}) for line in lines]
    output.write_text("".join(line + "\n" for line in old))
    before = output.read_text()
    Path(pictures[0]).write_bytes(Path(pictures[1]).read_bytes())
    assert "1 added, 2 were there already" in qsit("score", *pictures, "-o", output).stderr
    after = output.read_text()
    assert after.startswith(before)
    assert "0 added, 3 were there already" in qsit("score", *pictures, "-o", output).stderr
    if suffix == ".csv":
        assert {len(row) for row in csv.reader(io.StringIO(after))} == {len(HEADER) - 3}


def test_a_header_from_before_without_a_score_becomes_that_of_today(tmp_path):
    (tmp_path / "out.csv").write_text(",".join(HEADER[:-3]) + "\n")
    write(tmp_path / "out.csv", ["a.png"])
    assert [list(row) for row in rows((tmp_path / "out.csv").read_text())] == [HEADER]


def test_a_picture_that_changes_while_it_is_scored_is_scored_again_later(tmp_path, loaded, monkeypatch):
    pictures, output = make_pictures(tmp_path / "pictures", 2), tmp_path / "out.csv"
    replace, old, new = Path(pictures[0]), Path(pictures[0]).read_bytes(), Path(pictures[1]).read_bytes()
    submit = ThreadPoolExecutor.submit

    def late(pool, work, *arguments):
        if work is scores.take_stamp and arguments[0] == pictures[0]:  # it is hashed after it was replaced
            replace.write_bytes(new)
        return submit(pool, work, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(ThreadPoolExecutor, "submit", late)
        qsit("score", *pictures, "-o", output)
    assert rows(output.read_text())[0]["size"] == str(len(old))
    assert "1 added, 1 were there already" in qsit("score", *pictures, "-o", output).stderr
    assert scores_in(output)[2] == ("000.png", scores_in(output)[1][1])


def test_a_picture_that_is_gone_keeps_its_score(tmp_path, loaded):
    pictures, output = make_pictures(tmp_path / "pictures", 2), tmp_path / "out.csv"
    qsit("score", *pictures, "-o", output)
    Path(pictures[0]).unlink()
    assert "0 added, 2 were there already" in qsit("score", *pictures, "-o", output).stderr


def test_each_batch_is_on_the_disk_before_the_next_is_computed(tmp_path, loaded, monkeypatch):
    pictures, events = make_pictures(tmp_path / "pictures", 30), []
    add, fsync = ScoreFile.add, os.fsync
    monkeypatch.setattr(ScoreFile, "add", lambda self, record: (events.append("add"), add(self, record)))
    monkeypatch.setattr(journal.os, "fsync", lambda descriptor: (events.append("fsync"), fsync(descriptor)))
    logits = loaded.backend.logits
    monkeypatch.setattr(loaded.backend, "logits", lambda requests: (events.append(len(requests)), logits(requests))[1])
    qsit("score", *pictures, "-o", tmp_path / "out.csv")
    batches = [event for event in events if isinstance(event, int)]
    assert len(batches) >= 3
    text = "".join({"add": "a", "fsync": "f"}.get(event, "B") for event in events)
    # Once the last picture has been asked for, only the end is left to save; that is the last few batches.
    assert text.startswith("fB" + "a" * batches[0] + "fB" + "a" * batches[1] + "f")
    assert text.endswith("af")


@posix
def test_a_killed_run_loses_at_most_a_batch_and_is_gone_on_with(tmp_path):
    pictures, output = make_pictures(tmp_path / "pictures", 64), tmp_path / "out.csv"
    code = "from qsit_metric.cli import main; main()"
    command = [sys.executable, "-c", code, "score", "-", "-m", TIED, "-o", str(output)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=child_environment(), text=True
    )
    process.stdin.write("\n".join(pictures))
    process.stdin.close()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and (not output.exists() or output.read_bytes().count(b"\n") < 10):
        time.sleep(0.01)
    process.kill()
    assert process.wait() == KILLED, process.stderr.read()
    process.stderr.close()
    before = output.read_text()
    kept = [row["path"] for row in rows(before[: FORMATS["csv"]().whole(before.encode())])]
    assert kept == pictures[: len(kept)]
    assert 9 <= len(kept) < len(pictures), "the kill came in the middle"
    for path in kept:  # whoever scored these again would fail
        Path(path).unlink()
    with output.open("a") as file:  # and it broke off in the middle of a line
        file.write(pictures[len(kept)] + ",3.1")
    done = qsit("score", "-", "-m", TIED, "-o", output, input="\n".join(pictures))
    assert done.stdout == ""
    assert f"{len(pictures) - len(kept)} added, {len(kept)} were there already" in done.stderr
    assert "\x1b" not in done.stderr
    after = output.read_text()
    assert after.startswith(before[: FORMATS["csv"]().whole(before.encode())])
    assert [row["path"] for row in rows(after)] == pictures
    assert all(float(row["score"]) > 1 for row in rows(after))


@posix
def test_ctrl_c_in_a_real_run(tmp_path):
    pictures, output = make_pictures(tmp_path / "pictures", 200), tmp_path / "out.jsonl"
    # A test run in the background of a shell inherits that SIGINT is ignored; a user's terminal does not.
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    code += "from qsit_metric.cli import main; main()"
    command = [sys.executable, "-c", code, "score", str(tmp_path / "pictures"), "-m", TIED, "-o", str(output)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, env=child_environment(), text=True)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and (not output.exists() or output.read_bytes().count(b"\n") < 10):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130, said
    lines = [json.loads(line) for line in output.read_text().splitlines()]
    assert [line["path"] for line in lines] == pictures[: len(lines)]
    assert f"Stopped after {len(lines)} of 200 pictures. Run the same command again to go on." in said
    assert "Traceback" not in said


@posix
def test_a_closed_pipe_ends_the_run_quietly(tmp_path):
    pictures = make_pictures(tmp_path / "pictures", 30)
    code = "from qsit_metric.cli import main; main()"
    command = [sys.executable, "-c", code, "score", "-", "-m", TIED, "--json"]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=child_environment(),
        text=True,
    )
    process.stdin.write("\n".join(pictures))
    process.stdin.close()
    first = process.stdout.readline()
    process.stdout.close()  # what `| head -1` does
    said = process.stderr.read()
    process.stderr.close()
    assert json.loads(first)["path"] == pictures[0]
    assert (process.wait(), said) == (141, "")


@posix
@pytest.mark.parametrize("arguments", [["models"], ["models", "--json"]])
def test_a_pipe_that_was_closed_before_anything_was_written(arguments):
    code = "import sys; sys.stdin.readline(); from qsit_metric.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=child_environment(),
    )
    process.stdout.close()
    said = process.communicate(b"\n")[1]
    assert (process.returncode, said) == (141, b"")


def test_the_header_of_the_file_is_that_of_stdout():
    assert next(csv.reader(io.StringIO(FORMATS["csv"]().header(LEVELS)))) == HEADER
