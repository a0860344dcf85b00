"""Which videos are meant by what is typed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
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


@given(
    st.lists(st.lists(PARTS, min_size=1, max_size=4).map(lambda parts: Path("/", *parts)), unique=True),
    st.integers(0, 9),
)
def test_folders_that_are_held_stay_and_are_nobody_elses(videos, num_before):
    before = name_folders(videos[:num_before])
    names = name_folders(videos[::-1], before)
    assert {video: names[video] for video in before} == before
    assert len(set(names.values())) == len(videos)


def test_what_a_folder_of_movies_holds_beside_them_is_named(folder, capsys):
    (folder / "results").mkdir()
    find_videos([str(folder)])
    assert "only its movies and stores are taken, not stack.tif and 1 more;" in " ".join(
        capsys.readouterr().err.split()
    )


def test_a_folder_of_folders_says_how_to_mean_them(folder, capsys):
    (folder / "clips" / "one").mkdir(parents=True)
    (folder / "clips" / "one" / "0.png").touch()
    find_videos([str(folder / "clips")])
    assert 'clips/*/"' in capsys.readouterr().err


def test_a_folder_of_stacks_says_that_it_is_one_video(folder, capsys):
    (folder / "stacks").mkdir()
    for name in ("a.tif", "b.tif"):
        tifffile.imwrite(folder / "stacks" / name, np.zeros((3, 8, 8), np.uint8), photometric="minisblack")
    find_videos([str(folder / "stacks")])
    assert 'stacks/*.tif"' in capsys.readouterr().err
    find_videos([str(folder / "frames")])
    assert not capsys.readouterr().err


def test_a_link_is_called_by_its_own_name(folder):
    (folder / "links").mkdir()
    (folder / "links" / "mouse.mp4").symlink_to(folder / "a.mp4")
    assert find_videos([str(folder / "links" / ".." / "links")]) == [folder / "links" / "mouse.mp4"]
