"""The loss at supervised positions against transformers' own, and which weights learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from qsit_metric.backends.training import published
from qsit_metric.prompts import TRAIN
from small_data import small_data
from tiny_models import golden_processor
from train.batches import Batch, Collator, RowDataset, RowSet
from train.chat import IGNORED, Encoder
from train.data.rows import Row
from train.errors import RecipeError
from train.model import JointModel, load_parts, mark_trainable, parameter_groups
from train.recipe import Lora, Model, Optim
from training import small_base

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="module")
def parts():
    return load_parts(Model(base=str(GOLDEN / "untied"), gradient_checkpointing=False), "train")


@pytest.fixture(scope="module")
def batch(parts, tmp_path_factory: pytest.TempPathFactory) -> Batch:
    """Two pictures of unlike sizes and answers of unlike lengths; their borders are even, where releases agree."""
    folder = tmp_path_factory.mktemp("loss")
    random = np.random.default_rng(0)
    for name, size in (("a", (384, 384)), ("b", (384, 200))):
        Image.fromarray(random.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).save(folder / f"{name}.png")
    rows = [
        Row("a", "a.png", ((TRAIN.question, "The quality of the image is good."),)),
        Row("b", "b.png", (("Is it sharp?", "No, the bird is blurred."), ("Why?", "It moved fast across the sky."))),
    ]
    encoder = Encoder(parts.tokenizer, TRAIN.system, "next")
    data = RowDataset([RowSet(rows, folder)], encoder, parts.geometry, 32768)
    return Collator(0)([data[0, 0], data[0, 1]])


@pytest.fixture(scope="module")
def theirs():
    from transformers import LlavaOnevisionForConditionalGeneration

    return LlavaOnevisionForConditionalGeneration.from_pretrained(GOLDEN / "untied")


def _theirs(theirs, parts, batch: Batch) -> torch.Tensor:
    """transformers' forward, its own image path and its own loss over the whole vocabulary at every position."""
    from qsit_metric.pixels.tiles import normalise

    tiles = normalise(batch.tiles, parts.geometry).split([plan.tiles for plan in batch.plans])
    pixels = torch.nn.utils.rnn.pad_sequence(list(tiles), batch_first=True)
    sizes = torch.tensor([plan.size for plan in batch.plans])
    mask = torch.ones_like(batch.ids)
    for row, labels in enumerate(batch.labels):
        mask[row, int((labels != IGNORED).nonzero().max()) + 1 :] = 0
    return theirs(
        input_ids=batch.ids, labels=batch.labels, pixel_values=pixels, image_sizes=sizes, attention_mask=mask
    ).loss


@pytest.mark.compat
def test_weights_stand_in_transformers_order(parts, theirs):
    """Optimisers keep their moments by the place of a weight: a run of the release before goes on with its own."""
    assert [name for name, _ in parts.model.named_parameters()] == [
        published(name) for name, _ in theirs.named_parameters()
    ]


@pytest.mark.compat
def test_it_equals_transformers_loss_and_gradients(parts, theirs, batch):
    losses = JointModel(parts.model, parts.geometry)(*batch)
    ours = losses.sums.sum() / losses.counts.sum()
    parts.model.zero_grad()
    ours.backward()
    loss = _theirs(theirs, parts, batch)
    loss.backward()
    assert float(ours.detach()) == pytest.approx(float(loss.detach()), rel=1e-6)
    grads = {name: weight.grad for name, weight in parts.model.named_parameters() if weight.grad is not None}
    wanted = {published(name): weight.grad for name, weight in theirs.named_parameters() if weight.grad is not None}
    assert grads.keys() == wanted.keys()
    for name, grad in wanted.items():
        assert torch.allclose(grads[name], grad, atol=1e-6, rtol=1e-4), name


def test_rows_of_a_batch_lose_what_they_lose_alone(parts, batch):
    joint = JointModel(parts.model, parts.geometry)
    with torch.no_grad():
        together = joint(*batch)
        first = batch.plans[0].tiles
        length = int((batch.labels[0] != IGNORED).nonzero().max()) + 1
        alone = joint(batch.ids[:1, :length], batch.labels[:1, :length], batch.tiles[:first], batch.plans[:1])
    assert torch.allclose(together.sums[0], alone.sums[0], atol=1e-4)
    assert together.counts[0] == alone.counts[0]


def test_each_target_is_named_by_its_place(parts, batch):
    with torch.no_grad():
        losses = JointModel(parts.model, parts.geometry)(*batch)
    assert (batch.labels[losses.rows, losses.places] != IGNORED).all()
    for row in (0, 1):
        assert torch.allclose(losses.each[losses.rows == row].sum(), losses.sums[row], rtol=1e-5)


