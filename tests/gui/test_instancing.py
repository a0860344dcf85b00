from __future__ import annotations

import threading
from functools import partial
from typing import Any

import numpy as np
import pytest
from napari.layers import Tracks

from napari_virst.errors import InputError
from napari_virst.records import Provenance, Span


@pytest.fixture
def two(bench: Any) -> Any:
    """A bench whose query is found as two pieces on every frame."""
    predict = bench.segmenter.predict
    bench.segmenter.predict = lambda anchors, frame: predict(anchors, frame) | _corner(bench.video.masks[0].shape)
    bench.ask()
    return bench


def _corner(shape: tuple[int, ...]) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[:4, :4] = True
    return mask


def test_split_merge_swap_and_undo(two: Any) -> None:
    layer, menu = two.viewer.layers[-1], two.dock.instances_menu
    menu.split_requested.emit(False)
    assert two.message.startswith("2 instances found")
    corner, disc = (int(layer.data[0][place]) for place in ((0, 0), tuple(two.video.centers[0].astype(int))))
    assert {corner, disc} == {1, 2}
    two.go_to(6)
    menu.swap_requested.emit(1, 2)
    assert (layer.data[5, 0, 0], layer.data[6, 0, 0]) == (corner, disc)
    two.presenter.undo(layer)
    assert layer.data[6, 0, 0] == corner
    assert "swapping" in two.message
    menu.merge_requested.emit(1, 2)
    assert set(np.unique(layer.data[6])) == {0, 1}
    assert set(np.unique(layer.data[5])) == {0, 1, 2}


def test_one_instance_is_split_and_its_parent_named(two: Any) -> None:
    layer, menu = two.viewer.layers[-1], two.dock.instances_menu
    menu.split_requested.emit(False)
    menu.merge_requested.emit(1, 2)
    assert set(np.unique(layer.data[6])) == {0, 1}
    two.go_to(6)
    menu.split_one_requested.emit(1, False)
    assert two.message == "1 new instance from instance 1, from frame 6 on."
    assert [set(np.unique(layer.data[frame])) for frame in (5, 6)] == [{0, 1}, {0, 1, 3}]
    menu.parent_requested.emit(3, 1)
    track = two.presenter._desk.session.tracks[0]
    assert track.lineage.parents[3] == 1
    assert two.message == "Instance 3 came from instance 1."
    menu.parent_requested.emit(1, 3)
    assert two.message.startswith("⚠ ")


def test_instance_in_one_piece_is_said_to_be(two: Any) -> None:
    two.dock.instances_menu.split_requested.emit(False)
    two.go_to(0)
    two.dock.instances_menu.split_one_requested.emit(1, False)
    assert two.message == "Instance 1 is in one piece from frame 0 on."


def test_division_of_one_piece_says_that_it_needs_two(two: Any) -> None:
    layer, menu = two.viewer.layers[-1], two.dock.instances_menu
    menu.split_requested.emit(False)
    two.go_to(6)
    before, track = np.array(layer.data), two.presenter._desk.session.tracks[0]
    lineage = track.lineage
    menu.split_one_requested.emit(1, True)
    assert two.message.startswith("⚠ An instance that divides must be in two or more pieces; got instance 1")
    np.testing.assert_array_equal(layer.data, before)
    assert track.lineage is lineage
    two.presenter.undo(layer)
    assert "splitting into instances" in two.message


@pytest.mark.parametrize(
    ("wish", "labels"),
    [
        pytest.param("merge_requested", (1, 2), id="merge"),
        pytest.param("swap_requested", (1, 2), id="swap"),
        pytest.param("split_one_requested", (1, False), id="split-one"),
    ],
)
def test_instances_beyond_the_video_are_not_changed_on_its_last_frame(two: Any, wish: str, labels: Any) -> None:
    layer, menu = two.viewer.layers[-1], two.dock.instances_menu
    menu.split_requested.emit(False)
    before = np.array(layer.data)
    two.viewer.add_labels(np.zeros((40, 32, 48), int), name="longer")
    two.go_to(30)
    getattr(menu, wish).emit(*labels)
    assert two.message.startswith("⚠ The frame in view must be one of this video's 12; got 30; ")
    np.testing.assert_array_equal(layer.data, before)


