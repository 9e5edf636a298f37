"""What is checked before a change lands: the steps of `.ci/run`, the markers of tests, and what meets old releases."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from conftest import FIRST, HERE
from doc_pages import ROOT, commands
from doc_pages import blocks as blocks_of

RUN = ROOT / ".ci" / "run"
STEPS = ["lint", "types", "docs", "wheel-check", "demo", "tiny", "test-hosts", "test-compat", "test"]
PYPROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")


@pytest.fixture
def checked(tmp_path):
    """`.ci/run` on a Makefile in which each step is a line of shell; returns the exit code and what was said."""
    if not (RUN.is_file() and shutil.which("make") and shutil.which("bash")):
        pytest.skip("no checkout with .ci, make and bash")
    (tmp_path / ".ci").mkdir()
    (tmp_path / "docs").mkdir()  # a folder with the name of a step
    shutil.copy(RUN, tmp_path / ".ci" / "run")
    places = {f".venv-{name}/ready": "true" for name in ("compat", "hosts")}

    def check(**changed: str | None) -> tuple[int, str]:
        steps = {**dict.fromkeys(STEPS, "echo did $@"), **places, **changed}
        rules = [f"{step}:\n\t@{line}\n" for step, line in steps.items() if line]
        (tmp_path / "Makefile").write_text(f".PHONY: {' '.join(steps)}\n" + "".join(rules))
        env = {**os.environ, "MAKELEVEL": "1"}  # as when make runs these tests
        done = subprocess.run(["bash", ".ci/run"], cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    return check


def test_ci_runs_every_step(checked):
    code, said = checked()
    assert code == 0, said
    assert [step for step in STEPS if not re.search(rf"^ *\d+s did {step}$", said, re.MULTILINE)] == []
    assert "all steps passed" in said


@pytest.mark.parametrize("step", ["types", "wheel-check", "test"])
def test_a_step_that_fails_is_named_and_fails_ci(checked, step):
    code, said = checked(**{step: "echo broken; exit 3"})
    assert code == 1
    assert f": {step}] Error 3" in said[said.index("failed after") :]
    assert "all steps passed" not in said


@pytest.mark.parametrize("step", ["docs", "test-compat"])
def test_a_step_that_is_missing_fails_ci(checked, step):
    code, said = checked(**{step: None})
    assert (code, said) == (1, f"no step '{step}' in the Makefile\n")


def test_the_tests_of_the_readme_are_a_step():
    words = [command.words for block in blocks_of(ROOT / "README.md", "console") for command in commands(block)]
    assert ["make", "test"] in words


def test_every_marker_is_explained():
    registered = re.findall(r'^    "(\w+): ', PYPROJECT.split("\nmarkers = [")[1].split("\n]")[0], re.MULTILINE)
    table = re.findall(r"^\| `(\w+)` \|", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert registered == sorted(table)


def _imports(path: Path) -> set[str]:
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    named = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    named += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    return {name.split(".")[0] for name in named}


def test_what_imports_transformers_meets_its_oldest_release():
    """In whole or in part; a helper's tests carry the marker themselves."""
    files = [path for path in HERE.glob("test_*.py") if "transformers" in _imports(path)]
    assert len(files) > 5
    assert [path.name for path in files if "pytest.mark.compat" not in path.read_text(encoding="utf-8")] == []


def test_files_that_come_first_are_there():
    assert [name for name in FIRST if not (HERE / f"{name}.py").is_file()] == []
