"""pyiqa, the real package: registration, discovery, its calling convention, its loop and its command."""

from __future__ import annotations

import re
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from conftest import GOLDEN, HERE, IMAGES
from qsit_metric import catalog
from qsit_metric.integrations.pyiqa import register
from stand_in import Brightness, pictures

from .needed import fresh, host

pyiqa = host("pyiqa")
from pyiqa.default_model_configs import DEFAULT_CONFIGS

TIED = str(GOLDEN / "tied")
PHOTO = IMAGES / "landscape_451x300.png"
NAMES = ["q-sit", "q-sit-mini", "q-sit-nano"]  # in pyiqa's order


@pytest.fixture(scope="module", autouse=True)
def registered():
    register()


@pytest.fixture(scope="module")
def metric():
    return pyiqa.create_metric("q-sit-mini", device="cpu", model=TIED)  # the only weights that are at hand offline


@pytest.fixture
def quick():
    """The same with a stand-in behind it, for what does not depend on the model."""
    return pyiqa.create_metric("q-sit-mini", device="cpu", model=Brightness())


@pytest.fixture(scope="module")
def x():
    names = ("landscape_600x400.jpg", "square_512.png")
    arrays = [np.array(Image.open(IMAGES / name).convert("RGB").resize((120, 90))) for name in names]
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).float() / 255


def test_names_and_what_is_said_of_them(metric):
    assert pyiqa.list_models(filter="q-sit*") == pyiqa.list_models("NR", filter="q-sit*") == NAMES
    assert pyiqa.list_models("FR", filter="q-sit*") == []
    assert sorted(catalog.list_models("q-sit*")) == NAMES
    for name in NAMES:
        assert DEFAULT_CONFIGS[name] == {
            "metric_opts": {"type": "QSiTMetricArch", "model": name},
            "metric_mode": "NR",
            "lower_better": False,
            "score_range": "1, 5",
        }
    assert (metric.metric_name, metric.metric_mode, metric.lower_better) == ("q-sit-mini", "NR", False)
    assert metric.score_range == "1, 5"


def test_registering_again_changes_nothing(monkeypatch):
    kept = DEFAULT_CONFIGS["q-sit-mini"]
    register()
    assert DEFAULT_CONFIGS["q-sit-mini"] is kept
    monkeypatch.setitem(DEFAULT_CONFIGS, "q-sit", {"metric_opts": {"type": "Theirs"}})
    register()
    assert DEFAULT_CONFIGS["q-sit"]["metric_opts"] == {"type": "Theirs"}


def test_no_network_of_pyiqas_own_has_the_name_of_ours():
    for path in (Path(pyiqa.__file__).parent / "archs").glob("*.py"):
        assert not re.search(r"class QSiTMetricArch\b", path.read_text(encoding="utf-8"))


def test_the_entry_point_is_a_function():
    (point,) = entry_points(group="pyiqa.archs", name="qsit")
    assert point.load() is register


def test_a_fresh_process_finds_our_names_only_after_it_asked_for_a_network_that_it_does_not_know():
    """So the page tells people to call `register()`."""
    report = fresh("""
import sys, warnings, pyiqa
from pyiqa.utils import registry
warnings.simplefilter("error", RuntimeWarning)
loaded = [r._entry_points_loaded for r in vars(registry).values() if isinstance(r, registry.Registry)]
try:
    pyiqa.create_metric("q-sit-nano")
except AssertionError as error:
    print(loaded, error, pyiqa.list_models(filter="q-sit*"))
metric = pyiqa.create_metric("clipiqa", type="QSiTMetricArch", model=sys.argv[1], device="cpu")
print(metric.metric_name, type(metric.net).__name__, pyiqa.list_models(filter="q-sit*"))
""", TIED)  # fmt: skip
    assert report.splitlines()[-2:] == [
        f"{[False] * 5} Metric q-sit-nano not implemented yet. []",
        f"clipiqa QSiTMetricArch {NAMES}",
    ]


