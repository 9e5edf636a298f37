"""The command `qsit`: what it prints, where, and with which exit code. Interrupted runs are in test_cli_resume."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import inspect
import io
import json
import logging
import os
import re
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from conftest import GOLDEN, IMAGES
from hub_server import HubServer
from qsit_metric import Answer, QSiT, Score, __version__, console
from qsit_metric.cli import answers, app, doctor, inputs, models, options, score, scores
from qsit_metric.errors import BackendError, ImageError, InputError
from qsit_metric.files import Stamp
from qsit_metric.hub.cache import Stored, on_disk

TIED = str(GOLDEN / "tied")
LEVELS = ["bad", "poor", "fair", "good", "excellent"]
HEADER = [
    "path",
    "score",
    "unit",
    "level",
    *LEVELS,
    "note",
    "model",
    "revision",
    "recipe",
    "dtype",
    "exif",
    "size",
    "modified",
    "sha256",
]


def make_pictures(folder: Path, count: int) -> list[str]:
    """Small pictures that score differently."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        pixels = np.random.default_rng(index).integers(0, 255 - 5 * (index % 40), (48, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index:03d}.png")
    return sorted(str(path) for path in folder.glob("*.png"))


@pytest.fixture
def pictures(tmp_path):
    return make_pictures(tmp_path / "pictures", 3)


@pytest.fixture
def loaded(tied, monkeypatch):
    """The model is loaded once for all tests that are not about loading."""
    monkeypatch.setattr(options.ModelOptions, "load", lambda self: tied)
    return tied


@pytest.fixture
def quick(loaded, monkeypatch):
    """A score for each content, without a model; missing files fail. For tests of what is done with scores."""

    def found(path):
        try:
            share = zlib.crc32(Path(path).read_bytes()) % 1000 / 1000
        except OSError:
            return ImageError.about("image", path, "an existing file")
        return Score(1 + 4 * share, dict(zip(LEVELS, (1 - share, 0.0, 0.0, 0.0, share), strict=True)))

    monkeypatch.setattr(QSiT, "score_iter", lambda self, images, **_: map(found, images))
    return found


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    for name in ("QSIT_MODEL", "FORCE_COLOR", "COLUMNS", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)


def qsit(*arguments: object, code: int = 0, **kwargs: object):
    """Run a command in this process."""
    separate = {"mix_stderr": False} if "mix_stderr" in inspect.signature(CliRunner).parameters else {}  # click < 8.2
    result = CliRunner(**separate).invoke(app, list(map(str, arguments)), **kwargs)
    assert result.exit_code == code, f"{result.stdout}\n{result.stderr}\n{result.exception!r}"
    assert "\x1b" not in result.output, "no colours outside a terminal"
    return result


def child_environment(**settings: str) -> dict[str, str]:
    """What a user's shell would have; an unbuffered stdout would hide what is left in a buffer at the end."""
    strange = ("PYTHONUNBUFFERED", "FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE")
    clean = {k: value for k, value in os.environ.items() if k not in strange and not k.startswith(("HF_", "QSIT_"))}
    return clean | {"OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8", "HF_HUB_OFFLINE": "1"} | settings


def child(*arguments: object, **kwargs: object) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own."""
    command = [sys.executable, "-c", "from qsit_metric.cli import main; main()", *map(str, arguments)]
    env = child_environment(**kwargs.pop("env", {}))
    return subprocess.run(command, capture_output=True, text=True, check=False, env=env, timeout=120, **kwargs)


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


# ---- the frame: help, version, errors, exit codes


def test_help_imports_nothing_heavy():
    code = """if True:
        import sys
        from qsit_metric.cli import app
        for arguments in (["--help"], ["score", "--help"], ["doctor", "--help"], ["--version"]):
            app(arguments, standalone_mode=False)
        heavy = {"torch", "transformers", "huggingface_hub", "numpy", "PIL", "scipy"} & set(sys.modules)
        print("heavy:", sorted(heavy))
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith(f"qsit-metric {__version__}\nheavy: []\n")


