from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
import pytest
import zarr
from napari.components import ViewerModel
from napari.layers import Image, Labels, Tracks

from napari_virst.gui import layers, planes
from napari_virst.gui.frames import LayerFrames
from napari_virst.gui.plane_masks import PlaneMasks

if TYPE_CHECKING:
    from collections.abc import Callable

# What is pure ----------------------------------------------------------------------------------------------------

PLACES = [
    pytest.param({}, id="plain"),
    pytest.param({"scale": (0.5, 4, 3, 3), "translate": (2, 7, -10, 4)}, id="scaled-and-shifted"),
    pytest.param({"rotate": 30, "scale": (1, 4, 2, 2)}, id="rotated"),
    pytest.param({"affine": [[1, 0, 0, 0, 0], [0, 2, 0, 0, 5], [0, 0.5, 1, 0, 0], [0, 0, 0, 1, 3], [0, 0, 0, 0, 1]]}),
    pytest.param({"shear": (0, 0, 0, 0.2, 0, 0.1), "scale": (1, 3, 1, 1)}, id="sheared"),
    pytest.param({"units": ("s", "um", "um", "um"), "axis_labels": ("t", "z", "y", "x")}, id="with-units"),
]


@pytest.mark.filterwarnings("ignore:Non-orthogonal slicing")
@pytest.mark.parametrize("arguments", PLACES)
def test_plane_and_its_labels_lie_where_the_plane_lies_in_the_volume(arguments: dict[str, Any]) -> None:
    volume = Image(np.arange(3 * 4 * 8 * 9).reshape(3, 4, 8, 9), name="stack", **arguments)
    data, place = planes.plane_arguments(volume, (2,))
    plane = Image(data, **place)
    labels = Labels(np.zeros((3, 1, 8, 9), int), **layers.spatial_arguments(plane))
    np.testing.assert_array_equal(plane.data, volume.data[:, 2:3])
    for layer in (plane, labels):
        for y, x in ((0, 0), (7, 8)):
            np.testing.assert_allclose(layer.data_to_world((1, 0, y, x)), volume.data_to_world((1, 2, y, x)))
        assert (layer.units, layer.axis_labels) == (volume.units, volume.axis_labels)


def test_plane_looks_like_its_volume() -> None:
    volume = Image(np.zeros((3, 4, 8, 9)), name="stack", contrast_limits=(0, 900), colormap="magma", gamma=0.5)
    _, arguments = planes.plane_arguments(volume, (2,))
    plane = Image(np.zeros((3, 1, 8, 9)), **arguments)
    assert (plane.name, plane.contrast_limits, plane.gamma) == ("stack · plane 2", [0, 900], 0.5)
    assert (plane.colormap.name, plane.blending) == ("magma", volume.blending)


@pytest.mark.parametrize(
    ("shape", "rgb", "plane", "axes", "cut"),
    [
        pytest.param((3, 4, 8, 9), False, (2,), "TYX", np.s_[:, 2], id="gray"),
        pytest.param((3, 4, 8, 9, 3), True, (2,), "TYXS", np.s_[:, 2], id="colour"),
        pytest.param((3, 2, 4, 8, 9), False, (1, 2), "TYX", np.s_[:, 1, 2], id="channels-and-planes"),
    ],
)
@pytest.mark.parametrize("make_array", [np.array, da.from_array, zarr.array], ids=["numpy", "dask", "zarr"])
def test_frames_of_a_plane_are_cut_lazily(
    make_array: Any, shape: tuple[int, ...], rgb: bool, plane: tuple[int, ...], axes: str, cut: Any
) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)
    volume = Image(make_array(pixels), rgb=rgb, contrast_limits=(0, 255))
    data, arguments = planes.plane_arguments(volume, plane)
    assert isinstance(data, np.ndarray if make_array is np.array else da.Array)
    image = Image(data, **arguments)
    source = layers.video_source(image)
    assert source.axes == axes
    np.testing.assert_array_equal(np.asarray(source.data), pixels[cut])
    if make_array is np.array:
        assert np.shares_memory(source.data, volume.data)
    frames = LayerFrames(image)
    assert frames.shape == (*layers.video_shape(image), 3) == (3, 8, 9, 3)
    frames.close()


