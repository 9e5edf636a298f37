"""Results that survive: identity, torn tails, locks, real kills."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from qsit_metric.errors import OutputError, QSiTError
from qsit_metric.files import Files, Stamp
from qsit_metric.journal import (
    Appender,
    Cache,
    Journal,
    Marker,
    check_same,
    csv_line,
    digest,
    read_rows,
    whole_csv,
)

ROOM = Files(OutputError, "output")
MADE = {"model": "q-sit-nano", "settings": {"dtype": "float32", "sizes": (1, 2)}}


def keep(path, *rows, made=MADE):
    with Journal(path, made, ROOM) as journal:
        done = dict(journal.done)
        journal.add(*rows)
    return done


# ---- identity


def test_what_was_made_otherwise_is_refused_in_one_wording(tmp_path):
    other = {"model": "q-sit-nano", "settings": {"dtype": "float16", "sizes": [1, 2]}, "exif": None}
    with pytest.raises(OutputError) as caught:
        check_same(tmp_path, other, MADE, ROOM, what="a map", hint="--overwrite replaces it.")
    told = caught.value
    assert told.expected == "a map made as now (settings.dtype float32), but it has settings.dtype float16"
    assert (told.argument, told.got, told.hint) == ("output", str(tmp_path), "--overwrite replaces it.")
    check_same(tmp_path, json.loads(json.dumps(MADE)), MADE, ROOM)


@pytest.mark.parametrize(
    ("found", "said"), [({}, "b 1\\), but it has b none"), ({"b": 1, "c": 2}, "c none\\), but it has c 2")]
)
def test_a_field_that_one_of_them_lacks_is_named(tmp_path, found, said):
    with pytest.raises(OutputError, match=said):
        check_same(tmp_path, found, {"b": 1}, ROOM)


def test_a_long_value_is_shortened(tmp_path):
    with pytest.raises(OutputError) as caught:
        check_same(tmp_path, {"a": "x" * 500}, {"a": "y"}, ROOM)
    assert len(str(caught.value)) < 300


def test_a_digest_is_that_of_the_content():
    assert digest({"b": 1, "a": (2,)}) == digest({"a": [2], "b": 1}) != digest({"a": [2], "b": 2})
    with pytest.raises(ValueError, match="Out of range"):
        digest({"a": float("nan")})


# ---- markers


def test_a_marker_holds_what_came_of_it_and_refuses_others(tmp_path):
    path = tmp_path / "done.json"
    assert Marker(path, MADE, ROOM).read() is None
    Marker(path, MADE, ROOM).write(rows=3)
    assert Marker(path, MADE, ROOM).read() == {"rows": 3}
    assert Marker(path, MADE, ROOM).claim() == {"rows": 3}
    with pytest.raises(OutputError, match=r"a stage made as now \(model other\), but it has model q-sit-nano. Again\."):
        Marker(path, {**MADE, "model": "other"}, ROOM, what="a stage", hint="Again.").read()
    assert Marker(path, MADE, ROOM).read() == {"rows": 3}


def test_an_identity_as_a_whole_file_is_understood(tmp_path):
    path = tmp_path / "settings.json"
    path.write_text(json.dumps(MADE))
    assert Marker(path, MADE, ROOM).claim() == {}
    with pytest.raises(OutputError, match="but it has model q-sit-nano"):
        Marker(path, {}, ROOM).claim()


def test_of_many_that_claim_a_place_at_the_same_time_one_identity_wins(tmp_path):
    path, refused = tmp_path / "run.json", []

    def claim(number):
        try:
            Marker(path, {"seed": number % 2}, ROOM).claim()
        except OutputError:
            refused.append(number % 2)

    threads = [threading.Thread(target=claim, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    winner = json.loads(path.read_text())["made"]["seed"]
    assert refused == [1 - winner] * 4


# ---- journals


def test_a_later_run_knows_what_is_done(tmp_path):
    path = tmp_path / "a.jsonl"
    assert keep(path, {"key": "a", "x": 1}, {"key": "b", "x": 2}) == {}
    assert keep(path, {"key": "a", "x": 3}) == {"a": {"key": "a", "x": 1}, "b": {"key": "b", "x": 2}}
    assert keep(path)["a"] == {"key": "a", "x": 3}, "the last counts"
    assert [row["x"] for row in read_rows(path, ROOM)] == [1, 2, 3]


def test_a_journal_of_something_else_is_left_alone(tmp_path):
    path = tmp_path / "a.jsonl"
    keep(path, {"key": "a"})
    before = path.read_bytes()
    with pytest.raises(OutputError, match=r"a file with results made as now \(model other\)"):
        keep(path, {"key": "b"}, made={**MADE, "model": "other"})
    assert path.read_bytes() == before


def test_a_journal_whose_first_line_is_the_identity_itself(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(MADE) + '\n{"key": "a"}\n')
    assert list(keep(path, {"key": "b"})) == ["a"]


def test_cut_off_at_any_byte_it_goes_on(tmp_path):
    path = tmp_path / "a.jsonl"
    keep(path, {"key": "a", "text": "é\n"}, {"key": "b"})
    content = path.read_bytes()
    ends = [place + 1 for place, byte in enumerate(content) if byte == 10]
    for cut in range(len(content) + 1):
        path.write_bytes(content[:cut])
        done = keep(path, {"key": "c"})
        assert len(done) == max(sum(end <= cut for end in ends) - 1, 0)
        assert [row["key"] for row in read_rows(path, ROOM)] == [*done, "c"]


@pytest.mark.parametrize("line", ["no json", "[1]", '{"x": 1}'])
def test_lines_of_something_else_are_named(tmp_path, line):
    path = tmp_path / "a.jsonl"
    keep(path, {"key": "a"})
    path.write_text(path.read_text() + line + "\n")
    for read in (lambda: keep(path), lambda: read_rows(path, ROOM)):
        with pytest.raises(OutputError, match="a result of a run"):
            read()


def test_numbers_that_json_has_no_form_for_are_refused_before_anything_is_written(tmp_path):
    path = tmp_path / "a.jsonl"
    with pytest.raises(ValueError, match="Out of range"):
        keep(path, {"key": "a"}, {"key": "b", "x": float("inf")})
    assert keep(path) == {}


def test_a_file_in_use_is_refused_and_free_afterwards(tmp_path):
    path = tmp_path / "a.jsonl"
    with Journal(path, MADE, ROOM), pytest.raises(OutputError, match="no other run is writing"):
        Journal(path, MADE, ROOM)
    keep(path)


WRITE = """
import sys, time
from pathlib import Path
from qsit_metric.errors import OutputError
from qsit_metric.files import Files
from qsit_metric.journal import Journal
with Journal(Path(sys.argv[1]), {"a": 1}, Files(OutputError)) as journal:
    print(len(journal.done), flush=True)
    for number in range(len(journal.done), 10**6):
        journal.add({"key": number, "text": "x" * 5000})
