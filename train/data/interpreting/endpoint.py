"""A writer that asks a language model, as the paper asks GPT (Sec. III-B4 and B5), through the `openai` package.

Any OpenAI-compatible chat endpoint serves. Each reply is kept on disk under the hash of its request, so nothing is paid
twice and a build that was cut goes on. The prompts, in `prompts.json`, are ours.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from qsit_metric.errors import DependencyError, shorten
from qsit_metric.files import Files
from qsit_metric.journal import Cache

from ...errors import DataError, RunError
from ..rows import Refusals
from .feedback import Feedback
from .vocabulary import read_words
from .writer import Draft, Task

if TYPE_CHECKING:
    import openai

_AGAIN = (408, 409, 425, 429, 500, 502, 503, 504, 529)  # states of the server that pass
_LONGEST_PAUSE = 60.0
_FILES = Files(DataError, "cache")
_FENCE = re.compile(r"\A```(?:json)?\s*\n(.*)\n```\Z", re.DOTALL)
_LONGEST_ANSWER = 8  # words of a what/how answer
Messages = Sequence[Mapping[str, str]]


class BadReply(DataError):
    """The endpoint answers, but not with a chat completion that is whole."""


@dataclass(frozen=True)
class Endpoint:
    """A chat endpoint, and how it is asked.

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

    def key(self, messages: Messages) -> str:
        """SHA-256 of a request: model, messages, options; not the address."""
        fields = {"model": self.model, "messages": list(messages), **self.options}
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()

    def ask(self, messages: Messages) -> str:
        """Get the reply to a conversation, from disk if it is there.

        Raises:
            BadReply: The reply is no chat completion (not kept), or was cut at `max_tokens` (kept, since it was paid).
            RunError: The endpoint refuses the request, or cannot be reached in `attempts` attempts. What was answered
                before is kept.
            DataError: A kept reply is damaged.
            DependencyError: The package openai is not installed.
        """
        key = self.key(messages)
        cache = Cache(self.cache, _FILES)
        if (kept := cache.get(key)) is None:
            text, cut = _content(self._tried(messages))
            kept = {"model": self.model, "messages": list(messages), "reply": text, "cut": cut}
            cache.put(key, kept)
        if kept.get("cut"):
            raise BadReply("the reply was cut at `max_tokens`")
        return str(kept["reply"])

    def _tried(self, messages: Messages) -> object:
        """Try until there is JSON; what may pass is tried again, with doubled pauses."""
        try:
            import openai
        except ImportError as error:
            raise DependencyError("The package openai asks endpoints: pip install 'qsit-metric[train]'") from error
        last: Exception | None = None
        for attempt in range(self.attempts):
            try:
                return json.loads(self._once(messages))
            except openai.APIStatusError as error:
                if error.status_code not in _AGAIN:
                    raise self._failed(f"HTTP {error.status_code}: {error.response.text[:500]}") from error
                last, wait = error, _retry_after(error)
            except (openai.APIConnectionError, ValueError) as error:
                last, wait = error, 0.0
            if attempt + 1 < self.attempts:
                self.sleep(min(_LONGEST_PAUSE, max(self.pause * 2**attempt, wait)))
        if isinstance(last, ValueError):
            raise BadReply(f"the reply is no JSON ({last})") from last
        raise self._failed(f"{_cause(last)}, {self.attempts} times") from last

    def _once(self, messages: Messages) -> str:
        import openai

        # The client insists on a key, the endpoint may not.
        headers: Any = {} if self.api_key_env else {"Authorization": openai.Omit()}
        found = self._client.chat.completions.with_raw_response.create(
            model=self.model,
            messages=cast(Any, list(messages)),
            extra_body=dict(self.options),
            extra_headers=headers,
        )
        return str(found.text)

    @cached_property
    def _client(self) -> openai.OpenAI:
        import openai

        # A redirect would send the key to another address. Retries are ours: they say how often, and tests can watch.
        return openai.OpenAI(
            api_key=os.environ[self.api_key_env].strip() if self.api_key_env else "none",
            base_url=self.base_url,
            timeout=self.timeout,
            max_retries=0,
            http_client=openai.DefaultHttpxClient(follow_redirects=False),
        )

    def _failed(self, what: str) -> RunError:
        hint = "Replies so far are kept; start the same command again to go on."
        return RunError(f"endpoint {self.base_url!r}, model {self.model!r}: {shorten(f'<{what}>')}. {hint}")


