"""Scores: batches, order, streams, errors, context independence."""

from __future__ import annotations

import io
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from conftest import GOLDEN, IMAGES, expected
from qsit_metric import Budget, QSiT, QSiTError, Recipe
from qsit_metric.backends.base import LoadOptions
from qsit_metric.backends.llava_onevision import LlavaOnevisionBackend
from qsit_metric.errors import BackendError, InputError, UnknownNameError
from qsit_metric.pixels import load
from qsit_metric.pixels.tiles import normalise
from qsit_metric.prompts import AUTHORS, TRAIN

SIZES = [(60, 40), (384, 384), (500, 300), (20, 900), (7, 5), (384, 200)]


def noise(width, height, seed=0):
    return np.random.default_rng(seed + width * 10_000 + height).integers(0, 256, (height, width, 3), dtype=np.uint8)


def count_calls(module, monkeypatch):
    calls = []
    forward = module.forward
    monkeypatch.setattr(module, "forward", lambda *args, **kwargs: calls.append(1) or forward(*args, **kwargs))
    return calls


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("bfloat16", 0.02), ("float16", 0.005)])
def test_a_batch_gives_each_image_the_score_it_has_alone(dtype, tolerance):
    metric = QSiT(GOLDEN / "tied", dtype=dtype)
    pictures = [noise(*size) for size in SIZES]
    alone = [metric.score(picture) for picture in pictures]
    metric.budget = Budget(tiles=1000, tokens=10**6)  # all of them in one forward pass
    together = metric.score(pictures)
    assert together == pytest.approx(alone, abs=tolerance)
    assert metric.score(pictures[::-1])[::-1] == pytest.approx(alone, abs=tolerance)
    assert len({round(score, 3) for score in alone}) > 4, "pictures that all score alike would prove nothing"


def test_half_precision_scores_stay_near_full():
    full, half = QSiT(GOLDEN / "untied"), QSiT(GOLDEN / "untied", dtype="float16")
    pictures = [noise(*size) for size in SIZES[:4]]
    assert half.dtype == torch.float16
    assert half.score(pictures) == pytest.approx(full.score(pictures), abs=0.05)


def test_a_list_is_one_pass_and_not_a_loop(tied, monkeypatch):
    tower = tied.backend.model.model.vision_tower
    tower_calls = count_calls(getattr(tower, "vision_model", tower).encoder, monkeypatch)
    language_calls = count_calls(tied.backend.model.model.language_model, monkeypatch)
    monkeypatch.setattr(tied, "budget", Budget(tiles=16, tokens=10**6))
    tied.score([noise(60, 60, seed) for seed in range(8)])  # 8 x 2 tiles
    assert (len(tower_calls), len(language_calls)) == (1, 1)
    tied.score([noise(60, 60, seed) for seed in range(9)])
    assert (len(tower_calls), len(language_calls)) == (3, 3)


def test_the_budget_counts_padding(tied, monkeypatch):
    language_calls = count_calls(tied.backend.model.model.language_model, monkeypatch)
    monkeypatch.setattr(tied, "budget", Budget(tiles=1000, tokens=2 * 3699))
    tied.score([noise(60, 60), noise(512, 512), noise(60, 60)])  # a third row would be padded to 3 x 3699
    assert len(language_calls) == 2


@settings(max_examples=8, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 60), st.integers(1, 60)), max_size=4), st.integers(1, 9), st.integers(1, 9000))
def test_any_budget_gives_the_same_scores(tied, sizes, tiles, tokens):
    pictures = [noise(*size) for size in sizes]
    budget, tied.budget = tied.budget, Budget(tiles, tokens)
    try:
        scores = tied.score(pictures)
    finally:
        tied.budget = budget
    assert scores == pytest.approx([tied.score(picture) for picture in pictures], abs=1e-5)


