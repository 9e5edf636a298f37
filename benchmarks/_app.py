"""The command line of a program with one command."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import typer


def app_of(main: Callable[..., None]) -> typer.Typer:
    """A typer app whose only command shows errors as the package's own commands do.

    Args:
        main: The command; its annotations are the arguments and options.
    """
    import typer

    from qsit_metric.commands.frame import command

    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    app.command()(command(main))
    return app
