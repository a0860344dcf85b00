from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
from fixtures.segmenter import BatchDiscSegmenter, DiscSegmenter
from napari.components import ViewerModel
from napari.layers._source import layer_source

from napari_virst.gui import layers
from napari_virst.gui.layers import METADATA_KEY
from napari_virst.gui.main_thread import MainThread, WindowRunner
from napari_virst.gui.query_menu import QueryMenu
from napari_virst.records import Learned, Provenance

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def stroke(layer: Any, frame: int) -> None:
    """Paint as napari does: through the layer's data."""
    layer.data[frame : frame + 1, 0:4, 0:4] = layer.selected_label


def test_query_becomes_a_labels_layer_that_holds_the_mask_store(bench: Any) -> None:
    layer = bench.ask("the red disc")
    assert layer.name == "disc · the red disc"
    np.testing.assert_array_equal(np.asarray(layer.data) != 0, bench.video.masks)
    track = bench.presenter._desk.session.tracks[0]
    assert layer.data is track.masks


def test_metadata_names_track_and_provenance(bench: Any) -> None:
    layer = bench.ask()
    told = layer.metadata[METADATA_KEY]
    assert told["query"] == "the red disc"
    assert told["image"] == "disc"
    assert set(told["provenance"].tolist()) == {Provenance.PREDICTED, Provenance.PROPAGATED}


def test_labels_lie_where_the_image_lies(make_bench: Callable[..., Any]) -> None:
    bench = make_bench()
    bench.add_video(scale=(0.1, 2.0, 2.0), translate=(1.0, 10.0, 20.0))
    layer = bench.ask()
    np.testing.assert_allclose(layer.scale, (0.1, 2.0, 2.0))
    np.testing.assert_allclose(layer.translate, (1.0, 10.0, 20.0))


def test_frame_in_view_is_described(bench: Any) -> None:
    bench.ask()
    bench.go_to(4)
    bench.presenter._showing._tell()
    assert bench.dock.frame_label.text() == "frame 4: predicted (anchor), presence 1.00, predicted IoU 0.90"


def test_frame_beyond_the_video_is_not_described_as_its_last(bench: Any) -> None:
    bench.viewer.add_image(bench.video.pixels[:5], rgb=True, name="short")
    layer = bench.ask()
    bench.go_to(9)
    bench.presenter._showing._tell()
    assert bench.dock.frame_label.text() == "frame 9: outside this video, which has frames 0–4"
    stroke(layer, 2)
    bench.presenter.repropagate(layer)
    assert bench.message.startswith("Re-propagating frames")


def test_stroke_shows_as_corrected_at_once(bench: Any, qtbot: Any) -> None:
    layer = bench.ask()
    bench.go_to(5)
    stroke(layer, 5)
    qtbot.waitUntil(lambda: bench.dock.frame_label.text() == "frame 5: corrected")
    assert bench.dock.repropagate_button.isEnabled()
    assert bench.dock.plan_label.text().startswith("→ frames 0–11")


def test_correction_is_followed_and_its_pixels_stay(bench: Any) -> None:
    layer = bench.ask()
    bench.go_to(5)
    painted = np.roll(bench.video.masks[5], 3, axis=0).astype(np.uint16)
    layer.data[5:6] = painted[None]
    bench.presenter.commit(layer)
    bench.presenter.repropagate(layer)
    np.testing.assert_array_equal(layer.data[5], painted)
    moved_by = np.argwhere(layer.data[6]).mean(axis=0) - bench.video.centers[6]
    np.testing.assert_allclose(moved_by, (3, 0), atol=0.5)
    assert bench.message.startswith("Re-propagating frames")


def test_absent_frame_is_emptied_and_kept_empty(bench: Any) -> None:
    layer = bench.ask()
    bench.go_to(7)
    bench.presenter.mark_absent(layer)
    bench.presenter.run("the red disc")
    assert not layer.data[7].any()


def test_repropagating_without_corrections_says_so(bench: Any) -> None:
    layer = bench.ask()
    bench.presenter.repropagate(layer)
    assert bench.message == "Nothing to re-propagate: paint or commit a frame first."


