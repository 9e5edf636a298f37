"""`python -m benchmarks`: the paper's tables and figures, ours beside the printed ones."""

from __future__ import annotations

import typer

from benchmarks.commands import COMMANDS
from qsit_metric.cli.command import Group


def build() -> typer.Typer:
    """The command line."""
    app = typer.Typer(
        name="benchmarks",
        cls=Group,
        help="Every table and figure of the paper, one command each. Start with `data`.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        add_completion=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    for name, function, kind in COMMANDS:
        app.command(name, cls=kind, hidden=name == "slips")(function)
    return app


if __name__ == "__main__":
    build()()
