"""Q-SiT in lmms-eval: `python -m lmms_eval --model q-sit-mini --tasks qbench_dev`, once this package is installed.

Host: github.com/EvolvingLMMs-Lab/lmms-eval (MIT and Apache-2.0), optional. It finds `manifest` through the entry point
`lmms_eval.models` and imports a model's class when the model is asked for. One entry point that fails keeps it from
reading the others, so `manifest` does not fail there: versions are checked, and the metric is imported, when the class
`QSiT` is asked for.

Differences from the host's own classes: pictures are tiled by this package, whatever transformers is installed; a
picture that cannot be read or a prompt that cannot be asked is an error, not an empty answer (which tasks guess for).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import groupby
from typing import TYPE_CHECKING, Any

from .. import catalog
from ..errors import InputError, QSiTError
from ..packages import require

if TYPE_CHECKING:
    import torch
    from lmms_eval.api.instance import Instance
    from PIL import Image

__all__ = ["QSiT", "manifest"]  # noqa: F822  # `QSiT` is made when it is asked for

_OURS = "q-sit*"
_ANY = "qsit"
_NEW_TOKENS = 1024  # of a task that sets no limit, as for the host's own LLaVA


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
    """The class with the host's own base; those of the catalog derive from `QSiT`."""
    if name != "QSiT":
        return type("QSiT", (_model_class("QSiT"),), {"model": name, "__module__": __name__})
    host = require("lmms_eval.api.model", "lmms", "lmms-eval", least="0.7", below="0.8")
    return type("QSiT", (_QSiT, host.lmms), {"__doc__": _QSiT.__doc__, "__module__": __name__})


class _QSiT:
    """A Q-SiT model in lmms-eval ("simple" interface): one picture and one text for each request, greedy.

    Args:
        pretrained: A model, as `qsit_metric.QSiT` takes it; default: the one that the class stands for.
        device: Default: cuda if there is one (each process its own), else cpu.
        dtype: Default: float16 on cuda, else float32.
        batch_size: Accepted and of no effect: pictures are read and prepared ahead, and asked one after the other.
        max_batch_size: The same.
        backend: Engine name.
        recipe: "authors" or "train".
        revision: Branch, tag or commit on the Hub.

    Attributes:
        model: What is loaded if `pretrained` is not given.
        metric: The `qsit_metric.QSiT`; its `info` belongs beside the results.

    Raises:
        QSiTError: As for `qsit_metric.QSiT`.
    """

    is_simple = True
    model = "q-sit-mini"
    task_dict: Mapping[str, Any]  # the evaluator's: documents of the tasks by split

    def __init__(
        self,
        pretrained: str | None = None,
        device: str | None = None,
        dtype: str | None = None,
        batch_size: int | str = 1,
        max_batch_size: int | None = None,
        backend: str | None = None,
        recipe: str | None = None,
        revision: str | None = None,
    ) -> None:
        from ..metric import QSiT

        super().__init__()
        self.metric = QSiT(
            pretrained or self.model, device=_own(device), dtype=dtype, backend=backend, recipe=recipe,
            revision=revision,
        )  # fmt: skip

    @property
    def device(self) -> torch.device:
        """Where the model runs; the host gathers results there."""
        return self.metric.device

    def generate_until(self, requests: Sequence[Instance]) -> list[Any]:
        """Answer each request.

        Args:
            requests: Their `args` are (context, generation settings, doc_to_visual, doc_id, task, split).

        Returns:
            A `GenerationResult` for each, with the number of its tokens.

        Raises:
            InputError: A task with no picture, several or a video, or settings that ask for sampling or beams.
        """
        from lmms_eval.api.instance import GenerationResult, TokenCounts

        from ..metric import opened

        asked = [request.args for request in requests]
        for _, group in groupby(asked, key=lambda args: args[4:]):  # a task is refused before hours are spent on others
            _, settings, doc_to_visual, *place = next(group)
            _limits(settings)
            _picture(doc_to_visual(self._doc(*place)))
        pictures = (_picture(visual(self._doc(*place))) for _, _, visual, *place in asked)
        replies: list[Any] = []
        for (context, settings, *_), view in zip(asked, opened(self.metric, pictures, exif=False), strict=True):
            if isinstance(view, QSiTError):
                raise view
            limit, stops = _limits(settings)
            with view:
                answer = view.ask(context, max_new_tokens=limit)
            replies.append(GenerationResult(_cut(answer, stops), TokenCounts(output_tokens=len(answer.tokens))))
        return replies

    def generate_until_multi_round(self, requests: Sequence[Instance]) -> list[list[str]]:
        """Answer each request in as many rounds as its task asks; each round has one picture and one text.

        Args:
            requests: Their `args` are (context, generation settings, doc_to_visual, doc_to_text, doc_id, task, split).

        Returns:
            The answers of all rounds of each.

        Raises:
            InputError: As for `generate_until`.
        """
        return [self._rounds(*request.args) for request in requests]

    def loglikelihood(self, requests: Sequence[Instance]) -> list[tuple[float, bool]]:
        """Negative log-likelihood of each continuation as the whole answer.

        Args:
            requests: Their `args` are (context, continuation or doc_to_target, doc_to_visual, doc_id, task, split).
                Spaces around a continuation are left out: an answer begins its turn.

        Returns:
            (negative log-likelihood, whether greedy generation writes it) for each. The sign is the host's: its tasks
            take the option with the smallest value, and its own models return their loss.

        Raises:
            InputError: An empty continuation, or as for `generate_until`.
            BackendError: The backend cannot tell.
        """
        found: list[tuple[float, bool]] = []
        asked = [request.args for request in requests]
        for _, group in groupby(asked, key=lambda args: (args[0], args[3:])):  # the options of one question
            found += self._likelihoods(list(group))
        return found

    def _doc(self, doc_id: int, task: str, split: str) -> Any:
        return self.task_dict[task][split][doc_id]

    def _rounds(self, context: str, settings: Any, visual: Any, text: Any, doc_id: int, task: str, split: str) -> Any:
        limit, stops = _limits(settings)
        doc, answers, memory = self._doc(doc_id, task, split), [], None
        visuals = visual(doc)
        while True:
            with self.metric.open(_picture(visuals), exif=False) as view:
                answers.append(_cut(view.ask(context, max_new_tokens=limit), stops))
            visuals, context, finished, kept, memory = text(
                doc, previous_output=list(answers), round_idx=len(answers), previous_round_info=memory
            )
            answers = list(kept)
            if finished:
                return answers

    def _likelihoods(self, group: Sequence[Any]) -> Iterator[tuple[float, bool]]:
        """Likelihoods of the continuations of one context; the picture is encoded once."""
        from ..batching import computing, prepare
        from ..pixels import Reading

        context, _, visual, *place = group[0]
        doc, backend = self._doc(*place), self.metric.backend
        answers = [_continuation(args[1](doc) if callable(args[1]) else args[1]) for args in group]
        request = self.metric.recipe.asking(context)
        with computing(backend.device):
            image = backend.encode([prepare(backend, _picture(visual(doc)), Reading(exif=False))])[0]
            image.keep = True
            try:
                chances = backend.likelihoods([(image, request)], answers)[0].tolist()
                longest = max(len(answer.encode()) for answer in answers) + 1  # no token is less than a byte; the end
                greedy = backend.generate([(image, request)], longest)[0]
            finally:
                image.close()
        written = greedy.text.strip() if greedy.finished else None
        return ((-chance, answer == written) for chance, answer in zip(chances, answers, strict=True))