"""


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_a_killed_process_loses_at_most_its_last_line_and_lets_go(tmp_path):
    path, before = tmp_path / "a.jsonl", 0
    for _ in range(2):
        process = subprocess.Popen([sys.executable, "-c", WRITE, str(path)], stdout=subprocess.PIPE, text=True)
        assert int(process.stdout.readline()) == before
        while path.stat().st_size < (before + 20) * 5000:
            assert process.poll() is None
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        done = keep(path, made={"a": 1})
        assert list(done) == list(range(len(done)))
        assert len(done) > before
        before = len(done)


def test_without_an_identity_of_its_own(tmp_path):
    path = tmp_path / "part-0.jsonl"
    keep(path, {"key": "a"}, made=None)
    assert list(keep(path, made=None)) == ["a"]
    assert path.read_text() == '{"key": "a"}\n'


def test_nothing_is_changed_before_the_first_append(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"one\ntwo\nthr")
    with Appender(path, ROOM) as file:
        assert (file.content, file.torn) == (b"one\ntwo\n", b"thr")
    assert path.read_bytes() == b"one\ntwo\nthr"
    with Appender(path, ROOM) as file:
        file.append("four\n")
        file.append("five\n")
    assert path.read_bytes() == b"one\ntwo\nfour\nfive\n"
    with Appender(path, ROOM) as file:
        file.restart()
        file.append("again\n")
    assert path.read_bytes() == b"again\n"


# ---- CSV


def test_whole_rows_may_hold_newlines():
    row = csv_line(["a\nb", 'say "x"', None])
    assert row == '"a\nb","say ""x""",\n'
    assert whole_csv(row.encode() + b'"half\n') == len(row)


# ---- caches


def test_a_cache_keeps_each_reply_under_its_request(tmp_path):
    cache, key = Cache(tmp_path / "cache", ROOM), digest({"ask": "x"})
    assert cache.get(key) is None
    cache.put(key, {"reply": "y"})
    assert Cache(tmp_path / "cache", ROOM).get(key) == {"reply": "y"}
    cache.path(key).write_text("{")
    with pytest.raises(QSiTError, match=r"`output`: got .*, expected a JSON file. Delete this file to ask again."):
        cache.get(key)


# ---- stamps


def test_a_stamp_tells_a_file_that_was_replaced(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    path.write_bytes(b"abc")
    stamp = Stamp.of(path)
    assert stamp.size == 3
    assert stamp.sha256.startswith("ba7816bf")
    assert stamp.holds(path)
    os.utime(path, (1, 1))
    assert stamp.holds(path), "another time and the same content"
    path.write_bytes(b"abcd")
    assert not stamp.holds(path), "another size"
    path.write_bytes(b"abd")
    os.utime(path, (1, 1))
    assert not stamp.holds(path), "another content of that size"
    path.unlink()
    assert stamp.holds(path), "a file that is gone takes its result not with it"


def test_the_time_of_a_file_spares_the_reading(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    path.write_bytes(b"abc")
    os.utime(path, ns=(10**18 + 123456789, 10**18 + 123456789))
    stamp = Stamp.of(path)
    assert stamp.modified == "2001-09-09T01:46:40.123456Z"
    monkeypatch.setattr("qsit_metric.files.sha256", lambda path: pytest.fail("it was read"))
    assert stamp.holds(path)
    path.write_bytes(b"abcd")
    assert not stamp.holds(path)


def test_a_file_that_changes_while_it_is_read_is_never_the_same(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    path.write_bytes(b"abc")

    def changed(place: Path) -> str:
        os.utime(place, (1, 1))
        return "ba7816bf"

    monkeypatch.setattr("qsit_metric.files.sha256", changed)
    stamp = Stamp.of(path)
    assert stamp.sha256 == ""
    assert not stamp.holds(path)