def test_same_query_again_runs_the_same_track(bench: Any) -> None:
    bench.ask("the red disc")
    bench.ask("  the red  disc ")
    assert len(bench.presenter._desk.session.tracks) == 1
    assert len(bench.segmenter.jobs) == 2


def test_queries_typed_together_are_layers_of_their_own_and_one_batch(bench: Any) -> None:
    bench.segmenter.__class__ = BatchDiscSegmenter
    bench.segmenter.batches = []
    bench.presenter.run("the red disc; the disc;")
    assert [layer.name for layer in bench.viewer.layers] == ["disc", "disc · the red disc", "disc · the disc"]
    assert [len(batch) for batch in bench.segmenter.batches] == [2]
    for layer in list(bench.viewer.layers)[1:]:
        np.testing.assert_array_equal(np.asarray(layer.data) != 0, bench.video.masks)
    assert bench.dock.track_list.currentRow() == 0


def test_of_queries_typed_together_those_asked_before_run_again(bench: Any) -> None:
    bench.ask("the disc")
    bench.presenter.run("the red disc; the disc")
    assert [track.query.text for track in bench.presenter._desk.session.tracks] == ["the disc", "the red disc"]
    assert [job.query.text for job in bench.segmenter.jobs] == ["the disc", "the red disc", "the disc"]
    assert bench.dock.track_list.currentRow() == 1


class Pupil(DiscSegmenter):
    def learn(self, frames: Any, job: Any, should_stop: Any) -> Learned:
        return Learned(len(job.anchors), 0.5, 0.75, True, "it")


def test_learning_is_switched_on_by_hand_and_used_by_the_next_run(bench: Any) -> None:
    bench.segmenter.__class__ = Pupil
    layer, box = bench.ask(), bench.dock.learn_box
    assert (box.isEnabled(), box.isChecked()) == (True, False)
    for frame in (2, 8):
        bench.go_to(frame)
        bench.presenter.commit(layer)
    bench.presenter.repropagate(layer)
    box.click()
    assert bench.presenter._desk.session.tracks[0].learns
    bench.presenter._showing._tell()
    assert bench.dock.plan_label.text().startswith("→ frames 0–11")
    bench.presenter.repropagate(layer)
    assert [job.adapter for job in bench.segmenter.jobs] == ["", "", "it"]


def test_learning_is_announced_only_where_there_is_something_to_learn(bench: Any) -> None:
    bench.segmenter.__class__ = Pupil
    layer, box = bench.ask(), bench.dock.learn_box
    for frame in (2, 8):
        stroke(layer, frame)
    box.click()
    assert "background" in bench.message
    bench.dock.show_message("")
    box.click()
    box.click()
    assert bench.message == ""


class NeverDone(DiscSegmenter):
    def learn(self, frames: Any, job: Any, should_stop: Any) -> None:
        while not should_stop():
            self.begun.set()


def test_escape_and_the_button_end_learning_too(make_bench: Callable[..., Any], qtbot: Any) -> None:
    main, runners = MainThread(), []

    def make_runner(_dispatch: Any, at_end: Any) -> WindowRunner:
        runners.append(WindowRunner(main.dispatch, at_end))
        return runners[-1]

    bench = make_bench(make_runner=make_runner)
    bench.segmenter.__class__ = NeverDone
    bench.segmenter.begun = threading.Event()
    bench.add_video()
    layer, session = bench.ask(), bench.presenter._desk.session
    qtbot.waitUntil(lambda: not session.busy)
    for frame in (2, 8):
        stroke(layer, frame)
    bench.dock.learn_box.click()
    assert bench.segmenter.begun.wait(20)
    qtbot.waitUntil(bench.dock.cancel_button.isEnabled)
    bench.dock.cancel_button.click()
    assert not session.learning
    qtbot.waitUntil(lambda: not runners[0].busy)
    qtbot.waitUntil(lambda: not bench.dock.cancel_button.isEnabled())
    bench.presenter.close()
    for runner in runners:
        runner.wait_closed()


def test_learning_switched_off_is_not_announced_any_longer(bench: Any) -> None:
    bench.ask()
    bench.dock.show_message("Learning from your corrections in the background …")
    bench.dock.learn_box.setChecked(True)
    bench.dock.learn_box.click()
    assert not bench.message


