"""The same items through two other evaluators, as they work, beside ours: lmms-eval's Q-Bench task and pyiqa's loop.

Neither package is needed: what they do is said here in our words, from reading them.

- lmms-eval, tasks/qbench/utils.py and qbench_dev.yaml (0.7.2): the question and its lettered options, then a sentence
  that asks for the letter; 32 tokens; the reply is parsed as MMMU does. Type numbers 0, 1, 2 are called Yes/No, How,
  What there; the maintainer of Q-Bench says yes-no, what, how (its issue 8), which is ours.
- pyiqa, benchmark_results.py (0.1.16): float batches in [0, 1] on the CPU go to the metric as they are; correlations
  are scipy's, without a fit; a metric that fails on a batch loses it unseen.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a program of the checkout, which nobody installs

from benchmarks.runs import score_run
from qsit_metric.evaluation import Item, Manifest, Question, correlate
from qsit_metric.evaluation.multiple_choice import authors, strict
from qsit_metric.prompts import LETTERS, multiple_choice

CLOSING = "Answer with the option's letter from the given choices directly.\n"
ITEMS = [
    Question("0", "a.png", "How is the lighting of this building?", ("High", "Low", "Medium"), 1, "how", "other"),
    Question("1", "b.png", "Is the sky noisy?", ("Yes", "No"), 0, "yes-no", "in-context distortion"),
    Question("2", "c.png", "What is worst?", ("Blur", "Noise", "Darkness", "Overexposure"), 3, "what", "distortion"),
]


# ---- lmms-eval


def their_row(one: Question) -> dict[str, str]:
    """A question as the rows of q-future/Q-Bench-HF have it: four options, those that are not there called N/A."""
    options = [*one.choices, *["N/A"] * (4 - len(one.choices))]
    return {"question": one.question, **{f"option{place}": option for place, option in enumerate(options)}}


def their_prompt(row: dict[str, str]) -> str:
    """What lmms-eval asks."""
    options = [row[f"option{place}"] for place in range(4) if row[f"option{place}"] != "N/A"]
    lettered = [f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=False)]
    return "\n".join([row["question"], *lettered, CLOSING])


def their_parse(reply: str, choices: tuple[str, ...]) -> int | None:
    """Which option lmms-eval reads in a reply; None where it draws one at random.

    Marks at both ends go; then `(A)`, else a letter before a space, else a letter before a full stop, else, in replies
    of more than five words, an option's text anywhere. Of several the one that stands last; letters before a space are
    looked for as words of their own then, and the first of those that are nowhere wins.
    """
    for mark in ",.!?;:'":
        reply = reply.strip(mark)
    text = f" {reply} "
    letters = LETTERS[: len(choices)]
    last = {"({})": "({})", "{} ": " {} ", "{}.": " {} "}
    for form, place in last.items():
        if named := [letter for letter in letters if form.format(letter) in text]:
            ends = [text.rfind(place.format(letter)) for letter in named]
            return letters.index(named[0] if len(named) == 1 else named[int(np.argmax(ends))])
    lower = [choice.lower() for choice in choices]
    if len(text.split()) > 5 and (found := [place for place, choice in enumerate(lower) if choice in text.lower()]):
        return max(found, key=lambda place: (text.lower().rfind(lower[place]), -place))
    return None


@pytest.mark.parametrize("one", ITEMS, ids=lambda one: one.id)
def test_their_prompt_is_ours_with_a_closing_sentence(one):
    """The one difference: the authors of Q-SiT do not ask for the letter alone, and leave 200 tokens, not 32."""
    assert their_prompt(their_row(one)) == multiple_choice(one.question, one.choices) + CLOSING


@pytest.mark.parametrize(
    ("reply", "theirs", "named", "right"),
    [
        # what a model that was taught to write letters says: all three agree
        ("B. Low", 1, 1, True),
        ("B", 1, 1, True),
        ("B.", 1, 1, True),
        ("A. High", 0, 0, False),
        ("C.\nMedium", 2, 2, False),
        # where the authors' rule differs from both parsers
        ("(B)", 1, 1, False),
        ("(B) Low", 1, 1, False),
        ("B: Low", None, 1, False),
        ("B) Low", None, 1, False),
        # the option's text alone: ours reads it, theirs draws lots, the authors' template makes it wrong
        ("Low", None, 1, False),
        ("The lighting of this building is low", 1, 1, False),
        # several options: theirs takes the last, ours the letter in front, else none; to the authors' rule a reply is
        # right if the right option is among those that it names
        ("A. or B.", 1, 0, True),
        ("High or low, that depends on the time", 1, None, False),
        # no option at all
        ("The building is old", None, None, False),
    ],
)
def test_replies_through_their_parser_and_our_rules(reply, theirs, named, right):
    one = ITEMS[0]
    assert their_parse(reply, one.choices) == theirs
    assert strict(reply, one.choices) == named
    assert authors(reply, one.choices, one.answer) is right


def test_where_their_parser_takes_an_article_for_a_letter():
    """ "A" before another word is option A to lmms-eval; ours knows the article."""
    one = ITEMS[1]
    reply = "A lot of noise, so yes"
    assert their_parse(reply, one.choices) == 0
    assert strict(reply, one.choices) == 0, "by its text"
    reply = "A clean sky, so no"
    assert (their_parse(reply, one.choices), strict(reply, one.choices)) == (0, 1)
    choices = ("Blur", "Noise", "A dark sky")
    reply = "C. A dark sky"
    assert (their_parse(reply, choices), strict(reply, choices)) == (0, 2)
    assert authors(reply, choices, 2)


def test_both_ways_agree_on_what_the_authors_prompt_asks_for():
    """A reply that begins with its letter and a full stop is read alike, whatever option it is and however long."""
    for one in ITEMS:
        for place, choice in enumerate(one.choices):
            for reply in (f"{LETTERS[place]}. {choice}", f"{LETTERS[place]}. {choice}.", f"{LETTERS[place]}"):
                assert their_parse(reply, one.choices) == strict(reply, one.choices) == place, reply
                for answer in range(len(one.choices)):
                    assert authors(reply, one.choices, answer) is (answer == place), reply


def test_a_model_through_both(tied, tmp_path):
    """One model, one picture: both prompts are asked as they are, and ours is the beginning of theirs."""
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    with tied.open(tmp_path / "a.png", exif=False) as view:
        for one in ITEMS[:1]:
            prompts = [multiple_choice(one.question, one.choices), their_prompt(their_row(one))]
            replies = view.ask(prompts, max_new_tokens=3)
            singles = [tied.ask(tmp_path / "a.png", prompt, max_new_tokens=3, exif=False) for prompt in prompts]
            assert [str(reply) for reply in replies] == [str(reply) for reply in singles]


# ---- pyiqa


def their_loop(metric, batches) -> dict[str, float]:
    """pyiqa's evaluation: every batch through the metric, and scipy's correlations, rounded as it prints them."""
    scores, labels = [], []
    for batch in batches:
        scores += metric(batch["img"]).squeeze().reshape(-1).tolist()
        labels += batch["mos_label"].reshape(-1).tolist()
    if metric.lower_better:
        scores = [-score for score in scores]
    statistics = {"PLCC": scipy.stats.pearsonr, "SRCC": scipy.stats.spearmanr, "KRCC": scipy.stats.kendalltau}
    return {name: round(float(statistic(scores, labels)[0]), 4) for name, statistic in statistics.items()}


def their_data(manifest: Manifest, size: int):
    """pyiqa's loader: pictures as float tensors in [0, 1]."""
    for start in range(0, len(manifest), size):
        items = manifest.items[start : start + size]
        pixels = [np.asarray(Image.open(manifest.path(item)).convert("RGB"), dtype=np.float32) / 255 for item in items]
        tensor = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2)
        yield {"img": tensor, "mos_label": torch.tensor([[item.mos] for item in items])}


