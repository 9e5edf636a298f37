"""`qsit serve`: one loaded model for many clients, over HTTP or over stdin and stdout."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import signal
import socket
import sys
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from .. import console, packages
from ..errors import InputError
from .command import options_of
from .options import ModelOptions

if TYPE_CHECKING:
    from fastapi import FastAPI

_TOKEN = "QSIT_SERVE_TOKEN"
# module, name on the package index, first release that works, first that is not known to
_NEEDED = (
    ("fastapi", "", "0.115", "1"),
    ("uvicorn", "", "0.30", "1"),
    ("python_multipart", "python-multipart", "0.0.13", "1"),
    ("prometheus_client", "prometheus-client", "0.20", "1"),
)


def serve(
    ctx: typer.Context,
    *,
    host: Annotated[
        str, typer.Option("--host", metavar="ADDRESS", help="Where to listen; other than this machine needs a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", metavar="N", min=0, max=65535, help="0 takes a free one.")] = 8080,
    access_token: Annotated[
        str | None,
        typer.Option(
            "--access-token",
            metavar="TOKEN",
            help=f"What clients must send. {_TOKEN} keeps it out of the process list.",
        ),
    ] = None,
    scale: Annotated[
        Literal["mos", "unit", "fifth"], typer.Option("--scale", help="Of /compute: 1..5, 0..1, or score / 5.")
    ] = "unit",
    queue: Annotated[
        int, typer.Option("--queue", metavar="N", min=1, help="Pictures under way at a time; more are told to wait.")
    ] = 256,
    max_body: Annotated[
        int, typer.Option("--max-body", metavar="MB", min=1, help="Megabytes that one request may have.")
    ] = 64,
    seconds: Annotated[
        float, typer.Option("--request-timeout", metavar="SECONDS", min=0.001, help="Time that a request may take.")
    ] = 120.0,
    pickles: Annotated[
        bool, typer.Option("--pickle", help="Take pickles of plain values by POST to /, as flow_grpo sends them.")
    ] = False,
    stdio: Annotated[
        bool, typer.Option("--stdio", help="A line of JSON in, a line of JSON out, instead of HTTP.")
    ] = False,
) -> int:
    """Keep the model loaded, and answer many clients: scores, rewards, questions, maps, and a page to drop pictures on.

    http://ADDRESS:PORT/ is the page, /openapi.json says what may be asked.
    """
    options = options_of(ctx, ModelOptions)
    if stdio:
        return _lines(options)
    token = access_token or os.environ.get(_TOKEN) or None
    _check(host, token)
    for module, name, least, below in _NEEDED:
        packages.require(module, "serve", name, least=least, below=below)
    from ..server.app import build
    from ..server.gate import Limits

    limits = Limits(body=max_body << 20, memory=max(512, max_body) << 20, queue=queue, seconds=seconds)
    with _bound(host, port) as listening:
        app = build(options.load(), token=token, limits=limits, scale=scale, pickles=pickles)
        shown = f"[{host}]" if ":" in host else host
        console.say(f"Listening on http://{shown}:{listening.getsockname()[1]}")
        _run(app, listening, seconds)
    return 0


def _lines(options: ModelOptions) -> int:
    from ..server.lines import Lines

    Lines(options.load()).run(sys.stdin.buffer, console.write)
    return 0


def _check(host: str, token: str | None) -> None:
    """A server that others reach has a token, and a token can stand in a header."""
    if token is not None and not (token.isascii() and token.isprintable() and " " not in token):
        raise InputError.about("--access-token", "<not shown>", "letters, digits and signs, without spaces")
    if token is None and not _is_local(host):
        hint = f"Set {_TOKEN}, and let clients send it as `Authorization: Bearer TOKEN`."
        raise InputError.about("--host", host, "127.0.0.1, ::1 or localhost, or a token", hint)


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _bound(host: str, port: int) -> socket.socket:
    """A socket that listens, before a model is loaded for it."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=512)
    except OSError as error:
        expected = "an address of this machine and a port that is free"
        raise InputError.about("--port", f"<{host}:{port}>", expected, f"The system says: {error.strerror}.") from error


def _run(app: FastAPI, listening: socket.socket, seconds: float) -> None:
    """Serve until a signal; what has begun is finished first."""
    import uvicorn

    # No line per request: addresses may hold what a client should have put elsewhere.
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=max(1, round(seconds)),
        server_header=False,
    )
    before = signal.signal(signal.SIGTERM, lambda *_: None)  # uvicorn stops, and raises the signal again at the end
    try:
        with contextlib.suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[listening])
    finally:
        signal.signal(signal.SIGTERM, before)
    console.say("Stopped.")
