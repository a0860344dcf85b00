"""The folder of an export, while it is written and when something stops it."""

from __future__ import annotations

import json

import pytest

from napari_virst.errors import InputError
from napari_virst.io.export_folder import UNFINISHED, ExportFolder


def write(root, name="a.txt", text="new", before_keeping=None, **options):
    with ExportFolder(root, **options) as folder:
        (folder.path / name).write_text(text)
        (folder.path / "images").mkdir()
        (folder.path / "images" / "0.jpg").write_text(text)
        if before_keeping is not None:
            raise before_keeping
        folder.keep({"format": "x"})


def test_files_are_in_their_places_with_a_description_when_it_is_done(tmp_path):
    write(tmp_path / "deep" / "out")
    root = tmp_path / "deep" / "out"
    assert sorted(path.name for path in root.iterdir()) == ["a.txt", "export.json", "images"]
    assert json.loads((root / "export.json").read_text()) == {"format": "x", "entries": ["a.txt", "images"]}


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError], ids=["ctrl-c", "an-error"])
def test_nothing_is_left_of_what_was_stopped(tmp_path, error):
    with pytest.raises(error):
        write(tmp_path / "out", before_keeping=error)
    assert not (tmp_path / "out").exists()


def test_full_disk_is_explained(tmp_path):
    with pytest.raises(InputError, match="No space left"), ExportFolder(tmp_path / "out"):
        raise OSError(28, "No space left on device")


def test_what_a_killed_process_left_is_named_and_removed_by_the_next(tmp_path):
    left = tmp_path / "out" / UNFINISHED
    left.mkdir(parents=True)
    (left / "old.txt").write_text("half")
    write(tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.txt", "export.json", "images"]


def test_empty_folder_is_taken(tmp_path):
    write(tmp_path)
    assert (tmp_path / "a.txt").is_file()


@pytest.mark.parametrize("overwrite", [False, True], ids=["plain", "overwrite"])
def test_folder_of_other_files_is_never_touched(tmp_path, overwrite):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match=r"holds other files \(mine\.txt\)"):
        write(tmp_path, overwrite=overwrite)


def test_another_export_is_in_the_way_unless_it_is_to_be_replaced(tmp_path):
    write(tmp_path / "out", "old.txt")
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match=r"holds an export; .*--overwrite"):
        write(tmp_path / "out")
    write(tmp_path / "out", text="newer", overwrite=True)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a.txt", "export.json", "images", "mine.txt"]
    assert (tmp_path / "out" / "images" / "0.jpg").read_text() == "newer"


def test_other_files_are_not_written_over_when_an_export_is_replaced(tmp_path):
    write(tmp_path / "out", "old.txt")
    (tmp_path / "out" / "a.txt").write_text("mine")
    with pytest.raises(InputError, match=r'"a\.txt" is no part of the export'):
        write(tmp_path / "out", overwrite=True)
    assert (tmp_path / "out" / "a.txt").read_text() == "mine"
    assert (tmp_path / "out" / "old.txt").is_file()


def test_earlier_export_stays_where_its_successor_is_stopped(tmp_path):
    write(tmp_path / "out", text="old")
    with pytest.raises(KeyboardInterrupt), ExportFolder(tmp_path / "out", overwrite=True):
        raise KeyboardInterrupt
    assert (tmp_path / "out" / "a.txt").read_text() == "old"


def test_file_in_its_place_is_refused(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(InputError, match="which is a file"):
        ExportFolder(tmp_path / "out")
