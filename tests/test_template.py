"""Chat templates: our rendering against `apply_chat_template` of transformers, and where a template is found."""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path

import pytest

from qsit_metric.backends.template import load_template, render
from qsit_metric.backends.tokenizer import Tokenizer
from qsit_metric.errors import CheckpointError
from qsit_metric.prompts import CHATML

pytestmark = pytest.mark.compat

GOLDEN = Path(__file__).parent / "golden"
NANO = Path(__file__).parents[1] / "src" / "qsit_metric" / "weights" / "q-sit-nano"
# Written by the conversion script of transformers 4.45 to 4.47, and by the published llava-hf folders.
CONVERTED = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n'}}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>\\n' }}{% endfor %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}{{ content['text'] }}{% endfor %}"
    "{{'<|im_end|>\\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
ODD = {
    "no generation prompt": "{% for m in messages %}{{ m.role }}: {{ m.content | length }}{% endfor %}",
    "lines of their own": "{% for m in messages %}\n  {% if m.role == 'user' %}\n<image>\n  {% endif %}\n{% endfor %}\n",
    "continue and break": (
        "{% for m in messages %}{% if m.role == 'system' %}{% continue %}{% endif %}"
        "{% for c in m.content %}{% if loop.index > 1 %}{% break %}{% endif %}{{ c.type }}{% endfor %}{% endfor %}"
    ),
    "generation tag": "{% set x = 1 %}{% generation %}{% set x = 2 %}{{ x }}{{ messages[0].role }}{% endgeneration %}{{ x }}",
    "json": "{{ messages | tojson }} {{ messages[0] | tojson(indent=2, sort_keys=True) }} {{ '<&\\u00e9>' | tojson }}",
    "special tokens": "{{ bos_token }}{{ eos_token }}|{{ pad_token }}|{{ unk_token is defined }}",
    "tools": "{{ tools is defined }}{{ tools is none }}{{ documents is none }}{{ tools or 'none' }}",
    "namespace": "{% set n = namespace(found=false) %}{% for m in messages %}{% set n.found = true %}{% endfor %}{{ n.found }}",
    "macro": "{% macro f(c) %}[{{ c.type | upper }}]{% endmacro %}{% for c in messages[-1].content %}{{ f(c) }}{% endfor %}",
    "html": "{{ '<b>' }}{{ messages[-1].content[1].text }}",
    "year": "{{ strftime_now('%Y') }}",
    "strings": "{{ messages[-1].content[1].text.split(' ')[0].strip().title() }}{{ dict(a=1).a }}",
}
REFUSED = {
    "raised": "{{ raise_exception('only <one> image') }}",
    "broken": "{% for m in messages %}",
    "unknown tag": "{% nothing %}",
    "no such field": "{{ messages[0].nothing.at_all }}",
    "out of the sandbox": "{{ messages.__class__.__mro__ }}{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "changes what it is given": "{{ messages.append(1) }}",
    "private names": "{% set n = namespace() %}{% set n.__class__ = 1 %}",
    "private names at once": "{{ namespace(**{'_a': 1}) }}",
}
QUESTION = "Is it <sharp> & \u00e9?  "
USER = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": QUESTION}]}
SYSTEM = {"role": "system", "content": [{"type": "text", "text": "Be terse."}]}


def stored(folder):
    return json.loads((GOLDEN / folder / "chat_template.json").read_text())["chat_template"]


@cache
def theirs():
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(GOLDEN / "tied", local_files_only=True)


@cache
def named():
    return Tokenizer.load(GOLDEN / "tied").named


TEMPLATES = {
    "golden": stored("tied"),
    "converted": CONVERTED,
    "nano": (NANO / "chat_template.jinja").read_text(),
    "ours": CHATML,
    **ODD,
}


@pytest.mark.parametrize("turns", [[USER], [SYSTEM, USER]], ids=["user", "system"])
@pytest.mark.parametrize("name", TEMPLATES)
def test_text_equals_that_of_transformers(name, turns):
    template = TEMPLATES[name]
    want = theirs().apply_chat_template(turns, chat_template=template, add_generation_prompt=True, tokenize=False)
    assert render(template, turns, named()) == want


@pytest.mark.parametrize("name", REFUSED)
def test_a_template_that_fails_is_one_error(name):
    with pytest.raises(CheckpointError, match=r"`chat template`: got <.*>, expected a template that renders"):
        render(REFUSED[name], [SYSTEM, USER], named())


def test_what_a_template_raises_is_said():
    with pytest.raises(CheckpointError, match="only <one> image"):
        render(REFUSED["raised"], [USER], named())


def folder_with(tmp_path, *, jinja=None, file=None, config=None):
    shutil.copy(GOLDEN / "tied" / "tokenizer_config.json", tmp_path)
    if jinja is not None:
        (tmp_path / "chat_template.jinja").write_text(jinja, encoding="utf-8")
    if file is not None:
        (tmp_path / "chat_template.json").write_text(json.dumps({"chat_template": file}))
    if config is not None:
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": config}))
    return tmp_path


def both(*names):
    return [{"name": name, "template": f"the {name} one"} for name in names]


@pytest.mark.parametrize(
    ("places", "want"),
    [
        ({"jinja": "a \u00e9", "file": "b", "config": "c"}, "a \u00e9"),
        ({"file": "b", "config": "c"}, "b"),
        ({"config": "c"}, "c"),
        ({"jinja": "", "config": "c"}, "c"),
        ({"config": both("tool_use", "default")}, "the default one"),
        ({"file": {"default": "b", "rag": "x"}}, "b"),
    ],
)
def test_where_a_template_is_found(tmp_path, places, want):
    assert load_template(folder_with(tmp_path, **places)) == want


@pytest.mark.parametrize(
    ("places", "got"),
    [
        ({}, "got '.*'"),
        ({"config": both("tool_use", "rag")}, "got <templates named rag, tool_use>"),
        ({"config": 3}, "got '.*'"),
        ({"config": [1]}, "got '.*'"),
        ({"file": {"default": 3}}, "got <templates named default>"),
    ],
)
def test_a_folder_without_a_template_is_refused(tmp_path, places, got):
    with pytest.raises(CheckpointError, match=f"{got}, expected a chat template in the checkpoint. Put chat_template"):
        load_template(folder_with(tmp_path, **places))


def test_a_template_that_is_no_text_is_refused(tmp_path):
    folder = folder_with(tmp_path)
    (folder / "chat_template.jinja").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CheckpointError, match="chat_template.jinja"):
        load_template(folder)