def test_learning_box_shows_the_query_that_is_chosen(bench: Any) -> None:
    bench.ask("the red disc")
    bench.dock.learn_box.click()
    bench.ask("the disc")
    bench.presenter._showing._tell()
    assert not bench.dock.learn_box.isChecked()
    bench.dock.track_list.setCurrentRow(0)
    bench.presenter._showing._tell()
    assert bench.dock.learn_box.isChecked()


def test_two_queries_are_two_layers_of_different_colours(bench: Any) -> None:
    first, second = bench.ask("the red disc"), bench.ask("the disc")
    assert first is not second
    assert not np.allclose(first.get_color(1), second.get_color(1))
    assert [bench.dock.track_list.item(row).text() for row in range(2)] == ["the red disc", "the disc"]


def test_choosing_a_query_selects_its_layer(bench: Any) -> None:
    first, second = bench.ask("the red disc"), bench.ask("the disc")
    assert bench.viewer.layers.selection.active is second
    bench.dock.track_list.setCurrentRow(0)
    assert bench.viewer.layers.selection.active is first


def test_selecting_a_layer_chooses_its_query(bench: Any) -> None:
    first, _second = bench.ask("the red disc"), bench.ask("the disc")
    bench.viewer.layers.selection.active = first
    assert bench.dock.track_list.currentRow() == 0


@pytest.mark.parametrize("key", ["C", "K", "Shift-S", "N", "Shift-N", "Shift-A", "U", "Ctrl-Alt-Z", "Escape"])
def test_keys_are_bound_on_our_layer_only(bench: Any, key: str) -> None:
    layer = bench.ask()
    other = bench.viewer.add_labels(np.zeros((12, 32, 48), int))
    assert key in {str(bound).replace("+", "-") for bound in layer.keymap}
    assert not other.keymap


def test_deleted_layer_leaves_the_session_alone_and_comes_back_when_chosen(bench: Any) -> None:
    layer = bench.ask()
    bench.viewer.layers.remove(layer)
    bench.presenter.run("the disc")
    bench.dock.track_list.setCurrentRow(0)
    again = bench.viewer.layers.selection.active
    assert again.name == "disc · the red disc"
    np.testing.assert_array_equal(np.asarray(again.data) != 0, bench.video.masks)


def test_deleting_the_image_ends_its_session_and_keeps_the_masks(bench: Any) -> None:
    layer = bench.ask()
    session = bench.presenter._desk.session
    bench.viewer.layers.remove("disc")
    assert not session.busy
    assert not layer.keymap
    assert bench.dock.track_list.count() == 0
    assert "queries are kept in" in bench.message
    assert str(session.folder) in bench.message
    stroke(layer, 3)
    np.testing.assert_array_equal(np.asarray(layer.data)[3, 0:4, 0:4], 1)


def test_image_can_be_asked_again_after_another_was_deleted(bench: Any) -> None:
    bench.ask()
    bench.viewer.layers.clear()
    bench.add_video(name="again")
    assert bench.ask().name == "again · the red disc"


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        pytest.param(["still", "disc"], "disc", id="a-video-is-preferred"),
        pytest.param(["disc", "still"], "disc", id="a-later-picture-does-not-take-over"),
        pytest.param(["disc", "newer"], "newer", id="the-newest-video"),
        pytest.param(["still"], "still", id="a-picture-when-there-is-nothing-else"),
    ],
)
def test_chooser_picks_the_newest_video(make_bench: Callable[..., Any], names: list[str], expected: str) -> None:
    bench = make_bench()
    for name in names:
        if name == "still":
            bench.viewer.add_image(np.zeros((8, 8)), name=name)
        else:
            bench.add_video(name=name)
    assert bench.dock.image_box.currentText() == expected


def test_choosing_an_image_makes_the_layer_of_its_query_the_active_one(bench: Any) -> None:
    first = bench.ask()
    short = bench.viewer.add_image(bench.video.pixels[:5], rgb=True, name="short")
    second = bench.ask()
    for row, layer in ((0, first), (1, second)):
        bench.dock.image_chosen.emit(row)
        assert bench.viewer.layers.selection.active == layer
        assert bench.presenter._showing.layer == layer
    bench.viewer.layers.remove(second)
    bench.presenter._desk.remove(bench.presenter._desk.session.tracks[0])
    bench.dock.image_chosen.emit(0)
    bench.dock.image_chosen.emit(bench.presenter._desks.images.index(short))
    assert bench.viewer.layers.selection.active == short