def test_every_kind_of_input_gives_the_same_score(tied):
    path = IMAGES / "landscape_451x300.png"
    image = Image.open(path).convert("RGB")
    array = np.array(image)
    tensor = torch.from_numpy(array).permute(2, 0, 1)
    kinds = [
        str(path), path, path.read_bytes(), io.BytesIO(path.read_bytes()), image, array, array / 255.0, tensor,
        tensor / 255.0, (tensor / 255.0).double(), array.astype(np.uint16) * 257,
    ]  # fmt: skip
    scores = tied.score(kinds)
    assert scores == pytest.approx([scores[0]] * len(kinds), abs=1e-6)
    assert tied.score(tensor[None]) == pytest.approx([scores[0]], abs=1e-6)
    assert tied((tensor / 255.0)[None]).tolist() == pytest.approx([scores[0]], abs=1e-5)


def test_score_on_one_and_on_many(tied):
    assert isinstance(tied.score(noise(8, 8)), float)
    assert tied.score([]) == []
    assert len(tied.score([noise(8, 8)])) == 1
    assert len(tied.score(torch.rand(3, 3, 9, 9))) == 3
    assert tied(torch.rand(0, 3, 9, 9)).shape == (0,)


def test_bad_images_in_a_list(tied):
    pictures = [noise(8, 8), "missing.png", noise(9, 9), b"junk"]
    with pytest.raises(QSiTError, match="missing.png") as caught:
        tied.score(pictures)
    assert caught.value.index == 1
    assert caught.value.done == [pytest.approx(tied.score(pictures[0]), abs=1e-6)]
    good, missing, fine, junk = tied.score(pictures, errors="return")
    assert (good, fine) == (pytest.approx(tied.score(pictures[0])), pytest.approx(tied.score(pictures[2])))
    assert isinstance(missing, QSiTError)
    assert isinstance(junk, QSiTError)
    assert isinstance(tied.score("missing.png", errors="return"), QSiTError)
    answers = tied.ask(pictures[:2], "Is it sharp?", max_new_tokens=1, errors="return")
    assert isinstance(answers[0], str)
    assert isinstance(answers[1], QSiTError)
    with pytest.raises(InputError, match="`errors`: got 'ignore', expected 'raise' or 'return'"):
        tied.score(pictures, errors="ignore")


def test_a_stream_is_read_a_few_images_ahead(tied):
    taken = []

    def endless():
        while True:
            taken.append(len(taken))
            yield noise(16, 16, len(taken))

    stream = tied.score_iter(endless())
    first = [next(stream) for _ in range(3)]
    assert len(first) == 3
    assert len(taken) < 40
    stream.close()
    with pytest.raises(QSiTError) as caught:
        list(tied.score_iter([noise(8, 8), b""]))
    assert caught.value.index == 1


@pytest.mark.compat
def test_the_first_frame_is_said_in_the_score(tied, tmp_path):
    frames = [Image.fromarray(noise(20, 20, seed)) for seed in range(3)]
    frames[0].save(tmp_path / "animation.gif", save_all=True, append_images=frames[1:])
    plain, animated = tied.score([noise(20, 20), tmp_path / "animation.gif"])
    assert plain.note is None
    assert animated.note == "first of 3 frames"
    assert pickle.loads(pickle.dumps(animated)) == animated


