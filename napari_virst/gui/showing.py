"""What the dock shows: the image and the track that are chosen, and what is known of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QObject

from napari_virst.gui import layers, planes, sentences
from napari_virst.gui.guard import guarded
from napari_virst.gui.pacing import Paced
from napari_virst.gui.reviewing import plan_of, timeline_state
from napari_virst.gui.track_list import QueryRow

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.components import ViewerModel
    from napari.layers import Image, Labels

    from napari_virst.gui.desk import Desk
    from napari_virst.gui.desks import Desks
    from napari_virst.gui.widget import VirstWidget
    from napari_virst.session.session import AnnotationSession, Track

PROGRESS_INTERVAL_MS = 250
"""A progress bar repaints the whole window at once: 27 ms each in software GL (llvmpipe, 2 cores)."""

TIMELINE_INTERVAL_MS = 250
"""Gathering and drawing a timeline takes a few milliseconds at 10 000 frames, and a run changes it all the time."""


class Showing(QObject):
    """Keeps which image and which track are chosen, and the dock in step with them.

    Parameters
    ----------
    viewer : ViewerModel
        Whose selected layer follows the track.
    dock : VirstWidget
        The controls.
    desks : Desks
        The annotated images.
    why_suggested : callable
        Says why a frame of a track was suggested; empty where it was not.
    parent : QObject, optional
        Owner.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        dock: VirstWidget,
        desks: Desks,
        why_suggested: Callable[[AnnotationSession, Track, int], str],
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self._viewer, self._dock, self._desks, self._why_suggested = viewer, dock, desks, why_suggested
        self.image: Image | None = None
        self._track_id: str | None = None
        self._is_open = True
        self._passing_message = ""
        self._telling = Paced(self._tell, parent=self)
        self._drawing = Paced(self._show_timeline, TIMELINE_INTERVAL_MS, parent=self)
        self._working = Paced(self._show_work, PROGRESS_INTERVAL_MS, parent=self)
        desks.said.connect(self.show_message)
        desks.worked.connect(self._working.ask)
        desks.tracks_changed.connect(self._show_tracks)
        desks.looked_different.connect(self.tell_anew)

    # What is chosen ---------------------------------------------------------------------------------------------

    @property
    def desk(self) -> Desk | None:
        """The desk of the image; None before anything was asked of it."""
        return self._desks.of(self.image)

    @property
    def track(self) -> Track | None:
        """The track in the list; None where there is none."""
        desk = self.desk
        tracks = () if desk is None else desk.session.tracks
        return next((track for track in tracks if track.track_id == self._track_id), None)

    @property
    def layer(self) -> Labels | None:
        """The layer of the track, made anew where the person has deleted it."""
        desk, track = self.desk, self.track
        return None if desk is None or track is None else desk.show_track(track)

    def choose_image(self, image: Image | None) -> None:
        """Show an image, with its newest track."""
        self.image = image
        desk = self.desk
        self._track_id = desk.session.tracks[-1].track_id if desk is not None and desk.session.tracks else None
        self._dock.suggest_query(layers.suggested_query(image))
        if image is not None:
            self._dock.clear_message(sentences.is_open(image.name))
        self.show_images()
        self._show_tracks()
        self._show_work()
        self._telling.ask()
        self._show_timeline()

    def select(self, track: Track) -> None:
        """Show a track of the image, and make its layer the active one."""
        if track.track_id != self._track_id:
            self._dock.timeline.clear_selection()
        self._track_id = track.track_id
        self._show_timeline()
        self._show_tracks()
        if self.desk is not None:
            self._viewer.layers.selection.active = self.desk.show_track(track)
        self._telling.ask()
        self._working.ask()

    # Messages ---------------------------------------------------------------------------------------------------

    def report(self, text: str) -> None:
        """Say in the message line that something failed."""
        if text.startswith(sentences.RUN_MUST_END):
            self._passing_message = text
        self.show_message(text, True)

    def say(self, text: str) -> None:
        """Say something in the message line."""
        self.show_message(text, False)

    def say_while_running(self, text: str) -> None:
        """Say something that is gone from the message line when the run has ended."""
        self._passing_message = text
        self.say(text)

    def show_message(self, text: str, is_error: bool) -> None:
        """Say something in the message line, if there still is one."""
        if self._is_open:
            self._dock.show_message(text, is_error=is_error)

    # What is known ----------------------------------------------------------------------------------------------

    def tell_frame(self) -> None:
        """Show anew what is known of the frame in view, as often as the eye can tell."""
        self._telling.ask()

    def tell_anew(self) -> None:
        """Show anew what is known of the track, and what is being done."""
        self._telling.ask()
        self._drawing.ask()
        self._working.ask()

    def show_images(self) -> None:
        """List the images of the viewer."""
        images = self._desks.images
        row = next((row for row, image in enumerate(images) if image == self.image), -1)
        self._dock.set_images([image.name for image in images], row)

    @guarded
    def _show_tracks(self) -> None:
        desk = self.desk
        tracks = () if desk is None else desk.session.tracks
        rows = [QueryRow(track.track_id, track.query.name, layers.color_of(row)) for row, track in enumerate(tracks)]
        self._dock.set_tracks(rows, self._track_id)

    @guarded
    def _show_work(self) -> None:
        desk, track = self.desk, self.track
        if desk is not None and desk.doing:
            self._dock.set_busy(True, can_cancel=desk.can_cancel)
            self._dock.show_progress(f"{desk.doing} …")
            return
        is_busy = desk is not None and desk.session.busy
        self._dock.set_busy(is_busy, can_cancel=is_busy or (desk is not None and desk.session.learning))
        if desk is None or (track is None and not is_busy):
            self._dock.show_progress("")
        elif is_busy:
            self._show_run(desk, track)
        elif track is not None:
            self._show_end(desk, track)

    def _show_run(self, desk: Desk, track: Track | None) -> None:
        now = desk.last_progress
        if now is None:
            self._dock.show_progress("starting …")
            return
        waits = track is not None and desk.session.waits(track)
        is_own = track is None or track.track_id in now.track_ids
        others = [one.query.name for one in desk.session.tracks if one.track_id in now.track_ids]
        text = sentences.progress(now, waits=waits, of=() if is_own else others)
        self._dock.show_progress(text, now.num_done, now.num_total if now.num_done else 0)

    def _show_end(self, desk: Desk, track: Track) -> None:
        now = desk.progress_of(track)
        text = "" if now is None else sentences.finished(now, is_complete=not track.unfinished())
        self._dock.show_progress(text)
        self._dock.clear_message(self._passing_message)

    @guarded
    def _tell(self) -> None:
        desk, track = self.desk, self.track
        self._dock.show_learning(track is not None and track.learns)
        if desk is None or track is None:
            self._dock.show_frame("")
            self._dock.show_reason("")
            self._dock.show_plan("")
            return
        frame = desk.view.frame()
        self._dock.timeline.show_frame(frame)
        if desk.doing:
            return
        self._tell_of_frame(desk, track, frame)
        # While it runs, what is unfinished is no news; what was corrected meanwhile is.
        is_news = not desk.session.busy or bool(track.touched())
        self._dock.show_plan(plan_of(desk.session, track) if is_news else "")

    def _tell_of_frame(self, desk: Desk, track: Track, frame: int) -> None:
        outside = desk.view.frame_outside()
        if outside is not None:
            self._dock.show_frame(sentences.outside(outside, track.num_frames))
            self._dock.show_reason("")
            return
        presence, iou = float(track.last_presence[frame]), float(track.last_iou[frame])
        is_locked = bool(track.locked[frame])
        told = sentences.frame(frame, track.masks.provenance(frame), presence, iou, is_locked=is_locked)
        if not desk.view.sees_time():
            self._dock.clear_message(sentences.MUST_SEE_ONE_FRAME)
        plane = planes.words_for(desk.image)
        if desk.view.sees_plane():
            self._dock.clear_message(sentences.must_see_plane(plane))
        else:
            told = sentences.beside_plane(told, plane)
        self._dock.show_frame(told)
        self._dock.show_reason(self._why_suggested(desk.session, track, frame))

    @guarded
    def _show_timeline(self) -> None:
        desk, track = self.desk, self.track
        if desk is None or track is None:
            self._dock.show_timeline(None)
        elif not desk.doing:
            self._dock.show_timeline(timeline_state(desk.session, track))
            self._dock.timeline.show_frame(desk.view.frame())

    def close(self) -> None:
        """Show nothing more."""
        self._is_open = False
        for paced in (self._telling, self._working, self._drawing):
            paced.stop()
