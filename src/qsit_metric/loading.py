"""From a model's name to a loaded backend: resolve, choose the engine, put it on a device."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch

from .backends.base import Backend, LoadOptions
from .backends.files import read_json
from .backends.placement import check_device, check_dtype, quantization
from .backends.registry import backend_class
from .hub import Checkpoint, fingerprint, resolve
from .prompts import Recipe, recipe_named


def load_backend(
    model: str | Path,
    options: LoadOptions,
    backend: str | None,
    revision: str | None,
    cache_dir: str | Path | None,
    token: str | bool | None,
    local_files_only: bool,
) -> tuple[Backend, dict[str, str | None], Recipe | None]:
    """Load a model by name; arguments as for `QSiT`.

    Whatever can be wrong with the arguments alone is found before a weight is downloaded or read.

    Returns:
        The backend, where it came from (for result files), and the recipe that it was calibrated with.
    """
    chosen = backend_class(backend) if backend else None
    placed = _defaults(options)
    checkpoint = resolve(model, revision=revision, cache_dir=cache_dir, token=token, local_files_only=local_files_only)
    engine = chosen or backend_class(_fitting(checkpoint))
    loaded = engine.load(checkpoint.folder, placed)
    revision = checkpoint.revision or fingerprint(checkpoint.folder)
    origin = {"model": checkpoint.name, "repo": checkpoint.repo, "revision": revision}
    if quantized := quantization(placed.dtype):
        origin["dtype"] = quantized
    record = checkpoint.record
    return loaded, origin, loaded.recipe or (recipe_named(record.recipe) if record else None)


def default_device() -> str:
    """The device of whoever names none."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def _fitting(checkpoint: Checkpoint) -> str:
    """The catalog's backend, else the one that the config's family asks for."""
    if checkpoint.record:
        return checkpoint.record.backend
    family = read_json(checkpoint.folder, "config.json").get("model_type")
    return "llava_onevision" if family == "llava_onevision" else "transformers"


def _defaults(options: LoadOptions) -> LoadOptions:
    device = options.device if options.device is not None else default_device()
    kind = check_device(device)
    dtype = options.dtype if options.dtype is not None else "float16" if kind == "cuda" else "float32"
    check_dtype(dtype)
    return dataclasses.replace(options, device=device, dtype=dtype)
