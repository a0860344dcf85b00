from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from napari.utils.interactions import mouse_move_callbacks, mouse_press_callbacks, mouse_release_callbacks

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def stack(make_bench: Callable[..., Any]) -> Any:
    """A bench with labels on plane 2 of a volume, that plane in view, and a longer video beside it."""
    bench = make_bench()
    gray = bench.video.pixels[..., 0]
    bench.viewer.add_image(np.zeros((20, 1, 4, 4)), name="longer")
    bench.viewer.add_image(np.stack([gray] * 4, axis=1), name="volume")
    bench.viewer.dims.set_current_step((0, 1), (5, 2))
    bench.ask()
    return bench


def drag(viewer: Any, *, button: int = 1) -> list[str]:
    """Press, move and release the mouse as napari's canvas does; gives the layer's mode while the button is down."""
    modes = []
    point = viewer.dims.point
    for kind, call in (
        ("mouse_press", mouse_press_callbacks),
        ("mouse_move", mouse_move_callbacks),
        ("mouse_release", mouse_release_callbacks),
    ):
        event = Event(type=kind, position=(*point[:-2], 3, 3), button=button, is_dragging=kind == "mouse_move")
        call(viewer, event)
        call(viewer.layers.selection.active, event)
        modes.append(str(viewer.layers.selection.active.mode))
    return modes


class Event:
    """What napari wraps every event in: it puts the newest into the one that a callback holds."""

    def __init__(self, **what: Any) -> None:
        rest = {"view_direction": None, "dims_displayed": (2, 3), "modifiers": (), "handled": False, "pos": (0, 0)}
        self.__wrapped__: Any = SimpleNamespace(**rest, **what)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__wrapped__, name)


@pytest.mark.parametrize("mode", ["paint", "erase", "fill"])
@pytest.mark.parametrize("step", [(5, 1), (5, 3), (15, 2)], ids=["plane-before", "plane-after", "frame-beyond"])
def test_tool_touches_nothing_where_its_labels_are_not_in_view(stack: Any, mode: str, step: tuple[int, int]) -> None:
    layer, masks = stack.viewer.layers[-1], stack.presenter._desk.session.tracks[0].masks
    layer.mode = mode
    before = np.array(masks)
    stack.viewer.dims.set_current_step((0, 1), step)
    assert drag(stack.viewer) == ["pan_zoom", "pan_zoom", mode]
    np.testing.assert_array_equal(np.asarray(masks), before)
    assert stack.message.startswith("⚠ The plane in view" if step[1] != 2 else "⚠ The frame in view")


def test_brush_paints_where_its_labels_are_in_view(stack: Any) -> None:
    layer = stack.viewer.layers[-1]
    layer.mode = "paint"
    assert drag(stack.viewer) == ["paint"] * 3
    assert layer.data[5, 0, 3, 3] == 1
    assert not stack.message.startswith("⚠")


def test_layers_of_others_are_painted_as_ever(stack: Any) -> None:
    other = stack.viewer.add_labels(np.zeros((20, 4, 32, 48), int))
    other.mode = "paint"
    stack.viewer.dims.set_current_step((0, 1), (15, 3))
    drag(stack.viewer)
    assert other.data[15, 3, 3, 3] == 1


def test_closed_presenter_guards_nothing(stack: Any) -> None:
    listening = len(stack.viewer.mouse_drag_callbacks)
    stack.presenter.close()
    assert len(stack.viewer.mouse_drag_callbacks) == listening - 1


@pytest.mark.parametrize("dims", [{"ndisplay": 3}, {"order": (2, 0, 1)}], ids=["3d", "time-as-an-axis-seen"])
def test_stroke_across_time_takes_no_frame_from_the_model(bench: Any, qtbot: Any, dims: dict[str, Any]) -> None:
    layer = bench.ask()
    track = bench.presenter._desk.session.tracks[0]
    layer.mode = "paint"
    bench.viewer.dims.update(dims)
    assert drag(bench.viewer)[0] == "pan_zoom"
    assert track.masks.owned_frames == ()
    assert bench.message.startswith("⚠ One frame must be in view")
    bench.presenter.commit(layer)
    assert track.masks.owned_frames == ()
    bench.viewer.dims.update({"ndisplay": 2, "order": (0, 1, 2)})
    qtbot.waitUntil(lambda: not bench.message)
