"""`qsit models` and `qsit download`: what is known, what is on this disk, and how it gets there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from .. import console
from ..files import to_json
from .options import CacheDir, Json, Revision, Token

if TYPE_CHECKING:
    from ..hub.cache import Stored


def models(cache_dir: CacheDir = None, as_json: Json = False) -> None:
    """List the known models and what is on this disk; uses no network."""
    from ..hub.cache import on_disk

    found = on_disk(cache_dir)
    if as_json:
        console.write(to_json([facts(stored) for stored in found], 2) + "\n")
        return
    columns = ("name", "repository", "backend", "licence", "on disk")
    rows = (
        (one.record.name, one.record.repo or "-", one.record.backend, one.record.licence, state(one)) for one in found
    )
    console.out().print(console.table(columns, rows, folded=columns[1:]))
    for stored in found:
        if stored.folder:
            console.out().print(Text(f"{stored.record.name}: {stored.folder}"), soft_wrap=True)


def download(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A name that `qsit models` lists, or OWNER/REPO.")],
    revision: Revision = None,
    cache_dir: CacheDir = None,
    token: Token = None,
    as_json: Json = False,
) -> None:
    """Fetch a model from the Hub into the cache, for use without a network."""
    from ..hub import resolve

    found = resolve(name, revision=revision, cache_dir=cache_dir, token=token)
    facts = {"model": found.name, "repo": found.repo, "revision": found.revision, "folder": str(found.folder)}
    if as_json:
        console.write(to_json(facts, 2) + "\n")
        return
    for label in ("folder", "revision"):
        console.out().print(Text(f"{label:<8} {facts[label] or '-'}"), soft_wrap=True)


def facts(stored: Stored) -> dict[str, Any]:
    """One model as plain fields."""
    record = stored.record
    return {
        "name": record.name,
        "repo": record.repo,
        "backend": record.backend,
        "recipe": record.recipe,
        "licence": record.licence,
        "paper": record.paper,
        "description": record.description,
        "on_disk": stored.state,
        "size": stored.size,
        "revision": stored.revision,
        "folder": str(stored.folder) if stored.folder else None,
    }


def state(stored: Stored) -> str:
    """What is on disk, in words."""
    amount = console.size(stored.size)
    return {
        "embedded": f"in the package, {amount}",
        "complete": f"yes, {amount}",
        "pinned": f"only as @{(stored.revision or '')[:12]}, {amount}",
        "partial": f"in part, {amount}",
        "absent": "no",
    }[stored.state]
