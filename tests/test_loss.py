"""QSiTLoss: its values and gradients, what it leaves alone, and its memory options."""

from __future__ import annotations

import copy
import gc
import pickle

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from conftest import IMAGES
from qsit_metric import QSiT, QSiTLoss, create_metric
from qsit_metric.backends.base import Backend
from qsit_metric.errors import BackendError, InputError
from qsit_metric.gradients import level_logits
from qsit_metric.modules.differentiable import QSiTModule
from qsit_metric.pixels import load


@pytest.fixture(scope="module")
def metric():
    return QSiT("q-sit-nano", device="cpu")


@pytest.fixture(scope="module")
def exact():
    """In float64 with the linear resize, where finite differences mean something."""
    metric = QSiT("q-sit-nano", device="cpu", dtype="float64")
    metric.backend.rounding = False
    return metric


def pictures(*sizes, seed=0):
    """Photographs with some noise, (N, 3, H, W) in [0, 1]; all of one size."""
    names = ("square_512.png", "landscape_451x300.png", "portrait_300x449.jpg")
    found = [np.asarray(load(IMAGES / name).pixels.resize(size)) for name, size in zip(names, sizes, strict=False)]
    x = torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2).float() / 255
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))
    return (x + 0.05 * noise).clamp(0, 1)


@pytest.fixture(scope="module")
def x():
    return pictures((120, 90), (120, 90))


def gradient(criterion, x):
    x = x.detach().clone().requires_grad_()
    criterion(x).sum().backward()
    return x.grad


# Values


def test_the_default_is_the_distance_from_excellent(metric, x):
    assert QSiTLoss(metric)(x).item() == pytest.approx(((5 - metric(x)) / 4).mean().item(), abs=1e-6)


@pytest.mark.parametrize(("target", "value"), [("good", 4.0), (" Good", 4.0), ("bad", 1.0), (2.5, 2.5), (3, 3.0)])
def test_a_target_is_a_word_or_a_score(metric, x, target, value):
    want = (metric(x) - value).abs() / 4
    assert torch.allclose(QSiTLoss(metric, reduction="none", target=target)(x), want, atol=1e-6)


def test_reductions_and_weight(metric, x):
    each = QSiTLoss(metric, reduction="none")(x)
    assert each.shape == (2,)
    assert each.dtype == torch.float32
    assert QSiTLoss(metric, 0.5, "sum")(x).item() == pytest.approx(0.5 * each.sum().item(), abs=1e-6)
    assert QSiTLoss(metric, weight=2)(x).item() == pytest.approx(2 * each.mean().item(), abs=1e-6)


def test_cross_entropy_is_that_of_the_levels(metric, x):
    logits = level_logits(x, metric.backend, metric.recipe.scoring(), metric.budget)
    for target, index in ((None, 4), ("fair", 2), (2.0, 1)):
        want = functional.cross_entropy(logits, torch.tensor([index, index]))
        found = QSiTLoss(metric, target=target, objective="cross_entropy")(x)
        assert found.item() == pytest.approx(want.item(), abs=1e-5)


def test_cross_entropy_to_a_score_between_two_levels_counts_both(metric, x):
    loss = {target: QSiTLoss(metric, target=target, objective="cross_entropy")(x).item() for target in (3, 4, 3.25)}
    assert loss[3.25] == pytest.approx(0.75 * loss[3] + 0.25 * loss[4], abs=1e-5)


def test_batches_of_any_size_are_read_as_single_pictures(metric):
    """Also when the batch is cut by the budget; (height, width) changes between calls."""
    criterion = QSiTLoss(metric, reduction="none")
    for size, count in (((100, 140), 3), ((60, 50), 1), ((7, 5), 2)):
        x = pictures(*[size] * count)
        alone = torch.cat([criterion(image[None]) for image in x])
        assert torch.allclose(criterion(x), alone, atol=1e-4)


# Gradients


def test_finite_differences_agree(exact):
    """Along halves of the pixels, in the direction that changes the loss most; away from a distance's kink at its target."""
    generator = torch.Generator().manual_seed(0)
    x = pictures((60, 40)).double().clamp(0.02, 0.98)
    target = 1.5 if exact(x).item() > 3 else 4.5
    for options in ({}, {"target": target}, {"objective": "cross_entropy"}, {"checkpointing": True}, {"max_tiles": 2}):
        criterion = QSiTLoss(exact, **options)
        slope = gradient(criterion, x)
        direction = slope.sign() * (torch.rand(x.shape, generator=generator) > 0.5)
        want, step = float((slope * direction).sum()), 2e-4
        high, low = (criterion((x + sign * step * direction).requires_grad_()).item() for sign in (1, -1))
        assert (high - low) / (2 * step) == pytest.approx(want, rel=5e-3), options


