"""The sweeps of Algorithm 1: plans, runs, locks, the fit of a folder and its figure (train/sweep)."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from qsit_metric.errors import InputError
from train.balance import capped, coarse_sizes
from train.errors import RecipeError, RunError
from train.mixture import Sizes
from train.sweep import (
    Plan,
    RunSpec,
    TakenError,
    begun,
    cost,
    fit_folder,
    fitted_ratio,
    pending,
    performance,
    plan_step1,
    plan_step2,
    read_result,
    run_spec,
)
from train.sweep.fit import SIZE
from train.sweep.plan import published
from train.sweep.runs import RESULT_FILE

ROUNDED = Sizes(16_000, 150_000, 150_000)  # Sec. IV-B
REAL = Sizes(15_943, 151_234, 157_712)
ROOT = Path(__file__).parent.parent


def small(repeats: int = 2, **more) -> Plan:
    """7 points x 2, degree 2."""
    return plan_step1(Sizes(100, 300, 200), fractions=[0.25, 0.5, 0.75, 1], repeats=repeats, degree=2, **more)


def parabola(spec: RunSpec, _: Path) -> dict[str, float]:
    noise = (spec.seed % 97 - 48) / 1e5
    return {"accuracy": 0.6 - 0.05 * math.log10(spec.ratio / 1.6) ** 2 + noise}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    small().save(tmp_path / "sweep")
    return tmp_path / "sweep"


def do(folder: Path, indices=None) -> None:
    for index in pending(folder) if indices is None else indices:
        run_spec(folder, index, parabola)


# Plans


def test_step1_has_19_points_of_3():
    """All of D2 with 10 % .. 100 % of D3, then 90 % .. 10 % of D2 with all of D3; 1 : 1 is shared."""
    plan = plan_step1(ROUNDED)
    assert len(plan.runs) == 57
    assert [run.index for run in plan.runs] == list(range(57))
    sizes = [run.sizes for run in plan.runs[::3]]
    assert sizes == [Sizes(0, 150_000, 15_000 * tenth) for tenth in range(1, 11)] + [
        Sizes(0, 15_000 * tenth, 150_000) for tenth in range(9, 0, -1)
    ]
    ratios = [run.ratio for run in plan.runs[::3]]
    assert ratios == sorted(ratios, reverse=True)
    assert (ratios[0], ratios[9], ratios[18]) == (10, 1, pytest.approx(0.1))
    assert (plan.degree, plan.formula, plan.r_star) == (4, "accuracy", None)


def test_step2_has_19_points_of_3():
    plan = plan_step2(ROUNDED, 2.42)
    assert len(plan.runs) == 57
    asked = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
    assert [run.ratio for run in plan.runs[::3]] == pytest.approx(asked, rel=1e-3)
    assert all(run.sizes.d1 == 16_000 for run in plan.runs)
    assert all(run.sizes.d2 / run.sizes.d3 == pytest.approx(2.42, rel=5e-3) for run in plan.runs)
    assert (plan.formula, plan.r_star, plan.notes) == ("mean", 2.42, ())


def test_the_published_mix_is_a_point():
    run = plan_step2(REAL, 2.42, ratios=[1, 2, 3.54], repeats=1, degree=1).runs[-1]
    assert run.sizes == Sizes(15_943, 39_936, 16_502)  # 1 : 2.50 : 1.04
    assert run.ratio == pytest.approx(3.54, abs=1e-4)


def test_ratios_are_those_of_real_counts():
    plan = plan_step1(REAL)
    assert plan.runs[0].sizes == Sizes(0, 151_234, 15_771)
    assert plan.runs[0].ratio == 151_234 / 15_771
    assert plan.runs[27].ratio == 151_234 / 157_712  # the "1 : 1" point


def test_a_smaller_design():
    plan = small()
    assert (len(plan.runs), len({run.point for run in plan.runs})) == (14, 7)


@given(st.integers(0, 2**40), st.integers(1, 5))
def test_no_two_runs_share_a_seed(seed, repeats):
    one, two = plan_step1(ROUNDED, seed=seed, repeats=repeats), plan_step2(ROUNDED, 2.42, seed=seed, repeats=repeats)
    seeds = [run.seed for run in (*one.runs, *two.runs)]
    assert len(set(seeds)) == len(seeds) == 38 * repeats
    assert all(0 <= value < 2**31 for value in seeds)


def test_seeds_are_those_of_the_seed():
    assert small(seed=3) == small(seed=3)
    assert {run.seed for run in small(seed=3).runs}.isdisjoint(run.seed for run in small(seed=4).runs)
    assert small().digest != small(seed=1).digest


def test_step2_lowers_what_rows_do_not_allow_and_says_so():
    plan = plan_step2(Sizes(100, 300, 500), 2.0, ratios=[1, 2, 3, 4, 5], repeats=1, degree=2)
    assert [run.sizes for run in plan.runs][-2:] == [Sizes(100, 267, 133), Sizes(100, 300, 150)]
    assert plan.runs[-1].ratio == 4.5
    [note] = plan.notes
    assert note.startswith("ratio 5: D2 333 -> 300 and D3 167 -> 150")


def test_step2_refuses_points_that_fall_together():
    with pytest.raises(RecipeError, match=r"`ratios`: .* Here 4.5 is the most that needs no row twice"):
        plan_step2(Sizes(100, 300, 500), 2.0, ratios=[1, 2, 3, 4, 5, 6], repeats=1, degree=2)


@given(st.integers(10, 500), st.floats(0.1, 10), st.floats(0.1, 10))
def test_step2_sizes_are_the_coarse_ones(n1, r, q):
    counts = Sizes(n1, 20 * n1, 20 * n1)
    ratios = [q, 2 * q, 4 * q, 8 * q]
    try:
        plan = plan_step2(counts, r, ratios=ratios, repeats=1, degree=2)
    except RecipeError as error:  # 80 parts of one set may be more than 20
        assert "tell apart" in str(error)
        return
    assert plan.runs[0].sizes == capped(coarse_sizes(counts, r, q), counts).sizes


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: plan_step1(ROUNDED, fractions=[]), "`fractions`: got ()"),
        (lambda: plan_step1(ROUNDED, fractions=[0.5, 1.5]), "`fractions`: got (0.5, 1.5), expected shares above 0"),
        (lambda: plan_step1(ROUNDED, fractions=[math.nan]), "`fractions`: got (nan,)"),
        (lambda: plan_step1(Sizes(9, 0, 9)), "`counts`: got (9, 0, 9), expected rows of D2 and D3"),
        (lambda: plan_step1(Sizes(9, 4, 4)), "`counts`: got (9, 4, 4)"),
        (lambda: plan_step1(ROUNDED, repeats=0), "`repeats, seed`: got (0, 0)"),
        (lambda: plan_step1(ROUNDED, seed=-1), "`repeats, seed`: got (3, -1)"),
        (lambda: plan_step1(ROUNDED, fractions=[0.5, 1]), "degree + 2 distinct ratios or more (3 here)"),
        (lambda: plan_step1(ROUNDED, degree=0), "`degree`: got 0"),
        (lambda: plan_step1(ROUNDED, formula="f1"), "`formula`: got 'f1', expected one of accuracy, mean"),
        (lambda: plan_step2(ROUNDED, 0.0), "`r`: got 0.0"),
        (lambda: plan_step2(ROUNDED, 2.42, ratios=[1, -1]), "`q`: got -1"),
        (lambda: plan_step2(Sizes(0, 9, 9), 2.42), "`counts.d1`: got 0"),
    ],
)
def test_refused_plans(make, message):
    with pytest.raises(RecipeError) as caught:
        make()
    assert message in str(caught.value)


# Files of a plan


def test_a_plan_is_read_as_it_was_written(tmp_path):
    for number, plan in enumerate((plan_step1(REAL, data_digest="d", recipe_digest="r"), plan_step2(REAL, 2.5))):
        plan.save(tmp_path / str(number))
        assert Plan.load(tmp_path / str(number)) == plan
        assert [path.name for path in (tmp_path / str(number)).iterdir()] == ["plan.json"]


def test_a_plan_is_not_replaced_by_another(folder):
    small().save(folder)
    with pytest.raises(RunError, match=r"expected a plan made as now \(.*\), but it has .*Choose another folder"):
        small(seed=1).save(folder)
    assert Plan.load(folder) == small()


def test_a_plan_holds_to_its_data_and_recipe():
    plan = small(data_digest="a" * 64, recipe_digest="b" * 64)
    plan.check("a" * 64, "b" * 64)
    with pytest.raises(
        RunError, match=r"expected a plan of runs made as now \(data c+\.*c+\), but it has data a+\.*a+"
    ):
        plan.check("c" * 64, "b" * 64)
    with pytest.raises(RunError, match=r"made as now \(recipe c+\.*c+\), but it has recipe b+"):
        plan.check("a" * 64, "c" * 64)


def test_no_plan(tmp_path):
    with pytest.raises(RunError, match=r"a folder with plan.json. Make a plan first"):
        Plan.load(tmp_path)


@pytest.mark.parametrize(
    "content", ["{", "[]", "{}", '{"format": 2, "runs": []}', '{"format": 1, "runs": [{"index": 0}]}']
)
def test_broken_plans(tmp_path, content):
    (tmp_path / "plan.json").write_text(content)
    with pytest.raises(RunError, match="`plan`: got"):
        Plan.load(tmp_path)


# Costs


def test_cost_of_the_published_design():
    """Sec. IV-H: 720 + 72 hours against 2,800, printed as 72 % less; passes by hand from the grids."""
    found = cost(*published())
    step1 = 3 * 150_000 * (10 + 5.5 + 9 + 4.5)
    step2 = 3 * 16_000 * (19 + 5.5 + 54)
    assert (found.runs, found.sample_passes) == (114, round(step1 + step2))
    assert (found.search_hours, found.primary_hours, found.direct_hours) == (720, 72, 2800)
    assert found.saving == pytest.approx(0.717, abs=1e-3)


def test_cost_is_a_sum():
    one, two = plan_step1(REAL), plan_step2(REAL, 2.42)
    a, b, both = cost(one), cost(two), cost(one, two)
    assert both.search_hours == pytest.approx(a.search_hours + b.search_hours)
    assert both.optimiser_steps == a.optimiser_steps + b.optimiser_steps
    assert cost(one, epochs=2).sample_passes == 2 * a.sample_passes
    assert cost(small(), batch=64).optimiser_steps == sum(run.sizes.total // 64 for run in small().runs)


# Runs


def test_a_run_leaves_its_result(folder):
    plan = Plan.load(folder)
    found = run_spec(folder, 3, parabola)
    assert found == json.loads((folder / "runs" / "003" / "result.json").read_text())
    spec = plan.runs[3]
    assert found["metrics"] == parabola(spec, folder)
    assert (found["seed"], found["sizes"], found["ratio"]) == (spec.seed, dataclasses.asdict(spec.sizes), spec.ratio)
    assert (found["plan_digest"], found["data_digest"]) == (plan.digest, "")
    assert pending(folder) == [index for index in range(14) if index != 3]


def test_a_finished_run_is_not_done_again(folder):
    first = run_spec(folder, 0, parabola)

    def never(spec, place):
        raise AssertionError

    assert run_spec(folder, 0, never) == first


def test_a_stopped_run_goes_on_in_its_folder(folder):
    def stops(spec, place):
        (place / "half").write_text("done")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_spec(folder, 5, stops)
    assert 5 in pending(folder)
    assert begun(folder) == [5]
    seen = []
    run_spec(folder, 5, lambda spec, place: seen.append((place / "half").read_text()) or parabola(spec, place))
    assert (seen, begun(folder)) == (["done"], [])


@pytest.mark.parametrize("index", [-1, 14])
def test_no_such_run(folder, index):
    with pytest.raises(RunError, match=rf"`run`: got {index}, expected a number from 0 to 13"):
        run_spec(folder, index, parabola)


def test_other_ranks_neither_lock_nor_write(folder):
    found = run_spec(folder, 0, parabola, rank=1)
    assert found["metrics"]
    assert 0 in pending(folder)
    assert not (folder / "runs" / "000" / "lock").exists()


def test_a_result_of_another_plan_is_refused(folder, tmp_path):
    do(folder, [0])
    small(seed=1).save(tmp_path / "other")
    target = tmp_path / "other" / "runs" / "000" / RESULT_FILE
    target.parent.mkdir(parents=True)
    target.write_bytes((folder / "runs" / "000" / RESULT_FILE).read_bytes())
    with pytest.raises(RunError, match=r"expected a result made as now \(plan .*\), but it has plan .*Remove it"):
        run_spec(tmp_path / "other", 0, parabola)


def test_metrics_must_be_numbers(folder):
    with pytest.raises(RunError, match="`run 000: metric accuracy`: got 'high', expected a number"):
        run_spec(folder, 0, lambda spec, place: {"accuracy": "high"})
    assert 0 in pending(folder)


def test_undefined_metrics_become_null(folder):
    run_spec(folder, 0, lambda spec, place: {"accuracy": 0.5, "srcc/x": math.nan, "plcc/x": None})
    result = read_result(folder, Plan.load(folder), 0)
    assert result["metrics"] == {"accuracy": 0.5, "srcc/x": None, "plcc/x": None}


def test_a_full_disk_is_one_error(folder, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match=r"a file that can be written.*No space left on device"):
        run_spec(folder, 0, parabola)
    monkeypatch.undo()
    assert sorted(path.name for path in (folder / "runs" / "000").iterdir()) == ["lock", "train"]


HOLDER = """
import sys, time
from pathlib import Path
from train.sweep import run_spec