def test_register_loads_no_model_and_comes_before_or_after_discovery():
    report = fresh("""
import sys, warnings, pyiqa
from qsit_metric.integrations.pyiqa import register
from stand_in import Brightness, pictures
warnings.simplefilter("error", RuntimeWarning)
register()
print(pyiqa.list_models(filter="q-sit*"), "transformers.modeling_utils" in sys.modules)
pyiqa.create_metric("psnr", device="cpu")
assert list(pyiqa.utils.registry.ARCH_REGISTRY)
register()
""")
    assert report.splitlines()[-1] == f"{NAMES} False"


@pytest.mark.skipif("q-sit-nano" not in catalog.embedded_names(), reason="the weights of q-sit-nano are not here")
def test_their_command_needs_another_metric_first():
    report = fresh("""
import sys
from pyiqa.pyiqa_cmd import main
for names in (["q-sit-nano"], ["piqe", "q-sit-nano"]):
    sys.argv = ["pyiqa", *names, "-t", sys.argv[-1]]
    try:
        main()
    except AssertionError as error:
        print(error)
""", str(PHOTO))  # fmt: skip
    assert "Metric q-sit-nano not implemented yet." in report
    assert re.search(r"'q-sit-nano': \{'mean': np\.float64\([1-5]\.", report)


def test_a_picture_scores_as_in_our_own_metric(metric, tied):
    score = float(tied.score(PHOTO))
    for target in (str(PHOTO), PHOTO.read_bytes(), Image.open(PHOTO)):
        got = metric(target)
        assert (got.shape, got.dtype, got.requires_grad) == ((1,), torch.float32, False)
        assert got.item() == pytest.approx(score, abs=1e-4)


def test_any_batch(metric, quick, tied, x):
    assert metric(x).tolist() == pytest.approx(tied(x).tolist(), abs=1e-4)
    for count in (1, 2, 5):
        got = quick(pictures(*[0.5] * count))
        assert (got.shape, got.dtype, got.tolist()) == ((count,), torch.float32, [3.0] * count)


def test_grey(quick, x):
    assert quick(x[:, :1]).tolist() == pytest.approx(quick(x[:, :1].expand(-1, 3, -1, -1)).tolist(), abs=1e-5)


def test_levels_are_rounded_not_cut_off(metric, monkeypatch):
    """From half precision, cutting off makes 131 of the 256 levels one lower.

    pyiqa compares the largest value with 1 + 1e-6 in the picture's own type, where that is 1: it refuses pure white.
    """
    levels = torch.arange(256, dtype=torch.float32).reshape(1, 1, 16, 16).expand(-1, 3, -1, -1) / 255
    narrow = levels.half()
    assert narrow.float().mul(255).byte().ne(levels.mul(255).round().byte()).sum() == 3 * 131
    with pytest.raises(AssertionError, match="max=1.0000"):
        metric(narrow)
    monkeypatch.setattr(metric, "check_input_range", False)
    assert metric(narrow).tolist() == metric(levels).tolist()


@pytest.mark.parametrize(
    ("target", "error", "words"),
    [
        (PHOTO, Exception, "Unsupported source type"),
        (np.zeros((9, 9, 3), np.uint8), Exception, "Unsupported source type"),
        ([str(PHOTO)], Exception, "Unsupported source type"),
        (torch.zeros(3, 9, 9), AssertionError, "4D tensor"),
        (torch.zeros(1, 2, 9, 9), AssertionError, "RGB or gray"),
        (torch.full((1, 3, 9, 9), 1.5), AssertionError, r"normalized to \[0, 1\]"),
    ],
)
def test_what_pyiqa_itself_refuses(quick, target, error, words):
    with pytest.raises(error, match=words):
        quick(target)


