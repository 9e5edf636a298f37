"""A small client of OpenAI-compatible chat endpoints, on the standard library: bounded retries, replies kept on disk.

Protocol: POST {base_url}/chat/completions with `model` and `messages`; the reply's text is
`choices[0].message.content`.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from qsit_metric.errors import shorten

from ...errors import DataError, RunError
from .files import save

_AGAIN = (408, 409, 425, 429, 500, 502, 503, 504, 529)  # states of the server that pass
_LONGEST_REPLY = 4 << 20
_LONGEST_PAUSE = 60.0


class BadReply(DataError):
    """The endpoint answers, but not with a chat completion that is whole."""


@dataclass(frozen=True)
class Endpoint:
    """Where and how to ask.

    Args:
        base_url: Up to and without `/chat/completions`, for example "http://localhost:8000/v1".
        model: Name of the model there.
        cache: Folder in which each reply is kept under the hash of its request; nothing is asked twice.
        api_key_env: Environment variable with the key; None asks without one. The key is neither kept nor shown.
        timeout: Seconds without a sign of life after which an attempt fails.
        attempts: How often a request is tried.
        pause: Seconds before the second attempt; doubled each time.
        options: Further fields of the request ("temperature", "max_tokens", "response_format" ...).

    Raises:
        DataError: An address that is not http(s), no model, or a variable that is not set.
    """

    base_url: str
    model: str
    cache: Path
    api_key_env: str | None = None
    timeout: float = 120.0
    attempts: int = 5
    pause: float = 1.0
    options: Mapping[str, Any] = field(default_factory=lambda: {"temperature": 0, "max_tokens": 1024})
    sleep: Callable[[float], None] = field(default=time.sleep, repr=False)

    def __post_init__(self) -> None:
        parts = urlsplit(self.base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.username:
            raise DataError.about("base_url", self.base_url, "an address such as http://localhost:8000/v1")
        if not self.model:
            raise DataError.about("model", self.model, "the name of a model at the endpoint")
        if self.api_key_env and not os.environ.get(self.api_key_env):
            raise DataError.about("api_key_env", self.api_key_env, "an environment variable that is set")
        if self.attempts < 1 or self.timeout <= 0 or self.pause < 0:
            expected = "at least 1, more than 0, and 0 or more"
            raise DataError.about("attempts, timeout, pause", (self.attempts, self.timeout, self.pause), expected)

    def key(self, messages: Sequence[Mapping[str, str]]) -> str:
        """SHA-256 of a request: model, messages, options; not the address."""
        return hashlib.sha256(self._body(messages)).hexdigest()

    def ask(self, messages: Sequence[Mapping[str, str]]) -> str:
        """Get the reply to a conversation, from disk if it is there.

        Raises:
            BadReply: The reply is no chat completion (not kept), or was cut at `max_tokens` (kept, since it was paid).
            RunError: The endpoint refuses the request, or cannot be reached in `attempts` attempts. What was answered
                before is kept.
            DataError: A kept reply is damaged.
        """
        key = self.key(messages)
        path = self.cache / key[:2] / f"{key}.json"
        if path.exists():
            text, cut = _kept(path)
        else:
            text, cut = _content(self._post(self._body(messages)))
            fields = {"model": self.model, "messages": list(messages), "reply": text, "cut": cut}
            save(path, json.dumps(fields, ensure_ascii=False))
        if cut:
            raise BadReply("the reply was cut at `max_tokens`")
        return text

    def _body(self, messages: Sequence[Mapping[str, str]]) -> bytes:
        fields = {"model": self.model, "messages": list(messages), **self.options}
        return json.dumps(fields, sort_keys=True).encode()

    def _post(self, body: bytes) -> object:
        """Try until there is JSON; what may pass is tried again, with doubled pauses."""
        last: Exception | None = None
        for attempt in range(self.attempts):
            try:
                return json.loads(self._once(body))
            except urllib.error.HTTPError as error:
                with error:
                    said = error.read(500).decode("utf-8", "replace")
                if error.code not in _AGAIN:
                    raise self._failed(f"HTTP {error.code}: {said}") from error
                last, wait = error, _retry_after(error)
            except (OSError, http.client.HTTPException, ValueError) as error:
                last, wait = error, None
            if attempt + 1 < self.attempts:
                self.sleep(min(_LONGEST_PAUSE, max(self.pause * 2**attempt, wait or 0.0)))
        if isinstance(last, ValueError):
            raise BadReply(f"the reply is no JSON ({last})") from last
        raise self._failed(f"{last}, {self.attempts} times") from last

    def _once(self, body: bytes) -> bytes:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self.api_key_env:
            headers["Authorization"] = f"Bearer {os.environ[self.api_key_env].strip()}"
        url = f"{self.base_url.rstrip('/')}/chat/completions"
        request = urllib.request.Request(url, body, headers, method="POST")
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=self.timeout) as response:
            content: bytes = response.read(_LONGEST_REPLY + 1)
        if len(content) > _LONGEST_REPLY:
            raise ValueError(f"longer than {_LONGEST_REPLY} bytes")
        return content

    def _failed(self, what: str) -> RunError:
        hint = "Replies so far are kept; start the same command again to go on."
        return RunError(f"endpoint {self.base_url!r}, model {self.model!r}: {shorten(f'<{what}>')}. {hint}")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would send the key to another address."""

    def redirect_request(self, *args: Any, **named: Any) -> None:
        return None


def _content(reply: object) -> tuple[str, bool]:
    """The text, and whether it was cut."""
    try:
        choice = reply["choices"][0]  # type: ignore[index]
        text, reason = choice["message"]["content"], choice.get("finish_reason")
    except (TypeError, KeyError, IndexError, AttributeError) as error:
        raise BadReply(f"no choices[0].message.content in {shorten(reply)}") from error
    if not isinstance(text, str):
        raise BadReply(f"content is {shorten(text)}")
    return text, reason == "length"


def _kept(path: Path) -> tuple[str, bool]:
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(fields["reply"], str):
            return fields["reply"], bool(fields["cut"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise DataError.about("cache", str(path), "a reply that was kept here", "Delete this file to ask again.")


def _retry_after(error: urllib.error.HTTPError) -> float | None:
    said = error.headers.get("Retry-After", "")
    return float(said) if said.isdigit() else None
