"""One image on the desk: its session, its frames, and one Labels layer per query."""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from napari.layers import Labels
from napari.utils.colormaps import CyclicLabelColormap
from qtpy.QtCore import QObject, Signal

from napari_virst.errors import InputError
from napari_virst.gui import layers, sentences
from napari_virst.gui.guard import guarded
from napari_virst.gui.pacing import Paced
from napari_virst.gui.shortcuts import bind_keys, unbind_keys
from napari_virst.gui.view import View

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.components import ViewerModel
    from napari.layers import Image

    from napari_virst.gui.frames import LayerFrames
    from napari_virst.gui.shortcuts import Corrections
    from napari_virst.records import Learned, Progress
    from napari_virst.session.session import AnnotationSession, Track

    InBackground = Callable[[Callable[[], None], Callable[[BaseException | None], None]], None]
    """Does something in a worker, then calls back in Qt's thread with None or an error."""

ResultT = TypeVar("ResultT")

ALL_FRAMES_INTERVAL_MS = 30_000
"""Drawing all frames at once, in 3D, takes 0.75 s for 36 × 480 × 854: the window would wait at every frame of a run."""


class Desk(QObject):
    """Keeps the Labels layers of one image in step with its session; the session never hears of layers.

    Parameters
    ----------
    viewer : ViewerModel
        Where layers are added.
    image : Image
        What is annotated.
    frames : LayerFrames
        The frames of ``image``.
    session : AnnotationSession
        Closed with the desk, which also lets go of the frames.
    corrections : Corrections
        What the keys on our layers do.
    in_background : callable
        Where lengthy changes of the session are made.
    parent : QObject, optional
        Owner.
    """

    looked_different = Signal()
    """What is known of frames has changed: provenance, presence, or what re-propagating would do."""
    progressed = Signal(object)
    """A Progress."""
    busy_changed = Signal(bool)
    tracks_changed = Signal()
    said = Signal(str, bool)
    """A sentence for the message line, and whether it tells of an error."""

    def __init__(
        self,
        viewer: ViewerModel,
        image: Image,
        frames: LayerFrames,
        session: AnnotationSession,
        corrections: Corrections,
        in_background: InBackground,
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self.image = image
        self.frames = frames
        self.view = View(viewer, image, frames.shape[0])
        self.session = session
        self.last_progress: Progress | None = None
        """Of the run at work, or the last one."""
        self._progress: dict[str, tuple[int, Progress]] = {}
        self.doing = ""
        """What is being done in the background, in words; empty where nothing is."""
        self.can_cancel = True
        """Whether that can be cancelled."""
        self._viewer = viewer
        self._corrections = corrections
        self._in_background = in_background
        self._closing = threading.Lock()
        self._is_at_work = False
        self._closed = threading.Event()
        self._layers: dict[str, Labels] = {}
        self._stale: set[str] = set()
        self._refreshing = Paced(self._refresh_stale, parent=self)
        self._refreshing_all_frames = Paced(self._refresh_stale, ALL_FRAMES_INTERVAL_MS, parent=self)
        self._telling = Paced(self.looked_different.emit, parent=self)
        self._connect()
        for track in session.tracks:
            self.show_track(track)

    # Tracks and their layers ------------------------------------------------------------------------------------

    def track_asked(self, text: str) -> Track | None:
        """Give the track that already answers a query, if there is one; white space does not count."""
        words = " ".join(text.split())
        return next((track for track in self.session.tracks if words and track.query.text == words), None)

    def ask(self, texts: list[str]) -> Track:
        """Ask queries; one asked before is run again, and several new ones run as a batch. Returns the first's track.

        Raises
        ------
        VirstError
            When a query is empty, or the project cannot be written.
        """
        focus_frame = self.view.frame()
        known = {text: self.track_asked(text) for text in texts}
        new = [text for text, track in known.items() if track is None]
        asked = iter(self.session.ask_together(new, focus_frame) if new else ())
        for track in known.values():
            if track is not None:
                self.session.run(track, focus_frame)
        return known[texts[0]] or next(asked)

    def start_painting(self, track: Track) -> None:
        """Have the layer of a track ready for the brush."""
        self.show_track(track).mode = "paint"

    def rename(self, track: Track, name: str) -> None:
        """Call a track otherwise, and its layer with it."""
        self.session.rename_track(track, name)
        layer = self._layers.get(track.track_id)
        if layer is not None:
            layer.name = layers.layer_name(self.image.name, track.query)
        self.tracks_changed.emit()

    def remove(self, track: Track) -> None:
        """Take a track out of the project, and its layer out of the viewer."""
        layer = self._layers.pop(track.track_id, None)
        self.session.remove_track(track)
        if layer is not None:
            unbind_keys(layer, self._corrections)
            self._viewer.layers.remove(layer)
        for track_id, other in self._layers.items():  # the colour is that of the place in the list
            other.colormap = self._colormap(self.session.track(track_id))
        self.tracks_changed.emit()

    @property
    def layers(self) -> list[Labels]:
        """The layers of the tracks that the person has not deleted."""
        return list(self._layers.values())

    def row_of(self, track: Track) -> int:
        """Count the tracks asked before ``track``; decides its colour."""
        return [one.track_id for one in self.session.tracks].index(track.track_id)

    def progress_of(self, track: Track) -> Progress | None:
        """Give how far the last run of a track has come; None where it has none, or a new one has not begun yet."""
        revision, progress = self._progress.get(track.track_id, (-1, None))
        return progress if revision == track.revision else None

    def layer_of(self, track_id: str) -> Labels | None:
        """Give the layer of a track; None when the person has deleted it."""
        return self._layers.get(track_id)

    def show_track(self, track: Track) -> Labels:
        """Give the layer of a track, made anew where there is none."""
        layer = self._layers.get(track.track_id)
        if layer is None:
            layer = self._layers[track.track_id] = self._make_layer(track)
            bind_keys(layer, self._corrections)
            self._viewer.add_layer(layer)
            layer.events.name.connect(partial(self._on_layer_renamed, track))
            layer.events.data.connect(partial(self._on_data_replaced, track))
        return layer

    def forget_layer(self, layer: object) -> None:
        """Take notice that the person has deleted one of our layers; its masks and the session stay."""
        track_id = layers.track_id_of(layer)
        if track_id is not None and self._layers.get(track_id) == layer:
            del self._layers[track_id]

    def _make_layer(self, track: Track) -> Labels:
        layer = Labels(
            layers.labels_data(track.masks, self.image),
            name=layers.layer_name(self.image.name, track.query),
            colormap=self._colormap(track),
            opacity=0.6,
            metadata={layers.METADATA_KEY: self._provenance(track)},
            **layers.spatial_arguments(self.image),
        )
        layer.selected_label = track.label
        return layer

    def _colormap(self, track: Track) -> CyclicLabelColormap:
        return CyclicLabelColormap(colors=layers.label_colors(self.row_of(track)))

    def _provenance(self, track: Track) -> dict[str, Any]:
        return {
            "track": track.track_id,
            "query": track.query.text,
            "image": self.image.name,
            "folder": str(self.session.folder),
            "provenance": track.masks.provenances,
        }

    # What the session says --------------------------------------------------------------------------------------

    def _connect(self) -> None:
        self.session.track_added.connect(self._on_track_added)
        self.session.frame_changed.connect(self._on_frame_changed)
        self.session.provenance_changed.connect(self._on_provenance_changed)
        self.session.progress.connect(self._on_progress)
        self.session.busy_changed.connect(self._on_busy_changed)
        self.session.failed.connect(self.report)
        self.session.notice.connect(self._on_notice)
        self.session.learned.connect(self._on_learned)

    def report(self, text: str) -> None:
        """Say that something failed."""
        self.said.emit(text, True)

    @guarded
    def _on_track_added(self, track: Track) -> None:
        self.show_track(track)
        self.tracks_changed.emit()

    @guarded
    def _on_frame_changed(self, track_id: str, frame: int) -> None:
        sees_time = self.view.sees_time()
        if sees_time or frame == self.view.frame():
            self._stale.add(track_id)
            is_run = self.session.busy  # whose end refreshes every layer
            (self._refreshing_all_frames if sees_time and is_run else self._refreshing).ask()
            self._telling.ask()

    @guarded
    def _on_layer_renamed(self, track: Track, _event: object) -> None:
        """Keep the name that the person gave to a layer in napari's list."""
        layer = self._layers.get(track.track_id)
        if layer is not None and layer.name != layers.layer_name(self.image.name, track.query):
            self.session.rename_track(track, layers.query_name(layer.name, self.image.name))
            self.tracks_changed.emit()

    @guarded
    def _on_data_replaced(self, track: Track, _event: object) -> None:
        """Keep the masks of a track in its layer, whatever another plugin or the console puts there."""
        layer = self._layers.get(track.track_id)
        if layer is not None and layers.masks_of(layer) is None:
            count = layers.take_over(layer, track.masks, self.image)
            self.said.emit(sentences.taken_over(layer.name, count), False)

    @guarded
    def _on_provenance_changed(self, track_id: str, frames: tuple[int, ...]) -> None:
        layer = self._layers.get(track_id)
        if layer is not None:
            layer.metadata[layers.METADATA_KEY]["provenance"] = self.session.track(track_id).masks.provenances
        self._telling.ask()

    @guarded
    def _on_progress(self, progress: Progress) -> None:
        self.last_progress = progress
        for track in self.session.tracks:
            if track.track_id in progress.track_ids:
                self._progress[track.track_id] = (track.revision, progress)
        self.progressed.emit(progress)

    @guarded
    def _on_busy_changed(self, is_busy: bool) -> None:
        if is_busy:
            self.last_progress = None  # that of the run before
        else:
            for layer in self._layers.values():
                layer.refresh()
        self.busy_changed.emit(is_busy)
        self._telling.ask()

    @guarded
    def _on_notice(self, text: str) -> None:
        self.said.emit(text, False)

    @guarded
    def _on_learned(self, _track_id: str, _learned: Learned) -> None:
        self._telling.ask()  # what re-propagating would do

    @guarded
    def _refresh_stale(self) -> None:
        stale, self._stale = self._stale, set()
        for track_id in stale:
            layer = self._layers.get(track_id)
            if layer is not None:
                # 4–6 ms at 512 × 512, against 6–9 ms with thumbnail, extent and highlight
                layer.refresh(thumbnail=False, extent=False, highlight=False)

    # Lengthy changes --------------------------------------------------------------------------------------------

    def check_idle(self) -> None:
        """Raise where the session is in the hands of a worker.

        Raises
        ------
        InputError
            Saying what is being done.
        """
        if self.doing:
            raise InputError(f"One thing must end before the next; got {self.doing}; wait until it is done.")

    def do_in_background(
        self, doing: str, action: Callable[[], ResultT], on_done: Callable[[ResultT], None], *, can_cancel: bool = True
    ) -> None:
        """Lend the session to a worker for one lengthy change; nothing else touches it meanwhile.

        Parameters
        ----------
        doing : str
            What is done, as "splitting into instances".
        action : callable
            Done in the worker; must touch nothing of napari or Qt.
        on_done : callable
            Gets the result, in Qt's thread.
        can_cancel : bool
            Whether ``session.cancel`` ends it.

        Raises
        ------
        InputError
            When a run is at work, or something else in the background.
        """
        self.check_idle()
        if self.session.busy:
            raise InputError(sentences.run_must_end(doing))
        self.doing, self.can_cancel = doing, can_cancel
        modes = {track_id: str(layer.mode) for track_id, layer in self._layers.items()}
        for layer in self._layers.values():
            layer.editable = False
        results: list[ResultT] = []
        self.busy_changed.emit(True)
        action = self.session.announced(action)
        self._in_background(partial(self._work, action, results), partial(self._on_worked, modes, on_done, results))

    def _work(self, action: Callable[[], ResultT], results: list[ResultT]) -> None:
        with self._closing:
            if self._closed.is_set():
                return
            self._is_at_work = True
        try:
            # Signals would reach napari in this thread; the layers are refreshed as a whole afterwards.
            with self.session.frame_changed.blocked(), self.session.provenance_changed.blocked():
                results.append(action())
        finally:
            with self._closing:
                self._is_at_work = False
                if self._closed.is_set():
                    self.session.close()

    @guarded
    def _on_worked(
        self,
        modes: dict[str, str],
        on_done: Callable[[ResultT], None],
        results: list[ResultT],
        error: BaseException | None,
    ) -> None:
        self.doing = ""
        for track_id, layer in self._layers.items():
            layer.editable = True  # which forgets paint steps too: they hold pixels of before
            layer.mode = modes.get(track_id, layer.mode)
            layer.metadata[layers.METADATA_KEY]["provenance"] = self.session.track(track_id).masks.provenances
            layer.refresh()
        self.busy_changed.emit(False)
        self._telling.ask()
        if error is not None:
            self.report(str(error))
        for result in results:
            on_done(result)

    # The end ----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """End the session; layers that are still there stay, with the masks on disk."""
        for paced in (self._refreshing, self._refreshing_all_frames, self._telling):
            paced.stop()
        for layer in self._layers.values():
            unbind_keys(layer, self._corrections)
        self._layers.clear()
        with self._closing:
            self._closed.set()
            if not self._is_at_work:
                self.session.close()
