"""The names of weights on disk: those of the published checkpoints, which every release of transformers reads.

transformers 5 saves a model under the names of the file it came from, and one that was made from a configuration under
names of its own (`model.language_model.layers...`, no `vision_model` in the tower), which 4.57 does not find.
"""

from __future__ import annotations

import json
from pathlib import Path

INDEX = "model.safetensors.index.json"
_LANGUAGE, _TOWER = "language_model.", "vision_tower."


def published(name: str) -> str:
    """A weight's name as the published checkpoints have it. Idempotent.

    Example:
        >>> published("model.vision_tower.post_layernorm.bias")
        'vision_tower.vision_model.post_layernorm.bias'
        >>> published("model.language_model.norm.weight"), published("lm_head.weight")
        ('language_model.model.norm.weight', 'language_model.lm_head.weight')

    Reference:
        model.safetensors of llava-hf/llava-onevision-qwen2-0.5b-ov-hf, written by transformers 4.45.
    """
    name = name.removeprefix("model.")
    if name.startswith("lm_head."):
        return _LANGUAGE + name
    if name.startswith(_LANGUAGE) and not name.startswith((_LANGUAGE + "model.", _LANGUAGE + "lm_head.")):
        return name.replace(_LANGUAGE, _LANGUAGE + "model.", 1)
    if name.startswith(_TOWER) and not name.startswith(_TOWER + "vision_model."):
        return name.replace(_TOWER, _TOWER + "vision_model.", 1)
    return name


def publish_names(folder: Path) -> None:
    """Rename the weights in a folder that was just saved, shard by shard; nothing where they are right already."""
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    for file in folder.glob("*.safetensors"):
        with safe_open(file, "pt") as opened:
            names, metadata = list(opened.keys()), opened.metadata()
        if all(name == published(name) for name in names):
            continue
        weights = {published(name): weight for name, weight in load_file(file).items()}
        renamed = file.with_suffix(".renamed")  # the old file is mapped into memory
        save_file(weights, renamed, metadata)
        renamed.replace(file)
    if (folder / INDEX).is_file():
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        index["weight_map"] = {published(name): file for name, file in index["weight_map"].items()}
        (folder / INDEX).write_text(json.dumps(index, indent=2, sort_keys=True) + "\n", encoding="utf-8")
