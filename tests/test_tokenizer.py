"""Our tokenizer against the one of transformers: the same ids, the same text, from every kind of folder."""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from qsit_metric.backends.tokenizer import Tokenizer
from qsit_metric.errors import CheckpointError

pytestmark = pytest.mark.compat

GOLDEN = Path(__file__).parent / "golden"
NANO = Path(__file__).parents[1] / "src" / "qsit_metric" / "weights" / "q-sit-nano"
CONFIG, WHOLE, ADDED, MAP = "tokenizer_config.json", "tokenizer.json", "added_tokens.json", "special_tokens_map.json"
NEWER = int(transformers.__version__.split(".")[0]) >= 5
SPECIALS = ["<image>", "<video>", "<|im_start|>", "<|im_end|>", "<|endoftext|>"]
TEXTS = [
    "",
    "Is it sharp?",
    "  Is it   sharp ?  \n\n\t ok",
    "a <image> b<|im_end|>\n x",
    "<|im_start|>user\n<image>\nhi<|im_end|>\n<|im_start|>assistant\n",
    "e\u0301 \u00e9 \u00f1 \u4f60\u597d \U0001f642 \u00a0x \u212b",
    " sharp sharper  sharp \nsharp",
    "I'M we'LL don't 1234",
    "<m><b><q><eos>< image ><|im_end |>",
    "\r\n \r\n<|endoftext|>",
    "\x00\x7f\ufeff",
]
UNNAMED = {"additional_special_tokens": ..., "eos_token": ..., "pad_token": ...}
SHARP = {"content": "sharp", "lstrip": False, "rstrip": True, "normalized": True, "single_word": True, "special": False}


def listed(folder):
    return json.loads((folder / CONFIG).read_text())["added_tokens_decoder"]


def edited(path, **fields):
    content = json.loads(path.read_text())
    content |= {name: value for name, value in fields.items() if value is not ...}
    path.write_text(json.dumps({name: value for name, value in content.items() if fields.get(name) is not ...}))


def built(folder, without=(), files=None, **config):
    """A golden checkpoint's text files, some left out, with other fields; `...` takes a field away."""
    folder.mkdir()
    for path in (GOLDEN / "tied").iterdir():
        if path.suffix in (".json", ".txt") and path.name not in without:
            shutil.copy(path, folder)
    for name, fields in {CONFIG: config, **(files or {})}.items():
        edited(folder / name, **fields)
    return folder


FOLDERS = {
    "golden": {},
    "no tokenizer.json": {"without": [WHOLE]},
    "no added_tokens.json": {"without": [WHOLE, ADDED]},
    "config alone": {"without": [WHOLE, ADDED, MAP]},
    "older": {"added_tokens_decoder": ...},
    "older, no added_tokens.json": {"without": [ADDED], "added_tokens_decoder": ...},
    "older, no tokenizer.json": {"without": [WHOLE], "added_tokens_decoder": ...},
    "older, no map": {"without": [WHOLE, MAP], "added_tokens_decoder": ...},
    "older, special tokens alone": {"without": [WHOLE, ADDED], "added_tokens_decoder": ...},
    "file alone": {"tokenizer_class": "PreTrainedTokenizerFast"},
    "other file name of the class": {"tokenizer_class": "Qwen2TokenizerFast"},
    "usual special tokens": {"eos_token": ..., "pad_token": ..., "unk_token": ...},
    "usual, older": {"without": [WHOLE, MAP], "added_tokens_decoder": ..., **UNNAMED},
    "special tokens as text": {"split_special_tokens": True},
    "another end": {"eos_token": "<eos>"},
    "another end, older": {"without": [MAP], "added_tokens_decoder": ..., "eos_token": "<eos>"},
    "the map's end": {"added_tokens_decoder": ..., "files": {MAP: {"eos_token": "<|endoftext|>"}}},
    "new special tokens": {"mask_token": "<m>", "bos_token": "<b>", "additional_special_tokens": ["<q>"]},
    "new, no tokenizer.json": {"without": [WHOLE], "mask_token": "<m>", "bos_token": "<b>"},
    "text token": {"added_tokens_decoder": {**listed(GOLDEN / "tied"), "465": SHARP}},
    "text token, no tokenizer.json": {
        "without": [WHOLE],
        "added_tokens_decoder": {**listed(GOLDEN / "tied"), "465": SHARP},
    },
    "text token, older": {"without": [WHOLE], "added_tokens_decoder": ..., "files": {ADDED: {"sharp": 465}}},
    "cut and filled": {
        "files": {
            WHOLE: {
                "truncation": {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0},
                "padding": {
                    "strategy": {"Fixed": 64},
                    "direction": "Right",
                    "pad_to_multiple_of": None,
                    "pad_id": 461,
                    "pad_type_id": 0,
                    "pad_token": "<|endoftext|>",
                },
            }
        }
    },
}


