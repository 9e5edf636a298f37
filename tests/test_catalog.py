"""The catalog: records, look-ups, near names, and what ships with the package."""

from __future__ import annotations

import dataclasses

import pytest

from qsit_metric import catalog
from qsit_metric.catalog import ModelRecord

REALIGN = ["q-realign-mini", "q-realign-lite", "q-realign-pro"]


def records() -> list[ModelRecord]:
    return [catalog.find(name) for name in catalog.list_models()]


def test_the_known_records():
    assert [(r.name, r.repo, r.paper) for r in records()] == [
        ("q-sit-mini", "zhangzicheng/q-sit-mini", "arXiv:2503.09197"),
        ("q-sit", "zhangzicheng/q-sit", "arXiv:2503.09197"),
        ("q-sit-nano", None, "arXiv:2503.09197"),
        ("q-realign-mini", "q-future/Q-ReAlign-Mini-0.8B", ""),
        ("q-realign-lite", "q-future/Q-ReAlign-Lite-4B", ""),
        ("q-realign-pro", "q-future/Q-ReAlign-Pro-9B", ""),
        ("visualquality-r1", "TianheWu/VisualQuality-R1-7B", "arXiv:2505.14460"),
        ("q-insight", "ByteDance/Q-Insight", "arXiv:2503.22679"),
        ("llava-onevision-0.5b", "llava-hf/llava-onevision-qwen2-0.5b-ov-hf", "arXiv:2408.03326"),
        ("llava-onevision-7b", "llava-hf/llava-onevision-qwen2-7b-ov-hf", "arXiv:2408.03326"),
        ("qwen3-vl-4b", "Qwen/Qwen3-VL-4B-Instruct", "arXiv:2511.21631"),
        ("internvl3-1b", "OpenGVLab/InternVL3-1B-hf", "arXiv:2504.10479"),
        ("internvl3-8b", "OpenGVLab/InternVL3-8B-hf", "arXiv:2504.10479"),
    ]


def test_nothing_is_claimed_that_nobody_read():
    published = [r for r in records() if r.repo]
    assert {r.revision for r in published} == {"main"}
    fast = [r for r in published if r.backend == "llava_onevision"]
    assert {(r.licence, r.recipe) for r in fast} == {("unknown", "authors")}
    zero_shot = [r for r in published if r.recipe == "authors"]
    assert {r.licence for r in zero_shot} == {"unknown"}
    (own,) = (r for r in records() if not r.repo)
    assert (own.licence, own.recipe, own.embedded) == ("Apache-2.0", "train", "q-sit-nano")


def test_names_and_repositories_are_unique():
    spellings = [text for record in records() for text in (record.name, record.repo) if text]
    assert len(set(spellings)) == len(spellings)
    assert not any("/" in record.name or "@" in record.name for record in records())


def test_a_record_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        catalog.find("q-sit").revision = "other"


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("q-sit", "q-sit"),
        ("zhangzicheng/q-sit-mini", "q-sit-mini"),
        ("Q-SIT", None),
        ("q-sit@main", None),
        ("", None),
        ("zhangzicheng/", None),
    ],
)
def test_find_is_exact(written, name):
    record = catalog.find(written)
    assert (record and record.name) == name


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("q-*", ["q-sit-mini", "q-sit", "q-sit-nano", *REALIGN, "q-insight"]),
        ("*realign*", REALIGN),
        ("q-sit", ["q-sit-mini", "q-sit", "q-sit-nano"]),
        ("Q-SIT", ["q-sit-mini", "q-sit", "q-sit-nano"]),
        ("q-sit*", ["q-sit-mini", "q-sit", "q-sit-nano"]),
        ("*-7b", ["llava-onevision-7b"]),
        ("*-?b", ["llava-onevision-7b", "qwen3-vl-4b", "internvl3-1b", "internvl3-8b"]),
        ("[lm]*", ["llava-onevision-0.5b", "llava-onevision-7b"]),
        ("?-sit", ["q-sit"]),
        ("nothing", []),
    ],
)
def test_list_models(pattern, names):
    assert catalog.list_models(pattern) == names


@pytest.mark.parametrize(
    ("written", "first"),
    [
        ("q-sit-mimi", "q-sit-mini"),
        ("qsit", "q-sit"),
        ("Q_SIT_MINI", "q-sit-mini"),
        ("llava-onevision-0.5", "llava-onevision-0.5b"),
        ("zhangzicheng/qsit-mini", "q-sit-mini"),
        ("llava-hf/llava-onevision-qwen2-7b-ov", "llava-onevision-7b"),
        ("qrealign-mini", "q-realign-mini"),
        ("q-future/Q-ReAlign-Mini", "q-realign-mini"),
    ],
)
def test_nearest(written, first):
    near = catalog.nearest(written)
    assert near[0] == first
    assert len(near) <= 3
    assert len(set(near)) == len(near)


def test_nearest_is_silent_about_what_is_far():
    assert catalog.nearest("bert-base-uncased") == []


def test_one_model_ships_with_the_package():
    assert catalog.embedded_names() == ["q-sit-nano"]


def test_embedded_means_that_the_folder_is_really_there(monkeypatch, tmp_path):
    common = {"repo": None, "backend": "llava_onevision", "recipe": "train", "paper": "", "description": ""}
    here = ModelRecord(name="tiny-here", embedded="tiny", **common)
    gone = ModelRecord(name="tiny-gone", embedded="left-out", **common)
    monkeypatch.setattr(catalog, "_RECORDS", (*catalog._RECORDS, here, gone))
    monkeypatch.setattr(catalog, "_WEIGHTS", tmp_path)
    (tmp_path / "tiny").mkdir()
    assert catalog.embedded_names() == ["tiny-here"]
    assert catalog.embedded_folder(here) == tmp_path / "tiny"
    assert catalog.embedded_folder(gone) is None
    assert catalog.embedded_folder(catalog.find("q-sit")) is None
