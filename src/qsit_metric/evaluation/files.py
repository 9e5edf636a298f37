"""Former names of what `manifest` and `loop` hold; for the programs that still use them."""

from __future__ import annotations

from ..files import PathLike
from .loop import write_results
from .manifest import FILES

__all__ = ["PathLike", "read_text", "write_atomic", "write_results"]

read_text, write_atomic = FILES.text, FILES.write
