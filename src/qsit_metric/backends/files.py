"""Small files of a checkpoint folder. Pure: no model library is imported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..errors import CheckpointError


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """A JSON object of a checkpoint; {} if the file is not there.

    Raises:
        CheckpointError: The file is no JSON object.
    """
    path = folder / name
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError.about("model", str(path), "a JSON file", "Download the checkpoint again.") from error
    if not isinstance(content, dict):
        raise CheckpointError.about("model", str(path), "a JSON object", "Download the checkpoint again.")
    return content
