"""README and docs: every block runs, every command exists, links lead somewhere, and the reference is whole.

Python blocks of a page run in order, in one namespace, in a folder with a few pictures; `qsit` commands run too. Every
model that a page names is found in a Hub cache, in which the model of the package stands under all these names, and the
network is off. Commands of other programs are read as they would be, not run. See `doc_pages` for the exceptions.
"""

from __future__ import annotations

import importlib
import io
import re
import socket
import tarfile
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import torch
import typer
from huggingface_hub import constants
from PIL import Image
from typer.testing import CliRunner

import qsit_metric
from conftest import IMAGES
from doc_pages import DOCS, EXTRAS, PAGES, ROOT, TARGETS, Block, Command, blocks, commands, links
from qsit_metric import catalog, evaluation, hub, pixels
from qsit_metric.backends.llava_onevision import LlavaOnevisionBackend
from qsit_metric.cli import app

SHA = "0123456789abcdef0123456789abcdef01234567"
REPOSITORIES = {"owner/repo": "revision"} | {
    record.repo: record.revision for record in map(catalog.find, qsit_metric.list_models()) if record and record.repo
}
PICTURES = ("photo.jpg", "other.jpg", "third.png", "photos/a.jpg", "photos/more/b.png", "holiday/c.jpg", "scans/d.png")
SITE = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")


def given() -> dict[str, object]:
    """What the README's block, which shows everything at once, takes for granted."""
    picture = Image.open("photo.jpg")
    array = np.asarray(picture)
    tensor = torch.tensor(array).permute(2, 0, 1)
    return {"path": "photo.jpg", "pil": picture, "array": array, "tensor": tensor, "x": tensor[None] / 255}


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    """A Hub cache in which every model that the pages name is the one of the package."""
    folder = tmp_path_factory.mktemp("hub")
    weights = catalog.embedded_folder(catalog.find("q-sit-nano"))
    for repo, revision in REPOSITORIES.items():
        store = folder / f"models--{repo.replace('/', '--')}"
        for ref in {revision, "main"}:
            (store / "refs").mkdir(parents=True, exist_ok=True)
            (store / "refs" / ref).write_text(SHA)
        (store / "snapshots").mkdir()
        (store / "snapshots" / SHA).symlink_to(weights)
    return folder


@pytest.fixture
def reader(cache, tmp_path, monkeypatch) -> Path:
    """A reader's folder and machine: pictures, a cache of models, no network."""
    picture = Image.open(IMAGES / "landscape_600x400.jpg").resize((240, 160))
    for name in PICTURES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        picture.save(tmp_path / name)
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    _shards(tmp_path)
    (tmp_path / "q-sit-mini").symlink_to(catalog.embedded_folder(catalog.find("q-sit-nano")))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(LlavaOnevisionBackend, "generate", _briefly)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(socket, "getaddrinfo", _no_network)
    return tmp_path


def _shards(folder: Path) -> None:
    """A tar, a table and a list of the pictures."""
    content = (folder / "photo.jpg").read_bytes()
    with tarfile.open(folder / "shards.tar", "w") as tar:
        for name, one in {"0001.jpg": content, "0001.txt": b"a caption"}.items():
            member = tarfile.TarInfo(name)
            member.size = len(one)
            tar.addfile(member, io.BytesIO(one))
    (folder / "list.txt").write_text("photo.jpg\nother.jpg\n")
    (folder / "parts").mkdir()
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pytest.importorskip("pyarrow").table({"image": [content]}), folder / "parts" / "train.parquet")


def _briefly(backend, requests, limit, generate=LlavaOnevisionBackend.generate):
    """A few words are enough, and a small model does not always come to an end."""
    return generate(backend, requests, min(limit, 6))


def _no_network(*_: object, **__: object) -> None:
    raise OSError("no network here")


def run_python(page: Path) -> None:
    """Run a page's Python blocks in their order."""
    names = given() if page == ROOT / "README.md" else {}
    for block in blocks(page, "python"):
        if not block.obstacle:
            code = "\n" * block.line + block.text  # so that a traceback names the line of the page
            exec(compile(code, str(page), "exec"), names)


def _with(language: str) -> list[Path]:
    return [page for page in PAGES if blocks(page, language)]


def _name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", _with("python"), ids=_name)
def test_python_blocks_run(page, reader):
    run_python(page)


@pytest.mark.parametrize("page", _with("console"), ids=_name)
def test_commands_are_right(page, reader, monkeypatch):
    for block in blocks(page, "console"):
        for command in [] if block.obstacle else commands(block):
            with monkeypatch.context() as environment:
                for name, value in command.variables.items():
                    environment.setenv(name, value)
                _try(block, command, reader)


LEFT_OUT = [block for page in PAGES for language in ("python", "console") for block in blocks(page, language)]