@pytest.mark.parametrize("size", [1, 3])
def test_the_metric_goes_through_pyiqas_loop_unchanged(tied, tmp_path, size):
    random = np.random.default_rng(1)
    items = []
    for place in range(7):
        pixels = random.normal(128, 12 * place + 1, (36, 48, 3)).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{place}.png")
        items.append(Item(f"{place}.png", float(random.uniform(1, 5)), str(place)))
    manifest = Manifest("seven", items, tmp_path)
    theirs = their_loop(tied, their_data(manifest, size))
    rows = score_run(tied, manifest, tmp_path / "run").good
    found = correlate([row["score"] for row in rows], [row["mos"] for row in rows])
    assert theirs == {
        "PLCC": pytest.approx(found.plcc, abs=2e-4), "SRCC": round(found.srcc, 4), "KRCC": round(found.krcc, 4)
    }  # fmt: skip
    assert (tied.lower_better, tied.metric_mode) == (False, "NR")


def test_a_batch_that_fails_is_seen_with_us(tied, tmp_path):
    """pyiqa drops it; a run names it and goes on."""
    Image.new("RGB", (20, 20)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no picture")
    manifest = Manifest("two", [Item("a.png", 1, "a"), Item("b.png", 2, "b")], tmp_path)
    found = score_run(tied, manifest, tmp_path / "run")
    assert [row["id"] for row in found.good] == ["a"]
    assert re.search("b.png", found.failed[0]["error"])
