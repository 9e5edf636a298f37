"""What tests of training share: a small base checkpoint, small frozen data, and recipes for both."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qsit_metric.prompts import LETTERS, TRAIN
from train.nano.scratch import Scratch, build_base
from train.recipe import TrainingRecipe, build

ROOT = Path(__file__).parent.parent
TEXTS = [TRAIN.question, *(f"{TRAIN.answer_prefix}{word}." for word in TRAIN.words), "Is the image sharp?", "Yes. No."]
SMALL = Scratch(
    tile=32, vision_width=16, vision_layers=1, vision_heads=2, vision_intermediate=32, text_width=32, text_layers=2,
    text_heads=2, text_kv_heads=1, text_intermediate=32, vocabulary=420,
)  # fmt: skip


def small_base(folder: Path) -> Path:
    return build_base(SMALL, [*TEXTS, " ".join(LETTERS)] * 4, folder, seed=0)


def small_recipe(base: Path, frozen: Path, **changes: Any) -> TrainingRecipe:
    """12 : 12 : 8 rows in 4 steps of 8, two epochs."""
    fields: dict[str, Any] = {
        "name": "small",
        "model": {"base": str(base), "gradient_checkpointing": False},
        "data": {"folder": str(frozen), "workers": 0},
        "mixture": {"sizes": [12, 12, 8]},
        "optim": {"lr": 1e-2, "vision_lr": 1e-3, "batch": 8, "micro_batch": 4, "precision": "no"},
        "stop": {"epochs": 2},
        "saving": {"every_steps": 1},
        "validation": {"scores": False},
    }
    return build(fields, "test").changed(**changes)


def trainer(*arguments: str, launch: int = 0, config: Path | None = None, **environment: str) -> subprocess.Popen[str]:
    """`python -m train ...` in a process of its own, or `accelerate launch` with so many."""
    return _program("train", *arguments, launch=launch, config=config, **environment)


def several(*commands: Sequence[str], launch: int) -> subprocess.Popen[str]:
    """`accelerate launch -m train ...` for one command after the other, in the same processes."""
    return _program("tests.several", json.dumps([[str(word) for word in words] for words in commands]), launch=launch)


def _program(
    module: str, *arguments: str, launch: int, config: Path | None = None, **environment: str
) -> subprocess.Popen[str]:
    start = [sys.executable, "-m"]
    if launch:
        file = str(config or ROOT / "train" / "configs" / "cpu2.yaml")
        start += ["accelerate.commands.launch", "--config_file", file, "--num_processes", str(launch)]
        start += ["--main_process_port", "0", "-m"]
    env = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.Popen(
        [*start, module, *arguments], cwd=ROOT, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
