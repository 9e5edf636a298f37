"""Whole runs: what they leave, that a killed one ends as if it had not been, and what each failure says."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from qsit_metric import QSiT
from small_data import small_data
from train.__main__ import build
from train.data.frozen import Frozen
from train.errors import DataError, RecipeError, RunError
from train.folder import RunFolder, read_outcome
from train.loop import train
from train.mixture import Sizes
from train.recipe import load_recipe
from train.sweep import pending, plan_step1
from training import ROOT, several, small_base, small_recipe, trainer


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("ground")
    return small_base(folder / "base"), small_data(folder / "data")


@pytest.fixture(scope="module")
def whole(ground, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two epochs that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    train(small_recipe(*ground, validation={"scores": True}), folder, quiet=True)
    return folder


def _log(run: Path, kind: str = "") -> list[dict]:
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if kind in ("", line["kind"])]


def _weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "last" / "model.safetensors")


def _equal(first: Path, second: Path) -> bool:
    ours, theirs = _weights(first), _weights(second)
    return set(ours) == set(theirs) and all(torch.equal(ours[name], theirs[name]) for name in ours)


def _recipe_file(recipe, folder: Path) -> str:
    """A recipe as a file, for runs in other processes."""
    path = folder / "recipe.yaml"
    path.write_text(json.dumps(recipe.as_dict()))
    return str(path)


@pytest.mark.compat
def test_a_run_learns_and_leaves_checkpoints_that_score(whole, ground):
    losses = [line["loss"] for line in _log(whole, "step")]
    assert len(losses) == 8
    assert losses[-1] < 0.8 * losses[0]
    metric = QSiT(whole / "best")
    assert metric.recipe.name == "train"
    picture = ground[1].parent / "images" / "0.png"
    assert 1 <= metric.score(picture) <= 5
    assert isinstance(metric.ask(picture, "Is the image sharp?", max_new_tokens=3), str)


def test_the_log_says_what_happened(whole):
    assert [line["kind"] for line in _log(whole) if line["kind"] != "step"] == [
        "start", "epoch", "validation", "epoch", "validation", "end",
    ]  # fmt: skip
    first = _log(whole, "step")[0]
    assert {"loss", "loss_d1", "loss_d2", "loss_d3", "grad_norm", "lr", "epoch", "total"} <= set(first)
    measured = _log(whole, "validation")[-1]
    assert measured["ratio"] == pytest.approx(measured["loss_scoring"] / measured["loss_interpreting"])
    assert {"accuracy", "srcc/a", "plcc/b", "level_loss", "letter_loss", "answer_loss_scoring"} <= set(measured)
    assert len({line["rows_sha256"] for line in _log(whole, "epoch")}) == 2


def test_a_checkpoint_says_what_made_it(whole):
    facts = json.loads((whole / "last" / "training.json").read_text())
    assert facts["mixture"]["sizes"] == [[12, 12, 8]] * 2
    modes = {file.stat().st_mode for file in (whole / "last").iterdir()}
    assert len(modes) == 1  # who may read one file of a checkpoint may read all
    assert facts["recipe"]["name"] == "small"
    assert facts["data"]["counts"] == [24, 24, 24]
    assert len(facts["data"]["digest"]) == 64
    assert facts["metrics"]["loss_scoring"] > 0
    assert (whole / "recipe.yaml").is_file()
    assert not (whole / "states").exists()  # nothing is left to go on with


def test_a_finished_run_is_returned_as_it_is(whole, ground):
    before = (whole / "outcome.json").stat().st_mtime_ns
    again = train(small_recipe(*ground, validation={"scores": True}), whole, quiet=True)
    assert again.finished
    assert again.metrics == read_outcome(whole).metrics
    assert (whole / "outcome.json").stat().st_mtime_ns == before


def test_equal_runs_give_equal_weights_and_another_seed_does_not(whole, ground, tmp_path: Path):
    recipe = small_recipe(*ground, validation={"scores": True})
    train(recipe, tmp_path / "again", quiet=True)
    assert _equal(whole, tmp_path / "again")
    train(recipe.changed(seed=1), tmp_path / "other", quiet=True)
    assert not _equal(whole, tmp_path / "other")


def test_a_run_stopped_in_an_epoch_ends_as_if_it_had_not_been(whole, ground, tmp_path: Path):
    recipe = small_recipe(*ground, validation={"scores": True})
    for steps in (3, 5):
        assert not train(recipe, tmp_path / "run", max_steps=steps, quiet=True).finished
    assert train(recipe, tmp_path / "run", quiet=True).finished
    assert _equal(whole, tmp_path / "run")
    assert [line["total"] for line in _log(tmp_path / "run", "step")] == list(range(1, 9))
    ours, theirs = (_log(run, "step") for run in (whole, tmp_path / "run"))
    assert [line["loss"] for line in ours] == [line["loss"] for line in theirs]


def test_a_run_begun_with_transformers_module_goes_on(whole, ground, tmp_path: Path):
    """Its states name the weights as transformers 5 does; the optimiser's are read by the weights' order."""
    recipe = small_recipe(*ground, validation={"scores": True})
    train(recipe, tmp_path / "run", max_steps=5, quiet=True)
    for file in (tmp_path / "run" / "states").glob("*/model.safetensors"):
        weights = {name.replace("vision_model.", ""): weight for name, weight in load_file(file).items()}
        assert any(name.startswith("model.model.vision_tower.encoder.") for name in weights)
        save_file(weights, file, {"format": "pt"})
    assert train(recipe, tmp_path / "run", quiet=True).finished
    assert _equal(whole, tmp_path / "run")


def test_a_state_that_cannot_be_read_is_told(ground, tmp_path: Path):
    recipe = small_recipe(*ground)
    train(recipe, tmp_path / "run", max_steps=3, quiet=True)
    for file in (tmp_path / "run" / "states").glob("*/optimizer.bin"):
        file.write_bytes(b"no state")
    with pytest.raises(RunError, match=r"`output`: .*step-0000003', expected a state that can be read.*model\.base="):
        train(recipe, tmp_path / "run", quiet=True)


def test_a_run_killed_in_an_epoch_ends_as_if_it_had_not_been(ground, tmp_path: Path):
    """SIGKILL in the middle of the first epoch, then again; the end equals an undisturbed run in the same setting."""
    path = _recipe_file(small_recipe(*ground, stop={"epochs": 3}, mixture={"sizes": [24, 24, 16]}), tmp_path)
    for step in (3, 11):
        run = trainer("run", path, "-o", str(tmp_path / "killed"), "-q")
        _wait_for_step(tmp_path / "killed", step, run)
        os.kill(run.pid, signal.SIGKILL)
        run.communicate(timeout=120)
    with _threads(1):  # as in the processes
        for name in ("killed", "calm"):
            assert train(load_recipe(path), tmp_path / name, quiet=True).finished
    assert _equal(tmp_path / "calm", tmp_path / "killed")
    assert [line["total"] for line in _log(tmp_path / "killed", "step")] == list(range(1, 25))
    assert len(_log(tmp_path / "killed", "start")) == 3


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    yield
    torch.set_num_threads(before)


def _wait_for_step(run: Path, step: int, process) -> None:
    for _ in range(1200):
        if list((run / "states").glob(f"step-{step:07d}")) or process.poll() is not None:
            break
        time.sleep(0.02)
    assert process.poll() is None, process.communicate()[0]


@pytest.fixture(scope="module")
def pair(ground, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """What two processes made: `run`, as `whole`, then the first runs of `sweep`; and what they said."""
    folder = tmp_path_factory.mktemp("pair")
    recipe = small_recipe(*ground, validation={"scores": True}, optim={"micro_batch": 2})
    short = small_recipe(*ground, stop={"epochs": 1}, optim={"micro_batch": 4}, validation={"scores": True})
    plan = plan_step1(
        Sizes(24, 24, 24), fractions=(0.5, 1.0), repeats=1, degree=1,
        data_digest=Frozen.load(ground[1]).digest, recipe_digest=short.digest,
    )  # fmt: skip
    plan.save(folder / "sweep")
    (folder / "sweep" / "recipe.yaml").write_text(json.dumps(short.as_dict()))
    learn = ("run", _recipe_file(recipe, folder), "-o", folder / "run", "-q")
    both = several(learn, ("sweep", "run", folder / "sweep", "0", "1", "-q"), launch=2)
    out = both.communicate(timeout=240)[0]
    assert both.returncode == 0, out
    return folder, out


def test_two_processes_learn_what_one_does(whole, pair):
    other = pair[0] / "run"
    ours, theirs = _weights(whole), _weights(other)
    for name, weight in ours.items():
        assert torch.allclose(weight, theirs[name], atol=2e-4), name
    one, two = (_log(run, "validation")[-1] for run in (whole, other))
    for name in ("loss_scoring", "loss_interpreting", "letter_loss", "srcc/a", "accuracy"):
        assert one[name] == pytest.approx(two[name], abs=2e-3), name
    assert _log(other, "start")[0]["processes"] == 2
    digests = [[line["rows_sha256"] for line in _log(run, "epoch")] for run in (whole, other)]
    assert digests[0] == digests[1]


@pytest.mark.long
def test_sharded_weights_learn_what_whole_ones_do(whole, ground, tmp_path: Path):
    """FSDP2 as train/configs/fsdp2.yaml sets it up, on two processes of a CPU, checkpointed, stopped and gone on with."""
    text = (ROOT / "train" / "configs" / "fsdp2.yaml").read_text()
    for old, new in (
        ("use_cpu: false", "use_cpu: true"),
        ("num_processes: 8", "num_processes: 2"),
        (": bf16", ': "no"'),
    ):
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "fsdp2.yaml").write_text(text)
    model = {"gradient_checkpointing": True}
    path = _recipe_file(small_recipe(*ground, optim={"micro_batch": 2}, model=model), tmp_path)
    for more in (("--max-steps", "3"), ()):
        shards = trainer(
            "run", path, "-o", str(tmp_path / "run"), "-q", *more, launch=2, config=tmp_path / "fsdp2.yaml"
        )
        out = shards.communicate(timeout=240)[0]
        assert shards.returncode == 0, out
    ours, theirs = _weights(whole), _weights(tmp_path / "run")
    for name, weight in ours.items():
        assert torch.allclose(weight, theirs[name], atol=2e-4), name


def test_a_run_killed_with_its_workers_alive_can_be_started_at_once(ground, tmp_path: Path):
    """Forks that read pictures live a little longer; they must not keep the lock."""
    path = _recipe_file(small_recipe(*ground, data={"workers": 2}, stop={"epochs": 30}), tmp_path)
    run = trainer("run", path, "-o", str(tmp_path / "run"), "-q")
    _wait_for_step(tmp_path / "run", 2, run)
    run.kill()
    run.wait()
    again = train(load_recipe(path), tmp_path / "run", max_steps=12, quiet=True)
    run.communicate()
    assert again.total == 12


def test_two_processes_go_through_a_sweep(pair):
    folder, out = pair
    assert pending(folder / "sweep") == [2]
    assert out.count("run 0: ") == 1  # the first process speaks for both
    assert not list((folder / "sweep").rglob("*.safetensors"))


def test_an_interrupt_saves_and_the_run_goes_on(whole, ground, tmp_path: Path):
    recipe = small_recipe(*ground, saving={"every_steps": 1000}, stop={"epochs": 40}, data={"workers": 1})
    path = _recipe_file(recipe, tmp_path)
    run = trainer("run", path, "-o", str(tmp_path / "run"), "-q")
    for _ in range(1500):
        if (tmp_path / "run" / "log.jsonl").is_file() and len(_log(tmp_path / "run", "step")) > 5:
            break
        time.sleep(0.02)
    workers = Path(f"/proc/{run.pid}/task/{run.pid}/children")
    for pid in workers.read_text().split() if workers.is_file() else []:
        os.kill(int(pid), signal.SIGTERM)  # a scheduler signals all processes of a job
    run.send_signal(signal.SIGTERM)
    out = run.communicate(timeout=60)[0]
    assert run.returncode == 2, out
    assert out.count("Stopping after this step") == 1, out
    assert "The run was interrupted after step" in out
    state = RunFolder(tmp_path / "run").latest_state()
    assert state is not None
    assert int(state.name.split("-")[1]) % 4 in range(4)


def test_accumulation_and_micro_batches_change_nothing(whole, ground, tmp_path: Path):
    for micro in (1, 8):
        recipe = small_recipe(*ground, validation={"scores": True}, optim={"micro_batch": micro})
        train(recipe, tmp_path / str(micro), quiet=True)
        for name, weight in _weights(whole).items():
            assert torch.allclose(weight, _weights(tmp_path / str(micro))[name], atol=2e-4), name


def test_token_norm_weighs_rows_by_their_length(whole, ground, tmp_path: Path):
    recipe = small_recipe(*ground, validation={"scores": True}, optim={"loss_norm": "token"})
    train(recipe, tmp_path / "token", quiet=True)
    train(recipe.changed(optim={"micro_batch": 1}), tmp_path / "single", quiet=True)
    assert not _equal(whole, tmp_path / "token")
    for name, weight in _weights(tmp_path / "token").items():
        assert torch.allclose(weight, _weights(tmp_path / "single")[name], atol=2e-4), name


def test_workers_change_nothing(whole, ground, tmp_path: Path):
    recipe = small_recipe(*ground, validation={"scores": True}, data={"workers": 2})
    train(recipe, tmp_path / "run", quiet=True)
    assert _equal(whole, tmp_path / "run")


def test_bfloat16_learns_over_float32_weights(ground, tmp_path: Path):
    train(small_recipe(*ground, optim={"precision": "bf16"}), tmp_path / "run", quiet=True)
    losses = [line["loss"] for line in _log(tmp_path / "run", "step")]
    assert losses[-1] < 0.8 * losses[0]
    assert {weight.dtype for weight in _weights(tmp_path / "run").values()} == {torch.float32}


@pytest.mark.compat
def test_adapters_train_save_and_resume(ground, tmp_path: Path):
    lora = {"lora": {"rank": 4, "alpha": 8, "dropout": 0.1}, "frozen": ["vision_tower"]}
    recipe = small_recipe(*ground, model=lora)
    train(recipe, tmp_path / "calm", quiet=True)
    train(recipe, tmp_path / "cut", max_steps=3, quiet=True)
    train(recipe, tmp_path / "cut", quiet=True)
    assert _equal(tmp_path / "calm", tmp_path / "cut")
    assert not any("lora" in name for name in _weights(tmp_path / "calm"))
    assert QSiT(tmp_path / "calm" / "last").backend.name == "llava_onevision"


def test_the_small_model_stops_at_a_plateau(ground, tmp_path: Path):
    recipe = small_recipe(
        *ground, optim={"lr": 1e-9, "vision_lr": 1e-9}, stop={"epochs": 50, "patience": 3}, validation={"every": 0.5}
    )
    outcome = train(recipe, tmp_path / "run", quiet=True)
    assert outcome.finished
    assert outcome.total == 6  # three validations, two steps apart, none better by 0.5 % than before training
    assert [line["total"] for line in _log(tmp_path / "run", "validation")] == [0, 2, 4, 6]


def test_a_run_that_only_gets_worse_has_no_best_model(ground, tmp_path: Path):
    recipe = small_recipe(*ground, optim={"lr": 3, "vision_lr": 3}, stop={"epochs": 20, "patience": 2})
    with pytest.raises(RunError, match=r"`validation losses`: got <never below those before.*smaller optim.lr"):
        train(recipe, tmp_path / "run", quiet=True)
    assert not (tmp_path / "run" / "outcome.json").exists()
    assert not (tmp_path / "run" / "best").exists()


def test_a_run_goes_back_to_its_best_model(ground, tmp_path: Path):
    """A rate that is far too high: the first validations are better than the last."""
    recipe = small_recipe(
        *ground, optim={"lr": 0.3, "vision_lr": 0.3, "warmup": 0.9}, stop={"epochs": 20, "patience": 2},
        validation={"every": 0.5},
    )  # fmt: skip
    outcome = train(recipe, tmp_path / "run", quiet=True)
    measured = {line["total"]: line for line in _log(tmp_path / "run", "validation")}
    best = min((line for line in measured.values() if line["total"]), key=lambda line: line["value"])
    assert outcome.best.name == f"step-{best['total']:07d}"
    assert outcome.metrics["loss_scoring"] == best["loss_scoring"]
    assert outcome.last != outcome.best


def test_a_folder_without_a_step_is_begun_anew(ground, tmp_path: Path):
    recipe = small_recipe(*ground)
    with pytest.raises(RecipeError, match="at most 32"):
        train(recipe.changed(optim={"batch": 64}), tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()
    assert train(recipe, tmp_path / "run", quiet=True).finished


def test_steps_are_counted_over_all_starts(ground, tmp_path: Path):
    recipe = small_recipe(*ground)
    for _ in range(2):
        outcome = train(recipe, tmp_path / "run", max_steps=3, quiet=True)
        assert (outcome.total, outcome.finished) == (3, False)
    assert train(recipe, tmp_path / "run", max_steps=8, quiet=True).finished
    epochs = [line["epoch"] for line in _log(tmp_path / "run", "epoch")]
    assert epochs == [1, 2]


@pytest.mark.parametrize(("reference", "side"), [(1e-3, "d1"), (1e3, "d2+d3")])
def test_the_mixture_follows_the_losses(ground, tmp_path: Path, reference, side):
    """A ratio above the reference asks for more D1, one below it for more D2 + D3 (Eqs. 9 and 10)."""
    recipe = small_recipe(*ground, balance={"reference": reference}, stop={"epochs": 3})
    train(recipe, tmp_path / "run", quiet=True)
    sizes = [line["sizes"] for line in _log(tmp_path / "run", "epoch")]
    adjusted = _log(tmp_path / "run", "balance")
    assert len(sizes) == 3
    assert len(adjusted) == 2
    if side == "d1":
        assert [size[0] for size in sizes] == [12, 15, 19]  # growth 1.25, rounded
        assert all(size[1:] == [12, 8] for size in sizes)
        assert {line["action"] for line in adjusted} == {"more D1"}
    else:
        assert sum(sizes[0][1:]) < sum(sizes[1][1:]) < sum(sizes[2][1:])
        assert all(size[0] == 12 for size in sizes)
    facts = json.loads((tmp_path / "run" / "last" / "training.json").read_text())
    assert facts["mixture"]["sizes"] == sizes


def test_the_reference_is_read_from_the_small_models_run(whole, ground, tmp_path: Path):
    recipe = small_recipe(*ground, balance={"reference": str(whole)})
    train(recipe, tmp_path / "run", quiet=True)
    [line] = _log(tmp_path / "run", "balance")
    assert line["reference"] == pytest.approx(read_outcome(whole).metrics["ratio"])
    with pytest.raises(RecipeError, match=r"`chat.mask`: got 'answer', expected 'next', as in .* one of them only"):
        train(recipe.changed(chat={"mask": "answer"}), tmp_path / "other", quiet=True)


def test_a_reference_that_changed_is_refused(whole, ground, tmp_path: Path):
    other = tmp_path / "small"
    shutil.copytree(whole, other, symlinks=True)
    recipe = small_recipe(*ground, balance={"reference": str(other)})
    train(recipe, tmp_path / "run", max_steps=2, quiet=True)
    outcome = json.loads((other / "outcome.json").read_text())
    outcome["metrics"]["ratio"] *= 2
    (other / "outcome.json").write_text(json.dumps(outcome))
    with pytest.raises(RunError, match=r"expected a run made as now \(lambda .*\), but it has lambda"):
        train(recipe, tmp_path / "run", quiet=True)


def test_a_balance_that_nothing_measures_is_refused(ground, tmp_path: Path):
    data = small_data(tmp_path / "data", questions=False)
    recipe = small_recipe(ground[0], data)
    with pytest.raises(RecipeError, match=r"`balance`: got <data without questions>, expected both to validate on"):
        train(recipe.changed(balance={"reference": 0.2}), tmp_path / "run", quiet=True)
    outcome = train(recipe.changed(stop={"epochs": 1}), tmp_path / "run", quiet=True)
    assert outcome.metrics["loss_interpreting"] is None
    assert outcome.metrics["ratio"] is None


def test_rows_in_other_words_than_the_recipes_are_refused(ground, tmp_path: Path):
    with pytest.raises(
        RecipeError, match=r"`chat.scoring`: got <row 'd1-0'.*expected the words of the recipe 'authors'"
    ):
        train(small_recipe(*ground, chat={"scoring": "authors"}), tmp_path / "run", quiet=True)


def test_a_set_without_rows_says_how_to_leave_it_out(ground, tmp_path: Path):
    data = small_data(tmp_path / "data", without="d3")
    recipe = small_recipe(ground[0], data)
    with pytest.raises(RecipeError, match=r"`mixture.d3`: got 8, expected 0.*--set 'mixture.without=\[d3\]'"):
        train(recipe, tmp_path / "run", quiet=True)
    assert train(recipe.changed(mixture={"without": ["d3"]}), tmp_path / "run", quiet=True).finished


def test_a_tracker_that_is_not_installed_is_said(ground, tmp_path: Path):
    from qsit_metric.errors import DependencyError

    with pytest.raises(DependencyError, match=r"`saving.trackers`: got \['trackio'\].*pip install trackio"):
        train(small_recipe(*ground, saving={"trackers": ["trackio"]}), tmp_path / "run", quiet=True)


def test_single_sources_and_ablations_are_overrides(ground, tmp_path: Path):
    recipe = small_recipe(*ground, data={"d1_sources": ["a"]}, mixture={"preset": "all", "without": ["d3"]})
    train(recipe.changed(stop={"epochs": 1}), tmp_path / "run", quiet=True)
    [epoch] = _log(tmp_path / "run", "epoch")
    assert epoch["sizes"] == [12, 24, 0]
    with pytest.raises(RecipeError, match=r"`data.d1_sources`: got \['c'\], expected sources of D1: a, b"):
        train(recipe.changed(data={"d1_sources": ["c"]}), tmp_path / "other", quiet=True)


def test_another_recipe_or_data_in_the_folder_is_refused(whole, ground, tmp_path: Path):
    recipe = small_recipe(*ground, validation={"scores": True})
    with pytest.raises(RunError, match=r"expected a finished run made as now \(recipe .*\), but it has recipe"):
        train(recipe.changed(seed=9), whole, quiet=True)
    train(recipe, tmp_path / "run", max_steps=1, quiet=True)
    with pytest.raises(
        RunError, match=r"expected a run made as now \(recipe .*\), but it has recipe .*Use another folder"
    ):
        train(recipe.changed(seed=9), tmp_path / "run", quiet=True)
    other = small_data(tmp_path / "data", rows=26)
    with pytest.raises(RunError, match=r"expected a run made as now \(data .*\), but it has data"):
        train(recipe.changed(data={"folder": str(other)}), tmp_path / "run", quiet=True)


def test_two_runs_do_not_share_a_folder(ground, tmp_path: Path):
    folder = RunFolder(tmp_path / "run")
    with folder.held():
        path = _recipe_file(small_recipe(*ground), tmp_path)
        second = CliRunner().invoke(build(), ["run", path, "-o", str(tmp_path / "run"), "-q"])
    assert second.exit_code == 2
    assert "expected a folder that no other run is writing" in " ".join(second.output.split())


def test_a_loss_that_is_not_finite_stops_before_learning(ground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from train.model import JointModel

    recipe = small_recipe(*ground)
    train(recipe, tmp_path / "run", max_steps=2, quiet=True)
    monkeypatch.setattr(JointModel, "losses", _poisoned(JointModel.losses))
    with pytest.raises(
        RunError, match=r"step 3: `loss`: got nan, expected a finite number.*good state is step-0000002"
    ):
        train(recipe, tmp_path / "run", quiet=True)
    monkeypatch.undo()
    assert train(recipe, tmp_path / "run", quiet=True).finished


def _poisoned(losses):
    def poisoned(self, hidden, labels):
        return losses(self, hidden * float("nan"), labels)

    return poisoned


def test_a_full_disk_leaves_the_last_good_state(ground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole):
    import accelerate

    recipe = small_recipe(*ground, validation={"scores": True})
    train(recipe, tmp_path / "run", max_steps=2, quiet=True)

    def full(self, folder, **_):
        (Path(folder) / "optimizer.bin").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(accelerate.Accelerator, "save_state", full)
    with pytest.raises(RunError, match=r"a state can be written. The last good state is step-0000002. .*No space left"):
        train(recipe, tmp_path / "run", quiet=True)
    monkeypatch.undo()
    train(recipe, tmp_path / "run", quiet=True)
    assert _equal(whole, tmp_path / "run")
    assert not list((tmp_path / "run").glob("*/.partial-*"))


def test_a_missing_image_is_named_before_anything_is_trained(ground, tmp_path: Path):
    data = small_data(tmp_path / "data")
    (tmp_path / "data" / "images" / "7.png").unlink()
    with pytest.raises(DataError, match=r"1 image is missing: d1: 1 of 24 in .*7.png"):
        train(small_recipe(ground[0], data), tmp_path / "run", quiet=True)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_image_is_named_and_never_replaced(ground, tmp_path: Path, workers):
    data = small_data(tmp_path / "data")
    (tmp_path / "data" / "images" / "7.png").write_bytes(b"not a picture")
    with pytest.raises(DataError, match=r"^row 'd\d-7'.*7.png.*Training needs every picture"):
        train(
            small_recipe(ground[0], data, mixture={"preset": "all"}, data={"workers": workers}),
            tmp_path / "run", quiet=True,
        )  # fmt: skip


def test_a_row_that_is_too_long_is_refused_not_cut(ground, tmp_path: Path):
    with pytest.raises(DataError, match=r"row .* it has \d+ tokens, chat.max_tokens is 50"):
        train(small_recipe(*ground, chat={"max_tokens": 50}), tmp_path / "run", quiet=True)


def test_a_worker_that_dies_is_said(ground, tmp_path: Path):
    from train.batches import Collator, RowDataset, RowSet, stream
    from train.data.rows import Row

    data = _Deadly([RowSet([Row("a", "a.png", (("q", "a"),))], tmp_path)], None, None, 1)  # type: ignore[arg-type]
    with pytest.raises(RunError, match=r"`data.workers`: got <a worker that reads pictures died>"):
        list(stream(data, Collator(0), [[(0, 0)]], 1))
    assert issubclass(_Deadly, RowDataset)


from train.batches import RowDataset as _Base  # noqa: E402


class _Deadly(_Base):
    """Ends the process that reads it, as the system does with one that has taken too much memory."""

    def __getitem__(self, pick):
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_batch_must_fit_the_devices(ground, tmp_path: Path):
    with pytest.raises(
        RecipeError, match=r"`optim.batch`: got 8, expected a multiple of micro_batch x processes = 3 x 1"
    ):
        train(small_recipe(*ground, optim={"micro_batch": 3}), tmp_path / "run", quiet=True)
    with pytest.raises(RecipeError, match=r"`optim.batch`: got 64, expected at most 32, the rows of an epoch"):
        train(small_recipe(*ground, optim={"batch": 64}), tmp_path / "run2", quiet=True)


def test_other_prompts_are_reported_beside_the_trained_one(ground, tmp_path: Path):
    recipe = small_recipe(*ground, validation={"scores": True, "also": ["authors"]}, stop={"epochs": 1})
    train(recipe, tmp_path / "run", quiet=True)
    [measured] = _log(tmp_path / "run", "validation")
    assert {"srcc/a", "plcc/b", "authors/srcc/a", "authors/plcc/b"} <= set(measured)
    assert measured["plcc/a"] != measured["authors/plcc/a"]


def test_trackers_are_told_on_request(ground, tmp_path: Path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    recipe = small_recipe(*ground, saving={"trackers": ["tensorboard"]}, stop={"epochs": 1})
    train(recipe, tmp_path / "run", quiet=True)
    [events] = (tmp_path / "run" / "small").glob("events.out.tfevents.*")
    told = EventAccumulator(str(events.parent)).Reload()
    assert [event.step for event in told.Scalars("step/loss")] == [1, 2, 3, 4]
    assert told.Scalars("validation/ratio")[0].value == pytest.approx(_log(tmp_path / "run", "validation")[0]["ratio"])
