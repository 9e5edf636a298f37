"""The memory of a training step: exact counts of weights, each term, and a real step beside the formula."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import GOLDEN
from qsit_metric.backends.training import empty
from train.commands.run import memory_command
from train.errors import RecipeError, RunError
from train.memory import (
    PHASES,
    Setting,
    Term,
    compute,
    config_of,
    count,
    measure,
    peak,
    setting_of,
    shape_of,
    trainable,
)
from train.recipe import Lora, load_recipe

MINI, SEVEN = (count(config_of(size)) for size in ("0.5b", "7b"))


def sizes(shape, setting) -> dict[str, int]:
    return {term.name: term.size for term in compute(shape, setting)}


def test_weights_of_the_golden_checkpoint_are_counted_exactly():
    from safetensors.torch import load_file

    stored = sum(weight.numel() for weight in load_file(GOLDEN / "tied" / "model.safetensors").values())
    assert shape_of(str(GOLDEN / "tied")).weights == stored


def test_weights_by_hand():
    # One Qwen2 layer: q and o with 896 x 896, k and v with 896 x 128, three MLP matrices, q/k/v biases, two norms.
    assert MINI.text.layer_weights == 2 * 896**2 + 2 * 896 * 128 + 3 * 896 * 4864 + 896 + 2 * 128 + 2 * 896
    # One SigLIP layer: four attention matrices, two MLP matrices, their biases, two norms with biases.
    assert MINI.vision.layer_weights == 4 * 1152**2 + 2 * 1152 * 4304 + 5 * 1152 + 4304 + 4 * 1152
    assert MINI.words == 152000 * 896  # tied: counted once
    assert SEVEN.words == 2 * 152064 * 3584
    assert MINI.text.weights == 24 * MINI.text.layer_weights + 896
    assert round(MINI.weights / 1e6) == 894
    assert round(SEVEN.weights / 1e9, 2) == 8.03


@pytest.mark.parametrize(("width", "height", "tokens", "tiles"), [(1024, 768, 4725, 7), (4000, 3000, 7309, 31)])
def test_the_sequences_of_the_reference(width, height, tokens, tiles):
    setting = setting_of(load_recipe("q-sit-mini"), width, height, text=0)
    assert (setting.tokens, setting.tiles, setting.supervised) == (tokens, tiles, 21)


def test_states_of_mini():
    found = sizes(MINI, Setting(4725, 7))
    assert found["weights, float32"] == 4 * MINI.weights
    assert found["AdamW moments"] == 8 * MINI.weights
    assert sum(size for name, size in found.items() if name.startswith("gradients of")) == 4 * MINI.weights
    assert found["checkpoints of the language model"] == 4 * 4725 * 896 * 24
    assert found["checkpoints of the vision tower"] == 4 * 7 * 729 * 1152 * 26
    assert found["logits and their gradient"] == 14 * 21 * 152000
    assert peak(compute(MINI, Setting(4725, 7)))[0] < 20 * 2**30  # one GPU of 24 GB would do, 80 GB surely does


def test_seven_billion_needs_several_gpus():
    assert peak(compute(SEVEN, Setting(4725, 7)))[0] > 80 * 2**30
    assert peak(compute(SEVEN, Setting(7309, 31, shards=8)))[0] < 70 * 2**30


def test_adapters_fit_one_gpu():
    setting = setting_of(load_recipe("lora-1gpu"), 4000, 3000)
    assert setting.lora == Lora()
    assert setting.frozen_vision
    assert sizes(SEVEN, setting)["checkpoints of the vision tower"] == 0
    assert peak(compute(SEVEN, setting))[0] < 70 * 2**30


def test_adapters_are_counted_as_peft_makes_them():
    from train.model import mark_trainable
    from train.recipe import Model

    config = config_of("small")
    model = empty(config)
    mark_trainable(model, Model(lora=Lora(rank=8), frozen=("vision_tower",)))
    learned = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    assert learned == trainable(count(config), Setting(10, 1, lora=Lora(rank=8), frozen_vision=True))


@given(st.integers(2, 64), st.integers(100, 7000), st.integers(1, 37), st.integers(1, 4))
def test_sharing_and_shrinking_never_cost_more(shards, tokens, tiles, rows):
    one = Setting(tokens, tiles, rows)
    shared = sizes(SEVEN, dataclasses.replace(one, shards=shards))
    assert shared["AdamW moments"] == 8 * SEVEN.weights // shards
    assert peak(compute(SEVEN, dataclasses.replace(one, shards=shards)))[0] < peak(compute(SEVEN, one))[0]
    assert peak(compute(SEVEN, one))[0] <= peak(compute(SEVEN, dataclasses.replace(one, tokens=tokens + 1)))[0]
    assert peak(compute(SEVEN, one))[0] >= peak(compute(MINI, one))[0]


def test_every_term_has_a_phase_and_a_formula():
    for setting in (Setting(4725, 7), Setting(4725, 7, shards=8), Setting(4725, 7, lora=Lora(), frozen_vision=True)):
        terms = compute(SEVEN, setting)
        assert len({term.name for term in terms}) == len(terms)
        assert all(term.formula and term.phases and set(term.phases) <= set(PHASES) for term in terms)


def test_the_peak_is_that_of_a_phase():
    terms = [Term("a", 5, "5"), Term("b", 3, "3", ("forward",)), Term("c", 4, "4", ("step",))]
    assert peak(terms) == (9, "step")


def test_bases_and_sizes_that_nobody_knows(capsys):
    assert shape_of("q-sit-mini") == shape_of("llava-hf/llava-onevision-qwen2-0.5b-ov-hf") == MINI
    assert shape_of("q-sit") == SEVEN
    with pytest.raises(
        RecipeError, match="`model.base`: got 'owner/other', expected a folder, or a checkpoint of 0.5B"
    ):
        shape_of("owner/other")
    with pytest.raises(RecipeError, match="`--size`: got '3', expected WIDTHxHEIGHT"):
        memory_command(size="3")


def test_the_command(capsys):
    memory_command("q-sit", gpus=8)
    shown = capsys.readouterr().out
    for part in ("8,030.3 M weights", "4771 tokens, 7 tiles", "gathered weights", "AdamW moments", "peak ("):
        assert part in shown


def test_a_step_that_fails_is_told(monkeypatch):
    with pytest.raises(
        RunError, match=r"`measure`: got <huge at 384x384 on cpu>, expected a step that fits. It said: KeyError"
    ):
        measure("huge", 384, 384, "cpu")


@pytest.mark.long
def test_the_formula_against_a_real_step():
    measured = measure("small", 768, 768, "cpu")
    computed, _ = peak(compute(count(config_of("small")), Setting(measured.tokens, measured.tiles)))
    assert 0.75 < computed / measured.peak < 1.25
