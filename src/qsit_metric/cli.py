"""The command `qsit`: what can be said on the command line. What is done with it stands in `qsit_metric.commands`."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from ._version import __version__
from .commands.frame import command
from .commands.options import CacheDir, Json, ModelOptions, Revision, Token

app = typer.Typer(
    name="qsit",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,  # they would print the values of variables, a token among them
    context_settings={"help_option_names": ["-h", "--help"]},
)


class Shown(str, Enum):
    """What `qsit score` writes to stdout."""

    TABLE = "table"
    CSV = "csv"
    JSONL = "jsonl"


class Sort(str, Enum):
    """Order of the table."""

    SCORE = "score"
    PATH = "path"
    NONE = "none"


class Method(str, Enum):
    """How choices are compared."""

    LIKELIHOOD = "likelihood"
    LETTERS = "letters"
    TEXTS = "texts"
    GENERATE = "generate"


class MapFormat(str, Enum):
    """What `qsit map` writes."""

    PNG = "png"
    NPZ = "npz"
    JSON = "json"


class MapMethod(str, Enum):
    """How a quality map is computed."""

    WINDOWS = "windows"
    SALIENCY = "saliency"


Paths = Annotated[
    list[str],
    typer.Argument(metavar="PATHS", help="Files, folders, patterns, http(s) URLs; - reads a list from stdin."),
]
Recursive = Annotated[bool, typer.Option("--recursive", "-r", help="Take folders with all their folders.")]
MaxNewTokens = Annotated[int, typer.Option("--max-new-tokens", metavar="N", min=1, help="Limit of a written answer.")]

_CODES = (
    "Exit code: 0 all scored, 1 some pictures failed, 2 nothing could be done, 3 below --fail-under, 130 interrupted."
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"qsit-metric {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Score photographs as people would, and ask about their quality in words."""


@app.command(epilog=_CODES)
@command
def score(
    *,
    paths: Paths,
    options: ModelOptions,
    recursive: Recursive = False,
    shown: Annotated[
        Shown | None, typer.Option("--format", help="What stdout gets (default: table on a terminal, else csv).")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format jsonl.")] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Append to a .csv or .jsonl file. Pictures that are in it are not scored again, so a run that was "
            "stopped goes on where it was. Stdout then gets only what --format asks for.",
        ),
    ] = None,
    sort: Annotated[Sort, typer.Option("--sort", help="Order of the table; by score means best first.")] = Sort.NONE,
    fail_under: Annotated[
        float | None, typer.Option("--fail-under", metavar="X", help="Exit with 3 if a score is below X.")
    ] = None,
) -> int:
    """Score pictures from 1 (bad) to 5 (excellent).

    The table shows the expected score, the most probable level, and the
    probability of each level, worst first, as small columns.
    """
    from .commands.scoring import Wish, shown_format
    from .commands.scoring import score as run

    chosen = shown_format(shown.value if shown else None, as_json, output)
    return run(Wish(paths, recursive, chosen, output, sort.value, fail_under), options)


@app.command()
@command
def ask(
    *,
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="A file or an http(s) URL.")],
    questions: Annotated[list[str], typer.Argument(metavar="QUESTIONS", help="One or several; quote each.")],
    options: ModelOptions,
    choices: Annotated[
        list[str] | None,
        typer.Option(
            "--choice", metavar="TEXT", help="A possible answer; give two or more, each with its own --choice."
        ),
    ] = None,
    method: Annotated[
        Method,
        typer.Option(
            "--method", help="With choices: compare their likelihoods, or write a reply and look for one in it."
        ),
    ] = Method.LIKELIHOOD,
    max_new_tokens: MaxNewTokens = 200,
    as_json: Json = False,
) -> None:
    """Ask one or several questions about a picture."""
    from .commands.asking import Words
    from .commands.asking import ask as run

    run(image, questions, Words(choices or (), method.value, max_new_tokens), as_json, options)


@app.command()
@command
def describe(
    paths: Paths,
    options: ModelOptions,
    recursive: Recursive = False,
    max_new_tokens: MaxNewTokens = 200,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per line and picture.")] = False,
) -> int:
    """Describe the quality of pictures in words."""
    from .commands.asking import describe as run

    return run(paths, recursive, max_new_tokens, as_json, options)


@app.command(name="map", epilog="Exit code: 0 all done, 1 some pictures failed, 2 nothing could be done.")
@command
def map_(
    *,
    paths: Paths,
    options: ModelOptions,
    recursive: Recursive = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="PLACE",
            help="A .png, .npz or .json file for one picture, a folder for many. A map that is there, made in the same "
            "way, is kept, so a run that was stopped goes on where it was.",
        ),
    ] = None,
    shown: Annotated[
        MapFormat | None, typer.Option("--format", help="Of the files in a folder (default: png).")
    ] = None,
    method: Annotated[
        MapMethod,
        typer.Option("--method", help="Score windows of the picture, or sum the gradient of its score over windows."),
    ] = MapMethod.WINDOWS,
    window: Annotated[
        int | None,
        typer.Option("--window", metavar="N", help="Side of a window in pixels (default: by model, size)."),
    ] = None,
    stride: Annotated[
        int | None, typer.Option("--stride", metavar="N", help="Pixels between windows (default: half a window).")
    ] = None,
    overlap: Annotated[
        int | None, typer.Option("--overlap", metavar="N", help="Pixels that windows share, instead of --stride.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that are there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per line and picture.")] = False,
) -> int:
    """Say where pictures are bad, and draw it.

    Orange is bad and blue is good; the frame is around the worst window.
    """
    from .commands.mapping import MapWish, quality_maps
    from .maps import MapRequest

    wanted = MapRequest(method.value, window, stride, overlap)
    wish = MapWish(paths, recursive, output, shown.value if shown else None, overwrite, as_json)
    return quality_maps(wish, wanted, options)


@app.command()
@command
def models(cache_dir: CacheDir = None, as_json: Json = False) -> None:
    """List the known models and what is on this disk; uses no network."""
    from .commands.shelf import models as run

    run(cache_dir, as_json)


@app.command()
@command
def download(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A name that `qsit models` lists, or OWNER/REPO.")],
    revision: Revision = None,
    cache_dir: CacheDir = None,
    token: Token = None,
    as_json: Json = False,
) -> None:
    """Fetch a model from the Hub into the cache, for use without a network."""
    from .commands.shelf import download as run

    run(name, revision, cache_dir, token, as_json)


@app.command()
@command
def doctor(options: ModelOptions, as_json: Json = False) -> int:
    """Show what is installed here and test it; uses no network, and loads a model only if one is given or shipped."""
    from .commands.doctor import doctor as run

    return run(options, as_json)


def main() -> None:
    """Run the command line."""
    app()
