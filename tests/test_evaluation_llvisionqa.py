"""LLVisionQA: both formats, the published counts, and the rules with their quirks."""

from __future__ import annotations

import builtins
import json

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qsit_metric import Answer
from qsit_metric.errors import DependencyError
from qsit_metric.evaluation import (
    EvaluationError,
    Question,
    check_counts,
    extract_images,
    read_llvisionqa,
    write_llvisionqa,
)
from qsit_metric.evaluation import multiple_choice as rules
from qsit_metric.evaluation.qbench import CONCERNS, PUBLISHED, TYPES
from qsit_metric.prompts import LETTERS

LIGHT = {
    "img_path": "00001.jpg",
    "question": "How is the lighting of this building?",
    "candidates": ["High", "Low", "Medium"],
    "correct_ans": "Low",
    "type": 2,
    "concern": 3,
}
PNG, JPG = b"\x89PNG\r\n\x1a\n-one", b"\xff\xd8\xff\xe0-two"


def dumped(tmp_path, *rows):
    path = tmp_path / "llvisionqa_dev.json"
    path.write_text(json.dumps(rows))
    return path


def test_json(tmp_path):
    withheld = {key: value for key, value in LIGHT.items() if key != "correct_ans"} | {"type": "0", "concern": "0"}
    questions = read_llvisionqa(
        dumped(tmp_path, LIGHT, withheld, {**LIGHT, "correct_ans": None, "id": 77, "type": 1, "concern": 1})
    )
    assert questions[0] == Question(
        "0", "00001.jpg", LIGHT["question"], ("High", "Low", "Medium"), 1, "how", "in-context other"
    )
    assert [(one.id, one.answer, one.type, one.concern) for one in questions[1:]] == [
        ("1", None, "yes-no", "distortion"),
        ("77", None, "what", "other"),
    ]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ({"correct_ans": "low"}, "row 1: correct_ans 'low' is none of"),
        ({"candidates": ["High"], "correct_ans": "High"}, r"row 1: `candidates`: got \('High',\), expected 2 to 26"),
        ({"candidates": "High", "correct_ans": "H"}, "row 1: candidates are 'High', expected a list"),
        ({"candidates": ["High", " "], "correct_ans": "High"}, "row 1: `candidates`"),
        ({"type": 3}, "row 1: `type`: got 3, expected a number from 0 to 2"),
        ({"concern": "distortion"}, "row 1: `concern`: got 'distortion', expected a number from 0 to 3"),
        ({"question": " "}, "row 1: `question`"),
        ({"img_path": "../a.jpg"}, "row 1: `img_path`"),
    ],
)
def test_rows_that_cannot_be_used(tmp_path, edit, message):
    with pytest.raises(EvaluationError, match=f"1 of 2 questions cannot be used: {message}"):
        read_llvisionqa(dumped(tmp_path, LIGHT, {**LIGHT, **edit}))


def test_rows_that_cannot_be_used_may_be_collected(tmp_path):
    refused = []
    path = dumped(tmp_path, {**LIGHT, "correct_ans": "low"}, LIGHT, {**LIGHT, "type": 3})
    questions = read_llvisionqa(path, path, refused=refused)
    assert [one.id for one in questions] == ["1", "4"]  # places in the files, whatever was left out before
    assert [reason[:19] for reason in refused] == ["row 0: correct_ans ", "row 2: `type`: got "] * 2
    with pytest.raises(EvaluationError, match="1 of 1 question cannot be used"):
        read_llvisionqa(dumped(tmp_path, {**LIGHT, "type": 3}), refused=refused)


def test_rows_without_fields_and_other_files(tmp_path):
    with pytest.raises(
        EvaluationError, match="2 of 2 questions cannot be used: row 0: no img_path and no question.*; row 1: it is 7"
    ):
        read_llvisionqa(dumped(tmp_path, {"type": 0, "concern": 0, "candidates": []}, 7))
    with pytest.raises(EvaluationError, match="No such file"):
        read_llvisionqa(tmp_path / "none.json")
    with pytest.raises(EvaluationError, match="at least one element"):
        read_llvisionqa(dumped(tmp_path))


