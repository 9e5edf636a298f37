"""The metric as a torch module, and `create_metric`: what pyiqa's users write, without pyiqa."""

from __future__ import annotations

import copy
import io
import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import qsit_metric
from conftest import GOLDEN, IMAGES
from qsit_metric import QSiT, create_metric
from qsit_metric.errors import CheckpointError, ImageError, InputError, UnknownNameError
from qsit_metric.modules.create import MetricModule
from qsit_metric.modules.differentiable import QSiTModule
from stand_in import Brightness

TIED = str(GOLDEN / "tied")
PHOTO = IMAGES / "landscape_600x400.jpg"


def tensor(*names, size=(120, 90)):
    pictures = [np.array(Image.open(IMAGES / name).convert("RGB").resize(size)) for name in names]
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255


@pytest.fixture(scope="module")
def x():
    return tensor("landscape_600x400.jpg", "square_512.png")


@pytest.fixture
def scorer():
    return Brightness()


@pytest.fixture
def created(scorer):
    return create_metric(scorer, device="cpu")


def test_attributes_are_those_of_pyiqa(created):
    assert (created.metric_mode, created.lower_better, created.score_range) == ("NR", False, "1, 5")
    assert (created.as_loss, created.device) == (False, torch.device("cpu"))
    assert create_metric(TIED).metric_name == TIED
    low, high = (float(end) for end in created.score_range.split(","))
    assert (low, high) == QSiT.score_range


def test_every_kind_of_input_gives_the_same_score(tied):
    created = create_metric(tied, device="cpu")
    want = float(tied.score(PHOTO))
    picture = Image.open(PHOTO)
    data = PHOTO.read_bytes()
    array = np.array(picture.convert("RGB"))
    batch = torch.from_numpy(array).permute(2, 0, 1)[None].float() / 255
    for target in (str(PHOTO), batch):
        got = created(target, ref=target)
        assert (got.shape, got.dtype, got.requires_grad) == ((1,), torch.float32, False)
        assert got.item() == pytest.approx(want, abs=1e-4)
    several = created([PHOTO, picture, data, io.BytesIO(data), array])
    assert several.tolist() == pytest.approx([want] * 5, abs=1e-4)


def test_batches_and_grey(tied, x):
    created = create_metric(tied, device="cpu")
    assert created(x.half()).tolist() == pytest.approx(tied(x).tolist(), abs=1e-4)  # rounded, not cut off
    assert created(x[:0]).shape == (0,)
    grey = x[:1, :1]
    assert created(grey).tolist() == pytest.approx(tied(grey.expand(-1, 3, -1, -1)).tolist(), abs=1e-5)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x: x[0, 0], r"`target`: got <tensor of shape \(90, 120\)>, expected a tensor \(\[B,\] 3\|1, H, W\)"),
        (lambda x: x[:, :2], r"expected a tensor \(\[B,\] 3\|1, H, W\)"),
        (lambda x: x - 0.5, r"values in \[-0.5.*expected values in \[0, 1\]"),
        (lambda x: x * 2, r"expected values in \[0, 1\]"),
        (lambda x: x / 0, r"expected values in \[0, 1\]"),
    ],
)
def test_what_is_refused(created, x, change, words):
    with pytest.raises(InputError, match=words):
        created(change(x))


def test_a_rounding_error_outside_the_range_passes(created, x):
    assert created(x * (1 + 5e-7) - 1e-8).tolist() == pytest.approx(created(x).tolist(), abs=1e-5)


def test_the_range_check_can_be_switched_off(scorer, x):
    free = create_metric(scorer, device="cpu", check_input_range=False)
    assert free(x * 3 - 1).tolist() == pytest.approx(free((x * 3 - 1).clamp(0, 1)).tolist())


def test_as_loss_is_the_mean_score_and_not_turned_round(tied, scorer, x):
    scores = scorer(x)
    assert create_metric(scorer, as_loss=True, device="cpu")(x).item() == pytest.approx(scores.mean().item(), abs=1e-5)
    assert create_metric(tied, as_loss=True, device="cpu")(PHOTO).shape == ()
    total = create_metric(scorer, True, "cpu", loss_reduction="sum", loss_weight=0.5)
    assert total(x).item() == pytest.approx(0.5 * scores.sum().item(), abs=1e-5)
    assert create_metric(scorer, True, "cpu", loss_reduction="none")(x).shape == (2,)


def test_a_loss_clamps_and_its_gradient_passes(tied, x):
    loss = create_metric(tied, as_loss=True, device="cpu")
    outside = (x[:1] * 1.5 - 0.25).requires_grad_()
    loss(outside).backward()
    clipped = (outside < 0) | (outside > 1)
    assert outside.grad.isfinite().all()
    assert (outside.grad[clipped.expand_as(outside)] != 0).float().mean() > 0.9
    assert all(p.grad is None for p in tied.backend.model.parameters())
    with pytest.raises(InputError, match="NaN|infinite|finite"):
        loss(torch.full_like(x, float("nan")))
    with pytest.raises(InputError, match="NaN|infinite|finite"):
        loss(torch.full_like(x, float("inf")))


def test_gradients_only_as_a_loss(created, scorer, x):
    leaf = x.clone().requires_grad_()
    assert not created(leaf).requires_grad
    loss = create_metric(scorer, as_loss=True, device="cpu")
    assert loss(leaf).requires_grad
    with torch.no_grad():
        assert not loss(leaf).requires_grad


