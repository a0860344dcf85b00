from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from napari_virst.errors import ProjectError
from napari_virst.gui.project_copy import copy_project, folder_meant, new_place

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    (folder / "masks").mkdir(parents=True)
    (folder / "project.json").write_text("{}")
    with (folder / "masks" / "a.tif").open("wb") as file:
        file.write(b"head")
        file.seek(8_000_000)
        file.write(b"tail")
        file.truncate(9_000_000)
    return folder


def test_copy_is_the_same_byte_for_byte(project: Path, tmp_path: Path) -> None:
    copy_project(project, tmp_path / "copy")
    for name in ("project.json", "masks/a.tif"):
        assert (tmp_path / "copy" / name).read_bytes() == (project / name).read_bytes()


def test_empty_frames_take_no_room_in_the_copy(project: Path, tmp_path: Path) -> None:
    copy_project(project, tmp_path / "copy")
    status = (tmp_path / "copy" / "masks" / "a.tif").stat()
    if not hasattr(status, "st_blocks"):
        pytest.skip("this system does not tell how much room a file takes")
    assert status.st_blocks * 512 < 4_000_000


def test_older_copy_is_replaced_whole(project: Path, tmp_path: Path) -> None:
    copy_project(project, tmp_path / "copy")
    (tmp_path / "copy" / "stale").touch()
    copy_project(project, tmp_path / "copy")
    assert not (tmp_path / "copy" / "stale").exists()


def test_folder_with_other_files_is_never_touched(project: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter").touch()
    with pytest.raises(ProjectError, match="which holds other files"):
        copy_project(project, tmp_path / "thesis")
    assert (tmp_path / "thesis" / "chapter").exists()


@pytest.mark.parametrize("inside", [".", "masks/copy"], ids=["itself", "below-itself"])
def test_project_is_not_copied_into_itself(project: Path, inside: str) -> None:
    with pytest.raises(ProjectError, match="outside of its own folder"):
        copy_project(project, project / inside)


def test_file_in_the_way_is_named(project: Path, tmp_path: Path) -> None:
    (tmp_path / "copy").touch()
    with pytest.raises(ProjectError, match="which is a file"):
        copy_project(project, tmp_path / "copy")


def test_proposed_place_is_one_where_nothing_is(tmp_path: Path) -> None:
    assert new_place(tmp_path / "cells.virst") == tmp_path / "cells.virst"
    for name in ("cells.virst", "cells-2.virst"):
        (tmp_path / name).mkdir()
    assert new_place(tmp_path / "cells.virst") == tmp_path / "cells-3.virst"


def test_project_is_replaced_by_choosing_its_file(project: Path, tmp_path: Path) -> None:
    assert folder_meant(project / "project.json") == project
    assert folder_meant(project / "inside") == project / "inside"
    assert folder_meant(tmp_path / "project.json") == tmp_path / "project.json"
