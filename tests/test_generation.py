"""When an answer ends and the rules against repetition, against transformers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from qsit_metric.backends.decoding import Generation
from qsit_metric.errors import CheckpointError

pytestmark = pytest.mark.compat

GOLDEN = Path(__file__).parent / "golden"
VOCABULARY = 9


def folder_with(tmp_path, generation=None, config=None, text=None):
    """A folder of two files; without `generation` there is no generation_config.json."""
    shutil.copy(GOLDEN / "tied" / "config.json", tmp_path)
    content = json.loads((tmp_path / "config.json").read_text()) | (config or {})
    content["text_config"] |= text or {}
    (tmp_path / "config.json").write_text(json.dumps(content))
    if generation is not None:
        (tmp_path / "generation_config.json").write_text(json.dumps(generation))
    return tmp_path


@pytest.mark.parametrize(
    "generation",
    [
        {},
        {"eos_token_id": 460},
        {"eos_token_id": [460, 3]},
        {"eos_token_id": 460, "repetition_penalty": 1.1, "no_repeat_ngram_size": 3},
        {"repetition_penalty": 1, "suppress_tokens": [5], "min_new_tokens": 2},
        {"repetition_penalty": None, "no_repeat_ngram_size": None, "suppress_tokens": None},
    ],
)
def test_the_file_says_what_transformers_reads_in_it(tmp_path, generation):
    folder = folder_with(tmp_path, generation, {"eos_token_id": 7})
    theirs = transformers.GenerationConfig.from_pretrained(folder, local_files_only=True)
    assert Generation.load(folder) == Generation.of(theirs)


@pytest.mark.parametrize(
    ("config", "text", "stop"),
    [
        ({}, {}, {460}),
        ({}, {"eos_token_id": None}, set()),
        ({"eos_token_id": 5}, {}, {5}),
        ({"eos_token_id": [5, 6]}, {"eos_token_id": 7}, {5, 6}),
        ({"eos_token_id": None}, {"eos_token_id": [7, 8]}, {7, 8}),
    ],
)
def test_without_the_file_config_json_says_where_an_answer_ends(tmp_path, config, text, stop):
    folder = folder_with(tmp_path, None, config, text)
    theirs = transformers.GenerationConfig.from_model_config(transformers.LlavaOnevisionConfig.from_pretrained(folder))
    assert Generation.load(folder) == Generation.of(theirs) == Generation(frozenset(stop))


def test_without_the_file_config_json_may_have_the_rules_too(tmp_path):
    """As up to 4.57; transformers 5 leaves them out."""
    folder = folder_with(tmp_path, None, {"repetition_penalty": 1.3}, {"no_repeat_ngram_size": 3})
    assert Generation.load(folder) == Generation(frozenset({460}), 1.3, 3)


@pytest.mark.parametrize(
    ("generation", "message"),
    [
        ({"eos_token_id": "<|im_end|>"}, "`eos_token_id`: got <|im_end|>, expected a token id"),
        ({"eos_token_id": [1, -1]}, "`eos_token_id`"),
        ({"eos_token_id": True}, "`eos_token_id`"),
        ({"repetition_penalty": 0}, "`repetition_penalty`: got 0, expected a number above 0"),
        ({"repetition_penalty": "1"}, "`repetition_penalty`"),
        ({"no_repeat_ngram_size": -1}, "`no_repeat_ngram_size`: got -1"),
        ({"no_repeat_ngram_size": 1.5}, "`no_repeat_ngram_size`"),
    ],
)
def test_settings_of_another_type_are_refused(tmp_path, generation, message):
    with pytest.raises(CheckpointError, match=message.replace("|", r"\|")):
        Generation.load(folder_with(tmp_path, generation))


def test_a_broken_file_is_refused(tmp_path):
    (folder_with(tmp_path) / "generation_config.json").write_text("{")
    with pytest.raises(CheckpointError, match="generation_config.json"):
        Generation.load(tmp_path)


def test_nothing_is_said_of_an_object_without_settings():
    assert Generation.of(None) == Generation()


def processed(logits, past, penalty, size):
    rules = transformers.LogitsProcessorList()
    if penalty != 1:
        rules.append(transformers.RepetitionPenaltyLogitsProcessor(penalty))
    if size:
        rules.append(transformers.NoRepeatNGramLogitsProcessor(size))
    return torch.cat([rules(torch.tensor([ids]), row[None].float()) for row, ids in zip(logits, past, strict=True)])


ids = st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=20)


@settings(deadline=None, max_examples=200)
@given(st.lists(ids, min_size=1, max_size=3), st.sampled_from([1.0, 1.3, 0.7]), st.integers(0, 4), st.integers(0, 99))
def test_adjusted_logits_equal_those_of_transformers(past, penalty, size, seed):
    logits = torch.randn(len(past), VOCABULARY, generator=torch.Generator().manual_seed(seed))
    before = logits.clone()
    ours = Generation(repetition_penalty=penalty, no_repeat_ngram_size=size).adjust(logits, past)
    assert torch.equal(ours, processed(logits, past, penalty, size))
    assert torch.equal(logits, before)


def test_half_precision_is_adjusted_in_float32():
    logits = torch.randn(1, VOCABULARY, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    ours = Generation(repetition_penalty=1.3).adjust(logits, [[1, 2]])
    assert ours.dtype == torch.float32
    assert torch.equal(ours, processed(logits, [[1, 2]], 1.3, 0))


def test_without_rules_nothing_is_copied():
    logits = torch.zeros(1, VOCABULARY)
    assert Generation().adjust(logits, [[1]]) is logits


def test_ignored_settings_are_said(tmp_path, caplog):
    Generation.load(folder_with(tmp_path, {"suppress_tokens": [5], "min_length": 3})).warn()
    assert "min_length, suppress_tokens, which is not applied here" in caplog.text
    caplog.clear()
    Generation().warn()
    assert not caplog.text