def test_wrong_arguments():
    with pytest.raises(InputError, match="`loss_reduction`: got 'avg', expected 'mean', 'sum' or 'none'"):
        create_metric(TIED, loss_reduction="avg")
    with pytest.raises(UnknownNameError, match="q-sit-mini"):
        create_metric("q-sit-mimi")
    with pytest.raises(CheckpointError, match="a folder that exists"):
        create_metric("./no-such-folder")
    with pytest.raises(TypeError, match="'metric'"):
        create_metric(TIED, metric=1)
    with pytest.raises(TypeError, match="unexpected keyword argument 'task_'"):
        create_metric(TIED)(PHOTO, task_="quality")
    with pytest.raises(ImageError, match="nothing.jpg"):
        create_metric(TIED, device="cpu")("nothing.jpg")


def test_options_belong_to_a_name(tied):
    with pytest.raises(InputError, match="`options`"):
        create_metric(tied, dtype="float32")
    metric = create_metric(TIED, device="cpu", dtype="float64").metric
    assert metric.dtype == torch.float64
    assert create_metric(tied, device="cpu").metric is tied


def test_nothing_is_loaded_before_it_is_used_and_then_once(loads, x):
    parent = nn.ModuleDict({"metric": create_metric(TIED, device="cpu")})
    copies = [copy.deepcopy(parent), copy.copy(parent), parent]
    assert loads == []
    for each in copies:
        each["metric"](x)
    assert loads == ["cpu"]


def test_a_pickle_holds_no_weights_and_loads_again(x):
    metric = create_metric(TIED, device="cpu")
    want = metric(x[:1]).tolist()
    pickled = pickle.dumps(metric)
    assert len(pickled) < 4000
    assert pickle.loads(pickled)(x[:1]).tolist() == want


def test_a_module_without_parameters_and_state(created, x):
    parent = nn.Sequential(nn.Linear(2, 2), created)
    assert len(list(created.parameters())) == len(created.state_dict()) == 0
    assert set(parent.state_dict()) == {"0.weight", "0.bias"}
    parent.load_state_dict(parent.state_dict())


def test_training_and_half_precision_change_nothing(tied, x):
    created = create_metric(tied, device="cpu")
    want = created(x[:1]).tolist()
    parent = nn.Sequential(created).train().half().double()
    parent.requires_grad_(True)
    assert not created.training
    assert not any(part.training for part in tied.backend.model.modules())
    assert not any(p.requires_grad for p in tied.backend.model.parameters())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert created(x[:1]).tolist() == want


def test_moving_tells_where_the_model_is_loaded(loads, x):
    metric = create_metric(TIED, device="cpu")
    metric(x)
    metric.to("meta")
    assert metric.device.type == "meta"
    assert metric.metric is not None
    assert loads == ["cpu", "meta"]


@pytest.mark.gpu
def test_another_device_gets_a_model_of_its_own_type(x):
    metric = create_metric(TIED, device="cpu")
    want = metric(x)
    got = metric.to("cuda")(x)
    assert got.device.type == metric.device.type == "cuda"
    assert metric.metric.dtype == torch.float16
    assert got.tolist() == pytest.approx(want.tolist(), abs=0.02)


def test_the_module_needs_no_pyiqa():
    assert not isinstance(QSiTModule(TIED), MetricModule)
    assert qsit_metric.create_metric is create_metric


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ({"filter": "q-sit*"}, ["q-sit-mini", "q-sit", "q-sit-nano"]),
        ({"filter": "sit"}, []),
        ({"filter": ["*-nano", "q-sit"]}, ["q-sit", "q-sit-nano"]),
        ({"filter": "q-sit*", "exclude_filters": "*-nano"}, ["q-sit-mini", "q-sit"]),
        ({"exclude_filters": ["*-mini", "*[0-9]b", "*-r1", "q-realign*", "q-insight"]}, ["q-sit", "q-sit-nano"]),
        ({"metric_mode": "NR", "filter": "q-sit"}, ["q-sit"]),
        ({"pattern": "NR", "filter": "q-sit"}, ["q-sit"]),
        ({"pattern": None, "filter": "q-sit"}, ["q-sit"]),
        ({"metric_mode": "FR"}, []),
        ({"pattern": "FR"}, []),
    ],
)
def test_list_models_as_pyiqa_calls_it(arguments, names):
    assert qsit_metric.list_models(**arguments) == names


def test_list_models_refuses_another_mode():
    with pytest.raises(InputError, match="`metric_mode`: got 'RR', expected 'NR' or 'FR'"):
        qsit_metric.list_models(metric_mode="RR")


def test_one_picture_and_grey_ones_are_batches_too(tied):
    x = torch.rand(3, 40, 56, generator=torch.Generator().manual_seed(0))
    grey = x[:1]
    expected = tied(torch.stack([x, grey.expand(3, -1, -1)])).tolist()
    assert [tied(x).tolist(), tied(grey).tolist(), tied(grey[None]).tolist()] == [
        pytest.approx(one, abs=1e-5) for one in (expected[:1], expected[1:], expected[1:])
    ]
    module = create_metric(tied, device="cpu")
    assert [module(x).tolist(), module(grey).tolist()] == [
        pytest.approx(one, abs=1e-5) for one in (expected[:1], expected[1:])
    ]
    with pytest.raises(InputError, match="3|1"):
        tied(x[:2])


def test_a_metric_answers_what_a_module_would(tied):
    assert tied.eval() is tied
    assert list(tied.parameters()) == []
    assert tied.float() is tied
    assert tied.info["dtype"] == "float32"