def test_video_opened_during_a_run_is_said_to_wait_under_image(bench: Any) -> None:
    said: list[str] = []

    def look(frame: int) -> None:
        if frame == 6:
            bench.viewer.add_image(np.zeros((8, 8)), name="still")
            said.append(bench.message)
            bench.viewer.add_image(bench.video.pixels, rgb=True, name="second")
            said.append(bench.message)

    bench.segmenter.before_frame = look
    bench.ask()
    assert said == ["", "'second' is open; choose it under Image."]
    assert bench.dock.image_box.currentText() == "disc"
    bench.dock.image_chosen.emit(bench.presenter._desks.images.index(bench.viewer.layers["second"]))
    assert (bench.dock.image_box.currentText(), bench.message) == ("second", "")


def test_chooser_follows_renaming(bench: Any) -> None:
    bench.viewer.layers["disc"].name = "renamed"
    assert bench.dock.image_box.currentText() == "renamed"


def test_picture_is_a_video_of_one_frame(make_bench: Callable[..., Any]) -> None:
    bench = make_bench()
    bench.viewer.add_image(bench.video.pixels[0], rgb=True, name="still", scale=(2, 3))
    layer = bench.ask()
    assert layer.data.shape == (1, 32, 48)
    np.testing.assert_allclose(layer.scale, (1, 2, 3))
    np.testing.assert_array_equal(layer.data[0] != 0, bench.video.masks[0])


def test_run_without_an_image_says_what_to_do(make_bench: Callable[..., Any]) -> None:
    bench = make_bench()
    bench.presenter.run("the red disc")
    assert "open one" in bench.message


def test_object_painted_without_a_query_is_followed(bench: Any) -> None:
    layer = bench.ask("   ")
    assert (layer.name, layer.mode, "Shift+S" in bench.message) == ("disc · object", "paint", True)
    bench.presenter.repropagate(layer)
    assert "paint" in bench.message
    bench.go_to(2)
    layer.data[2:3] = bench.video.masks[2][None].astype(np.uint16)
    bench.presenter.repropagate(layer)
    np.testing.assert_array_equal(np.asarray(layer.data) != 0, bench.video.masks)


def test_painting_a_second_object_begins_a_second_track(bench: Any) -> None:
    first = bench.ask("")
    stroke(first, 2)
    assert [first.name, bench.ask("").name] == ["disc · object", "disc · object 2"]


def test_painting_again_takes_the_empty_track_that_there_is(bench: Any) -> None:
    layer = bench.ask("")
    bench.ask("the red disc")
    layer.mode = "pan_zoom"
    bench.presenter.run("")
    assert [track.query.name for track in bench.presenter._desk.session.tracks] == ["object", "the red disc"]
    assert (bench.viewer.layers.selection.active, layer.mode) == (layer, "paint")


def test_frame_declared_absent_makes_a_painted_track_no_empty_one(bench: Any) -> None:
    layer = bench.ask("")
    bench.presenter.mark_absent(layer)
    assert bench.ask("").name == "disc · object 2"


def test_painting_begins_without_the_progress_of_another_query(bench: Any) -> None:
    bench.ask("the red disc")
    bench.presenter._showing._show_work()
    assert progress_of(bench).startswith("done")
    bench.presenter.run("")
    bench.presenter._showing._show_work()
    assert progress_of(bench) == ""


def test_painting_during_a_run_goes_on_showing_its_progress(bench: Any) -> None:
    shown: list[str] = []

    def look(frame: int) -> None:
        if frame == 6:
            bench.presenter.run("")
            bench.presenter._showing._show_work()
            shown.append(progress_of(bench))

    bench.segmenter.before_frame = look
    bench.ask("the red disc")
    assert [text.split(" · ")[:2] for text in shown] == [["“the red disc”", "following"]]