def test_a_question_checks_itself():
    good = ("0", "a.jpg", "Sharp?", ("Yes", "No"), 1, "yes-no", "distortion")
    assert Question(*good[:3], ["Yes", "No"], *good[4:]).choices == ("Yes", "No")
    with pytest.raises(EvaluationError, match="`answer`: got 2, expected None or 0 to 1"):
        Question(*good[:4], 2, *good[5:])
    with pytest.raises(EvaluationError, match="`type, concern`: got"):
        Question(*good[:5], "what?", "other")


texts = st.text("abcü'\"\n", min_size=1, max_size=6).filter(str.strip)


@given(
    st.lists(
        st.tuples(
            texts,
            st.lists(texts, min_size=2, max_size=4, unique=True),
            st.integers(-1, 1),
            st.sampled_from(TYPES),
            st.sampled_from(CONCERNS),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_writing_and_reading_gives_the_same(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("q") / "q.json"
    questions = [
        Question(str(i), f"{i}.jpg", q, tuple(c), None if a < 0 else a, t, n) for i, (q, c, a, t, n) in enumerate(rows)
    ]
    write_llvisionqa(path, questions)
    assert read_llvisionqa(path) == questions


def table(path, rows, **columns):
    names = (
        "id",
        "image",
        "question",
        "option0",
        "option1",
        "option2",
        "option3",
        "question_type",
        "question_concern",
        "correct_choice",
    )
    fields = {name: [row[place] for row in rows] for place, name in enumerate(names)} | columns
    pyarrow.parquet.write_table(pyarrow.table({key: value for key, value in fields.items() if value is not None}), path)
    return path


def hub(tmp_path, image=None, **columns):
    images = image or [{"bytes": JPG, "path": "00001.jpg"}, {"bytes": PNG, "path": None}]
    rows = [
        (4, images[0], LIGHT["question"], "High", "Low", "Medium", "N/A", "2", "3", "B"),
        (5, images[1], "Is it sharp?", "Yes", "No", "N/A", "N/A", "0", "0", "N/A"),
    ]
    return table(tmp_path / "dev.parquet", rows, **columns)


def test_parquet_of_the_hub(tmp_path):
    path = hub(tmp_path)
    questions = read_llvisionqa(path)
    assert questions[0] == Question(
        "4", "00001.jpg", LIGHT["question"], ("High", "Low", "Medium"), 1, "how", "in-context other"
    )
    assert questions[1] == Question("5", "5.png", "Is it sharp?", ("Yes", "No"), None, "yes-no", "distortion")
    paths = extract_images(path, tmp_path / "images")
    assert [(one.name, one.read_bytes()) for one in paths] == [("00001.jpg", JPG), ("5.png", PNG)]
    before = paths[0].stat().st_mtime_ns
    assert extract_images(path, tmp_path / "images") == paths
    assert paths[0].stat().st_mtime_ns == before
    assert len(read_llvisionqa(path, path)) == 4


def test_parquet_with_bare_bytes_numbers_and_without_answers(tmp_path):
    path = hub(tmp_path, [JPG, PNG], question_type=[2, 0], question_concern=[3, 0], correct_choice=None, id=None)
    assert [(one.id, one.image, one.answer) for one in read_llvisionqa(path)] == [
        ("0", "0.jpg", None),
        ("1", "1.png", None),
    ]
    assert [one.read_bytes() for one in extract_images(path, tmp_path / "x")] == [JPG, PNG]


def test_a_path_inside_parquet_leads_nowhere_else(tmp_path):
    path = hub(tmp_path, [{"bytes": JPG, "path": "../../00001.jpg"}, {"bytes": PNG, "path": "/etc/2.png"}])
    assert [one.image for one in read_llvisionqa(path)] == ["00001.jpg", "2.png"]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"correct_choice": ["D", "A"]}, "row 0: correct_choice 'D' is none of A, B, C"),
        ({"correct_choice": ["AB", "A"]}, "row 0: correct_choice 'AB' is none"),
        ({"option0": ["N/A", "Yes"]}, "row 0: an option is missing"),
        ({"option1": ["Low", "N/A"]}, r"row 1: `option0 to option3`: got \('Yes',\)"),
        (
            {"image": [b"text", b"text"]},
            "2 of 2 questions cannot be used: row 0: `image`: got b'text', expected a picture in JPEG",
        ),
    ],
)
def test_parquet_rows_that_cannot_be_used(tmp_path, columns, message):
    with pytest.raises(EvaluationError, match=message):
        read_llvisionqa(hub(tmp_path, **columns))