def test_all_weights_but_the_unread_post_norm_learn(parts, batch):
    mark_trainable(parts.model, Model(gradient_checkpointing=False))
    parts.model.zero_grad()
    JointModel(parts.model, parts.geometry)(*batch).means.mean().backward()
    frozen = {name for name, weight in parts.model.named_parameters() if not weight.requires_grad}
    without = {name for name, weight in parts.model.named_parameters() if weight.grad is None}
    assert without == frozen
    assert all("post_layernorm" in name for name in frozen)


def test_checkpointing_changes_nothing_and_keeps_less(parts, batch):
    def grads(recompute: bool) -> tuple[list[torch.Tensor], int]:
        kept: list[int] = []
        joint = JointModel(parts.model, parts.geometry, recompute).train()
        joint.zero_grad()
        with torch.autograd.graph.saved_tensors_hooks(
            lambda saved: kept.append(saved.numel()) or saved, lambda saved: saved
        ):
            loss = joint(*batch).means.mean()
        loss.backward()
        return [weight.grad.clone() for weight in parts.model.parameters() if weight.grad is not None], sum(kept)

    (plain, much), (again, less) = grads(False), grads(True)
    assert len(plain) == len(again)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(plain, again, strict=True))
    assert less < much / 2


def test_the_tower_learns_slowly(parts):
    groups = parameter_groups(parts.model, Optim())
    assert [group["lr"] for group in groups] == [1e-5, 2e-6]
    tower = {id(weight) for name, weight in parts.model.named_parameters() if "vision_tower" in name}
    assert {id(weight) for weight in groups[1]["params"]} <= tower
    assert not {id(weight) for weight in groups[0]["params"]} & tower


def test_sample_and_token_norm_differ_on_rows_of_unlike_length(parts, batch):
    with torch.no_grad():
        losses = JointModel(parts.model, parts.geometry)(*batch)
    assert abs(float(losses.means.mean()) - float(losses.sums.sum() / losses.counts.sum())) > 1e-3


@pytest.fixture
def small(tmp_path: Path):
    return small_base(tmp_path / "base")


def test_frozen_modules_do_not_learn(small):
    model = load_parts(Model(base=str(small), frozen=("vision_tower", "language_model")), "train").model
    learning = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert learning
    assert all("multi_modal_projector" in name or "image_newline" in name for name in learning)
    every = ("vision_tower", "multi_modal_projector", "language_model")
    with pytest.raises(RecipeError, match="expected something that learns"):
        load_parts(Model(base=str(small), frozen=every), "train")


def test_an_untied_head_is_frozen_with_its_language_model():
    model = load_parts(Model(base=str(GOLDEN / "untied"), frozen=("language_model",)), "train").model
    assert not model.get_output_embeddings().weight.requires_grad


def test_adapters_merge_to_the_same_scores(small, tmp_path: Path):
    """A model with trained adapters, and the plain checkpoint that is saved of it, score alike."""
    from qsit_metric import QSiT

    parts = load_parts(Model(base=str(small), lora=Lora(rank=4, alpha=8, dropout=0.0)), "train")
    learning = [name for name, weight in parts.model.named_parameters() if weight.requires_grad]
    assert any("lora_A" in name for name in learning)
    assert not any(".base_layer." in name or "embed_tokens" in name for name in learning)
    with torch.no_grad():
        for name, weight in parts.model.named_parameters():
            if "lora_" in name:
                weight.normal_(std=0.2)
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8))
    before = QSiT(small, recipe="train").score(picture)
    ours = QSiT(parts.backend()).score(picture)
    parts.save(tmp_path / "saved")
    saved = QSiT(tmp_path / "saved")
    assert saved.recipe.name == "train"
    assert saved.score(picture) == pytest.approx(ours, abs=1e-5)
    assert abs(ours - before) > 1e-4


def test_a_saved_checkpoint_scores_like_the_model_in_memory(small, tmp_path: Path):
    from qsit_metric import QSiT

    data = small_data(tmp_path / "data", rows=2)
    parts = load_parts(Model(base=str(small)), "train")
    parts.save(tmp_path / "saved")
    picture = data.parent / "images" / "0.png"
    assert QSiT(tmp_path / "saved").score(picture) == QSiT(parts.backend()).score(picture)


@pytest.mark.compat
def test_golden_processor_agrees(batch, parts):
    """The tokens that training makes of a row are those of transformers' processor."""
    text = (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n<image>\n"
        f"{TRAIN.question}<|im_end|>\n<|im_start|>assistant\nThe quality of the image is good.<|im_end|>\n"
    )
    picture = Image.fromarray(np.zeros((384, 384, 3), dtype=np.uint8))
    ids = golden_processor()(images=picture, text=text, return_tensors="pt")["input_ids"][0]
    length = len(ids)
    assert torch.equal(batch.ids[0, :length], ids)