@pytest.mark.parametrize("block", [block for block in LEFT_OUT if block.obstacle], ids=lambda block: block.place)
def test_blocks_that_are_not_run_are_valid_and_say_why(block):
    if block.language == "python":
        compile(block.text, block.place, "exec")
    pytest.skip(f"{block.place} is not run: {block.obstacle}")


def _try(block: Block, command: Command, folder: Path) -> None:
    """Run a command of ours; hold one of another program against what that program knows."""
    match command.words:
        case ["qsit", *words]:
            run = [word for word in words if not word.startswith("http")]
            result = CliRunner().invoke(app, run, catch_exceptions=False)
            assert result.exit_code == 0, f"{block.place}: {command.words}\n{result.output}"
        case ["python", "-m", ("train" | "benchmarks") as program, *words]:
            _parse(program, words)
        case ["accelerate", "launch", *words]:
            place = words.index("-m")
            assert all((ROOT / word).is_file() for word in words[:place] if word.endswith(".yaml")), words
            _parse(words[place + 1], words[place + 2 :])
        case ["python", "-m", module, *words]:
            package = (ROOT / module.replace(".", "/")).is_dir()
            one = typer.Typer()
            one.command()(importlib.import_module(f"{module}.__main__" if package else module).main)
            typer.main.get_command(one).make_context(module, words)
        case ["make", *words]:
            assert {word for word in words if "=" not in word} <= TARGETS, block.place
        case ["pip", "install", *words]:
            extras = {extra for word in words for found in re.findall(r"\[(.+)]", word) for extra in found.split(",")}
            assert extras <= EXTRAS, block.place
        case [("bash" | "python"), path, *_]:
            assert (ROOT / path).is_file(), block.place
        case _:
            pytest.fail(f"{block.place}: nobody knows how to check {command.words}")


def _parse(program: str, words: list[str]) -> None:
    """Read a command line as the program would: unknown commands and options fail."""
    from benchmarks.__main__ import build as benchmarks
    from train.__main__ import build as train

    command = typer.main.get_command({"train": train, "benchmarks": benchmarks}[program]())
    context = command.make_context(program, ["--help"] if words == ["--help"] else words, resilient_parsing=False)
    while hasattr(command, "resolve_command"):
        name, command, words = command.resolve_command(context, words)
        context = command.make_context(name, words, parent=context)


def test_the_readme_begins_with_an_example():
    head = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()[:20]
    assert 'metric = QSiT("q-sit-nano")' in "\n".join(head)


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_links_lead_somewhere(page):
    for target in links(page):
        address = urlsplit(target)
        if address.scheme:
            assert address.scheme == "https", target
            assert "." in address.netloc, target
        elif address.path:
            assert (page.parent / address.path).exists(), target


def test_every_page_can_be_found():
    pages = {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")}
    listed = set(re.findall(r"[\w/-]+\.md", SITE.split("\nnav:")[1].split("\nvalidation:")[0]))
    assert pages <= listed
    start = (DOCS / "index.md").read_text(encoding="utf-8") + (DOCS / "integrations" / "index.md").read_text("utf-8")
    assert all(page.rpartition("/")[2] in start for page in pages if not page.startswith("api/") and page != "index.md")


def test_the_reference_is_whole():
    pages = "\n".join(page.read_text(encoding="utf-8") for page in (DOCS / "api").glob("*.md"))
    named = set(re.findall(r"^::: (\S+)$", pages, re.MULTILINE))
    for module in (qsit_metric, evaluation, hub, pixels):
        for name in set(module.__all__) - {"__version__", "Stored"}:
            home = f"{module.__name__}.{name}"
            ends = {home, *(f"{m}.{name}" for m in _homes(module, name)), *_homes(module, name)}
            assert ends & named, f"{home} is in no page of docs/api"


def test_every_integration_is_in_the_reference():
    page = (DOCS / "api" / "integrations.md").read_text(encoding="utf-8")
    modules = {path.stem for path in (ROOT / "src" / "qsit_metric" / "integrations").glob("*.py")} - {"__init__"}
    assert all(f"::: qsit_metric.integrations.{name}\n" in page for name in modules)


def _homes(module, name: str) -> list[str]:
    value = getattr(module, name)
    return [getattr(value, "__module__", None) or module.__name__]


def test_the_drawing_is_that_of_the_code(monkeypatch):
    monkeypatch.syspath_prepend(DOCS / "making")
    import figure

    assert figure.TARGET.read_text(encoding="utf-8") == figure.draw()


def test_the_model_table_is_the_catalog():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    models = (DOCS / "models.md").read_text(encoding="utf-8")
    for name in qsit_metric.list_models():
        record = qsit_metric.catalog.find(name)
        assert f"| `{name}` |" in readme
        assert f"`{name}`" in models
        assert (record.repo or "in the package") in readme
        assert (record.repo or "in the package") in models
