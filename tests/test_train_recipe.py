"""Training recipes: the published values, overrides, and what is refused."""

from __future__ import annotations

import dataclasses
import itertools
import re
from pathlib import Path

import pytest

from qsit_metric.errors import QSiTError
from train.balance import first_sizes
from train.errors import RecipeError
from train.mixture import Sizes
from train.progress import progress, rate, steps_in, validation_steps
from train.recipe import TrainingRecipe, build, load_recipe, recipes


def test_every_recipe_of_the_repository_loads():
    assert {"q-sit-mini", "q-sit", "lora-1gpu", "tiny"} <= set(recipes())
    for name in recipes():
        assert load_recipe(name).name


def test_the_published_values():
    # Provenance: paper Sec. IV-A (batch, rate, epochs) and the authors' finetune_ov.sh (the rest).
    mini, large = load_recipe("q-sit-mini"), load_recipe("q-sit")
    for recipe in (mini, large):
        assert (recipe.optim.lr, recipe.optim.vision_lr, recipe.optim.batch) == (1e-5, 2e-6, 64)
        assert (recipe.optim.warmup, recipe.optim.weight_decay, recipe.optim.max_grad_norm) == (0.03, 0.0, 1.0)
        assert (recipe.chat.mask, recipe.optim.loss_norm, recipe.optim.precision) == ("next", "sample", "bf16")
        assert recipe.mixture.preset == "paper"
        assert recipe.seed == 42
    assert mini.stop.patience == 3
    assert mini.balance is None
    assert (large.stop.epochs, large.stop.patience) == (3, None)
    assert large.balance is not None
    assert large.balance.reference == "runs/q-sit-mini"


def test_a_recipe_is_frozen_and_survives_a_round_trip():
    recipe = load_recipe("lora-1gpu", ["optim.lr=3e-4", "data.images={d1: photos}"])
    assert recipe.optim.lr == 3e-4
    assert build(recipe.as_dict(), "again") == recipe
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipe.seed = 3


def test_places_do_not_change_the_digest_and_values_do():
    recipe = load_recipe("q-sit-mini")
    assert recipe.changed(data={"folder": "elsewhere", "workers": 9}, saving={"keep": 7}).digest == recipe.digest
    assert recipe.changed(data={"d1_sources": ["koniq"]}).digest != recipe.digest
    assert recipe.changed(optim={"lr": 2e-5}).digest != recipe.digest


def test_a_mixture_is_replaced_as_a_whole():
    recipe = load_recipe("q-sit-mini", ["mixture.sizes=[1, 2, 3]"])
    assert recipe.mixture.preset is None
    assert recipe.mixture.sizes == (1, 2, 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("optim.rate=1", r"`optim.rate` is no key here"),
        ("optim.lr=0", r"`optim.lr`: got 0: Input should be greater than 0"),
        ("optim.lr=fast", r"`optim.lr`: got 'fast': Input should be a valid number"),
        ("optim.precision=fp8", r"`optim.precision`: got 'fp8': Input should be 'bf16' or 'no'"),
        ("model.frozen=[head]", r"`model.frozen.0`: got 'head': Input should be 'vision_tower'"),
        ("mixture={preset: paper, sizes: [1, 1, 1]}", r"say one of preset, ratio, sizes and fits, not preset and sizes"),
        ("stop.epochs=0", r"`stop.epochs`: got 0: Input should be greater than or equal to 1"),
        ("optim", r"`--set`: got 'optim', expected section.key=value"),
        ("optim.lr=[", r"`--set`: got '\[', expected a value in YAML"),
    ],
)  # fmt: skip
def test_a_wrong_override_is_named(text, message):
    with pytest.raises(RecipeError, match=message):
        load_recipe("q-sit-mini", [text])


def test_unknown_and_duplicate_keys_in_a_file_are_refused(tmp_path: Path):
    (tmp_path / "a.yaml").write_text("name: a\nlearning_rate: 3\n")
    with pytest.raises(RecipeError, match=r"`learning_rate` is no key here. See train/README.md"):
        load_recipe(tmp_path / "a.yaml")
    (tmp_path / "b.yaml").write_text("name: b\noptim:\n  lr: 1\n  lr: 2\n")
    with pytest.raises(QSiTError, match=r"line 4.*lr"):
        load_recipe(tmp_path / "b.yaml")
    with pytest.raises(RecipeError, match=r"`recipe`: got 'none.yaml', expected a YAML file or one of .*q-sit-mini"):
        load_recipe("none.yaml")


