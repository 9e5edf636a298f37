"""Every way in which a folder can fail to be a checkpoint, one damage at a time."""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
from pathlib import Path

import pytest

from checkpoints import safetensors, write_json, write_sharded, write_whole
from qsit_metric import QSiT
from qsit_metric.errors import CheckpointError
from qsit_metric.hub import check, fingerprint, resolve

GOLDEN = Path(__file__).parent / "golden"
FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


@pytest.fixture
def whole(tmp_path):
    return write_whole(tmp_path / "whole")


@pytest.fixture
def sharded(tmp_path):
    return write_sharded(tmp_path / "sharded")


@pytest.mark.parametrize("name", ["tied", "untied"])
def test_the_golden_checkpoints_are_whole(name):
    assert check.problems(GOLDEN / name) == []
    check.verify(GOLDEN / name)


def test_the_tiny_checkpoints_are_whole(whole, sharded):
    check.verify(whole)
    check.verify(sharded)


def test_agrees_with_the_safetensors_library(tmp_path):
    """A file written by the library itself must pass, to the byte."""
    numpy = pytest.importorskip("numpy")
    from safetensors.numpy import save_file

    folder = write_whole(tmp_path / "real")
    arrays = {
        "x": numpy.arange(12, dtype="float32").reshape(3, 4),
        "y": numpy.zeros((0, 4)),
        "z": numpy.ones(5, "int8"),
    }
    save_file(arrays, folder / "model.safetensors", metadata={"format": "pt"})
    assert check.problems(folder) == []
    assert check._tensors(folder / "model.safetensors") == {"x", "y", "z"}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("config.json", "config.json is missing"),
        ("tokenizer.json", r"tokenizer.json \(or vocab.json \+ merges.txt, or tokenizer.model\) is missing"),
        ("tokenizer_config.json", "tokenizer_config.json is missing"),
        ("preprocessor_config.json", r"preprocessor_config.json \(or processor_config.json\) is missing"),
        ("model.safetensors", r"model.safetensors \(or model.safetensors.index.json and its shards\) is missing"),
    ],
)
def test_a_missing_file_is_named(whole, name, text):
    (whole / name).unlink()
    with pytest.raises(CheckpointError, match=text):
        check.verify(whole)


def test_every_defect_is_named_at_once(whole):
    (whole / "config.json").unlink()
    (whole / "tokenizer_config.json").write_text("{")
    (whole / "model.safetensors").write_bytes(b"")
    assert len(check.problems(whole)) == 3
    with pytest.raises(
        CheckpointError,
        match=r"config.json is missing; tokenizer_config.json is not .*; model.safetensors is truncated",
    ):
        check.verify(whole)


@pytest.mark.parametrize("content", ["{", "", "\x00\x00", "[" * 100_000])
@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json", "preprocessor_config.json"])
def test_broken_json_is_named(whole, name, content):
    (whole / name).write_text(content)
    with pytest.raises(CheckpointError, match=f"{name} is not readable JSON"):
        check.verify(whole)


@pytest.mark.parametrize(
    ("name", "data", "text"),
    [
        ("config.json", {"model": 1}, "config.json names no model_type"),
        ("config.json", {"model_type": 7}, "config.json names no model_type"),
        ("config.json", [], "config.json holds a JSON list, not an object"),
        ("tokenizer.json", "text", "tokenizer.json holds a JSON str"),
    ],
)
def test_json_of_the_wrong_kind(whole, name, data, text):
    write_json(whole / name, data)
    with pytest.raises(CheckpointError, match=text):
        check.verify(whole)


def test_other_ways_to_have_a_tokenizer(whole):
    (whole / "tokenizer.json").unlink()
    write_json(whole / "vocab.json", {"a": 0})
    assert check.problems(whole) == ["tokenizer.json (or vocab.json + merges.txt, or tokenizer.model) is missing"]
    (whole / "merges.txt").write_text("")
    assert check.problems(whole) == ["merges.txt is empty"]
    (whole / "merges.txt").write_text("a b\n")
    assert check.problems(whole) == []
    (whole / "vocab.json").unlink()
    (whole / "tokenizer.model").write_bytes(b"sentencepiece")
    assert check.problems(whole) == []


def test_the_preprocessor_may_live_in_the_processor_config(whole):
    (whole / "preprocessor_config.json").unlink()
    write_json(whole / "processor_config.json", {"processor_class": "LlavaOnevisionProcessor"})
    assert check.problems(whole) == [
        "preprocessor_config.json is missing (and processor_config.json has no image_processor)"
    ]
    write_json(whole / "processor_config.json", {"image_processor": {"size": 384}})
    assert check.problems(whole) == []


