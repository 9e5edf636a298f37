"""Runs that are cut, shared and gone on with end as if nothing had happened; what they cannot do they say."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a program of the checkout, which nobody installs

from benchmarks.artefacts import finished
from benchmarks.runs import Pace, Process, Results, bar, describe_run, question_run, score_run
from benchmarks.runs.results import awaited
from benchmarks.runs.run import Run
from conftest import IMAGES
from qsit_metric import QSiTError, console
from qsit_metric.batching import Timing, ahead
from qsit_metric.evaluation import EvaluationError, Item, Manifest, Question, evaluate, evaluate_questions
from qsit_metric.evaluation.multiple_choice import RULES
from qsit_metric.metric import opened

ROOT = Path(__file__).resolve().parents[1]
NAMES = ("tiny_7x5.png", "gray_256.png", "tile_384.png", "rgba_300.png")
MANY = Manifest("many", [Item(f"{number}.png", number % 7, f"id-{number}") for number in range(30)], "images")
JOB = """
import sys, time
from pathlib import Path
from benchmarks.runs import score_run
from qsit_metric.evaluation import Manifest

def stub(path):
    time.sleep(float(sys.argv[3]))
    return len(path) + int(Path(path).stem) ** 2 % 11 / 11

score_run(stub, Manifest.load(sys.argv[2], root="images", name="many"), Path(sys.argv[1]))
"""

posix = pytest.mark.skipif(sys.platform == "win32", reason="signals, limits and file locks of POSIX")


def stub(path: str) -> float:
    """The metric of `JOB`."""
    return len(path) + int(Path(path).stem) ** 2 % 11 / 11


def plain(found: Results) -> list[dict]:
    """The rows without what differs from run to run."""
    return [{name: value for name, value in row.items() if name not in ("seconds", "waited")} for row in found.rows]


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing disturbed."""
    return score_run(stub, MANY, tmp_path_factory.mktemp("whole") / "stub" / "many")


