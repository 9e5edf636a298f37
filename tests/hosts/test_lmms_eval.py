"""lmms-eval: found through the entry point, and its own evaluator runs its own Q-Bench task with it, offline.

What runs is the real package; only the data set, which is on the Hub, is replaced by two pictures of the golden set.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import random
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from conftest import GOLDEN, HERE, IMAGES
from qsit_metric import QSiT, list_models
from qsit_metric.errors import InputError
from test_benchmarks_peers import their_parse

from .needed import fresh, host

host("lmms_eval")

import datasets
import lmms_eval.models as models
from lmms_eval.api.instance import GenerationResult, Instance, unwrap_generation_output
from lmms_eval.evaluator import simple_evaluate
from lmms_eval.models.registry_v2 import ModelManifest
from lmms_eval.tasks import TaskManager, get_task_dict
from lmms_eval.tasks.qbench import utils as qbench

from qsit_metric.integrations import lmms_eval as ours

Model = ours.QSiT
MODEL = str(GOLDEN / "tied")
QUESTION = "Is this picture sharp?\nA. Yes\nB. No\nAnswer with the option's letter from the given choices directly.\n"
ROWS = [
    {"id": 0, "question": "Is this picture sharp?", "option0": "Yes", "option1": "No", "option2": "N/A", "option3": "N/A",
     "question_type": 0, "question_concern": 0, "correct_choice": "A"},
    {"id": 1, "question": "What is wrong with it?", "option0": "Noise", "option1": "Blur", "option2": "Dark", "option3": "N/A",
     "question_type": 2, "question_concern": 2, "correct_choice": "C"},
]  # fmt: skip
FILES = [IMAGES / "landscape_600x400.jpg", IMAGES / "tile_384.png"]


@pytest.fixture(scope="module")
def model() -> Model:
    return Model(pretrained=MODEL, device="cpu", batch_size="1")


@pytest.fixture
def docs(model, monkeypatch):
    """Documents of a task, put where the evaluator puts them."""
    rows = [{**row, "image": Image.open(file)} for row, file in zip(ROWS, FILES, strict=True)]
    monkeypatch.setattr(model, "task_dict", {"small": {"dev": rows}})
    return rows


def request(kind, *arguments, task="small", doc_id=0):
    metadata = {"task": task, "doc_id": doc_id, "repeats": 1}
    return Instance(request_type=kind, arguments=(*arguments, doc_id, task, "dev"), idx=0, metadata=metadata)


def generating(context=QUESTION, visual=lambda doc: [doc["image"]], doc_id=0, **settings):
    return request(
        "generate_until", context, {"max_new_tokens": 4, "until": ["\n\n"], **settings}, visual, doc_id=doc_id
    )


# --- registration


def test_the_installed_entry_point_is_ours():
    found = [entry for entry in importlib.metadata.entry_points(group="lmms_eval.models") if entry.name == "qsit"]
    assert {entry.load() for entry in found} == {ours.manifest}


def test_every_model_of_the_catalog_can_be_asked_for():
    assert {"qsit", *list_models("q-sit*")} <= set(models.list_available_models())
    for name in list_models("q-sit*"):
        kind = models.get_model(name)
        assert issubclass(kind, Model)
        assert kind.model == name
        assert kind is models.get_model(name, force_simple=True)
    assert models.get_model("qsit") is Model


def test_no_model_of_the_host_is_replaced():
    """The host lets a plugin overwrite its own."""
    theirs = {name for entry in models._build_builtin_manifests() for name in (entry.model_id, *entry.aliases)}
    assert theirs
    assert not theirs & {entry.model_id for entry in ours.manifest()}


def test_the_manifest_loads_neither_the_class_nor_a_model():
    code = """
import sys, lmms_eval.models as models
listed = "q-sit-mini" in models.list_available_models()
from qsit_metric.integrations import lmms_eval as ours
print(listed, ours._model_class.cache_info().currsize > 0, "qsit_metric.metric" in sys.modules)
"""
    assert fresh(code).splitlines()[-1] == "True False False"


def test_an_unsupported_version_fails_when_the_model_is_asked_for_and_not_before():
    """An entry point that fails would keep the host from reading those of others."""
    code = """
