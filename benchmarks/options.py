"""Options that several commands share: which models, which data, where the results go, and who judges."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchmarks.runs import Process
from qsit_metric.cli.command import Command
from qsit_metric.cli.options import DEFAULT, ModelOptions
from qsit_metric.evaluation import EvaluationError

if TYPE_CHECKING:
    from benchmarks.judge import Judge
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


def model_name(model: str) -> str:
    """A model as results call it: of a folder its name, not where it lies."""
    return Path(model).name if Path(model).is_dir() else model


@dataclass(frozen=True)
class RunOptions:
    """Which models are run on which data, and how."""

    data_root: DataRoot = Path("data")
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

    @property
    def place(self) -> str | None:
        """The device that was asked for; else, of processes that share a run, each its own GPU."""
        return self.device or Process.current().device

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
        return self.output / "runs" / safe(model_name(model)) / name

    def _load(self, name: str) -> QSiT:
        options = ModelOptions(
            model=name, device=self.place, dtype=self.dtype, recipe=self.recipe, cache_dir=self.cache_dir,
            offline=self.offline,
        )  # fmt: skip
        return options.load()


@dataclass(frozen=True)
class JudgeOptions:
    """Who rates descriptions, and against which texts."""

    judge: Annotated[
        str | None,
        typer.Option(
            "--judge", metavar="NAME",
            help="Rates the descriptions: a model's name at --judge-url; without a URL a text model on the Hub or in "
            "a folder, run here.",
        ),
    ] = None  # fmt: skip
    judge_url: Annotated[
        str | None,
        typer.Option("--judge-url", metavar="URL", help="OpenAI-compatible, for example http://localhost:8000/v1."),
    ] = None
    judge_key_env: Annotated[
        str | None, typer.Option("--judge-key-env", metavar="NAME", help="Environment variable with the judge's key.")
    ] = None
    judge_timeout: Annotated[
        float, typer.Option("--judge-timeout", metavar="SECONDS", help="Silence after which an attempt has failed.")
    ] = 60.0
    rounds: Annotated[
        int | None, typer.Option("--rounds", min=1, help="Of rating (default: 5; 1 with a judge that is run here).")
    ] = None
    golden: Annotated[
        Path | None,
        typer.Option("--golden", metavar="FILE", help="What experts wrote (default: golden.json in the set's folder)."),
    ] = None

    def load(self, *, device: str | None = None, offline: bool = False) -> Judge | None:
        """The judge; None if there is to be none.

        Raises:
            EvaluationError: Settings of a judge without its name, or one that cannot be used.
        """
        from benchmarks.judge import EndpointJudge, LocalJudge

        if self.judge is None:
            given = {"--judge-url": self.judge_url, "--judge-key-env": self.judge_key_env}
            if lone := [name for name, value in given.items() if value]:
                raise EvaluationError.about("--judge", None, f"the model's name, since {lone[0]} is given")
            return None
        if self.judge_url is None:
            return LocalJudge(self.judge, device=device, local_files_only=offline)
        return EndpointJudge(self.judge_url, self.judge, self.judge_key_env, self.judge_timeout)


def listed(text: str) -> list[str]:
    """The parts of a text with commas.

    Example:
        >>> listed("a, b,")
        ['a', 'b']
    """
    return [part.strip() for part in text.split(",") if part.strip()]


def sides(size: str, option: str = "--sizes") -> tuple[int, int]:
    """Width and height of a picture, as an option says them.

    Raises:
        BadParameter: It is no size.

    Example:
        >>> sides("512x384")
        (512, 384)
    """
    width, _, height = size.partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise typer.BadParameter(f"{size!r} is no size such as 512x384", param_hint=option)
    return int(width), int(height)


def app_of(main: Callable[..., None]) -> typer.Typer:
    """A typer app whose only command shows errors as the package's own commands do.

    Args:
        main: The command; its annotations are the arguments and options.
    """
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    app.command(cls=Command)(main)
    return app
