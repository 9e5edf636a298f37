"""The mean of a model's weights before and after it was tuned: often better on pictures of another kind than either.

Source: M. Wortsman et al., Robust fine-tuning of zero-shot models, arXiv 2109.01903, Sec. 3 (WiSE-FT).
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

import torch

from qsit_metric.files import commit_folder

from .errors import RunError

_TRAINING = "training.json"


def average(before: Path, after: Path, folder: Path, share: float = 0.5) -> Path:
    """Write a checkpoint whose weights lie between those of two, which the same model went through.

    Args:
        before: A run's checkpoint.
        after: One that came of it; all other files are its own.
        folder: The new checkpoint; one that is there stays as it is.
        share: Of `after` in the mean, 0..1.

    Returns:
        `folder`.

    Raises:
        RunError: The two have not the same weights.
    """
    if folder.is_dir():
        return folder
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as place:
        work = Path(place) / folder.name
        shutil.copytree(after, work)
        _mix(_weights(before), work, share, before)
        _note(work / _TRAINING, share)
        return commit_folder(work, folder)


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return {name: weight for file in sorted(folder.glob("*.safetensors")) for name, weight in load_file(file).items()}


def _mix(before: dict[str, torch.Tensor], work: Path, share: float, source: Path) -> None:
    from safetensors.torch import load_file, save_file

    for file in sorted(work.glob("*.safetensors")):
        weights = load_file(file)
        fitting = [name for name, weight in weights.items() if name in before and before[name].shape == weight.shape]
        if len(fitting) < len(weights):
            other = next(name for name in weights if name not in fitting)
            raise RunError.about("before", str(source), f"a checkpoint of the same model, with {other}")
        mixed = {name: torch.lerp(before[name].float(), weight.float(), share).to(weight.dtype)
                 for name, weight in weights.items()}  # fmt: skip
        renewed = file.with_suffix(".mixed")  # the old file is mapped into memory
        save_file(mixed, renewed, {"format": "pt"})
        renewed.replace(file)


def _note(path: Path, share: float) -> None:
    """Say so, and leave no numbers of other weights."""
    facts = json.loads(path.read_text(encoding="utf-8"))
    facts |= {"metrics": {}, "averaged": share}
    path.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
