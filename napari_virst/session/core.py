"""What a session is made of: its tracks, their runs, and the project on disk. No word of the person in it.

The session belongs to one thread, in a window Qt's: its methods are called there, and the runner's ``dispatch`` brings
the results there.
"""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self, TypeVar

from psygnal import Signal

from napari_virst.engine.protocol import StoredFrames
from napari_virst.errors import InputError, MaskError, ProjectError
from napari_virst.io.project import ProjectFolder, ProjectRecord, VideoRecord
from napari_virst.io.project_lock import ProjectLock
from napari_virst.records import Anchor, Learned, Progress, Query, Span
from napari_virst.session import sentences
from napari_virst.session.history import History
from napari_virst.session.journal import Journal
from napari_virst.session.track import Track

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path
    from types import TracebackType

    from napari_virst.engine.protocol import Frames, Segmenter
    from napari_virst.engine.runner import Runner

T = TypeVar("T")


class SessionCore:
    """What a person asks, corrects and accepts in one video, and the runs that follow from it.

    Everything is on disk as soon as it is done; closing loses nothing, nor does a crash.

    Parameters
    ----------
    frames
        The video as the model sees it.
    segmenter
        Returns the model. Called by the runner at the start of every run, so that waking may take its time; it
        should keep the model between calls.
    runner
        Where runs happen. The session takes it over and closes it.
    folder
        Of the project; must not hold one yet. See :mod:`napari_virst.io.project` for what is in it.
    video_source
        Where the video was opened from, so that the project can find it again.
    video_name
        What to call it.
    clock
        Seconds, from any zero; for tests.

    Attributes
    ----------
    track_added, track_removed
        Signal(Track).
    frame_changed
        Signal(track_id, frame): pixels changed by the model or through the session. Not sent for strokes, which the
        viewer has drawn already.
    provenance_changed
        Signal(track_id, frames): who vouches for the frames changed, by whatever way, strokes and undo included.
    progress
        Signal(Progress) of the run that is at work.
    busy_changed
        Signal(bool).
    failed
        Signal(message): something went wrong; the session goes on.
    notice
        Signal(message): something worth knowing.
    learned
        Signal(track_id, Learned): what came of learning from the corrections of a track; told by ``notice`` too.
    opening_notices
        What was worth knowing when the project was opened, before anybody could listen.

    Raises
    ------
    ProjectError
        When the folder cannot be written, holds a project already, or is open in another session.
    """

    track_added = Signal(Track)
    track_removed = Signal(Track)
    frame_changed = Signal(str, int)
    provenance_changed = Signal(str, tuple)
    progress = Signal(Progress)
    busy_changed = Signal(bool)
    failed = Signal(str)
    notice = Signal(str)
    learned = Signal(str, Learned)

    def __init__(
        self,
        frames: Frames,
        segmenter: Callable[[], Segmenter],
        runner: Runner,
        folder: Path,
        *,
        video_source: str | None = None,
        video_name: str = "video",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        files = ProjectFolder(folder)
        files.create()
        self._lock = ProjectLock(files.lock_path)
        video = VideoRecord(video_name, frames.shape[:3], frames.fingerprint, video_source, _pixels_of(frames))
        self._assemble(frames, segmenter, runner, files, video, clock)
        self.save()

    @classmethod
    def open(
        cls,
        folder: Path,
        frames: Frames,
        segmenter: Callable[[], Segmenter],
        runner: Runner,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> Self:
        """Open a project again, exactly as it was left, also by a crash.

        Raises
        ------
        ProjectError
            When there is no project, it is damaged, belongs to a video of another shape, or is open elsewhere.
        """
        files = ProjectFolder(folder)
        project = files.load()
        files.check_files(project)
        if project.video.shape != tuple(frames.shape[:3]):
            raise ProjectError(sentences.other_shape(project.video, tuple(frames.shape[:3])))
        session = cls.__new__(cls)
        session._lock = ProjectLock(files.lock_path)
        try:
            session._assemble(frames, segmenter, runner, files, project.video, clock)
            session._tracks = [Track(record, files, session.shape) for record in project.tracks]
        except ProjectError:
            session._lock.release()
            raise
        for track in session._tracks:
            session._listen_to(track)
        if project.video.fingerprint != frames.fingerprint and _may_differ(project.video, frames):
            session.opening_notices = (sentences.other_frames(project.video),)
        return session

    def _assemble(
        self,
        frames: Frames,
        segmenter: Callable[[], Segmenter],
        runner: Runner,
        files: ProjectFolder,
        video: VideoRecord,
        clock: Callable[[], float],
    ) -> None:
        self._files, self._runner = files, runner
        self.video = video
        self.opening_notices: tuple[str, ...] = ()
        self._journal = Journal(files, clock)
        self._clock = clock
        self._tracks: list[Track] = []
        self._history = History()
        self._halt = threading.Event()
        self._was_announced = False
        self._closed = False

    # -- tracks --------------------------------------------------------------------------------------------------

    @property
    def folder(self) -> Path:
        """Of the project."""
        return self._files.root

    @property
    def shape(self) -> tuple[int, int, int]:
        """(T, H, W) of the video and of every track's masks."""
        return self.video.shape

    @property
    def tracks(self) -> tuple[Track, ...]:
        """In the order in which they were asked for."""
        return tuple(self._tracks)

    def track(self, track_id: str) -> Track:
        """Return the track with that id.

        Raises
        ------
        KeyError
            When there is none.
        """
        track = self._find(track_id)
        if track is None:
            raise KeyError(track_id)
        return track

    def _find(self, track_id: str) -> Track | None:
        return next((track for track in self._tracks if track.track_id == track_id), None)

    def remove_track(self, track: Track) -> None:
        """Take a track out of the project; its mask file stays on disk."""
        self._stop_runs(track.track_id)
        self._history.forget(track.track_id)
        self._tracks.remove(track)
        self._journal.write("remove", track.track_id)
        self.save()
        self.track_removed.emit(track)

    def rename_track(self, track: Track, name: str) -> None:
        """Call a track otherwise; what its query says stays.

        Raises
        ------
        QueryError
            When there is neither a name nor a query in words.
        ProjectError
            When the project cannot be written.
        """
        query = Query(track.query.text, " ".join(name.split()))
        if query != track.query:
            track.query = query
            self._journal.write("rename", track.track_id, name=query.name)
            self.save()

    @property
    def was_halted(self) -> bool:
        """Whether the last lengthy change, e.g. splitting into instances, was cancelled before its end."""
        return self._halt.is_set()

    def announced(self, change: Callable[[], T]) -> Callable[[], T]:
        """Return a lengthy change to be made in another thread; :meth:`cancel` counts from now on, begun or not."""
        self._halt.clear()

        def make_change() -> T:
            """Make the change without forgetting that it may have been cancelled before it began."""
            self._was_announced = True
            try:
                return change()
            finally:
                self._was_announced = False

        return make_change

    def _until_halted(self, frames: Iterable[T]) -> Iterator[T]:
        """Go through the frames of a lengthy change, until it is cancelled, perhaps from another thread."""
        if not self._was_announced:
            self._halt.clear()
        for frame in frames:
            if self._halt.is_set():
                return
            yield frame

    def _listen_to(self, track: Track) -> None:
        track.masks.edited.connect(lambda frames: self._note_stroke(track, frames))
        track.masks.provenance_changed.connect(lambda frames: self.provenance_changed.emit(track.track_id, frames))

    def _declared(self, action: str, track: Track, frame: int, **detail: str | int | float) -> Span:
        self._journal.write(action, track.track_id, (frame,), **detail)
        self.save()
        return track.span_of(frame)

    @contextmanager
    def _step(self, action: str, track: Track, *frames: int) -> Iterator[None]:
        """Keep ``frames`` as they are before what is done within, so that it can be undone."""
        step = self._history.begin(action, track.track_id)
        for frame in frames:
            self._history.keep(step, track.masks, frame)
        yield
        for frame in frames:
            self._history.note_after(step, track.masks, frame)

    def _note_stroke(self, track: Track, frames: tuple[int, ...]) -> None:
        try:
            self._journal.write_stroke(track.track_id, frames)
        except ProjectError as error:  # must not break the drag in the viewer that this is part of
            self.failed.emit(str(error))

    def _check_anchors(self, anchors: tuple[Anchor, ...]) -> None:
        for anchor in anchors:
            self._check_frame(anchor.frame)
            if anchor.mask.shape != self.shape[1:]:
                raise MaskError(
                    f"The mask of an anchor must have the video's shape (H, W) = {self.shape[1:]}; "
                    f"got {anchor.mask.shape} on frame {anchor.frame}; resize it."
                )

    def _check_frame(self, frame: int) -> None:
        if not 0 <= frame < self.shape[0]:
            raise InputError(f"A frame must be 0…{self.shape[0] - 1}; got {frame}; count from 0.")

    # -- the project ---------------------------------------------------------------------------------------------

    def save(self) -> None:
        """Have the disk store the last stroke and project.json. Everything that changes the latter calls this already.

        The model's masks go to the disk when the system sees fit: waiting for gigabytes would stop the window, and a
        run can bring them back.

        Raises
        ------
        ProjectError
            When it cannot be written.
        """
        for track in self._tracks:
            track.masks.flush_stroke()
        self._files.save(ProjectRecord(self.video, tuple(track.record() for track in self._tracks)))

    def close(self) -> None:
        """Stop all runs, save, and close the runner; what still comes is dropped. Closing twice is harmless."""
        if self._closed:
            return
        self._stop_runs(None)
        self._closed = True
        try:
            self.save()
        finally:
            self._lock.release()
            self._runner.close()

    def _stop_runs(self, track_id: str | None) -> None:
        """Stop the runs of one track, or all; then note how far they came."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _pixels_of(frames: Frames) -> str | None:
    return frames.pixels_fingerprint() if isinstance(frames, StoredFrames) else None


def _may_differ(video: VideoRecord, frames: Frames) -> bool:
    """Whether frames that are stored or shown otherwise than those of a project have other pixels too."""
    return video.pixels is None or video.pixels != _pixels_of(frames)