def theirs(folder):
    return transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)


def agree(ours, other, texts=TEXTS):
    for text in texts:
        ids = other(text, add_special_tokens=False)["input_ids"]
        assert ours.encode(text) == ids
        for skip in (True, False):
            decoded = other.decode(ids, skip_special_tokens=skip, clean_up_tokenization_spaces=False)
            assert ours.decode(ids, skip_special_tokens=skip) == decoded
    assert len(ours) == len(other)
    assert ours.added_vocab == other.get_added_vocab()
    assert sorted(ours.all_special_tokens) == sorted(set(other.all_special_tokens))
    assert (ours.eos_token_id, ours.pad_token_id) == (other.eos_token_id, other.pad_token_id)
    assert ours.named == {name: token for name, token in other.special_tokens_map.items() if isinstance(token, str)}
    vocabulary = other.get_vocab()
    assert all(ours.id_of(token) == number for token, number in vocabulary.items())
    assert ours.id_of("no such token") is None


@pytest.mark.parametrize("kind", FOLDERS)
def test_every_kind_of_folder_gives_the_tokenizer_of_transformers(tmp_path, kind):
    folder = built(tmp_path / "folder", **FOLDERS[kind])
    agree(Tokenizer.load(folder), theirs(folder))


@pytest.mark.parametrize("folder", [GOLDEN / "tied", GOLDEN / "untied", NANO], ids=lambda path: path.name)
def test_stored_checkpoints_too(folder):
    agree(Tokenizer.load(folder), theirs(folder))


@pytest.mark.skipif(not NEWER, reason="up to 4.57 the setting has no effect, or loading fails")
@pytest.mark.parametrize("without", [[], [WHOLE]], ids=["tokenizer.json", "vocab.json"])
def test_a_space_before_the_text(tmp_path, without):
    folder = built(tmp_path / "folder", without=without, add_prefix_space=True)
    agree(Tokenizer.load(folder), theirs(folder))
    assert Tokenizer.load(folder).encode("a") == Tokenizer.load(GOLDEN / "tied").encode(" a")


@pytest.mark.skipif(not NEWER, reason="4.57 takes the class of the model's config, which is another")
@pytest.mark.parametrize("name", [..., "TokenizersBackend"], ids=["no class", "TokenizersBackend"])
def test_a_file_without_a_class_of_its_own(tmp_path, name):
    folder = built(tmp_path / "folder", tokenizer_class=name)
    agree(Tokenizer.load(folder), theirs(folder))


@pytest.mark.skipif(not NEWER, reason="4.57 takes no names from the settings")
def test_special_tokens_with_names_of_the_model(tmp_path):
    folder = built(tmp_path / "folder", image_token="<image>", extra_special_tokens={"video_token": "<video>"})
    agree(Tokenizer.load(folder), theirs(folder))


@pytest.mark.parametrize("files", [[WHOLE], [WHOLE, ADDED], []], ids=["added_tokens.json", "map alone", "all"])
def test_what_only_the_map_says_is_special(tmp_path, files):
    """transformers 5 fails on these folders, which 4.45 wrote; the ids are those of the complete one."""
    folder = built(tmp_path / "folder", without=files, added_tokens_decoder=..., **UNNAMED)
    ours, whole = Tokenizer.load(folder), Tokenizer.load(GOLDEN / "tied")
    assert set(SPECIALS) <= set(ours.all_special_tokens)
    assert [ours.decode(whole.encode(text)) for text in TEXTS] == [whole.decode(whole.encode(text)) for text in TEXTS]
    if ADDED not in files:
        assert [ours.encode(text) for text in TEXTS] == [whole.encode(text) for text in TEXTS]


def test_a_special_token_that_the_file_has_as_text_is_special(tmp_path):
    tokens = json.loads((GOLDEN / "tied" / WHOLE).read_text())["added_tokens"]
    folder = built(
        tmp_path / "folder", files={WHOLE: {"added_tokens": [{**token, "special": False} for token in tokens]}}
    )
    assert Tokenizer.load(folder).decode([64, 463, 460]) == "a"


