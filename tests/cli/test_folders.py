"""Folders for results, looked at before the work."""

from __future__ import annotations

import json

import pytest

from napari_virst.cli.folders import check_folder, check_unmixed
from napari_virst.errors import InputError


def test_folder_that_can_be_made_passes_and_is_not_made(tmp_path):
    check_folder(tmp_path / "a" / "b", "-o")
    assert not list(tmp_path.iterdir())


def test_folder_without_leave_to_write_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(InputError, match=r"--out must be a folder that can be written to; got .*choose another"):
        check_folder(tmp_path / "a", "--out")


@pytest.mark.parametrize(
    "summary",
    [
        None,
        "not json",
        "[]",
        json.dumps({"video": "a"}),
        json.dumps({"source": None}),
        json.dumps({"source": "/a.mp4"}),
    ],
    ids=["none", "damaged", "a-list", "of-an-older-version", "of-an-array", "of-this-video"],
)
def test_only_the_summary_of_another_video_is_in_the_way(tmp_path, summary):
    if summary is not None:
        (tmp_path / "summary.json").write_text(summary)
    check_unmixed(tmp_path, "/a.mp4")


def test_summary_of_another_video_is_in_the_way(tmp_path):
    (tmp_path / "summary.json").write_text(json.dumps({"source": "/a.mp4"}))
    with pytest.raises(InputError, match=r"/a\.mp4; choose another"):
        check_unmixed(tmp_path, "/b.mp4")
