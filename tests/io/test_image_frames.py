from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from napari_virst.engine.protocol import Frames
from napari_virst.errors import InputError, VideoError
from napari_virst.io.image_frames import ImageFrames, frame_names


def images(folder, *names):
    paths = tuple(folder / f"{name}.png" for name in names)
    for value, path in enumerate(paths):
        Image.fromarray(np.full((5, 7), value, np.uint8)).save(path)
    return paths


def test_listed_images_are_the_frames_in_the_order_listed(tmp_path):
    first, second = images(tmp_path, "b", "a")
    frames = ImageFrames((first, second))
    assert isinstance(frames, Frames)
    assert frames.shape == (2, 5, 7, 3)
    assert [int(frames[n].max()) for n in (1, 0)] == [1, 0]
    assert frames.fingerprint != ImageFrames((second, first)).fingerprint


def test_no_image_is_no_video():
    with pytest.raises(InputError, match="at least one frame"):
        ImageFrames(())


def test_image_that_is_missing_is_named(tmp_path):
    with pytest.raises(VideoError, match="nowhere"):
        ImageFrames((tmp_path / "nowhere.png",))


def test_names_of_frames_come_in_the_order_of_their_numbers(tmp_path):
    for name in ("t10", "t2", "t1"):
        (tmp_path / f"{name}.png").touch()
    assert frame_names(tmp_path) == ("t1", "t2", "t10")
