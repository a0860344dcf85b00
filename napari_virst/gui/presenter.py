"""Joins sessions and viewer: turns what the person wishes in the dock into calls of a session, and back into words."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from napari.layers import Image, Labels
from qtpy.QtCore import QObject

from napari_virst.gui import layers, review, sentences
from napari_virst.gui.desk import Desk
from napari_virst.gui.frames import LayerFrames
from napari_virst.gui.guard import guarded
from napari_virst.gui.pacing import Paced
from napari_virst.gui.widget import QueryRow, VirstWidget

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari.components import ViewerModel

    from napari_virst.records import Progress
    from napari_virst.session.session import AnnotationSession, Track


class Sessions(Protocol):
    """Where sessions come from; the presenter knows neither models nor threads."""

    def start(self, frames: LayerFrames, name: str) -> AnnotationSession:
        """Make a session in a folder of its own."""

    def reopen(self, folder: Path, frames: LayerFrames) -> AnnotationSession:
        """Open a saved project."""

    def copy(self, session: AnnotationSession, target: Path, on_end: Callable[[str | None], None]) -> None:
        """Copy the project of a session to ``target`` in the background; ``on_end`` gets None or an error."""

    def choose_model(self, model: str, device: str) -> None:
        """Use this model from the next run on."""

    def close(self) -> None:
        """End what runs in the background."""


class Presenter(QObject):
    """The one who listens to the dock, to the viewer and to the desks, one desk per annotated image.

    Parameters
    ----------
    viewer : ViewerModel
        The viewer, or anything with its ``layers``, ``dims`` and ``add_layer``.
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
        self._desks: dict[Image, Desk] = {}
        self._image: Image | None = None
        self._track_id: str | None = None
        self._is_open = True
        self._telling = Paced(self._tell, parent=self)
        self._connect_dock()
        self._connect_viewer()
        self._choose_image(layers.newest_video(viewer.layers))

    def _connect_dock(self) -> None:
        dock = self._dock
        dock.image_chosen.connect(self._on_image_chosen)
        dock.track_chosen.connect(self._on_track_chosen)
        dock.model_chosen.connect(self._on_model_chosen)
        dock.run_requested.connect(self.run)
        dock.cancel_requested.connect(self.cancel)
        dock.commit_requested.connect(lambda: self._for_current(self.commit))
        dock.absent_requested.connect(lambda: self._for_current(self.mark_absent))
        dock.repropagate_requested.connect(lambda: self._for_current(self.repropagate))
        dock.review_requested.connect(self._on_review)
        dock.save_requested.connect(self.save)
        dock.open_requested.connect(self.open)

    def _connect_viewer(self) -> None:
        events = self._viewer.layers.events
        for event in (events.inserted, events.removed, events.reordered, events.renamed):
            event.connect(self._on_layers_changed)
        events.inserted.connect(self._on_inserted)
        events.removed.connect(self._on_removed)
        self._viewer.layers.selection.events.active.connect(self._on_active_changed)
        self._viewer.dims.events.point.connect(self._on_moved)

    # What the person wishes -------------------------------------------------------------------------------------

    @guarded
    def run(self, text: str) -> None:
        """Follow a query through the whole image in the chooser; a query asked before is run again."""
        self._dock.show_message("")
        desk = self._desk_for_run()
        if desk is None:
            self.report("An image or video must be open; there is none yet; open one, or File › Open Sample.")
            return
        track = desk.track_asked(" ".join(text.split()))
        if track is None:
            track = desk.session.ask(text)
        else:
            desk.session.run(track)
        self._select(track)

    @guarded
    def cancel(self) -> None:
        """Stop what runs; finished frames stay."""
        for desk in self._desks.values():
            if desk.session.busy:
                desk.session.cancel()

    @guarded
    def commit(self, layer: Labels) -> None:
        """Take the frame in view of a track as a user anchor."""
        desk, track = self._owner_of(layer)
        frame = desk.frame_in_view()
        span = desk.session.correct(track, frame)
        self._say(f"Frame {frame} is an anchor now; re-propagating would redo {span}.")

    @guarded
    def mark_absent(self, layer: Labels) -> None:
        """Declare that the object cannot be seen on the frame in view."""
        desk, track = self._owner_of(layer)
        frame = desk.frame_in_view()
        desk.session.mark_absent(track, frame)
        layer.refresh()
        self._say(f"Frame {frame}: '{track.query.name}' is not here.")

    @guarded
    def repropagate(self, layer: Labels) -> None:
        """Follow again from the corrections of a track."""
        desk, track = self._owner_of(layer)
        plan = sentences.plan(*desk.session.predict_span(track))
        if not desk.session.busy:
            desk.frames.look_again()
        if desk.session.repropagate(track, focus_frame=desk.frame_in_view()) is None:
            self._say("Nothing to re-propagate: paint or commit a frame first.")
        else:
            self._say(f"Re-propagating {plan}." if plan else "Re-propagating.")

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
        if desk is None:
            return
        target = self._dock.ask_folder_to_save(desk.session.folder.with_name(desk.image.name))
        if target is not None:
            desk.session.save()
            self._say(f"Saving to {target} …")
            self._sessions.copy(desk.session, target, partial(self._on_saved, target))

    @guarded
    def open(self) -> None:
        """Go on with a project; its video is taken from the open layers, else from where it was."""
        folder = self._dock.ask_folder_to_open(self._sessions.folder)
        if folder is not None:
            self.open_folder(folder)

    def open_folder(self, folder: Path) -> None:
        """Go on with the project in ``folder``.

        Raises
        ------
        ProjectError
            When there is none, or its video is neither open nor to be found.
        """
        video = ProjectFolder(folder).load().video
        image = self._image_for(video) or self._viewer.add_image(**self._sessions.image_arguments(video))
        desk = self._open_desk(image, partial(self._sessions.reopen, folder))
        self._choose_image(image)
        for notice in desk.session.opening_notices:
            self._say(notice)

    # What the viewer tells --------------------------------------------------------------------------------------

    @guarded
    def _on_inserted(self, event: Any) -> None:  # noqa: ANN401 - napari's Event has no public type
        is_busy = self._desk is not None and self._desk.session.busy
        if layers.is_video_like(event.value) and not is_busy:
            self._choose_image(event.value)

    @guarded
    def _on_removed(self, event: Any) -> None:  # noqa: ANN401
        desk = self._desks.pop(event.value, None) if isinstance(event.value, Image) else None
        if desk is not None:
            desk.close()
        for other in self._desks.values():
            other.forget_layer(event.value)
        if event.value is self._image:
            self._choose_image(layers.newest_video(self._viewer.layers))

    @guarded
    def _on_layers_changed(self, event: Any) -> None:  # noqa: ANN401
        self._show_images()

    @guarded
    def _on_active_changed(self, event: Any) -> None:  # noqa: ANN401
        owner = self._owner(event.value)
        if owner is not None and owner[1].track_id != self._track_id:
            self._choose_image(owner[0].image)
            self._select(owner[1])

    @guarded
    def _on_moved(self, event: Any) -> None:  # noqa: ANN401
        self._telling.ask()

    # What the dock tells ----------------------------------------------------------------------------------------

    @guarded
    def _on_image_chosen(self, row: int) -> None:
        self._choose_image(self._images()[row])

    @guarded
    def _on_track_chosen(self, track_id: str) -> None:
        if self._desk is not None:
            self._select(self._desk.track(track_id))

    @guarded
    def _on_model_chosen(self, model: str, device: str) -> None:
        self._sessions.choose_model(model, device)

    @guarded
    def _on_review(self, direction: int) -> None:
        self._for_current(self.review_next if direction > 0 else self.review_previous)

    def _for_current(self, wish: Callable[[Labels], None]) -> None:
        desk = self._desk
        if desk is not None and self._track_id is not None:
            wish(desk.show_track(desk.track(self._track_id)))

    # Which image, which track -----------------------------------------------------------------------------------

    @property
    def _desk(self) -> Desk | None:
        return None if self._image is None else self._desks.get(self._image)

    def _images(self) -> list[Image]:
        return [layer for layer in self._viewer.layers if isinstance(layer, Image)]

    def _image_for(self, video: VideoRecord) -> Image | None:
        candidates = [image for image in self._images() if layers.video_shape(image) == video.shape]
        return next((image for image in candidates if image is self._image), candidates[-1] if candidates else None)

    def _choose_image(self, image: Image | None) -> None:
        self._image = image
        self._show_images()
        desk = self._desk
        self._track_id = desk.session.tracks[-1].track_id if desk is not None and desk.session.tracks else None
        queries = () if image is None else image.metadata.get(layers.METADATA_KEY, {}).get("queries", ())
        self._dock.suggest_query(queries[0] if queries else "")
        self._show_tracks()
        self._show_work()
        self._telling.ask()

    def _select(self, track: Track) -> None:
        self._track_id = track.track_id
        self._show_tracks()
        layer = self._desk.show_track(track) if self._desk is not None else None
        if layer is not None and self._viewer.layers.selection.active is not layer:
            self._viewer.layers.selection.active = layer
        self._telling.ask()

    def _desk_for_run(self) -> Desk | None:
        image = self._image
        if image is None:
            return None
        if layers.needs_plane(image):
            image = self._cut_plane(image)
        desk = self._desks.get(image)
        if desk is None:
            desk = self._open_desk(image, partial(self._sessions.start, name=image.name))
        elif not desk.session.busy:
            desk.frames.look_again()
        return desk

    def _cut_plane(self, image: Image) -> Image:
        data, arguments = layers.plane_arguments(image, self._viewer.dims.current_step[-image.ndim :])
        plane = self._viewer.add_image(data, **arguments)
        image.visible = False
        self._choose_image(plane)
        self._say(f"'{image.name}' has several planes; the one in view is followed, in the layer '{plane.name}'.")
        return plane

    def _open_desk(self, image: Image, make_session: Callable[[LayerFrames], AnnotationSession]) -> Desk:
        frames = LayerFrames(image)
        try:
            session = make_session(frames)
        except BaseException:
            frames.close()
            raise
        self._close_desk(image)
        desk = self._desks[image] = Desk(self._viewer, image, session, frames, self, parent=self)
        desk.said.connect(self._on_said)
        for signal in (desk.progressed, desk.busy_changed):
            signal.connect(lambda _value: self._show_work())
        desk.tracks_changed.connect(self._show_tracks)
        desk.looked_different.connect(self._telling.ask)
        return desk

    def _close_desk(self, image: Image) -> None:
        desk = self._desks.pop(image, None)
        if desk is not None:
            old_layers = desk.layers
            desk.close()
            for layer in old_layers:
                self._viewer.layers.remove(layer)
            self._say(f"The queries before are kept in {desk.session.folder}.")

    def _owner(self, layer: object) -> tuple[Desk, Track] | None:
        track_id = layers.track_id_of(layer)
        for desk in self._desks.values():
            if track_id is not None and desk.layer_of(track_id) is layer:
                return desk, desk.track(track_id)
        return None

    def _owner_of(self, layer: Labels) -> tuple[Desk, Track]:
        owner = self._owner(layer)
        if owner is None:
            raise InputError(f"The layer must belong to a query; got '{layer.name}'; choose a query in the list.")
        return owner

    def _review(self, layer: Labels, direction: int) -> None:
        desk, track = self._owner_of(layer)
        frames = review.frames_to_review(track.masks.provenances, track.last_presence, track.last_iou)
        frame = review.neighbour(frames, desk.frame_in_view(), direction)
        if frame is None:
            self._say("No frame is corrected or uncertain.")
            return
        point = self._viewer.dims.point
        self._viewer.dims.set_point(len(point) - layer.ndim, layers.world_time_of(frame, layer, point))

    # What the dock shows ----------------------------------------------------------------------------------------

    def report(self, text: str) -> None:
        """Say in the message line that something failed."""
        self._on_said(text, True)

    def _say(self, text: str) -> None:
        self._on_said(text, False)

    def _on_said(self, text: str, is_error: bool) -> None:
        if self._is_open:
            self._dock.show_message(text, is_error=is_error)

    def _on_saved(self, target: Path, error: str | None) -> None:
        if error is None:
            self._say(f"Saved to {target}.")
        else:
            self.report(error)

    def _show_images(self) -> None:
        images = self._images()
        row = next((row for row, image in enumerate(images) if image is self._image), -1)
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

    @guarded
    def _tell(self) -> None:
        desk = self._desk
        if desk is None or self._track_id is None:
            self._dock.show_frame("")
            self._dock.show_plan("")
            return
        track, frame = desk.track(self._track_id), desk.frame_in_view()
        presence, iou = float(track.last_presence[frame]), float(track.last_iou[frame])
        self._dock.show_frame(sentences.frame(frame, track.masks.provenance(frame), presence, iou))
        self._dock.show_plan(sentences.plan(*desk.session.predict_span(track)))

    def close(self) -> None:
        """End every session and stop listening; harmless when done twice, and when the dock is gone already."""
        if not self._is_open:
            return
        self._is_open = False
        events = self._viewer.layers.events
        for event in (events.inserted, events.removed, events.reordered, events.renamed):
            event.disconnect(self._on_layers_changed)
        events.inserted.disconnect(self._on_inserted)
        events.removed.disconnect(self._on_removed)
        self._viewer.layers.selection.events.active.disconnect(self._on_active_changed)
        self._viewer.dims.events.point.disconnect(self._on_moved)
        for desk in self._desks.values():
            desk.close()
        self._desks.clear()
        self._sessions.close()
