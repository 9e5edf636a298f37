"""The command line `qsit`: which commands there are."""

from __future__ import annotations

from typing import Annotated

import typer

from .. import console
from .._version import __version__
from .ask import ask, describe
from .command import Command, Group, guarded, with_options
from .doctor import doctor
from .evaluate import evaluate
from .map import map_
from .models import download, models
from .options import ModelOptions
from .score import score
from .serve import serve
from .serve_template import serve_template
from .sharded import ShardOptions

app = typer.Typer(
    name="qsit",
    cls=Group,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,  # they would print the values of variables, a token among them
    context_settings={"help_option_names": ["-h", "--help"]},
)

_WITH_MODEL = with_options(ModelOptions)
_SCORE_CODES = (
    "Exit code: 0 all scored, 1 some pictures failed, 2 nothing could be done, 3 below --fail-under, 130 interrupted."
)
_MAP_CODES = "Exit code: 0 all done, 1 some pictures failed, 2 nothing could be done."


def _version(wanted: bool) -> None:
    if wanted:
        raise typer.Exit(guarded(lambda: console.write(f"qsit-metric {__version__}\n"), debug=False))


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Score photographs as people would, and ask about their quality in words."""


app.command(cls=with_options(ModelOptions, ShardOptions), epilog=_SCORE_CODES)(score)
app.command(cls=with_options(ModelOptions, ShardOptions))(ask)
app.command(cls=_WITH_MODEL)(describe)
app.command("map", cls=_WITH_MODEL, epilog=_MAP_CODES)(map_)
app.command(cls=_WITH_MODEL)(evaluate)
app.command(cls=Command)(models)
app.command(cls=Command)(download)
app.command(cls=_WITH_MODEL)(serve)
app.command("serve-template", cls=_WITH_MODEL)(serve_template)
app.command(cls=_WITH_MODEL)(doctor)


def main() -> None:
    """Run the command line."""
    app()
