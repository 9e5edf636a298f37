"""`qsit serve-template`: the chat template with which a model server writes our prompts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .. import console
from ..errors import OutputError
from ..files import Files
from .command import options_of
from .options import DEFAULT, ModelOptions

_FILES = Files(OutputError, "--output")


def serve_template(
    ctx: typer.Context,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write it there instead of to stdout.")
    ] = None,
) -> None:
    """Write the chat template that a vLLM server needs for scores by chat (--chat-template FILE)."""
    from ..backends.template import for_server, load_template
    from ..hub import resolve
    from ..prompts import AUTHORS, recipe_named

    options = options_of(ctx, ModelOptions)
    checkpoint = resolve(
        options.checkpoint or options.model or DEFAULT,
        revision=options.revision,
        cache_dir=options.cache_dir,
        token=options.token,
        local_files_only=options.offline,
        weights=False,
    )
    recipe = recipe_named(options.recipe) if options.recipe else checkpoint.recipe() or AUTHORS
    text = for_server(recipe.template or load_template(checkpoint.folder)) + "\n"
    if output is None:
        console.write(text)
    else:
        _FILES.write(output, text)
