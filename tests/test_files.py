"""Files that are whole or not there, the errors of a room, and locks that end with their process."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from qsit_metric import files
from qsit_metric.errors import CheckpointError, OutputError
from qsit_metric.files import Files, locked, write_atomic, writing

posix = pytest.mark.skipif(sys.platform == "win32", reason="forks and permissions of POSIX")


def test_a_block_that_fails_leaves_what_was_there(tmp_path):
    path = tmp_path / "state.pt"
    write_atomic(path, b"old")
    with pytest.raises(TypeError), writing(path) as file:
        file.writelines([b"half of the new", None])
    assert path.read_bytes() == b"old"
    with writing(path) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert [one.name for one in tmp_path.iterdir()] == ["state.pt"], "no draft is left"


def test_a_room_reads_and_writes_with_its_own_error(tmp_path):
    room = Files(CheckpointError, "run", parents=True)
    place = tmp_path / "new" / "folder" / "a.json"
    room.write_json(place, {"ä": [1, 2]})
    assert room.json(place) == {"ä": [1, 2]}
    with pytest.raises(CheckpointError, match=r"`run`: got .*, expected a JSON list\."):
        room.json(place, list)
    place.write_bytes(b"{")
    with pytest.raises(CheckpointError, match=r"expected a JSON file\. Expecting property name"):
        room.json(place)
    place.write_bytes(b"\xff\xfe")
    with pytest.raises(CheckpointError, match=r"expected a readable UTF-8 file\. The system says: .*utf-8"):
        room.text(place)
    place.write_bytes(b"\xef\xbb\xbf[]")
    assert room.json(place, list) == [], "with Excel's mark"
    with pytest.raises(ValueError, match="Out of range"):
        room.write_json(place, float("nan"))
    assert place.read_bytes() == b"\xef\xbb\xbf[]"
    with pytest.raises(CheckpointError, match=r"expected a file that can be written\. The system says: .*exist"):
        room.write(place / "b.json", "")


def test_the_next_step_of_a_room_takes_the_place_of_what_the_system_says(tmp_path):
    with pytest.raises(CheckpointError, match=r"a readable UTF-8 file\. Download it again\.$"):
        Files(CheckpointError, "model", rescue="Download it again.").text(tmp_path / "gone.json")


def test_what_is_refused_inside_a_saving_block_keeps_its_words(tmp_path):
    with pytest.raises(OutputError, match="mine"), Files(CheckpointError).saving(tmp_path / "a"):
        raise OutputError("mine")


def test_file_names_that_are_no_text_are_json_for_any_reader():
    assert files.to_json({"a": "é"}) == '{"a": "é"}'
    name = os.fsdecode(b"\xff.png")
    assert json.loads(files.to_json({"a": name}))["a"] == name
    assert files.to_json(name).isascii()


HOLD = """
import os, sys, time
from pathlib import Path
from qsit_metric.files import locked
with locked(Path(sys.argv[1])) as held:
    child = os.fork() if sys.argv[2] == "forked" else -1
    if child:
        print(held, child, flush=True)
    time.sleep(60)
"""


@posix
@pytest.mark.parametrize("how", ["alone", "forked"])
def test_a_lock_ends_with_a_kill_also_while_a_child_of_the_process_goes_on(tmp_path, how):
    path = tmp_path / "lock"
    process = subprocess.Popen([sys.executable, "-c", HOLD, path, how], stdout=subprocess.PIPE, text=True)
    held, child = process.stdout.readline().split()
    try:
        assert held == "True"
        with locked(path) as mine:
            assert not mine
        process.kill()
        process.wait()
        assert _free(path, seconds=20)  # a child gives it up as soon as it runs
    finally:
        process.kill()
        if how == "forked":
            os.kill(int(child), 9)


def _free(path, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with locked(path) as mine:
            if mine:
                return True
        time.sleep(0.05)
    return False


def test_two_locks_of_one_process_exclude_each_other(tmp_path):
    path = Path(tmp_path / "lock")
    with locked(path) as first, locked(path) as second:
        assert (first, second) == (True, False)
    with locked(path) as again:
        assert again


def test_a_folder_is_there_whole_or_not_at_all(tmp_path):
    place = tmp_path / "runs" / "first"
    with pytest.raises(FileNotFoundError), files.new_folder(place) as work:
        (work / "half").write_text((work / "gone").read_text())
    assert list(place.parent.iterdir()) == []
    for content in ("old", "new"):
        with files.new_folder(place) as work:
            assert list(work.iterdir()) == []
            (work / content).touch()
            assert content == "old" or (place / "old").exists(), "what was there stays until the block is done"
    assert [path.name for path in place.iterdir()] == ["new"]
    assert [path.name for path in place.parent.iterdir()] == ["first"]
