"""What mkdocs does not do by itself: pages that lie elsewhere in the repository, links to its files, drawings in place.

The Markdown files are written to be read in the repository, where a link is a path. In the site a link to another page
stays one, any other file of the repository is copied into it and linked there, and a link to a folder becomes plain
text. An SVG drawing is put into its page as it is, so that its lines follow the light or dark scheme. And a page that
would fetch something from elsewhere is a warning, with which a strict build fails.
"""

from __future__ import annotations

import html
import logging
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from posixpath import relpath
from typing import TYPE_CHECKING
from urllib.parse import unquote

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
ELSEWHERE = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "train/README.md": "train.md",
    "train/DATA.md": "train-data.md",
    "src/qsit_metric/weights/q-sit-nano/README.md": "q-sit-nano-card.md",
    "benchmarks/results/loss-step.md": "loss-step.md",
    "benchmarks/results/nano/nano.md": "q-sit-nano-results.md",
    "benchmarks/results/quadrants/quadrants.md": "quadrants.md",
    "tests/golden/README.md": "golden-set.md",
}
"""Pages that lie outside docs/, and their places in the site."""

LOGGER = logging.getLogger("mkdocs.hooks.pages")
FENCED = re.compile(r"(^ *(`{3,}|~{3,}).*?^ *\2 *$)", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(!?)\[((?:[^][]|\[[^][]*\])*)\]\(([^()\s]+)\)")
FETCHED = re.compile(
    r"<(?:script|img|iframe|source|link rel=.?(?:stylesheet|icon|preconnect))\b[^>]*?=[\"']?(?:https?:)?//[^>]*>"
)
DRAWING = re.compile(r'<img alt="([^"]*)" src="([^"]+\.svg)"\s*/?>')


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Take the pages from elsewhere in."""
    from mkdocs.structure.files import File, InclusionLevel

    for source, place in ELSEWHERE.items():
        if (ROOT / source).is_file():
            page = File.generated(config, place, abs_src_path=str(ROOT / source))
            page.inclusion = InclusionLevel.NOT_IN_NAV if place not in str(config.nav) else InclusionLevel.INCLUDED
            files.append(page)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links that are paths in the repository into links within the site."""
    if page.is_homepage:
        page.meta["hide"] = ["navigation"]  # its section has no other page
    place = partial(_in_site, page=page, config=config, files=files)
    parts = FENCED.split(markdown)  # text, block, its fence, text ...
    texts = [part if i % 3 else LINK.sub(lambda m: _link(m, place), part) for i, part in enumerate(parts) if i % 3 != 2]
    return "".join(texts)


def on_page_content(content: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Put drawings into the page itself."""

    def drawn(match: re.Match[str]) -> str:
        path = (DOCS / page.file.src_uri).parent / unquote(match[2])
        text = path.read_text(encoding="utf-8")
        return text.replace("<svg ", f'<svg role="img" aria-label="{html.escape(html.unescape(match[1]))}" ', 1)

    return DRAWING.sub(drawn, content)


def on_post_build(config: MkDocsConfig) -> None:
    """Warn of pages that would fetch something from elsewhere."""
    for page in Path(config.site_dir).rglob("*.html"):
        for match in FETCHED.finditer(page.read_text(encoding="utf-8")):
            LOGGER.warning("%s fetches from elsewhere: %s", page.name, match[0])


def _link(match: re.Match[str], place: Callable[[str], str | None]) -> str:
    image, text, target = match.groups()
    if re.match(r"[a-z]+:|#|/", target):
        return match[0]
    found = place(target)
    return text if found is None else f"{image}[{text}]({found})"


def _in_site(target: str, page: Page, config: MkDocsConfig, files: Files) -> str | None:
    """Where a path of the repository is in the site, as seen from a page; None for a folder."""
    from mkdocs.structure.files import File

    path, sign, anchor = target.partition("#")
    real = (Path(str(page.file.abs_src_path)).parent / unquote(path)).resolve()
    if real.is_dir():
        return None
    if not real.is_file() or not real.is_relative_to(ROOT):
        return target  # mkdocs says what is wrong with it
    uri = _uri(real)
    if files.get_file_from_path(uri) is None and real.suffix == ".md":
        return target  # too late for a page: it belongs into ELSEWHERE, as mkdocs' warning will tell
    if files.get_file_from_path(uri) is None:
        files.append(File.generated(config, uri, abs_src_path=str(real)))
    return relpath(uri, Path(page.file.src_uri).parent.as_posix()) + sign + anchor


def _uri(path: Path) -> str:
    if path.is_relative_to(DOCS):
        return path.relative_to(DOCS).as_posix()
    inside = path.relative_to(ROOT).as_posix()
    return ELSEWHERE.get(inside, f"files/{inside}")