@pytest.mark.compat
def test_exif_orientation(tied, tmp_path):
    image = Image.fromarray(noise(60, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees
    image.save(tmp_path / "turned.png", exif=exif)
    seen, stored = tied.score(tmp_path / "turned.png"), tied.score(tmp_path / "turned.png", exif=False)
    assert seen == pytest.approx(tied.score(image.rotate(-90, expand=True)), abs=1e-6)
    assert stored == pytest.approx(tied.score(image), abs=1e-6)
    assert abs(seen - stored) > 1e-4


def test_the_callers_context_does_not_change_a_score(tied):
    picture, x = noise(70, 50), torch.rand(1, 3, 40, 40)
    plain, tensor = tied.score(picture), tied(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert tied.score(picture) == plain
        assert torch.equal(tied(x), tensor)
    with torch.inference_mode():
        assert tied.score(picture) == plain
        view = tied.open(picture)
    assert view.score() == pytest.approx(plain, abs=1e-5)
    assert tied(x).requires_grad is False


def test_parameters_are_frozen_and_the_metric_is_no_module(tied):
    model = tied.backend.model
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert not model.training
    assert not isinstance(tied, torch.nn.Module)
    assert (tied.score_range, tied.higher_is_better, tied.lower_better, tied.metric_mode) == (
        (1.0, 5.0),
        True,
        False,
        "NR",
    )


def test_scores_stay_in_range(tied):
    scores = tied.score([np.zeros((9, 9, 3), np.uint8), np.full((9, 9, 3), 255, np.uint8), noise(30, 30)])
    assert all(1.0 <= score <= 5.0 for score in scores)
    assert all(sum(score.probs.values()) == pytest.approx(1.0) for score in scores)
    assert list(scores[0].probs) == ["bad", "poor", "fair", "good", "excellent"]


def test_info_says_what_made_the_scores(tied):
    info = tied.info
    assert info["recipe"] == "authors"
    assert {"torch", "transformers", "pillow", "revision"} <= {name.lower() for name in info}
    assert (info["device"], info["dtype"], info["backend"]) == ("cpu", "float32", "llava_onevision")
    assert info["model"].endswith("tied")
    assert "tied" in repr(tied)


def test_recipes(tied):
    train = QSiT(GOLDEN / "tied", recipe=TRAIN) if words_differ(tied, TRAIN) else None
    own = Recipe("own", "How good?", "It is ", ("Bad", "Good"))
    two = QSiT(GOLDEN / "tied", recipe=own)
    score = two.score(noise(8, 8))
    assert list(score.probs) == ["bad", "good"]
    assert 1 <= score <= 5
    assert train is None or train.score(noise(8, 8)) != tied.score(noise(8, 8))
    with pytest.raises(
        UnknownNameError, match="`recipe`: got 'author', expected one of authors, train, .*. Did you mean 'authors'"
    ):
        QSiT(GOLDEN / "tied", recipe="author")


def words_differ(metric, recipe):
    tokenizer = metric.backend._dialogue.tokenizer
    return len({tokenizer.encode(word)[0] for word in recipe.words}) == len(recipe.words)


def test_from_a_backend_in_memory(tied):
    loaded = LlavaOnevisionBackend.load(GOLDEN / "tied", LoadOptions())
    in_memory = QSiT(
        LlavaOnevisionBackend(loaded.model, loaded._dialogue.tokenizer, loaded._dialogue.template, loaded.geometry)
    )
    assert in_memory.recipe == AUTHORS
    assert in_memory.score(noise(30, 30)) == tied.score(noise(30, 30))
    with pytest.raises(InputError, match="no device, dtype, backend, revision or server with it"):
        QSiT(loaded, device="cpu")


def test_to_moves_the_model():
    metric = QSiT(GOLDEN / "tied")
    assert metric.to(dtype=torch.bfloat16) is metric
    assert metric.dtype == torch.bfloat16
    assert metric.score(noise(9, 9)) == pytest.approx(QSiT(GOLDEN / "tied", dtype="bf16").score(noise(9, 9)), abs=1e-6)


def test_a_batch_that_does_not_fit_is_halved(tied, monkeypatch):
    encode, sizes = tied.backend.encode, []

    def tight(prepared):
        sizes.append(len(prepared))
        if len(prepared) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return encode(prepared)

    monkeypatch.setattr(tied.backend, "encode", tight)
    pictures = [noise(8 + i, 8) for i in range(5)]
    scores = tied.score(pictures)
    assert sizes == [5, 2, 3, 1, 2]
    monkeypatch.undo()
    assert scores == pytest.approx(tied.score(pictures), abs=1e-5)

    def none(prepared):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(tied.backend, "encode", none)
    with pytest.raises(BackendError, match="out of memory.*smaller image"):
        tied.score(pictures[0])
    assert all(isinstance(error, BackendError) for error in tied.score(pictures, errors="return"))


def test_one_picture_that_the_model_cannot_take_does_not_sink_the_others(tied, monkeypatch):
    encode, odd = tied.backend.encode, noise(8, 11)

    def picky(prepared):
        if any(item.data.plan.size == (11, 8) for item in prepared):
            raise ValueError("no such size")
        return encode(prepared)

    pictures = [noise(8, 8), noise(9, 8), odd, noise(10, 8)]
    want = tied.score([pictures[0], pictures[1], pictures[3]])
    monkeypatch.setattr(tied.backend, "encode", picky)
    first, second, failed, last = tied.score(pictures, errors="return")
    assert [first, second, last] == pytest.approx(want, abs=1e-5)
    assert isinstance(failed, BackendError)


def test_a_failure_of_the_model_is_ours(tied, monkeypatch):
    def broken(prepared):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(tied.backend, "encode", broken)
    for call in (tied.score, tied.open, lambda x: tied.ask(x, "Sharp?"), lambda x: tied(load_tensor(x))):
        with pytest.raises(BackendError, match="RuntimeError: mat1 and mat2 shapes"):
            call(noise(8, 8))


def load_tensor(array):
    return torch.from_numpy(np.array(load(array).pixels)).permute(2, 0, 1)[None] / 255


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.rand(8, 8), r"`x`: got <tensor of shape \(8, 8\)>, expected a tensor \(N, 3\|1, H, W\)"),
        ("photo.jpg", "Files and lists go to `metric.score`"),
        (torch.rand(1, 2, 8, 8), r"N, 3\|1, H, W"),
        (torch.full((1, 3, 8, 8), 1.5), r"\[0, 1\]"),
        (torch.full((1, 3, 8, 8), float("nan")), "NaN"),
        (torch.rand(1, 3, 8, 8).to(torch.complex64), "complex|floating"),
    ],
)
def test_bad_tensors(tied, x, message):
    with pytest.raises(InputError, match=message):
        tied(x)


