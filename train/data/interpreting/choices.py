"""The multiple-choice form: options, and a right letter that stands everywhere equally often. Pure.

Prompt: Q-Instruct, arXiv 2311.06783, App. C.1, and lmms-eval `qbench_dev`; options as in A-OKVQA (paper Sec. III-B4).
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from qsit_metric.prompts import LETTERS, multiple_choice

INSTRUCTION = "Answer with the option's letter from the given choices directly."


def positions(questions: Sequence[tuple[int, str]], seed: int) -> list[int]:
    """Decide where the right option of each question stands.

    Questions with equally many options share one rotation, which runs through equal answers first: over all of them,
    and over those with one answer, the counts of two positions differ by one at most.

    Args:
        questions: (number of options, right answer) of each.
        seed: Any whole number; which questions get which position.

    Returns:
        For each question a position from 0.

    Example:
        >>> sorted(positions([(2, "Yes")] * 3 + [(2, "No")] * 3, seed=1))
        [0, 0, 0, 1, 1, 1]
    """
    rng = random.Random(f"positions {seed}")
    order = list(range(len(questions)))
    rng.shuffle(order)
    order.sort(key=lambda index: questions[index])
    placed = [0] * len(questions)
    turns: dict[int, int] = {}
    for index in order:
        count = questions[index][0]
        turn = turns.get(count, rng.randrange(count))
        placed[index], turns[count] = turn, (turn + 1) % count
    return placed


def ask(question: str, answer: str, distractors: Sequence[str], position: int, seed: str) -> tuple[str, str]:
    r"""Write a question with options and the letter of the right one.

    Example:
        >>> ask("Is it sharp?", "No", ["Yes"], 1, "0")
        ("Is it sharp?\nA. Yes\nB. No\nAnswer with the option's letter from the given choices directly.", 'B')
    """
    options = list(distractors)
    random.Random(f"options {seed}").shuffle(options)
    options.insert(position, answer)
    return multiple_choice(question, options) + INSTRUCTION, LETTERS[position]