def test_menu_offers_the_instances_that_there_are(two: Any) -> None:
    two.dock.instances_menu.split_requested.emit(False)
    two.viewer.layers[-1].selected_label = 2
    two.dock.instances_menu.aboutToShow.emit()
    titles = [action.text() for action in two.dock.instances_menu.actions()]
    assert "Merge into instance 2" in titles


def test_tracks_layer_lies_on_the_image_and_leaves_the_keys_alone(two: Any) -> None:
    layer = two.viewer.layers[-1]
    two.dock.instances_menu.split_requested.emit(False)
    for _ in range(2):
        two.dock.instances_menu.show_tracks_requested.emit()
    [tracks] = [one for one in two.viewer.layers if isinstance(one, Tracks)]
    assert tracks.name == "disc · the red disc · tracks"
    assert len(tracks.data) == 2 * 12
    assert two.viewer.layers.selection.active is layer


def test_undo_of_a_run_brings_back_what_was_before(bench: Any) -> None:
    layer = bench.ask()
    before = np.array(layer.data)
    bench.go_to(5)
    layer.data[5:6] = np.roll(bench.video.masks[5], 3, axis=0)[None]
    bench.presenter.repropagate(layer)
    assert not np.array_equal(layer.data[6], before[6])
    bench.presenter.undo(layer)
    np.testing.assert_array_equal(layer.data[6], before[6])
    assert bench.message == "Undone for “the red disc”: the last run."
    bench.presenter._showing._show_work()
    assert bench.dock.progress_label.text() == ""


def test_undo_of_a_correction_leaves_what_the_run_came_to(bench: Any) -> None:
    layer = bench.ask()
    bench.presenter.commit(layer)
    bench.presenter.undo(layer)
    bench.presenter._showing._show_work()
    assert bench.message == "Undone for “the red disc”: the correction."
    assert bench.dock.progress_label.text().startswith("done")


@pytest.mark.parametrize("num_presses", [1, 2])
def test_undo_during_a_run_stops_it_and_takes_it_back(bench: Any, qtbot: Any, num_presses: int) -> None:
    layer = bench.ask()
    before = np.array(layer.data)
    bench.go_to(5)
    layer.data[5:6] = np.roll(bench.video.masks[5], 3, axis=0)[None]

    def press(frame: int) -> None:
        if frame == 8:
            for _ in range(num_presses):
                bench.presenter.undo(layer)

    bench.segmenter.before_frame = press
    bench.presenter.repropagate(layer)
    qtbot.waitUntil(lambda: bench.message == "Undone for “the red disc”: the last run.")
    np.testing.assert_array_equal(np.delete(layer.data, 5, axis=0), np.delete(before, 5, axis=0))
    assert bench.presenter._desk.session.tracks[0].masks.owned_frames == (5,)


def test_nothing_to_undo_is_said(bench: Any) -> None:
    layer = bench.ask()
    bench.presenter.undo(layer)
    assert bench.presenter._desk.session.tracks[0].masks.provenance(0) is Provenance.EMPTY
    bench.presenter.undo(layer)
    assert bench.message.startswith("Nothing to undo")


class Later:
    """Does what it is given when the test says so, in another thread."""

    def __init__(self) -> None:
        self.waiting: list[Any] = []

    def __call__(self, action: Any, on_end: Any) -> None:
        self.waiting.append((action, on_end))

    def do(self) -> Any:
        action, on_end = self.waiting.pop()
        thread = threading.Thread(target=action)
        thread.start()
        thread.join(30)
        return on_end


def test_while_one_lengthy_change_is_made_nothing_else_touches_the_session(bench: Any) -> None:
    layer, later = bench.ask(), Later()
    desk = bench.presenter._desk
    desk._in_background = later
    layer.mode = "paint"
    bench.dock.instances_menu.split_requested.emit(False)
    assert not layer.editable
    for wish in (bench.presenter.commit, bench.presenter.undo, bench.presenter.repropagate):
        wish(layer)
        assert "splitting into instances" in bench.message
    bench.presenter.run("the disc")
    assert len(desk.session.tracks) == 1
    later.do()(None)
    assert (layer.editable, layer.mode, desk.doing) == (True, "paint", "")
    assert desk.session.tracks[0].lineage is not None


