"""Rows of an epoch: sizes, copies, unseen rows first, the same on every rank."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from train.errors import RecipeError
from train.mixture import Sizes, draw_epoch

sizes = st.integers(0, 40)


@given(st.builds(Sizes, *[st.integers(1, 12)] * 3), st.lists(st.builds(Sizes, sizes, sizes, sizes), min_size=1, max_size=4),
       st.integers(0, 9))  # fmt: skip
def test_an_epoch_has_the_sizes_asked_for_and_spreads_them_evenly(counts, history, seed):
    if not history[-1].total:
        return
    epoch = draw_epoch(counts, history, seed)
    for index, (size, count) in enumerate(zip(history[-1], counts, strict=True)):
        times = np.bincount(epoch.rows[epoch.sets == index], minlength=count)
        assert times.sum() == size
        assert len(times) == count
        assert times.max() - times.min() <= 1  # whole copies, and a remainder without repetition


@given(st.integers(2, 30), st.integers(1, 30), st.integers(2, 6))
def test_no_row_is_seen_twice_before_all_were_seen_once(count, size, epochs):
    size = min(size, count)
    seen = np.zeros(count, dtype=int)
    for number in range(1, epochs + 1):
        epoch = draw_epoch(Sizes(count, 0, 0), [Sizes(size, 0, 0)] * number, seed=3)
        seen[epoch.rows] += 1
        if size < count:
            assert seen.max() - seen.min() <= 1


def test_equal_arguments_give_equal_epochs_and_others_do_not():
    counts, history = Sizes(50, 60, 70), [Sizes(20, 30, 10)]
    first, again = draw_epoch(counts, history, 1), draw_epoch(counts, history, 1)
    assert first.digest == again.digest
    assert (first.rows == again.rows).all()
    assert (first.sets == again.sets).all()
    assert draw_epoch(counts, history, 2).digest != first.digest
    assert draw_epoch(counts, history * 2, 1).digest != first.digest


def test_sets_are_mixed():
    epoch = draw_epoch(Sizes(100, 100, 100), [Sizes(100, 100, 100)], 0)
    halves = epoch.sets[:150], epoch.sets[150:]
    assert all(30 < (half == index).sum() < 70 for half in halves for index in range(3))


def test_rows_of_an_empty_set_are_refused():
    with pytest.raises(RecipeError, match=r"`mixture.d2`: got 3, expected 0, as there are no rows of d2"):
        draw_epoch(Sizes(5, 0, 5), [Sizes(1, 3, 1)], 0)


def test_an_empty_epoch_is_refused():
    with pytest.raises(RecipeError, match=r"`mixture`: got \(0, 0, 0\), expected at least one row"):
        draw_epoch(Sizes(5, 5, 5), [Sizes(0, 0, 0)], 0)


def test_sizes_are_whole_numbers():
    with pytest.raises(RecipeError, match=r"`sizes`: got \(1, -2, 3\)"):
        Sizes(1, -2, 3)
