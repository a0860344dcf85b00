"""One query followed through one video: its masks, its anchors, and what a run would have to compute."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from napari_virst.io.project import ProjectFolder, RunRecord, TrackRecord
from napari_virst.records import Anchor, FrameResult, Job, Provenance, Query, Span
from napari_virst.session.anchors import AnchorBook
from napari_virst.session.instances import Lineage
from napari_virst.session.masks import MaskStore

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_virst.records import Learned

NUM_ANCHORS_EACH_SIDE = 8
"""Of user anchors, beyond a span, that its job carries; a frame reads 3. Accepting a thousand frames must not send a
thousand masks through the model."""

NUM_LESSONS = 24
"""User anchors, spread over time, that are learned from at most; the engine takes fewer still."""


class Track:
    """One query and everything known of it. The session that made it changes it; everybody else reads.

    Parameters
    ----------
    record
        What project.json knows of the track.
    folder
        Where its masks are, or will be.
    shape
        (T, H, W) of the video.

    Attributes
    ----------
    track_id : str
        Names the track in signals and files.
    query : Query
        What is followed.
    masks : MaskStore
        (T, H, W) uint16 labels; give this to the viewer as a layer's data.
    anchors : AnchorBook
        The fixed frames.
    label : int
        The value the model writes, 1…65535.
    revision : int
        Counts runs; results of older ones are dropped.
    window : Span or None
        The part of the video that was asked for; None = all of it.
    locked : array of shape (T,), bool
        Frames that no run changes, although no person vouches for them.
    agreements : array of shape (T,)
        On frames that language answered too, IoU with what the user anchors say, 0…1; NaN elsewhere, and after
        reopening until the next run.
    lineage : Lineage or None
        Where the track is split into instances.
    learns : bool
        Whether the corrections are learned from while nothing runs.
    """

    def __init__(self, record: TrackRecord, folder: ProjectFolder, shape: tuple[int, int, int]) -> None:
        self.track_id = record.track_id
        self.query: Query = record.query
        self.label = record.label
        self.revision = record.revision
        self.window = record.window
        self.masks = MaskStore(folder.mask_path(record.track_id), shape)
        self.anchors = AnchorBook(
            lambda: self.masks.owned_frames,
            record.model_anchors,
            record.excluded_anchors,
            record.pinned_anchors,
            record.demoted_anchors,
        )
        self.locked = _covered(record.locked, shape[0])
        self.agreements = np.full(shape[0], np.nan)
        self.lineage = None if record.lineage is None else Lineage(record.lineage)
        self.learns = record.learns
        self._lesson_from: dict[int, int] = {}
        self._learned: tuple[str, dict[int, int]] = ("", {})
        self._learned_by = ""
        self._run = record.run

    @property
    def num_frames(self) -> int:
        """T."""
        return self.masks.shape[0]

    @property
    def last_presence(self) -> NDArray[np.float32]:
        """(T,) float32, 0…1: probability that the object is visible, from the latest result; NaN = none yet."""
        return self.masks.presences

    @property
    def last_iou(self) -> NDArray[np.float32]:
        """(T,) float32, 0…1: the model's own estimate of its IoU, from the latest result; NaN = none yet."""
        return self.masks.predicted_ious

    @property
    def can_run(self) -> bool:
        """Whether there is anything to follow: words, or a user anchor that shows the object."""
        return bool(self.query.text) or self._shows_object(1)

    @property
    def can_learn(self) -> bool:
        """Whether there are corrections to learn from: two user anchors that show the object."""
        return self._shows_object(2)

    def _shows_object(self, num_anchors: int) -> bool:
        shown = (frame for frame in self.anchors.user_anchors() if self.masks.mask(frame).any())
        return len(tuple(islice(shown, num_anchors))) == num_anchors

    def jobs(self, spans: tuple[Span, ...], focus_frame: int | None) -> tuple[Job, ...]:
        """Return what a segmenter has to do for ``spans``, the nearest to ``focus_frame`` first."""
        return tuple(self._job(span, focus_frame) for span in _nearest_first(spans, focus_frame))

    def jobs_left(self, jobs: tuple[Job, ...]) -> tuple[Job, ...]:
        """Return what ``jobs``, those of the last run, have not computed; from the anchors as they were for them."""
        left = _mark(self.unfinished(), self.num_frames)
        cut = {span: job for job in jobs for span in _spans(left & _covered((job.span,), self.num_frames))}
        return tuple(replace(cut[span], span=span) for span in _nearest_first(tuple(cut), jobs[0].focus_frame))

    def _job(self, span: Span, focus_frame: int | None) -> Job:
        near = self.anchors.nearest(span, NUM_ANCHORS_EACH_SIDE)
        return Job(
            query=self.query,
            span=span,
            anchors=tuple(Anchor(frame, self.masks.mask(frame)) for frame in near),
            excluded_anchors=self.anchors.excluded | (set(self.anchors.user_anchors()) - set(near)),
            pinned_anchors=self.anchors.pinned,
            focus_frame=focus_frame,
            revision=self.revision,
            known_mask=None if self._run.thorough else self.masks.known_mask,
            adapter=self.adapter,
        )

    # -- learning ------------------------------------------------------------------------------------------------

    @property
    def adapter(self) -> str:
        """Name of what runs follow with: what was learned last and helped, from corrections that are all still there.

        Empty where there is nothing, and after reopening until something is learned again.
        """
        name, corrections = self._learned
        is_there = bool(name) and self.learns and corrections.items() <= self._corrections().items()
        return name if is_there else ""

    def lesson(self) -> Job | None:
        """Return what to learn from, spread over time where there are many; None where nothing is new, or too little.

        :meth:`note_learned` tells what came of it.
        """
        corrections = self._corrections()
        if not self.learns or corrections == self._learned[1] or not self.can_learn:
            return None
        self._lesson_from = corrections
        users = self.anchors.user_anchors()
        chosen = np.unique(np.linspace(0, len(users) - 1, min(len(users), NUM_LESSONS)).round().astype(int))
        anchors = tuple(Anchor(users[i], self.masks.mask(users[i])) for i in chosen.tolist())
        return Job(self.query, Span(0, self.num_frames), anchors, revision=self.revision, learn=True)

    def note_learned(self, learned: Learned, identity: str) -> None:
        """Have the next run follow with what was learned from the last lesson, if it helped, else with nothing.

        ``identity`` is that of the model that learned.
        """
        self._learned = (learned.name if learned.helped else "", self._lesson_from)
        self._learned_by = identity

    def note_model(self, identity: str) -> None:
        """Forget what was learned where it was by another model than the one that runs now: that knows nothing of it.

        The run that has just begun is then without anything learned, and what is learned next is a first thing.
        """
        if self._learned_by not in ("", identity):
            self._learned, self._learned_by = ("", {}), ""
            self._run = replace(self._run, learned=False)

    def _corrections(self) -> dict[int, int]:
        """Return the checksum of every user anchor, by frame."""
        return {frame: self.masks.checksum(frame) for frame in self.anchors.user_anchors()}

    # -- results -------------------------------------------------------------------------------------------------

    def note_result(self, result: FrameResult) -> None:
        """Note what a result, written already, says of anchors."""
        self.agreements[result.frame] = result.agreement
        if result.provenance is Provenance.PREDICTED:
            self.anchors.note_model_anchor(result.frame)
        else:
            self.anchors.forget_model_anchor(result.frame, is_demoted=result.is_demoted)

    def note_brought_back(self, frame: int) -> None:
        """Note that undo brought back what was held of a frame before."""
        self.agreements[frame] = np.nan
        if self.masks.provenance(frame) is Provenance.PREDICTED:
            self.anchors.note_model_anchor(frame)
        elif not self.masks.provenance(frame).is_users:
            self.anchors.forget_model_anchor(frame)

    def span_of(self, frame: int) -> Span:
        """Return what a correction on ``frame`` can change; see :meth:`AnchorBook.span_of`."""
        return self.anchors.span_of(frame, self.num_frames)

    # -- what is left to compute ---------------------------------------------------------------------------------

    def touched(self) -> tuple[int, ...]:
        """Return the frames whose anchor has come, gone or changed since the last run, sorted."""
        changed = {frame for frame, _ in self._corrections().items() ^ self._run.anchors.items()}
        excluded, pinned = self._model_choices()
        return tuple(sorted(changed | (excluded ^ set(self._run.excluded)) | (pinned ^ set(self._run.pinned))))

    def unfinished(self) -> tuple[int, ...]:
        """Return the frames that the last run was to compute and did not, sorted."""
        wanted = _covered(self._run.spans, self.num_frames) & (self.masks.revisions != self.revision)
        return tuple(np.flatnonzero(wanted & ~self._kept()).tolist())

    def spans_to_run(self) -> tuple[Span, ...]:
        """Return what the next run has to compute: the reach of what was touched, and what is unfinished."""
        if not self.revision:
            return (self.window or Span(0, self.num_frames),)
        touched = self.touched()
        reached = _covered(self.anchors.spans_of(touched, self.num_frames), self.num_frames)
        if self.window is not None and all(frame in self.window for frame in touched):
            reached &= _covered([self.window], self.num_frames)
        if self._learning_changed():
            reached |= _covered([self.window or Span(0, self.num_frames)], self.num_frames)
        reached[list(self.unfinished())] = True
        for run in _spans(self._owned()):
            if len(run) >= NUM_ANCHORS_EACH_SIDE:  # nothing to compute, and many masks to carry
                reached[run.start : run.stop] = False
        spans = _spans(reached)
        return tuple(span for span in spans if self.num_to_compute((span,)))

    def num_to_compute(self, spans: tuple[Span, ...]) -> int:
        """Return how many frames of ``spans`` belong to nobody and are not locked."""
        return int(np.count_nonzero(_covered(spans, self.num_frames) & ~self._kept()))

    def begin_run(self, spans: tuple[Span, ...], *, thorough: bool = False) -> None:
        """Note that ``spans`` are being computed from the anchors as they are now, under a new revision.

        ``thorough``: every frame anew, whatever is held of it.
        """
        thorough = thorough or self._needs_thorough_run()
        self.revision += 1
        checksums = self._corrections()
        excluded, pinned = tuple(sorted(self.anchors.excluded)), tuple(sorted(self.anchors.pinned))
        waiting = _covered(self._run.spans, self.num_frames) & self.locked
        spans = _spans(_covered(spans, self.num_frames) | waiting)
        learned = bool(self.adapter) or (self._run.learned and self.learns)
        self._run = RunRecord(spans, checksums, excluded, pinned, thorough, learned)

    def _needs_thorough_run(self) -> bool:
        """Whether a run may not take agreement with what is held as a sign that the rest is right too.

        What is held may stem from an anchor that is no more; or it is the work of two runs, since one was cancelled
        and an anchor has changed since, and may agree beside the anchor and be stale beyond.
        """
        if self._learning_changed():
            return True
        gone = self._run.anchors.keys() - set(self.anchors.user_anchors())
        changed = self._model_choices() != (set(self._run.excluded), set(self._run.pinned))
        return bool(gone) or changed or (bool(self.unfinished()) and (self._run.thorough or bool(self.touched())))

    def _learning_changed(self) -> bool:
        """Whether a first thing was learned since the last run, or learning switched off: any frame may come out anew.

        What is learned from further corrections is for the frames that follow from them.
        """
        return bool(self.adapter) if not self._run.learned else not self.learns

    def _model_choices(self) -> tuple[set[int], set[int]]:
        return set(self.anchors.excluded), set(self.anchors.pinned)

    @property
    def last_run(self) -> RunRecord:
        """What the last run was asked for."""
        return self._run

    def take_back_run(self, before: RunRecord, emptied: tuple[int, ...]) -> None:
        """Forget the last run, ``before`` being the one before it; ``emptied`` frames have no mask any more."""
        self.revision += 1
        spans = _covered(before.spans, self.num_frames) | _mark(emptied, self.num_frames)
        self._run = replace(before, spans=_spans(spans))

    def end_run(self, dropped: frozenset[int]) -> None:
        """Note that the run came to its end; ``dropped`` frames were a person's when their result came.

        Should one of them be handed back later, it holds an older prediction and is unfinished again; so is a locked
        frame, once it is unlocked.
        """
        waiting = _covered(self._run.spans, self.num_frames) & self.locked
        self._run = replace(self._run, spans=_spans(_mark(dropped, self.num_frames) | waiting))

    def _owned(self) -> NDArray[np.bool_]:
        return _mark(self.masks.owned_frames, self.num_frames)

    def _kept(self) -> NDArray[np.bool_]:
        return self._owned() | self.locked

    def record(self) -> TrackRecord:
        """Return what project.json has to know."""
        return TrackRecord(
            track_id=self.track_id,
            query=self.query,
            label=self.label,
            revision=self.revision,
            window=self.window,
            model_anchors=self.anchors.seen_model_anchors,
            excluded_anchors=tuple(sorted(self.anchors.excluded)),
            pinned_anchors=tuple(sorted(self.anchors.pinned)),
            demoted_anchors=tuple(sorted(self.anchors.demoted)),
            locked=_spans(self.locked),
            lineage=None if self.lineage is None else dict(self.lineage.parents),
            learns=self.learns,
            run=self._run,
        )


def _nearest_first(spans: tuple[Span, ...], frame: int | None) -> tuple[Span, ...]:
    if frame is None:
        return spans
    return tuple(sorted(spans, key=lambda span: max(span.start - frame, frame - span.stop, 0)))


def _mark(frames: tuple[int, ...] | frozenset[int], num_frames: int) -> NDArray[np.bool_]:
    marked = np.zeros(num_frames, np.bool_)
    marked[list(frames)] = True
    return marked


def _covered(spans: tuple[Span, ...] | list[Span], num_frames: int) -> NDArray[np.bool_]:
    covered = np.zeros(num_frames, np.bool_)
    for span in spans:
        covered[span.start : span.stop] = True
    return covered


def _spans(covered: NDArray[np.bool_]) -> tuple[Span, ...]:
    edges = np.flatnonzero(np.diff(covered.astype(np.int8), prepend=0, append=0)).tolist()
    return tuple(Span(start, stop) for start, stop in zip(edges[::2], edges[1::2], strict=True))
