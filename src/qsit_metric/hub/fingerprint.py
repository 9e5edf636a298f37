"""What tells two local checkpoints apart where no commit does. Pure; nothing but the standard library."""

from __future__ import annotations

import hashlib
from pathlib import Path

_BLOCKS, _BLOCK = 64, 1 << 16


def fingerprint(folder: Path) -> str:
    """Identify a checkpoint folder by its small files and by samples of its weights.

    64 blocks of each weight file are read, evenly spread: training changes all of them, and a 15 GB model costs
    milliseconds. It is no proof against a forger.

    Returns:
        "local-" and 12 hexadecimal digits; the same for a copy of the folder elsewhere.
    """
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.json")) + sorted(folder.glob("*.jinja")):
        digest.update(path.name.encode() + path.read_bytes())
    for path in sorted(folder.glob("*.safetensors")):
        size = path.stat().st_size
        digest.update(f"{path.name} {size}".encode())
        with path.open("rb") as file:
            for block in range(_BLOCKS):
                file.seek(max(size - _BLOCK, 0) * block // (_BLOCKS - 1))
                digest.update(file.read(_BLOCK))
    return f"local-{digest.hexdigest()[:12]}"