def test_what_the_file_says_of_splitting_holds(tmp_path):
    """As up to 4.57; transformers 5 takes Qwen2's own rule whatever the file says."""
    pieces = json.loads((GOLDEN / "tied" / WHOLE).read_text())["pre_tokenizer"]
    pieces["pretokenizers"][0]["pattern"] = {"Regex": "sh|arp"}
    folder = built(tmp_path / "folder", files={WHOLE: {"pre_tokenizer": pieces}})
    ours, usual = Tokenizer.load(folder), Tokenizer.load(GOLDEN / "tied")
    assert ours.encode("Is it sharp?") != usual.encode("Is it sharp?")
    assert ours.decode(ours.encode("Is it sharp?")) == "Is it sharp?"
    if not NEWER:
        agree(ours, theirs(folder))


def test_it_travels_to_other_processes():
    ours = Tokenizer.load(GOLDEN / "tied")
    other = pickle.loads(pickle.dumps(ours))
    assert [other.encode(text) for text in TEXTS] == [ours.encode(text) for text in TEXTS]
    assert (other.named, other.extra, len(other)) == (ours.named, ours.extra, len(ours))


@cache
def pairs():
    return [(Tokenizer.load(folder), theirs(folder)) for folder in (GOLDEN / "tied", NANO)]


pieces = st.sampled_from([*SPECIALS, " ", "  ", "\n", "\r\n", "\t", "'s", "'RE", "sharp", " sharp", "1", "\u0301"])


@settings(deadline=None, max_examples=200)
@given(st.lists(pieces | st.text(st.characters(exclude_categories=["Cs"]), max_size=8), max_size=8).map("".join))
def test_any_text(text):
    for ours, other in pairs():
        agree_on = other(text, add_special_tokens=False)["input_ids"]
        assert ours.encode(text) == agree_on
        assert ours.decode(agree_on) == other.decode(
            agree_on, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )


@settings(deadline=None, max_examples=200)
@given(st.lists(st.integers(0, 464), max_size=12), st.booleans())
def test_any_ids(ids, skip):
    """Also halves of characters, and the space before a full stop, which cleaning up would take."""
    ours, other = pairs()[0]
    want = other.decode(ids, skip_special_tokens=skip, clean_up_tokenization_spaces=False)
    assert ours.decode(ids, skip_special_tokens=skip) == want


def test_a_tokenizer_of_transformers_behind_our_interface():
    other = theirs(GOLDEN / "tied")
    borrowed = Tokenizer.of(other)
    agree(borrowed, other)
    assert Tokenizer.of(borrowed) is borrowed


@pytest.mark.parametrize(
    ("without", "config", "message"),
    [
        ([], {"tokenizer_class": "LlamaTokenizer"}, r"`tokenizer_class`: got <LlamaTokenizer .*backend='transformers'"),
        ([WHOLE], {"tokenizer_class": "PreTrainedTokenizerFast"}, r"`tokenizer_class`.*backend='transformers'"),
        ([WHOLE, "merges.txt"], {}, r"vocab.json and merges.txt.*backend='transformers'"),
        (
            [WHOLE],
            {"added_tokens_decoder": {"900": {"content": "<image>"}}},
            r"`id of '<image>'`: got 900, expected 46",
        ),
        ([], {"added_tokens_decoder": {"x": {"content": "<image>"}}}, r"`model`: got .*, expected a tokenizer"),
        ([], {"added_tokens_decoder": {"465": "<q>", "466": 7}}, r"`model`: got .*, expected a tokenizer"),
    ],
)
def test_folders_that_are_refused(tmp_path, without, config, message):
    folder = built(tmp_path / "folder", without=without, **config)
    with pytest.raises(CheckpointError, match=message):
        Tokenizer.load(folder)


@pytest.mark.parametrize("name", [WHOLE, "vocab.json", "merges.txt", CONFIG, ADDED, MAP])
@pytest.mark.parametrize("content", ["{", '{"a": "b"}\nx y z w', "[]"])
def test_broken_files_are_one_error(tmp_path, name, content):
    folder = built(tmp_path / "folder", without=[] if name == WHOLE else [WHOLE], added_tokens_decoder=...)
    (folder / name).write_text(content)
    with pytest.raises(CheckpointError):
        Tokenizer.load(folder)


def test_transformers_is_not_imported():
    code = (
        "import sys; from pathlib import Path; from qsit_metric.backends.tokenizer import Tokenizer;"
        "from qsit_metric.backends.template import load_template; from qsit_metric.backends.decoding import Generation;"
        "folder = Path(sys.argv[1]); Tokenizer.load(folder); load_template(folder); Generation.load(folder);"
        "sys.exit('transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(NANO)], check=False).returncode == 0
