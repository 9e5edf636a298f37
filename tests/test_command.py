"""What the commands of all three programs have in common: groups of options, `--debug`, errors, exit codes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import pytest
import typer
from typer.testing import CliRunner

from qsit_metric import console
from qsit_metric.cli.command import Command, options_of, with_options
from qsit_metric.errors import InputError


@dataclass(frozen=True)
class Where:
    """A group of options."""

    place: Annotated[Path | None, typer.Option("--place", "-p", envvar="TEST_PLACE", help="Where it is.")] = None
    kind: Annotated[Literal["near", "far"], typer.Option("--kind")] = "near"
    names: Annotated[list[str] | None, typer.Option("--name")] = None
    loud: Annotated[bool, typer.Option("--loud")] = False


@dataclass(frozen=True)
class Other:
    """Another one."""

    count: Annotated[int, typer.Option("--count", min=1)] = 1


def run(*words, env=None):
    app = typer.Typer(pretty_exceptions_enable=False)
    seen = {}

    @app.command(cls=with_options(Where, Other))
    def go(ctx: typer.Context, *, what: str, own: Annotated[bool, typer.Option("--own")] = False) -> int:
        """Go there."""
        seen.update(what=what, own=own, where=options_of(ctx, Where), other=options_of(ctx, Other))
        if what == "error":
            raise InputError.about("what", what, "something\nelse")
        if what == "interrupt":
            raise KeyboardInterrupt
        return 3 if what == "three" else 0

    @app.command(cls=Command)
    def plain() -> None:
        """Say nothing."""

    for stream in (console.out, console.err):
        stream.cache_clear()
    result = CliRunner().invoke(app, list(words), env=env or {})
    for stream in (console.out, console.err):
        stream.cache_clear()
    return result, seen


def test_a_group_is_a_record_of_what_was_said():
    words = ("go", "x", "--own", "-p", "here", "--kind", "far", "--name", "a", "--name", "b", "--loud", "--count", "2")
    result, seen = run(*words)
    assert result.exit_code == 0, result.output
    assert seen["where"] == Where(Path("here"), "far", ["a", "b"], True)
    assert (seen["what"], seen["own"], seen["other"]) == ("x", True, Other(2))


def test_what_is_not_said_is_the_default_or_in_the_environment():
    assert run("go", "x")[1]["where"] == Where()
    assert run("go", "x", env={"TEST_PLACE": "there"})[1]["where"] == Where(Path("there"))


@pytest.mark.parametrize("words", [("--kind", "else"), ("--count", "0"), ("--nothing",)])
def test_what_cannot_be_meant_is_a_usage_error(words):
    result, seen = run("go", "x", *words)
    assert (result.exit_code, seen) == (2, {})


def test_the_exit_code_is_what_the_function_returns():
    assert run("go", "three")[0].exit_code == 3
    assert run("plain")[0].exit_code == 0


def test_an_error_is_one_line_and_a_traceback_only_with_debug():
    result, _ = run("go", "error")
    assert result.exit_code == 2
    assert result.stderr == "error: `what`: got 'error', expected something else.\n"
    result, _ = run("go", "error", "--debug")
    assert "Traceback" in result.stderr
    assert run("go", "interrupt")[0].exit_code == 130


def test_the_help_lists_them_after_the_command_s_own():
    text = run("go", "--help")[0].stdout
    places = [text.index(name) for name in ("--own", "--place", "--count", "--debug")]
    assert places == sorted(places)
    assert "Where it is." in text
