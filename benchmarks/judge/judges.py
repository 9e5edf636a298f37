"""Who judges: a language model behind an OpenAI-compatible endpoint, or one on this machine.

A judge reads text only. Q-SiT itself is none: it would be the judge of its own descriptions, and it always looks at a
picture. The published tables do not say which model judged them, so scores by different judges do not compare.
"""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from qsit_metric.evaluation import EvaluationError

Messages = Sequence[Mapping[str, str]]

_TEMPERATURE = 0
_MAX_TOKENS = 256  # a rating takes three; models that think aloud before it take more
_REFUSED = (401, 403)


class Unjudged(EvaluationError):
    """One reply that cannot be used; the run goes on."""


class Judge(Protocol):
    """A language model that rates descriptions.

    Attributes:
        deterministic: Whether the same question always gets the same reply, so that one round says all.
        workers: Questions at a time.
        facts: What the ratings depend on; it is written into results, so it holds no key and no address.
    """

    @property
    def deterministic(self) -> bool: ...  # noqa: D102
    @property
    def workers(self) -> int: ...  # noqa: D102
    @property
    def facts(self) -> Mapping[str, object]: ...  # noqa: D102

    def reply(self, messages: Messages) -> str:
        """The judge's words.

        Raises:
            Unjudged: There are none that could be read.
            EvaluationError: Going on makes no sense.
        """


@dataclass(frozen=True)
class EndpointJudge:
    """A model behind `{base_url}/chat/completions`, at temperature 0.

    What passes (429, 5xx, a time-out, a dropped connection) is tried again, with pauses that double.

    Args:
        base_url: For example "http://localhost:8000/v1".
        model: Its name there.
        api_key_env: Environment variable with the key; None asks without one. The key is never kept or shown.
        timeout: Seconds without a sign of life after which an attempt fails.
        attempts: How often a question is tried.
        pause: Seconds before the second attempt.
        workers: Questions at a time.
        options: Further fields of each request.

    Raises:
        DataError: An address that is not http(s), no model, or a variable that is not set.
    """

    base_url: str
    model: str
    api_key_env: str | None = None
    timeout: float = 60.0
    attempts: int = 6
    pause: float = 1.0
    workers: int = 4
    options: Mapping[str, Any] = field(default_factory=lambda: {"temperature": _TEMPERATURE, "max_tokens": _MAX_TOKENS})

    deterministic = False  # hosted models answer differently at temperature 0, too

    def __post_init__(self) -> None:
        if not 1 <= self.workers <= 64:
            raise EvaluationError.about("workers", self.workers, "1 to 64")
        self._endpoint(Path())  # refuses what it cannot use

    @property
    def facts(self) -> dict[str, object]:
        """See `Judge`."""
        return {"model": self.model, **self.options}

    def reply(self, messages: Messages) -> str:
        """See `Judge.reply`."""
        from train.data.interpreting.endpoint import BadReply
        from train.errors import RunError

        # The client keeps replies by their question; rounds are to differ, and the run keeps them all.
        with tempfile.TemporaryDirectory(prefix="judge-") as cache:
            try:
                return str(self._endpoint(Path(cache)).ask(messages))
            except BadReply as error:
                raise Unjudged(self._without_key(str(error))) from None
            except RunError as error:
                raise self._failed(error) from None

    def _endpoint(self, cache: Path) -> Any:
        from train.data.interpreting.endpoint import Endpoint

        shared = {one.name: getattr(self, one.name) for one in dataclasses.fields(self) if one.name != "workers"}
        return Endpoint(cache=cache, **shared)

    def _failed(self, error: Exception) -> EvaluationError:
        cause = error.__cause__
        status = getattr(cause, "status_code", None)
        if status in _REFUSED:
            key = (
                f"the key in the environment variable {self.api_key_env}"
                if self.api_key_env
                else "requests without a key"
            )
            told = f"endpoint {self.base_url!r}, model {self.model!r}: refuses {key} (HTTP {status})"
            return EvaluationError(f"{told}. What was judged is kept; start the same command again to go on.")
        return EvaluationError(self._without_key(str(error)))

    def _without_key(self, text: str) -> str:
        """A server may send the key back in what it says."""
        key = os.environ.get(self.api_key_env or "", "").strip()
        return text.replace(key, "***") if key else text


class LocalJudge:
    """A text model of transformers on this machine, greedy: the same question always gets the same reply.

    Args:
        model: Hub repository or folder of a causal language model with a chat template.
        device: A torch device; default: cuda if there is one, else cpu.
        dtype: Name of a floating-point type; default: float16 on cuda, float32 elsewhere.
        revision: Branch, tag or commit on the Hub.
        max_new_tokens: Limit of a reply.
        local_files_only: Never use the network.

    Raises:
        EvaluationError: The model cannot be loaded, or its tokenizer has no chat template.
    """

    deterministic = True
    workers = 1

    def __init__(
        self,
        model: str,
        *,
        device: str | None = None,
        dtype: str | None = None,
        revision: str | None = None,
        max_new_tokens: int = _MAX_TOKENS,
        local_files_only: bool = False,
    ) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self._device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        kind = getattr(torch, dtype or ("float16" if self._device.type == "cuda" else "float32"))
        source = {"revision": revision, "local_files_only": local_files_only}
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(model, **source)
            loaded = AutoModelForCausalLM.from_pretrained(model, use_safetensors=True, dtype=kind, **source)
        except (OSError, ValueError) as error:
            expected = "a Hub repository or folder with a causal language model in safetensors"
            raise EvaluationError.about("model", model, expected, f"transformers says: {error}") from error
        if not self._tokenizer.chat_template:
            raise EvaluationError.about("model", model, "a model whose tokenizer has a chat template")
        self._model = loaded.to(self._device).eval()
        self._limit = max_new_tokens
        folder = Path(model)
        self._name = folder.resolve().name if folder.is_dir() else model

    @property
    def facts(self) -> dict[str, object]:
        """See `Judge`."""
        import transformers

        return {
            "model": self._name, "revision": getattr(self._model.config, "_commit_hash", None),
            "dtype": str(self._model.dtype).removeprefix("torch."), "device": self._device.type,
            "max_new_tokens": self._limit, "transformers": transformers.__version__,
        }  # fmt: skip

    def reply(self, messages: Messages) -> str:
        """See `Judge.reply`."""
        import torch

        inputs = self._tokenizer.apply_chat_template(
            list(messages), add_generation_prompt=True, return_tensors="pt", return_dict=True
        ).to(self._device)
        with torch.inference_mode():
            ids = self._model.generate(**inputs, do_sample=False, max_new_tokens=self._limit)
        return str(self._tokenizer.decode(ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