def job(folder: Path, tmp_path: Path, pause: float, launch: int = 0) -> subprocess.Popen[str]:
    """The same run in a process of its own, or `accelerate launch` with so many."""
    (tmp_path / "job.py").write_text(JOB)
    MANY.save(tmp_path / "many.json")
    start = [sys.executable]
    if launch:
        config = str(ROOT / "train" / "configs" / "cpu2.yaml")
        start += ["-m", "accelerate.commands.launch", "--config_file", config]
        start += ["--num_processes", str(launch), "--main_process_port", "0"]
    path = os.pathsep.join([str(ROOT), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [*start, str(tmp_path / "job.py"), str(folder), str(tmp_path / "many.json"), str(pause)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path},
        text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def wait_for_lines(folder: Path, count: int, process: subprocess.Popen[str]) -> None:
    for _ in range(6000):
        if sum(path.read_bytes().count(b"\n") for path in folder.glob("part-*.jsonl")) >= count:
            return
        if process.poll() is not None:
            break
        time.sleep(0.02)
    pytest.fail(process.communicate()[0])


# ---- what a run leaves


def test_a_run_keeps_what_evaluate_gives(whole):
    again = evaluate(stub, MANY)
    assert [(row["id"], row["mos"], row["score"]) for row in whole.rows] == [
        (item.id, item.mos, score) for item, score in again.scores
    ]
    assert (whole.complete, whole.total, whole.failed, whole.repeated) == (True, 30, [], 0)
    assert lines(whole.folder / "results.jsonl") == list(whole.rows)
    assert whole.run["made"]["model"] == "stub"
    assert (whole.run["set"], whole.run["sha256"], whole.run["exif"]) == ("many", MANY.sha256, None)
    assert whole.standing() == "many: 30 of 30 done, 0 failed"


def test_nothing_is_done_twice(whole):
    called = []

    def stub(path):
        called.append(path)
        return 1.0

    stub.__qualname__ = "stub"
    assert plain(score_run(stub, MANY, whole.folder)) == plain(whole)
    assert called == []


@posix
def test_a_killed_run_goes_on(whole, tmp_path):
    folder = tmp_path / "run"
    for count in (3, 12):
        process = job(folder, tmp_path, 0.1)
        wait_for_lines(folder, count, process)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        found = Results.read(folder)
        assert count <= len(found.rows) < 30
        assert "the rest is with other processes" in found.standing()
        assert not (folder / "results.jsonl").exists()
    found = score_run(stub, MANY, folder)
    assert plain(found) == plain(whole)
    assert (found.repeated, found.complete) == (0, True)


@posix
def test_two_processes_share_a_run_and_one_goes_on(whole, tmp_path):
    folder = tmp_path / "run"
    pair = job(folder, tmp_path, 0.0, launch=2)
    out = pair.communicate(timeout=500)[0]
    assert pair.returncode == 0, out
    halves = [lines(folder / f"part-0000{rank}.jsonl") for rank in (0, 1)]
    assert [[row["place"] % 2 for row in half] for half in halves] == [[0] * 15, [1] * 15]
    assert plain(Results.read(folder)) == plain(whole)
    assert lines(folder / "results.jsonl") == list(Results.read(folder).rows), "who ends last merges"

    cut = tmp_path / "cut"
    pair = job(cut, tmp_path, 0.3, launch=2)
    wait_for_lines(cut, 4, pair)
    pair.send_signal(signal.SIGTERM)
    pair.communicate(timeout=120)
    assert len(Results.read(cut).rows) < 30
    found = score_run(stub, MANY, cut)
    assert plain(found) == plain(whole)
    assert found.repeated == 0


def test_any_number_of_processes_gives_the_same(whole, tmp_path):
    ran = []
    for rank, world in ((0, 3), (2, 3), (1, 2), (0, 1)):
        found = score_run(stub, MANY, tmp_path, process=Process(rank, world))
        ran.append(len(found.rows))
    assert ran == [10, 20, 25, 30]
    assert plain(found) == plain(whole)
    assert found.repeated == 0


def test_the_environment_says_which_process_this_is(monkeypatch):
    for name, value in (("RANK", "3"), ("WORLD_SIZE", "8"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    monkeypatch.delitem(sys.modules, "accelerate.state", raising=False)
    assert Process.current() == Process(3, 8, 1)
    assert Process.current().share(range(20)) == [3, 11, 19]
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    assert (Process.current().device, Process().device) == ("cuda:1", None)
    monkeypatch.setenv("RANK", "first")
    with pytest.raises(EvaluationError, match="expected whole numbers, as `accelerate launch` sets them"):
        Process.current()
    with pytest.raises(EvaluationError, match="0 <= rank < world"):
        Process(2, 2)


def test_waiting_for_others(whole, tmp_path):
    score_run(stub, MANY, tmp_path, process=Process(0, 2))
    start = time.monotonic()
    assert len(awaited(tmp_path, 0.5).rows) == 15
    assert time.monotonic() - start >= 0.5
    assert awaited(whole.folder, 100).complete
    with pytest.raises(EvaluationError, match="expected a run that has all its 30 results. 15 are there."):
        Results.read(tmp_path).merge()


def test_a_table_is_made_of_what_all_processes_have_done(tmp_path, monkeypatch):
    """The second one starts when the first has nothing left to do."""
    for name, value in (("RANK", "0"), ("WORLD_SIZE", "2"), ("LOCAL_RANK", "0")):
        monkeypatch.setenv(name, value)
    monkeypatch.delitem(sys.modules, "accelerate.state", raising=False)
    own = score_run(stub, MANY, tmp_path)
    other = threading.Timer(0.7, score_run, (stub, MANY, tmp_path), {"process": Process(1, 2)})
    other.start()
    found = finished(own)
    other.join()
    assert (len(own.rows), len(found.rows), found.complete) == (15, 30, True)


# ---- what is refused


@pytest.mark.parametrize(
    ("manifest", "said"),
    [
        (
            Manifest("many", MANY.items[:-1], "images"),
            r"\(n 29, sha256 [\w.]+\), but it has n 30, sha256 [\w.]+\. If its list differs",
        ),
        (Manifest("other", MANY.items, "images"), r"\(set other\), but it has set many\."),
    ],
)
def test_a_changed_manifest_is_refused(whole, manifest, said):
    before = {path: path.read_bytes() for path in whole.folder.iterdir()}
    with pytest.raises(EvaluationError, match=rf"expected the results of a run made as now {said}"):
        score_run(stub, manifest, whole.folder)
    assert {path: path.read_bytes() for path in whole.folder.iterdir()} == before


def test_another_model_or_setting_is_refused(whole, tied, tmp_path):
    with pytest.raises(EvaluationError, match=r"made as now \(made.model len\), but it has made.model stub"):
        score_run(len, MANY, whole.folder)
    with pytest.raises(EvaluationError, match=r"made as now \(seed 1\), but it has seed 0"):
        score_run(stub, MANY, whole.folder, seed=1)
    golden = Manifest("golden", [Item(NAMES[0], 1, "a")], IMAGES)
    score_run(tied, golden, tmp_path)
    with pytest.raises(EvaluationError, match=r"made as now \(exif True\), but it has exif False"):
        score_run(tied, golden, tmp_path, exif=True)


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "part-00000.jsonl").write_text("{}\n")
    with pytest.raises(EvaluationError, match="expected a new folder, or one with a run.json"):
        score_run(stub, MANY, tmp_path)
    with pytest.raises(EvaluationError, match="a run's folder, with a run.json"):
        Results.read(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(EvaluationError, match="expected a file that can be written"):
        score_run(stub, MANY, tmp_path / "file" / "run")
    twice = Manifest("twice", [Item("a.png", 1, "a"), Item("b.png", 2, "a")], "images")
    with pytest.raises(EvaluationError, match="<twice; ids that stand twice: a>"):
        score_run(stub, twice, tmp_path / "twice")


@posix
def test_two_runs_never_write_one_file(whole, tmp_path):
    with (
        Run(tmp_path, whole.run, Process(0, 2)),
        pytest.raises(EvaluationError, match="part-00000.jsonl.*, expected a file that no other run is writing. Wait"),
    ):
        Run(tmp_path, whole.run, Process(0, 1))
    with Run(tmp_path, whole.run, Process(0, 2)), Run(tmp_path, whole.run, Process(1, 2)):
        pass


# ---- lines that break off, and a disk that is full


def test_a_torn_line_is_dropped_and_done_again(whole, tmp_path):
    content = (whole.folder / "part-00000.jsonl").read_bytes()
    start = content[:-1].rfind(b"\n") + 1
    for length in (start + 1, start + 40, len(content) - 1):
        folder = tmp_path / str(length)
        folder.mkdir()
        (folder / "run.json").write_bytes((whole.folder / "run.json").read_bytes())
        (folder / "part-00000.jsonl").write_bytes(content[:length])
        assert len(Results.read(folder).rows) == 29, "a reader passes over it"
        assert plain(score_run(stub, MANY, folder)) == plain(whole)
        assert (folder / "part-00000.jsonl").read_bytes()[:start] == content[:start]
        assert len(lines(folder / "part-00000.jsonl")) == 30


def test_a_damaged_line_in_the_middle_is_said(whole, tmp_path):
    found = score_run(stub, MANY, tmp_path)
    path = found.folder / "part-00000.jsonl"
    text = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*text[:4], "{oops\n", *text[4:]]))
    with pytest.raises(EvaluationError, match=r"<line 5 of .*part-00000.jsonl>, expected a result of a run"):
        Results.read(tmp_path)


@posix
def test_a_full_disk_is_said_and_the_run_goes_on(whole, tmp_path):
    import resource

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    part = tmp_path / "part-00000.jsonl"

    def filling(path):
        if path.endswith(f"{os.sep}7.png"):
            resource.setrlimit(resource.RLIMIT_FSIZE, (part.stat().st_size + 20, limits[1]))
        return stub(path)

    filling.__qualname__ = "stub"
    try:
        with pytest.raises(EvaluationError, match="a file that can be written. The system says: File too large"):
            score_run(filling, MANY, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert len(Results.read(tmp_path).rows) == 7
    assert plain(score_run(stub, MANY, tmp_path)) == plain(whole)


# ---- failures


def test_a_failed_image_is_listed_and_tried_again_when_asked(whole, tmp_path):
    missing = {"3.png", "8.png"}

    def flaky(path):
        if Path(path).name in missing:
            raise OSError("no such picture")
        return stub(path)

    flaky.__qualname__ = "stub"
    found = score_run(flaky, MANY, tmp_path)
    assert [(row["id"], row["score"], row["error"]) for row in found.failed] == [
        (f"id-{place}", None, "OSError: no such picture") for place in (3, 8)
    ]
    assert (len(found.good), found.complete, found.standing()) == (28, True, "many: 30 of 30 done, 2 failed")
    missing.remove("3.png")
    assert len(score_run(flaky, MANY, tmp_path).failed) == 2, "not of itself"
    again = score_run(flaky, MANY, tmp_path, retry_failed=True)
    assert [row["id"] for row in again.failed] == ["id-8"]
    assert again.repeated == 2
    missing.clear()
    last = score_run(flaky, MANY, tmp_path, retry_failed=True, process=Process(0, 1))
    assert plain(last) == plain(whole)
    assert lines(tmp_path / "results.jsonl") == list(last.rows)


def test_of_several_lines_of_an_id_the_first_good_one_counts(whole, tmp_path):
    row = {"id": "id-0", "place": 0, "seconds": 1.0, "waited": 0.25}
    with Run(tmp_path, whole.run, Process(0, 2)) as run:
        run.add({**row, "error": "first"})
    with Run(tmp_path, whole.run, Process(1, 2)) as run:
        run.add({**row, "error": "", "score": 1})
        run.add({**row, "error": "", "score": 2})
        run.add({**row, "error": "last"})
    found = Results.read(tmp_path)
    assert [one["score"] for one in found.rows] == [1]
    assert found.repeated == 3
    assert found.pace == Pace(4, 4.0, 1.0)
    assert (found.pace.per_second, found.pace.waiting) == (1.0, 0.25)
    with Run(tmp_path, whole.run, Process(1, 2)) as run:
        run.add({**row, "id": "strange", "error": ""})
    with pytest.raises(EvaluationError, match="results of this set, not of 'strange'"):
        score_run(stub, MANY, tmp_path)


# ---- with a model


def test_scores_of_a_model_and_its_pace(tied, tmp_path):
    manifest = Manifest("golden", [Item(name, place, name) for place, name in enumerate([*NAMES, "no.png"])], IMAGES)
    seen = []
    first = score_run(tied, manifest, tmp_path, process=Process(1, 2), progress=lambda *now: seen.append(now))
    assert [row["place"] for row in first.rows] == [1, 3]
    assert seen == [(0, 2), (1, 2), (2, 2)]
    found = score_run(tied, manifest, tmp_path)
    scores = tied.score([IMAGES / name for name in NAMES], exif=False)
    assert [row["score"] for row in found.good] == pytest.approx([float(score) for score in scores], abs=1e-5)
    assert [row["level"] for row in found.good] == [score.level for score in scores]
    assert [row["probs"] for row in found.good] == [pytest.approx(score.probs, abs=1e-5) for score in scores]
    assert [(row["id"], "no.png" in row["error"]) for row in found.failed] == [("no.png", True)]
    assert found.run["made"]["model"] == "tied"
    assert (found.run["made"]["device"], found.run["made"]["revision"]) == ("cpu", tied.info["revision"])
    assert found.run["recipe"]["question"] == tied.recipe.question
    assert found.pace.n == 5
    assert 0 < found.pace.waiting < 1
    assert found.pace.per_second == pytest.approx(5 / sum(row["seconds"] for row in found.rows))


def test_slow_pictures_are_time_that_the_model_waited(tied, tmp_path, monkeypatch):
    prepare = tied.backend.prepare
    monkeypatch.setattr(tied.backend, "prepare", lambda picture: time.sleep(0.5) or prepare(picture))
    found = score_run(tied, Manifest("golden", [Item(NAMES[0], 1, "a"), Item(NAMES[1], 1, "b")], IMAGES), tmp_path)
    assert 0.45 < found.pace.waited <= found.pace.seconds
    views = opened(tied, [IMAGES / NAMES[0]], timing=(timing := Timing()))
    next(views).close()
    assert timing.waited > 0.45


def test_waiting_is_what_computing_does_not_hide():
    def seconds(reading: float, computing: float) -> float:
        timing = Timing()
        for _ in timing.watch(ahead(range(8), lambda _: time.sleep(reading), workers=2)):
            time.sleep(computing)
        return timing.waited

    # A busy machine wakes threads late, so one quiet try of several is enough.
    hidden = any(seconds(reading=0.05, computing=0.1) < 0.4 for _ in range(5))
    assert hidden, "read while the consumer computes: only the first is waited for"
    assert seconds(reading=0.2, computing=0.0) > 0.75, "8 pictures by 2 threads"


def test_views_are_those_of_open(tied):
    images = [IMAGES / NAMES[0], "no.png", IMAGES / NAMES[3]]
    found = list(opened(tied, images, exif=False))
    assert isinstance(found[1], QSiTError)
    for place in (0, 2):
        with tied.open(images[place], exif=False) as view, found[place] as other:
            assert (other.size, other.source, other.score()) == (view.size, view.source, view.score())


QUESTIONS = [
    Question("q0", NAMES[0], "Is it sharp?", ("Yes", "No"), 0, "yes-no", "distortion"),
    Question("q1", NAMES[1], "What is worst?", ("Blur", "Noise", "Light"), 2, "what", "other"),
    Question("q2", NAMES[0], "How sharp is it?", ("Good", "Poor"), 1, "how", "in-context distortion"),
    Question("q3", NAMES[1], "Is it dark?", ("Yes", "No"), None, "yes-no", "in-context other"),
    Question("q4", "no.png", "Is it dark?", ("Yes", "No"), 1, "yes-no", "in-context other"),
]


@pytest.fixture(scope="module")
def asked(tied, tmp_path_factory):
    folder = tmp_path_factory.mktemp("asked")
    first = question_run(tied, QUESTIONS, IMAGES, folder, max_new_tokens=4, process=Process(1, 2))
    return first, question_run(tied, QUESTIONS, IMAGES, folder, max_new_tokens=4)


def test_every_question_is_judged_by_all_rules(tied, asked):
    first, found = asked
    assert [row["id"] for row in first.rows] == ["q1", "q3"], "questions about one image stay together"
    assert [row["id"] for row in found.rows] == ["q0", "q1", "q2", "q3", "q4"]
    for rule in RULES:
        report = evaluate_questions(tied, QUESTIONS, IMAGES, rule, max_new_tokens=4)
        assert [row["correct"][rule] for row in found.good] == [reply.correct for reply in report.replies]
        field = "choice" if rule == "logits" else "reply"
        assert [row[field] for row in found.good] == [str(reply.answer) for reply in report.replies]
    assert found.rows[3]["correct"] == dict.fromkeys(RULES, None)
    assert [row["id"] for row in found.failed] == ["q4"]
    assert found.pace.n == 5
    assert found.pace.waited > 0
    assert (found.run["rules"], found.run["max_new_tokens"]) == (["authors", "strict", "logits"], 4)


def test_other_questions_or_rules_are_refused(tied, asked, tmp_path):
    changed = [replace(QUESTIONS[0], answer=1), *QUESTIONS[1:]]
    with pytest.raises(EvaluationError, match="sha256"):
        question_run(tied, changed, IMAGES, asked[1].folder, max_new_tokens=4)
    with pytest.raises(EvaluationError, match=r"made as now \(max_new_tokens 200\), but it has max_new_tokens 4"):
        question_run(tied, QUESTIONS, IMAGES, asked[1].folder)
    with pytest.raises(EvaluationError, match="expected one of logits, authors, strict"):
        question_run(tied, QUESTIONS, IMAGES, tmp_path, ["loose"])
    with pytest.raises(EvaluationError, match="expected at least one of each"):
        question_run(tied, [], IMAGES, tmp_path)


def test_only_what_a_rule_needs_is_asked(tied, tmp_path):
    found = question_run(tied, QUESTIONS[:1], IMAGES, tmp_path, ["logits"])
    assert found.rows[0]["choice"] in ("Yes", "No")
    assert "reply" not in found.rows[0]
    assert list(found.rows[0]["correct"]) == ["logits"]


def test_descriptions(tied, tmp_path):
    found = describe_run(tied, [NAMES[0], "no.png", NAMES[1]], IMAGES, tmp_path, max_new_tokens=4)
    said = tied.describe([IMAGES / NAMES[0], IMAGES / NAMES[1]], max_new_tokens=4, exif=False)
    assert [row["reply"] for row in found.good] == [str(one) for one in said]
    assert [row["finished"] for row in found.good] == [one.finished for one in said]
    assert [row["id"] for row in found.failed] == ["no.png"]
    with pytest.raises(EvaluationError, match=r"made as now \(prompt Say more.*\), but it has prompt Describe "):
        describe_run(tied, [NAMES[0], "no.png", NAMES[1]], IMAGES, tmp_path, "Say more.", max_new_tokens=4)


# ---- the bar


def test_the_bar_is_for_who_looks(monkeypatch):
    screen = io.StringIO()
    monkeypatch.setattr(console, "err", lambda: Console(file=screen, force_terminal=True, width=100))
    for watched, rank in ((False, 0), (True, 1)):
        monkeypatch.setattr(console, "watched", lambda _, watched=watched: watched)
        with bar("livec", Process(rank, 2)) as progress:
            progress(3, 5)
    assert screen.getvalue() == ""
    with bar("livec", Process(0, 2)) as progress:
        progress(3, 5)
    assert "livec" in screen.getvalue()
    assert "3/5" in screen.getvalue()
