"""Q-SiT in lmms-eval: `python -m lmms_eval --model q-sit-mini --tasks qbench_dev`, once this package is installed.

Host: github.com/EvolvingLMMs-Lab/lmms-eval (MIT and Apache-2.0), optional. It finds `manifest` through the entry point
`lmms_eval.models` and imports a model's class when the model is asked for. One entry point that fails keeps it from
reading the others, so `manifest` does not fail there: versions are checked when the class is imported.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from .. import catalog
from ..packages import require

if TYPE_CHECKING:
    from .lmms_eval_model import QSiT

__all__ = ["QSiT", "manifest"]

_OURS = "q-sit*"
_ANY = "qsit"


def manifest() -> list[Any]:
    """List the models that lmms-eval can run: those of the catalog by their names, and any model as `qsit`.

    Returns:
        A `ModelManifest` for each name; loads no model.

    Raises:
        DependencyError: lmms-eval is not installed; which version it is, is not looked at.

    Example:
        >>> [entry.model_id for entry in manifest()]  # doctest: +SKIP
        ['qsit', 'q-sit-mini', 'q-sit', 'q-sit-nano']
    """
    try:
        from lmms_eval.models.registry_v2 import ModelManifest
    except ImportError:
        host = require(
            "lmms_eval.models.registry_v2", "lmms", "lmms-eval", least="0.7", below="0.8"
        )  # says what is missing
        ModelManifest = host.ModelManifest
    classes = {_ANY: "QSiT", **{name: name for name in catalog.list_models(_OURS)}}
    return [ModelManifest(name, simple_class_path=f"{__name__}.{attribute}") for name, attribute in classes.items()]


def __getattr__(name: str) -> Any:
    """The model class, and for each name of the catalog (which is no Python name) a class that loads that model."""
    if name == "QSiT" or name in catalog.list_models(_OURS):
        return _model_class(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@cache
def _model_class(name: str) -> type:
    from .lmms_eval_model import QSiT

    return QSiT if name == "QSiT" else type("QSiT", (QSiT,), {"model": name, "__module__": QSiT.__module__})