def test_recipes_that_extend_each_other_are_refused(tmp_path: Path):
    (tmp_path / "a.yaml").write_text("extends: b.yaml\nname: a\n")
    (tmp_path / "b.yaml").write_text("extends: a.yaml\nname: b\n")
    with pytest.raises(RecipeError, match=r"`extends`: .*do not extend each other in a circle"):
        load_recipe(tmp_path / "a.yaml")


def test_mixtures_become_sizes():
    counts = Sizes(15943, 150_000, 157_700)

    def sizes(**mixture) -> tuple[int, ...]:
        recipe: TrainingRecipe = load_recipe("q-sit-mini").changed(mixture=mixture)
        return tuple(first_sizes(recipe.mixture, counts).sizes)

    assert sizes(preset="paper") == (15943, 39936, 16502)
    assert sizes(preset="authors_yaml") == (15943, 33000, 12616)
    assert sizes(preset="all", without=["d2"]) == (15943, 0, 157_700)
    assert sizes(ratio=[1, 2, 0.5]) == (15943, 31886, 7972)
    assert sizes(sizes=[5, 6, 7]) == (5, 6, 7)


def test_a_set_that_is_left_out_does_not_lower_the_others():
    recipe = load_recipe("q-sit-mini").changed(mixture={"without": ["d2"]})
    assert tuple(first_sizes(recipe.mixture, Sizes(100, 50, 1000)).sizes) == (100, 0, 104)


def test_a_set_can_be_left_out_of_any_mixture():
    recipe = load_recipe("q-sit-mini", ["mixture.ratio=[1, 1, 0.5]", "mixture.without=[d3]"])
    assert (recipe.mixture.ratio, recipe.mixture.without, recipe.mixture.preset) == ((1, 1, 0.5), ("d3",), None)


def test_words_mean_what_they_mean_in_a_file():
    assert load_recipe("q-sit-mini", ["optim.precision=no"]).optim.precision == "no"
    with pytest.raises(RecipeError, match=r"expected a value in YAML"):
        load_recipe("q-sit-mini", ["data.images={d1: a, d1: b}"])


def test_a_recipe_elsewhere_extends_one_by_name(tmp_path: Path):
    (tmp_path / "mine.yaml").write_text("extends: q-sit-mini\nname: mine\n")
    assert load_recipe(tmp_path / "mine.yaml").validation.every == 0.2


def test_the_rate_rises_and_falls_by_progress():
    rates = [rate(step / 1000, 0.03) for step in range(1001)]
    assert rates[0] == 0
    assert rates[30] == 1
    assert rates[1000] == pytest.approx(0, abs=1e-12)
    assert all(a < b for a, b in itertools.pairwise(rates[:31]))
    assert all(a > b for a, b in itertools.pairwise(rates[30:]))
    assert rate(0.515, 0.03) == pytest.approx(0.5)


def test_progress_does_not_depend_on_the_length_of_epochs():
    assert progress(1, 0, 10, 3) == pytest.approx((1 + 0.05) / 3)
    assert progress(2, 99, 100, 3) < 1
    assert progress(0, 0, 100, 3) > 0


def test_validations_are_spread_over_an_epoch():
    assert validation_steps(100, 0.2) == {20, 40, 60, 80, 100}
    assert validation_steps(3, 0.2) == {1, 2, 3}
    assert validation_steps(7, 1.0) == {7}
    assert steps_in(130, 64) == 2


def test_the_readme_names_every_key_and_every_recipe():
    text = (Path(__file__).parent.parent / "train" / "README.md").read_text()
    fields = load_recipe("q-sit").as_dict()
    for section, values in fields.items():
        assert f"`{section}" in text, section
        for key in values if isinstance(values, dict) else ():
            assert re.search(rf"`(\w+)?\.{key}`|{key}[,}}`]|`{key}", text), f"{section}.{key}"
    assert all(f"recipes/{name}.yaml" in text for name in recipes())
