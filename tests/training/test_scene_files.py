import json

import numpy as np
import pytest

from napari_virst.errors import InputError
from napari_virst.evaluation.clips import find_clips
from napari_virst.io.video import open_video
from napari_virst.training.evaluation import evaluation_scenes
from napari_virst.training.scene_files import write_scene


@pytest.fixture
def scene():
    return next(iter(evaluation_scenes(7001, 1, kinds=["event"], num_frames=6, size=64)))


def test_a_scene_comes_back_from_disk_as_an_annotated_clip(scene, tmp_path):
    frames, masks, query, kind = scene
    write_scene(tmp_path / "00", frames, masks, query, kind, label=7)

    (clip,) = find_clips(tmp_path)
    (item,) = clip.objects
    assert (item.label, item.expressions) == (7, (query,))
    assert item.first_frame == np.flatnonzero(masks.any((1, 2)))[0]
    assert all(np.array_equal(clip.mask(t, 7, (64, 64)), masks[t]) for t in range(6))
    with open_video(clip.video) as video, video.reader() as reader:
        assert all(np.array_equal(reader[t], frames[t]) for t in range(6))


def test_what_is_not_there_is_no_object(scene, tmp_path):
    frames, masks, query, _ = scene
    write_scene(tmp_path / "00", frames, np.zeros_like(masks), query, "absent")

    assert find_clips(tmp_path)[0].objects == ()
    assert json.loads((tmp_path / "00" / "meta.json").read_text())["absent"] == [query]


def test_files_are_never_written_over(scene, tmp_path):
    write_scene(tmp_path / "00", *scene)
    with pytest.raises(InputError, match="must be written to a new folder"):
        write_scene(tmp_path / "00", *scene)
