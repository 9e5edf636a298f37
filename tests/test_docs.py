"""README and docs: every Python block runs, links lead somewhere, and what is said of the command is so."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

import qsit_metric
from conftest import HERE, IMAGES
from qsit_metric import Recipe
from qsit_metric.backends.llava_onevision import LlavaOnevisionBackend

ROOT = HERE.parent
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md"), ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md",
                ROOT / "train" / "README.md", ROOT / "train" / "DATA.md"])  # fmt: skip


def blocks(page):
    return re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=lambda page: page.name)
def test_python_blocks_run(page, tied, tmp_path, monkeypatch):
    """On the golden checkpoint, whatever model a block names; the golden model rarely ends a text, so it is kept short."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(IMAGES / "landscape_600x400.jpg", "photo.jpg")
    monkeypatch.setattr(qsit_metric, "QSiT", lambda *_, **__: tied)
    generate = tied.backend.generate
    monkeypatch.setattr(tied.backend, "generate", lambda requests, _limit: generate(requests, 3))
    picture = Image.open(IMAGES / "tile_384.png").convert("RGB")
    array = np.array(picture)
    names = {
        "metric": tied, "path": "photo.jpg", "pil": picture, "array": array, "tensor": torch.from_numpy(array).permute(2, 0, 1),
        "x": torch.rand(2, 3, 40, 60, requires_grad=True), "paths": ["photo.jpg", "photo.jpg"], "torch": torch,
        "image": "photo.jpg", "image1": picture, "image2": array, "question": "Sharp?", "q1": "Sharp?", "q2": "Dark?", "q3": "Why?",
        "LlavaOnevisionBackend": LlavaOnevisionBackend, "QSiT": qsit_metric.QSiT, "Recipe": Recipe,
        "model": tied.backend.model, "tokenizer": tied.backend._dialogue.tokenizer, "template": tied.backend._dialogue.template,
        "geometry": tied.backend.geometry, "recipe": None,
    }  # fmt: skip
    for block in blocks(page):
        exec(compile(block, page.name, "exec"), names)
    assert names["metric"] is tied


def test_the_readme_begins_with_an_example():
    head = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()[:20]
    assert "metric = QSiT()" in "\n".join(head)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8").replace("\n", " ")):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


def test_every_page_is_in_the_index():
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    assert all(page.name in index for page in (ROOT / "docs").glob("*.md") if page.name != "index.md")


def test_the_model_table_is_the_catalog():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in qsit_metric.list_models():
        record = qsit_metric.catalog.find(name)
        assert f"| `{name}` |" in readme
        assert (record.repo or "in the package") in readme
