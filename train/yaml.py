"""Recipes are read strictly: YAML without its surprises. Pure but for the reading of the file.

Duplicate keys are refused, and words mean what YAML 1.2 says (yaml.org/spec/1.2.2, core schema): `1e-5` is a number,
`no` is a word, `1:30` is text, `010` is ten. PyYAML follows YAML 1.1, in which all four are something else.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from .errors import RecipeError

_TAG = "tag:yaml.org,2002:"


def load_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds one mapping.

    Args:
        path: The file, UTF-8.

    Returns:
        The mapping; every key in it, at any depth, is text. An empty file gives an empty mapping.

    Raises:
        RecipeError: Unreadable, no YAML, no mapping, a key that is given twice or is no text; with file, line and key.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError.about("file", str(path), "a readable UTF-8 file", f"The system says: {error}.") from error
    try:
        found = parse_yaml(text)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a scalar that is not what its tag says
        raise RecipeError(f"`{path}`{_line(error)}: {_problem(error)}") from error
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise RecipeError.about("file", str(path), f"`key: value` lines at the top, not a {type(found).__name__}")
    return found


def parse_yaml(text: str) -> Any:
    """A value in the YAML of recipe files: `no` is text, `1e-5` a number.

    Raises:
        yaml.YAMLError, ValueError: It is none.

    Example:
        >>> parse_yaml("no"), parse_yaml("1e-5"), parse_yaml("[1, two]")
        ('no', 1e-05, [1, 'two'])
    """
    return yaml.load(text, Loader=_Loader)  # a safe loader: plain types only


def _line(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    return "" if mark is None else f", line {mark.line + 1}"


def _problem(error: Exception) -> str:
    problem = getattr(error, "problem", None) or str(error)
    return f"{problem}." if isinstance(error, _KeyError) else f"this is no YAML: {problem}. Look at the lines above it."


class _KeyError(yaml.MarkedYAMLError):
    """A key that cannot be."""


class _Loader(yaml.SafeLoader):
    """Builds mappings with unique text keys, and scalars by the core schema."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: dict[str, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode) or key.tag != _TAG + "str":
                shown = getattr(key, "value", None)
                name = f"the key {shown!r}" if isinstance(shown, str) else "this key"
                raise _KeyError(problem=f"{name} is not text; quote it if it is meant", problem_mark=key.start_mark)
            if key.value in seen:
                said = f"the key {key.value!r} stands here and in line {seen[key.value]}; keep one of them"
                raise _KeyError(problem=said, problem_mark=key.start_mark)
            seen[key.value] = line
        return super().construct_mapping(node, deep)


def _int(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    return int(loader.construct_scalar(node))


_INT = r"[-+]?[0-9](_?[0-9])*"
_FLOAT = r"[-+]?(\.[0-9]+|[0-9](_?[0-9])*(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
_CORE = {
    "bool": ("true|True|TRUE|false|False|FALSE", "tTfF"),
    "int": (_INT, "-+0123456789"),
    "float": (_FLOAT, "-+.0123456789"),
    "null": ("~|null|Null|NULL|", ["~", "n", "N", ""]),
}
_Loader.yaml_implicit_resolvers = {}
for _name, (_pattern, _first) in _CORE.items():
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(f"(?:{_pattern})$"), list(_first))
_Loader.add_constructor(_TAG + "int", _int)
