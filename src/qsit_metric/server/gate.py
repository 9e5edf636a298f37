"""What every request passes first: whose it is, how large it is, and how long it may take to come."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..errors import InputError

_OPEN = {("GET", "/"), ("GET", "/page.js"), ("GET", "/page.css"), ("GET", "/health")}
_PASSED, _PATIENCE = 8, 10.0  # bodies, and seconds, that a refused client may still send
_LOCAL = ("localhost", "127.0.0.1", "[::1]", "")


@dataclass(frozen=True)
class Limits:
    """What a client may ask for.

    Attributes:
        body: Bytes of one request.
        memory: Bytes of all requests that are held at a time.
        queue: Pictures and questions that are under way at a time.
        seconds: For a request to come, and again to be answered.
        retry: Seconds after which a refused client is told to come again.
    """

    body: int = 64 << 20
    memory: int = 512 << 20
    queue: int = 256
    seconds: float = 120.0
    retry: int = 1

    def __post_init__(self) -> None:
        for name in ("body", "memory", "queue", "seconds", "retry"):
            if not getattr(self, name) > 0:
                raise InputError.about(name, getattr(self, name), "a number above 0")


class Refused(Exception):
    """A request that is answered without a look at what it asks: a status and the reason."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


class Gate:
    """ASGI middleware: asks for the token, and reads the body within the limits before anything else sees it.

    Args:
        app: What stands behind it.
        token: What clients must send as `Authorization: Bearer TOKEN`. None takes every client that speaks to this
            machine by its own name: a page elsewhere cannot reach the server through somebody's browser.
        limits: See `Limits`.
    """

    def __init__(self, app: ASGIApp, token: str | None, limits: Limits) -> None:
        self._app, self._token, self._limits = app, token, limits
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; lifespan messages go through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        held = _Held(self)
        try:
            self._admit(scope)
            body = await asyncio.wait_for(self._read(scope, receive, held), self._limits.seconds)
            if body is not None:  # else the client has gone
                await self._app(scope, _replayed(body, receive), send)
        except Refused as error:
            await self._pass_over(receive, held)
            await _answer(send, error, self._limits.retry)
        except asyncio.TimeoutError:
            late = Refused(408, f"The request did not come within {self._limits.seconds:g} seconds.")
            await _answer(send, late, self._limits.retry)
        finally:
            self._held -= held.size

    def _admit(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        if self._token is None:
            host = headers.get("host", "").lower()
            name = host if host.endswith("]") else host.rpartition(":")[0] or host
            if name not in _LOCAL:
                raise Refused(421, "Without a token this server is called by the name localhost or 127.0.0.1.")
            origin = headers.get("origin", "").lower()
            if origin and origin.partition("://")[2] != host:
                raise Refused(403, "Without a token pages of other origins are not answered.")
        elif (scope["method"], scope["path"]) not in _OPEN:
            kind, _, given = headers.get("authorization", "").partition(" ")
            if kind.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), self._token.encode()):
                raise Refused(401, "The header `Authorization: Bearer TOKEN` is missing, or the token is another.")

    async def _read(self, scope: Scope, receive: Receive, held: _Held) -> bytes | None:
        said = Headers(scope=scope).get("content-length", "")
        if said.isdigit():
            self._check(int(said), 0)
        parts: list[bytes] = []
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            part = message.get("body", b"")
            held.more = more = message.get("more_body", False)
            self._check(held.size, len(part))
            held.take(len(part))
            parts.append(part)
        return b"".join(parts)

    async def _pass_over(self, receive: Receive, held: _Held) -> None:
        """Let a refused client send the rest, within limits: one that is cut off meanwhile never sees the answer."""

        async def rest() -> None:
            passed = 0
            while held.more and passed < _PASSED * self._limits.body:
                message = await receive()
                passed += len(message.get("body", b""))
                held.more = message.get("more_body", False)

        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(rest(), min(_PATIENCE, self._limits.seconds))

    def _check(self, size: int, added: int) -> None:
        if size + added > self._limits.body:
            raise Refused(413, f"A request may have {self._limits.body} bytes; send fewer pictures at a time.")
        if self._held + added > self._limits.memory:
            raise Refused(503, "Too many bytes of other requests are under way; try again in a moment.")

    def hold(self, size: int) -> None:
        """Count bytes that are in memory."""
        self._held += size


class _Held:
    """The bytes of one request."""

    def __init__(self, gate: Gate) -> None:
        self.size, self.more, self._gate = 0, True, gate

    def take(self, size: int) -> None:
        self.size += size
        self._gate.hold(size)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """The body as one message, then what comes from the client."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return messages.pop() if messages else await receive()

    return replay


async def _answer(send: Send, error: Refused, retry: int) -> None:
    content = json.dumps({"error": error.reason}).encode()
    headers: list[Any] = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
    headers += [(b"retry-after", str(retry).encode())] if error.status == 503 else []
    headers += [(b"www-authenticate", b"Bearer")] if error.status == 401 else []
    headers += [(b"connection", b"close")]  # what is left of the body is not read
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