def _own(device: str | None) -> str | None:
    """The device of this process, where several were launched."""
    import torch

    rank = os.environ.get("LOCAL_RANK")
    return f"cuda:{rank}" if device in (None, "cuda") and rank and torch.cuda.is_available() else device


def _picture(visuals: Any) -> Image.Image:
    """The one picture of a request."""
    from PIL import Image

    many = visuals if isinstance(visuals, (list, tuple)) else [visuals]
    if len(many) == 1 and isinstance(many[0], Image.Image):
        picture: Image.Image = many[0]
        return picture
    kinds = ", ".join(type(visual).__name__ for visual in many if visual is not None) or "no picture"
    hint = "Q-SiT reads one picture at a time: leave tasks with several pictures (qbench2_dev), videos or none out."
    raise InputError.about("visuals", f"<{kinds}>", "one picture for each request", hint)


def _limits(settings: Mapping[str, Any]) -> tuple[int, tuple[str, ...]]:
    """Token limit and stop texts of a task's generation settings; the mapping is shared and stays as it is."""
    warm = float(settings.get("temperature") or 0) > 0
    sampled = settings.get("do_sample", warm) and settings.get("temperature") != 0
    if sampled or int(settings.get("num_beams") or 1) > 1:
        hint = "Answers are greedy: pass --gen_kwargs do_sample=False,temperature=0,num_beams=1."
        raise InputError.about("generation_kwargs", dict(settings), "neither sampling nor beams", hint)
    stops = settings.get("until") or ()
    return int(settings.get("max_new_tokens") or _NEW_TOKENS), (stops,) if isinstance(stops, str) else tuple(stops)


def _cut(text: str, stops: Sequence[str]) -> str:
    """A reply up to the first stop text."""
    return str(text)[: min((at for stop in stops if stop and (at := text.find(stop)) >= 0), default=len(text))]


def _continuation(text: object) -> str:
    if isinstance(text, str) and text.strip():
        return text.strip()
    raise InputError.about("continuation", text, "a non-empty text")