def train(spec, place):
    print("training", flush=True)
    if sys.argv[2] == "hang":
        time.sleep(60)
    return {"accuracy": 0.5}

run_spec(Path(sys.argv[1]), 2, train)
"""


def start(folder: Path, how: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder), how],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_two_processes_never_do_one_run(folder):
    with start(folder, "hang") as first:
        try:
            assert first.stdout is not None
            assert first.stdout.readline() == "training\n"
            with pytest.raises(TakenError, match=rf"`run 002`: got <taken by process {first.pid} on "):
                run_spec(folder, 2, parabola)
            run_spec(folder, 3, parabola)  # another run is free
            with start(folder, "finish") as second:
                out, err = second.communicate(timeout=60)
            assert (out, second.returncode) == ("", 1)
            assert "TakenError: `run 002`: got <taken by process" in err
        finally:
            first.send_signal(signal.SIGKILL)
    # a killed process leaves no lock behind
    assert run_spec(folder, 2, parabola)["metrics"]


# Performance


def test_performance():
    metrics = {"accuracy": 0.6, "srcc/koniq": 0.9, "plcc/koniq": 0.8, "srcc/spaq": 0.7, "plcc/spaq": 0.6, "loss": 7.0}
    assert performance(metrics, 1) == 0.6
    assert performance(metrics, 1, "mean") == pytest.approx(0.5 * 0.6 + 0.5 * (0.85 + 0.65) / 2)
    assert performance(metrics, 2) == performance(metrics, 1, "mean")


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        ({"accuracy": 0.6}, "`metrics`: got <accuracy>, expected srcc/SET and plcc/SET"),
        ({"accuracy": None, "srcc/a": 0.5, "plcc/a": 0.5}, "`metric accuracy`: got <undefined>"),
        ({"srcc/a": 0.5, "plcc/a": 0.5}, "`metric accuracy`: got <missing>"),
        ({"accuracy": 0.6, "srcc/a": None, "plcc/a": 0.5}, "`metric srcc/a`: got <undefined>"),
        ({"accuracy": 0.6, "srcc/a": math.nan, "plcc/a": 0.5}, "`metric srcc/a`: got nan"),
        ({"accuracy": 0.6, "srcc/a": 0.5}, "`metric plcc/a`: got <missing>"),
        ({"accuracy": 60.0, "srcc/a": 0.5, "plcc/a": 0.5}, "`metric accuracy`: got 60.0"),
    ],
)
def test_no_performance(metrics, message):
    with pytest.raises(RunError) as caught:
        performance(metrics, 2)
    assert message in str(caught.value)


# The fit of a folder


def test_fit_of_a_whole_sweep(folder):
    do(folder)
    fit = fit_folder(folder)
    assert (fit.degree, fit.runs, fit.edge) == (2, 14, False)
    assert fit.best_ratio == pytest.approx(1.6, rel=0.05)
    written = json.loads((folder / "fit.json").read_text())
    assert (written["step"], written["best_ratio"], written["left_out"]) == (1, fit.best_ratio, [])
    assert len(written["points"]) == 14
    assert written["plan_digest"] == Plan.load(folder).digest
    assert sorted(path.name for path in folder.iterdir()) == ["fit.json", "fit.png", "plan.json", "runs"]


def test_the_figure_is_a_png_of_its_size(folder):
    do(folder)
    fit_folder(folder)
    content = (folder / "fit.png").read_bytes()
    with Image.open(io.BytesIO(content)) as picture:
        assert (picture.format, picture.size) == ("PNG", SIZE)
        assert len(picture.convert("RGB").getcolors(SIZE[0] * SIZE[1])) > 50  # something is drawn


def test_the_figure_leaves_pyplot_alone(folder):
    do(folder)
    code = (
        "import sys; from pathlib import Path; from train.sweep import fit_folder; "
        f"fit_folder(Path({str(folder)!r})); sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_step2_takes_the_mean(tmp_path):
    plan_step2(Sizes(100, 3000, 3000), 2.0, ratios=[0.5, 1, 2, 4, 8], repeats=2, degree=2).save(tmp_path)
    for index in pending(tmp_path):
        run_spec(
            tmp_path,
            index,
            lambda spec, _: {
                "accuracy": 0.5 + spec.seed % 2 / 1e4,
                "srcc/a": -abs(math.log(spec.ratio / 3)),
                "plcc/a": 0,
            },
        )
    with pytest.raises(RunError, match="-1..1"):  # a metric out of its range is named, not clipped
        fit_folder(tmp_path)
    for path in tmp_path.glob("runs/*/result.json"):
        fields = json.loads(path.read_text())
        fields["metrics"]["srcc/a"] /= 2
        path.write_text(json.dumps(fields))
    fit = fit_folder(tmp_path)
    assert fit.best_ratio == pytest.approx(3, rel=0.2)
    assert (fitted_ratio(tmp_path, 2), fitted_ratio(tmp_path / "fit.json", 2)) == (fit.best_ratio, fit.best_ratio)
    with pytest.raises(RunError, match="the fit of step 1, but it is of step 2"):
        fitted_ratio(tmp_path, 1)


def test_missing_runs_are_named(folder):
    do(folder, [index for index in range(14) if index not in (4, 9)])
    with pytest.raises(RunError, match=r"2 of 14 runs give no performance: no result: 004, 009. Do them") as caught:
        fit_folder(folder)
    assert "--allow-missing" in str(caught.value)
    assert not (folder / "fit.json").exists()
    assert fit_folder(folder, allow_missing=True).runs == 12
    assert [line[:7] for line in json.loads((folder / "fit.json").read_text())["left_out"]] == ["run 004", "run 009"]


def test_undefined_runs_are_named(tmp_path):
    small(formula="mean").save(tmp_path)
    for index in pending(tmp_path):
        plcc = None if index == 6 else 0.5
        run_spec(tmp_path, index, lambda spec, _, p=plcc: {**parabola(spec, _), "srcc/a": 0.5, "plcc/a": p})
    with pytest.raises(RunError, match=r"run 006 \(ratio 1.5\): `metric plcc/a`: got <undefined>"):
        fit_folder(tmp_path)
    assert fit_folder(tmp_path, allow_missing=True).runs == 13


def test_too_many_missing_runs_make_no_curve(folder):
    do(folder, range(6))
    with pytest.raises(InputError, match=r"<3 distinct ratios>, expected degree \+ 2 = 4 or more"):
        fit_folder(folder, allow_missing=True)
    do(folder)
    with pytest.raises(InputError, match=r"degree \+ 2 = 8"):
        fit_folder(folder, degree=6)


def test_no_fit(tmp_path):
    with pytest.raises(RunError, match="`fit`: got"):
        fitted_ratio(tmp_path, 1)


# The commands


@pytest.fixture
def command(tmp_path, monkeypatch):
    """Call the three commands on 100 + 20 scoring rows of two sources, 300 rows of D2 and 200 of D3, none of them real."""
    from types import SimpleNamespace

    import typer
    from typer.testing import CliRunner

    from qsit_metric import console
    from train.commands.sweep import fit_command, plan_command, status_command
    from train.data.frozen import Frozen

    rows = [SimpleNamespace(source="mine")] * 100 + [SimpleNamespace(source="koniq")] * 20
    frozen = SimpleNamespace(
        counts=Sizes(120, 300, 200), digest="d" * 64, rows=lambda name: rows, val_questions=rows, val_scoring=rows
    )
    monkeypatch.setattr(Frozen, "load", staticmethod(lambda folder, images=None: frozen))
    app = typer.Typer(pretty_exceptions_enable=False)
    for name, function in (("plan", plan_command), ("fit", fit_command), ("status", status_command)):
        app.command(name)(function)

    def call(*words: object):
        for stream in (console.out, console.err):
            stream.cache_clear()  # the runner has streams of its own
        result = CliRunner().invoke(app, [str(word) for word in words])
        for stream in (console.out, console.err):
            stream.cache_clear()
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == 0, result.output
        return result.output

    return call


SMALL = ("--repeats", 2, "--degree", 2)


def test_the_commands_from_plan_to_ratio(command, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    said = command("plan", one, "--step", 1, "--grid", "0.25,0.5,0.75,1", *SMALL)
    assert "14 runs" in said
    assert f"{sum(run.sizes.total for run in Plan.load(one).runs):,} sample passes" in said
    assert "A800 hours" in said
    do(one, range(13))
    (one / "runs" / "013" / "train").mkdir(parents=True)
    assert "13 of 14 runs done, 1 begun" in command("status", one)
    assert "left_out" not in command("fit", one, "--allow-missing")
    do(one)
    assert "best ratio" in command("fit", one)
    command("plan", two, "--step", 2, "--step1", one, "--grid", "0.25,0.5,1,2", *SMALL)
    plan = Plan.load(two)
    assert plan.r_star == fitted_ratio(one, 1)
    assert (plan.counts, plan.data_digest, len(plan.recipe_digest)) == (Sizes(120, 300, 200), "d" * 64, 64)


def test_plan_counts_the_sources_that_the_recipe_takes(command, tmp_path):
    command("plan", tmp_path, "--step", 2, "--r", 2, "--grid", "0.5,1,2,3", *SMALL, "--set", "data.d1_sources=[mine]")
    assert Plan.load(tmp_path).counts.d1 == 100


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--step", 2), "`--step1, --r`: got (None, None), expected one of them in step 2"),
        (("--step", 2, "--r", 2, "--mean"), "`--mean`: got True, expected nothing in step 2"),
        (("--step", 1, "--r", 2), "`--r`: got 2.0, expected nothing in step 1"),
        (("--step", 1, "--grid", "a,b"), "`--grid`: got 'a,b', expected numbers with commas"),
        (("--step", 2, "--r", 0), "`r`: got 0.0, expected a finite number above 0"),
    ],
)
def test_refused_options(command, tmp_path, words, message):
    with pytest.raises(RecipeError) as caught:
        command("plan", tmp_path, *words)
    assert message in str(caught.value)


def test_the_edge_is_said(command, tmp_path):
    small().save(tmp_path)
    for index in pending(tmp_path):
        run_spec(tmp_path, index, lambda spec, _: {"accuracy": 0.05 * spec.ratio + spec.seed % 7 / 1e5})
    assert "the optimum may lie beyond it" in command("fit", tmp_path)
