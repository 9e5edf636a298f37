"""Q-SiT in VLMEvalKit: `register()` adds the models of the catalog to its names and `QSiT` to its classes.

Host: github.com/open-compass/VLMEvalKit (Apache-2.0), optional, and run from a clone: the package index has no release
of it. It has no entry points, so a script of the user's calls `register()` before the host's `run.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache, partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

from .. import catalog
from .. import metric as metrics
from ..errors import DependencyError, InputError

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["register"]

_NEW_TOKENS = 200  # the authors' limit for an answer


def register() -> type:
    """Make the Q-SiT models of the catalog known to VLMEvalKit; loads none, and may be called again.

    They can be named after `--model`, and a config file may ask for `"class": "QSiT"`.

    Returns:
        The class, a `vlmeval.vlm.base.BaseModel`.

    Raises:
        DependencyError: VLMEvalKit cannot be imported.

    Example:
        >>> register()  # doctest: +SKIP
        <class 'qsit_metric.integrations.vlmevalkit.QSiT'>
    """
    kind = _model_class()
    _host("vlmeval.vlm").QSiT = kind  # type: ignore[attr-defined]
    known = _host("vlmeval.config").supported_VLM
    known.update({name: partial(kind, model=name) for name in catalog.list_models("q-sit*")})
    return kind


def _host(module: str) -> ModuleType:
    try:
        return import_module(module)
    except Exception as error:  # it imports most of its models' packages, which fail in many ways
        hint = "Clone github.com/open-compass/VLMEvalKit and install it there with: pip install -e ."
        reason = f"<{type(error).__name__}: {error}>"
        raise DependencyError.about("vlmeval", reason, "VLMEvalKit, which is on no package index", hint) from error


@cache
def _model_class() -> type:
    base: Any = _host("vlmeval.vlm.base").BaseModel

    class QSiT(base):  # type: ignore[misc]
        """A Q-SiT model in VLMEvalKit: one picture and one text for each message, greedy.

        Args:
            model: A model, as `qsit_metric.QSiT` takes it.
            max_new_tokens: Limit of an answer.
            **options: `device`, `dtype`, `backend`, `recipe`, `revision` ... as for `qsit_metric.QSiT`.
        """

        INSTALL_REQ = False
        INTERLEAVE = False

        def __init__(self, model: str = "q-sit-mini", max_new_tokens: int = _NEW_TOKENS, **options: Any) -> None:
            super().__init__()
            self.metric = metrics.QSiT(model, **options)
            self.max_new_tokens = max_new_tokens

        def use_custom_prompt(self, dataset: str) -> bool:
            """False: the host words the question, as for every other model on the same leaderboard."""
            return False

        def generate_inner(self, message: Sequence[Mapping[str, str]], dataset: str | None = None) -> str:
            """Answer a message of one picture (a path) and texts, which are joined by a newline."""
            picture, text = _parts(message)
            answer = self.metric.ask(picture, text, max_new_tokens=self.max_new_tokens, exif=False)
            return str(answer)

    QSiT.__module__, QSiT.__qualname__ = __name__, "QSiT"
    return QSiT


def _parts(message: Sequence[Mapping[str, str]]) -> tuple[str, str]:
    """The picture and the text of a message; with several pictures the host itself would keep the first."""
    pictures = [part["value"] for part in message if part["type"] == "image"]
    texts = [part["value"] for part in message if part["type"] == "text"]
    if len(pictures) == 1 and len(texts) == len(message) - 1:
        return pictures[0], "\n".join(texts)
    kinds = ", ".join(part["type"] for part in message)
    hint = "Q-SiT reads one picture at a time: leave data sets with several pictures, videos or none out."
    raise InputError.about("message", f"<{kinds}>", "one picture and text", hint)