import importlib.metadata as metadata
real = metadata.version
import qsit_metric.packages as packages
packages.version = lambda name: "0.6.1" if name == "lmms-eval" else real(name)
import lmms_eval.models as models
print("q-sit-mini" in models.list_available_models())
try:
    models.get_model("q-sit-mini")
except ImportError as error:
    print(error)
"""
    found, *_, message = fresh(code).splitlines()  # the host logs between them
    assert found == "True"
    assert message == (
        "`lmms-eval`: got '0.6.1', expected lmms-eval >=0.7,<0.8. Install one of these: pip install 'lmms-eval>=0.7,<0.8'."
    )


def test_the_interface_is_the_simple_one():
    """The host checks it against the slot of the manifest, and raises a TypeError."""
    assert Model.is_simple
    entry = next(entry for entry in ours.manifest() if entry.model_id == "q-sit")
    assert entry == ModelManifest("q-sit", simple_class_path="qsit_metric.integrations.lmms_eval.q-sit")
    assert not Model.__abstractmethods__


def test_a_name_that_is_none():
    with pytest.raises(AttributeError, match="'q-sat'"):
        getattr(ours, "q-sat")


def test_it_is_built_from_model_args():
    built = Model.create_from_arg_string(
        f"pretrained={MODEL},dtype=bfloat16", {"batch_size": "1", "max_batch_size": None, "device": "cpu"}
    )
    assert (built.metric.info["model"], built.metric.info["dtype"]) == (MODEL, "bfloat16")
    assert (built.rank, built.world_size, built.device) == (0, 1, torch.device("cpu"))
    with pytest.raises(TypeError, match="pretrainde"):
        Model.create_from_arg_string("pretrainde=x")


def test_each_process_has_its_own_gpu(monkeypatch):
    own = ours._own

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert [own(device) for device in (None, "cuda", "cuda:0", "cpu")] == [
        "cuda:1",
        "cuda:1",
        "cuda:0",
        "cpu",
    ]
    monkeypatch.delenv("LOCAL_RANK")
    assert own(None) is None


# --- generate_until


def test_answers_are_those_of_ask(model, docs):
    results = model.generate_until([generating(), generating("Why?", doc_id=1), generating("What?")])
    asked = [(FILES[0], QUESTION), (FILES[1], "Why?"), (FILES[0], "What?")]
    expected = [model.metric.ask(file, text, max_new_tokens=4, exif=False) for file, text in asked]
    assert [result.text for result in results] == [str(answer).split("\n\n")[0] for answer in expected]
    assert [result.token_counts.output_tokens for result in results] == [len(answer.tokens) for answer in expected]
    assert all(isinstance(result, GenerationResult) for result in results)


def test_settings_are_shared_and_stay_as_they_are(model, docs):
    asked = generating(temperature=0, do_sample=False)
    before = dict(asked.args[1])
    model.generate_until([asked, asked])
    assert asked.args[1] == before


@pytest.mark.parametrize("until", [None, "b", ["zz", "b"], []])
def test_a_reply_ends_at_a_stop_text(model, docs, monkeypatch, until):
    from qsit_metric import metric
    from qsit_metric.results import Answer

    monkeypatch.setattr(metric.View, "ask", lambda *_, **__: Answer("a b c"))
    assert model.generate_until([generating(until=until)])[0].text == ("a " if until else "a b c")


@pytest.mark.parametrize(
    "settings",
    [{"do_sample": True, "temperature": 0.7}, {"temperature": 0.7}, {"do_sample": True}, {"num_beams": 3}],
)
def test_sampling_and_beams_are_refused(model, docs, settings):
    with pytest.raises(InputError, match="neither sampling nor beams"):
        model.generate_until([generating(**settings)])


@pytest.mark.parametrize(
    "settings", [{"do_sample": False, "temperature": 0.7}, {"do_sample": True, "temperature": 0}, {"num_beams": 1}]
)
def test_greedy_in_other_words(model, docs, settings):
    assert model.generate_until([generating(**settings)])


@pytest.mark.parametrize(
    "visuals", [[], None, ["clip.mp4"], [Image.new("RGB", (9, 9))] * 2], ids=["none", "null", "video", "two"]
)
def test_a_task_without_exactly_one_picture_is_refused_before_anything_is_computed(model, docs, monkeypatch, visuals):
    monkeypatch.setattr(model.metric.backend, "encode", lambda *_: pytest.fail("computed"))
    model.task_dict["other"] = model.task_dict["small"]
    bad = request("generate_until", "Why?", {}, lambda doc: visuals, task="other")
    with pytest.raises(InputError, match="one picture for each request"):
        model.generate_until([generating(), bad])


def test_a_picture_is_read_as_the_authors_do(model, docs):
    """Without its EXIF orientation, like the host's own models."""
    turned = Image.open(FILES[0]).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.info["exif"] = exif.tobytes()
    found = model.generate_until([generating(visual=lambda _: [turned]), generating()])
    assert found[0].text == found[1].text


