"""Tiny checkpoint folders for tests of files: all the files of a real one, tensors of a few bytes, no model behind."""

from __future__ import annotations

import json
from pathlib import Path

TEXTS = {
    "config.json": {"model_type": "llava_onevision"},
    "tokenizer.json": {"version": "1.0"},
    "tokenizer_config.json": {},
    "preprocessor_config.json": {"image_mean": [0.5, 0.5, 0.5]},
}


def write_json(path: Path, data: object) -> None:
    path.write_text(json.dumps(data))


def safetensors(**sizes: int) -> bytes:
    """Build a safetensors file of uint8 tensors with these sizes."""
    header, position = {}, 0
    for name, size in sizes.items():
        header[name] = {"dtype": "U8", "shape": [size], "data_offsets": [position, position + size]}
        position += size
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    return len(text).to_bytes(8, "little") + text + bytes(range(256)) * (position // 256) + bytes(position % 256)


def write_texts(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in TEXTS.items():
        write_json(folder / name, data)
    return folder


def write_whole(folder: Path, *, size: int = 4000) -> Path:
    """A checkpoint with one weights file."""
    write_texts(folder)
    (folder / "model.safetensors").write_bytes(safetensors(a=size, b=20))
    return folder


def write_sharded(folder: Path) -> Path:
    """A checkpoint with an index and two shards."""
    write_texts(folder)
    first, second = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
    (folder / first).write_bytes(safetensors(a=300, b=20))
    (folder / second).write_bytes(safetensors(c=40))
    write_json(folder / "model.safetensors.index.json", {"weight_map": {"a": first, "b": first, "c": second}})
    return folder
