"""One person's annotation of one video: the only mutable thing that a window talks to.

The session belongs to one thread, in a window Qt's: its methods are called there, and the runner's ``dispatch`` brings
the results there. It writes what the model says through the model's door of :class:`MaskStore`, and hears what people
paint from :attr:`MaskStore.edited`; who owns a frame and what has to be computed again are both read off the masks.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Self

import numpy as np
from psygnal import Signal

from napari_virst.errors import InputError, MaskError, ProjectError
from napari_virst.io.mask_files import missing_bytes
from napari_virst.io.project import ProjectFolder, ProjectRecord, TrackRecord, VideoRecord
from napari_virst.records import Anchor, FrameResult, Job, Progress, Provenance, Query, Span
from napari_virst.session import sentences
from napari_virst.session.journal import Journal
from napari_virst.session.runs import Awake, Runs, TrackRun
from napari_virst.session.track import Track

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path
    from types import TracebackType

    from numpy.typing import NDArray

    from napari_virst.engine.protocol import Frames, Segmenter
    from napari_virst.engine.runner import Runner

__all__ = ["AnnotationSession", "Track"]


class AnnotationSession:
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
    opening_notices
        What was worth knowing when the project was opened, before anybody could listen.

    Raises
    ------
    ProjectError
        When the folder cannot be written or holds a project already.
    """

    track_added = Signal(Track)
    track_removed = Signal(Track)
    frame_changed = Signal(str, int)
    provenance_changed = Signal(str, tuple)
    progress = Signal(Progress)
    busy_changed = Signal(bool)
    failed = Signal(str)
    notice = Signal(str)

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
        video = VideoRecord(video_name, frames.shape[:3], frames.fingerprint, video_source)
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
            When there is no project, it is damaged, or it belongs to a video of another shape.
        """
        files = ProjectFolder(folder)
        project = files.load()
        files.check_files(project)
        if project.video.shape != tuple(frames.shape[:3]):
            raise ProjectError(sentences.other_shape(project.video, tuple(frames.shape[:3])))
        session = cls.__new__(cls)
        session._assemble(frames, segmenter, runner, files, project.video, clock)
        session._tracks = [Track(record, files, session.shape) for record in project.tracks]
        for track in session._tracks:
            session._listen_to(track)
        if project.video.fingerprint != frames.fingerprint:
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
        self._runs = Runs(frames, segmenter, runner, self.accept)
        self._runs.progress.connect(self.progress.emit)
        self._runs.busy_changed.connect(self.busy_changed.emit)
        self._runs.awoke.connect(self._on_awoke)
        self._runs.ended.connect(self._on_ended)
        self._told_unknown: set[tuple[str, str]] = set()
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

    def ask(
        self,
        query: Query | str,
        span: Span | None = None,
        anchors: Iterable[Anchor] = (),
        focus_frame: int | None = None,
    ) -> Track:
        """Start a track and run it.

        Parameters
        ----------
        query
            What to follow.
        span
            The frames to compute; None = all. Runs stay inside it until :meth:`run`, or a correction outside of it.
        anchors
            Masks that a person vouches for.
        focus_frame
            The frame in view; frames around it are computed first.

        Returns
        -------
        Track
            Announced by :attr:`track_added` before anything is computed. A query without words waits for its
            first user anchor and :meth:`repropagate`.

        Raises
        ------
        QueryError
            When the query is empty.
        MaskError
            When an anchor does not fit the video.
        ProjectError
            When the project cannot be written.
        """
        query = query if isinstance(query, Query) else Query(query)
        anchors = tuple(anchors)
        self._check_anchors(anchors)
        window = None if span is None or span == Span(0, self.shape[0]) else span
        track = Track(TrackRecord(self._files.new_track_id(query.name), query, window=window), self._files, self.shape)
        for anchor in anchors:
            track.masks.give(anchor.frame, anchor.mask, label=track.label)
        self._listen_to(track)
        self._tracks.append(track)
        self._journal.write("ask", track.track_id, track.anchors.user_anchors(), text=query.text)
        self.save()
        self.track_added.emit(track)
        self._warn_of_small_disk()
        if track.can_run:
            self.repropagate(track, focus_frame)
        else:
            self.notice.emit(sentences.nothing_to_follow(query))
        return track

    def remove_track(self, track: Track) -> None:
        """Take a track out of the project; its mask file stays on disk."""
        self._runs.stop(track.track_id)
        self._tracks.remove(track)
        self._journal.write("remove", track.track_id)
        self.save()
        self.track_removed.emit(track)

    def _listen_to(self, track: Track) -> None:
        track.masks.edited.connect(lambda frames: self._note_stroke(track, frames))
        track.masks.provenance_changed.connect(lambda frames: self.provenance_changed.emit(track.track_id, frames))

    def _warn_of_small_disk(self) -> None:
        missing = missing_bytes(self.folder, self.shape)
        if missing:
            self.notice.emit(sentences.small_disk(self.folder, missing))

    # -- what a person says --------------------------------------------------------------------------------------

    def correct(self, track: Track, frame: int) -> Span:
        """Commit the pixels of ``frame``, changed or not: it is a user anchor from now on.

        Returns
        -------
        Span
            The frames that :meth:`repropagate` may change because of it.
        """
        self._check_frame(frame)
        iou = _iou(track.masks.prediction(frame) != 0, track.masks.mask(frame))
        track.masks.commit(frame)
        return self._declared("correct", track, frame, iou_with_prediction=round(iou, 4))

    def accept_frame(self, track: Track, frame: int) -> Span:
        """Vouch for ``frame`` as it is; it is a user anchor from now on."""
        self._check_frame(frame)
        track.masks.commit(frame, Provenance.ACCEPTED)
        return self._declared("accept", track, frame)

    def mark_absent(self, track: Track, frame: int) -> Span:
        """Say that the object cannot be seen on ``frame``: its mask is emptied, and it is a user anchor from now on."""
        self._check_frame(frame)
        track.masks.give(frame, np.zeros(self.shape[1:], np.bool_))
        self.frame_changed.emit(track.track_id, frame)
        return self._declared("absent", track, frame)

    def give_mask(self, track: Track, frame: int, mask: NDArray[np.bool_]) -> Span:
        """Make a mask from outside, (H, W) bool or integer labels, the user anchor of ``frame``.

        Raises
        ------
        MaskError
            When it does not fit the video.
        """
        self._check_frame(frame)
        track.masks.give(frame, mask, label=track.label)
        self.frame_changed.emit(track.track_id, frame)
        return self._declared("give", track, frame)

    def restore_prediction(self, track: Track, frame: int) -> bool:
        """Give ``frame`` back to the model, with the mask it had before a person took it; False where nobody had."""
        self._check_frame(frame)
        restored = track.masks.restore_prediction(frame)
        if restored:
            self.frame_changed.emit(track.track_id, frame)
            self._declared("restore", track, frame)
        return restored

    def exclude_anchor(self, track: Track, frame: int, excluded: bool = True) -> Span:
        """Have the model anchor of ``frame`` used no more, or again."""
        self._check_frame(frame)
        (track.anchors.exclude if excluded else track.anchors.include)(frame)
        return self._declared("exclude" if excluded else "include", track, frame)

    def _declared(self, action: str, track: Track, frame: int, **detail: str | int | float) -> Span:
        self._journal.write(action, track.track_id, (frame,), **detail)
        self.save()
        return track.span_of(frame)

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

    # -- runs ----------------------------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Whether any run is at work or waits."""
        return self._runs.busy

    def repropagate(self, track: Track, focus_frame: int | None = None) -> Job | None:
        """Compute what corrections since the last run can change, and what that run left unfinished.

        A run of the same track that is still at work is replaced.

        Parameters
        ----------
        track
            Which.
        focus_frame
            The frame the person looks at; its neighbours come first.

        Returns
        -------
        Job or None
            The first job, nearest to ``focus_frame``; there is one for every stretch of frames. None where there is
            nothing to do, which :attr:`notice` explains if it is a surprise.
        """
        spans = track.spans_to_run()
        if not spans:
            return None
        return self._start(track, spans, focus_frame)

    def run(self, track: Track, focus_frame: int | None = None) -> Job | None:
        """Compute the whole video again, from all anchors; frames of people stay as they are."""
        track.window = None
        return self._start(track, (Span(0, self.shape[0]),), focus_frame)

    def predict_span(self, track: Track) -> tuple[Span | None, float | None]:
        """Tell what :meth:`repropagate` would compute.

        Returns
        -------
        span : Span or None
            From the first to the last frame; None where there is nothing to do.
        seconds : float or None
            About how long it takes, at the rate of the last run; None while no rate is known.
        """
        spans = track.spans_to_run()
        if not spans or not track.can_run:
            return None, None
        rate = self._runs.frames_per_s
        seconds = None if rate is None else track.num_to_compute(spans) / rate
        return Span(spans[0].start, spans[-1].stop), seconds

    def cancel(self) -> None:
        """Stop all runs after the frame they are busy with. Finished frames stay; :meth:`repropagate` does the rest."""
        self._runs.stop()

    def _start(self, track: Track, spans: tuple[Span, ...], focus_frame: int | None) -> Job | None:
        if not track.can_run:
            self.notice.emit(sentences.nothing_to_follow(track.query))
            return None
        track.begin_run(spans)
        spans_text = " ".join(f"{span.start}-{span.stop - 1}" for span in spans)
        self._journal.write("run", track.track_id, spans=spans_text, revision=track.revision)
        self.save()
        jobs = track.jobs(spans, focus_frame)
        self._runs.start(TrackRun(track.track_id, jobs, track.num_to_compute(spans), self._clock))
        return jobs[0]

    def accept(self, track_id: str, result: FrameResult) -> bool:
        """Write one result, unless it is stale or its frame belongs to a person.

        Returns
        -------
        bool
            Whether it was written.

        Raises
        ------
        MaskError
            When its mask does not fit the video.
        ProjectError
            When the disk is full.
        """
        track = self._find(track_id)
        if self._closed or track is None or result.revision != track.revision:
            return False
        written = track.masks.write_prediction(
            result.frame,
            result.mask,
            track.label,
            result.provenance,
            presence=result.presence,
            predicted_iou=result.predicted_iou,
            revision=result.revision,
        )
        if written:
            is_anchor = result.provenance is Provenance.PREDICTED
            (track.anchors.note_model_anchor if is_anchor else track.anchors.forget_model_anchor)(result.frame)
            self.frame_changed.emit(track_id, result.frame)
        return written

    def _on_ended(self, run: TrackRun) -> None:
        if self._closed:
            return
        self._conclude(run)
        if run.error is not None:
            self.failed.emit(str(run.error))

    def _conclude(self, run: TrackRun) -> None:
        track = self._find(run.track_id)
        if track is not None and run.complete and run.revision == track.revision:
            track.end_run(frozenset(run.dropped))
        try:
            self._journal.write_result(run)
            self.save()
        except ProjectError as error:
            self.failed.emit(str(error))

    def _on_awoke(self, track_id: str, awake: Awake) -> None:
        if awake.unknown_words and (track_id, awake.model) not in self._told_unknown:
            self._told_unknown.add((track_id, awake.model))
            self.notice.emit(sentences.unknown_words(awake.unknown_words, awake.model))

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
        self._runs.stop()
        for run in self._runs.active:
            self._conclude(run)
        self._closed = True
        try:
            self.save()
        finally:
            self._runner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _iou(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    union = int(np.count_nonzero(a | b))
    return int(np.count_nonzero(a & b)) / union if union else 1.0
