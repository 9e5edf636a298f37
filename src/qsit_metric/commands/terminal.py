"""What the commands write, and where: results on stdout, everything said to a person on stderr."""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from typing import Any, TextIO

from rich.console import Console
from rich.text import Text

LOGGER = logging.getLogger("qsit_metric")

_WIDE = 10_000  # a table in a file or a pipe is never wrapped
_BLOCKS = "▁▂▃▄▅▆▇█"
_DIGITS = "0123456789"


class _Console(Console):
    """A console that leaves a closed pipe to the caller; rich would end the process with an exit code of its own."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


@functools.cache
def out() -> Console:
    """The console of results."""
    return _Console(highlight=False, emoji=False, width=None if watched(sys.stdout) else _WIDE)


@functools.cache
def err() -> Console:
    """The console of messages; log lines and the progress bar share it, so that they do not overwrite each other."""
    return _Console(stderr=True, highlight=False, emoji=False)


def watched(stream: TextIO) -> bool:
    """Whether a person looks at the stream. Not rich's `is_terminal`: FORCE_COLOR, which CI sets, makes that true."""
    return stream.isatty()


def say(message: str, style: str = "") -> None:
    """Tell the person at the terminal one line; it is neither wrapped nor read as markup."""
    err().print(Text(message, style=style), soft_wrap=True)


def write(text: str) -> None:
    """Put machine-readable text on stdout, at once, in UTF-8 whatever the terminal speaks.

    File names that are no text come out with the bytes that they have on disk.
    """
    sys.stdout.flush()
    sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape"))
    sys.stdout.buffer.flush()


def to_json(value: Any, indent: int | None = None) -> str:
    """Write JSON that any reader takes: letters as they are, unless a file name in it is no text."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return json.dumps(value, indent=indent)
    return text


def printable(text: str) -> str:
    r"""Show what a file may be called without letting it steer the terminal.

    Example:
        >>> printable("evil\x1b[2J.png")
        'evil\\x1b[2J.png'
    """
    escaped = (c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode("ascii") for c in text)
    return "".join(escaped)


def bars(values: list[float], *, ascii_only: bool) -> str:
    """Draw values in 0..1 as small columns; as tenths where the terminal has no such letters.

    Example:
        >>> bars([0.0, 0.06, 0.3, 0.64, 1.0], ascii_only=False), bars([0.0, 0.06, 0.3, 0.64, 1.0], ascii_only=True)
        ('▁▁▃▆█', '00369')
    """
    signs = _DIGITS if ascii_only else _BLOCKS
    heights = (min(int(value * len(signs)), len(signs) - 1) if value > 0 else 0 for value in values)  # 0 for a NaN
    return "".join(signs[height] for height in heights)


def size(count: int) -> str:
    """Write a number of bytes as a person says it.

    Example:
        >>> size(1_790_000_000), size(1_200_000), size(0)
        ('1.8 GB', '1.2 MB', '0.0 MB')
    """
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


@contextlib.contextmanager
def prepared(debug: bool) -> Iterator[None]:
    """Set logging and warnings up for one command, and put them back.

    Our own warnings become short lines on stderr. Those of other packages are for developers: only `debug` shows them.
    """
    for console in (out, err):
        console.cache_clear()
    for stream in (sys.stdout, sys.stderr):  # a name that the terminal cannot show is no reason to stop
        getattr(stream, "reconfigure", lambda **_: None)(errors="backslashreplace")
    handler, before = _Lines(), (LOGGER.level, LOGGER.propagate)
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.DEBUG if debug else logging.WARNING)
    LOGGER.propagate = False
    try:
        with warnings.catch_warnings():
            if not debug and not sys.warnoptions:
                warnings.simplefilter("ignore")
            yield
    finally:
        LOGGER.removeHandler(handler)
        LOGGER.setLevel(before[0])  # not `.level =`: loggers remember what is enabled until setLevel says otherwise
        LOGGER.propagate = before[1]


class _Lines(logging.Handler):
    """Log records as lines like `warning: ...`."""

    def emit(self, record: logging.LogRecord) -> None:
        say(f"{record.levelname.lower()}: {printable(record.getMessage())}", "yellow")


def drop_stdout() -> None:
    """After a closed pipe: what is still buffered goes nowhere, so that the interpreter can end without a complaint."""
    with contextlib.suppress(OSError, ValueError):  # not a real file: nothing is left to complain
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
