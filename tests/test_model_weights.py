"""Weights in every layout of names that releases write, whole or in shards; what does not fit is one clear error."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from conftest import GOLDEN
from qsit_metric.errors import CheckpointError
from qsit_metric.model import weights
from qsit_metric.model.config import Config

PREFIXES = {
    "4.45": lambda name: name,
    "5.x": lambda name: "lm_head.weight" if name == "language_model.lm_head.weight"
    else "model." + name.replace("language_model.model.", "language_model."),
    "5.x from a config": lambda name: "lm_head.weight" if name == "language_model.lm_head.weight"
    else "model." + name.replace("language_model.model.", "language_model.").replace("vision_tower.vision_model.", "vision_tower."),
    "from a config, without model": lambda name: name.replace("vision_tower.vision_model.", "vision_tower."),
}  # fmt: skip


def written(folder, checkpoint="tied", rename=lambda name: name, change=None, config=None):
    """A copy of a golden checkpoint with other names and other weights."""
    shutil.copytree(GOLDEN / checkpoint, folder, dirs_exist_ok=True)
    found = {rename(name): weight for name, weight in load_file(GOLDEN / checkpoint / "model.safetensors").items()}
    if change:
        change(found)
    save_file(found, folder / "model.safetensors", metadata={"format": "pt"})
    raw = json.loads((folder / "config.json").read_text())
    for part, fields in (config or {}).items():
        (raw[part] if part else raw).update(fields)
    (folder / "config.json").write_text(json.dumps(raw))
    return folder


def loaded(folder, **options):
    return weights.load(folder, Config.load(folder), **options)


@pytest.mark.parametrize("checkpoint", ["tied", "untied"])
@pytest.mark.parametrize("rename", PREFIXES.values(), ids=PREFIXES)
def test_every_layout_of_names(tmp_path, rename, checkpoint):
    want = loaded(GOLDEN / checkpoint).state_dict()
    found = loaded(written(tmp_path, checkpoint, rename)).state_dict()
    assert set(found) == set(want)
    assert all(torch.equal(found[name], weight) for name, weight in want.items())


def test_shards(tmp_path):
    folder = written(tmp_path)
    whole = load_file(folder / "model.safetensors")
    names = sorted(whole)
    parts = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, own in parts.items():
        save_file({name: whole[name] for name in own}, folder / file)
    (folder / "model.safetensors").unlink()
    index = {name: file for file, own in parts.items() for name in own}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    want = loaded(GOLDEN / "tied").state_dict()
    assert all(torch.equal(weight, want[name]) for name, weight in loaded(folder).state_dict().items())
    (folder / "b.safetensors").write_bytes((folder / "b.safetensors").read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"b.safetensors.*expected a whole safetensors file"):
        loaded(folder)


@pytest.mark.parametrize("index", ["{", "[]", "{}", '{"weight_map": 3}', '{"weight_map": {"a": 1}}'])
def test_an_index_that_is_none(tmp_path, index):
    folder = written(tmp_path)
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(index)
    with pytest.raises(CheckpointError, match=r"index.json.*names shards"):
        loaded(folder)


def test_weights_that_are_codes_are_refused(tmp_path):
    """A quantised file whose config does not say so: its codes are no weights."""

    def codes(found):
        name = "language_model.model.layers.0.mlp.up_proj.weight"
        found[name] = found[name].to(torch.int8)

    with pytest.raises(CheckpointError, match=r"up_proj.weight holds int8, not floating-point numbers"):
        loaded(written(tmp_path, change=codes))


def head(found, factor=1.0):
    found["language_model.lm_head.weight"] = found["language_model.model.embed_tokens.weight"] * factor


def test_a_tied_head_may_be_written_twice_but_not_differently(tmp_path):
    model = loaded(written(tmp_path / "a", change=head))
    assert model.lm_head.weight is model.get_input_embeddings().weight
    with pytest.raises(CheckpointError, match="an output head apart from its embedding"):
        loaded(written(tmp_path / "b", change=lambda found: head(found, 2.0)))


def test_what_nothing_reads_may_be_there_or_not(tmp_path):
    """The tower's post-norm, its pooling head where the config has one, and buffers of old files."""
    norm = "vision_tower.vision_model.post_layernorm."

    def fewer(found):
        del found[norm + "weight"], found[norm + "bias"]
        found["vision_tower.vision_model.embeddings.position_ids"] = torch.arange(729)[None]
        found["language_model.model.rotary_emb.inv_freq"] = torch.ones(8)
        found["vision_tower.vision_model.head.probe"] = torch.ones(1, 1, 64)

    model = loaded(written(tmp_path / "a", change=fewer, config={"vision_config": {"vision_use_head": True}}))
    assert torch.equal(model.model.vision_tower.vision_model.post_layernorm.weight, torch.ones(64))
    with pytest.raises(CheckpointError, match="1 unexpected keys: .*head.probe"):
        loaded(written(tmp_path / "b", change=fewer))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("image_newline"), "1 missing keys: model.image_newline"),
        (lambda w: w.update({"lm_tail.weight": torch.ones(2)}), "1 unexpected keys: lm_tail.weight"),
        (
            lambda w: w.update({"image_newline": torch.ones(3)}),
            r"1 mismatched keys: image_newline \[3\] instead of \[64\]",
        ),
        (
            lambda w: w.update({"model.image_newline": torch.ones(64)}),
            "<.*image_newline and .*image_newline>, expected one",
        ),
    ],
)
def test_weights_that_do_not_fit(tmp_path, change, message):
    with pytest.raises(CheckpointError, match=message):
        loaded(written(tmp_path, change=change))


def test_weights_go_into_their_type_and_are_no_view_of_the_file(tmp_path):
    folder = written(tmp_path)
    model = loaded(folder, dtype=torch.bfloat16)
    assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}
    assert model.model.language_model.rotary_emb.inv_freq.dtype == torch.float32
    plain = loaded(folder)
    before = plain.model.image_newline.clone()
    (folder / "model.safetensors").write_bytes(b"\0" * (folder / "model.safetensors").stat().st_size)
    assert torch.equal(plain.model.image_newline, before)
    assert not any(weight.requires_grad for weight in plain.parameters())