def test_every_command_that_loads_a_model_has_the_same_options():
    names = {"--model", "--device", "--dtype", "--backend", "--recipe", "--revision", "--cache-dir", "--token"}
    for command in ("score", "ask", "describe", "map", "doctor"):
        shown = qsit(command, "--help", env={"COLUMNS": "200"}).stdout
        assert [name for name in (*names, "--offline", "--no-exif", "--debug") if name not in shown] == []
        assert "QSIT_MODEL" in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-m", "q-sit-mimi", "x.png"], "`model`: got 'q-sit-mimi', expected a known name (q-sit-mini,"),
        (["-m", TIED, "--dtype", "float12", "x.png"], "`dtype`: got 'float12', expected one of float32,"),
        (["-m", TIED, "--device", "gpu9", "x.png"], "`device`: got 'gpu9', expected a device of this machine"),
        (["-m", TIED, "--recipe", "trian", "x.png"], "Did you mean 'train'?"),
        (["-m", TIED, "--backend", "lava", "x.png"], "`backend`: got 'lava', expected one of "),
        (["x.png", "--json", "--format", "csv"], "`--format`: got 'csv', expected nothing else together with --json"),
        (["x.png", "--worst", "3", "--best", "2"], "`--best`: got 2, expected nothing else together with --worst."),
        (["x.png", "--overwrite"], "`--overwrite`: got True, expected a file to begin anew. Add --output."),
        (["x.png", "--null"], "`--null`: got 'x.png', expected a list on stdin. Write - among the paths."),
        (["x.png", "-o", "x.txt"], "`--output`: got 'x.txt', expected a name that ends in .csv or .jsonl."),
        (["x.png", "-o", "no/such/x.csv"], "expected a file in a folder that exists. Make the folder 'no/such' first."),
        (["no-such-*.png"], "`PATHS`: got 'no-such-*.png', expected at least one picture."),
    ],
)
def test_what_cannot_be_done_is_one_line_and_exit_code_2(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = qsit("score", *arguments, code=2)
    assert result.stdout == ""
    error = result.stderr.splitlines()[-1]
    assert error.startswith("error: ")
    assert message in error
    assert "Traceback" not in result.stderr
    assert list(tmp_path.iterdir()) == [], "nothing is created by a run that does not begin"


def test_unknown_options_exit_with_2_too():
    assert "--recurse" in qsit("score", "x.png", "--recurse", code=2).stderr


def test_debug_shows_the_traceback_and_not_the_token():
    result = qsit("score", "x.png", "-m", "q-sit-mimi", "--token", "hf_hidden", "--debug", code=2)
    assert "Traceback (most recent call last)" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("error: `model`")
    assert "hf_hidden" not in result.output


def test_a_bug_is_not_dressed_up_as_a_users_error(monkeypatch):
    def broken(self):
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(options.ModelOptions, "load", broken)
    result = CliRunner().invoke(app, ["score", "x.png"])
    assert isinstance(result.exception, ZeroDivisionError)


def test_the_logger_is_given_back_as_it_was(pictures, caplog):
    logger = logging.getLogger("qsit_metric")
    enabled = logger.isEnabledFor(logging.DEBUG)
    before = (logger.level, logger.propagate, list(logger.handlers))
    qsit("score", "-m", "q-sit-mimi", pictures[0], code=2)
    qsit("score", "-m", TIED, pictures[0], "--debug")
    assert (logger.level, logger.propagate, list(logger.handlers)) == before
    assert logger.isEnabledFor(logging.DEBUG) == enabled


@pytest.mark.compat
def test_transformers_is_silent_but_the_download_bar_stays():
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled
    from transformers.utils import logging as theirs

    theirs.enable_progress_bar()  # the Hub client's, too: another test of this process may have switched them off
    before = are_progress_bars_disabled()
    console.hush()
    assert not theirs.is_progress_bar_enabled()
    assert theirs.get_verbosity() == logging.ERROR
    assert are_progress_bars_disabled() == before


@pytest.mark.compat
def test_transformers_is_silent_too_if_it_is_imported_later():
    code = (
        "import sys; from qsit_metric import console, packages; console.hush();"
        "early = 'transformers' in sys.modules; packages.check_transformers();"
        "from transformers.utils import logging; sys.exit(early or logging.is_progress_bar_enabled())"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# ---- score


@pytest.mark.compat
def test_jsonl_has_the_whole_score_and_what_made_it(pictures, tied):
    result = qsit("score", "-m", TIED, "--json", *pictures)
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    made = {"model": TIED, "repo": None, "revision": tied.info["revision"], "recipe": "authors", "dtype": "float32"}
    made |= {"exif": True, "qsit_metric": __version__}
    stamps = {path: dataclasses.asdict(Stamp.of(Path(path))) for path in pictures}
    expected = [{"path": path, **tied.score(path).as_dict(), **made, **stamps[path]} for path in pictures]
    assert [set(line) for line in lines] == [set(line) for line in expected]
    assert len({round(line["score"], 3) for line in lines}) > 1, "pictures that all score alike would prove nothing"
    for line, want in zip(lines, expected, strict=True):
        assert line.pop("probs") == pytest.approx(want.pop("probs"), abs=1e-6)
        assert [line.pop(name) for name in ("score", "unit")] == pytest.approx([want.pop("score"), want.pop("unit")])
        assert line == want
    assert result.stderr == ""


def test_csv_is_what_a_pipe_gets(pictures, loaded):
    found = rows(qsit("score", "-m", TIED, *pictures).stdout)
    assert list(found[0]) == HEADER
    for row, path in zip(found, pictures, strict=True):
        score = loaded.score(path)
        assert (row["path"], row["level"], row["note"]) == (path, score.level, "")
        assert [row[level] for level in LEVELS] == [f"{score.probs[level]:.4f}" for level in LEVELS]
        assert row["score"] == f"{score:.4f}"
        assert [row[name] for name in ("model", "revision", "recipe", "dtype", "exif")] == [
            loaded.info["model"], loaded.info["revision"], "authors", "float32", "True",
        ]  # fmt: skip


def test_the_table_is_for_people(pictures, loaded):
    text = qsit("score", "-m", TIED, "--format", "table", "--sort", "score", *pictures).stdout
    scores = {path: loaded.score(path) for path in pictures}
    order = sorted(pictures, key=lambda path: -scores[path])
    lines = text.splitlines()
    assert lines[0].split() == ["path", "score", "level", "bad-excellent"]
    assert [line.split()[0] for line in lines[2:5]] == order
    for line, path in zip(lines[2:5], order, strict=True):
        bars = console.bars(list(scores[path].probs.values()), ascii_only=False)
        assert line.split()[1:] == [f"{scores[path]:.2f}", scores[path].level, bars]
    assert lines[-1].startswith(f"3 pictures scored: mean {sum(scores.values()) / 3:.2f}, min ")
    assert f"max {scores[order[0]]:.2f} ({order[0]})" in lines[-1]


SHOWN = {
    "csv": lambda text: [row["path"] for row in rows(text)],
    "jsonl": lambda text: [json.loads(line)["path"] for line in text.splitlines()],
    "table": lambda text: [line.split()[0] for line in text.splitlines()[2:-1]],
}


@pytest.mark.parametrize("form", SHOWN)
def test_the_order_and_the_ends_are_for_every_format(tmp_path, quick, form):
    pictures = make_pictures(tmp_path, 5)[::-1]
    worst_first = sorted(pictures, key=quick)

    def shown(*arguments):
        return SHOWN[form](qsit("score", "-m", TIED, *pictures, "--format", form, *arguments).stdout)

    assert shown("--worst", 2) == worst_first[:2]
    assert shown("--best", 2) == worst_first[:2:-1]
    assert shown("--sort", "score") == worst_first[::-1]
    assert shown("--sort", "score", "--reverse") == worst_first
    assert shown("--sort", "path") == sorted(pictures)
    assert shown("--reverse") == pictures[::-1]
    assert shown("--worst", 3, "--sort", "path") == sorted(worst_first[:3])
    assert shown("--worst", 99) == worst_first


def test_a_file_keeps_its_order_and_may_be_shown_in_another(tmp_path, quick):
    pictures, output = make_pictures(tmp_path / "in", 4), tmp_path / "out.csv"
    worst_first = sorted(pictures, key=quick)
    result = qsit("score", "-m", TIED, *pictures, "-o", output, "--worst", 2)
    assert SHOWN["csv"](result.stdout) == worst_first[:2]
    assert SHOWN["csv"](output.read_text()) == pictures
    table = qsit("score", "-m", TIED, *pictures, "-o", output, "--best", 1, "--format", "table").stdout
    assert SHOWN["table"](table) == worst_first[-1:]
    assert table.splitlines()[-1].startswith("4 pictures scored: mean ")
    assert table.splitlines()[-1].endswith("; 1 of them shown")


def test_what_is_no_number_is_the_worst():
    records = [scores.Record(name, value, 0.0, "", {}) for name, value in (("a", 3.0), ("b", float("nan")), ("c", 1.0))]
    assert [one.path for one in score.Order.of(2, None).of_all(records)] == ["b", "c"]
    assert [one.path for one in score.Order("score").of_all(records)] == ["a", "c", "b"]


def test_a_file_may_be_begun_anew(tmp_path, quick):
    pictures, output = make_pictures(tmp_path / "in", 2), tmp_path / "out.csv"
    output.write_text("path,score\nnot,ours\n")
    assert "a .csv file that `qsit score` wrote" in qsit("score", "-m", TIED, pictures[0], "-o", output, code=2).stderr
    assert output.read_text() == "path,score\nnot,ours\n"
    for chosen in (pictures, pictures[1:]):
        result = qsit("score", "-m", TIED, *chosen, "-o", output, "--overwrite")
        assert f"{len(chosen)} added, 0 were there already" in result.stderr
        assert SHOWN["csv"](output.read_text()) == chosen


@pytest.mark.skipif(sys.platform != "linux", reason="names that are no text")
def test_names_that_are_no_text_leave_the_csv_readable(tmp_path, quick):
    first = make_pictures(tmp_path / "in", 1)[0]
    odd, alike = (os.fsencode(tmp_path / "in") + name for name in (b"/caf\xe9.png", b"/caf\\udce9.png"))
    Path(first).rename(os.fsdecode(odd))
    Path(os.fsdecode(alike)).write_bytes(Path(os.fsdecode(odd)).read_bytes())
    output = tmp_path / "out.csv"
    shown = qsit("score", "-m", TIED, tmp_path / "in").stdout_bytes.decode("utf-8")
    assert [row["path"].rpartition("/")[2] for row in rows(shown)] == ["caf\\u005cudce9.png", "caf\\udce9.png"]
    for counts in ("2 added, 0 were there already", "0 added, 2 were there already"):
        assert counts in qsit("score", "-m", TIED, tmp_path / "in", "-o", output).stderr
    assert len(rows(output.read_bytes().decode("utf-8"))) == 2
    assert [os.fsencode(path) for path in scores.ScoreFile(output).done] == sorted([odd, alike])


# ---- outputs that are lost

FULL = Path("/dev/full")


@pytest.mark.skipif(not FULL.exists(), reason="a device that is always full")
def test_a_stdout_that_takes_nothing_is_one_line_and_the_file_is_kept(pictures, tmp_path, monkeypatch, capsys, quick):
    for form, kept in (("csv", 0), ("table", 3)):
        output = tmp_path / f"{form}.csv"
        with monkeypatch.context() as patch, FULL.open("w", encoding="utf-8") as full:
            patch.setattr(sys, "stdout", full)
            code = app(["score", "-m", TIED, *pictures, "-o", str(output), "--format", form], standalone_mode=False)
        assert code == 2
        said = capsys.readouterr().err.splitlines()
        assert said[-1].startswith(
            "error: `stdout`: got <No space left on device>, expected a place that takes what is"
        )
        assert len(scores.ScoreFile(output).done) == kept


@pytest.mark.skipif(not FULL.exists(), reason="a device that is always full")
@pytest.mark.parametrize("command", ["models", "models --json", "--help", "--version", "score --help"])
def test_help_and_lists_that_are_lost_are_one_line_too(command, monkeypatch, capsys):
    with monkeypatch.context() as patch, FULL.open("w", encoding="utf-8") as full:
        patch.setattr(sys, "stdout", full)
        assert app(command.split(), standalone_mode=False) == 2
    assert capsys.readouterr().err.count("error: `stdout`: got <No space left on device>") == 1


def test_a_stdout_that_was_closed_before_is_said():
    command = [sys.executable, "-c", "from qsit_metric.cli import main; main()", "models"]
    closing = ["sh", "-c", 'exec "$@" >&-', "sh", *command]
    done = subprocess.run(closing, capture_output=True, text=True, check=False, env=child_environment())
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("error: `stdout`: got <Bad file descriptor>")


def test_options_of_the_model_arrive(pictures):
    arguments = ["--dtype", "bfloat16", "--recipe", "train", "--no-exif", "--json", pictures[0]]
    line = json.loads(qsit("score", *arguments, env={"QSIT_MODEL": TIED}).stdout)
    assert [line[name] for name in ("model", "dtype", "recipe", "exif")] == [TIED, "bfloat16", "train", False]


def test_no_exif_reads_the_pixels_as_they_lie(tmp_path, loaded):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 160, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    found = [
        json.loads(qsit("score", "-m", TIED, "--json", tmp_path / "a.png", *flag).stdout)["score"]
        for flag in ([], ["--no-exif"])
    ]
    assert found == pytest.approx([loaded.score(tmp_path / "a.png"), loaded.score(pixels)], abs=1e-6)
    assert found[0] != pytest.approx(found[1], abs=1e-3)


def test_failed_pictures_are_listed_at_the_end_and_do_not_sink_the_others(pictures, tmp_path, loaded):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    missing = str(tmp_path / "missing.png")
    result = qsit("score", "-m", TIED, pictures[0], broken, missing, pictures[1], code=1)
    assert [row["path"] for row in rows(result.stdout)] == pictures[:2]
    failed = result.stderr.splitlines()
    assert [line.split(": ")[:2] for line in failed] == [["failed", str(broken)], ["failed", missing]]
    assert "expected a picture format that Pillow reads" in failed[0]
    assert "expected an existing file" in failed[1]
    assert [line.count(path) for line, path in zip(failed, (str(broken), missing), strict=True)] == [1, 1]


def test_fail_under_is_for_pipelines(pictures, loaded):
    scores = sorted(loaded.score(pictures))
    limit = (scores[0] + scores[1]) / 2
    result = qsit("score", "-m", TIED, *pictures, "--fail-under", limit, code=3)
    assert len(rows(result.stdout)) == 3
    assert "1 of 3 scores" in result.stderr
    qsit("score", "-m", TIED, *pictures, "--fail-under", scores[0] - 0.01)
    qsit("score", "-m", TIED, *pictures, "missing.png", "--fail-under", limit, code=1)


def test_a_score_that_is_not_a_number_is_below_everything(pictures, monkeypatch, loaded):
    nothing = Score(float("nan"), dict.fromkeys(LEVELS, float("nan")))
    monkeypatch.setattr(QSiT, "score_iter", lambda self, images, **_: (nothing for _ in images))
    qsit("score", "-m", TIED, pictures[0], "--fail-under", 1, code=3)


def test_pictures_with_several_frames_carry_a_note_and_a_warning(tmp_path, loaded):
    frames = [Image.new("RGB", (40, 30), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    result = qsit("score", "-m", TIED, tmp_path)
    assert rows(result.stdout)[0]["note"] == "first of 2 frames"
    assert result.stderr == f"warning: {tmp_path / 'a.gif'}: only the first of 2 frames is used\n"
    assert "first of 2 frames" in qsit("score", "-m", TIED, tmp_path, "--format", "table").stdout


def test_ctrl_c_keeps_what_is_done_and_says_how_to_go_on(pictures, tmp_path, monkeypatch):
    score_iter = QSiT.score_iter

    def interrupted(self, images, **kwargs):
        results = score_iter(self, images, **kwargs)
        yield next(results)
        raise KeyboardInterrupt

    output = tmp_path / "out.csv"
    with monkeypatch.context() as patch:
        patch.setattr(QSiT, "score_iter", interrupted)
        result = qsit("score", "-m", TIED, *pictures, code=130)
        assert len(rows(result.stdout)) == 1
        assert "Stopped after 1 of 3 pictures. With --output FILE a later run could go on." in result.stderr
        result = qsit("score", "-m", TIED, *pictures, "-o", output, "--format", "table", code=130)
        assert "Stopped after 1 of 3 pictures. Run the same command again to go on." in result.stderr
        assert pictures[0] in result.stdout
    result = qsit("score", "-m", TIED, *pictures, "-o", output)
    assert "2 added, 1 were there already" in result.stderr
    monkeypatch.setattr(options.ModelOptions, "load", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
    assert qsit("score", *pictures, code=130).stderr == "Interrupted.\n"


ON_A_TERMINAL = """if True:
    import os, sys
    from qsit_metric.cli import app
    pipe, *arguments = sys.argv[1:]
    app(arguments, standalone_mode=False)
    os.dup2(int(pipe), 1)  # from here on only stderr is the terminal
    app([*arguments, "--no-exif"], standalone_mode=False)
"""


def test_a_terminal_gets_a_table_and_a_progress_bar_and_a_pipe_beside_it_only_csv(tmp_path):
    pty = pytest.importorskip("pty")
    paths = make_pictures(tmp_path, 12)
    (main, other), (pipe, end) = pty.openpty(), os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-c", ON_A_TERMINAL, str(end), "score", "-m", TIED, *paths],
        stdout=other,
        stderr=other,
        pass_fds=[end],
        env=child_environment(TERM="xterm-256color", COLUMNS="200"),
    )
    os.close(other)
    os.close(end)
    shown = b""
    with contextlib.suppress(OSError):  # Linux reports the end of a terminal so
        while chunk := os.read(main, 65536):
            shown += chunk
    os.close(main)
    with os.fdopen(pipe, newline="") as piped:
        found = rows(piped.read())
    assert process.wait() == 0
    assert [(row["path"], row["exif"]) for row in found] == [(path, "False") for path in paths]
    text = shown.decode()
    table, _, beside = text.partition("12 pictures scored: mean")
    for part in (table, beside):
        assert "Loading " in part
        assert "images/s" in part
        assert "12/12" in part
    assert "bad-excellent" in table
    assert "bad-excellent" not in beside
    assert "path,score" not in text
    assert "Loading weights" not in text
    assert "arning" not in text


def test_forced_colours_do_not_turn_a_pipe_into_a_terminal(pictures, loaded):
    result = qsit("score", *pictures, env={"FORCE_COLOR": "1"})
    assert len(rows(result.stdout)) == 3
    assert result.stderr == ""


# ---- which pictures are meant


@pytest.fixture
def tree(tmp_path, monkeypatch):
    for name in ("b.PNG", "a.jpg", "notes.txt", ".hidden.png", "sub/c.webp", "sub/.git/d.png", "sub/deep/e.tif"):
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "tree" / "f[1].png").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path / "tree"


def expand(*given: str, recursive: bool = False) -> list[str]:
    return [path.replace(os.sep, "/") for path in inputs.expand(given, recursive=recursive)]


def test_a_folder_means_its_pictures(tree):
    assert expand("tree") == ["tree/a.jpg", "tree/b.PNG", "tree/f[1].png"]
    deep = ["tree/sub/c.webp", "tree/sub/deep/e.tif"]
    assert expand("tree", recursive=True) == ["tree/a.jpg", "tree/b.PNG", "tree/f[1].png", *deep]


def test_patterns_are_expanded_where_the_shell_did_not(tree):
    assert expand("tree/*.*g") == ["tree/a.jpg", "tree/f[1].png"]
    assert expand("tree/**/*.tif") == ["tree/sub/deep/e.tif"]
    assert expand("tree/su*") == ["tree/sub/c.webp"]
    assert expand(f"{tree}/[ab].*") == [f"{tree}/a.jpg", f"{tree}/b.PNG"]
    assert expand("tree/f[1].png") == ["tree/f[1].png"], "a name that exists is meant literally"


def test_a_home_directory_that_the_shell_left_alone(tree, monkeypatch):
    monkeypatch.setenv("HOME", str(tree))
    assert expand("~/sub") == [f"{tree}/sub/c.webp"]
    assert expand("~no-such-user/x.png") == ["~no-such-user/x.png"]


def test_each_picture_once_and_in_order(tree):
    assert expand("tree/b.PNG", "./tree/b.PNG", "tree", "nope.png") == [
        "tree/b.PNG", "tree/a.jpg", "tree/f[1].png", "nope.png",
    ]  # fmt: skip
    assert expand("http://x/a.png?b=*", "http://x//a.png") == ["http://x/a.png?b=*", "http://x//a.png"]


def test_what_holds_no_picture_is_said(tree, caplog):
    assert expand("tree/sub/.git", "tree/*.bmp", "tree/a.jpg") == ["tree/sub/.git/d.png", "tree/a.jpg"]
    (tree / "empty").mkdir()
    with pytest.raises(InputError, match="`PATHS`: got 'tree/empty', expected at least one picture"):
        expand("tree/empty")
    assert [record.getMessage() for record in caplog.records] == [
        "no pictures in 'tree/*.bmp'",
        "no pictures in 'tree/empty' (-r looks into its folders)",
    ]


def test_a_list_on_stdin(pictures, loaded):
    text = f"{pictures[0]}\r\n\n{pictures[1]}\n"
    result = qsit("score", "-m", TIED, "-", pictures[2], input=text)
    assert [row["path"] for row in rows(result.stdout)] == pictures


NAMES = ("a.jpg", "sub/ü [1].png", "日本.png")


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_lists_in_the_encodings_that_are_about(encoding, end):
    for last in ("", end):
        assert [name for name in inputs._names((end.join(NAMES) + last).encode(encoding), null=False) if name] == [
            *NAMES
        ]
    mark = "\ufeff" if encoding[-3:] in ("-le", "-be") else ""
    assert inputs._names((mark + end.join(NAMES)).encode(encoding), null=False) == [*NAMES]


def test_a_list_of_names_that_end_in_nul(pictures, quick, tmp_path):
    odd = tmp_path / "two\nlines.png"
    odd.write_bytes(Path(pictures[0]).read_bytes())
    text = "\0".join([pictures[1], str(odd), ""])
    result = qsit("score", "-m", TIED, "-0", "-", input=text)
    assert [row["path"] for row in rows(result.stdout)] == [pictures[1], str(odd)]
    assert "--null takes names that end in NUL" in qsit("score", "-m", TIED, "-", input=text, code=2).stderr
    cut = "a.png\nb.png".encode("utf-16")[:-1]
    assert "it is no whole UTF-16-LE" in qsit("score", "-m", TIED, "-", input=cut, code=2).stderr


def test_what_is_too_long_for_a_name_is_a_picture_that_is_not_there(pictures, quick):
    result = qsit("score", "-m", TIED, pictures[0], "x" * 300, code=1)
    assert len(rows(result.stdout)) == 1
    assert result.stderr.startswith("failed: xxxx")


# ---- ask and describe


def test_ask_prints_the_answer(loaded):
    picture, question = IMAGES / "tile_384.png", "Is this image blurry?"
    answer = loaded.ask(picture, question, max_new_tokens=5)
    result = qsit("ask", "-m", TIED, picture, question, "--max-new-tokens", 5)
    assert result.stdout == f"{console.printable(str(answer))}\n"
    assert result.stderr == "(cut off after 5 tokens; --max-new-tokens N allows more)\n"


def test_ask_with_choices_shows_their_probabilities(loaded):
    picture, choices = str(IMAGES / "tile_384.png"), ["blur", "noise"]
    answer = loaded.ask(picture, "Which?", choices=choices)
    flags = ["--choice", "blur", "--choice", "noise"]
    lines = qsit("ask", "-m", TIED, picture, "Which?", *flags).stdout.splitlines()
    assert lines[0] == answer.choice
    assert [line.split()[:2] for line in lines[1:]] == [[name, f"{answer.probs[name]:.3f}"] for name in choices]
    found = json.loads(qsit("ask", "-m", TIED, picture, "Which?", "Why?", *flags, "--json").stdout)
    assert found["path"] == picture
    assert [one["question"] for one in found["answers"]] == ["Which?", "Why?"]
    assert found["answers"][0]["choice"] == answer.choice
    assert found["answers"][0]["probs"] == pytest.approx(answer.probs, abs=1e-6)
    assert (found["recipe"], found["dtype"], found["qsit_metric"]) == ("authors", "float32", __version__)
    generated = qsit("ask", "-m", TIED, picture, "Which?", *flags, "--method", "generate", "--max-new-tokens", 3)
    assert "does not name exactly one of the choices" in generated.stderr


def test_several_questions_are_told_apart(loaded):
    lines = qsit("ask", "-m", TIED, IMAGES / "tiny_7x5.png", "One?", "Two?", "--max-new-tokens", 2).stdout.splitlines()
    assert lines[0::2] == ["One?", "Two?"]


def test_what_cannot_be_asked(pictures, loaded):
    assert "`question`: got ' '" in qsit("ask", "-m", TIED, pictures[0], " ", code=2).stderr
    assert "2 to 26 of them" in qsit("ask", "-m", TIED, pictures[0], "Which?", "--choice", "a", code=2).stderr
    assert "expected an existing file" in qsit("ask", "-m", TIED, "nope.png", "Which?", code=2).stderr


def test_describe_goes_on_after_a_failure(pictures, loaded):
    arguments = ["describe", "-m", TIED, pictures[0], "nope.png", pictures[1], "--max-new-tokens", 3]
    result = qsit(*arguments, "--json", code=1)
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["path"] for line in lines] == pictures[:2]
    assert lines[0]["description"] == str(loaded.describe(pictures[0], max_new_tokens=3))
    assert lines[0]["finished"] is False
    assert "failed: nope.png: expected an existing file" in result.stderr
    text = qsit(*arguments, code=1).stdout
    assert text.splitlines()[0::2] == pictures[:2]


def test_what_exists_is_a_picture_and_all_else_a_question(tree):
    questions = [
        "Is it sharp?",
        "a/b",
        "What about *?",
        "Which of both, a.jpg or b.jpg?",
        "Describe",
        "清晰吗",
        "x" * 300,
    ]
    given = ["tree", "Is it sharp?", "tree/*.jpg", "http://x/y", "-", "What about *?", "tree/f[1].png", *questions[3:]]
    assert inputs.sorted_out(given) == (
        ["tree", "tree/*.jpg", "http://x/y", "-", "tree/f[1].png"], [one for one in questions if one != "a/b"]
    )  # fmt: skip
    for name in ("b.jpg", "my photo.HEIC", "tree/nope", "tree/*.bmp", "x.dng"):
        with pytest.raises(InputError, match="an existing file, folder or pattern, or a question"):
            inputs.sorted_out([name])


@pytest.fixture
def talking(loaded, monkeypatch):
    """Answers without a model: what was asked, and of which picture."""
    asked = []

    def ask(self, path, questions, **kwargs):
        asked.extend((Path(path).name, one) for one in questions)
        if not Path(path).read_bytes().startswith(b"\x89PNG"):
            raise ImageError.about("image", path, "a picture")
        chosen = {"choice": kwargs["choices"][0], "probs": {"a": 0.75, "b": 0.25}} if kwargs.get("choices") else {}
        return [Answer(f"{one} of {Path(path).stem}, {len(Path(path).read_bytes())}", **chosen) for one in questions]

    monkeypatch.setattr(QSiT, "ask", ask)
    monkeypatch.setattr(QSiT, "describe", lambda self, path, **kwargs: ask(self, path, ["described"])[0])
    return asked


def test_many_pictures_and_many_questions(pictures, talking):
    folder = Path(pictures[0]).parent
    arguments = ["ask", folder, "Sharp?", "-q", "b.jpg", f"{folder}/*.png"]
    lines = qsit(*arguments).stdout.splitlines()
    assert lines[0::5] == pictures
    assert [line.split(",")[0] for line in lines[1:5]] == ["Sharp?", "Sharp? of 000", "b.jpg", "b.jpg of 000"]
    found = [json.loads(line) for line in qsit(*arguments, "--json").stdout.splitlines()]
    assert [(one["path"], [said["question"] for said in one["answers"]]) for one in found] == [
        (path, ["Sharp?", "b.jpg"]) for path in pictures
    ]
    for form, read in (("csv", rows), ("jsonl", lambda text: list(map(json.loads, text.splitlines())))):
        flat = read(qsit(*arguments, "--format", form).stdout)
        assert [(one["path"], one["question"]) for one in flat] == [
            (p, q) for p in pictures for q in ("Sharp?", "b.jpg")
        ]
        assert flat[0]["answer"].startswith("Sharp? of 000")
    assert "question" in qsit(*arguments, "--format", "table").stdout.splitlines()[0]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_answers_are_kept_and_a_later_run_goes_on(tmp_path, pictures, talking, suffix):
    output = tmp_path / f"answers{suffix}"

    def counts(*arguments, code=0):
        talking.clear()
        return qsit(*arguments, "-o", output, code=code).stderr.splitlines()[-1].split(": ")[1]

    ask = ["ask", *pictures[:2], "Sharp?"]
    assert counts(*ask) == "2 added, 0 were there already"
    assert counts("ask", *pictures, "Sharp?", "Noisy?") == "4 added, 2 were there already"
    assert talking == [("000.png", "Noisy?"), ("001.png", "Noisy?"), ("002.png", "Sharp?"), ("002.png", "Noisy?")]
    assert counts(*ask, "--choice", "a", "--choice", "b") == "2 added, 0 were there already"
    assert counts("describe", *pictures) == "3 added, 0 were there already"
    held = [line.record for line in answers.FORMATS[suffix[1:]]().read(output.read_bytes())]
    assert [(Path(one.path).stem, one.question) for one in held[:2]] == [("000", "Sharp?"), ("001", "Sharp?")]
    assert (held[6].choice, held[6].probs, held[6].asked.choices) == ("a", {"a": 0.75, "b": 0.25}, ("a", "b"))
    Path(pictures[0]).write_bytes(Path(pictures[0]).read_bytes() + b"\0")
    assert counts(*ask) == "1 added, 1 were there already"
    assert counts(*ask) == "0 added, 2 were there already"
    assert counts(*ask, "--overwrite") == "2 added, 0 were there already"
    content = output.read_bytes().replace(b"float32", b"float16")
    output.write_bytes(content)
    assert (
        "a file with answers made as now (dtype float32), but it has dtype float16"
        in qsit(*ask, "-o", output, code=2).stderr
    )
    assert output.read_bytes() == content


def test_a_stopped_or_failing_run_keeps_its_answers(tmp_path, pictures, talking, monkeypatch):
    output, broken = tmp_path / "a.jsonl", tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    result = qsit("ask", pictures[0], broken, pictures[1], "Sharp?", "-o", output, code=1)
    assert result.stderr.startswith(f"failed: {broken}: expected a picture")
    assert "2 added, 0 were there already" in result.stderr
    ask = QSiT.ask

    def stopped(self, path, *rest, **kwargs):
        if len(talking) > 4:
            raise KeyboardInterrupt
        return ask(self, path, *rest, **kwargs)

    talking[:] = [None] * 4
    with monkeypatch.context() as patch:
        patch.setattr(QSiT, "ask", stopped)
        result = qsit("ask", *pictures, "Noisy?", "-o", output, code=130)
    assert "1 added, 0 were there already" in result.stderr
    assert "Interrupted. Run the same command again to go on." in result.stderr
    assert "2 added, 1 were there already" in qsit("ask", *pictures, "Noisy?", "-o", output).stderr


# ---- evaluate


def test_evaluate_says_how_well_scores_agree_with_people(tmp_path, quick):
    pictures = make_pictures(tmp_path / "in", 6)
    labels, scatter, output = tmp_path / "labels.csv", tmp_path / "scatter.svg", tmp_path / "out.csv"
    lines = [f"{Path(path).name};{20 * quick(path):.6f}" for path in pictures]
    labels.write_text("\n".join(["img_name;people", *lines, "gone.png;3"]))
    arguments = [
        "evaluate",
        labels,
        "--image-column",
        "img_name",
        "--mos-column",
        "people",
        "--folder",
        tmp_path / "in",
    ]
    result = qsit(*arguments, "--scatter", scatter, "-o", output, code=1)
    table = {line.split()[0]: line.split()[1:] for line in result.stdout.splitlines()[2:5]}
    assert table["SRCC"] == ["1.0000", "1.0000", "to", "1.0000"]
    assert {name: values[0] for name, values in table.items()} == dict.fromkeys(("SRCC", "PLCC", "KRCC"), "1.0000")
    assert "failed: gone.png" in result.stderr
    assert scatter.read_text().count("<circle") == 6
    assert len(rows(output.read_text())) == 7
    found = json.loads(qsit(*arguments, "--json", code=1).stdout)
    assert (found["n"], found["n_failed"], found["exif"]) == (6, 1, True)
    assert found["intervals"]["srcc"] == pytest.approx([1.0, 1.0])
    assert "a name that ends in .svg" in qsit("evaluate", labels, "--scatter", "x.png", code=2).stderr


def test_help_shows_no_types_where_they_say_nothing():
    text = qsit("score", "--help", env={"COLUMNS": "200"}).stdout
    assert "bool" not in text
    assert "list[" not in text
    assert "table|csv|jsonl" in text


# ---- models and download


def test_models_says_what_is_on_disk(tmp_path, monkeypatch):
    store = tmp_path / "models--zhangzicheng--q-sit"
    (store / "blobs").mkdir(parents=True)
    (store / "blobs" / "half").write_bytes(bytes(1_500_000))
    found = json.loads(qsit("models", "--json", "--cache-dir", tmp_path).stdout)
    assert [one["name"] for one in found][:2] == ["q-sit-mini", "q-sit"]
    assert {"repo", "backend", "licence", "on_disk", "size", "folder", "paper"} <= set(found[0])
    assert [(one["on_disk"], one["size"], one["folder"]) for one in found[:2]] == [
        ("absent", 0, None), ("partial", 1_500_000, str(store)),
    ]  # fmt: skip
    text = qsit("models", "--cache-dir", tmp_path).stdout
    assert "in part, 1.5 MB" in text
    assert f"q-sit: {store}" in text


def test_every_state_has_words():
    record, sha = on_disk("no/such/cache")[0].record, "0123456789abcdef" * 2
    words = {
        state: models.state(Stored(record, state, 2_000_000_000, Path("x"), sha))
        for state in ("embedded", "complete", "pinned", "partial", "absent")
    }
    assert words == {
        "embedded": "in the package, 2.0 GB",
        "complete": "yes, 2.0 GB",
        "pinned": "only as @0123456789ab, 2.0 GB",
        "partial": "in part, 2.0 GB",
        "absent": "no",
    }


@pytest.mark.compat
def test_download_and_then_use_without_a_network(tmp_path, pictures):
    with HubServer() as hub:
        sha = hub.publish("owner/model", GOLDEN / "tied")
        settings = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "0"}
        settings |= {"HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1"}
        done = child("download", "owner/model", "--json", env=settings)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["model"], found["repo"], found["revision"]) == ("owner/model", "owner/model", sha)
    assert (Path(found["folder"]) / "config.json").is_file()
    assert str(tmp_path / "home") in found["folder"]
    again = child("download", f"owner/model@{sha}", env=settings)  # the server is gone
    assert again.stdout.splitlines() == [f"folder   {found['folder']}", f"revision {sha}"]
    failed = child("download", "owner/other", env=settings)
    assert (failed.returncode, failed.stdout) == (2, "")
    assert failed.stderr.startswith("error: `model`: got 'owner/other'")
    assert len(failed.stderr.splitlines()) == 1