@settings(max_examples=40, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=300), st.integers(), st.none(), st.floats(), st.text(max_size=20), st.lists(st.binary())
    )
)
def test_no_foreign_exception_escapes(tied, junk):
    for call in (
        lambda: tied.score(junk),
        lambda: tied.ask(junk, "Sharp?"),
        lambda: tied.open(junk),
        lambda: tied(junk),
    ):
        try:
            call()
        except QSiTError as error:
            assert str(error)


def test_better_pictures_of_real_life_are_read(tied, photos):
    scores = tied.score(photos[:6])
    assert len(scores) == 6
    assert all(
        isinstance(Path(path).name, str) and 1 <= score <= 5 for path, score in zip(photos, scores, strict=False)
    )


def test_pictures_may_be_resized_where_the_model_is(tied, monkeypatch):
    """The same tiles to the bit, made with integers on the device, and so the same scores."""
    names = ["landscape_451x300.png", "cmyk_427x640.jpg", "tiny_7x5.png"]
    prepared = [tied.backend.prepare(load(IMAGES / name)).data.tiles for name in names]
    monkeypatch.setattr(tied.backend, "resize_on_device", True)
    for name, want in zip(names, prepared, strict=True):
        assert torch.equal(tied.backend.prepare(load(IMAGES / name)).data.tiles, want)
    assert tied.score(IMAGES / names[0]) == pytest.approx(expected("tied")["images"][names[0]]["score15"], abs=1e-4)


def test_a_picture_that_fills_one_tile_is_encoded_once(tied, monkeypatch):
    """Maps and losses ask for thousands of those; what the language model reads stays the same."""
    from qsit_metric.backends.features import projected

    passes = []
    model = tied.backend.model
    encode = model.states
    monkeypatch.setattr(model, "states", lambda tiles, *more: passes.append(len(tiles)) or encode(tiles, *more))
    backend = tied.backend
    with torch.no_grad():
        prepared = [backend.prepare(load(IMAGES / name)) for name in ("tile_384.png", "landscape_451x300.png")]
        (small, large), tiles = backend.encode(prepared), prepared[0].data.tiles
        assert passes == [1 + prepared[1].tiles]
        both = encode(normalise(tiles, backend.geometry))
        [want] = projected(backend.model, [both], [prepared[0].data.plan])
    assert torch.equal(tiles[0], tiles[1])
    assert small.data.shape == want.shape
    assert torch.allclose(small.data, want, atol=1e-5)
    assert large.tokens == prepared[1].tokens
