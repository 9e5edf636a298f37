"""The catalog: records, look-ups, near names, and what ships with the package."""

from __future__ import annotations

import dataclasses

import pytest

from qsit_metric import catalog
from qsit_metric.catalog import ModelRecord


def records() -> list[ModelRecord]:
    return [catalog.find(name) for name in catalog.list_models()]


def test_the_known_records():
    assert [(r.name, r.repo, r.paper) for r in records()] == [
        ("q-sit-mini", "zhangzicheng/q-sit-mini", "arXiv:2503.09197"),
        ("q-sit", "zhangzicheng/q-sit", "arXiv:2503.09197"),
        ("q-sit-nano", None, "arXiv:2503.09197"),
        ("llava-onevision-0.5b", "llava-hf/llava-onevision-qwen2-0.5b-ov-hf", "arXiv:2408.03326"),
        ("llava-onevision-7b", "llava-hf/llava-onevision-qwen2-7b-ov-hf", "arXiv:2408.03326"),
    ]


def test_nothing_is_claimed_that_nobody_read():
    published = [r for r in records() if r.repo]
    assert {(r.revision, r.licence, r.backend, r.recipe) for r in published} == {
        ("main", "unknown", "llava_onevision", "authors")
    }
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
        ("", ["q-sit-mini", "q-sit", "q-sit-nano", "llava-onevision-0.5b", "llava-onevision-7b"]),
        ("q-sit", ["q-sit-mini", "q-sit", "q-sit-nano"]),
        ("Q-SIT", ["q-sit-mini", "q-sit", "q-sit-nano"]),
        ("q-sit*", ["q-sit-mini", "q-sit", "q-sit-nano"]),
        ("*-?b", ["llava-onevision-7b"]),
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