def test_label_beside_the_track_s_own_is_said_to_be_a_part_of_it(bench: Any) -> None:
    layer = bench.ask("")
    bench.go_to(2)
    layer.data[2:3] = bench.video.masks[2][None].astype(np.uint16) * 5
    bench.presenter.commit(layer)
    hint = "Label 5 is followed as a part of “object”; for another object use Paint it."
    assert bench.message == f"Frame 2 is an anchor now; re-propagating reaches frames 0–11. {hint}"
    bench.presenter.repropagate(layer)
    bench.presenter._showing._show_work()
    assert bench.message == hint
    bench.go_to(3)
    bench.presenter.commit(layer)
    assert "Label" not in bench.message


def test_every_frame_painted_leaves_nothing_to_re_propagate(bench: Any) -> None:
    layer = bench.ask("")
    layer.data[:] = bench.video.masks.astype(np.uint16)
    bench.presenter._showing._tell()
    assert (bench.dock.plan_label.text(), bench.dock.repropagate_button.isEnabled()) == ("", False)
    bench.presenter.repropagate(layer)
    assert bench.message == "Nothing to re-propagate: every frame is yours, or locked."


def test_correction_between_frames_that_are_settled_is_told_so(bench: Any) -> None:
    layer = bench.ask()
    bench.go_to(1)
    bench.presenter.commit(layer)
    bench.presenter.repropagate(layer)
    layer.data[0, :4, :4] = 1
    bench.go_to(0)
    bench.presenter.repropagate(layer)
    assert bench.message == (
        "Nothing to re-propagate: the frames that your correction could change are yours, or locked."
    )


def test_run_with_every_frame_painted_is_done_not_stopped(bench: Any) -> None:
    layer = bench.ask()
    layer.data[:, 0, 0] = 1
    bench.presenter.run("the red disc")
    bench.presenter._showing._show_work()
    assert progress_of(bench) == "done · nothing left to follow"


