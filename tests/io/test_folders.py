"""Which videos lie in a folder."""

from __future__ import annotations

from napari_virst.io.folders import movies_in


def test_movies_and_zarr_stores_are_found_by_name_and_nothing_else(tmp_path):
    for name in ("b.MP4", "a.mov", "notes.txt", ".hidden.mp4", "frame.png"):
        (tmp_path / name).touch()
    for name in ("c.zarr", "images", "store"):
        (tmp_path / name).mkdir()
    (tmp_path / "store" / "zarr.json").touch()
    assert [path.name for path in movies_in(tmp_path)] == ["a.mov", "b.MP4", "c.zarr", "store"]


def test_a_folder_of_images_and_a_store_hold_no_movies(tmp_path):
    (tmp_path / "0.png").touch()
    (tmp_path / "s.zarr").mkdir()
    (tmp_path / "s.zarr" / "a.mp4").touch()
    assert movies_in(tmp_path / "s.zarr") == []
    (tmp_path / "s.zarr" / "a.mp4").unlink()
    (tmp_path / "s.zarr").rmdir()
    assert movies_in(tmp_path) == []
