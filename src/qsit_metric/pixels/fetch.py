"""Fetch the bytes of a picture: from a file, an open stream or the web.

Each function returns a binary handle at position 0 that the caller closes; `decode` reads it. Files are not read into
memory here (a 10 GB video given by mistake costs one header), streams and downloads are. Only the standard library is
used, and nothing is written to disk.
"""

from __future__ import annotations

import base64
import http.client
import io
import queue
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote, unquote_to_bytes, urljoin, urlsplit
from urllib.request import url2pathname

from .._version import __version__
from ..errors import ImageError

TIMEOUT = 20.0
"""Seconds a download may take in all, and that one read may wait."""
MAX_BYTES = 64 * 2**20
"""Size of the largest picture that is downloaded."""
MAX_REDIRECTS = 10

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+)://|(data):", re.IGNORECASE)
_MOVED = frozenset({301, 302, 303, 307, 308})
_CHUNK = 64 * 1024
_SHOWN = 110


def unusable(source: str, expected: str, hint: str = "") -> ImageError:
    """Build the error for the argument `image`; of a long path the end is shown, because the file's name stands there.

    Example:
        >>> str(unusable("a.jpg", "a regular file"))
        "`image`: got 'a.jpg', expected a regular file."
    """
    shown = source if len(source) <= _SHOWN or source.startswith("<") else f"<...{source[-_SHOWN:]}>"
    return ImageError.about("image", shown, expected, hint)


def scheme(text: str) -> str | None:
    """Name the URL scheme of a string in lower case, or None for a path.

    Example:
        >>> scheme("HTTPS://example.org/a.jpg"), scheme("photos/a.jpg"), scheme("C:/a.jpg")
        ('https', None, None)
    """
    found = _SCHEME.match(text)
    return (found[1] or found[2]).lower() if found else None


def file_of(uri: str) -> str:
    """The path that a `file:` URI means.

    Raises:
        ImageError: It names another machine.

    Example:
        >>> file_of("file:///photos/my%20cat.jpg")
        '/photos/my cat.jpg'
    """
    parts = urlsplit(uri)
    if parts.netloc not in ("", "localhost"):
        raise unusable(uri, "a file URI of this machine (file:///path)", "Pass the path.")
    return url2pathname(parts.path)


def data_of(uri: str, source: str) -> bytes:
    """The bytes that a `data:` URI carries (RFC 2397).

    Args:
        uri: All of it.
        source: Its name in messages.

    Raises:
        ImageError: It has no comma, or is no base64.

    Example:
        >>> data_of("data:text/plain;base64,YWJj", "<example>"), data_of("data:,a%20b", "<example>")
        (b'abc', b'a b')
    """
    head, comma, body = uri.partition(",")
    try:
        content = unquote_to_bytes(body)
        if head.lower().endswith(";base64"):
            bare = content.translate(None, b" \t\r\n").rstrip(b"=")
            content = base64.b64decode(
                bare + b"=" * (-len(bare) % 4), altchars=b"-_" if b"-" in bare or b"_" in bare else None, validate=True
            )
    except ValueError as error:
        raise unusable(source, "a data URI with base64 behind its comma", f"It cannot be decoded: {error}.") from error
    if not comma:
        raise unusable(source, "a data URI with a comma before its data", "data:image/png;base64,... is one.")
    return content


def open_path(given: str) -> BinaryIO:
    """Open a picture file for reading.

    Args:
        given: A path; a leading `~` means the home directory.

    Returns:
        The open file.

    Raises:
        ImageError: There is no such file, it is a directory or a pipe, or it may not be read.

    Example:
        >>> open_path("no/such/photo.jpg")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        qsit_metric.errors.ImageError: `image`: got 'no/such/photo.jpg', expected an existing file. Check ...
    """
    try:
        return _regular_file(given).open("rb")
    except OSError as error:
        raise unusable(given, "a readable file", f"The system says: {error.strerror or error}.") from error


def read_stream(stream: object, source: str) -> BinaryIO:
    """Read a binary file object from its start to its end.

    Args:
        stream: Anything with a `read` method; rewound first where that is possible.
        source: Its name in messages.

    Returns:
        Its content in memory.

    Raises:
        ImageError: The stream delivers text, or nothing yet.

    Example:
        >>> read_stream(io.BytesIO(b"abc"), "<BytesIO>").read()
        b'abc'
    """
    # As PIL does: whoever has just written to the stream has left it at its end.
    if getattr(stream, "seekable", lambda: False)():
        stream.seek(0)  # type: ignore[attr-defined]
    content = stream.read()  # type: ignore[attr-defined]
    if not isinstance(content, (bytes, bytearray, memoryview)):
        got = f"a stream of bytes, not of {type(content).__name__}"
        raise unusable(source, got, 'Open the file in binary mode: open(path, "rb").')
    return io.BytesIO(content)


