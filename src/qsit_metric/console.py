"""The terminal of the three programs (`qsit`, `train`, `benchmarks`): lines, tables, progress bars, colours.

Results go to stdout, everything said to a person to stderr.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, TextIO, TypeAlias, TypeVar

from rich.console import Console
from rich.text import Text

from . import packages
from .errors import OutputError

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn
    from rich.table import Table

LOGGER = logging.getLogger("qsit_metric")

T = TypeVar("T")
Move: TypeAlias = "Callable[[int | None, int | None], None]"
"""Moves a bar: (done, total), where None means "one more" and "as before"."""

_WIDE = 10_000  # a table in a file or a pipe is never wrapped
_BLOCKS = "▁▂▃▄▅▆▇█"
_DIGITS = "0123456789"
_PERIOD = 3600.0  # seconds over which a bar takes the speed: results come in bursts, a batch at a time


class _Console(Console):
    """A console that leaves a closed pipe to the caller; rich would end the process with an exit code of its own."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


class _Results(_Console):
    """The one of stdout: what cannot be written there is an error."""

    def print(self, *objects: Any, **settings: Any) -> None:
        with delivered():
            super().print(*objects, **settings)


class _Messages(_Console):
    """The one of stderr: where nobody can be told anything, the work goes on."""

    def print(self, *objects: Any, **settings: Any) -> None:
        with contextlib.suppress(OSError):
            super().print(*objects, **settings)


@functools.cache
def out() -> Console:
    """The console of results."""
    return _Results(highlight=False, emoji=False, width=None if watched(sys.stdout) else _WIDE)


@functools.cache
def err() -> Console:
    """The console of messages; log lines and the progress bar share it, so that they do not overwrite each other."""
    return _Messages(stderr=True, highlight=False, emoji=False)


@contextlib.contextmanager
def delivered() -> Iterator[None]:
    """Around what writes to stdout: a full disk or a closed stream becomes one error.

    Raises:
        OutputError: It was not taken; nothing is written there any more.
        BrokenPipeError: Its reader has seen enough.
    """
    try:
        if sys.stdout is None:  # `>&-`: closed before this process began
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        drop_stdout()
        expected, hint = "a place that takes what is written to it", "What is there is not complete."
        raise OutputError.about("stdout", f"<{error.strerror or error}>", expected, hint) from error


def watched(stream: TextIO | None) -> bool:
    """Whether a person looks at the stream. Not rich's `is_terminal`: FORCE_COLOR, which CI sets, makes that true."""
    return stream is not None and stream.isatty()


def say(message: str, style: str = "") -> None:
    """Tell the person at the terminal one line; it is neither wrapped nor read as markup."""
    err().print(Text(message, style=style), soft_wrap=True)


