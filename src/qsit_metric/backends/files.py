"""Small files of a checkpoint folder. Pure: no model library is imported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import CheckpointError
from ..files import Files

_FILES = Files(CheckpointError, "model", rescue="Download the checkpoint again.")


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """A JSON object of a checkpoint; {} if the file is not there.

    Raises:
        CheckpointError: The file is no JSON object.
    """
    path = folder / name
    return dict(_FILES.json(path)) if path.is_file() else {}
