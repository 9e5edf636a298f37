"""Who judges: a language model behind an OpenAI-compatible endpoint, or one on this machine.

A judge reads text only. Q-SiT itself is none: it would be the judge of its own descriptions, and it always looks at a
picture. The published tables do not say which model judged them, so scores by different judges do not compare.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast
from urllib.parse import urlsplit

from qsit_metric.errors import DependencyError, EvaluationError, shorten

if TYPE_CHECKING:
    import openai

Messages = Sequence[Mapping[str, str]]

_TEMPERATURE = 0
_MAX_TOKENS = 256  # a rating takes three; models that think aloud before it take more
_REFUSED = (401, 403)
_AGAIN = (408, 409, 425, 429, 500, 502, 503, 504, 529)  # states of the server that pass
_LONGEST_PAUSE = 60.0


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
        EvaluationError: An address that is not http(s), no model, or a variable that is not set.
        DependencyError: The package openai is not installed.
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
        parts = urlsplit(self.base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.username:
            raise EvaluationError.about("base_url", self.base_url, "an address such as http://localhost:8000/v1")
        if not find_spec("openai"):
            raise DependencyError("The package openai asks the judge: pip install 'qsit-metric[bench]'")
        if not self.model:
            raise EvaluationError.about("model", self.model, "the name of a model at the endpoint")
        if self.api_key_env and not os.environ.get(self.api_key_env):
            raise EvaluationError.about("api_key_env", self.api_key_env, "an environment variable that is set")
        if not 1 <= self.workers <= 64:
            raise EvaluationError.about("workers", self.workers, "1 to 64")
        if self.attempts < 1 or self.timeout <= 0 or self.pause < 0:
            given = (self.attempts, self.timeout, self.pause)
            raise EvaluationError.about("attempts, timeout, pause", given, "at least 1, more than 0, and 0 or more")

    @property
    def facts(self) -> dict[str, object]:
        """See `Judge`."""
        return {"model": self.model, **self.options}

    def reply(self, messages: Messages) -> str:
        """See `Judge.reply`."""
        import openai

        last: Exception | None = None
        for attempt in range(self.attempts):
            if attempt:
                time.sleep(min(_LONGEST_PAUSE, max(self.pause * 2 ** (attempt - 1), _asked_pause(last))))
            try:
                return _content(json.loads(self._ask(messages)))
            except openai.APIStatusError as error:
                if error.status_code not in _AGAIN:
                    raise self._refused(error) from None
                last = error
            except (openai.APIConnectionError, json.JSONDecodeError) as error:
                last = error
        if isinstance(last, json.JSONDecodeError):
            raise Unjudged(f"the reply is no JSON ({last})")
        raise self._failed(f"{(last and last.__cause__) or last}, {self.attempts} times")

    def _ask(self, messages: Messages) -> str:
        from openai import Omit

        # The client insists on a key, the endpoint may not.
        headers: Any = {} if self.api_key_env else {"Authorization": Omit()}
        found = self._client.chat.completions.with_raw_response.create(
            model=self.model, messages=cast(Any, list(messages)), extra_body=dict(self.options), extra_headers=headers
        )
        return str(found.text)

    @cached_property
    def _client(self) -> openai.OpenAI:
        import openai

        # A redirect would send the key to another address. How often is tried is said here, and a reply that is no
        # JSON is tried again, too.
        return openai.OpenAI(
            api_key=self._key or "none", base_url=self.base_url, timeout=self.timeout, max_retries=0,
            http_client=openai.DefaultHttpxClient(follow_redirects=False),
        )  # fmt: skip

    @property
    def _key(self) -> str:
        return os.environ.get(self.api_key_env or "", "").strip()

    def _refused(self, error: openai.APIStatusError) -> EvaluationError:
        code = error.status_code
        if code not in _REFUSED:
            return self._failed(f"HTTP {code}: {error.response.text[:500]}")
        named = f"the key in the environment variable {self.api_key_env}"
        return self._failed(f"refuses {named if self.api_key_env else 'requests without a key'} (HTTP {code})")

    def _failed(self, what: str) -> EvaluationError:
        """The end of a run; a server may send the key back in what it says."""
        said = what.replace(self._key, "***") if self._key else what
        hint = "What was judged is kept; start the same command again to go on."
        return EvaluationError(f"endpoint {self.base_url!r}, model {self.model!r}: {shorten(f'<{said}>')}. {hint}")


def _content(reply: Any) -> str:
    """The text of a chat completion.

    Raises:
        Unjudged: It is none, or was cut.
    """
    try:
        text, reason = reply["choices"][0]["message"]["content"], reply["choices"][0].get("finish_reason")
    except (TypeError, KeyError, IndexError, AttributeError):
        raise Unjudged(f"no choices[0].message.content in {shorten(reply)}") from None
    if not isinstance(text, str) or reason == "length":
        raise Unjudged("the reply was cut at `max_tokens`" if reason == "length" else f"content is {shorten(text)}")
    return text


def _asked_pause(error: Any) -> float:
    """Seconds that the server asks for."""
    said = error.response.headers.get("Retry-After", "") if hasattr(error, "response") else ""
    return float(said) if said.isdigit() else 0.0


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
