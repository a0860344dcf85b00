"""The project folder: what is written can be read, by us and by others, also after a crash."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from napari_virst.errors import ProjectError
from napari_virst.io import project as project_module
from napari_virst.io.mask_files import MaskFiles
from napari_virst.io.project import ProjectFolder, ProjectRecord, RunRecord, TrackRecord, VideoRecord
from napari_virst.records import LedgerEntry, Query, Span

if TYPE_CHECKING:
    from pathlib import Path

VIDEO = VideoRecord("cells", (12, 32, 48), "f00d", "/data/cells.tif")
TRACK = TrackRecord(
    "the-cell-1",
    Query("the cell that divides", "mitosis"),
    label=3,
    revision=5,
    window=Span(2, 9),
    model_anchors=(2, 6),
    excluded_anchors=(6,),
    learns=True,
    run=RunRecord((Span(2, 4), Span(6, 9)), {4: 123456789}, (6,), learned=True),
)


@pytest.fixture
def folder(tmp_path: Path) -> ProjectFolder:
    folder = ProjectFolder(tmp_path / "project")
    folder.create()
    return folder


def test_project_is_read_as_it_was_written(folder: ProjectFolder) -> None:
    project = ProjectRecord(VIDEO, (TRACK, TrackRecord("other-1", Query("Zellkern größer"))))
    folder.save(project)
    assert folder.load() == project


def test_project_file_names_its_format_version(folder: ProjectFolder) -> None:
    folder.save(ProjectRecord(VIDEO))
    assert json.loads(folder.project_path.read_text())["format_version"] == project_module.FORMAT_VERSION


def test_failed_save_leaves_the_old_project(folder: ProjectFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.save(ProjectRecord(VIDEO))

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(project_module.os, "fsync", full)
    with pytest.raises(ProjectError, match="No space left"):
        folder.save(ProjectRecord(VIDEO, (TRACK,)))
    assert folder.load() == ProjectRecord(VIDEO)


def test_folder_without_project_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match=r"must hold a project\.json"):
        ProjectFolder(tmp_path).load()


def test_folder_with_project_is_not_made_anew(folder: ProjectFolder) -> None:
    folder.save(ProjectRecord(VIDEO))
    with pytest.raises(ProjectError, match="open that project"):
        folder.create()


def test_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ProjectError, match="must be writable"):
        ProjectFolder(tmp_path / "file").create()


@pytest.mark.parametrize(
    "content",
    ["{", "[]", '{"format_version": 1}', '{"format_version": 1, "video": {"shape": [1]}, "tracks": []}'],
    ids=["cut short", "a list", "without video", "two axes missing"],
)
def test_damaged_project_is_refused_with_a_sentence(folder: ProjectFolder, content: str) -> None:
    folder.project_path.write_text(content)
    with pytest.raises(ProjectError, match="restore it from a copy"):
        folder.load()


def test_newer_format_is_refused(folder: ProjectFolder) -> None:
    folder.project_path.write_text('{"format_version": 99}')
    with pytest.raises(ProjectError, match="newer napari-virst"):
        folder.load()


def test_ledger_keeps_entries_in_order_with_their_time(folder: ProjectFolder) -> None:
    folder.append(LedgerEntry("ask", "a", (), {"text": "the “red” cell"}))
    folder.append(LedgerEntry("paint", "a", (3, 4), {}, "2026-01-01T00:00:00+00:00"))
    first, second = folder.ledger()
    assert (first.action, first.detail) == ("ask", {"text": "the “red” cell"})
    assert first.time_iso
    assert second == LedgerEntry("paint", "a", (3, 4), {}, "2026-01-01T00:00:00+00:00")


def test_ledger_goes_on_after_a_line_cut_short(folder: ProjectFolder) -> None:
    folder.append(LedgerEntry("ask", "a"))
    with folder.ledger_path.open("a") as file:
        file.write('{"action": "pai')
    folder.append(LedgerEntry("run", "a"))
    assert [entry.action for entry in folder.ledger()] == ["ask", "run"]


def test_ledger_of_a_new_folder_is_empty(folder: ProjectFolder) -> None:
    assert list(folder.ledger()) == []


@pytest.mark.parametrize(
    ("name", "expected"),
    [("The red  cell!", "the-red-cell-1"), ("Zelle größer", "zelle-gr-er-1"), ("赤い円", "track-1"), ("../x", "x-1")],
    ids=["words", "umlaut", "no ASCII", "path"],
)
def test_track_id_is_a_safe_file_name(folder: ProjectFolder, name: str, expected: str) -> None:
    assert folder.new_track_id(name) == expected


def test_track_id_is_never_given_twice(folder: ProjectFolder) -> None:
    MaskFiles(folder.mask_path("cell-1"), (2, 8, 8))
    assert folder.new_track_id("cell") == "cell-2"