def download(url: str, *, timeout: float | None = None, max_bytes: int | None = None) -> BinaryIO:
    """Download a picture over http or https into memory.

    Proxies are taken from the environment, as everywhere in Python. Redirects are followed to http and https only.

    Args:
        url: The address; spaces and letters outside ASCII are quoted.
        timeout: Seconds for everything together; `TIMEOUT` when None.
        max_bytes: Most bytes taken; `MAX_BYTES` when None.

    Returns:
        The body.

    Raises:
        ImageError: Any failure: scheme, name, connection, status, size, time.

    Example:
        >>> download("ftp://example.org/a.jpg")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        qsit_metric.errors.ImageError: `image`: got 'ftp://example.org/a.jpg', expected an http or https address. ...
    """
    seconds = TIMEOUT if timeout is None else timeout
    limit = MAX_BYTES if max_bytes is None else max_bytes
    try:
        return io.BytesIO(_within(seconds, lambda: _follow(url, time.monotonic() + seconds, limit)))
    except ImageError:
        raise
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        if isinstance(reason, TimeoutError):
            hint = "Try again, or download it yourself and pass the file."
            raise unusable(url, f"an answer within {seconds:g} seconds", hint) from error
        raise unusable(url, "an address that answers", f"The connection failed: {reason!r}.") from error


def _regular_file(given: str) -> Path:
    path = _expanded(given)
    if not given:
        raise unusable(given, "a path")
    if path.is_dir():
        hint = "Pass the files inside it, for example `sorted(Path(folder).glob('*.jpg'))`."
        raise unusable(given, "a file, not a directory", hint)
    if not path.exists():
        where = "" if path.is_absolute() else f" (it was looked for in {str(Path.cwd())!r})"
        raise unusable(given, "an existing file", f"Check the spelling{where}.")
    if not path.is_file():  # reading a pipe or a device could wait for ever
        raise unusable(given, "a regular file", "Read the pipe or device yourself and pass the bytes.")
    return path


def _expanded(given: str) -> Path:
    try:
        return Path(given).expanduser()
    except RuntimeError:  # nobody is called so: "~draft.jpg" is a name like any other
        return Path(given)


def _within(seconds: float, work: Callable[[], bytes]) -> bytes:
    """Give `work` so many seconds, in a thread: a socket's timeout bounds neither a name look-up nor a slow drip."""
    box: queue.SimpleQueue[bytes | BaseException] = queue.SimpleQueue()

    def run() -> None:
        try:
            box.put(work())
        except BaseException as error:  # noqa: BLE001  # raised again below, in the thread that waits
            box.put(error)

    threading.Thread(target=run, name="qsit-metric-download", daemon=True).start()
    try:
        outcome = box.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError("out of time") from None
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome


def _follow(url: str, deadline: float, limit: int) -> bytes:
    address = url
    for _ in range(MAX_REDIRECTS + 1):
        if scheme(address) not in {"http", "https"}:
            moved = "" if address == url else f"The server redirects to {address!r}. "
            raise unusable(url, "an http or https address", f"{moved}Fetch it yourself and pass the path or the bytes.")
        with _answer(address, deadline) as response:
            if response.status not in _MOVED:
                return _body(response, url, deadline, limit)
            address = urljoin(address, response.headers.get("Location", ""))
    raise unusable(url, f"at most {MAX_REDIRECTS} redirects", "Pass the final address.")


def _answer(address: str, deadline: float) -> http.client.HTTPResponse:
    # An opener of these four alone: without the handlers for file:, ftp: and data: no redirect gets there, and without
    # those for statuses and redirects the body of an answer that is not the picture is never read.
    opener = urllib.request.OpenerDirector()
    handlers = urllib.request.ProxyHandler, urllib.request.HTTPHandler, urllib.request.HTTPSHandler
    for handler in (*handlers, urllib.request.UnknownHandler):
        opener.add_handler(handler())
    request = urllib.request.Request(_quoted(address), headers={"User-Agent": f"qsit-metric/{__version__}"})
    response = opener.open(request, timeout=_left(deadline))
    if not isinstance(response, http.client.HTTPResponse):
        raise urllib.error.URLError("not an HTTP answer")
    return response


def _quoted(address: str) -> str:
    parts = urlsplit(address)
    path, query = (quote(text, safe="/%:=&?~+!$,;'@()*[]") for text in (parts.path, parts.query))
    return parts._replace(path=path, query=query, fragment="").geturl()


def _body(response: http.client.HTTPResponse, url: str, deadline: float, limit: int) -> bytes:
    if response.status != 200:
        hint = f"The server answers {response.status} {response.reason}: open the address in a browser to check it."
        raise unusable(url, "an address that delivers a picture", hint)
    expected = response.length  # from Content-Length; None when the server does not say
    too_large = unusable(url, f"at most {limit / 2**20:g} MiB", "Download it yourself and pass the file.")
    if expected is not None and expected > limit:
        raise too_large
    body = bytearray()
    while chunk := response.read1(_CHUNK):  # read1 returns after one packet, so that the clock is looked at
        body += chunk
        if len(body) > limit:
            raise too_large
        _left(deadline)
    if expected is not None and len(body) < expected:
        raise unusable(url, f"{expected} bytes", f"The connection ended after {len(body)}: try again.")
    return bytes(body)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("out of time")
    return left
