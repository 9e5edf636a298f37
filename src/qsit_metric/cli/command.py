"""What all commands have in common: `--debug`, groups of options, errors as one line, exit codes.

`train` and `benchmarks` build their command lines of it, too.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, TypeVar

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from .. import console
from ..errors import QSiTError

FAILED, USAGE, BELOW, INTERRUPTED, BROKEN_PIPE = 1, 2, 3, 130, 141

T = TypeVar("T")


@dataclass(frozen=True)
class Debugging:
    """The option of every command."""

    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and everything that other packages say.")] = (
        False
    )


class _Helped:
    """Help that shows no types where they tell a person nothing, and whose loss (a full disk) is one line, too."""

    def get_params(self, ctx: Any) -> list[Any]:
        """The parameters. Of a switch, and of what is named by what it is (PATHS), no type is shown."""
        found: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for one in found:
            if getattr(one, "is_flag", False) or one.param_type_name == "argument":
                vars(one)["display_type_rich"] = lambda ctx: None
        return found

    def format_help(self, ctx: Any, formatter: Any) -> None:
        def show() -> None:
            with console.delivered():
                super(_Helped, self).format_help(ctx, formatter)  # type: ignore[misc]

        if code := guarded(show, debug=False):
            raise typer.Exit(code)


class Group(_Helped, TyperGroup):
    """A group of commands; for `typer.Typer(cls=...)`."""


class Command(_Helped, TyperCommand):
    """A command whose errors are one line on stderr and whose exit code is what its function returns.

    For `typer.Typer.command(cls=...)`. `with_options` makes one that has groups of options, too.
    """

    groups: ClassVar[tuple[type, ...]] = (Debugging,)

    def __init__(self, *args: Any, params: list[Any] | None = None, **settings: Any) -> None:
        self._groups = {kind: _command_of(kind) for kind in self.groups}
        shared = [one for group in self._groups.values() for one in group.params]
        super().__init__(*args, params=[*(params or []), *shared], **settings)

    def invoke(self, ctx: Any) -> Any:
        """Run the command; see the class."""
        ctx.obj = {kind: _take(group, ctx.params) for kind, group in self._groups.items()}
        if code := guarded(lambda: TyperCommand.invoke(self, ctx), debug=options_of(ctx, Debugging).debug):
            raise typer.Exit(code)


def with_options(*groups: type) -> type[Command]:
    """A command class that has one option for each field of these dataclasses, after the command's own.

    Args:
        groups: Dataclasses whose fields are annotated as typer parameters are. `options_of` gives the command what was
            said of them.

    Example:
        >>> @dataclass
        ... class Where:
        ...     place: Annotated[str, typer.Option("--place")] = "here"
        >>> app = typer.Typer()
        >>> @app.command(cls=with_options(Where))
        ... def show(ctx: typer.Context) -> None:
        ...     console.write(options_of(ctx, Where).place)
    """
    return type("CommandWithOptions", (Command,), {"groups": (*groups, Debugging)})


def options_of(ctx: typer.Context, kind: type[T]) -> T:
    """What the command line said of a group of options."""
    found: T = ctx.obj[kind]
    return found


def guarded(run: Callable[[], Any], *, debug: bool) -> int:
    """Run something; what goes wrong becomes a line on stderr and an exit code."""
    with console.prepared(debug):
        try:
            return run() or 0
        except QSiTError as error:
            if debug:
                console.say(traceback.format_exc())
            console.say(f"error: {one_line(error)}", "red")
            return USAGE
        except KeyboardInterrupt:
            console.say("Interrupted.")
            return INTERRUPTED
        except BrokenPipeError:  # `qsit ... | head` has seen enough
            console.drop_stdout()
            return BROKEN_PIPE


def one_line(message: object) -> str:
    """A message on a single line, safe to show."""
    return console.printable(" ".join(str(message).split("\n")))


def about(path: str, error: QSiTError) -> str:
    """What is wrong with a picture, its path said once."""
    from ..pixels.fetch import unusable

    named = unusable(path, "")
    twice = (error.argument, error.got) == (named.argument, named.got)
    return f"{console.printable(path)}: {one_line(error.reason if twice else error)}"


def _command_of(kind: type) -> Any:
    """The options of a dataclass, as typer reads those of a function."""
    holder = typer.Typer(add_completion=False)
    holder.command()(kind)
    return get_command(holder)


def _take(group: Any, values: dict[str, Any]) -> Any:
    return group.callback(**{one.name: values.pop(one.name) for one in group.params})