def test_failure_in_the_background_is_a_sentence_and_the_layer_is_editable_again(bench: Any) -> None:
    layer, later = bench.ask(), Later()
    bench.presenter._desk._in_background = later
    bench.dock.instances_menu.split_requested.emit(False)
    later.waiting.pop()[1](InputError("The moon must be full; got half; wait."))
    assert "The moon must be full" in bench.message
    assert layer.editable


@pytest.mark.parametrize("has_begun", [False, True], ids=["before-it-begins", "while-it-works"])
def test_closing_during_a_lengthy_change_closes_the_session_once(bench: Any, has_begun: bool) -> None:
    layer, later = bench.ask(), Later()
    desk = bench.presenter._desk
    desk._in_background = later
    layer_at_work: list[bool] = []

    def change() -> None:
        if has_begun:
            bench.presenter.close()
        layer_at_work.append(desk.session._closed)

    desk.do_in_background("changing", change, lambda _: None)
    if not has_begun:
        bench.presenter.close()
    later.do()
    assert layer_at_work == ([False] if has_begun else [])
    assert desk.session._closed
    assert not layer.keymap


def test_lengthy_change_can_be_cancelled_and_says_so(two: Any) -> None:
    layer, later = two.viewer.layers[-1], Later()
    desk = two.presenter._desk
    desk._in_background = later
    two.dock.instances_menu.split_requested.emit(False)
    two.presenter._showing._show_work()
    assert two.dock.cancel_button.isEnabled()
    frames = type(desk.session)._until_halted

    def cancelled(session: Any, all_frames: Any) -> Any:
        for number, frame in enumerate(frames(session, all_frames)):
            if number == 3:
                two.dock.cancel_requested.emit()
            yield frame

    desk.session._until_halted = partial(cancelled, desk.session)
    action, on_end = later.waiting.pop()
    action()
    on_end(None)
    assert two.message.startswith("Cancelled; what was done by then stays")
    assert [int(layer.data[frame].max()) for frame in (0, 3, 4, 11)] == [2, 2, 1, 1]


@pytest.mark.parametrize("wish", ["split", "accept", "show tracks"])
def test_lengthy_change_that_waits_its_turn_can_be_cancelled(two: Any, wish: str) -> None:
    layer, later = two.viewer.layers[-1], Later()
    desk, track = two.presenter._desk, two.presenter._desk.session.tracks[0]
    two.dock.instances_menu.split_requested.emit(False)
    lineage, before, num_layers = track.lineage, np.array(layer.data), len(two.viewer.layers)
    desk._in_background = later
    if wish == "accept":
        two.dock.timeline._select(Span(0, 12))
        two.presenter.accept(layer)
    else:
        menu = two.dock.instances_menu
        (menu.split_requested if wish == "split" else menu.show_tracks_requested).emit(*([True] * (wish == "split")))
    two.dock.cancel_requested.emit()
    later.do()(None)
    assert two.message.startswith("Cancelled")
    np.testing.assert_array_equal(np.array(layer.data), before)
    assert track.lineage is lineage
    assert track.masks.owned_frames == ()
    assert len(two.viewer.layers) == num_layers
    two.dock.instances_menu.split_requested.emit(False)
    later.do()(None)
    assert two.message.startswith("2 instances found"), "the next change is not cancelled"


def test_undoing_cannot_be_cancelled(two: Any) -> None:
    later = Later()
    two.presenter._desk._in_background = later
    two.presenter.undo(two.viewer.layers[-1])
    two.presenter._showing._show_work()
    assert not two.dock.cancel_button.isEnabled()
    action, on_end = later.waiting.pop()
    action()
    on_end(None)


def test_refusal_during_a_run_is_gone_when_the_run_has_ended(two: Any) -> None:
    refused: list[str] = []

    def wish(frame: int) -> None:
        two.dock.instances_menu.split_requested.emit(False)
        refused.append(two.message)

    two.segmenter.before_frame = wish
    two.ask()
    assert refused[0].startswith("⚠ A run must have ended before splitting into instances")
    two.presenter._showing._show_work()
    assert not two.message
