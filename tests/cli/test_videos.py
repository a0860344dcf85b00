"""Which videos are meant by what is typed."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_virst.cli.videos import find_videos, name_folders
from napari_virst.errors import InputError


@pytest.fixture
def folder(tmp_path):
    for name in ("b.mp4", "a.mp4", "stack.tif"):
        (tmp_path / name).touch()
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames" / "0.png").touch()
    return tmp_path.resolve()


def test_folders_patterns_and_files_are_videos_in_the_order_typed_and_once(folder):
    found = find_videos([str(folder / "*.tif"), str(folder), str(folder / "frames"), str(folder / "b.mp4")])
    assert [path.relative_to(folder).as_posix() for path in found] == ["stack.tif", "a.mp4", "b.mp4", "frames"]


def test_a_file_whose_name_looks_like_a_pattern_is_itself(folder):
    (folder / "[1].mp4").touch()
    assert find_videos([str(folder / "[1].mp4")]) == [folder / "[1].mp4"]


def test_what_names_nothing_is_refused(folder):
    with pytest.raises(InputError, match=r'got "c\*\.mp4", which names nothing'):
        find_videos([str(folder), "c*.mp4"])


PARTS = st.sampled_from(["a", "b", "a-b", "x.ome.tif", "x.tif", "x.mp4", "x"])


@given(st.lists(st.lists(PARTS, min_size=1, max_size=4).map(lambda parts: Path("/", *parts)), unique=True))
def test_no_two_videos_share_a_folder(videos):
    names = name_folders(videos)
    assert list(names) == videos
    assert len(set(names.values())) == len(videos)
    assert not any("/" in name for name in names.values())
