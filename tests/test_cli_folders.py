"""What is taken from folders, and what is said of the rest."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from qsit_metric import console
from qsit_metric.cli import inputs
from qsit_metric.cli.command import guarded

NAMES = (
    "a.jpg", "b.JXL", "c.nef", "d.psd", "e.jpx", "f.apng", "g.mpo", "notes.txt", "more.TXT", "film.mp4", "bare", ".DS_Store",
    "sub/h.png", "sub/readme",
)  # fmt: skip


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "z.jpg").write_bytes(b"")
    for name in NAMES:
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    (tmp_path / "photos" / "linked").symlink_to(tmp_path / "elsewhere")
    return tmp_path


def taken(capsys, *given: str, **options) -> tuple[list[str], str]:
    found: list[str] = []
    assert guarded(lambda: found.extend(inputs.expand(given, **options)), debug=False) == 0
    return [Path(path).name for path in found], capsys.readouterr().err


def test_every_ending_of_a_picture_is_taken_and_the_rest_is_said(folder, capsys):
    names, said = taken(capsys, "photos", recursive=True)
    assert names == ["a.jpg", "b.JXL", "c.nef", "d.psd", "e.jpx", "f.apng", "g.mpo", "h.png"]
    assert said == ("not taken: 5 files (2 .txt, 2 without a suffix, 1 .mp4; --any takes them), 1 linked folder\n")


def test_folders_in_a_folder_are_said_too(folder, capsys):
    names, said = taken(capsys, "photos", recursive=False)
    assert "h.png" not in names
    assert said.endswith("1 .mp4, 1 without a suffix; --any takes them), 2 folders in it (-r takes them)\n")
    assert taken(capsys, "photos/a.jpg", recursive=False) == (["a.jpg"], "")


def test_any_takes_every_file(folder, capsys):
    names, said = taken(capsys, "photos", recursive=True, any_file=True)
    assert {"bare", "notes.txt", "film.mp4", "readme"} <= {*names}
    assert ".DS_Store" not in names
    assert said == "not taken: 1 linked folder\n"


def test_a_folder_that_may_not_be_read_is_said(folder, capsys, monkeypatch):
    real = os.scandir

    def refuse(path):
        if str(path).endswith("sub"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert "1 folder that may not be read" in taken(capsys, "photos", recursive=True)[1]


def test_what_is_to_be_said_does_not_outlive_a_command(folder, capsys):
    console.at_the_end("old")
    assert taken(capsys, "photos/a.jpg", recursive=False)[1] == ""
