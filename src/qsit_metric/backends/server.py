"""A model server over HTTP: how it is named, and requests that are sent to it at once, repeated and given up.

`Server` says how a server is asked; nothing is imported and nothing sent before a `Link` is used. The requests of all
threads run in one event loop in a thread of its own, so it works under a running loop, too (notebooks), after a fork,
and as many as `Server.concurrency` are under way at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import random
import re
import threading
import weakref
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from urllib.parse import urlsplit

from ..errors import BackendError, InputError, QSiTError
from ..packages import require

if TYPE_CHECKING:
    import httpx2

T = TypeVar("T")

KEY_VARIABLE = "QSIT_SERVER_KEY"
_WAYS = ("auto", "exact", "chat")
_TRANSIENT = (408, 425, 429, 500, 502, 503, 504)  # vLLM answers 500 once where it answered 400 for the same picture
_PAUSE, _LONGEST = 0.5, 30.0  # seconds before the first repetition, doubled each time; at most
_CONNECT = 10.0


@dataclass(frozen=True)
class Server:
    """How a model server is asked; for `QSiT(url, server=Server(...))`.

    Attributes:
        checkpoint: Whose tokenizer, config and chat template are used: a catalog name, a Hub repository or a folder; no
            weights are read. Default: the one that the server says it serves.
        key: The server's API key, sent to no one else; default: the variable QSIT_SERVER_KEY. A Hub token is never sent
            to a server.
        way: "exact" sends our own token ids and pixels, "chat" a PNG of the decoded picture, which the server resizes
            in its own way; "auto" is exact where the server can, else chat.
        model: The name under which the server knows the model; default: the only one that it has.
        concurrency: Requests that are under way at a time.
        timeout: Seconds that one request may take.
        retries: How often a request is repeated that the server failed at (500, 503 ...) or that did not arrive.

    Raises:
        InputError: A way that nobody knows, or a number that makes no sense.

    Example:
        >>> Server(key="secret").way, "secret" in repr(Server(key="secret"))
        ('auto', False)
    """

    checkpoint: str | Path | None = None
    key: str | None = field(default=None, repr=False)
    way: Literal["auto", "exact", "chat"] = "auto"
    model: str | None = None
    concurrency: int = 16
    timeout: float = 120.0
    retries: int = 4

    def __post_init__(self) -> None:
        if self.way not in _WAYS:
            raise InputError.about("way", self.way, "'auto', 'exact' or 'chat'")
        for name, least in (("concurrency", 1), ("retries", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise InputError.about(name, value, f"a whole number of at least {least}")
        if isinstance(self.timeout, bool) or not isinstance(self.timeout, (int, float)) or not 0 < self.timeout < 1e6:
            raise InputError.about("timeout", self.timeout, "a number of seconds above 0")


def is_address(model: object) -> bool:
    """Whether a model's name is the address of a server.

    Example:
        >>> is_address("http://127.0.0.1:8000"), is_address("owner/repo")
        (True, False)
    """
    return isinstance(model, str) and re.match(r"https?://", model, re.IGNORECASE) is not None


class Link:
    """The way to one server.

    Args:
        url: Its address, `http://host:port`, with or without `/v1` at the end.
        server: How it is asked.

    Attributes:
        url: The address without `/v1`.

    Raises:
        InputError: No address, or one with a user, a password or a query in it.
        DependencyError: httpx2 is missing.
    """

    def __init__(self, url: str, server: Server) -> None:
        self.url, self.server = _address(url), server
        self._gone = True  # it was not reached lately, so who does not reach it now tries no second time
        self._lock = threading.Lock()
        self._runner: _Runner | None = None
        _library()

    def get(self, path: str) -> Any:
        """Ask for a document; errors as in `post`."""
        return self._run(self._one(path, None))

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """Send a document, get one.

        Returns:
            The reply's JSON.

        Raises:
            Refusal: The server answered with an error.
            BackendError: It did not answer, or not in JSON.
        """
        content = json.dumps(body).encode()
        return self._run(self._one(path, lambda attempt: content))

    def post_all(self, path: str, bodies: Sequence[Callable[[int], bytes]]) -> list[Any]:
        """Send many documents at once.

        Args:
            path: Where to.
            bodies: Makes each document when its turn has come; takes the number of the attempt, from 0.

        Returns:
            Each one's reply, or its error (see `post`), in order.
        """
        return self._run(self._all(path, bodies))

    def close(self) -> None:
        """Let go of the connections; the next request opens new ones."""
        with self._lock:
            runner, self._runner = self._runner, None
        if runner is not None:
            runner.stop()

    def __getstate__(self) -> dict[str, Any]:
        return {"url": self.url, "server": self.server}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]  # a copy elsewhere has connections of its own

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        with self._lock:
            if self._runner is None or self._runner.process != os.getpid():
                self._runner = _Runner(self.server)
                weakref.finalize(self, self._runner.stop)
            runner = self._runner
        return runner.run(work)

    async def _all(self, path: str, bodies: Sequence[Callable[[int], bytes]]) -> list[Any]:
        return await asyncio.gather(*(self._caught(path, body) for body in bodies))

    async def _caught(self, path: str, body: Callable[[int], bytes]) -> Any:
        try:
            return await self._one(path, body)
        except QSiTError as error:
            return error

    async def _one(self, path: str, body: Callable[[int], bytes] | None) -> Any:
        """One request, repeated as long as that may help; it holds its place meanwhile, which eases a busy server."""
        runner = self._runner
        if runner is None:
            raise BackendError.about("server", self.url, "an open link", "Ask again.")
        async with runner.room:
            for attempt in itertools.count():
                reply = await self._attempt(runner.client, path, body, attempt)
                if not isinstance(reply, _Failed):
                    self._gone = False
                    return reply
                if not reply.again or attempt >= (0 if reply.lost and self._gone else self.server.retries):
                    self._gone = reply.lost
                    raise reply.error
                await asyncio.sleep(reply.pause or _pause(attempt))
        raise AssertionError("unreachable")

    async def _attempt(
        self, client: httpx2.AsyncClient, path: str, body: Callable[[int], bytes] | None, attempt: int
    ) -> Any:
        import httpx2

        limit = self.server.timeout
        content = None if body is None else await asyncio.to_thread(body, attempt)
        kind = {} if content is None else {"Content-Type": "application/json"}
        request = client.build_request(
            "GET" if content is None else "POST", self.url + path, content=content, headers=kind
        )
        try:
            response = await asyncio.wait_for(client.send(request), limit)
        except (TimeoutError, asyncio.TimeoutError, httpx2.TimeoutException) as error:
            if isinstance(error, httpx2.ConnectTimeout):
                return _Failed(self._unreachable(error), again=True, lost=True)
            hint = "Is it busy with others? Allow more time (timeout), or ask less at a time (concurrency)."
            return _Failed(self._about(f"<no answer within {limit:g} s>", "an answer in time", hint))
        except httpx2.HTTPError as error:
            return _Failed(self._unreachable(error), again=True, lost=True)
        return self._read(path, response)

    def _read(self, path: str, response: httpx2.Response) -> Any:
        status = response.status_code
        if status == 200:
            try:
                return response.json()
            except ValueError:
                shown = f"<{response.text[:80]!r}>"
                return _Failed(self._about(shown, f"JSON from {path}", "Is it a vLLM server, or a page in between?"))
        said, hint = _said(response), _HINTS.get(status, "")
        if 300 <= status < 400:
            hint = f"It sends on to {response.headers.get('location', 'elsewhere')!r}: name that address instead."
        shown = f"<{status} from {path}: {said}>" if said else f"<{status} from {path}>"
        error = Refusal.about("server", shown, f"an answer from {self.url}", hint)
        error.status, error.said = status, said
        return _Failed(error, again=status in _TRANSIENT, pause=_asked_pause(response))

    def _unreachable(self, error: Exception) -> BackendError:
        said = str(error).strip() or type(error).__name__
        return self._about(f"<{said}>", "a server that can be reached", "Does it run, and is the address right?")

    def _about(self, got: str, expected: str, hint: str) -> BackendError:
        return BackendError.about("server", f"<{self.url}: {got.strip('<>')}>", expected, hint)


class Refusal(BackendError):
    """An error that a server answered with.

    Attributes:
        status: Of HTTP.
        said: The server's own words.
    """

    status: int = 0
    said: str = ""


@dataclass(frozen=True)
class _Failed:
    """What came of an attempt that failed; whether a repetition may help, and whether the server was not there."""

    error: BackendError
    again: bool = False
    lost: bool = False
    pause: float = 0.0


class _Runner:
    """An event loop in a thread, with one client; for the process that made it."""

    def __init__(self, server: Server) -> None:
        import httpx2

        self.process = os.getpid()
        key = server.key or os.environ.get(KEY_VARIABLE)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        limits = httpx2.Limits(max_connections=server.concurrency, max_keepalive_connections=server.concurrency)
        timeout = httpx2.Timeout(None, connect=min(_CONNECT, server.timeout))
        self.client = httpx2.AsyncClient(headers=headers, limits=limits, timeout=timeout)
        self.loop = asyncio.new_event_loop()
        self.room = asyncio.Semaphore(server.concurrency)
        threading.Thread(target=self.loop.run_forever, name="qsit-server", daemon=True).start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Wait for something that runs in the loop; if the caller is interrupted, it is stopped."""
        future = asyncio.run_coroutine_threadsafe(work, self.loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def stop(self) -> None:
        """Close the connections and end the thread; not in a child, where the thread does not exist."""
        if self.process == os.getpid() and self.loop.is_running():
            asyncio.run_coroutine_threadsafe(self._end(), self.loop)

    async def _end(self) -> None:
        with contextlib.suppress(Exception):  # a connection that breaks while it is closed is closed
            await self.client.aclose()
        self.loop.stop()


_HINTS = {
    401: f"It wants a key: Server(key=...), --server-key or {KEY_VARIABLE}.",
    403: f"Its key is not the right one: Server(key=...), --server-key or {KEY_VARIABLE}.",
    404: "Is the address that of the server itself, and the model one that it has?",
    413: "Something between here and the server takes no requests of this size.",
}


def _library() -> None:
    require("httpx2", "served", least="2", below="3")


def _address(url: str) -> str:
    parts = urlsplit(url)
    if parts.hostname in ("huggingface.co", "hf.co"):
        hint = "A Hub repository is written 'owner/repo'."
        raise InputError.about("model", url, "the address of a model server, or a model's name", hint)
    if not parts.hostname:
        raise InputError.about("model", url, "the address of a server, such as 'http://host:8000'")
    if parts.username or parts.password or parts.query or parts.fragment:
        hidden = parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
        hint = f"A key goes to Server(key=...), --server-key or {KEY_VARIABLE}."
        raise InputError.about("model", f"<{hidden} and more>", "an address without user, password and query", hint)
    return re.sub(r"(/v1)?/*$", "", url)


def _pause(attempt: int) -> float:
    """Seconds until the next attempt: doubled each time, and spread, so that many do not come back at once."""
    return min(_PAUSE * 2.0**attempt, _LONGEST) * random.uniform(0.75, 1.25)


def _asked_pause(response: httpx2.Response) -> float:
    """The seconds that a server asks for, if it does."""
    asked: str = response.headers.get("retry-after", "")
    return min(float(asked), _LONGEST) if asked.isdigit() else 0.0


def _said(response: httpx2.Response) -> str:
    """A server's own words for an error, of the several forms that vLLM and what stands before it have for them."""
    try:
        found = response.json()
    except ValueError:
        return "" if "html" in response.headers.get("content-type", "") else response.text.strip()[:200]
    for name in ("error", "message", "detail"):
        found = found.get(name, found) if isinstance(found, Mapping) else found
    return str(found)[:400]
