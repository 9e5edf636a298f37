"""Results as lines of JSON that are appended as they come, so that a killed run goes on where it was."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from qsit_metric.evaluation import EvaluationError
from qsit_metric.files import write_atomic


class Log:
    """The lines of one measurement; the first says what they were made with.

    Args:
        path: The file; made if it is not there, and a last line that is torn is cut off.
        made: What must agree for two lines to stand in one file.

    Attributes:
        done: The lines that are there, by their "key".

    Raises:
        EvaluationError: The file was made with something else, or is none of these.
    """

    def __init__(self, path: Path, made: Mapping[str, Any]) -> None:
        self._path = path
        self.done: dict[str, dict[str, Any]] = {}
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, json.dumps(dict(made)) + "\n")
            return
        content = path.read_bytes()
        whole = content.rfind(b"\n") + 1
        lines = self._read(content[:whole])
        if not lines or lines[0] != dict(made):
            raise self._foreign(lines[0] if lines else {}, made)
        os.truncate(path, whole)
        self.done = {line["key"]: line for line in lines[1:]}

    def add(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Append lines, each with a "key" of its own; they are on the disk when this returns."""
        new = [dict(line) for line in lines]
        with self._path.open("a", encoding="utf-8", newline="\n") as file:
            file.write("".join(json.dumps(line, allow_nan=False) + "\n" for line in new))
            file.flush()
            os.fsync(file.fileno())
        self.done |= {line["key"]: line for line in new}

    def _read(self, content: bytes) -> list[dict[str, Any]]:
        try:
            lines = [json.loads(line) for line in content.decode("utf-8").splitlines()]
        except ValueError as error:
            raise EvaluationError.about("--output", str(self._path), "lines of JSON", "Name another folder.") from error
        return lines

    def _foreign(self, theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> EvaluationError:
        names = [name for name in ours if theirs.get(name) != ours[name]]
        shown = ", ".join(f"{name} {theirs.get(name)} (now {ours[name]})" for name in names) or "nothing that is known"
        expected = "a folder with results of the same run"
        return EvaluationError.about("--output", str(self._path), expected, f"It was made with {shown}.")
