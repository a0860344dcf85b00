"""Joins the dock with the desks: turns what the person wishes into calls of a session, and back into words."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, Qt

from napari_virst.gui import layers, sentences
from napari_virst.gui.brush_guard import BrushGuard
from napari_virst.gui.desks import Desks
from napari_virst.gui.exporting import export_desk
from napari_virst.gui.guard import guarded
from napari_virst.gui.instancing import Instancing
from napari_virst.gui.pacing import Paced
from napari_virst.gui.query_menu import QueryMenu
from napari_virst.gui.querying import Querying
from napari_virst.gui.reviewing import Reviewing, no_plan, other_label, plan_of
from napari_virst.gui.showing import Showing

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari.components import ViewerModel
    from napari.layers import Labels

    from napari_virst.gui.desk import Desk
    from napari_virst.gui.desks import Sessions
    from napari_virst.gui.widget import VirstWidget
    from napari_virst.session.session import AnnotationSession, Track

NO_IMAGE = "A video or an image must be open; got none; open one, or one of File › Open Sample › VIRST."


class Presenter(QObject):
    """Listens to the dock, to the viewer and to the desks; satisfies ``shortcuts.Corrections``.

    Parameters
    ----------
    viewer : ViewerModel
        Its layers, dims, and how images and layers are added.
    dock : VirstWidget
        The controls; also the Qt parent.
    sessions : Sessions
        Makes and reopens sessions; closed with the presenter.
    """

    def __init__(self, viewer: ViewerModel, dock: VirstWidget, sessions: Sessions) -> None:
        super().__init__(dock)
        self._viewer = viewer
        self._dock = dock
        self._sessions = sessions
        self._desks = Desks(viewer, sessions, self, parent=self)
        self._is_open = True
        self._showing = Showing(viewer, dock, self._desks, self._why_suggested, parent=self)
        say, tell = self._showing.say, self._showing.tell_anew
        self._reviewing = Reviewing(viewer, dock, self._desks, say, tell)
        self._instancing = Instancing(viewer, self._desks, say, tell)
        self._querying = Querying(self._desks, say)
        self._brush_guard = BrushGuard(viewer, self._desks, self.report)
        self._wanted_frame = 0
        self._going = Paced(self._go_to_wanted, parent=self)
        self._connect()
        for event, callback in self._viewer_events():
            event.connect(callback)
        self._showing.choose_image(layers.newest_video(viewer.layers))
        self._take_up_again()

    def _connect(self) -> None:
        dock = self._dock
        dock.image_chosen.connect(self._on_image_chosen)
        dock.track_chosen.connect(self._on_track_chosen)
        dock.model_chosen.connect(self._on_model_chosen)
        dock.run_requested.connect(self.run)
        dock.cancel_requested.connect(self.cancel)
        for wished, action in (
            (dock.commit_requested, self.commit),
            (dock.absent_requested, self.mark_absent),
            (dock.accept_requested, self.accept),
            (dock.lock_requested, self.lock),
            (dock.repropagate_requested, self.repropagate),
            (dock.next_requested, self.review_next),
            (dock.previous_requested, self.review_previous),
            (dock.undo_requested, self.undo),
            (dock.learning_wished, self.learn),
        ):
            wished.connect(partial(self._for_current, action))
        # Queued: the session is not through with the end of a run when it tells of it.
        self._desks.worked.connect(self._on_worked, Qt.ConnectionType.QueuedConnection)
        self._connect_timeline()
        menu = QueryMenu(dock.track_list)
        menu.rename_requested.connect(self._on_rename_requested)
        menu.removal_requested.connect(self._on_removal_requested)
        dock.save_requested.connect(self.save)
        dock.export_requested.connect(self.export)
        dock.open_requested.connect(self.open)

    def _connect_timeline(self) -> None:
        timeline, menu = self._dock.timeline, self._dock.instances_menu
        reviewing, instancing = self._reviewing, self._instancing
        timeline.frame_chosen.connect(self._on_frame_chosen)
        for wished, action in (
            (timeline.absent_requested, reviewing.mark_absent),
            (timeline.anchor_deletion_requested, reviewing.delete_anchor),
            (timeline.anchor_reuse_requested, reviewing.reuse_anchor),
            (timeline.pin_requested, reviewing.pin_anchor),
            (menu.split_requested, instancing.split),
            (menu.merge_requested, instancing.merge),
            (menu.swap_requested, instancing.swap),
            (menu.split_one_requested, instancing.split_one),
            (menu.parent_requested, instancing.set_parent),
            (menu.show_tracks_requested, instancing.show_tracks),
        ):
            wished.connect(partial(self._for_current, action))
        menu.aboutToShow.connect(self._fill_instances)

    @guarded
    def _take_up_again(self) -> None:
        desks = self._desks.take_up_again()
        if desks:
            self._showing.choose_image(desks[-1].image)

    def _viewer_events(self) -> list[tuple[Any, Callable[[Any], None]]]:
        events = self._viewer.layers.events
        return [
            (events.inserted, self._on_inserted),
            (events.removed, self._on_removed),
            (events.reordered, self._on_layers_changed),
            (events.renamed, self._on_layers_changed),
            (self._viewer.layers.selection.events.active, self._on_active_changed),
            (self._viewer.dims.events.point, self._on_moved),
            (self._viewer.dims.events.ndisplay, self._on_moved),
            (self._viewer.dims.events.order, self._on_moved),
        ]

    # What the person wishes -------------------------------------------------------------------------------------

    @guarded
    def run(self, text: str) -> None:
        """Follow queries, divided by ";", through the image in the chooser; one asked before is run again.

        Without words a layer to paint on is made.
        """
        if not self._is_open:
            return
        self._dock.show_message("")
        if self._showing.image is None:
            self.report(NO_IMAGE)
            return
        desk = self._desks.open_for_run(self._showing.image)
        if desk.image != self._showing.image:
            self._showing.choose_image(desk.image)
        texts = sentences.queries(text)
        self._showing.select(desk.ask(texts) if any(texts) else self._querying.start_painting(desk))

    @guarded
    def cancel(self) -> None:
        """Stop what runs, and learning beside; finished frames stay."""
        for desk in self._desks.all:
            desk.session.cancel()
        self._showing.tell_anew()

    @guarded
    def repropagate(self, layer: Labels) -> None:
        """Follow again from the corrections of a track."""
        desk, track = self._desks.owner_of(layer)
        plan, frame = plan_of(desk.session, track), desk.view.frame()
        if not plan:
            self._showing.say(no_plan(track))
            return
        if not desk.session.busy:
            desk.frames.look_again()
        other = other_label(track, frame)
        desk.session.repropagate(track, focus_frame=frame)
        if other:  # which is to be read after the run too
            self._showing.say(other)
        else:
            self._showing.say_while_running(f"Re-propagating {plan}.")

    @guarded
    def commit(self, layer: Labels) -> None:
        """Take the frame in view of a track as a user anchor."""
        self._reviewing.commit(layer)

    @guarded
    def mark_absent(self, layer: Labels) -> None:
        """Declare that the object cannot be seen on the frame in view."""
        self._reviewing.mark_absent(layer)

    @guarded
    def accept(self, layer: Labels) -> None:
        """Vouch for the selected frames, or the one in view."""
        self._reviewing.accept(layer)

    @guarded
    def lock(self, layer: Labels) -> None:
        """Have runs leave the selected frames, or the one in view, alone, or no longer."""
        self._reviewing.lock(layer)

    @guarded
    def review_next(self, layer: Labels) -> None:
        """Go to the frame whose correction is worth most."""
        self._reviewing.review(layer, +1)

    @guarded
    def review_previous(self, layer: Labels) -> None:
        """Go back to the frame suggested before."""
        self._reviewing.review(layer, -1)

    @guarded
    def learn(self, layer: Labels, is_on: bool) -> None:
        """Have a track learn from its corrections beside, or no longer."""
        self._reviewing.learn(layer, is_on)

    @guarded
    def undo(self, layer: Labels) -> None:
        """Take back the last run, correction, acceptance or renaming of a track."""
        self._instancing.undo(layer)

    @guarded
    def save(self) -> None:
        """Copy the project of the image to a folder that the person chooses."""
        desk = self._desk
        target = None if desk is None else self._dock.ask_folder_to_save(desk.image.name)
        if desk is not None and target is not None:
            desk.session.save()
            self._showing.say(f"Saving to {target} …")
            self._sessions.copy(desk.session, target, partial(self._on_saved, target))

    @guarded
    def export(self) -> None:
        """Write the masks of the image's queries as a data set."""
        desk = self._desk
        wish = None if desk is None else self._dock.ask_export(desk.image.name)
        if desk is not None and wish is not None:
            export_desk(desk, wish, self._showing.say)

    @guarded
    def open(self) -> None:
        """Go on with a project; its video is taken from the open layers, else from where it was."""
        folder = self._dock.ask_folder_to_open(self._sessions.folder)
        if folder is not None and self._is_open:
            self._dock.show_message("")
            self._showing.choose_image(self._desks.open_project(folder).image)

    def _why_suggested(self, session: AnnotationSession, track: Track, frame: int) -> str:
        return self._reviewing.reason(session, track, frame)

    # What the viewer tells --------------------------------------------------------------------------------------

    @guarded
    def _on_inserted(self, event: Any) -> None:  # noqa: ANN401 - napari's events have no public type
        is_busy = self._desk is not None and self._desk.session.busy
        if layers.is_video_like(event.value) and not is_busy:
            self._showing.choose_image(event.value)
        elif self._showing.image is None:
            self._showing.choose_image(layers.newest_video(self._viewer.layers))
        else:
            self._showing.show_images()
            if layers.is_video_like(event.value):
                self._showing.say(sentences.is_open(event.value.name))

    @guarded
    def _on_removed(self, event: Any) -> None:  # noqa: ANN401
        self._desks.forget(event.value)
        if event.value == self._showing.image:
            self._showing.choose_image(layers.newest_video(self._viewer.layers))
        else:
            self._showing.show_images()

    @guarded
    def _on_layers_changed(self, _event: Any) -> None:  # noqa: ANN401
        self._showing.show_images()

    @guarded
    def _on_active_changed(self, event: Any) -> None:  # noqa: ANN401
        owner = self._desks.find(event.value)
        if owner is not None and owner[1] is not self._showing.track:
            if owner[0].image != self._showing.image:
                self._showing.choose_image(owner[0].image)
            self._showing.select(owner[1])

    @guarded
    def _on_moved(self, _event: Any) -> None:  # noqa: ANN401
        self._showing.tell_frame()

    # What the dock tells ----------------------------------------------------------------------------------------

    @guarded
    def _on_image_chosen(self, row: int) -> None:
        image = self._desks.images[row]
        self._showing.choose_image(image)
        track = self._showing.track
        if track is None:
            self._viewer.layers.selection.active = image
        else:
            self._showing.select(track)  # so that keys and buttons mean the same query

    @guarded
    def _on_track_chosen(self, track_id: str) -> None:
        if self._desk is not None:
            self._showing.select(self._desk.session.track(track_id))

    @guarded
    def _on_rename_requested(self, track_id: str, name: str) -> None:
        if self._desk is not None:
            self._querying.rename(self._desk.show_track(self._desk.session.track(track_id)), name)

    @guarded
    def _on_removal_requested(self, track_id: str) -> None:
        if self._desk is not None:
            self._querying.remove(self._desk.show_track(self._desk.session.track(track_id)))
            if self._showing.track is None:
                self._showing.choose_image(self._showing.image)

    @guarded
    def _on_model_chosen(self, model: str, device: str) -> None:
        self._sessions.choose_model(model, device)

    @guarded
    def _for_current(self, wish: Callable[..., None], *details: Any) -> None:
        layer = self._showing.layer
        if layer is not None:
            wish(layer, *details)

    @guarded
    def _on_frame_chosen(self, frame: int) -> None:
        self._wanted_frame = frame
        self._dock.timeline.show_frame(frame)
        self._going.ask()

    @guarded
    def _go_to_wanted(self) -> None:
        layer = self._showing.layer
        if layer is not None:
            self._reviewing.go_to(layer, self._wanted_frame)

    @guarded
    def _on_worked(self) -> None:
        self._instancing.undo_when_stopped()

    @guarded
    def _fill_instances(self) -> None:
        layer = self._showing.layer
        if layer is not None:
            self._dock.instances_menu.show_instances(*self._instancing.labels_of(layer))

    @property
    def _desk(self) -> Desk | None:
        return self._showing.desk

    def report(self, text: str) -> None:
        """Say in the message line that something failed."""
        self._showing.report(text)

    def _on_saved(self, target: Path, error: BaseException | None) -> None:
        self._showing.show_message(f"Saved to {target}." if error is None else str(error), error is not None)

    @guarded
    def close(self) -> None:
        """End every session and stop listening; harmless when done twice, and when the dock is gone already."""
        if not self._is_open:
            return
        self._is_open = False
        for event, callback in self._viewer_events():
            event.disconnect(callback)
        self._going.stop()
        self._brush_guard.close()
        self._showing.close()
        self._desks.close()
        self._sessions.close()
