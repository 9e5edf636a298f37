"""The peak memory of real training steps: on CUDA by the allocator, on a CPU by the resident set of a fresh process."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from qsit_metric.geometry import Geometry
from qsit_metric.tiling import plan

from .chat import IGNORED
from .errors import RunError
from .memory import SUPERVISED, TEXT
from .memory_shape import published
from .model import JointModel, mark_trainable, parameter_groups
from .recipe import Model, Optim

SHAPES = ("small", "0.5b", "7b")
_STEPS = 2  # the moments of the optimiser are there from the second on
_MEMORY = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}


@dataclasses.dataclass(frozen=True)
class Measured:
    """A measurement.

    Attributes:
        peak: Bytes of a step's peak, with weights and optimiser, without what the process takes before.
        tokens: Tokens of the row.
        tiles: Its tiles.
        device: "cpu" or the GPU's name.
    """

    peak: int
    tokens: int
    tiles: int
    device: str


def config_of(name: str) -> Any:
    """The config of a shape: "0.5b", "7b", or "small", which has the same parts at sizes that a CPU can train."""
    if name != "small":
        return published(name)
    config = published("0.5b")
    for part, sizes in (("vision_config", (256, 6, 4, 1024)), ("text_config", (256, 8, 4, 1408))):
        fields = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
        for field, value in zip(fields, sizes, strict=True):
            setattr(getattr(config, part), field, value)
    config.text_config.num_key_value_heads = 2
    config.text_config.vocab_size = 8000
    config.text_config.layer_types = ["full_attention"] * 8
    config.image_token_index = 7999
    return config


def measure(shape: str, width: int, height: int, device: str) -> Measured:
    """Make training steps in a fresh process and report their peak.

    Args:
        shape: One of `SHAPES`; random weights.
        width: Of the picture, in pixels.
        height: Of the picture, in pixels.
        device: "cpu" or "cuda".

    Raises:
        RunError: The process failed, for example for want of memory.
    """
    command = [sys.executable, "-m", "train.memory_measure", shape, str(width), str(height), device]
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run(
        command, cwd=root, env=os.environ | _MEMORY, capture_output=True, text=True, check=False, timeout=1800
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        hint = f"It said: {last}"
        raise RunError.about("measure", f"<{shape} at {width}x{height} on {device}>", "a step that fits", hint)
    return Measured(**json.loads(done.stdout.splitlines()[-1]))


def take_steps(config: Any, width: int, height: int, device: torch.device) -> tuple[int, int]:
    """Train on one random row in bfloat16 with gradient checkpointing; returns its tokens and tiles."""
    joint, optimiser = _model(config, device)
    geometry = joint.geometry
    layout = plan(geometry, height, width)
    image = torch.full((1, layout.tokens), config.image_token_index)
    ids = torch.cat([torch.ones(1, 20, dtype=torch.long), image, torch.ones(1, TEXT - 20, dtype=torch.long)], dim=1)
    labels = torch.full_like(ids, IGNORED)
    labels[:, -SUPERVISED:] = 1
    tiles = torch.zeros(layout.tiles, 3, geometry.tile, geometry.tile, dtype=torch.uint8, device=device)
    for _ in range(_STEPS):
        with torch.autocast(device.type, torch.bfloat16):
            losses = joint(ids.to(device), labels.to(device), tiles, [layout])
        losses.means.mean().backward()
        torch.nn.utils.clip_grad_norm_(joint.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
    return ids.shape[1], layout.tiles


def _model(config: Any, device: torch.device) -> tuple[JointModel, torch.optim.Optimizer]:
    from transformers import LlavaOnevisionForConditionalGeneration

    with device:
        model = LlavaOnevisionForConditionalGeneration(config)
    mark_trainable(model, Model())
    joint = JointModel(model, Geometry())
    joint.train()
    return joint, torch.optim.AdamW(parameter_groups(joint, Optim()), weight_decay=0.0)


def _resident(field: str) -> int:
    """A line of this process's status: "VmRSS" now, "VmHWM" at most."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def main() -> None:
    """Entry point of the process."""
    shape, width, height, name = sys.argv[1:]
    device = torch.device(name)
    config = config_of(shape)
    take_steps(config_of("small"), 384, 384, device)  # kernels load their libraries once
    if device.type == "cuda":
        torch.cuda.empty_cache()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
    else:
        before = _resident("VmRSS")
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the high-water mark starts here
    tokens, tiles = take_steps(config, int(width), int(height), device)
    top = torch.cuda.max_memory_allocated() if device.type == "cuda" else _resident("VmHWM")
    told = torch.cuda.get_device_name() if device.type == "cuda" else "cpu"
    found = Measured(top - before, tokens, tiles, told)
    sys.stdout.write(json.dumps(dataclasses.asdict(found)) + "\n")


if __name__ == "__main__":
    main()
