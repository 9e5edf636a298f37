"""The coarse ratio, its presets and the fine-grained step (train/balance.py)."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from train.balance import Adjustment, Capped, Rule, adjust, capped, coarse_sizes, first_sizes, ratio_sizes
from train.errors import RecipeError, RunError
from train.mixture import Sizes
from train.recipe import Mixture, build

PUBLISHED = Sizes(15_943, 150_000, 157_712)  # D1: rows of the authors' two JSON files; D2, D3 about so
PLENTY = Sizes(10**9, 10**9, 10**9)
START = Sizes(1000, 2500, 1040)
REFERENCE = 1 / 4.66  # Sec. IV-B

sizes = st.builds(Sizes, st.integers(1, 3000), st.integers(1, 5000), st.integers(1, 5000))
losses = st.floats(1e-3, 1e3)
rules = st.builds(Rule, st.floats(0, 0.5), st.floats(0, 2), st.floats(1, 2), st.floats(1, 4))


def test_the_printed_numbers_give_the_published_mix():
    """r = 2.42, q = 3.54 and N1 = 15,943 (Sec. IV-B) give what the paper prints as 1 : 2.50 : 1.04."""
    found = coarse_sizes(PUBLISHED, 2.42, 3.54)
    assert found == Sizes(15_943, 39_936, 16_502)
    assert (round(found.d2 / found.d1, 2), round(found.d3 / found.d1, 2)) == (2.50, 1.04)


def preset_sizes(name, counts):
    return first_sizes(Mixture(preset=name), counts)


def test_presets():
    assert preset_sizes("paper", PUBLISHED) == Capped(Sizes(15_943, 39_936, 16_502))
    assert preset_sizes("all", PUBLISHED) == Capped(PUBLISHED)
    # single_image.yaml at 4e4d1df: ceil(22 % of 150,000) and ceil(8 % of 157,712 = 12,616.96)
    assert preset_sizes("authors_yaml", PUBLISHED) == Capped(Sizes(15_943, 33_000, 12_617))


@pytest.mark.parametrize(
    ("n2", "n3", "d2", "d3"), [(100, 100, 22, 8), (101, 101, 23, 9), (50, 25, 11, 2), (1, 1, 1, 1)]
)
def test_the_yaml_rounds_up(n2, n3, d2, d3):
    assert preset_sizes("authors_yaml", Sizes(5, n2, n3)).sizes == Sizes(5, d2, d3)


def test_unknown_preset():
    with pytest.raises(
        RecipeError, match=r"`mixture\.preset`: got 'papper': Input should be 'paper', 'authors_yaml' or 'all'"
    ):
        build({"name": "x", "mixture": {"preset": "papper"}}, "x")


def test_ratio_sizes():
    assert ratio_sizes(Sizes(200, 0, 0), (2, 5, 0)) == Sizes(200, 500, 0)
    assert ratio_sizes(PUBLISHED, (1, 2.5, 1.04)) == Sizes(15_943, 39_858, 16_581)


@pytest.mark.parametrize("ratio", [(0, 1, 1), (1, -1, 1), (1, math.nan, 1), (1, 2), (1, 2, math.inf)])
def test_refused_ratios(ratio):
    with pytest.raises(RecipeError, match="`ratio`: got .* the first \\(D1\\) above 0"):
        ratio_sizes(PUBLISHED, ratio)


@pytest.mark.parametrize(("r", "q", "name"), [(0, 1, "r"), (1, -1, "q"), (math.nan, 1, "r"), (1, math.inf, "q")])
def test_refused_coarse_ratios(r, q, name):
    with pytest.raises(RecipeError, match=f"`{name}`: got .* a finite number above 0"):
        coarse_sizes(PUBLISHED, r, q)


def test_ratios_need_d1():
    for call in (lambda: coarse_sizes(Sizes(0, 9, 9), 1, 1), lambda: ratio_sizes(Sizes(0, 9, 9), (1, 1, 1))):
        with pytest.raises(RecipeError, match=r"`counts.d1`: got 0"):
            call()


def test_caps_keep_r_and_say_so():
    found = capped(Sizes(10, 6000, 4000), Sizes(10, 3000, 100_000))
    assert found.sizes == Sizes(10, 3000, 2000)
    assert found.notes == (
        "D2 6,000 -> 3,000 and D3 4,000 -> 2,000: there are 3,000 rows of D2 and 100,000 of D3; D2 : D3 stays",
    )


def test_d1_is_repeated_with_a_note():
    assert capped(Sizes(25, 1, 1), Sizes(10, 1, 1)) == Capped(Sizes(25, 1, 1), ("D1 25: its 10 rows are repeated",))


def test_a_set_without_rows_lowers_nothing():
    """The epoch itself refuses it, with the way out; silently training without D2 and D3 would be worse."""
    assert capped(Sizes(10, 30, 20), Sizes(10, 30, 0)).sizes == Sizes(10, 30, 20)


@given(sizes, sizes)
def test_capped_never_asks_for_more_than_there_is(asked, counts):
    found = capped(asked, counts)
    assert found.sizes.d1 == asked.d1
    assert found.sizes.d2 <= min(asked.d2, counts.d2)
    assert found.sizes.d3 <= min(asked.d3, counts.d3)
    share = asked.d2 / (asked.d2 + asked.d3)
    assert abs(found.sizes.d2 - (found.sizes.d2 + found.sizes.d3) * share) <= 0.5 + 1e-9
    # nothing is left over: one more row in this ratio would not fit
    more = found.sizes.d2 + found.sizes.d3 + 1
    assert found.sizes == asked or more * share > counts.d2 or more * (1 - share) > counts.d3
    assert bool(found.notes) == (found.sizes != asked or asked.d1 > counts.d1)


def step(scoring: float, interpreting: float = 1.0, at: Sizes = START, counts: Sizes = PLENTY, **rule) -> Adjustment:
    return adjust(at, START, counts, scoring, interpreting, REFERENCE, Rule(**rule))


def test_interpreting_lags_behind():
    """Eq. 9: a ratio below the reference asks for more D2 + D3."""
    found = step(REFERENCE * 0.8)
    assert (found.action, found.sizes.d1, found.capped) == ("more D2+D3", 1000, False)
    assert found.deviation == pytest.approx(math.log(0.8))
    assert found.growth == pytest.approx(1 + 0.5 * math.log(1 / 0.8))
    assert (found.sizes.d2, found.sizes.d3) == (2779, 1156)  # 3540 * 1.11157 = 3935 rows in 2500 : 1040


def test_scoring_lags_behind():
    """Eq. 10: a ratio above the reference asks for more D1."""
    found = step(REFERENCE * 1.25)
    assert (found.action, found.capped) == ("more D1", False)
    assert found.sizes == dataclasses.replace(START, d1=1112)
    assert found.ratio == pytest.approx(REFERENCE * 1.25)


@pytest.mark.parametrize(
    ("deviation", "action"), [(0.049, "keep"), (-0.049, "keep"), (0.051, "more D1"), (-0.051, "more D2+D3")]
)
def test_dead_band(deviation, action):
    found = step(REFERENCE * math.exp(deviation))
    assert found.action == action
    assert (found.sizes == START and found.growth == 1) == (action == "keep")


def test_growth_is_bounded():
    assert step(REFERENCE * 100).sizes.d1 == 1250
    assert step(REFERENCE / 100).sizes == Sizes(1000, 3125, 1300)
    assert step(REFERENCE * 100, max_growth=3, max_total=9, kappa=0.1).growth == pytest.approx(1 + 0.1 * math.log(100))


def test_a_side_ends_at_twice_its_start():
    found = step(1e3, at=Sizes(1900, 2500, 1040))
    assert (found.sizes.d1, found.capped, found.growth) == (2000, True, 1.25)
    found = step(1e-3, at=Sizes(1000, 4800, 1997))
    assert (found.sizes, found.capped) == (Sizes(1000, 5000, 2080), True)


def test_d2_and_d3_end_at_the_rows_at_hand_and_keep_r():
    found = step(1e-3, counts=Sizes(1000, 2600, 99_999))
    assert (found.sizes, found.capped) == (Sizes(1000, 2600, 1081), True)
    found = step(1e-3, counts=Sizes(1000, 99_999, 1040))
    assert (found.sizes, found.capped, found.action) == (START, True, "more D2+D3")


def test_d1_may_be_repeated():
    assert step(1e3, counts=Sizes(1000, 9999, 9999)).sizes.d1 == 1250


def test_a_single_task_has_nothing_to_grow():
    only = Sizes(0, 50, 50)
    found = adjust(only, only, only, 10.0, 1.0, 0.2)
    assert (found.sizes, found.capped) == (only, True)


@given(sizes, sizes, st.lists(st.tuples(losses, losses), min_size=1, max_size=6), losses, rules)
def test_any_history_of_steps(start, extra, measured, reference, rule):
    counts = Sizes(*(a + b for a, b in zip(start, extra, strict=True)))
    now = start
    for scoring, interpreting in measured:
        found = adjust(now, start, counts, scoring, interpreting, reference, rule)
        new = found.sizes
        assert all(after >= before for after, before in zip(new, now, strict=True))
        assert new.d1 <= rule.max_total * start.d1
        assert new.d2 + new.d3 <= rule.max_total * (start.d2 + start.d3)
        assert new.d2 <= counts.d2
        assert new.d3 <= counts.d3
        assert abs(new.d2 - (new.d2 + new.d3) * start.d2 / (start.d2 + start.d3)) <= 0.5 + 1e-6
        assert 1 <= found.growth <= rule.max_growth
        assert (new.d1 > now.d1) <= (found.deviation > rule.tolerance)
        assert (new.d2 + new.d3 > now.d2 + now.d3) <= (found.deviation < -rule.tolerance)
        assert found.capped or found.growth == 1 or new != now
        now = new


def test_as_dict_is_plain():
    fields = json.loads(json.dumps(step(REFERENCE * 1.25).as_dict()))
    assert fields["sizes"] == {"d1": 1112, "d2": 2500, "d3": 1040}
    assert set(fields) == {"sizes", "ratio", "deviation", "growth", "action", "capped"}


@pytest.mark.parametrize("loss", [0.0, -1.0, math.nan, math.inf])
def test_losses_that_are_none(loss):
    with pytest.raises(RunError, match=r"`validation loss \(scoring\)`: got .* a finite number above 0"):
        step(loss)
    with pytest.raises(RunError, match=r"`validation loss \(interpreting\)`"):
        step(1.0, loss)


@pytest.mark.parametrize("reference", [0.0, -1.0, math.nan, math.inf])
def test_references_that_are_none(reference):
    with pytest.raises(RecipeError, match=r"`balance.reference`: got"):
        adjust(START, START, PLENTY, 1.0, 1.0, reference)


@pytest.mark.parametrize(
    ("field", "value"), [("tolerance", -0.1), ("kappa", math.nan), ("max_growth", 0.9), ("max_total", math.inf)]
)
def test_rules_that_are_none(field, value):
    with pytest.raises(RecipeError, match=rf"`balance.{field}`: got .* or more"):
        Rule(**{field: value})
