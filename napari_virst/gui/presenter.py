"""Joins the dock with the desks: turns what the person wishes into calls of a session, and back into words."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject

from napari_virst.gui import layers, sentences
from napari_virst.gui.desks import Desks
from napari_virst.gui.guard import guarded
from napari_virst.gui.instancing import Instancing
from napari_virst.gui.pacing import Paced
from napari_virst.gui.reviewing import Reviewing, timeline_state
from napari_virst.gui.widget import QueryRow

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari.components import ViewerModel
    from napari.layers import Image, Labels

    from napari_virst.gui.desk import Desk
    from napari_virst.gui.desks import Sessions
    from napari_virst.gui.widget import VirstWidget
    from napari_virst.session.session import Track

NO_IMAGE = "A video or an image must be open; got none; open one, or one of File › Open Sample › VIRST."

PROGRESS_INTERVAL_MS = 250
"""A progress bar repaints the whole window at once: 27 ms each in software GL (llvmpipe, 2 cores)."""

TIMELINE_INTERVAL_MS = 250
"""Gathering and drawing a timeline takes a few milliseconds at 10 000 frames, and a run changes it all the time."""


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
        self._image: Image | None = None
        self._track_id: str | None = None
        self._is_open = True
        self._telling = Paced(self._tell, parent=self)
        self._reviewing = Reviewing(viewer, dock, self._desks, self._say, self._tell_anew)
        self._instancing = Instancing(viewer, self._desks, self._say, self._tell_anew)
        self._wanted_frame = 0
        self._going = Paced(self._go_to_wanted, parent=self)
        self._drawing = Paced(self._show_timeline, TIMELINE_INTERVAL_MS, parent=self)
        self._working = Paced(self._show_work, PROGRESS_INTERVAL_MS, parent=self)
        self._passing_message = ""
        self._connect()
        for event, callback in self._viewer_events():
            event.connect(callback)
        self._choose_image(layers.newest_video(viewer.layers))
        self._take_up_again()

    def _connect(self) -> None:
        dock, desks = self._dock, self._desks
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
        ):
            wished.connect(partial(self._for_current, action))
        self._connect_timeline()
        dock.save_requested.connect(self.save)
        dock.open_requested.connect(self.open)
        desks.said.connect(self._on_said)
        desks.worked.connect(self._working.ask)
        desks.tracks_changed.connect(self._show_tracks)
        desks.looked_different.connect(self._tell_anew)

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
            (menu.show_tracks_requested, instancing.show_tracks),
        ):
            wished.connect(partial(self._for_current, action))
        menu.aboutToShow.connect(self._fill_instances)

    @guarded
    def _take_up_again(self) -> None:
        desks = self._desks.take_up_again()
        if desks:
            self._choose_image(desks[-1].image)

    def _viewer_events(self) -> list[tuple[Any, Callable[[Any], None]]]:
        events = self._viewer.layers.events
        return [
            (events.inserted, self._on_inserted),
            (events.removed, self._on_removed),
            (events.reordered, self._on_layers_changed),
            (events.renamed, self._on_layers_changed),
            (self._viewer.layers.selection.events.active, self._on_active_changed),
            (self._viewer.dims.events.point, self._on_moved),
        ]

    # What the person wishes -------------------------------------------------------------------------------------

    @guarded
    def run(self, text: str) -> None:
        """Follow a query through the image in the chooser; a query asked before is run again."""
        if not self._is_open:
            return
        self._dock.show_message("")
        if self._image is None:
            self.report(NO_IMAGE)
            return
        desk = self._desks.open_for_run(self._image)
        if desk.image != self._image:
            self._choose_image(desk.image)
        track = desk.track_asked(text)
        if track is None:
            track = desk.session.ask(text, focus_frame=desk.frame_in_view())
        else:
            desk.session.run(track, focus_frame=desk.frame_in_view())
        self._select(track)

    @guarded
    def cancel(self) -> None:
        """Stop what runs; finished frames stay."""
        for desk in self._desks.busy():
            desk.session.cancel()

    @guarded
    def repropagate(self, layer: Labels) -> None:
        """Follow again from the corrections of a track."""
        desk, track = self._desks.owner_of(layer)
        plan = sentences.plan(*desk.session.predict_span(track))
        if not plan:
            self._say("Nothing to re-propagate: paint or commit a frame first.")
            return
        if not desk.session.busy:
            desk.frames.look_again()
        desk.session.repropagate(track, focus_frame=desk.frame_in_view())
        self._passing_message = f"Re-propagating {plan}."
        self._say(self._passing_message)

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
            self._say(f"Saving to {target} …")
            self._sessions.copy(desk.session, target, partial(self._on_saved, target))

    @guarded
    def open(self) -> None:
        """Go on with a project; its video is taken from the open layers, else from where it was."""
        folder = self._dock.ask_folder_to_open(self._sessions.folder)
        if folder is not None and self._is_open:
            self._choose_image(self._desks.open_project(folder).image)

    # What the viewer tells --------------------------------------------------------------------------------------

    @guarded
    def _on_inserted(self, event: Any) -> None:  # noqa: ANN401 - napari's events have no public type
        is_busy = self._desk is not None and self._desk.session.busy
        if layers.is_video_like(event.value) and not is_busy:
            self._choose_image(event.value)
        elif self._image is None:
            self._choose_image(layers.newest_video(self._viewer.layers))
        else:
            self._show_images()

    @guarded
    def _on_removed(self, event: Any) -> None:  # noqa: ANN401
        self._desks.forget(event.value)
        if event.value == self._image:
            self._choose_image(layers.newest_video(self._viewer.layers))
        else:
            self._show_images()

    @guarded
    def _on_layers_changed(self, _event: Any) -> None:  # noqa: ANN401
        self._show_images()

    @guarded
    def _on_active_changed(self, event: Any) -> None:  # noqa: ANN401
        owner = self._desks.find(event.value)
        if owner is not None and owner[1].track_id != self._track_id:
            if owner[0].image != self._image:
                self._choose_image(owner[0].image)
            self._select(owner[1])

    @guarded
    def _on_moved(self, _event: Any) -> None:  # noqa: ANN401
        self._telling.ask()

    # What the dock tells ----------------------------------------------------------------------------------------

    @guarded
    def _on_image_chosen(self, row: int) -> None:
        self._choose_image(self._desks.images[row])

    @guarded
    def _on_track_chosen(self, track_id: str) -> None:
        if self._desk is not None:
            self._select(self._desk.session.track(track_id))

    @guarded
    def _on_model_chosen(self, model: str, device: str) -> None:
        self._sessions.choose_model(model, device)

    @guarded
    def _for_current(self, wish: Callable[..., None], *details: Any) -> None:
        layer = self._layer
        if layer is not None:
            wish(layer, *details)

    @property
    def _layer(self) -> Labels | None:
        desk = self._desk
        if desk is None or self._track_id is None:
            return None
        return desk.show_track(desk.session.track(self._track_id))

    @guarded
    def _on_frame_chosen(self, frame: int) -> None:
        self._wanted_frame = frame
        self._dock.timeline.show_frame(frame)
        self._going.ask()

    @guarded
    def _go_to_wanted(self) -> None:
        layer = self._layer
        if layer is not None:
            self._reviewing.go_to(layer, self._wanted_frame)

    @guarded
    def _fill_instances(self) -> None:
        layer = self._layer
        if layer is not None:
            self._dock.instances_menu.show_instances(*self._instancing.labels_of(layer))

    @property
    def _desk(self) -> Desk | None:
        return self._desks.of(self._image)

    def _choose_image(self, image: Image | None) -> None:
        self._image = image
        desk = self._desk
        self._track_id = desk.session.tracks[-1].track_id if desk is not None and desk.session.tracks else None
        self._dock.suggest_query(layers.suggested_query(image))
        self._show_images()
        self._show_tracks()
        self._show_work()
        self._telling.ask()
        self._show_timeline()

    def _select(self, track: Track) -> None:
        if track.track_id != self._track_id:
            self._dock.timeline.clear_selection()
        self._track_id = track.track_id
        self._show_timeline()
        self._show_tracks()
        if self._desk is not None:
            self._viewer.layers.selection.active = self._desk.show_track(track)
        self._telling.ask()

    # What the dock shows ----------------------------------------------------------------------------------------

    def report(self, text: str) -> None:
        """Say in the message line that something failed."""
        self._on_said(text, True)

    def _say(self, text: str) -> None:
        self._on_said(text, False)

    def _on_said(self, text: str, is_error: bool) -> None:
        if self._is_open:
            self._dock.show_message(text, is_error=is_error)

    def _on_saved(self, target: Path, error: BaseException | None) -> None:
        self._on_said(f"Saved to {target}." if error is None else str(error), error is not None)

    def _show_images(self) -> None:
        images = self._desks.images
        row = next((row for row, image in enumerate(images) if image == self._image), -1)
        self._dock.set_images([image.name for image in images], row)

    @guarded
    def _show_tracks(self) -> None:
        desk = self._desk
        tracks = () if desk is None else desk.session.tracks
        rows = [QueryRow(track.track_id, track.query.name, layers.color_of(row)) for row, track in enumerate(tracks)]
        self._dock.set_tracks(rows, self._track_id)

    @guarded
    def _show_work(self) -> None:
        desk = self._desk
        if desk is not None and desk.doing:
            self._dock.set_busy(True, can_cancel=False)
            self._dock.show_progress(f"{desk.doing} …")
            return
        is_busy = desk is not None and desk.session.busy
        now = None if desk is None else desk.last_progress
        self._dock.set_busy(is_busy)
        if now is None or desk is None:
            self._dock.show_progress("")
        elif is_busy:
            self._dock.show_progress(sentences.progress(now), now.num_done, now.num_total if now.num_done else 0)
        else:
            is_complete = self._track_id is not None and not desk.session.track(self._track_id).unfinished()
            self._dock.show_progress(sentences.finished(now, is_complete=is_complete), now.num_done, now.num_total)
            self._dock.clear_message(self._passing_message)

    def _tell_anew(self) -> None:
        self._telling.ask()
        self._drawing.ask()

    @guarded
    def _tell(self) -> None:
        desk = self._desk
        if desk is None or self._track_id is None:
            self._dock.show_frame("")
            self._dock.show_reason("")
            self._dock.show_plan("")
            return
        self._dock.timeline.show_frame(desk.frame_in_view())
        if desk.doing:
            return
        track, frame = desk.session.track(self._track_id), desk.frame_in_view()
        presence, iou = float(track.last_presence[frame]), float(track.last_iou[frame])
        is_locked = bool(track.locked[frame])
        self._dock.show_frame(sentences.frame(frame, track.masks.provenance(frame), presence, iou, is_locked=is_locked))
        self._dock.show_reason(self._reviewing.reason(desk.session, track, frame))
        # While it runs, what is unfinished is no news; what was corrected meanwhile is.
        is_news = not desk.session.busy or bool(track.touched())
        self._dock.show_plan(sentences.plan(*desk.session.predict_span(track)) if is_news else "")

    @guarded
    def _show_timeline(self) -> None:
        desk = self._desk
        if desk is None or self._track_id is None:
            self._dock.show_timeline(None)
        elif not desk.doing:
            self._dock.show_timeline(timeline_state(desk.session, desk.session.track(self._track_id)))
            self._dock.timeline.show_frame(desk.frame_in_view())

    @guarded
    def close(self) -> None:
        """End every session and stop listening; harmless when done twice, and when the dock is gone already."""
        if not self._is_open:
            return
        self._is_open = False
        for event, callback in self._viewer_events():
            event.disconnect(callback)
        self._telling.stop()
        self._working.stop()
        self._going.stop()
        self._drawing.stop()
        self._desks.close()
        self._sessions.close()
