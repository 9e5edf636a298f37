"""The files for `accelerate launch` say what they claim, as accelerate itself reads them."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin

CONFIGS = Path(__file__).parents[1] / "train" / "configs"
NAMES = sorted(path.stem for path in CONFIGS.glob("*.yaml"))
FSDP = ("ACCELERATE_USE_FSDP", "FSDP_VERSION", "FSDP_RESHARD_AFTER_FORWARD", "FSDP_TRANSFORMER_CLS_TO_WRAP")


def loaded(name: str):
    return load_config_from_file(str(CONFIGS / f"{name}.yaml"))


def launched(name: str, script: str = "x.py") -> argparse.Namespace:
    """The arguments with which `accelerate launch --config_file` goes on."""
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser

    args = launch_command_parser().parse_args(["--config_file", str(CONFIGS / f"{name}.yaml"), script])
    return _validate_launch_command(args)[0]


def test_all_are_tested():
    assert NAMES == ["cpu2", "ddp", "fsdp2", "zero3"]


@pytest.mark.parametrize(
    ("name", "kind", "processes", "precision"),
    [
        ("ddp", DistributedType.MULTI_GPU, 8, "bf16"),
        ("fsdp2", DistributedType.FSDP, 8, "bf16"),
        ("zero3", DistributedType.DEEPSPEED, 8, None),
        ("cpu2", DistributedType.MULTI_GPU, 2, "no"),
    ],
)
def test_accelerate_reads_it(name, kind, processes, precision):
    config = loaded(name)
    assert (config.distributed_type, config.num_processes, config.num_machines) == (kind, processes, 1)
    assert config.mixed_precision == precision
    assert not config.use_cpu
    first = (CONFIGS / f"{name}.yaml").read_text().splitlines()
    assert first[0].startswith("# ")
    assert any("accelerate launch --config_file train/configs/" + name in line for line in first)


def test_layers_that_are_wrapped_are_those_of_the_network():
    from qsit_metric.backends.training import empty
    from train.memory import config_of

    names = loaded("fsdp2").fsdp_config["fsdp_transformer_layer_cls_to_wrap"].split(",")
    assert names == ["VisionLayer", "TextLayer"]
    found = [type(module).__name__ for module in empty(config_of("0.5b")).modules()]
    assert [found.count(name) for name in names] == [26, 24]


def test_fsdp2_as_the_plugin_understands_it(monkeypatch):
    from accelerate.utils.launch import prepare_multi_gpu_env

    args = launched("fsdp2")
    monkeypatch.setattr("accelerate.utils.launch.is_port_in_use", lambda *_: False, raising=False)
    environment = prepare_multi_gpu_env(args)
    for key, value in environment.items():
        if key.startswith("FSDP_"):
            monkeypatch.setenv(key, value)
    plugin = FullyShardedDataParallelPlugin()
    assert plugin.fsdp_version == 2
    assert plugin.reshard_after_forward is True
    assert plugin.transformer_cls_names_to_wrap == ["VisionLayer", "TextLayer"]
    assert plugin.activation_checkpointing is False  # the model does it; twice would compute everything three times
    assert plugin.cpu_ram_efficient_loading is False
    assert "SHARDED_STATE_DICT" in str(plugin.state_dict_type)
    assert environment["ACCELERATE_MIXED_PRECISION"] == "bf16"


def test_zero3():
    config = loaded("zero3").deepspeed_config
    assert config["deepspeed_config_file"] == "train/configs/zero3.json"  # from the repository's root
    engine = json.loads((CONFIGS.parents[1] / config["deepspeed_config_file"]).read_text())
    assert engine["zero_optimization"]["stage"] == 3
    assert engine["bf16"] == {"enabled": True}
    # accelerate fills these in from the training loop
    for name in ("gradient_clipping", "gradient_accumulation_steps", "train_micro_batch_size_per_gpu"):
        assert engine[name] == "auto"
    # and these only for a model with one hidden size, which a vision-language model has not: they are numbers
    hidden, sizes = 3584, engine["zero_optimization"]
    assert sizes["reduce_bucket_size"] == hidden**2
    assert sizes["stage3_prefetch_bucket_size"] == int(0.9 * hidden**2)
    assert sizes["stage3_param_persistence_threshold"] == 10 * hidden
    assert sizes["stage3_gather_16bit_weights_on_model_save"] is True  # otherwise there would be nothing to save


def test_no_option_is_unknown_to_accelerate():
    from accelerate.commands.launch import launch_command_parser

    known = {action.dest for action in launch_command_parser()._actions}
    assert set(loaded("fsdp2").fsdp_config) <= known
    assert set(loaded("zero3").deepspeed_config) <= known


@pytest.mark.parametrize("name", ["ddp", "cpu2"])
def test_nothing_else_is_switched_on(name):
    config = loaded(name)
    assert not config.fsdp_config
    assert not config.deepspeed_config
    assert not config.dynamo_config
