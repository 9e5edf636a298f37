"""Our network against transformers' own: every field of config.json that changes numbers is followed, or refused."""

from __future__ import annotations

import copy
import json
import pickle
from importlib.metadata import version

import pytest
import torch

from qsit_metric.errors import CheckpointError
from qsit_metric.model import products, weights
from qsit_metric.model.config import ACTIVATIONS, Config
from qsit_metric.model.network import LlavaOnevision
from qsit_metric.model.reading import Prefix, Whole

pytestmark = pytest.mark.compat

RAW = {
    "model_type": "llava_onevision",
    "image_token_index": 7,
    "projector_hidden_act": "gelu",
    "vision_feature_layer": -1,
    "vision_feature_select_strategy": "full",
    "tie_word_embeddings": False,
    "vision_config": {
        "model_type": "siglip_vision_model", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3,
        "num_attention_heads": 4, "image_size": 56, "patch_size": 14, "vision_use_head": False,
    },
    "text_config": {
        "model_type": "qwen2", "hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 100, "rope_theta": 1000.0,
        "tie_word_embeddings": False,
    },
}  # fmt: skip
NEW = int(version("transformers").split(".")[0]) >= 5


def edited(**changes):
    """The small config with changes; `text__x` and `vision__x` reach inside, None removes."""
    raw = copy.deepcopy(RAW)
    for name, value in changes.items():
        section, _, field = name.rpartition("__")
        fields = raw[f"{section}_config"] if section else raw
        fields.update({field: value}) if value is not None else fields.pop(field, None)
    return raw


def pair(raw, folder):
    """transformers' random model of a config.json, and ours with its weights."""
    from transformers import LlavaOnevisionConfig, LlavaOnevisionForConditionalGeneration

    (folder / "config.json").write_text(json.dumps(raw))
    torch.manual_seed(1)
    theirs = LlavaOnevisionForConditionalGeneration(LlavaOnevisionConfig.from_pretrained(folder)).eval()
    with torch.no_grad():
        for weight in theirs.parameters():
            weight.copy_(torch.randn_like(weight) * 0.3)
    ours = LlavaOnevision(Config.load(folder)).eval().requires_grad_(False)
    found = {weights.published(name): weight for name, weight in theirs.state_dict().items()}
    ours.load_state_dict(found, strict=not ours.config.tied)
    return theirs, ours


def outputs(theirs, ours):
    """States of the tower, projected, and logits of two texts, by both."""
    tiles, embedded = torch.randn(2, 3, 56, 56), torch.randn(2, 40, 48)
    layer = ours.config.feature_layer
    with torch.no_grad():
        seen = theirs.model.vision_tower(tiles, output_hidden_states=True).hidden_states[layer]
        want = [seen, theirs.model.multi_modal_projector(seen)]
        mask = torch.ones(2, 40, dtype=torch.long)
        hidden = theirs.model.language_model(inputs_embeds=embedded, attention_mask=mask, use_cache=False)[0]
        want.append(theirs.lm_head(hidden).flatten(0, 1))
        states = ours.states(tiles)
        read = ours.model.language_model(embedded.flatten(0, 1), Whole([40, 40], tiles.device, every=True))
        got = [states, ours.model.multi_modal_projector(states), ours.lm_head(read)]
    return zip(got, want, strict=True)