def test_nothing_to_do(model):
    assert model.generate_until([]) == model.loglikelihood([]) == model.generate_until_multi_round([]) == []


# --- the other two


def test_rounds_until_the_task_has_enough(model, docs):
    seen = []

    def text(doc, previous_output, round_idx, previous_round_info):
        seen.append((list(previous_output), round_idx, previous_round_info))
        return [doc["image"]], f"Round {round_idx}?", round_idx == 2, previous_output, {"round": round_idx}

    asked = request("generate_until_multi_round", "First?", {"max_new_tokens": 3}, lambda doc: [doc["image"]], text)
    answers = model.generate_until_multi_round([asked])[0]
    expected = [str(model.metric.ask(FILES[0], q, max_new_tokens=3, exif=False)) for q in ("First?", "Round 1?")]
    assert answers == expected
    assert seen == [(expected[:1], 1, None), (expected, 2, {"round": 1})]
    assert unwrap_generation_output(answers) == (expected, None)


def test_likelihoods_have_the_hosts_sign(model, docs):
    """Its multiple-choice tasks take the smallest value, whatever its documentation says."""
    options = [" A", " B", "C\n", " A and B"]
    asked = [request("loglikelihood", QUESTION, option, lambda doc: [doc["image"]]) for option in options]
    found = model.loglikelihood(asked)
    answer = model.metric.ask(FILES[0], QUESTION, choices=[o.strip() for o in options], method="texts", exif=False)
    weights = torch.tensor([-value for value, _ in found]).softmax(0).tolist()
    assert weights == pytest.approx(list(answer.probs.values()), abs=1e-4)
    assert all(value > 0 for value, _ in found)
    assert [greedy for _, greedy in found] == [False] * 4


def test_the_greedy_answer_is_recognised(model, docs, monkeypatch):
    from qsit_metric.backends.base import Reply

    texts = {"short": Reply("A", (1, 2), True), "cut": Reply("A", (1,), False)}
    for name, expected in (("short", [True, False]), ("cut", [False, False])):
        monkeypatch.setattr(model.metric.backend, "generate", lambda *_, reply=texts[name]: [reply])
        asked = [
            request("loglikelihood", "Why?", lambda _doc, o=o: o, lambda doc: [doc["image"]]) for o in (" A", " B")
        ]
        assert [greedy for _, greedy in model.loglikelihood(asked)] == expected


def test_questions_are_kept_apart(model, docs):
    one = [request("loglikelihood", "One?", o, lambda doc: [doc["image"]]) for o in ("A", "B")]
    two = [request("loglikelihood", "Two?", o, lambda doc: [doc["image"]], doc_id=1) for o in ("A", "B")]
    assert model.loglikelihood([*one, *two]) == [*model.loglikelihood(one), *model.loglikelihood(two)]


def test_an_empty_continuation_is_refused(model, docs):
    with pytest.raises(InputError, match="`continuation`"):
        model.loglikelihood([request("loglikelihood", "One?", " ", lambda doc: [doc["image"]])])


# --- Q-Bench


@pytest.fixture(scope="module")
def tasks() -> TaskManager:
    """The host's own Q-Bench tasks; reading those of all its benchmarks takes it half a minute."""
    return TaskManager("ERROR", str(Path(qbench.__file__).parent), include_defaults=False, model_name="qsit")


