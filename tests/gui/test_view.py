"""Which frame of an image is seen, and whether it may be changed from there."""

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_virst.errors import InputError
from napari_virst.gui.view import View


@pytest.fixture
def viewer() -> ViewerModel:
    """A short video beside a longer one, so that the slider goes beyond the short one."""
    viewer = ViewerModel()
    viewer.add_image(np.zeros((5, 8, 8), np.uint8), name="short")
    viewer.add_image(np.zeros((9, 8, 8), np.uint8), name="long")
    return viewer


@pytest.mark.parametrize("frame", range(9))
def test_a_frame_beyond_the_video_is_seen_as_its_last_and_cannot_be_changed(viewer, frame):
    view = View(viewer, viewer.layers["short"], 5)
    viewer.dims.set_current_step(0, frame)
    assert view.frame() == min(frame, 4)
    assert view.frame_outside() == (None if frame < 5 else frame)
    if frame < 5:
        assert view.frame_to_change() == frame
    else:
        with pytest.raises(InputError, match="frames 0–4"):
            view.frame_to_change()


def test_another_plane_in_view_is_told_before_the_frame(viewer):
    viewer.add_image(np.zeros((5, 3, 8, 8), np.uint8), name="volume")
    plane = viewer.add_image(np.zeros((5, 1, 8, 8), np.uint8), name="plane", translate=(0, 1, 0, 0))
    view = View(viewer, plane, 5)
    viewer.dims.set_current_step((0, 1), (3, 1))
    assert (view.sees_plane(), view.frame_to_change()) == (True, 3)
    viewer.dims.set_current_step(1, 2)
    assert not view.sees_plane()
    with pytest.raises(InputError, match="plane in view"):
        view.frame_to_change()


def test_time_is_seen_whole_only_where_it_is_displayed(viewer):
    view = View(viewer, viewer.layers["short"], 5)
    assert not view.sees_time()
    viewer.dims.ndisplay = 3
    assert view.sees_time()


def test_no_frame_can_be_changed_where_all_are_in_view_at_once(viewer):
    view = View(viewer, viewer.layers["short"], 5)
    viewer.dims.set_current_step(0, 3)
    viewer.dims.ndisplay = 3
    with pytest.raises(InputError, match="One frame must be in view"):
        view.frame_to_change()
    viewer.dims.ndisplay = 2
    assert view.frame_to_change() == 3


def test_the_only_frame_of_a_picture_can_be_changed_in_3d(viewer):
    picture = viewer.add_image(np.zeros((8, 8), np.uint8), name="picture")
    viewer.dims.ndisplay = 3
    assert View(viewer, picture, 1).frame_to_change() == 0
