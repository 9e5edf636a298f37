"""How much of a list is taken: the strategies of the authors' `single_image.yaml`. Pure.

Format: `datasets: [{json_path, sampling_strategy}]` (github.com/Q-Future/Q-SiT at 4e4d1df), read there by LLaVA-NeXT's
`train.py` (df17966), which draws `random` without a seed on every rank. Here one seed decides, everywhere the same.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TypeVar

import numpy as np

from qsit_metric.evaluation.errors import counted

from ..errors import DataError, RecipeError
from ..recipe import load_yaml

_T = TypeVar("_T")
_FORM = re.compile(r"(?P<how>first|end|random):(?P<number>\d+(?:\.\d+)?)(?P<percent>%?)")
_EXPECTED = "all, first:N, end:N or random:N, where N is a count of rows or a percentage such as 22%"


@dataclass(frozen=True)
class Entry:
    """One line of a mix.

    Attributes:
        path: The list, as the file has it.
        strategy: How much of it is taken.
    """

    path: str
    strategy: str


def check_strategy(strategy: str) -> str:
    """Pass a strategy on.

    Raises:
        RecipeError: It is none of the known ones.

    Example:
        >>> check_strategy("random:22%")
        'random:22%'
    """
    _parse(strategy)
    return strategy


def take(rows: Sequence[_T], strategy: str, seed: int | Sequence[int] = 0) -> list[_T]:
    """The part of a list that a strategy names, in the list's own order.

    Args:
        rows: The list.
        strategy: "all", "first:N", "end:N" or "random:N"; N is a count, or `p%` for the ceiling of p percent.
        seed: Decides `random`; whole numbers of 0 or more.

    Raises:
        RecipeError: An unknown strategy.
        DataError: More rows are asked for than there are.

    Example:
        >>> take("abcdefghij", "end:15%"), len(take(range(150_000), "random:22%", seed=1))
        (['i', 'j'], 33000)
    """
    how, number, percent = _parse(strategy)
    count = len(rows) if how == "all" else math.ceil(number * len(rows) / 100) if percent else int(number)
    if count > len(rows):
        raise DataError.about("sampling", strategy, f"at most {counted(len(rows), 'row')}, as there are")
    if how == "random":
        drawn = np.random.default_rng(seed).choice(len(rows), size=count, replace=False)
        return [rows[index] for index in sorted(drawn.tolist())]
    return list(rows[len(rows) - count :] if how == "end" else rows[:count])


def read_mix_yaml(path: Path) -> tuple[Entry, ...]:
    """Read a mix as LLaVA-NeXT takes it.

    Returns:
        Its entries, in order; one without a strategy takes all.

    Raises:
        RecipeError: Not of this form; the message names the entry.
    """
    fields = load_yaml(path)
    listed = fields.get("datasets")
    if set(fields) != {"datasets"} or not isinstance(listed, list) or not listed:
        raise RecipeError.about("file", str(path), "one key, `datasets`, with a list")
    return tuple(_entry(entry, f"{path}: datasets[{place}]") for place, entry in enumerate(listed))


def _entry(fields: object, where: str) -> Entry:
    known = {"json_path", "sampling_strategy"}
    if not isinstance(fields, dict) or not isinstance(fields.get("json_path"), str) or set(fields) - known:
        raise RecipeError.about(where, fields, "`json_path` and `sampling_strategy`, nothing else")
    return Entry(fields["json_path"], check_strategy(fields.get("sampling_strategy", "all")))


def _parse(strategy: str) -> tuple[str, Fraction, bool]:
    if strategy == "all":
        return "all", Fraction(100), True
    found = _FORM.fullmatch(strategy) if isinstance(strategy, str) else None
    number = Fraction(found["number"]) if found else Fraction(0)
    percent = bool(found and found["percent"])
    if not found or not number or (number > 100 if percent else number.denominator > 1):
        raise RecipeError.about("sampling", strategy, _EXPECTED)
    return found["how"], number, percent
