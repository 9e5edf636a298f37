"""Chat templates: where a checkpoint keeps its own, and how one is rendered.

A template is a Jinja program that writes a conversation as text. It runs in jinja2's sandbox, set up as transformers
does (`apply_chat_template`): the same tags, filters, functions and variables, so that it writes the same text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from ..errors import CheckpointError
from .files import read_json


def load_template(folder: Path) -> str:
    """The chat template that travels with a checkpoint.

    Looked for in chat_template.jinja, chat_template.json and tokenizer_config.json, in this order; of several named
    templates, "default".

    Raises:
        CheckpointError: There is none, or none that is the default.
    """
    found = (
        _text(folder / "chat_template.jinja")
        or read_json(folder, "chat_template.json").get("chat_template")
        or read_json(folder, "tokenizer_config.json").get("chat_template")
    )
    template = _default(found)
    if not isinstance(template, str) or not template:
        shown = f"<templates named {', '.join(sorted(_named(found)))}>" if _named(found) else str(folder)
        hint = "Put chat_template.jinja or chat_template.json into the folder."
        raise CheckpointError.about("model", shown, "a chat template in the checkpoint", hint)
    return template


def render(template: str, messages: Sequence[Mapping[str, Any]], variables: Mapping[str, Any]) -> str:
    """Write a conversation as text, up to where the answer begins.

    Args:
        template: A chat template in Jinja.
        messages: Turns with `role` and `content`.
        variables: What the template may read beside them: special tokens by role ("eos_token"), and switches.

    Raises:
        CheckpointError: The template fails.
    """
    try:
        return _compiled(template).render(
            messages=messages, tools=None, documents=None, add_generation_prompt=True, **variables
        )
    except Exception as error:  # a template is a program: it may fail in any way
        expected = "a template that renders an image turn"
        raise CheckpointError.about("chat template", f"<{error}>", expected) from error


def for_server(template: str) -> str:
    """The same template for a model server that is to go on with an answer which has begun.

    A last turn of the assistant is written as the beginning of the answer, behind what stands before every answer; most
    templates would write it as a turn of its own, often with other white space. Chats without one stay as they are.

    Example:
        >>> turns = [{"role": "user", "content": "Sharp?"}, {"role": "assistant", "content": "It is "}]
        >>> own = "{{ messages[0]['content'] }}{% if add_generation_prompt %}|{% endif %}"
        >>> render(for_server(own), turns, {})
        'Sharp?|It is '
    """
    ended = template.removesuffix("\n")  # Jinja drops it at the end of a template, and here would be another end
    return f"{_BEGUN}{ended}{{{{ begun.answer }}}}"


_BEGUN = (
    "{%- set begun = namespace(answer='') -%}"
    "{%- if messages and messages[-1]['role'] == 'assistant' -%}"
    "{%- set content = messages[-1]['content'] -%}"
    "{%- set begun.answer = content if content is string else content | map(attribute='text') | join -%}"
    "{%- set messages = messages[:-1] -%}{%- set add_generation_prompt = true -%}"
    "{%- endif %}"
)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8") if path.is_file() else ""
    except (OSError, ValueError) as error:
        raise CheckpointError.about("model", str(path), "a text file", "Download the checkpoint again.") from error


def _named(found: Any) -> dict[str, Any]:
    """Templates by name, from both ways to write them."""
    if isinstance(found, list):
        return {str(item.get("name")): item.get("template") for item in found if isinstance(item, dict)}
    return found if isinstance(found, dict) else {}


def _default(found: Any) -> Any:
    return _named(found).get("default") if isinstance(found, (list, dict)) else found


class _Generation(Extension):
    """The tag `generation`, which marks what an assistant wrote; here it only groups."""

    tags = {"generation"}  # noqa: RUF012  # as the base class has it

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True)).set_lineno(line)


class _Namespace(jinja2.utils.Namespace):
    """A namespace without names that begin with an underscore: those lead into Python's own."""

    def __init__(*args: Any, **kwargs: Any) -> None:  # so that a template may name an attribute "self"
        attributes = dict(*args[1:], **kwargs)
        for name in attributes:
            _check_name(name)
        jinja2.utils.Namespace.__init__(args[0], attributes)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        super().__setitem__(name, value)


def _check_name(name: str) -> None:
    if str(name).startswith("_"):
        raise jinja2.exceptions.SecurityError(f"{name!r} is no name for an attribute in a chat template")


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.exceptions.TemplateError(message)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON without the escapes for HTML that jinja2's own filter has."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _now(form: str) -> str:
    return datetime.now().strftime(form)


@lru_cache(maxsize=32)
def _compiled(template: str) -> jinja2.Template:
    sandbox = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols]
    )
    sandbox.filters["tojson"] = _to_json
    sandbox.globals |= {"raise_exception": _raise_exception, "strftime_now": _now, "namespace": _Namespace}
    return sandbox.from_string(template)
