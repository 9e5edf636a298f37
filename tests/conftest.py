"""Shared fixtures: the golden set, metrics on its two checkpoints, and outside material when it is at hand."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from qsit_metric import QSiT

HERE = Path(__file__).parent
GOLDEN = HERE / "golden"
IMAGES = GOLDEN / "images"
CHECKPOINTS = ("tied", "untied")

WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
THREADS = max(1, (os.cpu_count() or 1) // WORKERS)
os.environ.setdefault("OMP_NUM_THREADS", str(THREADS))  # for the processes that tests start
torch.set_num_threads(THREADS)

# The slowest files, slowest first: whoever ends last should end with a short one.
FIRST = ("test_train_loop", "test_benchmarks_commands", "test_benchmarks_embedded", "test_loss_step", "test_hub")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that take longest before the others, which stay in their order."""
    place = {name: index for index, name in enumerate(FIRST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(FIRST)))


def expected(checkpoint: str) -> dict[str, Any]:
    """What the authors' flow gave (transformers 4.45.0, Pillow 11.3.0, torch 2.13.0, float32, CPU)."""
    return json.loads((GOLDEN / f"{checkpoint}.expected.json").read_text(encoding="utf-8"))


GOLDEN_NAMES = sorted(expected("tied")["images"])


@pytest.fixture(scope="session")
def tied() -> QSiT:
    """A metric on the golden checkpoint with the geometry of q-sit-mini (tied head)."""
    return QSiT(GOLDEN / "tied")


@pytest.fixture(scope="session")
def untied() -> QSiT:
    """A metric on the golden checkpoint with the geometry of q-sit (untied head)."""
    return QSiT(GOLDEN / "untied")


@pytest.fixture(scope="session")
def metrics(tied: QSiT, untied: QSiT) -> dict[str, QSiT]:
    return {"tied": tied, "untied": untied}


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The devices that a model was loaded for; what is loaded is the stand-in."""
    from stand_in import Brightness

    devices: list[str] = []

    def init(self: Any, model: object, *, device: object = None) -> None:
        self.calls = 0
        devices.append(str(device))

    monkeypatch.setattr(QSiT, "__init__", init)
    monkeypatch.setattr(QSiT, "__call__", Brightness.__call__)
    return devices


@pytest.fixture
def variant(tmp_path: Path) -> Callable[..., Path]:
    """A copy of a golden checkpoint with some JSON fields changed: `variant({"config.json": {"model_type": "x"}})`.

    A value None removes the field; a callable gets the whole object and changes it in place.
    """

    def build(edits: dict[str, Any] | None = None, checkpoint: str = "tied") -> Path:
        folder = tmp_path / f"variant-{len(list(tmp_path.iterdir()))}"
        shutil.copytree(GOLDEN / checkpoint, folder)
        for name, fields in (edits or {}).items():
            path = folder / name
            content = json.loads(path.read_text()) if path.exists() else {}
            if callable(fields):
                fields(content)
            else:
                for key, value in fields.items():
                    content.pop(key, None)
                    if value is not None:
                        content[key] = value
            path.write_text(json.dumps(content))
        return folder

    return build


def shared(name: str) -> Path:
    """A folder of material that is not in the repository; its absence skips, or fails where it is required."""
    folder = Path(os.environ.get("QSIT_SHARED", HERE.parent.parent / "shared")) / name
    if not folder.is_dir():
        message = f"{name} is not at hand; set QSIT_SHARED to the folder that holds it"
        if os.environ.get("QSIT_REQUIRE_SHARED"):
            pytest.fail(message)
        pytest.skip(message)
    return folder


@pytest.fixture(scope="session")
def photos() -> list[Path]:
    """Real photographs outside the repository."""
    return sorted(shared("photos").glob("*.jpg"))
