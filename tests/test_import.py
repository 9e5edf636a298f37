"""Importing is cheap and does no work; the package is typed and self-consistent."""

from __future__ import annotations

import ast
import doctest
import importlib
import operator
import subprocess
import sys
import time
from pathlib import Path

import pytest

import qsit_metric
from qsit_metric._moved import FORMER

SOURCE = Path(qsit_metric.__file__).parent
MODELS = ("transformers", "qsit_metric.backends", "qsit_metric.model")
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
    assert qsit_metric.__all__ == [
        "Answer", "Budget", "QSiT", "QSiTError", "QSiTLoss", "QualityMap", "Recipe", "Score", "Server", "View", "__version__",
        "create_metric", "list_models",
    ]  # fmt: skip
    assert set(qsit_metric.__all__) <= set(dir(qsit_metric))
    for name in qsit_metric.__all__:
        assert getattr(qsit_metric, name) is not None
    with pytest.raises(AttributeError, match=r"qsit_metric attribute QSit$"):
        qsit_metric.QSit  # noqa: B018


def test_pure_modules_import_no_model():
    """One after the other in one process: the first that imports a model is named, and those behind it."""
    names = (
        "levels",
        "prompts",
        "pixels.geometry",
        "pixels.read",
        "pixels.resize",
        "pixels.tiles",
        "catalog",
        "errors",
        "results",
        "maps.windows",
        "maps.drawing",
    )
    code = f"""if True:
        import importlib, sys
        for name in {names}:
            importlib.import_module("qsit_metric." + name)
            print(name, [m for m in {MODELS} if m in sys.modules])
    """
    assert run(code).splitlines() == [f"{name} []" for name in names]


def test_pixels_without_tensors_bring_no_torch():
    code = "import sys, qsit_metric.pixels as pixels; pixels.load; pixels.Geometry; print('torch' in sys.modules)"
    assert run(code) == "False"


@pytest.mark.parametrize(("former", "today"), FORMER.items())
def test_former_names_of_modules_are_the_modules_of_today(former, today):
    sys.modules.pop(f"qsit_metric.{former}", None)
    with pytest.warns(DeprecationWarning, match=f"qsit_metric.{former} is qsit_metric.{today} now") as told:
        module = importlib.import_module(f"qsit_metric.{former}")
    assert module is importlib.import_module(f"qsit_metric.{today}")
    assert module.__name__ == module.__spec__.name == f"qsit_metric.{today}"
    assert operator.attrgetter(former)(qsit_metric) is module
    assert len(told) == 1


def test_former_names_work_in_every_spelling_and_blame_who_uses_them():
    code = (
        "from qsit_metric.images import load\nfrom qsit_metric import tiling\nimport qsit_metric.resampling\n"
        "import qsit_metric.pixels as new\nprint(load is new.load, tiling.cut is new.cut)"
    )
    result = subprocess.run([sys.executable, "-W", "always", "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["True", "True"]
    for line, name in enumerate(("images", "tiling", "resampling"), 1):
        assert f"<string>:{line}: DeprecationWarning: qsit_metric.{name} is" in result.stderr


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
    """The module, or None for one whose host, or extra, is not here."""
    try:
        return importlib.import_module(name)
    except ImportError:
        assert name.startswith(("qsit_metric.integrations.", "qsit_metric.server."))
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
                    assert module not in ("metric", "batching", "gradients", "questions", "cli")
