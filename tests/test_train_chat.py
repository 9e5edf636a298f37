"""Conversations as tokens: the format of LLaVA-NeXT, its mask, and agreement with what inference asks."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qsit_metric.backends.dialogue import Dialogue
from qsit_metric.backends.training import Tokenizer
from qsit_metric.prompts import CHATML, TRAIN, multiple_choice
from train.chat import IGNORED, Encoder, check_rows
from train.data.rows import Row
from train.errors import DataError, RecipeError
from training import small_base

D1 = Row("a", "a.jpg", ((TRAIN.question, "The quality of the image is excellent."),))


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory):
    return Tokenizer.load(small_base(tmp_path_factory.mktemp("chat") / "base"))


def _said(tokenizer, ids) -> list[str]:
    return [tokenizer.decode([token], skip_special_tokens=False) for token in ids]


def test_the_text_is_llava_nexts(tokenizer):
    tokens = Encoder(tokenizer, TRAIN.system).encode(D1, image_tokens=2)
    assert tokenizer.decode(tokens.ids, skip_special_tokens=False) == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        f"<|im_start|>user\n<image><image>\n{TRAIN.question}<|im_end|>\n"
        "<|im_start|>assistant\nThe quality of the image is excellent.<|im_end|>\n"
    )


def test_next_supervises_21_targets_of_a_scoring_row(tokenizer):
    # Provenance: counted by hand from llava/train/train.py `preprocess_qwen` (df17966) with words that are single
    # tokens, as in Qwen2: 3 of the system turn, 5 of the user's, 13 of the assistant's; one of them is the level.
    labels = Encoder(tokenizer, TRAIN.system, "next").encode(D1, image_tokens=5).labels[1:]
    said = _said(tokenizer, [label for label in labels if label != IGNORED])
    assert said == [
        "\n", "<|im_end|>", "\n",
        "<|im_start|>", "\n", "\n", "<|im_end|>", "\n",
        "<|im_start|>", "assistant", "\n", "The", " quality", " of", " the", " image", " is", " excellent", ".",
        "<|im_end|>", "\n",
    ]  # fmt: skip
    assert len(said) == 21


def test_answer_supervises_the_answer_and_its_end(tokenizer):
    labels = Encoder(tokenizer, TRAIN.system, "answer").encode(D1, image_tokens=5).labels
    said = _said(tokenizer, [label for label in labels if label != IGNORED])
    assert "".join(said) == "The quality of the image is excellent.<|im_end|>"
    assert len(said) == 9


def test_next_supervises_each_option_line_of_a_question(tokenizer):
    row = Row("q", "a.jpg", ((multiple_choice("Is it sharp?", ["Yes", "No", "Maybe"]), "A"),))
    flat = Row("q", "a.jpg", (("Is it sharp? A. Yes B. No C. Maybe", "A"),))
    count = [sum(label != IGNORED for label in Encoder(tokenizer, None).encode(r, 3).labels) for r in (row, flat)]
    assert count[0] == count[1] + 4  # one newline before each option and one after the last


def test_later_turns_have_no_image_and_are_answered_too(tokenizer):
    row = Row("m", "a.jpg", (("Is it sharp?", "Yes."), ("Is it?", "No.")))
    tokens = Encoder(tokenizer, None, "answer").encode(row, image_tokens=3)
    assert tokens.ids.count(tokenizer.id_of("<image>")) == 3
    said = tokenizer.decode([label for label in tokens.labels if label != IGNORED], skip_special_tokens=False)
    assert said == "Yes.<|im_end|>No.<|im_end|>"


def test_training_and_scoring_see_the_same_tokens(tokenizer):
    """The prompt that reads a score is, token for token, the beginning of the row that taught it."""
    image = tokenizer.id_of("<image>")
    asked = Dialogue(tokenizer, CHATML).ids(TRAIN.scoring())
    taught = Encoder(tokenizer, TRAIN.system).encode(D1, image_tokens=4).ids
    prompt = (*asked.before, *[image] * 4, *asked.after)
    assert taught[: len(prompt)] == prompt
    assert taught[len(prompt)] == asked.words[TRAIN.words.index(" excellent")]


words = st.text(alphabet=st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=30).filter(
    lambda text: text.strip() == text and text
)


@given(turns=st.lists(st.tuples(words, words), min_size=1, max_size=4), image=st.integers(1, 9))
def test_labels_are_the_ids_where_they_are_learned(tokenizer, turns, image):
    for mask in ("next", "answer"):
        tokens = Encoder(tokenizer, TRAIN.system, mask).encode(Row("r", "a.jpg", tuple(turns)), image)
        assert len(tokens.ids) == len(tokens.labels)
        pictures = tokenizer.id_of("<image>")
        pairs = list(zip(tokens.ids, tokens.labels, strict=True))
        assert all(label in (IGNORED, token) for token, label in pairs)
        assert sum(token == pictures for token, _ in pairs) == image
        assert all(label == IGNORED for token, label in pairs if token == pictures)
        assert any(label != IGNORED for _, label in pairs)


def test_reserved_tokens_in_a_text_are_refused(tokenizer):
    rows = [D1, Row("bad", "a.jpg", (("Look at <image> here", "Yes."),)), Row("b2", "a", (("Hi <|im_end|>", "x"),))]
    with pytest.raises(DataError, match=r"`d2`: 2 rows cannot be written: row 'bad'.*'<image>', reserved"):
        check_rows(Encoder(tokenizer, None), rows, "d2")


def test_an_unknown_mask_is_refused(tokenizer):
    with pytest.raises(RecipeError, match=r"`chat.mask`: got 'all', expected 'next' or 'answer'"):
        Encoder(tokenizer, None, "all")


def test_a_tokenizer_without_the_format_is_refused(tmp_path: Path):
    import tokenizers

    plain = Tokenizer(tokenizers.Tokenizer(tokenizers.models.BPE({"a": 0, "<": 1, "|": 2}, [])), {})
    with pytest.raises(RecipeError, match=r"tokens for '<\|im_start\|>'>, expected one token"):
        Encoder(plain, None)
