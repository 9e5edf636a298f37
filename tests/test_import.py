"""Importing is cheap and does no work; the package is typed and self-consistent."""

from __future__ import annotations

import ast
import doctest
import importlib
import subprocess
import sys
import time
from pathlib import Path

import pytest

import qsit_metric
from qsit_metric.errors import DependencyError

SOURCE = Path(qsit_metric.__file__).parent
HEAVY = ("torch", "transformers", "numpy", "PIL", "scipy", "huggingface_hub", "rich", "typer", "accelerate")


def run(code):
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_import_brings_nothing_heavy():
    loaded = run(f"import sys, qsit_metric; print([m for m in {HEAVY} if m in sys.modules])")
    assert loaded == "[]"


def test_import_is_fast():
    def seconds(code):
        started = time.perf_counter()
        run(code)
        return time.perf_counter() - started

    extra = min(seconds("import qsit_metric") - seconds("pass") for _ in range(5))
    assert extra < 0.2


def test_public_names():
    assert qsit_metric.list_models()
    assert set(qsit_metric.__all__) <= set(dir(qsit_metric))
    for name in qsit_metric.__all__:
        assert getattr(qsit_metric, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'QSit'"):
        qsit_metric.QSit  # noqa: B018


def test_pure_modules_import_no_model():
    for name in (
        "levels",
        "prompts",
        "tiling",
        "geometry",
        "resampling",
        "catalog",
        "errors",
        "results",
        "maps.windows",
        "maps.drawing",
    ):
        loaded = run(f"import sys, qsit_metric.{name}; print('transformers' in sys.modules)")
        assert loaded == "False", name


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_house_rules(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree), "a module says what it is for"
    for node in ast.walk(tree):
        assert not isinstance(node, ast.Assert), f"assert in line {node.lineno}"
        assert not (isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print"), (
            f"print in line {node.lineno}"
        )
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else [getattr(node, "module", "")]
        assert not any(str(name).startswith("torchvision") for name in names), "torchvision has no CPU build"


MODULES = sorted(
    ".".join(("qsit_metric", *path.relative_to(SOURCE).with_suffix("").parts)).removesuffix(".__init__")
    for path in SOURCE.rglob("*.py")
)


def imported(name):
    """The module, or None for an integration whose host is not here."""
    try:
        return importlib.import_module(name)
    except DependencyError:
        assert name.startswith("qsit_metric.integrations.")
        return None


def test_the_examples_in_docstrings_run():
    """Every `>>>` of the package; those that need published weights are marked to be skipped."""
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    results = {
        module.__name__: doctest.testmod(module, optionflags=flags) for module in map(imported, MODULES) if module
    }
    assert {name: result.failed for name, result in results.items() if result.failed} == {}
    assert sum(result.attempted for result in results.values()) > 30


def test_arrows_point_one_way():
    """A backend never imports the metric, and nothing in the package imports train or benchmarks."""
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                module = getattr(node, "module", None) or node.names[0].name
                assert module.split(".")[0] not in ("train", "benchmarks")
                if path.parent.name == "backends":
                    assert module not in ("metric", "view", "asking", "pipeline", "cli")
