"""Joins the dock with the desks: turns what the person wishes into calls of a session, and back into words."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject

from napari_virst.gui import layers, review, sentences
from napari_virst.gui.desks import Desks
from napari_virst.gui.guard import guarded
from napari_virst.gui.pacing import Paced
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
        dock.commit_requested.connect(partial(self._for_current, self.commit))
        dock.absent_requested.connect(partial(self._for_current, self.mark_absent))
        dock.repropagate_requested.connect(partial(self._for_current, self.repropagate))
        dock.next_requested.connect(partial(self._for_current, self.review_next))
        dock.previous_requested.connect(partial(self._for_current, self.review_previous))
        dock.save_requested.connect(self.save)
        dock.open_requested.connect(self.open)
        desks.said.connect(self._on_said)
        desks.worked.connect(self._working.ask)
        desks.tracks_changed.connect(self._show_tracks)
        desks.looked_different.connect(self._telling.ask)

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
    def commit(self, layer: Labels) -> None:
        """Take the frame in view of a track as a user anchor."""
        desk, track = self._desks.owner_of(layer)
        frame = desk.frame_in_view()
        span = desk.session.correct(track, frame)
        self._say(f"Frame {frame} is an anchor now; re-propagating reaches {span}.")
        self._telling.ask()

    @guarded
    def mark_absent(self, layer: Labels) -> None:
        """Declare that the object cannot be seen on the frame in view."""
        desk, track = self._desks.owner_of(layer)
        frame = desk.frame_in_view()
        span = desk.session.mark_absent(track, frame)
        self._say(f"'{track.query.name}' is absent on frame {frame}; re-propagating reaches {span}.")
        self._telling.ask()

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
    def review_next(self, layer: Labels) -> None:
        """Go to the next frame worth a look."""
        self._review(layer, +1)

    @guarded
    def review_previous(self, layer: Labels) -> None:
        """Go to the last frame worth a look."""
        self._review(layer, -1)

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

    def _review(self, layer: Labels, direction: int) -> None:
        desk, track = self._desks.owner_of(layer)
        frames = review.frames_to_review(track.masks.provenances, track.last_presence, track.last_iou)
        frame = review.neighbour(frames, desk.frame_in_view(), direction)
        if frame is None:
            self._say("No frame is corrected or uncertain.")
            return
        dims = self._viewer.dims
        dims.set_point(dims.ndim - layer.ndim, layers.world_time_of(frame, layer, dims.point))

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
    def _for_current(self, wish: Callable[[Labels], None]) -> None:
        desk = self._desk
        if desk is not None and self._track_id is not None:
            wish(desk.show_track(desk.session.track(self._track_id)))

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

    def _select(self, track: Track) -> None:
        self._track_id = track.track_id
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
        is_busy = desk is not None and desk.session.busy
        now = None if desk is None else desk.last_progress
        self._dock.set_busy(is_busy)
        if now is None:
            self._dock.show_progress("")
        elif is_busy:
            self._dock.show_progress(sentences.progress(now), now.num_done, now.num_total if now.num_done else 0)
        else:
            self._dock.show_progress(sentences.finished(now), now.num_done, now.num_total)
            self._dock.clear_message(self._passing_message)

    @guarded
    def _tell(self) -> None:
        desk = self._desk
        if desk is None or self._track_id is None:
            self._dock.show_frame("")
            self._dock.show_plan("")
            return
        track, frame = desk.session.track(self._track_id), desk.frame_in_view()
        presence, iou = float(track.last_presence[frame]), float(track.last_iou[frame])
        self._dock.show_frame(sentences.frame(frame, track.masks.provenance(frame), presence, iou))
        # While it runs, what is unfinished is no news; what was corrected meanwhile is.
        is_news = not desk.session.busy or bool(track.touched())
        self._dock.show_plan(sentences.plan(*desk.session.predict_span(track)) if is_news else "")

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
        self._desks.close()
        self._sessions.close()