@pytest.fixture
def hub(monkeypatch):
    """The Hub, as far as these tests: Q-Bench with two rows."""
    pictures = [{**row, "image": str(file)} for row, file in zip(ROWS, FILES, strict=True)]
    small = datasets.Dataset.from_list(pictures).cast_column("image", datasets.Image())

    def load(path, *_, **__):
        assert path == "q-future/Q-Bench-HF"
        return datasets.DatasetDict({"dev": small})

    monkeypatch.setattr(datasets, "load_dataset", load)


def test_the_prompt_and_the_fields_of_q_bench(hub, tasks):
    task = get_task_dict(["qbench_dev"], tasks, "simple")["qbench_dev"]
    settings = task.config.generation_kwargs
    assert (settings["max_new_tokens"], settings["temperature"], settings["do_sample"]) == (32, 0, False)
    doc = task.dataset["dev"][1]
    assert task.doc_to_text(doc) == (
        "What is wrong with it?\nA. Noise\nB. Blur\nC. Dark\nAnswer with the option's letter from the given choices directly.\n"
    )
    assert [picture.mode for picture in task.doc_to_visual(doc)] == ["RGB"]
    assert task.doc_to_target(doc) == "C"


def test_the_protocol_differs_from_the_authors_in_its_closing_instruction():
    from qsit_metric.prompts import multiple_choice

    theirs = qbench.q_bench_doc_to_text(ROWS[1], {"pre_prompt": "", "post_prompt": ""})
    assert theirs == multiple_choice(ROWS[1]["question"], ["Noise", "Blur", "Dark"])


def test_an_answer_that_names_no_option_is_guessed_for_by_the_host(monkeypatch):
    """Said on the page: accuracies of weak models are those of a guess."""
    monkeypatch.setattr(qbench.random, "choice", lambda options: options[-1])
    assert qbench.q_bench_process_results(ROWS[0], ["fine"])["qbench_acc"]["parsed_pred"] == "B"


def test_what_guessing_gives_on_the_questions_of_q_bench():
    """The number on the page; the shares of two, three and four options follow from the published random guesses."""
    three = [round(count * 12 * (guess - 1 / 4)) for count, guess in ((452, 0.2786), (493, 0.3331))]
    options = [2] * 550 + [3] * sum(three) + [4] * (452 + 493 - sum(three))
    words = ["Sharp", "Average", "Blurred", "Noisy"]
    options *= 20  # one round through the questions is up to 2.5 points off once in twenty times
    random.seed(0)
    right = 0
    for count in options:
        letters = "ABCD"[:count]
        guessed = qbench.parse_multi_choice_response("", letters, dict(zip(letters, words, strict=False)))
        right += guessed == random.choice(letters)
    assert right / len(options) == pytest.approx(0.378, abs=0.01)


WORDS = (
    "A",
    "B",
    "(C)",
    "D.",
    "A.",
    "C,",
    "the",
    "answer",
    "is",
    "sharp",
    "Blurred",
    "not",
    "visible",
    "B)",
    ".",
    "Noisy!",
)


@settings(deadline=None, max_examples=400)
@given(st.lists(st.sampled_from(WORDS), max_size=9), st.integers(2, 4))
def test_what_the_peers_tests_take_for_the_hosts_parser_is_it(words, count):
    """`their_parse` of tests/test_benchmarks_peers.py, against which the rules of this package are held."""
    reply, choices, letters = " ".join(words), ("Sharp", "Blurred", "Noisy", "Dark")[:count], "ABCD"[:count]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(random, "choice", lambda _: "at random")
        theirs = qbench.parse_multi_choice_response(reply, list(letters), dict(zip(letters, choices, strict=True)))
    place = their_parse(reply, choices)
    assert theirs == ("at random" if place is None else letters[place])


def test_two_letters_are_told_apart_since_0_7_3():
    """Up to 0.7.2 the task did not import numpy, and failed here."""
    if importlib.metadata.version("lmms-eval") in ("0.7", "0.7.1", "0.7.2"):
        pytest.skip("known bug of this version")
    assert qbench.q_bench_process_results(ROWS[0], ["A or B"])["qbench_acc"]["parsed_pred"] == "B"


