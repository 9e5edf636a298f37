"""Command line of the training program (`python -m train`); each command stands in `train.commands`."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import typer

from qsit_metric.cli.command import Command, Group

# (group or none, name, module and function)
COMMANDS = (
    ("", "run", "run:run_command"),
    ("", "recipes", "run:recipes_command"),
    ("data", "freeze", "data:freeze_command"),
    ("data", "show", "data:show_command"),
    ("data", "corrupt", "corrupt:corrupt_command"),
    ("data", "build-d2", "data:build_d2_command"),
    ("sweep", "plan", "sweep:plan_command"),
    ("sweep", "run", "sweep:run_command"),
    ("sweep", "status", "sweep:status_command"),
    ("sweep", "fit", "sweep:fit_command"),
    ("", "export", "run:export_command"),
    ("", "memory", "run:memory_command"),
    ("", "states", "run:states_command"),
    ("", "tiny", "nano:tiny_command"),
    ("", "nano", "nano:nano_command"),
)
_GROUPS = {"data": "Read, clean, split and freeze data.", "sweep": "Algorithm 1: plan, run and fit the mix ratio."}
_SETTINGS = {"help_option_names": ["-h", "--help"]}


def _found(place: str) -> Callable[..., Any]:
    module, name = place.split(":")
    function: Callable[..., Any] = getattr(import_module(f"train.commands.{module}"), name)
    return function


def build() -> typer.Typer:
    """The command line."""
    help_text = "Teach a model to score and to interpret image quality (Q-SiT). Start with train/README.md."
    app = typer.Typer(
        name="train",
        cls=Group,
        help=help_text,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings=_SETTINGS,
    )
    groups = {"": app}
    for name, text in _GROUPS.items():
        groups[name] = typer.Typer(cls=Group, help=text, no_args_is_help=True, context_settings=_SETTINGS)
        app.add_typer(groups[name], name=name)
    for group, name, place in COMMANDS:
        groups[group].command(name, cls=Command)(_found(place))
    return app


if __name__ == "__main__":
    build()()