def test_plane_in_view_is_where_the_viewer_is_in_world_coordinates() -> None:
    volume = Image(np.zeros((3, 2, 4, 8, 9)), scale=(1, 1, 5, 1, 1), translate=(0, 0, 100, 0, 0))
    assert planes.plane_in_view((0, 1, 110, 0, 0), volume) == (1, 2)
    assert planes.plane_in_view((9, 0, 7, 0, 0, 0), volume) == (1, 0)
    assert planes.plane_in_view((0, 0, 400, 0, 0), volume) == (0, 3)


def test_plane_is_seen_in_its_own_place_and_where_its_axis_is_seen_whole() -> None:
    volume = Image(np.zeros((3, 4, 8, 9)), scale=(1, 5, 1, 1))
    plane = Image(np.zeros((3, 1, 8, 9)), **planes.plane_arguments(volume, (2,))[1])
    assert [planes.is_seen((1, z, 0, 0), (2, 3), plane) for z in (5, 10, 15)] == [False, True, False]
    assert planes.is_seen((6, 1, 15, 0, 0), (2, 3, 4), plane)
    assert planes.is_seen((1, 15, 0, 0), (2, 3), Image(np.zeros((3, 8, 9))))


def test_volume_is_found_by_the_name_of_its_plane() -> None:
    volume = Image(np.zeros((3, 2, 4, 8, 9)), name="stack")
    images = [Image(np.zeros((3, 8, 9)), name="stack · plane 1, 3"), volume]
    assert planes.volume_called(images, "stack · plane 1, 3", (3, 8, 9)) == (volume, (1, 3))
    assert planes.volume_called(images, "stack · plane 1, 4", (3, 8, 9)) is None
    assert planes.volume_called(images, "stack · plane 1, 3", (4, 8, 9)) is None


# In a viewer -----------------------------------------------------------------------------------------------------


def volume_of(bench: Any, num_planes: int = 3, **arguments: Any) -> Image:
    """Add the disc video as plane 1 of a volume that shows something else on its other planes."""
    gray = bench.video.pixels[..., 0]
    pixels = np.stack([gray if plane == min(1, num_planes - 1) else gray[::-1] for plane in range(num_planes)], axis=1)
    return bench.viewer.add_image(pixels, **{"name": "volume", **arguments})


def world_of(layer: Any, frame: int) -> tuple[float, ...]:
    return layer.data_to_world((frame, *[0] * (layer.ndim - 3), 4, 5))


@pytest.fixture
def volume(make_bench: Callable[..., Any]) -> Any:
    """A bench with a volume, plane 1 and frame 5 in view, and its query answered."""
    bench = make_bench()
    volume_of(bench, scale=(1, 4, 2, 2))
    bench.viewer.dims.set_current_step((0, 1), (5, 1))
    bench.ask()
    return bench


def test_plane_in_view_is_followed_and_nothing_jumps(volume: Any) -> None:
    dims, layer = volume.viewer.dims, volume.viewer.layers[-1]
    assert [one.name for one in volume.viewer.layers] == [
        "volume",
        "volume · plane 1",
        "volume · plane 1 · the red disc",
    ]
    assert layer.data.shape == (12, 1, 32, 48)
    assert (dims.ndim, dims.current_step[:2]) == (4, (5, 1))
    np.testing.assert_array_equal(np.asarray(layer.data)[:, 0] != 0, volume.video.masks)
    told = "'volume' has several planes; the one in view, plane 1, is followed, and its labels show only there."
    assert volume.message == told
    for frame in (7, 4):
        dims.set_current_step(0, frame)
        assert volume.presenter._desk.view.frame() == frame
    assert volume.viewer.layers["volume"].visible


