"""What the pages say that can be tried: their Python blocks, and the commands in their console blocks.

A block is run unless the line above its fence says why not, in a comment that a reader does not see:

    <!-- not run: needs a GPU -->

`<!-- needs: pyiqa -->` says that the page's blocks from there on need a package that is not always installed.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
CARD = ROOT / "src" / "qsit_metric" / "weights" / "q-sit-nano" / "README.md"
_OUTSIDE = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *(ROOT / "train").glob("*.md"), CARD]
PAGES = sorted([*DOCS.rglob("*.md"), *(page for page in _OUTSIDE if page.exists())])

_BLOCK = re.compile(r"^(?:<!-- not run: (.+?) -->\n)?```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NEEDS = re.compile(r"^<!-- needs: ([\w, ]+) -->$", re.MULTILINE)
_VARIABLE = re.compile(r"[A-Z_]+=\S*")

TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
_OPTIONAL = (ROOT / "pyproject.toml").read_text(encoding="utf-8").split("[project.optional-dependencies]")[1]
EXTRAS = set(re.findall(r"^([a-z0-9-]+) = \[", _OPTIONAL.split("\n[")[0], re.MULTILINE))


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    page: Path
    line: int
    language: str
    text: str
    reason: str  # why it is not run, or ""
    needs: tuple[str, ...]  # packages that its page asks for

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT).as_posix()}:{self.line}"

    @property
    def obstacle(self) -> str:
        """Why it cannot be run here, or ""."""
        missing = [name for name in self.needs if find_spec(name) is None]
        return self.reason or (f"needs {' and '.join(missing)}" if missing else "")


def blocks(page: Path, language: str) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    needs = [(m.start(), tuple(re.split(r"[ ,]+", m[1]))) for m in _NEEDS.finditer(text)]
    return [
        Block(page, text.count("\n", 0, m.start(2)) + 1, m[2], m[3], m[1] or "", _asked(needs, m.start()))
        for m in _BLOCK.finditer(text)
        if m[2] == language
    ]


def _asked(needs: Sequence[tuple[int, tuple[str, ...]]], place: int) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for start, names in needs if start < place for name in names))


@dataclass(frozen=True)
class Command:
    """One command of a console block: variables that are set for it, and its words."""

    variables: dict[str, str]
    words: list[str]


def commands(block: Block) -> list[Command]:
    """The lines that begin with a prompt; a line that ends with a backslash goes on."""
    found = []
    for line in re.sub(r" *\\\n\s*", " ", block.text).splitlines():
        if line.startswith("$ "):
            words = shlex.split(line[2:], comments=True)
            count = next(i for i, word in enumerate([*words, ""]) if not _VARIABLE.fullmatch(word))
            found.append(Command(dict(word.split("=", 1) for word in words[:count]), words[count:]))
    return found


def links(page: Path) -> list[str]:
    """Targets of all links and pictures outside of fenced blocks."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"\]\(([^()\s]+)\)", text)