class EndpointWriter:
    """Writes through an OpenAI-compatible endpoint.

    A reply that is not of the asked form is refused and named. It stays in the cache, since asking again would cost
    again and most models would say the same; change the endpoint's options to ask anew.

    Args:
        endpoint: Where to ask.
        workers: Requests at a time.
    """

    def __init__(self, endpoint: Endpoint, workers: int = 4) -> None:
        if not 1 <= workers <= 64:
            raise DataError.about("workers", workers, "1 to 64")
        self._endpoint = endpoint
        self._workers = workers

    @property
    def name(self) -> str:
        """The writer's name, for reports."""
        return f"{self._endpoint.model} at {self._endpoint.base_url}"

    def write(self, tasks: Sequence[Task], refusals: Refusals) -> Iterator[list[Draft]]:
        """See `Writer.write`.

        Raises:
            RunError: The endpoint refuses or cannot be reached; see `Endpoint.ask`.
        """
        step = 4 * self._workers
        with ThreadPoolExecutor(self._workers) as pool:
            for start in range(0, len(tasks), step):
                part = tasks[start : start + step]
                requests = {self._endpoint.key(asked): asked for asked in map(messages, part)}
                replies = dict(zip(requests, pool.map(self._reply, requests.values()), strict=True))
                for task in part:
                    yield _drafts(task, replies[self._endpoint.key(messages(task))], refusals)

    def _reply(self, asked: Messages) -> str | BadReply:
        try:
            return self._endpoint.ask(asked)
        except BadReply as error:
            return error


def messages(task: Task) -> list[dict[str, str]]:
    """Write the messages for a task; equal feedback gives equal messages."""
    prompts = read_words("prompts")
    wanted = prompts.get(task.kind, "").replace("{topic}", prompts["topics"].get(task.topic, ""))
    user = f"Feedback: {json.dumps(_shown(task.feedback), ensure_ascii=False)}\n\n{wanted}"
    return [{"role": "system", "content": prompts["system"]}, {"role": "user", "content": user}]


def parse(kind: str, text: str) -> list[Draft]:
    """Read a reply strictly: one JSON object with exactly the asked fields, in a code fence or not.

    Raises:
        DataError: It is anything else.

    Example:
        >>> [draft] = parse("yes_no", '{"questions": [{"question": "Is it sharp?", "answer": "No"}]}')
        >>> draft.answer
        'No'
    """
    fenced = _FENCE.match(text.strip())
    try:
        found = json.loads(fenced[1] if fenced else text)
    except ValueError as error:
        raise DataError(f"no JSON: {shorten(text)}") from error
    if kind == "conversation":
        turns = [(one["question"], one["answer"]) for one in _objects(found, "turns", ("question", "answer"))]
        return [Draft("conversation", tuple(turns))]
    if kind == "yes_no":
        asked = _objects(found, "questions", ("question", "answer"))
        return [Draft("yes_no", ((one["question"], one["answer"]),)) for one in asked]
    return [_short(one) for one in _objects(found, "questions", ("type", "question", "answer", "distractors"))]


def _drafts(task: Task, reply: str | BadReply, refusals: Refusals) -> list[Draft]:
    try:
        if isinstance(reply, BadReply):
            raise reply
        return parse(task.kind, reply)
    except DataError as error:
        refusals.add(f"{task}: {error}")
        return []


def _short(one: Mapping[str, Any]) -> Draft:
    wrong = one["distractors"]
    if one["type"] not in ("what", "how") or not 1 <= len(wrong) <= 3:
        raise DataError(f"type {shorten(one['type'])} with {len(wrong)} distractors, expected what or how with 1 to 3")
    if len(one["answer"].split()) > _LONGEST_ANSWER:
        raise DataError(f"answer {shorten(one['answer'])}, expected {_LONGEST_ANSWER} words at most")
    return Draft(one["type"], ((one["question"], one["answer"]),), tuple(wrong))


def _objects(found: object, name: str, fields: tuple[str, ...]) -> list[dict[str, Any]]:
    """The list `name` of objects that have exactly these fields, texts all but `distractors`."""
    if not isinstance(found, dict) or set(found) != {name} or not isinstance(found[name], list) or not found[name]:
        raise DataError(f"got {shorten(found)}, expected an object with one list {name!r}")
    for one in found[name]:
        if not isinstance(one, dict) or set(one) != set(fields):
            raise DataError(f"got {shorten(one)}, expected an object with {', '.join(fields)}")
        wrong = one.get("distractors", [])
        texts = [one[field] for field in fields if field != "distractors"]
        if not isinstance(wrong, list) or not all(isinstance(text, str) for text in [*texts, *wrong]):
            raise DataError(f"got {shorten(one)}, expected texts")
    return list(found[name])


def _shown(feedback: Feedback) -> dict[str, Any]:
    said: Any = [text for _, text in feedback.attributes]
    if any(name for name, _ in feedback.attributes):
        said = dict(feedback.attributes)
    return {"attributes": said, "conclusion": feedback.conclusion}


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


def _cause(error: Exception | None) -> str:
    """Say what went wrong; the client's own "Connection error." says less than what is below it."""
    status = getattr(error, "status_code", None)
    return f"HTTP Error {status}" if status else str((error and error.__cause__) or error)


def _retry_after(error: openai.APIStatusError) -> float:
    said = error.response.headers.get("Retry-After", "")
    return float(said) if said.isdigit() else 0.0