def test_as_loss_is_the_mean_score_with_a_gradient(tied, x):
    leaf = x[:1].clone().requires_grad_()
    loss = pyiqa.create_metric("q-sit-mini", as_loss=True, device="cpu", model=TIED)
    value = loss(leaf)
    assert value.item() == pytest.approx(tied(x[:1]).item(), abs=1e-4)  # the score itself, higher is better
    value.backward()
    assert leaf.grad.isfinite().all()
    assert (leaf.grad != 0).float().mean() > 0.9
    assert all(p.grad is None for p in loss.net.metric.backend.model.parameters())


@pytest.mark.parametrize(("reduction", "want"), [("mean", 3.0), ("sum", 6.0), ("none", [1.0, 5.0])])
def test_a_loss_takes_values_outside_the_range_and_reduces(reduction, want):
    loss = pyiqa.create_metric("q-sit", as_loss=True, loss_reduction=reduction, device="cpu", model=Brightness())
    leaf = pictures(-0.5, 2.0).requires_grad_()
    value = loss(leaf)
    assert value.tolist() == want
    value.sum().backward()
    assert leaf.grad.ne(0).all()


def test_loss_weight_does_not_work_in_pyiqa():
    """It wants two-dimensional scores; the page says to multiply outside."""
    weighted = pyiqa.create_metric("q-sit", as_loss=True, loss_weight=0.5, device="cpu", model=Brightness())
    with pytest.raises(AttributeError, match="dim"):
        weighted(pictures(0.5))


def test_frozen_in_evaluation_mode_and_without_state(metric):
    parent = nn.ModuleList([metric]).train().requires_grad_(True)
    assert not metric.net.training
    assert list(metric.net.parameters()) == []
    assert set(parent.state_dict()) <= {"0.dummy_param"}  # pyiqa's own, empty
    network = metric.net.metric.backend.model
    assert not any(part.training for part in network.modules())
    assert not any(p.requires_grad for p in network.parameters())


def test_options_of_ours_and_a_wrong_name():
    metric = pyiqa.create_metric("q-sit", device="cpu", model=TIED, dtype="float64", recipe="train")
    ours = metric.net.metric
    assert (ours.dtype, ours.recipe.name) == (torch.float64, "train")
    with pytest.raises(ValueError, match="q-sit-mini"):
        pyiqa.create_metric("q-sit", device="cpu", model="q-sit-mimi")


def test_the_benchmark_loop_keeps_every_picture(quick):
    """Their script takes batches from a loader, on the CPU, and silently drops a batch that fails or is not finite."""
    images = pictures(0.0, 0.5, 1.0)
    rows = [{"img": image, "mos_label": float(index)} for index, image in enumerate(images)]
    scores = []
    for data in torch.utils.data.DataLoader(rows, batch_size=2):
        found = quick(data["img"])
        assert found.isfinite().all()
        scores += found.cpu().reshape(-1).tolist()
    assert scores == [1.0, 3.0, 5.0]


def test_the_only_parameter_is_pyiqas_own(quick):
    """It gets no gradient: inside a module that DDP wraps, it must not wait for one. Said on the page."""
    assert [name for name, _ in quick.named_parameters()] == ["dummy_param"]
    quick.dummy_param.requires_grad_(False)
    assert not any(parameter.requires_grad for parameter in quick.parameters())
    assert quick(pictures(0.5)).shape == (1,)


def test_an_entry_in_a_yml_file_is_enough_for_their_script():
    """As its `--metric_opt` reads the page's line, without `register()`."""
    page = (HERE.parent / "docs" / "integrations" / "pyiqa.md").read_text(encoding="utf-8")
    [entry] = re.findall(r"with `(q-sit-mini: \{.*?\}, .*?\})`", page)
    code = f"""
import sys, yaml, pyiqa
from pyiqa.default_model_configs import DEFAULT_CONFIGS
DEFAULT_CONFIGS.update(yaml.safe_load({entry!r}))
print(type(pyiqa.create_metric("q-sit-mini", model=sys.argv[1], device="cpu").net).__name__)
"""
    assert fresh(code, TIED).splitlines()[-1] == "QSiTMetricArch"
