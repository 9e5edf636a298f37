"""Texts whose ends are white space: taken off as LLaVA does, unless the row says that it is exact."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from qsit_metric.prompts import multiple_choice
from train.data.rows import Row
from train.nano.data.dataset import make_picture
from train.nano.data.texts import feedback

ASKED = multiple_choice("Is it sharp?", ("Yes", "No"))


def test_the_authors_prompt_survives_being_written_and_read() -> None:
    assert ASKED.endswith("\n")
    row = Row("a", "a.png", ((ASKED, "A"),), "s")
    assert row.as_llava()["exact"] is True
    assert Row.from_llava(row.as_llava(), 0) == row
    fields = {name: value for name, value in row.as_llava().items() if name != "exact"}
    assert Row.from_llava(fields, 0).turns == ((ASKED.strip(), "A"),)
    assert "exact" not in Row("a", "a.png", (("Is it sharp?", "Yes."),)).as_llava()


_TEXT = st.text(st.sampled_from(" \nabc?"), min_size=1).filter(str.strip)


@given(st.lists(st.tuples(_TEXT, _TEXT), min_size=1, max_size=3))
def test_every_row_is_read_as_it_was(turns: list[tuple[str, str]]) -> None:
    row = Row("1", "a.png", tuple(turns))
    assert Row.from_llava(row.as_llava(), 0) == row


def test_half_of_the_made_choices_are_asked_as_the_metric_asks() -> None:
    import numpy as np

    from train.data.interpreting import build
    from train.data.interpreting.build import INSTRUCTION
    from train.nano.data.dataset import _bare
    from train.nano.data.texts import WRITER

    rng = np.random.default_rng(0)
    said = [feedback(make_picture("d2", number, seed=4)[0], rng) for number in range(6)] * 20
    rows = build(said, WRITER, seed=0, limits={"choice": 60})
    choices = [row for row in rows if INSTRUCTION in row.turns[0][0]]
    bare = [_bare(row, rng) for row in choices]
    plain = [row for row in bare if row.turns[0][0].endswith("\n")]
    assert 0.25 < len(plain) / len(bare) < 0.75
    for row in plain:
        question, *options = row.turns[0][0].splitlines()
        assert multiple_choice(question, [option.partition(". ")[2] for option in options]) == row.turns[0][0]
