"""What the commands that run a model have in common: which models, which data, where the results go."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qsit_metric.commands.options import DEFAULT, ModelOptions

if TYPE_CHECKING:
    from qsit_metric import QSiT

RESULTS = Path("benchmark-results")
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")

DataRoot = Annotated[
    Path, typer.Option("--data-root", metavar="FOLDER", envvar="QSIT_DATA_ROOT", help="Folder of the data sets.")
]
Output = Annotated[
    Path, typer.Option("--output", "-o", metavar="FOLDER", help="Gets the tables, and the runs in runs/.")
]


def safe(name: str) -> str:
    """A model's name as part of a file's.

    Example:
        >>> safe("owner/repo@main")
        'owner-repo-main'
    """
    return _UNSAFE.sub("-", name)


@dataclass(frozen=True)
class RunOptions:
    """Which models are run on which data, and how."""

    data_root: DataRoot
    output: Output = RESULTS
    models: Annotated[
        list[str] | None,
        typer.Option("--model", "-m", metavar="NAME", help=f"Repeat it for several models (default: {DEFAULT})."),
    ] = None
    device: Annotated[str | None, typer.Option("--device", metavar="NAME", help="As for `qsit score`.")] = None
    dtype: Annotated[str | None, typer.Option("--dtype", metavar="NAME", help="As for `qsit score`.")] = None
    recipe: Annotated[
        str | None, typer.Option("--recipe", metavar="NAME", help="authors or train (default: the model's).")
    ] = None
    cache_dir: Annotated[str | None, typer.Option("--cache-dir", metavar="FOLDER", help="Hub cache.")] = None
    offline: Annotated[bool, typer.Option("--offline", help="Never use the network for the model.")] = False
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try again what has failed before.")] = False

    def metrics(self) -> Iterator[tuple[str, QSiT]]:
        """Each model with its name, loaded when it is its turn."""
        for name in self.models or [DEFAULT]:
            yield name, self._load(name)

    def folder(self, model: str, name: str) -> Path:
        """Where the run of a model on a set lies.

        Example:
            >>> RunOptions(Path("data"), Path("out")).folder("owner/repo@main", "livec").as_posix()
            'out/runs/owner-repo-main/livec'
        """
        return self.output / "runs" / safe(Path(model).name if Path(model).is_dir() else model) / name

    def _load(self, name: str) -> QSiT:
        options = ModelOptions(
            model=name, device=self.device, dtype=self.dtype, recipe=self.recipe, cache_dir=self.cache_dir,
            offline=self.offline,
        )  # fmt: skip
        return options.load()
