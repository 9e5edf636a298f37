"""Options that several commands share: which model is used and how, which pictures, and how much is said."""

from __future__ import annotations

import sys
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from .. import console

if TYPE_CHECKING:
    from ..backends.server import Server
    from ..metric import QSiT

DEFAULT = "q-sit-mini"


def _model_option(*names: str, **settings: Any) -> Any:
    return typer.Option(*names, rich_help_panel="Model", **settings)


def _server_option(*names: str, **settings: Any) -> Any:
    return typer.Option(*names, rich_help_panel="Model server", **settings)


def _picture_option(*names: str, **settings: Any) -> Any:
    return typer.Option(*names, rich_help_panel="Pictures", **settings)


Paths = Annotated[
    list[str],
    typer.Argument(metavar="PATHS", help="Files, folders, patterns, http(s) URLs; - reads a list from stdin."),
]
Recursive = Annotated[bool, typer.Option("--recursive", "-r", help="Take folders with all their folders.")]
AnyFile = Annotated[
    bool, typer.Option("--any", help="Take every file of a folder as a picture, whatever its name ends in.")
]
Null = Annotated[
    bool, typer.Option("--null", "-0", help="The list on stdin ends names with NUL, as `find -print0` writes it.")
]
TrustNames = Annotated[
    bool,
    typer.Option(
        "--trust-names",
        help="Keep the result of a picture that is in the file by its name, without a look at whether it was replaced.",
    ),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Begin the file anew, whatever is in it, and make all results again.")
]
MaxNewTokens = Annotated[int, typer.Option("--max-new-tokens", metavar="N", min=1, help="Limit of a written answer.")]
Json = Annotated[bool, typer.Option("--json", help="JSON on stdout, and nothing else there.")]
JsonLines = Annotated[bool, typer.Option("--json", help="One JSON object per line and picture.")]
CacheDir = Annotated[
    str | None, _model_option("--cache-dir", metavar="FOLDER", help="Hub cache to use instead of HF_HUB_CACHE.")
]
Revision = Annotated[
    str | None, _model_option("--revision", metavar="NAME", help="Branch, tag or commit; the same as NAME@REVISION.")
]
Token = Annotated[
    str | None, _model_option("--token", metavar="TOKEN", help="Hub token. HF_TOKEN keeps it out of the process list.")
]


@dataclass(frozen=True)
class ModelOptions:
    """Which model, where it runs, and how it reads pictures; see `QSiT`."""

    model: Annotated[
        str | None,
        _model_option(
            "--model",
            "-m",
            metavar="NAME",
            envvar="QSIT_MODEL",
            help="A name that `qsit models` lists, OWNER/REPO, also with @REVISION, a folder, or the address of a vLLM "
            f"server (default: {DEFAULT}).",
        ),
    ] = None
    device: Annotated[
        str | None,
        _model_option("--device", metavar="NAME", help="cuda, cuda:1, cpu, mps or auto (default: cuda, else cpu)."),
    ] = None
    dtype: Annotated[
        str | None,
        _model_option(
            "--dtype",
            metavar="NAME",
            help="float32, bfloat16, float16, int8 or int4 (default: float16 on cuda, else float32).",
        ),
    ] = None
    backend: Annotated[
        str | None, _model_option("--backend", metavar="NAME", help="Engine (default: the one that fits the model).")
    ] = None
    recipe: Annotated[
        str | None,
        _model_option(
            "--recipe",
            metavar="NAME",
            help="Wording of the scoring question: authors, train, q-realign, aesthetics ... (default: the model's).",
        ),
    ] = None
    revision: Revision = None
    cache_dir: CacheDir = None
    token: Token = None
    offline: Annotated[bool, _model_option("--offline", help="Never use the network for the model.")] = False
    compile: Annotated[
        bool,
        _model_option(
            "--compile", help="Compile the network first, for many pictures on a GPU; the scores stay the same."
        ),
    ] = False
    no_exif: Annotated[
        bool, _picture_option("--no-exif", help="Ignore the EXIF orientation, as the authors' code does.")
    ] = False
    checkpoint: Annotated[
        str | None,
        _server_option(
            "--checkpoint",
            metavar="NAME",
            help="The checkpoint that the server has, of which only small files are read (default: what it says).",
        ),
    ] = None
    served_model: Annotated[
        str | None,
        _server_option("--served-model", metavar="NAME", help="Its name on a server that has several models."),
    ] = None
    server_key: Annotated[
        str | None,
        _server_option(
            "--server-key", metavar="KEY", help="The server's key. QSIT_SERVER_KEY keeps it out of the process list."
        ),
    ] = None
    way: Annotated[
        Literal["auto", "exact", "chat"],
        _server_option("--way", help="Send token ids and pixels, or a PNG in a chat; auto: exact where it can."),
    ] = "auto"
    concurrency: Annotated[
        int, _server_option("--concurrency", metavar="N", min=1, help="Requests that are under way at a time.")
    ] = 16
    timeout: Annotated[
        float, _server_option("--timeout", metavar="SECONDS", min=0.001, help="Time that one request may take.")
    ] = 120.0
    bits: Annotated[
        int | None,
        _picture_option(
            "--bits", metavar="N", help="Bits in use where a picture holds more than 8: 12 if 4095 is white."
        ),
    ] = None
    background: Annotated[
        str | None,
        _picture_option(
            "--background", metavar="COLOUR", help="Lay transparent pictures on white, black, '#808080' or R,G,B."
        ),
    ] = None
    icc: Annotated[bool, _picture_option("--icc", help="Convert colours from the picture's own profile to sRGB.")] = (
        False
    )
    max_pixels: Annotated[
        int | None,
        _picture_option("--max-pixels", metavar="N", help="Most pixels of a picture (default: 178,956,970)."),
    ] = None

    @property
    def arguments(self) -> dict[str, Any]:
        """Those of `QSiT`."""
        from ..pixels import MAX_PIXELS

        names = ("device", "dtype", "backend", "recipe", "revision", "cache_dir", "token", "bits", "background", "icc")
        return {
            "model": self.model or DEFAULT,
            **{name: getattr(self, name) for name in names},
            "local_files_only": self.offline,
            "exif": not self.no_exif,
            "max_pixels": MAX_PIXELS if self.max_pixels is None else self.max_pixels,
        }

    def load(self) -> QSiT:
        """Build the metric; only here torch is imported."""
        if console.watched(sys.stderr):
            console.say(f"Loading {console.printable(self.model or DEFAULT)} ...", "dim")
        from ..metric import QSiT

        console.hush()
        metric = QSiT(**self.arguments, server=self.server())
        if self.compile and (took := metric.compile()) is not None:
            console.say(f"Compiled in {took:.0f} s", "dim")
        return metric

    def local(self) -> ModelOptions:
        """The same without what was said of a server."""
        said = ("checkpoint", "served_model", "server_key", "way", "concurrency", "timeout")
        unsaid: dict[str, Any] = {field.name: field.default for field in fields(self) if field.name in said}
        return replace(self, **unsaid)

    def server(self) -> Server | None:
        """How a server is asked; None if the model is none and nothing was said of one."""
        from ..backends.server import Server, is_address

        found = Server(
            checkpoint=self.checkpoint,
            key=self.server_key,
            way=self.way,
            model=self.served_model,
            concurrency=self.concurrency,
            timeout=self.timeout,
        )
        return None if found == Server() and not is_address(self.model) else found
