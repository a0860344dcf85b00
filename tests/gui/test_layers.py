from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from napari.layers import Image, Labels, Points
from napari.layers._source import layer_source
from napari.utils.colormaps import Colormap

from napari_virst.errors import VideoError
from napari_virst.gui import layers
from napari_virst.gui.frames import LayerFrames
from napari_virst.io.display import Display
from napari_virst.records import Query

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("layer", "axes"),
    [
        pytest.param(Image(np.zeros((4, 8, 9))), "TYX", id="gray-video"),
        pytest.param(Image(np.zeros((4, 8, 9, 3), np.uint8), rgb=True), "TYXS", id="colour-video"),
        pytest.param(Image(np.zeros((8, 9))), "YX", id="gray-picture"),
        pytest.param(Image(np.zeros((8, 9, 4), np.uint8), rgb=True), "YXS", id="rgba-picture"),
        pytest.param(Image(np.zeros((3, 8, 9), np.uint8), rgb=False), "TYX", id="three-frames-are-not-colour"),
        pytest.param(Image([np.zeros((4, 8, 9)), np.zeros((4, 4, 5))], multiscale=True), "TYX", id="multiscale"),
    ],
)
def test_axes_of_a_layer_are_told_not_guessed(layer: Image, axes: str) -> None:
    assert layers.video_source(layer).axes == axes
    num_frames = 1 if layer.ndim == 2 else len(layers.video_source(layer).data)
    with_frames = LayerFrames(layer)
    assert with_frames.shape == (num_frames, 8, 9, 3)
    assert layers.video_shape(layer) == with_frames.shape[:3]
    with_frames.close()


def test_layer_with_planes_is_refused_with_advice() -> None:
    with pytest.raises(VideoError, match=r"must be a video.*got planes \(4,\).*choose one"):
        layers.video_source(Image(np.zeros((3, 4, 8, 9)), name="stack"))


def test_display_is_what_napari_draws() -> None:
    frame = np.linspace(0, 1000, 64, dtype=np.float32).reshape(8, 8)
    colormap = Colormap([[0, 0, 0], [1, 0, 0], [1, 1, 0]], controls=[0, 0.2, 1], name="uneven")
    image = Image(frame, contrast_limits=(100, 800), gamma=0.7, colormap=colormap)
    drawn = colormap.map(np.clip((frame.ravel() - 100) / 700, 0, 1) ** 0.7)[:, :3].reshape(8, 8, 3)
    shown = layers.display_of(image).to_rgb(frame) / 255
    np.testing.assert_allclose(shown, drawn, atol=0.03)  # the display keeps 256 levels


def test_colour_video_is_shown_as_it_is() -> None:
    frame = np.arange(8 * 9 * 3, dtype=np.uint8).reshape(8, 9, 3)
    image = Image(frame[None], rgb=True)
    assert layers.display_of(image) == Display((0, 255))
    np.testing.assert_array_equal(layers.display_of(image).to_rgb(frame), frame)


def test_movie_of_our_reader_is_read_from_its_file_again(tmp_path: Path) -> None:
    path = tmp_path / "clip.tif"
    path.touch()
    image = Image(np.zeros((4, 8, 9)), metadata={layers.METADATA_KEY: {"video_path": str(path)}})
    assert layers.video_source(image).data == path
    path.unlink()
    assert layers.video_source(image).data is image.data


@pytest.mark.parametrize("is_stack", [False, True], ids=["one-file", "first-of-a-folder"])
def test_file_that_napari_opened_is_known_where_it_holds_the_same_video(tmp_path: Path, is_stack: bool) -> None:
    video = np.zeros((4, 8, 9), np.uint8)
    if is_stack:
        for number, frame in enumerate(video):
            tifffile.imwrite(tmp_path / f"{number}.tif", frame)
    else:
        tifffile.imwrite(tmp_path / "0.tif", video, photometric="minisblack")
    place = tmp_path if is_stack else tmp_path / "0.tif"
    assert layers.file_of(opened_by_napari(video, tmp_path / "0.tif")) == str(place)
    assert layers.file_of(opened_by_napari(np.zeros((3, 8, 9)), tmp_path / "0.tif")) is None
    assert layers.file_of(Image(video)) is None


def opened_by_napari(data: Any, path: Path) -> Image:
    with layer_source(path=str(path), reader_plugin="napari"):
        return Image(data)


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param({}, id="plain"),
        pytest.param({"scale": (0.5, 3, 3), "translate": (2, -10, 4)}, id="scaled-and-shifted"),
        pytest.param({"rotate": 30, "affine": np.diag([1, 2, 2, 1.0])}, id="rotated"),
        pytest.param({"units": ("s", "um", "um")}, id="with-units"),
    ],
)
def test_labels_layer_covers_its_image(arguments: dict[str, Any]) -> None:
    image = Image(np.zeros((4, 8, 9)), **arguments)
    labels = Labels(np.zeros((4, 8, 9), int), **layers.spatial_arguments(image))
    for point in ((0, 0, 0), (3, 7, 8)):
        np.testing.assert_allclose(labels.data_to_world(point), image.data_to_world(point))
    assert labels.units == image.units


def test_labels_of_a_picture_cover_it_on_their_only_frame() -> None:
    image = Image(np.zeros((8, 9)), scale=(3, 2), translate=(1, 5), rotate=20)
    labels = Labels(np.zeros((1, 8, 9), int), **layers.spatial_arguments(image))
    np.testing.assert_allclose(labels.data_to_world((0, 7, 8))[1:], image.data_to_world((7, 8)))


@settings(max_examples=30)
@given(frame=st.integers(0, 11), step=st.floats(0.01, 100), start=st.floats(-100, 100))
def test_frame_in_view_undoes_world_time(frame: int, step: float, start: float) -> None:
    labels = Labels(np.zeros((12, 4, 4), int), scale=(step, 1, 1), translate=(start, 0, 0))
    point = (*layers.world_place_of(frame, labels, (0.0, 0.0, 0.0)), 0.0, 0.0)
    assert layers.frame_in_view(point, labels, 12) == frame


def test_frame_in_view_stays_inside_the_video() -> None:
    labels = Labels(np.zeros((12, 4, 4), int))
    assert layers.frame_in_view((40.0, 0.0, 0.0), labels, 12) == 11
    assert layers.frame_in_view((9.0, -3.0, 0.0, 0.0), labels, 12) == 0
    assert [layers.frame_at(point, labels) for point in ((40.0, 0.0, 0.0), (9.0, -3.0, 0.0, 0.0))] == [40, -3]


def test_first_label_has_the_colour_of_the_list_and_background_none() -> None:
    for row in range(2 * len(layers.PALETTE)):
        colors = layers.label_colors(row)
        np.testing.assert_allclose(colors[1, :3], layers.color_of(row), rtol=1e-6)
        assert colors[0, 3] == 0


@pytest.mark.parametrize(
    "layer",
    [
        pytest.param(None, id="no-layer"),
        pytest.param(Points(), id="points"),
        pytest.param(Labels(np.zeros((4, 4), int)), id="labels-of-others"),
        pytest.param(Image(np.zeros((4, 4)), metadata={"virst": {"track": "x"}}), id="an-image"),
    ],
)
def test_layers_of_others_have_no_track(layer: object) -> None:
    assert layers.track_id_of(layer) is None


def test_layer_is_named_after_image_and_query() -> None:
    assert layers.layer_name("clip", Query("the  cell that divides")) == "clip · the cell that divides"
