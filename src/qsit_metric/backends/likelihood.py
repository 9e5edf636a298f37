"""How probable whole answers are, behind kept prefixes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ..levels import finite
from ..model.reading import Prefix


def answer_likelihoods(
    head: Any, prefix: Prefix, rows: Sequence[int], suffixes: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]
) -> torch.Tensor:
    """Log-probability of each answer, the sum over its tokens.

    Args:
        head: The output embedding, from hidden states to logits.
        prefix: The images; it is rewound by the caller.
        rows: Row of each answer's image in the prefix.
        suffixes: Token ids of each answer's question after the image.
        answers: Token ids of each answer, one or more.

    Returns:
        (answers,) float32.
    """
    hidden = prefix.extend([(row, n, list(ids)) for n, (row, ids) in enumerate(zip(rows, suffixes, strict=True))])
    active = list(range(len(answers)))
    total = torch.zeros(len(answers), dtype=torch.float32)
    place = 0
    while True:
        chances = finite(head(hidden)).float().log_softmax(dim=-1).cpu()
        total[active] += torch.stack([chances[at, answers[n][place]] for at, n in enumerate(active)])
        fed = [(n, answers[n][place]) for n in active if place + 1 < len(answers[n])]
        if not fed:
            return total
        hidden = prefix.extend([(rows[n], n, [token]) for n, token in fed])
        active, place = [n for n, _ in fed], place + 1