def write(text: str) -> None:
    """Put machine-readable text on stdout, at once, in UTF-8 whatever the terminal speaks.

    File names that are no text come out with the bytes that they have on disk.

    Raises:
        OutputError: A full disk, a closed stream.
    """
    with delivered():
        sys.stdout.flush()
        sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape"))
        sys.stdout.buffer.flush()


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


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]] = (),
    *,
    folded: Sequence[str] | None = None,
    title: str = "",
    header: bool = True,
) -> Table:
    """Lay out a table for people: no frame, cells as text that cannot steer the terminal, nothing cut off.

    Args:
        columns: Their names; one that starts with ">" is set to the right.
        rows: Cells; `rich.text.Text` keeps its style, everything else is shown as `str`.
        folded: Those whose cells may take several lines; default: all. The others are never broken.
        title: Above it, if any.
        header: Whether the names are shown.

    Returns:
        To be printed by `out().print`, or to be added to.
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    made = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, title=title or None, show_header=header)
    for name in columns:
        whole = folded is not None and name not in folded
        side: Literal["left", "right"] = "right" if name.startswith(">") else "left"
        made.add_column(name.removeprefix(">"), justify=side, overflow="fold", no_wrap=whole)
    for row in rows:
        made.add_row(*(cell if isinstance(cell, Text) else Text(printable(str(cell))) for cell in row))
    return made


@contextlib.contextmanager
def progress(
    title: str, total: int | None = None, *, unit: str = "", quiet: bool = False, transient: bool = True
) -> Iterator[Move]:
    """Show a bar on stderr with the time left, if a person watches; else nothing is shown.

    Args:
        title: What is done.
        total: How many steps it has; None until the first move that says it.
        unit: What is counted; given, its speed is shown, taken over the whole run.
        quiet: Show nothing.
        transient: Wipe the bar away at the end.

    Returns:
        A function that moves the bar: `move(None, None)` by one step, `move(done, total)` to a place.
    """
    if quiet or total == 0 or not watched(sys.stderr):
        yield lambda done, total: None
        return
    with _bar(unit, transient) as bar:
        task = bar.add_task(title, total=total)

        def move(done: int | None, total: int | None) -> None:
            bar.update(task, completed=done, total=total, advance=1 if done is None else None)

        yield move


def track(steps: Iterable[T], title: str, total: int | None = None, *, quiet: bool = False) -> Iterator[T]:
    """Go through steps with a bar like that of `progress`."""
    with progress(title, len(steps) if total is None and isinstance(steps, Sequence) else total, quiet=quiet) as move:
        for step in steps:
            yield step
            move(None, None)


def _bar(unit: str, transient: bool) -> Progress:
    from rich import progress as parts

    class Pace(parts.ProgressColumn):
        """Speed and time left over the whole run: rich takes the burst after a batch for the speed."""

        def render(self, task: parts.Task) -> Text:
            if not task.completed or not task.elapsed:
                return Text("")
            left = timedelta(seconds=round(task.elapsed / task.completed * (task.remaining or 0)))
            return Text(f"{task.completed / task.elapsed:.1f} {unit}/s, {left} left", style="progress.remaining")

    ends: Sequence[ProgressColumn] = (Pace(),) if unit else (parts.TimeElapsedColumn(), parts.TimeRemainingColumn())
    columns = (parts.TextColumn("{task.description}"), parts.BarColumn(), parts.MofNCompleteColumn(), *ends)
    # stdout must not be redirected: rich would send it to the console of the bar, which is stderr.
    return parts.Progress(
        *columns, console=err(), transient=transient, speed_estimate_period=_PERIOD, redirect_stdout=False
    )


def hush() -> None:
    """Switch off what transformers says to developers; the Hub client's download bar stays. Not with `--debug`."""
    if not LOGGER.isEnabledFor(logging.DEBUG):
        packages.hush()


_CLOSING: list[str] = []


def at_the_end(line: str) -> None:
    """Have a command say something when everything else is said."""
    _CLOSING.append(line)


@contextlib.contextmanager
def prepared(debug: bool) -> Iterator[None]:
    """Set logging and warnings up for one command, and put them back.

    Our own warnings become short lines on stderr. Those of other packages are for developers: only `debug` shows them.
    """
    for console in (out, err):
        console.cache_clear()
    for stream in (sys.stdout, sys.stderr):  # a name that the terminal cannot show is no reason to stop
        getattr(stream, "reconfigure", lambda **_: None)(errors="backslashreplace")
    _CLOSING.clear()
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
        while _CLOSING:
            say(_CLOSING.pop(0), "yellow")
        LOGGER.removeHandler(handler)
        LOGGER.setLevel(before[0])  # not `.level =`: loggers remember what is enabled until setLevel says otherwise
        LOGGER.propagate = before[1]


class _Lines(logging.Handler):
    """Log records as lines like `warning: ...`."""

    def emit(self, record: logging.LogRecord) -> None:
        say(f"{record.levelname.lower()}: {printable(record.getMessage())}", "yellow")


def drop_stdout() -> None:
    """After a closed pipe: what is still buffered goes nowhere, so that the interpreter can end without a complaint."""
    with contextlib.suppress(OSError, ValueError, AttributeError):  # no real file: nothing is left to complain
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