def test_the_gradient_is_finite_and_reaches_the_pixels(metric, x):
    found = gradient(QSiTLoss(metric), x)
    assert found.isfinite().all()
    assert (found.abs().amax(dim=1) > 0).float().mean() > 0.95


def test_a_step_of_gradient_ascent_raises_the_8_bit_score(metric, x):
    better = (x - 1 / 255 * gradient(QSiTLoss(metric), x).sign()).clamp(0, 1)
    for before, after in zip(x, better, strict=True):
        assert metric.score((after * 255).round().byte()) > metric.score((before * 255).round().byte()) + 1e-3


def test_values_outside_are_clamped_and_their_gradient_passes(metric):
    x = pictures((60, 40))
    outside = x.clone()
    outside[:, :, :10], outside[:, :, 10:20] = 1.3, -0.2
    criterion = QSiTLoss(metric)
    assert criterion(outside).item() == criterion(outside.clamp(0, 1)).item()
    found = gradient(criterion, outside)
    assert torch.equal(found, gradient(criterion, outside.clamp(0, 1)))
    assert (found[:, :, :20] != 0).float().mean() > 0.9
    with pytest.raises(InputError, match=r"values in \[0, 1\]"):
        metric(outside)


@pytest.mark.parametrize("check", [True, False])
def test_what_is_not_finite(metric, check):
    x = pictures((60, 40), (60, 40), (60, 40))
    x[0, 0, 0, 0], x[2, 1, 3, 3] = torch.nan, torch.inf
    if check:
        with pytest.raises(InputError, match=r"`x`.*NaN or infinite values in pictures 0, 2.*has diverged"):
            QSiTLoss(metric)(x)
    else:
        assert QSiTLoss(metric, reduction="none", check_finite=False)(x).shape == (3,)


def test_without_the_check_the_numbers_are_the_same(metric, x):
    checked, unchecked = QSiTLoss(metric), QSiTLoss(metric, check_finite=False)
    assert torch.equal(gradient(checked, x), gradient(unchecked, x))
    with torch.no_grad():
        assert checked(x).item() == pytest.approx(unchecked(x).item(), abs=1e-6)


def test_no_graph_without_need(metric, x):
    criterion = QSiTLoss(metric)
    assert not criterion(x).requires_grad
    with torch.no_grad():
        assert not criterion(x.clone().requires_grad_()).requires_grad


# Precision and memory format


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_pictures_of_any_floating_type(metric, x, dtype):
    typed = x.to(dtype).requires_grad_()
    loss = QSiTLoss(metric)(typed)
    assert loss.dtype == torch.float32
    loss.backward()
    assert typed.grad.dtype == dtype
    assert loss.item() == pytest.approx(QSiTLoss(metric)(typed.detach().float()).item(), abs=1e-5)


def test_autocast_around_it_changes_nothing(metric, x):
    criterion = QSiTLoss(metric)
    plain = gradient(criterion, x)
    inside = x.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        loss = criterion(inside)
    loss.backward()
    assert loss.item() == criterion(x.clone().requires_grad_()).item()
    assert torch.equal(inside.grad, plain)


def test_a_network_under_autocast_learns(metric, x):
    network = nn.Conv2d(3, 3, 3, padding=1)
    with torch.autocast("cpu", torch.bfloat16):
        output = network(x)
        assert output.dtype == torch.bfloat16
        loss = functional.l1_loss(output, x) + QSiTLoss(metric, 0.1)(output)
    loss.backward()
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())


@pytest.mark.parametrize("weight", [1.0, 1e-4])
def test_a_half_precision_metric_keeps_its_gradient(metric, weight):
    """A small weight alone would let float16 lose it."""
    x = pictures((60, 40))
    half = QSiT("q-sit-nano", device="cpu", dtype="float16")
    want, found = gradient(QSiTLoss(metric), x), gradient(QSiTLoss(half, weight), x) / weight
    assert functional.cosine_similarity(found.flatten(), want.flatten(), dim=0) > 0.999
    assert found.norm().item() == pytest.approx(want.norm().item(), rel=0.02)
    nothing = gradient(lambda x: 0.0 * QSiTLoss(half)(x), x)
    assert nothing.abs().max() == 0


