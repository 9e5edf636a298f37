"""Q-SiT: score a photograph as people would, and ask about its quality in words.

    from qsit_metric import QSiT

    metric = QSiT()
    metric.score("photo.jpg")                     # 1..5, higher is better
    metric.ask("photo.jpg", "Is the sky noisy?")

Importing this package is cheap; torch and transformers are imported when a name that needs them is first used.
"""

import lazy_loader

<<<<<<< HEAD
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._moved import answer_to_former_names
from ._version import __version__

if TYPE_CHECKING:
    from .catalog import list_models as list_models
    from .errors import QSiTError as QSiTError
    from .maps import QualityMap as QualityMap
    from .metric import QSiT as QSiT
    from .modules.create import create_metric as create_metric
    from .modules.loss import QSiTLoss as QSiTLoss
    from .pipeline import Budget as Budget
    from .prompts import Recipe as Recipe
    from .results import Answer as Answer
    from .results import Score as Score
    from .view import View as View

_HOMES = {
    "Answer": "results",
    "Budget": "pipeline",
    "QSiT": "metric",
    "QSiTError": "errors",
    "QSiTLoss": "modules.loss",
    "QualityMap": "maps",
    "Recipe": "prompts",
    "Score": "results",
    "View": "view",
    "create_metric": "modules.create",
    "list_models": "catalog",
}

__all__ = [
    "Answer",
    "Budget",
    "QSiT",
    "QSiTError",
    "QSiTLoss",
    "QualityMap",
    "Recipe",
    "Score",
    "View",
    "__version__",
    "create_metric",
    "list_models",
]


answer_to_former_names()


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
=======
# The names are listed in the stub beside this file, for the loader and for type checkers alike.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
>>>>>>> main
