"""`python -m benchmarks`: the paper's tables and figures, ours beside the printed ones."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import typer

from qsit_metric.commands.frame import command

COMMANDS = (
    ("data", "data:data_command"),
    ("table1", "words:table1_command"),
    ("table2", "tables:table2_command"),
    ("table4", "tables:table4_command"),
    ("table5", "tables:table5_command"),
    ("table6", "words:table6_command"),
    ("table7", "tables:table7_command"),
    ("fig4", "figures:fig4_command"),
    ("fig5", "figures:fig5_command"),
    ("fig6", "figures:fig6_command"),
    ("fig7", "figures:fig7_command"),
    ("slips", "figures:slips_command"),
    ("all", "everything:all_command"),
)


def build() -> typer.Typer:
    """The command line."""
    app = typer.Typer(
        name="benchmarks",
        help="Every table and figure of the paper, one command each. Start with `data`.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        add_completion=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    for name, place in COMMANDS:
        app.command(name)(command(_found(place)))
    return app


def _found(place: str) -> Callable[..., Any]:
    module, name = place.split(":")
    function: Callable[..., Any] = getattr(import_module(f"benchmarks.commands.{module}"), name)
    return function


if __name__ == "__main__":
    build()()
