"""A real headless browser: what a page does there, what it says on the console, and how it looks.

Chromium is found on PATH or by the variable CHROME. Where there is none, tests are skipped, or fail under
QSIT_REQUIRE_BROWSER=1. It is spoken to over a pipe (`--remote-debugging-pipe`), in the DevTools protocol: messages are
JSON and end in NUL.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_PATIENCE = 90.0  # seconds for one answer


def chrome() -> str:
    """The program; without one the test is skipped, or fails where a browser is required."""
    found = os.environ.get("CHROME") or next(filter(None, map(shutil.which, _NAMES)), None)
    if found:
        return found
    message = "no Chromium on PATH; CHROME names one"
    if os.environ.get("QSIT_REQUIRE_BROWSER") == "1":
        pytest.fail(message)
    pytest.skip(message)


class Tab:
    """One page in the browser; `said` is what came on the console and every error."""

    def __init__(self, commands: int, answers: int) -> None:
        self.said: list[str] = []
        self.home = "file:"
        self._commands, self._answers, self._rest = commands, answers, b""
        self._numbers, self._events, self._session = itertools.count(1), [], None
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def open(self, page: Path | str, size: tuple[int, int]) -> None:
        """Load a file, or an address from which alone it may fetch, in a window of this size."""
        self.home = page if isinstance(page, str) else "file:"
        mobile = size[0] < 600
        metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": mobile}
        self.ask("Emulation.setDeviceMetricsOverride", **metrics)
        self._events.clear()
        self.ask("Page.navigate", url=page if isinstance(page, str) else page.resolve().as_uri())
        while "Page.loadEventFired" not in self._events:
            self._next()

    def run(self, script: str) -> Any:
        """Run the body of an async function, and give what it returns."""
        expression = f"(async () => {{ {script} }})()"
        found = self.ask("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def photograph(self, target: Path) -> None:
        """Save how the window looks."""
        target.write_bytes(base64.b64decode(self.ask("Page.captureScreenshot")["data"]))

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params}
        message |= {"sessionId": self._session} if self._session else {}
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while (found := self._next()).get("id") != number:
            pass
        assert "error" not in found, found
        return found["result"]

    def _next(self) -> dict[str, Any]:
        end = time.monotonic() + _PATIENCE
        while b"\0" not in self._rest:
            assert select.select([self._answers], [], [], max(0.0, end - time.monotonic()))[0], "the browser is silent"
            piece = os.read(self._answers, 1 << 20)
            assert piece, "the browser has ended"
            self._rest += piece
        line, _, self._rest = self._rest.partition(b"\0")
        found = json.loads(line)
        method = found.get("method", "")
        self._events.append(method)
        fetched = found.get("params", {}).get("request", {}).get("url", "")
        if method in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"):
            self.said.append(json.dumps(found["params"]))
        elif method == "Network.requestWillBeSent" and not fetched.startswith((self.home, "data:", "blob:")):
            self.said.append(f"fetched {fetched}")
        return found


@contextlib.contextmanager
def opened(page: Path | str, size: tuple[int, int] = (1280, 900)) -> Iterator[Tab]:
    """A page in a browser of its own; nothing may have been said or fetched from elsewhere when the block ends."""
    program = chrome()
    (theirs, commands), (answers, ours) = os.pipe(), os.pipe()
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [program, *flags, "--hide-scrollbars", "--remote-debugging-pipe", f"--user-data-dir={profile}"]
        piped = ["bash", "-c", f'exec "$@" 3<&{theirs} 4>&{ours}', "bash", *command]  # sh takes no fd above 9
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        process = subprocess.Popen(piped, pass_fds=(theirs, ours), **quiet)
        os.close(theirs)
        os.close(ours)
        try:
            tab = Tab(commands, answers)
            tab.open(page, size)
            yield tab
            assert tab.said == [], tab.said
        finally:
            os.close(commands)
            os.close(answers)
            process.terminate()
            process.wait(30)