def test_name_given_to_a_layer_is_kept_with_the_project(
    bench: Any, make_bench: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.ask().name = "mother cell"
    assert bench.dock.track_list.item(0).text() == "mother cell"
    monkeypatch.setattr(bench.dock, "ask_folder_to_save", lambda name: tmp_path / "saved")
    bench.dock.save_requested.emit()
    other = make_bench(ViewerModel())
    other.add_video()
    monkeypatch.setattr(other.dock, "ask_folder_to_open", lambda start: tmp_path / "saved")
    other.dock.open_requested.emit()
    assert other.viewer.layers[-1].name == "disc · mother cell"
    assert other.presenter._desk.session.tracks[0].query.text == "the red disc"


def test_query_is_renamed_from_its_menu(bench: Any) -> None:
    layer = bench.ask()
    menu = bench.dock.findChild(QueryMenu)
    menu.rename_requested.emit(bench.presenter._desk.session.tracks[0].track_id, "mother cell")
    assert (layer.name, bench.dock.track_list.item(0).text()) == ("disc · mother cell", "mother cell")


def test_removed_query_is_gone_from_list_layers_and_project(bench: Any) -> None:
    first, second = bench.ask("the red disc"), bench.ask("the disc")
    track = bench.presenter._desk.session.tracks[0]
    bench.viewer.layers.selection.active = first
    bench.dock.findChild(QueryMenu).removal_requested.emit(track.track_id)
    assert "is removed" in bench.message
    assert [layer.name for layer in bench.viewer.layers] == ["disc", "disc · the disc"]
    assert bench.dock.track_list.count() == 1
    assert [one.query.name for one in bench.presenter._desk.session.tracks] == ["the disc"]
    assert bench.presenter._showing.layer == second
    np.testing.assert_allclose(second.get_color(1)[:3], layers.color_of(0), atol=0.01)


def test_new_run_does_not_show_how_far_the_last_one_came(bench: Any) -> None:
    bench.ask()
    shown: list[str] = []
    bench.presenter._desk.busy_changed.connect(
        lambda is_busy: is_busy and (bench.presenter._showing._show_work(), shown.append(progress_of(bench)))
    )
    bench.ask()
    assert shown == ["starting …"]


def test_query_asked_during_a_run_says_that_it_waits(bench: Any) -> None:
    shown: list[tuple[str, str]] = []

    def look(frame: int) -> None:
        if frame == 6 and len(bench.presenter._desk.session.tracks) == 1:
            bench.presenter.run("the disc")
        if frame > 6:
            bench.presenter._showing._show_work()
            shown.append((bench.dock.track_list.currentItem().text(), progress_of(bench)))

    bench.segmenter.before_frame = look
    bench.ask("the red disc")
    before, after = shown[:5], shown[5:]
    assert {query for query, _ in shown} == {"the disc"}
    assert all(text.startswith("Waits for the run before it · following · ") for _, text in before)
    assert [text for _, text in after if "Waits" in text] == []
    assert len(after) == 5
    bench.dock.track_list.setCurrentRow(0)
    bench.presenter._showing._show_work()
    assert "Waits" not in progress_of(bench)


def test_only_the_query_that_waits_is_said_to(bench: Any) -> None:
    shown: list[str] = []

    def look(frame: int) -> None:
        if frame == 6 and len(bench.presenter._desk.session.tracks) == 1:
            bench.presenter.run("the disc")
            bench.dock.track_list.setCurrentRow(0)
            bench.presenter._showing._show_work()
            shown.append(progress_of(bench))

    bench.segmenter.before_frame = look
    bench.ask("the red disc")
    assert shown
    assert "Waits" not in shown[0]


def test_end_of_a_run_is_told_of_its_own_query_only(bench: Any) -> None:
    def cancel(frame: int) -> None:
        if frame == 6 and len(bench.segmenter.jobs) == 2:
            bench.presenter.cancel()

    bench.segmenter.before_frame = cancel
    bench.ask("the red disc")
    bench.ask("the disc")
    told = []
    for row in (1, 0):
        bench.dock.track_list.setCurrentRow(row)
        bench.presenter._showing._show_work()
        told.append(progress_of(bench))
    assert [text.split(" · ")[0] for text in told] == ["stopped", "done"]
    assert told[1].startswith("done · 12 frames")
    bench.presenter.run("")
    bench.presenter._showing._show_work()
    assert progress_of(bench) == ""


def test_run_of_another_query_is_told_with_its_name(bench: Any) -> None:
    shown: list[str] = []

    def look(frame: int) -> None:
        if frame == 6 and len(bench.segmenter.jobs) == 2:
            bench.dock.track_list.setCurrentRow(0)
            bench.presenter._showing._show_work()
            shown.append(progress_of(bench))

    bench.segmenter.before_frame = look
    bench.ask("the red disc")
    bench.ask("the disc")
    assert [text.split(" · ")[:2] for text in shown] == [["“the disc”", "following"]]


def progress_of(bench: Any) -> str:
    return str(bench.dock.progress_label.text()).replace("\N{NO-BREAK SPACE}", " ")


def test_project_of_an_array_asks_for_its_video_by_name_and_size(
    bench: Any, make_bench: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.ask()
    folder = bench.presenter._desk.session.folder
    bench.presenter.close()
    other = make_bench(ViewerModel())
    monkeypatch.setattr(other.dock, "ask_folder_to_open", lambda start: folder)
    other.dock.open_requested.emit()
    assert "12 frames of 48×32" in other.message
    assert "“disc”" in other.message
    other.add_video()
    other.dock.open_requested.emit()
    assert other.message == ""


@pytest.mark.parametrize("dtype", [">u2", "u1"])
@pytest.mark.parametrize("is_changed", [False, True], ids=["same", "changed"])
def test_notice_of_other_frames_only_where_the_pixels_differ(
    make_bench: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str, is_changed: bool
) -> None:
    bench, path = make_bench(), tmp_path / "clip.tif"
    pixels = bench.video.pixels[..., 0].astype(dtype)
    tifffile.imwrite(path, pixels, photometric="minisblack", byteorder=">")
    with layer_source(path=str(path), reader_plugin="napari"):
        bench.viewer.add_image(pixels, name="clip", contrast_limits=(3, 200))
    bench.ask()
    folder = bench.presenter._desk.session.folder
    bench.presenter.close()
    if is_changed:
        pixels[4] += 1
        tifffile.imwrite(path, pixels, photometric="minisblack", byteorder=">")
    other = make_bench(ViewerModel())
    monkeypatch.setattr(other.dock, "ask_folder_to_open", lambda start: folder)
    other.dock.open_requested.emit()
    assert ("The frames differ" in other.message) is is_changed
    assert other.viewer.layers[-1].name == "clip · the red disc"


def test_error_of_the_model_is_shown_and_the_next_run_works(bench: Any) -> None:
    def fail(frame: int) -> None:
        raise RuntimeError("no memory left on the moon")

    bench.segmenter.before_frame = fail
    bench.ask()
    assert "no memory left on the moon" in bench.message
    bench.segmenter.before_frame = lambda frame: None
    layer = bench.ask("the disc")
    np.testing.assert_array_equal(np.asarray(layer.data) != 0, bench.video.masks)


def test_unknown_words_are_told(bench: Any) -> None:
    bench.ask("the red disc zigzagging")
    assert "'zigzagging' is unknown" in bench.message


def test_failing_callback_never_reaches_napari(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = bench.ask()
    monkeypatch.setattr(type(bench.presenter._desk.view), "frame_to_change", lambda self: 1 / 0)
    stroke(layer, 3)
    bench.go_to(8)
    bench.presenter.commit(layer)
    assert "ZeroDivisionError" in bench.message


def test_model_chosen_in_the_dock_is_used_from_the_next_run_on(bench: Any) -> None:
    bench.ask()
    bench.dock.device_box.setCurrentText("cpu")
    bench.dock.model_chosen.emit(*bench.dock.model_choice)
    bench.ask()
    bench.ask()
    assert bench.loads == [("compact", "auto"), ("compact", "cpu")]


def test_model_sees_the_contrast_that_the_person_sees(make_bench: Callable[..., Any]) -> None:
    bench = make_bench()
    image = bench.viewer.add_image(bench.video.pixels[..., 0], name="gray", contrast_limits=(0, 255))
    bench.ask()
    frames = bench.presenter._desk.frames
    before = frames[0].max()
    image.contrast_limits = (0, 220)
    bench.presenter.run("the red disc")
    assert (before, frames[0].max()) == (220, 255)


def test_saved_project_opens_in_another_viewer_as_it_was(
    bench: Any, make_bench: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = bench.ask()
    stroke(layer, 5)
    target = tmp_path / "saved"
    monkeypatch.setattr(bench.dock, "ask_folder_to_save", lambda name: target)
    bench.dock.save_requested.emit()
    assert bench.message == f"Saved to {target}."
    other = make_bench(ViewerModel())
    other.add_video()
    monkeypatch.setattr(other.dock, "ask_folder_to_open", lambda start: target)
    other.dock.open_requested.emit()
    assert other.viewer.layers[-1].name == "disc · the red disc"
    np.testing.assert_array_equal(np.asarray(other.viewer.layers[-1].data), np.asarray(layer.data))


def test_opening_something_else_as_a_project_is_a_sentence(
    bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench.dock, "ask_folder_to_open", lambda start: tmp_path)
    bench.dock.open_requested.emit()
    assert "project.json" in bench.message


def test_closed_presenter_hears_nothing_more(bench: Any) -> None:
    layer = bench.ask()
    bench.presenter.close()
    bench.presenter.close()
    stroke(layer, 5)
    bench.go_to(5)
    bench.add_video(name="later")
    assert bench.dock.image_box.currentText() == "disc"


def test_dock_opened_again_takes_up_its_sessions(bench: Any, make_bench: Callable[..., Any]) -> None:
    stroke(bench.ask(), 5)
    duplicate = bench.viewer.add_labels(np.ones((12, 32, 48), int), metadata=dict(bench.viewer.layers[-1].metadata))
    bench.presenter.close()
    again = make_bench(bench.viewer)
    names = [layer.name for layer in bench.viewer.layers]
    assert sorted(names) == sorted(["disc", duplicate.name, "disc · the red disc"])
    layer = bench.viewer.layers["disc · the red disc"]
    assert layer.keymap
    assert layer.data.owned_frames == (5,)
    assert again.dock.track_list.item(0).text() == "the red disc"


def test_dock_opens_although_the_folder_of_a_session_is_gone(bench: Any, make_bench: Callable[..., Any]) -> None:
    import shutil

    layer = bench.ask()
    folder = bench.presenter._desk.session.folder
    bench.presenter.close()
    shutil.rmtree(folder)
    again = make_bench(bench.viewer)
    assert "project.json" in again.message
    assert layer in bench.viewer.layers