@pytest.mark.parametrize("shape", [(12, 1), (12, 1, 1)], ids=["TZYX", "TCZYX"])
def test_volume_of_one_plane_is_followed_itself(make_bench: Callable[..., Any], shape: tuple[int, ...]) -> None:
    bench = make_bench()
    image = bench.viewer.add_image(bench.video.pixels[..., 0].reshape(*shape, 32, 48), name="one")
    layer = bench.ask()
    assert [one.name for one in bench.viewer.layers] == ["one", "one · the red disc"]
    assert (bench.message, layer.data.shape) == ("", image.data.shape)
    np.testing.assert_array_equal(np.asarray(layer.data).reshape(12, 32, 48) != 0, bench.video.masks)


def test_channels_and_planes_of_five_axes_are_both_chosen(make_bench: Callable[..., Any]) -> None:
    bench = make_bench()
    gray = bench.video.pixels[..., 0]
    pixels = np.zeros((12, 2, 3, 32, 48), np.uint8)
    pixels[:, 1, 2] = gray
    bench.viewer.add_image(pixels, name="stack")
    bench.viewer.dims.set_current_step((0, 1, 2), (3, 1, 2))
    layer = bench.ask()
    assert layer.name == "stack · plane 1, 2 · the red disc"
    assert (layer.data.shape, bench.viewer.dims.current_step[:3]) == ((12, 1, 1, 32, 48), (3, 1, 2))
    np.testing.assert_array_equal(np.asarray(layer.data)[:, 0, 0] != 0, bench.video.masks)


def test_stroke_commit_absence_and_a_new_run_work_in_the_plane(volume: Any) -> None:
    layer, presenter = volume.viewer.layers[-1], volume.presenter
    painted = np.roll(volume.video.masks[5], 3, axis=0).astype(np.uint16)
    layer.data[5:6, 0:1] = painted[None, None]
    presenter.commit(layer)
    presenter.repropagate(layer)
    np.testing.assert_array_equal(layer.data[5, 0], painted)
    moved_by = np.argwhere(layer.data[6, 0]).mean(axis=0) - volume.video.centers[6]
    np.testing.assert_allclose(moved_by, (3, 0), atol=0.5)
    volume.viewer.dims.set_current_step(0, 8)
    presenter.mark_absent(layer)
    assert not layer.data[8].any()
    track = presenter._desk.session.tracks[0]
    assert track.masks.owned_frames == (5, 8)
    presenter.undo(layer)
    assert layer.data[8].any()


def test_brush_undone_gives_the_frame_back_to_the_model(volume: Any) -> None:
    layer, masks = volume.viewer.layers[-1], volume.presenter._desk.session.tracks[0].masks
    before = layer.data[5]
    layer.paint((5, 0, 2, 2), 1)
    assert masks.owned_frames == (5,)
    layer.undo()
    assert masks.owned_frames == ()
    np.testing.assert_array_equal(layer.data[5], before)


def test_frame_of_another_plane_is_described_and_not_changed(volume: Any) -> None:
    layer, presenter = volume.viewer.layers[-1], volume.presenter
    volume.viewer.dims.set_current_step(1, 2)
    presenter._showing._tell()
    assert volume.dock.frame_label.text().endswith("; its labels are in plane 1, another is in view")
    presenter.commit(layer)
    assert volume.message.startswith("⚠ The plane in view must be plane 1")
    assert presenter._desk.session.tracks[0].masks.owned_frames == ()
    volume.viewer.dims.set_current_step(1, 1)
    presenter._showing._tell()
    assert "plane" not in volume.dock.frame_label.text()
    assert volume.message == ""


def test_frame_chosen_on_the_timeline_comes_into_view_with_its_plane(volume: Any) -> None:
    volume.viewer.dims.set_current_step(1, 0)
    volume.dock.timeline.frame_chosen.emit(9)
    assert volume.viewer.dims.current_step[:2] == (9, 1)


def test_another_plane_of_the_volume_is_another_image_with_labels_of_its_own(volume: Any) -> None:
    first = volume.viewer.layers[-1]
    before = np.array(first.data)
    volume.dock.image_chosen.emit(0)
    volume.viewer.dims.set_current_step(1, 2)
    second = volume.ask()
    assert second.name == "volume · plane 2 · the red disc"
    assert world_of(second, 3)[1] - world_of(first, 3)[1] == 4
    np.testing.assert_array_equal(np.asarray(first.data), before)
    volume.viewer.layers.selection.active = first
    assert volume.dock.image_box.currentText() == "volume · plane 1"