def test_channels_last(metric, x):
    last = x.to(memory_format=torch.channels_last)
    criterion = QSiTLoss(metric)
    assert criterion(last).item() == criterion(x).item()
    assert torch.equal(gradient(criterion, last), gradient(criterion, x))


# Frozen and apart


def test_nothing_of_the_model_is_in_the_module(metric):
    parent = nn.Sequential(nn.Conv2d(3, 3, 1), QSiTLoss(metric))
    assert list(parent[1].state_dict()) == list(parent[1].parameters()) == list(parent[1].buffers()) == []
    assert len(list(parent.modules())) == 3
    assert set(parent.state_dict()) == {"0.weight", "0.bias"}


def test_training_mode_of_a_parent_changes_nothing(metric, x):
    parent = nn.Sequential(QSiTLoss(metric))
    before = parent(x).item()
    parent.train()
    parent.requires_grad_(True)
    gradient(parent, x)
    assert parent(x).item() == before
    assert not any(module.training for module in metric.backend.model.modules())
    weights = list(metric.backend.model.parameters())
    assert not any(weight.requires_grad for weight in weights)
    assert all(weight.grad is None for weight in weights)


def test_a_copy_shares_the_metric(metric):
    parent = nn.Sequential(nn.Conv2d(3, 3, 1), QSiTLoss(metric, 0.5, crop=True, generator=3))
    twin = copy.deepcopy(parent)
    assert twin[1] is not parent[1]
    assert twin[1].metric is metric
    assert twin[1].weight == 0.5
    twin[1].weight = 1.0
    assert parent[1].weight == 0.5
    x = pictures((200, 150))
    assert twin[1](x).item() == pytest.approx(2 * parent[1](x).item(), abs=1e-5)  # the same first crop


def test_a_pickle_carries_the_metric(metric, x):
    again = pickle.loads(pickle.dumps(QSiTLoss(metric, target="good")))
    assert again.metric is not metric
    assert again(x).item() == QSiTLoss(metric, target="good")(x).item()


def test_it_follows_a_move_of_its_parent(metric, monkeypatch):
    """A device is enough; the type of the metric's weights is its own affair."""
    moved = []
    monkeypatch.setattr(metric, "to", lambda device=None, dtype=None: moved.append(device))
    parent = nn.Sequential(nn.Conv2d(3, 3, 1), QSiTLoss(metric))
    parent.to("cpu").half().double().to(torch.float32)
    parent.share_memory()
    parent.to("meta")
    assert moved == []
    parent[1]._apply(lambda tensor: Moved(tensor))
    assert moved == [torch.device("cuda", 1)]


class Moved:
    """What a tensor looks like on a device that this machine need not have."""

    def __init__(self, tensor):
        self.device = torch.device("cuda", 1)


@pytest.mark.gpu
def test_it_moves_to_the_gpu_and_back(x):
    metric = QSiT("q-sit-nano", device="cpu")
    parent = nn.Sequential(nn.Conv2d(3, 3, 1), QSiTLoss(metric, checkpointing=True)).to("cuda")
    assert metric.device.type == "cuda"
    on_gpu = gradient(parent[1], x.cuda())
    parent.cpu()
    assert metric.device.type == "cpu"
    assert torch.allclose(on_gpu.cpu(), gradient(parent[1], x), atol=1e-4)


# Memory options


def kept_bytes(criterion, x):
    """What autograd keeps for the backward pass, weights aside."""
    weights = {weight.untyped_storage().data_ptr() for weight in criterion.metric.backend.model.parameters()}
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = criterion(x.clone().requires_grad_())
    assert loss.requires_grad
    return sum(kept.values())


def test_checkpointing_gives_equal_gradients_for_less_memory(metric):
    x = pictures((256, 256))
    plain, lean = QSiTLoss(metric), QSiTLoss(metric, checkpointing=True)
    assert torch.equal(gradient(plain, x), gradient(lean, x))
    assert kept_bytes(lean, x) < 0.3 * kept_bytes(plain, x)


def test_checkpointing_of_the_published_geometry(tied):
    x = pictures((60, 40))
    assert torch.equal(gradient(QSiTLoss(tied), x), gradient(QSiTLoss(tied, checkpointing=True), x))


