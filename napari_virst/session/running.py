"""How a session has its tracks computed: what has to run, and where the results go."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_virst.errors import ProjectError, QueryError
from napari_virst.io.mask_files import missing_bytes
from napari_virst.io.project import TrackRecord
from napari_virst.records import Anchor, FrameResult, Job, Learned, Query, Span
from napari_virst.session import sentences
from napari_virst.session.core import SessionCore
from napari_virst.session.instances import carry_labels
from napari_virst.session.runs import Runs
from napari_virst.session.track import Track
from napari_virst.session.track_run import Awake, TrackRun

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import numpy as np
    from numpy.typing import NDArray

    from napari_virst.engine.protocol import Frames, Segmenter
    from napari_virst.engine.runner import Runner
    from napari_virst.io.project import ProjectFolder, VideoRecord
    from napari_virst.session.history import Step


class RunningSession(SessionCore):
    """A session that runs; see :class:`napari_virst.session.session.AnnotationSession`."""

    def _assemble(
        self,
        frames: Frames,
        segmenter: Callable[[], Segmenter],
        runner: Runner,
        files: ProjectFolder,
        video: VideoRecord,
        clock: Callable[[], float],
    ) -> None:
        super()._assemble(frames, segmenter, runner, files, video, clock)
        self._runs = Runs(frames, segmenter, runner, self.accept)
        self._runs.progress.connect(self.progress.emit)
        self._runs.busy_changed.connect(self.busy_changed.emit)
        self._runs.awoke.connect(self._on_awoke)
        self._runs.learned.connect(self._on_learned)
        self._runs.ended.connect(self._on_ended)
        self._told_unknown: set[tuple[str, str]] = set()
        self._told_errors: set[str] = set()
        self._runs.learning_failed.connect(self.failed.emit)
        self._steps: dict[str, Step] = {}

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
        track = self._add(query, span, tuple(anchors))
        if track.can_run:
            self.repropagate(track, focus_frame)
        else:
            self.notice.emit(sentences.nothing_to_follow(query))
        return track

    def ask_together(self, queries: Iterable[Query | str], focus_frame: int | None = None) -> tuple[Track, ...]:
        """Start a track for each of several queries, and run them as a batch: each comes out as it does alone.

        Parameters
        ----------
        queries
            What to follow, in words.
        focus_frame
            The frame in view.

        Returns
        -------
        tuple of Track
            In the order of the queries; each is announced by :attr:`track_added`.

        Raises
        ------
        QueryError
            When a query has no words; nothing has been asked then.
        ProjectError
            When the project cannot be written.
        """
        asked = [query if isinstance(query, Query) else Query(query) for query in queries]
        if wordless := [query.name for query in asked if not query.text]:
            raise QueryError(f"Queries asked together must have words; “{wordless[0]}” has none; ask it by itself.")
        tracks = tuple(self._add(query, None, ()) for query in asked)
        self._start_together([(track, track.spans_to_run()) for track in tracks], focus_frame)
        return tracks

    def _add(self, query: Query, span: Span | None, anchors: tuple[Anchor, ...]) -> Track:
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
        return track

    def _warn_of_small_disk(self) -> None:
        missing = missing_bytes(self.folder, self.shape)
        if missing:
            self.notice.emit(sentences.small_disk(self.folder, missing))

    # -- runs ----------------------------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Whether any run is at work or waits."""
        return self._runs.busy

    def waits(self, track: Track) -> bool:
        """Whether a run of ``track`` has not begun because another is at work."""
        return self._runs.waits(track.track_id)

    @property
    def learning(self) -> bool:
        """Whether anything is learned from corrections, or will be when nothing runs."""
        return self._runs.learning

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
        return self._start(track, (Span(0, self.shape[0]),), focus_frame, thorough=True)

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
        """Stop all runs, learning, and a lengthy change, each after the frame or step it is busy with.

        Finished frames stay; :meth:`repropagate` does the rest of a run. May be called from any thread while another
        makes a lengthy change.
        """
        self._halt.set()
        self._runs.stop()

    def _start(
        self, track: Track, spans: tuple[Span, ...], focus_frame: int | None, *, thorough: bool = False
    ) -> Job | None:
        if not track.can_run:
            self.notice.emit(sentences.nothing_to_follow(track.query))
            return None
        run = self._prepare(track, spans, focus_frame, thorough=thorough)
        self.save()
        self._told_errors.clear()
        self._runs.start(run)
        return run.jobs[0]

    def _start_together(self, wanted: Iterable[tuple[Track, tuple[Span, ...]]], focus_frame: int | None) -> None:
        runs = [self._prepare(track, spans, focus_frame) for track, spans in wanted if spans]
        self.save()
        self._told_errors.clear()
        self._runs.start(*runs)

    def _prepare(
        self, track: Track, spans: tuple[Span, ...], focus_frame: int | None, *, thorough: bool = False
    ) -> TrackRun:
        before = track.last_run
        follows_correction = bool(track.revision and track.touched())
        track.begin_run(spans, thorough=thorough)
        self._steps[track.track_id] = self._history.begin("run", track.track_id, before)
        self._write_run(track, spans)
        jobs, num_total = track.jobs(spans, focus_frame), track.num_to_compute(spans)
        return TrackRun(track.track_id, jobs, num_total, self._clock, may_join=not follows_correction)

    def _write_run(self, track: Track, spans: tuple[Span, ...]) -> None:
        spans_text = " ".join(f"{span.start}-{span.stop - 1}" for span in spans)
        self._journal.write("run", track.track_id, spans=spans_text, revision=track.revision)

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
        if self._closed or track is None or result.revision != track.revision or track.locked[result.frame]:
            return False
        if track.masks.provenance(result.frame).is_users:
            return False
        step = self._steps.get(track_id)
        if step is not None:
            self._history.keep(step, track.masks, result.frame)
        labels = None if track.lineage is None else self._instances_of(track, result)
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
            if labels is not None:
                track.masks.relabel(result.frame, labels)
            if step is not None:
                self._history.note_after(step, track.masks, result.frame)
            track.note_result(result)
            self.frame_changed.emit(track_id, result.frame)
        return written

    def _instances_of(self, track: Track, result: FrameResult) -> NDArray[np.uint16] | None:
        """Return (H, W) labels that continue the instances of a track: those of the frame before this result.

        A frame that shows none yet is read off its neighbours.
        """
        for frame in (result.frame, result.frame - 1, result.frame + 1):
            if 0 <= frame < self.shape[0]:
                held = track.masks.frame(frame)
                if held.any():
                    return carry_labels(result.mask, held, track.label)
        return None

    def _stop_runs(self, track_id: str | None) -> None:
        self._runs.stop(track_id)
        for run in self._runs.active if track_id is None else ():
            self._conclude(run)

    def _on_ended(self, run: TrackRun) -> None:
        if self._closed:
            return
        self._conclude(run)
        track = self._find(run.track_id)
        if run.error is not None:
            self._tell_error(str(run.error))
        elif track is not None and run.complete and run.revision == track.revision:
            if not track.masks.areas_px.any() and not track.anchors.user_anchors() and not track.unfinished():
                self.notice.emit(sentences.not_found(track.query))
            self._learn(track)
        if not self._runs.busy:
            self._told_errors.clear()
        if not any(other in self._runs.active for other in run.batch):
            self._resume([other for other in run.batch if other.must_resume])

    def _tell_error(self, text: str) -> None:
        """Say once what went wrong for each of several runs, e.g. that the model cannot be loaded."""
        if text not in self._told_errors:
            self._told_errors.add(text)
            self.failed.emit(text)

    def _resume(self, runs: list[TrackRun]) -> None:
        """Have runs go on that ended only because another of their batch was stopped.

        They do the rest of what they were asked, from the anchors of then: what a person paints meanwhile counts when
        the person says so.
        """
        try:
            self._runs.start(*[rest for run in runs if (rest := self._rest_of(run)) is not None])
        except ProjectError as error:
            self.failed.emit(str(error))

    def _rest_of(self, run: TrackRun) -> TrackRun | None:
        track = self._find(run.track_id)
        if track is None or run.revision != track.revision:
            return None
        jobs = track.jobs_left(run.jobs)
        if not jobs:
            return None
        self._write_run(track, tuple(job.span for job in jobs))
        num_total = track.num_to_compute(tuple(job.span for job in jobs))
        rest = TrackRun(track.track_id, jobs, num_total, self._clock, may_join=True)
        rest.dropped |= run.dropped
        return rest

    def _conclude(self, run: TrackRun) -> None:
        track = self._find(run.track_id)
        if track is not None and run.complete and run.revision == track.revision:
            track.end_run(frozenset(run.dropped))
        try:
            self._journal.write_result(run)
            self.save()
        except ProjectError as error:
            self.failed.emit(str(error))

    def _learn(self, track: Track) -> bool:
        """Learn from the corrections of a track while nothing runs, if it learns and there are new ones; tell it."""
        lesson = track.lesson()
        if lesson is not None:
            self._runs.learn(track.track_id, lesson)
        return lesson is not None

    def _on_learned(self, track_id: str, learned: Learned, identity: str) -> None:
        """Note what came of learning, for the next run, and tell it."""
        track = self._find(track_id)
        if self._closed or track is None:
            return
        track.note_learned(learned, identity)
        try:
            self._journal.write(
                "learn",
                track_id,
                corrections=learned.num_corrections,
                helped=int(learned.helped),
                iou_before=round(learned.iou_before, 4),
                iou_after=round(learned.iou_after, 4),
            )
        except ProjectError as error:
            self.failed.emit(str(error))
        self.notice.emit(sentences.learned(learned))
        self.learned.emit(track_id, learned)

    def _on_awoke(self, track_id: str, awake: Awake) -> None:
        track = self._find(track_id)
        if track is not None:
            track.note_model(awake.identity)
        if awake.unknown_words and (track_id, awake.model) not in self._told_unknown:
            self._told_unknown.add((track_id, awake.model))
            self.notice.emit(sentences.unknown_words(awake.unknown_words, awake.model))