@pytest.mark.parametrize("kept", [0, 5, 8, 60, -1, -4000])
def test_truncated_weights(whole, kept):
    path = whole / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match=r"model.safetensors is truncated"):
        check.verify(whole)


def test_weights_that_are_too_long(whole):
    with (whole / "model.safetensors").open("ab") as file:
        file.write(b"x")
    with pytest.raises(
        CheckpointError, match=r"longer than its header says \(41\d\d bytes on disk, 41\d\d by its header\)"
    ):
        check.verify(whole)


def header(data: object) -> bytes:
    text = data if isinstance(data, bytes) else json.dumps(data).encode()
    return len(text).to_bytes(8, "little") + text


def tensor(begin: object, end: object) -> dict[str, object]:
    return {"dtype": "U8", "shape": [1], "data_offsets": [begin, end]}


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 7\n", "git-lfs pointer, not the weights"),
        (b"<!DOCTYPE html><html></html>", "is not a safetensors file"),
        ((100_000_001).to_bytes(8, "little") + b"{}", "a header of 100000001 bytes"),
        (header(b"not json"), "unreadable safetensors header"),
        (header(b"[" * 100_000), "unreadable safetensors header"),
        (header([]), "unreadable safetensors header"),
        (header({"a": {"dtype": "U8"}}), "unreadable safetensors header"),
        (header({"a": {"data_offsets": [0]}}), "unreadable safetensors header"),
        (header({"a": tensor("x", "y")}), "unreadable safetensors header"),
        (header({"__metadata__": {}}), "holds no tensors"),
        (header({"a": tensor(1, 2)}) + b"xx", "overlap, leave a hole"),
        (header({"a": tensor(0, 2), "b": tensor(1, 3)}) + b"xxx", "overlap, leave a hole"),
        (header({"a": tensor(0, 2), "b": tensor(2, 1)}) + b"xx", "overlap, leave a hole"),
        (header({"a": tensor(-1, 2)}) + b"xx", "overlap, leave a hole"),
        (header({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}) + b"xxxx", "do not fit their shapes"),
    ],
)
def test_what_is_not_a_safetensors_file(whole, content, text):
    (whole / "model.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match=text):
        check.verify(whole)


def test_a_missing_shard(sharded):
    (sharded / SECOND).unlink()
    assert check.problems(sharded) == [f"{SECOND} is missing"]


def test_a_truncated_shard_does_not_hide_the_other(sharded):
    (sharded / FIRST).write_bytes((sharded / FIRST).read_bytes()[:-1])
    (sharded / SECOND).unlink()
    found = check.problems(sharded)
    assert [text.split(" (")[0] for text in found] == [f"{FIRST} is truncated", f"{SECOND} is missing"]


def test_index_and_shards_must_agree(sharded):
    write_json(
        sharded / "model.safetensors.index.json",
        {"weight_map": {"a": FIRST, "c": SECOND, "d": SECOND, "e": SECOND, "f": SECOND, "g": SECOND}},
    )
    assert check.problems(sharded) == [
        f"{FIRST} holds tensors that model.safetensors.index.json does not list there (b)",
        f"{SECOND} lacks tensors that model.safetensors.index.json lists (d, e, f and 1 more)",
    ]


@pytest.mark.parametrize(
    ("index", "text"),
    [
        ({}, "has no weight_map"),
        ({"weight_map": {}}, "has no weight_map"),
        ({"weight_map": [1]}, "has no weight_map"),
        ({"weight_map": {"a": "../outside.safetensors"}}, "not a safetensors file in the same folder"),
        ({"weight_map": {"a": "..\\outside.safetensors"}}, "not a safetensors file in the same folder"),
        ({"weight_map": {"a": "/etc/x.safetensors"}}, "not a safetensors file in the same folder"),
        ({"weight_map": {"a": "pytorch_model.bin"}}, "not a safetensors file in the same folder"),
        ({"weight_map": {"a": 3}}, "not a safetensors file in the same folder"),
    ],
)
def test_an_index_that_cannot_be_used(sharded, index, text):
    write_json(sharded / "model.safetensors.index.json", index)
    with pytest.raises(CheckpointError, match=text):
        check.verify(sharded)
    with pytest.raises(CheckpointError, match=text):
        check.read_shards(sharded / "model.safetensors.index.json")


def test_the_single_file_counts_before_the_index(sharded):
    """As in transformers: a stale index beside a whole model is not read."""
    (sharded / "model.safetensors").write_bytes(safetensors(a=3))
    (sharded / SECOND).unlink()
    assert check.problems(sharded) == []


@pytest.mark.parametrize("name", ["pytorch_model.bin", "pytorch_model-00001-of-00002.bin", "model.pt", "weights.ckpt"])
def test_pickles_are_refused_with_the_way_to_convert(whole, name):
    (whole / "model.safetensors").unlink()
    (whole / name).write_bytes(pickle.dumps({}))
    with pytest.raises(
        CheckpointError, match=rf"only pickled weights are there \({name}\).*can run code.*Convert them"
    ):
        check.verify(whole, hint="next step")


def test_pickles_beside_safetensors_do_not_matter(whole):
    (whole / "pytorch_model.bin").write_bytes(b"")
    (whole / "training_args.bin").write_bytes(b"")
    assert check.problems(whole) == []


def test_a_half_written_file_is_refused(whole):
    (whole / "model.safetensors.incomplete").write_bytes(b"x")
    with pytest.raises(CheckpointError, match=r"model.safetensors.incomplete is half-written"):
        check.verify(whole)


def test_a_dangling_link_counts_as_missing(whole):
    blob = shutil.move(whole / "model.safetensors", whole.parent / "blob")
    (whole / "model.safetensors").symlink_to(blob)
    assert check.problems(whole) == []
    Path(blob).unlink()
    with pytest.raises(CheckpointError, match=r"model.safetensors .* is missing"):
        check.verify(whole)


def test_a_folder_in_place_of_a_file_counts_as_missing(whole):
    (whole / "config.json").unlink()
    (whole / "config.json").mkdir()
    assert check.problems(whole) == ["config.json is missing"]


def test_what_is_no_folder(tmp_path, whole):
    assert check.problems(tmp_path / "absent") == ["this is not a folder"]
    assert check.problems(whole / "config.json") == ["this is not a folder"]


def test_a_file_that_cannot_be_read(whole, monkeypatch):
    def refuse(*_: object) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(CheckpointError, match=r"it cannot be read \(Permission denied\)"):
        check.verify(whole)


def test_the_message_names_the_argument_the_folder_and_the_next_step(whole):
    (whole / "config.json").unlink()
    with pytest.raises(CheckpointError) as caught:
        check.verify(whole, hint="Run `qsit download q-sit` again.")
    text = str(caught.value)
    assert text.startswith("`model`: got ")
    assert text.endswith("config.json is missing. Run `qsit download q-sit` again.")
    assert isinstance(caught.value, OSError)


def test_verification_reads_headers_only(whole):
    """A sparse file of 8 GB must cost nothing: only its first bytes may be read."""
    path, size = whole / "model.safetensors", 8 << 30
    text = json.dumps({"a": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    os.truncate(path, 8 + len(text) + size)
    assert check.problems(whole) == []


def test_a_fingerprint_tells_checkpoints_apart(tmp_path):
    for name in ("tied", "untied"):
        shutil.copytree(GOLDEN / name, tmp_path / name)
    first = fingerprint(tmp_path / "tied")
    assert re.fullmatch("local-[0-9a-f]{12}", first)
    assert first == fingerprint(GOLDEN / "tied") != fingerprint(tmp_path / "untied")
    weights = tmp_path / "tied" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[1000:] = bytes(byte ^ 1 for byte in content[1000:])  # as training does: everywhere
    weights.write_bytes(bytes(content))
    assert fingerprint(tmp_path / "tied") != first


def test_an_adapter_is_named_with_the_step_to_merge_it(tmp_path):
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "owner/base", "peft_type": "LORA"}')
    (tmp_path / "adapter_model.safetensors").write_bytes(b"")
    with pytest.raises(
        CheckpointError, match=r"a checkpoint, not an adapter of owner/base\. Merge it .*merge_and_unload"
    ):
        QSiT(tmp_path)
    (tmp_path / "adapter_config.json").write_text("[")
    with pytest.raises(CheckpointError, match=r"not an adapter\. Merge it"):
        QSiT(tmp_path)


def test_a_runs_folder_stands_for_its_best_model_else_its_last(whole, tmp_path):
    run = tmp_path / "run"
    (run / "models").mkdir(parents=True)
    for name in ("last", "best"):
        shutil.copytree(whole, run / "models" / name)
        (run / name).symlink_to(run / "models" / name)
        assert resolve(run).folder == (run / "models" / name).resolve()