def test_the_hosts_evaluator_runs_q_bench(hub, tasks, monkeypatch):
    replies = iter(["A", "The answer is B."])
    from qsit_metric import metric
    from qsit_metric.results import Answer

    asked = []

    def ask(self, question, **settings):
        asked.append((question, settings, self.size))
        return Answer(next(replies))

    monkeypatch.setattr(metric.View, "ask", ask)
    args = SimpleNamespace(process_with_media=False, agentic_trace_mode="basic")
    found = simple_evaluate("qsit", f"pretrained={MODEL}", tasks=["qbench_dev"], batch_size="1", device="cpu",
                            task_manager=tasks, verbosity="ERROR", cli_args=args, process_docs_parallel=1)  # fmt: skip
    assert found["results"]["qbench_dev"]["qbench_acc,none"] == 0.5
    assert [size for *_, size in asked] == [Image.open(file).size for file in FILES]
    assert asked[0][0] == QUESTION
    assert asked[0][1] == {"max_new_tokens": 32}
    logged = found["samples"]["qbench_dev"]
    assert [sample["filtered_resps"] for sample in logged] == [["A"], ["The answer is B."]]


def test_the_hosts_evaluator_with_a_real_model(hub, tasks):
    args = SimpleNamespace(process_with_media=False, agentic_trace_mode="basic")
    found = simple_evaluate("qsit", f"pretrained={MODEL}", tasks=["qbench_dev"], batch_size="1", device="cpu",
                            task_manager=tasks, verbosity="ERROR", cli_args=args, process_docs_parallel=1, gen_kwargs="max_new_tokens=3")  # fmt: skip
    replies = [sample["resps"][0][0] for sample in found["samples"]["qbench_dev"]]
    metric = QSiT(MODEL, device="cpu")
    prompts = [
        QUESTION,
        QUESTION.replace(QUESTION.split("Answer")[0], "What is wrong with it?\nA. Noise\nB. Blur\nC. Dark\n"),
    ]
    expected = [
        metric.ask(Image.open(f).convert("RGB"), p, max_new_tokens=3) for f, p in zip(FILES, prompts, strict=True)
    ]
    assert replies == [str(answer).split("\n\n")[0] for answer in expected]
    parsed = [sample["qbench_acc"]["parsed_pred"] for sample in found["samples"]["qbench_dev"]]
    right = [guess == row["correct_choice"] for guess, row in zip(parsed, ROWS, strict=True)]
    assert found["results"]["qbench_dev"]["qbench_acc,none"] == pytest.approx(sum(right) / len(right))


def test_two_ranks_share_the_questions():
    """As `accelerate launch --num_processes 2` starts them: the host divides, gathers, and the first one reports."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    path = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH", "")]))
    common = {"PYTHONPATH": path, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port,
              "ACCELERATE_USE_CPU": "true", "CUDA_VISIBLE_DEVICES": ""}  # fmt: skip
    ranks = [
        subprocess.Popen(
            [sys.executable, "-m", "hosts.two_ranks"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, **common, "RANK": rank, "LOCAL_RANK": rank},
        )
        for rank in "01"
    ]  # fmt: skip
    said = [rank.communicate(timeout=300) for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], said[0][1] + said[1][1]
    first, second = (json.loads(out.strip().splitlines()[-1]) for out, _ in said)
    assert (first["asked"], second["asked"]) == (1, 1)
    assert (first["samples"], second["samples"]) == (2, None)


def test_the_family_that_the_page_speaks_of_is_there_without_us():
    assert "llava_hf" in models.list_available_models(include_aliases=True)


def test_tasks_with_two_pictures_are_refused_by_name(model, monkeypatch):
    """qbench2_dev, which the group qbenchs_dev contains."""
    row = {**ROWS[0], "image1": Image.open(FILES[0]), "image2": Image.open(FILES[1])}
    monkeypatch.setattr(model, "task_dict", {"qbench2_dev": {"dev": [row]}})
    asked = request("generate_until", QUESTION, {}, qbench.q_bench_doc_to_visual, task="qbench2_dev")
    with pytest.raises(InputError, match="qbench2_dev"):
        model.generate_until([asked])