def test_checkpointing_leaves_the_model_as_it_is(metric, x):
    """Whatever is asked of the metric afterwards, no layer is wrapped, and nothing is kept alive."""
    before = [type(module) for module in metric.backend.model.modules()]
    answer = metric.ask(IMAGES / "gray_256.png", "Is it sharp?", max_new_tokens=3)
    gradient(QSiTLoss(metric, checkpointing=True), x)
    gc.collect()
    assert [type(module) for module in metric.backend.model.modules()] == before
    assert metric.ask(IMAGES / "gray_256.png", "Is it sharp?", max_new_tokens=3) == answer


def test_a_model_under_hooks_is_recomputed_too():
    """As accelerate spreads one over devices: a hook binds `forward` to the module that it was put on."""
    from accelerate.hooks import ModelHook, add_hook_to_module

    metric, x = QSiT("q-sit-nano", device="cpu"), pictures((120, 90))
    want, kept = gradient(QSiTLoss(metric), x), kept_bytes(QSiTLoss(metric, checkpointing=True), x)
    add_hook_to_module(metric.backend.model.model.language_model, ModelHook())
    lean = QSiTLoss(metric, checkpointing=True)
    assert torch.equal(gradient(lean, x), want)
    assert kept_bytes(lean, x) == kept


def test_a_moved_model_moves_its_twin():
    metric = QSiT("q-sit-nano", device="cpu")
    twin = metric.backend.leaner(checkpointing=True)
    metric.to(dtype="bfloat16")
    assert twin.dtype == torch.bfloat16
    assert {weight.dtype for weight in twin.model.parameters()} == {torch.bfloat16}


def test_fewer_tiles_cost_less_and_change_the_score(metric):
    x = pictures((256, 256))
    whole = metric.backend.prepare(load(x[0]))
    assert whole.tiles == 5
    for most in (2, 3, 4):
        lean = metric.backend.leaner(max_tiles=most).prepare(load(x[0]))
        assert lean.tiles <= most
        assert lean.tokens <= whole.tokens
    assert QSiTLoss(metric, max_tiles=5)(x).item() == QSiTLoss(metric)(x).item()
    assert QSiTLoss(metric, max_tiles=2)(x).item() != QSiTLoss(metric)(x).item()
    assert metric.backend.geometry.at_most(65) == metric.backend.geometry


def test_a_crop_looks_at_one_place_of_each_picture(metric):
    x = pictures((300, 200), (300, 200))
    found = gradient(QSiTLoss(metric, crop=True, generator=0), x)
    seen = (found != 0).any(dim=1)
    for picture in seen:
        rows, columns = picture.any(dim=1).nonzero(), picture.any(dim=0).nonzero()
        assert rows.max() - rows.min() < 128
        assert columns.max() - columns.min() < 128
        assert picture.float().mean() > 0.9 * 128 * 128 / (300 * 200)
    assert not torch.equal(seen[0], seen[1])


def test_crops_repeat_with_their_seed(metric):
    x = pictures((300, 200))
    first, again, other = (QSiTLoss(metric, crop=96, generator=seed) for seed in (1, 1, 2))
    values = [first(x).item() for _ in range(2)]
    assert values[0] != values[1]
    assert [again(x).item() for _ in range(2)] == values
    assert other(x).item() not in values
    torch.manual_seed(5)
    value = QSiTLoss(metric, crop=96)(x).item()
    torch.manual_seed(5)
    assert QSiTLoss(metric, crop=96)(x).item() == value


def test_a_crop_larger_than_the_picture_is_the_picture(metric):
    x = pictures((100, 90))
    assert QSiTLoss(metric, crop=True)(x).item() == QSiTLoss(metric)(x).item()


# Errors


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reduction": "avg"}, "`reduction`: got 'avg', expected 'mean', 'sum' or 'none'"),
        ({"objective": "mse"}, "`objective`: got 'mse', expected 'score' or 'cross_entropy'"),
        ({"weight": float("nan")}, "`weight`: got nan, expected a finite number"),
        ({"weight": True}, "`weight`: got True"),
        ({"target": "great"}, "`target`: got 'great', expected one of bad, poor, fair, good, excellent, or a number"),
        ({"target": 0.5}, "`target`: got 0.5, expected .* a number from 1.0 to 5.0"),
        ({"target": True}, "`target`: got True"),
        ({"max_tiles": 1}, "`max_tiles`: got 1, expected 2 or more"),
        ({"max_tiles": 2.5}, "`max_tiles`: got 2.5"),
        ({"crop": 0}, "`crop`: got 0, expected False, True or a side in pixels"),
        ({"crop": "tile"}, "`crop`: got 'tile'"),
        ({"generator": "seed"}, "`generator`: got 'seed', expected a seed"),
    ],
)
def test_arguments_that_make_no_sense(metric, options, message):
    with pytest.raises(InputError, match=message):
        QSiTLoss(metric, **options)


