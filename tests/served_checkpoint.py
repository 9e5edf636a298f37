"""A golden checkpoint made wider: the files of `golden/tied`, heads of dimension 64, random weights of one seed.

vLLM on a processor takes no heads smaller than 32, and those of the golden set have 16.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from conftest import GOLDEN

_HEADS = {"hidden_size": 128, "intermediate_size": 256, "num_attention_heads": 2}
_WIDER = {32: 64, 64: 128, 128: 256}  # keys and values, hidden states, what lies between two layers
_GAIN = 1.2  # of random weights, as in the golden set: pictures get scores that lie apart


def wide_checkpoint(folder: Path, *, seed: int = 7, positions: int = 8192) -> Path:
    """Write the checkpoint; a server needs `positions` for its own limits."""
    shutil.copytree(GOLDEN / "tied", folder, ignore=shutil.ignore_patterns("*.safetensors", "video_processor"))
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["text_config"] |= {**_HEADS, "num_key_value_heads": 1, "max_position_embeddings": positions}
    config["vision_config"] |= _HEADS
    path.write_text(json.dumps(config, indent=2), encoding="utf-8")
    generator = torch.Generator().manual_seed(seed)
    narrow = load_file(GOLDEN / "tied" / "model.safetensors")
    weights = {name: _drawn(name, narrow[name], generator) for name in sorted(narrow)}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


def _drawn(name: str, like: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Of a layer's weight another draw of the same kind; of norms and biases the same numbers."""
    shape = [_WIDER.get(size, size) for size in like.shape]
    if like.ndim < 2 and name != "image_newline":
        return like.mean().expand(shape).clone()
    drawn = torch.randn(shape, generator=generator)
    inner = name.rpartition(".")[0].endswith(("_proj", "linear_1", "linear_2", "fc1", "fc2"))
    return drawn * (_GAIN / shape[1] ** 0.5 if inner else float(like.std()))
