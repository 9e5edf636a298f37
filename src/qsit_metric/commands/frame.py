"""The former way to make a command, until benchmarks uses `qsit_metric.cli.command`."""

# ruff: noqa: F401

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any, get_type_hints

import typer

from ..cli.command import FAILED, guarded, one_line

Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks and everything that other packages say.")]


def command(run: Callable[..., int | None]) -> Callable[..., None]:
    """Turn a function into a typer command.

    A parameter whose type is a dataclass stands for one option per field, so that options which several commands share
    are written once. What the function returns becomes the exit code.

    Args:
        run: The command; its docstring is the help text.

    Returns:
        The function that typer reads the command line for.
    """
    given = list(inspect.signature(run).parameters.values())
    hints = get_type_hints(run, include_extras=True)
    records = {p.name: hints[p.name] for p in given if dataclasses.is_dataclass(hints[p.name])}
    shown = [one for p in given for one in (_options(records[p.name]) if p.name in records else [_own(p, hints)])]
    shown.append(inspect.Parameter("debug", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Debug))

    @functools.wraps(run)
    def invoke(*, debug: bool, **values: Any) -> None:
        for name, kind in records.items():
            values[name] = kind(**{field.name: values.pop(field.name) for field in dataclasses.fields(kind)})
        if code := guarded(lambda: run(**values), debug=debug):
            raise typer.Exit(code)

    del invoke.__dict__["__wrapped__"]  # it would lead typer back to the signature with the records
    invoke.__annotations__ = {parameter.name: parameter.annotation for parameter in shown}
    invoke.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]
    return invoke


def _options(kind: Any) -> list[inspect.Parameter]:
    hints = get_type_hints(kind, include_extras=True)
    return [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name]
        )
        for field in dataclasses.fields(kind)
    ]


def _own(parameter: inspect.Parameter, hints: dict[str, Any]) -> inspect.Parameter:
    return parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[parameter.name])