SCALED = {"factor": 4.0, "original_max_position_embeddings": 16}
CHANGES = {
    "as it is": {},
    "defaults left out": {"projector_hidden_act": None, "vision_feature_layer": None, "text__rope_theta": None},
    "rope_theta": {"text__rope_theta": 50.0},
    "linear": {"text__rope_scaling": {"type": "linear", "factor": 2.5}},
    "yarn": {"text__rope_scaling": {"rope_type": "yarn", **SCALED}},
    "yarn without its length": {"text__rope_scaling": {"rope_type": "yarn", "factor": 4.0}, "text__max_position_embeddings": 64},
    "yarn with scales": {"text__rope_scaling": {"rope_type": "yarn", **SCALED, "mscale": 0.7, "mscale_all_dim": 0.4}},
    "yarn with a factor": {"text__rope_scaling": {"rope_type": "yarn", **SCALED, "attention_factor": 0.8, "beta_fast": 8}},
    "llama3": {"text__rope_scaling": {"rope_type": "llama3", "low_freq_factor": 1.0, "high_freq_factor": 4.0, **SCALED}},
    "head_dim": {"text__head_dim": 20},
    "rms_norm_eps": {"text__rms_norm_eps": 0.1},
    "layer_norm_eps": {"vision__layer_norm_eps": 0.1},
    "projector bias": {"multimodal_projector_bias": False},
    "first layer": {"vision_feature_layer": 1},
    "embeddings only": {"vision_feature_layer": 0},
    "one before the last": {"vision_feature_layer": -2},
    "sliding windows": {"text__sliding_window": 4, "text__use_sliding_window": False},
    **{f"decoder {name}": {"text__hidden_act": name} for name in ACTIVATIONS},
    **{f"tower {name}": {"vision__hidden_act": name} for name in ACTIVATIONS},
    **{f"projector {name}": {"projector_hidden_act": name} for name in ("relu", "silu", "quick_gelu")},
}  # fmt: skip
SPELT_ANEW = {
    "rope_parameters": {
        "text__rope_theta": None,
        "text__rope_parameters": {"rope_type": "default", "rope_theta": 50.0},
    },
    "linear in rope_parameters": {
        "text__rope_theta": None,
        "text__rope_parameters": {"rope_type": "linear", "factor": 3.0, "rope_theta": 70.0},
    },
    "image_token_id": {"image_token_index": None, "image_token_id": 9},
}


@pytest.mark.parametrize("fast", [False, True], ids=["ordinary", "quick"])
@pytest.mark.parametrize("changes", [*CHANGES.values(), *(SPELT_ANEW.values() if NEW else ())],
                         ids=[*CHANGES, *(SPELT_ANEW if NEW else ())])  # fmt: skip
def test_every_field_is_followed(changes, fast, tmp_path):
    theirs, ours = pair(edited(**changes), tmp_path)
    if fast:
        for got, want in outputs(theirs, ours.fuse()):
            torch.testing.assert_close(got, want, atol=1e-5 * float(want.abs().max()), rtol=1e-5)
    else:
        with products.ordinary():
            for got, want in outputs(theirs, ours):
                torch.testing.assert_close(got, want, atol=1e-5 * float(want.abs().max()), rtol=1e-5)


