"""Integrations where their hosts are missing, of another version or broken; versions stand in one place."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest

import qsit_metric
from conftest import HERE
from qsit_metric import packages
from qsit_metric.errors import DependencyError
from qsit_metric.packages import require

FOLDER = Path(qsit_metric.__file__).parent / "integrations"
PYPROJECT = (HERE.parent / "pyproject.toml").read_text(encoding="utf-8")


@pytest.fixture
def installed(monkeypatch):
    """Pretend that a distribution is installed in this version."""

    def pretend(version):
        monkeypatch.setattr(packages, "version", lambda name: version)

    return pretend


def test_a_missing_host_names_the_extra():
    words = (
        r"`no-such`: got <not installed>, expected no-such >=1,<2. Install it with: pip install 'qsit-metric\[such\]'"
    )
    with pytest.raises(ImportError, match=words):
        require("no_such", "such", "no-such", least="1", below="2")


@pytest.mark.parametrize("version", ["0.9", "1.4.1", "2", "2.0.1", "1.4.2rc1"])
def test_another_version_names_those_that_work(installed, version):
    installed(version)
    with pytest.raises(
        DependencyError, match=r"expected json >=1.4.2,<2. Install one of these: pip install 'json>=1.4.2,<2'"
    ):
        require("json", "such", least="1.4.2", below="2")


@pytest.mark.parametrize("version", ["1.4.2", "1.10", "1.99.post1"])
def test_a_version_that_works(installed, version):
    installed(version)
    assert require("json", "such", least="1.4.2", below="2").__name__ == "json"


def test_a_host_that_cannot_be_imported_says_why(installed, monkeypatch, tmp_path):
    (tmp_path / "broken_host.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    monkeypatch.syspath_prepend(tmp_path)
    installed("1.5")
    words = "`broken_host` 1.5 is installed, but cannot be imported: RuntimeError: operator torchvision::nms"
    with pytest.raises(DependencyError, match=words):
        require("broken_host", "such", least="1", below="2")


def test_a_host_that_is_not_here(monkeypatch):
    monkeypatch.setattr(packages, "version", _missing)
    from qsit_metric.integrations.pyiqa import register

    with pytest.raises(ImportError, match=r"pip install 'qsit-metric\[pyiqa\]'"):
        register()
    monkeypatch.delitem(sys.modules, "qsit_metric.integrations.torchmetrics", raising=False)
    with pytest.raises(ImportError, match=r"pip install 'qsit-metric\[torchmetrics\]'"):
        import qsit_metric.integrations.torchmetrics
    monkeypatch.delitem(sys.modules, "qsit_metric.integrations.basicsr", raising=False)
    with pytest.raises(ImportError, match=r"pip install 'qsit-metric\[basicsr\]'"):
        import qsit_metric.integrations.basicsr  # noqa: F401
    monkeypatch.setitem(sys.modules, "lmms_eval.models.registry_v2", None)
    from qsit_metric.integrations import lmms_eval

    lmms_eval._model_class.cache_clear()
    with pytest.raises(ImportError, match=r"pip install 'qsit-metric\[lmms\]'"):
        lmms_eval.manifest()
    with pytest.raises(ImportError, match=r"pip install 'qsit-metric\[lmms\]'"):
        lmms_eval.QSiT  # noqa: B018


def test_nobody_imports_an_integration_but_who_uses_it():
    """The command with `--ray` is such a user."""
    for path in set(FOLDER.parent.rglob("*.py")) - {FOLDER.parent / "cli" / "sharded.py"}:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if path.parent != FOLDER else ():
            assert "integrations" not in (getattr(node, "module", None) or ""), path


def _missing(name):
    raise packages.PackageNotFoundError(name)


def required():
    """Every `require(...)` of the package: module, extra, distribution, first version that works and first that may not."""
    for path in sorted(FOLDER.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "require":
                words = [ast.literal_eval(argument) for argument in node.args]
                bounds = {keyword.arg: ast.literal_eval(keyword.value) for keyword in node.keywords}
                yield (*words, *[""] * (3 - len(words)), bounds["least"], bounds["below"])


REQUIRED = [words for words in required() if words[0] != "torch"]


def test_there_are_integrations():
    assert {"pyiqa", "torchmetrics", "basicsr", "lmms"} <= {words[1] for words in REQUIRED}


@pytest.mark.parametrize(("module", "extra", "distribution", "least", "below"), REQUIRED)
def test_the_extra_asks_for_the_versions_that_the_code_takes(module, extra, distribution, least, below):
    wanted = f"{distribution or module}>={least},<{below}"
    listed = re.search(rf"^{extra} = \[(.*?)\]$", PYPROJECT, re.MULTILINE)
    assert listed, extra
    assert f'"{wanted}"' in listed[1].replace("[data]", ""), wanted
