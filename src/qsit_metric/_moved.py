"""Former names of modules: who imports one gets the module of today, and is told its name."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType

_PACKAGE = __package__ or "qsit_metric"
FORMER = {
    "asking": "questions",
    "creating": "modules.create",
    "evaluation.errors": "errors",
    "evaluation.fitting": "evaluation.correlations",
    "evaluation.lldescribe": "evaluation.qbench",
    "evaluation.llvisionqa": "evaluation.qbench",
    "evaluation.questions": "evaluation.multiple_choice",
    "evaluation.readers_dmos": "evaluation.formats",
    "evaluation.rules": "evaluation.multiple_choice",
    "evaluation.sheets": "evaluation.tables",
    "geometry": "pixels.geometry",
    "hub.fingerprint": "hub.check",
    "hub.integrity": "hub.check",
    "hub.resolving": "hub.resolve",
    "hub.store": "hub.cache",
    "hub.transfer": "hub.download",
    "images": "pixels",
    "loss": "modules.loss",
    "map_drawing": "maps.drawing",
    "module": "modules.differentiable",
    "pipeline": "batching",
    "quality_map": "maps.quality_map",
    "resampling": "pixels.resize",
    "tensors": "gradients",
    "tiling": "pixels.tiles",
    "view": "metric",
    "windows": "maps.windows",
}
"""Old name -> new name, both below the package."""


class _Moved:
    """Finds the former names, after every other finder has found nothing.

    A finder and a loader by what it answers: the classes of `importlib.abc` take longer to import than this package.
    """

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        package, _, module = name.partition(".")
        return ModuleSpec(name, self) if package == _PACKAGE and module in FORMER else None  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> None:
        """An ordinary module, until it is replaced."""

    def exec_module(self, module: ModuleType) -> None:
        new = f"{_PACKAGE}.{FORMER[module.__name__.partition('.')[2]]}"
        warnings.warn(f"{module.__name__} is {new} now", DeprecationWarning, stacklevel=2)
        sys.modules[module.__name__] = import_module(new)  # the import system hands out what stands here


def answer_to_former_names() -> None:
    """Make the former names importable; once for each process."""
    if not any(isinstance(finder, _Moved) for finder in sys.meta_path):
        sys.meta_path.append(_Moved())