@pytest.mark.parametrize("changes", [CHANGES[name] for name in ("rope_theta", "rms_norm_eps", "head_dim", "yarn")])
def test_a_field_that_is_not_followed_would_be_seen(changes, tmp_path):
    """The comparison above can fail: each change moves the numbers of transformers' own model."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    plain, _ = pair(edited(), tmp_path / "a")
    if "text__head_dim" in changes:
        return
    theirs, _ = pair(edited(**changes), tmp_path / "b")
    theirs.load_state_dict(plain.state_dict())
    x, mask = torch.randn(1, 40, 48), torch.ones(1, 40, dtype=torch.long)
    with torch.no_grad():
        a, b = (m.model.language_model(inputs_embeds=x, attention_mask=mask)[0] for m in (plain, theirs))
    assert float((a - b).abs().max()) > 1e-3


REFUSED = {
    "model_type": ({"model_type": "llava"}, "`model_type`: got 'llava'"),
    "another decoder": ({"text__model_type": "llama"}, "`text_config.model_type`: got 'llama'"),
    "another tower": ({"vision__model_type": "clip_vision_model"}, "`vision_config.model_type`"),
    "dynamic": ({"text__rope_scaling": {"type": "dynamic", "factor": 2.0}}, "rope_parameters`: got 'dynamic'"),
    "longrope": ({"text__rope_scaling": {"rope_type": "longrope", "factor": 2.0}}, "got 'longrope'"),
    "part of a head": ({"text__partial_rotary_factor": 0.5}, "partial_rotary_factor`: got 0.5"),
    "two bases": (
        {"text__rope_parameters": {"rope_type": "default", "rope_theta": 5.0}},
        "rope_theta`: got .5.0, 1000.0.*the same in all places",
    ),
    "a scale that is none": ({"text__rope_scaling": {"type": "linear"}}, "rope_parameters.factor`: got None"),
    "a scale of nothing": ({"text__rope_scaling": {"type": "linear", "factor": 0}}, "rope_parameters.factor`: got 0"),
    "a scale in words": ({"text__rope_scaling": {"type": "yarn", **SCALED, "beta_fast": "x"}}, "beta_fast`: got 'x'"),
    "a base in words": ({"text__rope_theta": "1000000"}, "rope_theta`: got '1000000', expected a number above 0"),
    "no base": ({"text__rope_theta": 0}, "rope_theta`: got 0"),
    "a base for each kind of layer": (
        {"text__rope_theta": None, "text__rope_parameters": {"full_attention": {"rope_theta": 1e6}}},
        "rope_parameters.full_attention`: got .*one setting for all layers",
    ),
    "two kinds of positions": (
        {"text__rope_scaling": {"type": "linear", "factor": 2.0}, "text__rope_parameters": {"rope_type": "default"}},
        "rope_parameters`: got .*expected what rope_scaling says",
    ),
    "llama3 in part": ({"text__rope_scaling": {"rope_type": "llama3", **SCALED}}, "low_freq_factor"),
    "an activation": ({"text__hidden_act": "mish"}, "`text_config.hidden_act`: got 'mish', expected 'gelu' or"),
    "tower's activation": ({"vision__hidden_act": "laplace"}, "`vision_config.hidden_act`: got 'laplace'"),
    "projector's": ({"projector_hidden_act": "swiglu"}, "`projector_hidden_act`: got 'swiglu'"),
    "channels": ({"vision__num_channels": 4}, "num_channels`: got 4, expected 3"),
    "quantised": ({"quantization_config": {"bits": 4}}, "quantization_config.*expected plain weights"),
    "chunks": ({"text__layer_types": ["chunked_attention"] * 2}, "layer_types.*chunked_attention"),
    "several layers": ({"vision_feature_layer": [1, 2]}, "vision_feature_layer.*expected one layer"),
    "no such layer": ({"vision_feature_layer": 4}, "vision_feature_layer`: got 4, expected one layer of the 3"),
    "a strategy": ({"vision_feature_select_strategy": "default"}, "got 'default', expected 'full'"),
    "heads": ({"text__num_attention_heads": 0}, "num_attention_heads`: got 0.*a LLaVA-OneVision config"),
    "groups": ({"text__num_key_value_heads": 3}, "num_key_value_heads`: got 3, expected a divisor"),
    "groups by default": ({"text__num_key_value_heads": None}, "num_key_value_heads`: got 32, expected a divisor"),
    "an odd head": ({"text__head_dim": 7}, "head_dim`: got 7, expected an even number"),
    "eps": ({"text__rms_norm_eps": float("nan")}, "rms_norm_eps`: got nan"),
    "bias": ({"multimodal_projector_bias": "yes"}, "multimodal_projector_bias`: got 'yes', expected true or false"),
    "no part": ({"text_config": None}, "text_config.*expected an object"),
}


def test_a_config_that_is_no_object_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(CheckpointError, match=r"config.json.*object"):
        Config.load(tmp_path)


@pytest.mark.parametrize(("changes", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_followed_is_refused_by_name(changes, message):
    with pytest.raises(CheckpointError, match=message):
        Config.of(edited(**changes))


def test_a_model_of_transformers_is_adopted_with_its_weights(tmp_path):
    theirs, _ = pair(edited(), tmp_path)
    adopted = weights.adopt(theirs)
    q = theirs.model.language_model.layers[0].self_attn.q_proj.weight
    assert adopted.model.language_model.layers[0].self_attn.q_proj.weight.data_ptr() == q.data_ptr()
    for got, want in outputs(theirs, adopted):
        torch.testing.assert_close(got, want, atol=1e-4, rtol=1e-4)


def test_a_spread_model_of_transformers_is_not_adopted(tmp_path):
    theirs, _ = pair(edited(), tmp_path)
    theirs.lm_head.to("meta")
    with pytest.raises(CheckpointError, match=r"weights on cpu, meta.*all on one device.*device='auto'"):
        weights.adopt(theirs)


def test_half_precision_stays_near_transformers(tmp_path):
    theirs, ours = pair(edited(), tmp_path)
    tiles = torch.randn(2, 3, 56, 56)
    with torch.no_grad():
        exact = ours.states(tiles)
        scale = float(exact.abs().max())
        got = ours.bfloat16().fuse().states(tiles.bfloat16()).float()
        want = (
            theirs.bfloat16().model.vision_tower(tiles.bfloat16(), output_hidden_states=True).hidden_states[-1].float()
        )
    assert float((got - exact).abs().max()) < max(1.5 * float((want - exact).abs().max()), 0.02 * scale)


def test_fused_projections_are_the_weights_themselves(tmp_path):
    _, ours = pair(edited(), tmp_path)
    names = set(ours.state_dict())
    before = {name: weight.clone() for name, weight in ours.state_dict().items()}
    ours.fuse()
    attention = ours.model.language_model.layers[0].self_attn
    assert set(ours.state_dict()) == names
    assert all(torch.equal(before[name], weight) for name, weight in ours.state_dict().items())
    attention.k_proj.weight.data.zero_()
    x = torch.randn(5, 48)
    with torch.no_grad():
        assert torch.equal(attention.project(x)[1], attention.k_proj.bias.expand(5, -1))
    ours.to(torch.float64)
    assert attention._fused is None


def zeroed(model):
    return {name: torch.zeros_like(weight) for name, weight in model.state_dict().items()}


def hidden(module, args, output):
    return torch.zeros_like(output)


OVERTAKEN = {
    "new storage": lambda q, model: (q.weight.set_(torch.zeros_like(q.weight)), q.bias.zero_()),
    "new data": lambda q, model: [setattr(w, "data", torch.zeros_like(w)) for w in (q.weight, q.bias)],
    "assigned": lambda q, model: model.load_state_dict(zeroed(model), assign=True),
    "a hook": lambda q, model: q.register_forward_hook(hidden),
}


@pytest.mark.parametrize("change", OVERTAKEN.values(), ids=OVERTAKEN)
def test_what_is_done_to_a_projection_is_not_passed_over(change, tmp_path):
    """The matrix of fused projections is used only while it is what they do."""
    _, ours = pair(edited(), tmp_path)
    attention, x = ours.fuse().model.language_model.layers[0].self_attn, torch.randn(5, 48)
    with torch.no_grad():
        assert attention.project(x)[0].abs().max() > 0
        change(attention.q_proj, ours)
        assert attention.project(x)[0].abs().max() == 0


def test_a_copy_has_weights_of_its_own(tmp_path):
    _, ours = pair(edited(), tmp_path)
    attention = copy.deepcopy(ours.fuse()).model.language_model.layers[0].self_attn
    attention.q_proj.weight.data.zero_()
    attention.q_proj.bias.data.zero_()
    assert attention.project(torch.randn(5, 48))[0].abs().max() == 0
    assert ours.model.language_model.layers[0].self_attn.project(torch.randn(5, 48))[0].abs().max() > 0


def test_fused_weights_that_are_to_be_trained_have_gradients(tmp_path):
    _, ours = pair(edited(), tmp_path)
    ours.fuse().requires_grad_()
    x = torch.randn(6, 48)
    ours.model.language_model(x, Whole([6], x.device)).sum().backward()
    assert ours.model.language_model.layers[0].self_attn.v_proj.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("targets", [["q_proj", "v_proj"], ["gate_proj"]])
def test_adapters_of_a_loaded_model_count_and_learn(targets, tmp_path):
    """Also on the gate alone, where nothing else of the layer needs a gradient."""
    peft = pytest.importorskip("peft")
    _, ours = pair(edited(), tmp_path)
    decoder, x = ours.fuse().model.language_model, torch.randn(6, 48)
    before = decoder(x, Whole([6], x.device))
    peft.inject_adapter_in_model(peft.LoraConfig(target_modules=targets, init_lora_weights=False), ours)
    after = decoder(x, Whole([6], x.device))
    assert not torch.allclose(before, after, atol=1e-3)
    after.sum().backward()
    learning = [weight for name, weight in decoder.named_parameters() if "lora" in name]
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in learning)


def test_what_is_kept_in_inference_mode_serves_outside(tmp_path):
    _, ours = pair(edited(), tmp_path)
    with torch.inference_mode():
        prefix = Prefix(ours.model.language_model, [torch.randn(30, 48)])
        with prefix.questions():
            want = prefix.extend([(0, 0, [1, 2])]).clone()
    with torch.no_grad(), prefix.questions():
        torch.testing.assert_close(prefix.extend([(0, 0, [1, 2])]), want)


def test_a_pickled_network_is_no_larger_than_its_weights(tmp_path):
    _, ours = pair(edited(), tmp_path)
    plain = len(pickle.dumps(ours))
    assert len(pickle.dumps(ours.fuse())) < 1.05 * plain
    again = pickle.loads(pickle.dumps(ours))
    assert all(torch.equal(again.state_dict()[name], weight) for name, weight in ours.state_dict().items())


def test_recomputing_changes_no_gradient(tmp_path):
    _, ours = pair(edited(), tmp_path)
    tiles, gradients = torch.randn(1, 3, 56, 56), []
    for recompute in (False, True):
        x = tiles.clone().requires_grad_()
        states = ours.model.multi_modal_projector(ours.states(x, recompute))[0]
        ours.model.language_model(states, Whole([len(states)], x.device), recompute).sum().backward()
        gradients.append(x.grad)
    torch.testing.assert_close(*gradients, atol=1e-6, rtol=1e-5)


def test_the_last_layer_computes_what_is_asked_for(tmp_path):
    _, ours = pair(edited(), tmp_path)
    decoder, x = ours.model.language_model, torch.randn(60, 48)
    with torch.no_grad():
        every = decoder(x, Whole([25, 35], x.device, every=True))
        ends = decoder(x, Whole([25, 35], x.device))
    torch.testing.assert_close(ends, every[[24, 59]], atol=1e-5, rtol=1e-4)


def test_questions_behind_a_prefix_equal_whole_texts(tmp_path):
    """Uneven questions about uneven images, in two rounds, and once more after they were forgotten."""
    _, ours = pair(edited(), tmp_path)
    decoder = ours.model.language_model
    images = [torch.randn(n, 48) for n in (70, 130)]
    asked = [(0, 0, [1, 2, 3]), (1, 1, [4, 5, 6, 7]), (1, 2, [9]), (0, 5, [3, 3])]
    more = [(1, 2, [11, 12]), (0, 0, [13]), (1, 1, [14])]

    def whole(row, ids):
        text = torch.cat([images[row], decoder.embed_tokens(torch.tensor(ids))])
        return decoder(text, Whole([len(text)], text.device))[0]

    with torch.no_grad():
        prefix = Prefix(decoder, images)
        for _ in range(2):
            with prefix.questions():
                first, second = prefix.extend(asked), prefix.extend(more)
            want = torch.stack([whole(row, ids) for row, _, ids in asked])
            torch.testing.assert_close(first, want, atol=1e-4, rtol=1e-4)
            read = {(row, question): ids for row, question, ids in asked}
            want = torch.stack([whole(row, [*read[row, question], *ids]) for row, question, ids in more])
            torch.testing.assert_close(second, want, atol=1e-4, rtol=1e-4)


def test_a_token_costs_no_copy_of_what_is_kept(tmp_path):
    """The buffers of keys and values stay the same object for many tokens; they grow rarely."""
    _, ours = pair(edited(), tmp_path)
    with torch.no_grad():
        prefix = Prefix(ours.model.language_model, [torch.randn(1000, 48)])
        buffers = set()
        with prefix.questions():
            for step in range(100):
                prefix.extend([(0, 0, [step])])
                buffers.add(prefix._cache._layers[0][0].data_ptr())
    assert len(buffers) <= 3