@pytest.mark.parametrize(
    "x",
    [
        torch.rand(3, 8, 8),
        torch.rand(1, 1, 8, 8),
        torch.zeros(1, 3, 8, 8, dtype=torch.uint8),
        torch.rand(0, 3, 0, 8),
        "x",
    ],
)
def test_what_is_no_batch_of_pictures(metric, x):
    with pytest.raises(InputError, match=r"`x`: got .*expected a floating-point tensor \(N, 3, H, W\)"):
        QSiTLoss(metric)(x)


def test_a_geometry_without_a_grid_so_small(metric, monkeypatch):
    large = [grid for grid in metric.backend.geometry.grids if min(grid) > 128]
    monkeypatch.setattr(
        metric.backend, "geometry", type(metric.backend.geometry)(tile=128, patch=16, grids=tuple(large))
    )
    with pytest.raises(InputError, match="`max_tiles`: got 3, expected at least 5"):
        QSiTLoss(metric, max_tiles=3)


class Flat(Backend):
    """A third party's engine: a gradient, but no tiles and no memory options."""

    name, differentiable = "flat", True
    device, dtype = torch.device("cpu"), torch.float32
    load = prepare = encode = logits = generate = None

    def check(self, prompt):
        pass


Flat.__abstractmethods__ = frozenset()


def test_another_backend_says_what_it_cannot():
    metric = QSiT(Flat())
    with pytest.raises(BackendError, match="memory options.*checkpointing=True, max_tiles=None.*none with the flat"):
        QSiTLoss(metric, checkpointing=True)
    assert QSiTLoss(metric, crop=True).crop == 384
    metric.backend.differentiable = False
    with pytest.raises(BackendError, match="`metric`: got <a flat backend>, expected one with a gradient"):
        QSiTLoss(metric)


def test_a_name_is_enough(x):
    criterion = QSiTLoss("q-sit-nano")
    assert "q-sit-nano" in repr(criterion)
    assert criterion(x.to(criterion.metric.device)).shape == ()
    assert not criterion.higher_is_better


def test_replicas_of_data_parallel_use_the_one_model(metric):
    x = pictures((64, 64))
    loss = QSiTLoss(metric)
    replica = loss._replicate_for_data_parallel()
    assert replica(x).item() == loss(x).item()
    assert replica.metric is loss.metric


# What is no ordinary batch


@pytest.mark.parametrize("crop", [False, 20])
def test_an_empty_batch_costs_nothing_and_has_a_gradient(metric, x, crop):
    assert metric(x[:0]).shape == (0,)
    for reduction, shape in (("none", (0,)), ("sum", ()), ("mean", ())):
        empty = x[:0].clone().requires_grad_()
        value = QSiTLoss(metric, reduction=reduction, crop=crop)(empty)
        assert (value.shape, value.sum().item()) == (shape, 0.0)
        value.sum().backward()
        assert empty.grad.shape == empty.shape


@pytest.mark.parametrize("front", [lambda metric: metric, QSiTLoss, QSiTModule, create_metric])
def test_transforms_of_functions_are_refused_by_name(metric, x, front):
    judge = front(metric)
    transforms = {
        "grad": lambda: torch.func.grad(lambda y: judge(y).sum())(x),
        "vmap": lambda: torch.func.vmap(lambda y: judge(y[None]))(x),
        "jvp": lambda: torch.func.jvp(judge, (x,), (x,)),
    }
    for transform in transforms.values():
        with pytest.raises(
            InputError, match=r"inside torch\.func or forward-mode .* `?x\.requires_grad_\(\)|reverse-mode"
        ):
            transform()


def test_a_metric_built_inside_init_empty_weights_says_so():
    from accelerate import init_empty_weights

    for build in (QSiT, QSiTLoss):
        with init_empty_weights(), pytest.raises(InputError, match=r"init_empty_weights\(\).*Build it before"):
            build("q-sit-nano")