def test_volume_asked_again_at_the_same_plane_goes_on_with_its_layer(volume: Any) -> None:
    volume.dock.image_chosen.emit(0)
    volume.presenter.run("the disc")
    assert [layer.name for layer in volume.viewer.layers if isinstance(layer, Image)] == ["volume", "volume · plane 1"]
    assert len(volume.presenter._desk.session.tracks) == 2


def test_volume_blended_with_others_is_hidden_where_its_plane_would_double_it(make_bench: Callable[..., Any]) -> None:
    bench = make_bench()
    image = volume_of(bench, blending="additive")
    bench.ask()
    assert not image.visible


@pytest.mark.parametrize("is_cut", [False, True], ids=["volume-open", "plane-open"])
def test_project_of_a_plane_opens_again(
    volume: Any, make_bench: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, is_cut: bool
) -> None:
    layer, folder = volume.viewer.layers[-1], volume.presenter._desk.session.folder
    layer.name = "mother cell"
    expected = np.array(layer.data)
    volume.presenter.close()
    other = make_bench(ViewerModel())
    other.add_video(name="another of this shape")
    image = volume_of(other, scale=(1, 4, 2, 2))
    if is_cut:
        data, arguments = planes.plane_arguments(image, (1,))
        other.viewer.add_image(data, **arguments)
    monkeypatch.setattr(other.dock, "ask_folder_to_open", lambda start: folder)
    other.dock.open_requested.emit()
    again = other.viewer.layers[-1]
    assert again.name == "volume · plane 1 · mother cell"
    np.testing.assert_array_equal(np.asarray(again.data), expected)
    np.testing.assert_allclose(world_of(again, 3), world_of(layer, 3))
    assert [one.name for one in other.viewer.layers].count("volume · plane 1") == 1


def test_dock_opened_again_takes_up_the_labels_of_a_plane(volume: Any, make_bench: Callable[..., Any]) -> None:
    layer = volume.viewer.layers[-1]
    layer.paint((5, 0, 2, 2), 1)
    duplicate = volume.viewer.add_labels(copy.deepcopy(layer.data), name="copy", metadata=dict(layer.metadata))
    volume.presenter.close()
    again = make_bench(volume.viewer)
    new = again.viewer.layers["volume · plane 1 · the red disc"]
    assert duplicate in again.viewer.layers
    assert isinstance(new.data, PlaneMasks)
    assert new.data.masks.owned_frames == (5,)
    assert new.keymap


def test_tracks_lie_on_the_plane(volume: Any) -> None:
    layer, menu = volume.viewer.layers[-1], volume.dock.instances_menu
    menu.split_requested.emit(False)
    menu.show_tracks_requested.emit()
    [tracks] = [one for one in volume.viewer.layers if isinstance(one, Tracks)]
    assert tracks.data.shape[1] == 5
    place = tracks.data_to_world(tracks.data[3, 1:])
    np.testing.assert_allclose(place[:2], world_of(layer, int(tracks.data[3, 1]))[:2])
    np.testing.assert_allclose(tracks.data[3, 3:], volume.video.centers[3], atol=1)


def test_seeing_in_three_dimensions_leaves_painting_and_runs_alone(volume: Any) -> None:
    layer, dims = volume.viewer.layers[-1], volume.viewer.dims
    dims.ndisplay = 3
    layer.paint((5, 0, 2, 2), 1)
    volume.presenter.commit(layer)
    volume.presenter.repropagate(layer)
    assert volume.message.startswith("Re-propagating frames")
    assert layer.get_value((5, 4, 4, 4), view_direction=np.array([0, 1, 0, 0]), dims_displayed=[1, 2, 3], world=True)
    dims.ndisplay = 2
    assert layer.data[5, 0, 2, 2] == 1