def test_other_parquet_files(tmp_path):
    with pytest.raises(EvaluationError, match="a table with the columns question_type"):
        read_llvisionqa(hub(tmp_path, question_type=None))
    (tmp_path / "x.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(EvaluationError, match="a parquet file"):
        read_llvisionqa(tmp_path / "x.parquet")


def test_pictures_are_never_written_over(tmp_path):
    path = hub(tmp_path, [{"bytes": JPG, "path": "1.jpg"}, {"bytes": PNG, "path": "1.jpg"}])
    with pytest.raises(EvaluationError, match=r"`folder`: got .*1.jpg', expected the picture of row 1"):
        extract_images(path, tmp_path / "images")
    assert (tmp_path / "images" / "1.jpg").read_bytes() == JPG
    empty = hub(tmp_path, [{"bytes": None, "path": "1.jpg"}, {"bytes": PNG, "path": "2.jpg"}])
    with pytest.raises(EvaluationError, match="the bytes of picture 1.jpg in row 0"):
        extract_images(empty, tmp_path / "other")


def test_without_pyarrow_the_extra_is_named(tmp_path, monkeypatch):
    path, real = hub(tmp_path), builtins.__import__

    def absent(name, *args):
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real(name, *args)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(DependencyError, match=r"pyarrow to be installed, .* pip install 'qsit-metric\[eval\]'"):
        read_llvisionqa(path)


# Twelfths above 1/4 in each group's sum of 1/options: the whole numbers that come nearest to the published percentages
# and have one total for types and concerns.
TWELFTHS = {
    "dev": ((1650, 155, 492), (795, 699, 485, 318)),
    "test": ((1644, 193, 484), (765, 679, 495, 382)),
}


def published(split):
    """Questions with the published counts and random-guess rows: of 2 and 4 options, and two of 3."""
    kinds, concerns = (
        [
            name
            for options in (2, 3, 4)
            for name, twelfths in zip(names, numbers, strict=True)
            for _ in range(options_of(split, name, twelfths)[options])
        ]
        for names, numbers in zip((TYPES, CONCERNS), TWELFTHS[split], strict=True)
    )
    counts = [
        sum(options_of(split, name, number)[options] for name, number in zip(TYPES, TWELFTHS[split][0], strict=True))
        for options in (2, 3, 4)
    ]
    sizes = [options for options, count in zip((2, 3, 4), counts, strict=True) for _ in range(count)]
    rows = zip(kinds, concerns, sizes, strict=True)
    return [
        Question(str(i), f"{i}.jpg", "Q?", tuple("wxyz"[:size]), 0, kind, concern)
        for i, (kind, concern, size) in enumerate(rows)
    ]


def options_of(split, name, twelfths):
    twos, threes = divmod(twelfths, 3)
    return {2: twos, 3: threes, 4: PUBLISHED[split][name][0] - twos - threes}


def test_the_published_counts_are_accepted_and_nothing_else():
    dev = published("dev")
    check_counts(dev, "dev")
    check_counts(published("test"), "test")
    with pytest.raises(EvaluationError, match="LLVisionQA-test as published"):
        check_counts(dev, "test")
    with pytest.raises(EvaluationError, match="all: 1494, published are 1495"):
        check_counts(dev[1:], "dev")
    first = dev[-1]
    swapped = [*dev[:-1], Question(first.id, first.image, "Q?", ("w", "x"), 0, first.type, first.concern)]
    with pytest.raises(EvaluationError, match="a random guess has .* published are"):
        check_counts(swapped, "dev")
    with pytest.raises(EvaluationError, match="`split`: got 'val', expected one of dev, test"):
        check_counts(dev, "val")


def test_the_published_numbers_add_up():
    for rows in PUBLISHED.values():
        for names in (TYPES, CONCERNS):
            assert sum(rows[name][0] for name in names) == rows["all"][0] == 1495
            mean = sum(rows[name][0] * rows[name][1] for name in names) / 1495
            assert mean == pytest.approx(rows["all"][1], abs=0.01)


CHOICES = ["Sharp", "Blurry", "Noisy"]


@pytest.mark.parametrize(
    ("reply", "answer", "right"),
    [
        ("A", 0, True),  # a line that is the letter: clause 4 does the work
        ("B", 0, False),
        ("A. Sharp", 0, True),  # the letter with a full stop
        ("It is A.", 0, True),
        ("Well\nA\nyes", 0, True),
        (" A", 0, False),  # the line is not just the letter
        ("Sharp", 0, False),  # the text begins with a line break, so clause 3 never fires
        ("sharp", 0, False),
        ("not A.", 0, True),  # what precedes the letter is not read
        ("A. or B.", 1, True),  # naming others does no harm
        ("CPU.", 0, False),
        ("NBA.", 0, True),  # any full stop behind the letter will do
        ("A: Sharp", 0, False),
        ("(A)", 0, False),
        ("A)", 0, False),
        ("a.", 0, False),
        ("", 0, False),
        ("A. as an assistant", 0, False),  # the split keeps what follows the last "assistant"
        ("I am your assistantA", 0, True),  # ... which then begins without a line break
        ("an assistantSharp", 0, True),
    ],
)
def test_the_authors_rule_with_its_quirks(reply, answer, right):
    assert rules.authors(reply, CHOICES, answer) is right


def test_an_option_with_the_word_assistant_breaks_the_authors_split():
    choices = ["The assistant", "Blurry"]
    assert rules.authors("A. The assistant", choices, 0) is False
    assert rules.authors("A. Blurry", choices, 0) is True


def test_a_text_that_stands_twice_counts_as_the_first():
    assert rules.authors("A", ["Sharp", "Sharp"], 1) is True
    assert rules.authors("B", ["Sharp", "Sharp"], 1) is False


def test_the_answer_must_be_an_option():
    with pytest.raises(EvaluationError, match="`answer`: got 3, expected an index of one of 3 choices"):
        rules.authors("A", CHOICES, 3)


def script(decoded, choices, answer):
    """The rule as section 5 of our notes words it, on prompt and reply decoded together."""
    text = decoded.split("assistant")[-1]
    letter = LETTERS[choices.index(choices[answer])]
    return text == letter or letter + "." in text or text == choices[answer] or letter in text.split("\n")


@given(st.text("AB. \nassistant", max_size=12), st.integers(0, 1))
def test_the_authors_rule_is_the_script(reply, answer):
    choices = ["stat", "B"]
    prompt = "user \nSharp?\nA. stat\nB. B\nassistant\n"
    assert rules.authors(reply, choices, answer) == script(prompt + reply, choices, answer)


@pytest.mark.parametrize(
    ("reply", "index"),
    [
        ("A", 0), ("B.", 1), ("(C)", 2), ("C: noisy", 2), (" B) it is", 1), ("B is right", 1), ("B\nbecause", 1),
        ("A Sharp", 0), ("A\nSharp", 0), ("A bit noisy", 2), ("A noisy image", 2), ("A picture", None),
        ("D", None), ("D. Noisy", 2), ("a", None), ("AB", None), ("", None), ("The answer is B", None),
        ("sharp", 0), ("It looks BLURRY.", 1), ("sharp or blurry", None), ("sharpness", None), ("unblurry", None),
        ("Apple", None), ("I am not sure", None),
    ],
)  # fmt: skip
def test_the_strict_rule(reply, index):
    assert rules.strict(reply, CHOICES) == index


def test_an_exact_text_wins_over_one_inside_it():
    choices = ["Blurry", "Not blurry", "C++ (odd)"]
    assert rules.strict("not blurry.", choices) == 1
    assert rules.strict("it is not blurry", choices) is None
    assert rules.strict("c++ (odd)", choices) == 2


def test_rules_by_name():
    assert rules.is_correct("logits", Answer("Blurry", "Blurry"), CHOICES, 1)
    assert not rules.is_correct("logits", Answer("?", None), CHOICES, 1)
    assert rules.is_correct("strict", Answer("blurry"), CHOICES, 1)
    assert not rules.is_correct("authors", Answer("blurry"), CHOICES, 1)
    with pytest.raises(EvaluationError, match="`rule`: got 'gpt', expected one of logits, authors, strict"):
        rules.check_rule("gpt")
