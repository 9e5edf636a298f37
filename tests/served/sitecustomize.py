"""Repair of torchvision for the processes of a vLLM server on a processor; Python imports this where it is on the path.

Every process of the server needs it, those that it starts itself too; see `torchvision_ops`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from types import ModuleType


class _BeforeTorchvision(MetaPathFinder):
    """Declares torchvision's operators when it is about to be imported, and finds nothing itself."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> None:
        if name == "torchvision":
            sys.meta_path.remove(self)
            from torchvision_ops import declare

            declare()


sys.meta_path.insert(0, _BeforeTorchvision())