# ---- doctor


@pytest.mark.compat
def test_doctor_is_content_with_this_installation(loaded):
    found = json.loads(qsit("doctor", "-m", TIED, "--json").stdout)
    assert found["ok"] is True
    assert [(check["name"], check["ok"]) for check in found["checks"]] == [
        ("resizing", True), ("tiling", True), ("scoring", True),
    ]  # fmt: skip
    assert found["versions"]["torch"] == torch.__version__
    assert set(found["versions"]) >= {"python", "qsit_metric", "transformers", "huggingface_hub", "pillow", "numpy"}
    assert "cpu" in found["devices"]
    assert [one["name"] for one in found["models"]][:1] == ["q-sit-mini"]
    assert "alone" in found["checks"][2]["detail"]


@pytest.mark.compat
def test_doctor_compares_our_network_with_that_of_transformers(loaded):
    found = json.loads(qsit("doctor", "-m", TIED, "--against", "transformers", "--json").stdout)
    check = found["checks"][-1]
    assert (check["name"], check["ok"]) == ("against transformers", True)
    assert re.search(r"level logits .*; the largest is \d\.\de-0[5-9] off transformers \d", check["detail"])
    assert "times the speed of float32" in found["bfloat16"]["cpu"]


def test_doctor_sees_a_network_that_says_something_else(monkeypatch):
    from qsit_metric.backends import comparison

    theirs = comparison._theirs
    monkeypatch.setattr(comparison, "_theirs", lambda *of: [one + 0.01 for one in theirs(*of)])
    found = json.loads(qsit("doctor", "-m", TIED, "--against", "transformers", "--json", code=1).stdout)
    assert found["checks"][-1]["ok"] is False


def test_doctor_without_a_model_skips_that_check_and_shows_no_secret(monkeypatch):
    monkeypatch.setattr("qsit_metric.catalog.embedded_names", list)
    settings = {"HF_TOKEN": "hf_hidden", "HF_ENDPOINT": "https://me:pass@mirror.example", "HF_HOME": "/x"}
    text = qsit("doctor", env=settings).stdout
    assert "skipped  scoring: no model given" in text
    assert "ok       resizing: files and tensors differ by 0 of 255" in text
    assert "HF_TOKEN (set, not shown)" in " ".join(text.split())  # the column is as wide as the longest name
    assert "https://***@mirror.example" in text
    assert "hf_hidden" not in text
    assert "pass@" not in text


def test_doctor_finds_what_is_broken(monkeypatch):
    from qsit_metric.pixels import resize as resizing
    from qsit_metric.pixels import tiles

    resize = resizing.resize_image

    def swapped(image, size):
        return resize(image.transpose(Image.Transpose.TRANSPOSE), size[::-1]).transpose(Image.Transpose.TRANSPOSE)

    monkeypatch.setattr(resizing, "resize_image", swapped)
    plan = tiles.plan
    monkeypatch.setattr(tiles, "plan", lambda *of: dataclasses.replace(plan(*of), tokens=plan(*of).tokens // 7309 + 1))
    monkeypatch.setattr(
        "qsit_metric.metric.QSiT.score", lambda self, images: [2.5, 1.0] if isinstance(images, list) else 2.0
    )
    result = qsit("doctor", "-m", TIED, code=1)
    assert "FAILED   resizing: files and tensors differ by" in result.stdout
    assert "; 1800x1350: 21 tiles, 2 tokens, expected (21, 7309)" in result.stdout
    assert "FAILED   scoring: QSiT(" in result.stdout
    assert "5.0e-01 off in a batch (allowed: 0.0001)" in result.stdout


def test_doctor_reports_a_model_that_does_not_load_and_never_downloads(tmp_path):
    result = qsit("doctor", "-m", "q-sit-mini", "--cache-dir", tmp_path, "--json", code=1)
    check = json.loads(result.stdout)["checks"][-1]
    assert (check["name"], check["ok"]) == ("scoring", False)
    assert "the network is switched off" in check["detail"]


def test_doctor_survives_a_torch_that_cannot_be_imported(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    assert "cannot be imported" in doctor.devices()["none"]
    assert doctor.checks(options.ModelOptions())[0].ok is False


def test_the_layouts_that_doctor_knows_are_the_golden_ones():
    images = json.loads((GOLDEN / "tied.expected.json").read_text())["images"].values()
    golden = {tuple(one["size"]): (one["tiles"], one["input_tokens"] - 68) for one in images}  # 68 tokens of text
    assert doctor._LAYOUTS.items() <= golden.items()


# ---- the small parts


def test_bars_and_names_on_poor_terminals():
    assert console.bars([0.0, 0.124, 0.125, 0.999, 1.0], ascii_only=False) == "▁▁▂██"
    assert console.bars([0.0, 0.1, 0.99, float("nan")], ascii_only=True) == "0190"
    assert console.printable("a\x1b[31m\udcff\n日本 b.png") == "a\\x1b[31m\\udcff\\n日本 b.png"


def test_a_table_on_a_terminal_without_unicode(monkeypatch):
    result = child("models", env={"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"})
    assert result.stdout.isascii()
    assert "q-sit-mini" in result.stdout


def test_markup_in_file_names_is_not_obeyed():
    record = scores.Record("[bold]x[/bold] :smile:.png", 3.0, 0.5, "fair", {"bad": 0.5, "fair": 0.5})
    with console.out().capture() as captured:
        score.show([record])
    assert "[bold]x[/bold] :smile:.png" in captured.get()


def test_errors_are_one_line_whatever_they_contain():
    from qsit_metric.cli.command import one_line

    assert one_line(BackendError("two\nlines \x1b[2J")) == "two lines \\x1b[2J"
