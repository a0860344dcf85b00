"""One person's annotation of one video: the only mutable thing that a window talks to.

It writes what the model says through the model's door of :class:`MaskStore`, and hears what people paint from
:attr:`MaskStore.edited`; who owns a frame and what has to be computed again are both read off the masks.

Fixing, accepting, locking. A frame that a person painted, gave, or called empty is *corrected*; one that a person
looked at and found right is *accepted*; both are user anchors, and no run changes them. A *locked* frame is only left
alone: runs do not change it, people may, and no frame is conditioned on it, since nobody said that it is right.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_virst.errors import InputError
from napari_virst.records import Anchor, AnchorKind, Provenance, Span
from napari_virst.session import history, review, sentences
from napari_virst.session.instancing import InstancingSession
from napari_virst.session.track import Track

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from numpy.typing import NDArray

    from napari_virst.session.anchors import AnchorNote

__all__ = ["AnnotationSession", "Track"]


class AnnotationSession(InstancingSession):
    """What a person asks, corrects and accepts in one video, and the runs that follow from it.

    Everything is on disk as soon as it is done; closing loses nothing, nor does a crash. Asking and running are in
    :class:`napari_virst.session.running.RunningSession`, instances in
    :class:`napari_virst.session.instancing.InstancingSession`; parameters, signals and the project in
    :class:`napari_virst.session.core.SessionCore`.
    """

    # -- what a person says of frames ----------------------------------------------------------------------------

    def correct(self, track: Track, frame: int) -> Span:
        """Commit the pixels of ``frame``, changed or not: it is a user anchor from now on.

        Returns
        -------
        Span
            The frames that :meth:`repropagate` may change because of it.
        """
        self._check_frame(frame)
        iou = _iou(track.masks.prediction(frame) != 0, track.masks.mask(frame))
        with self._step("correct", track, frame):
            track.masks.commit(frame)
        return self._declared("correct", track, frame, iou_with_prediction=round(iou, 4))

    def accept_frame(self, track: Track, frame: int) -> Span:
        """Vouch for ``frame`` as it is; it is a user anchor from now on."""
        self._check_frame(frame)
        with self._step("accept", track, frame):
            track.masks.commit(frame, Provenance.ACCEPTED)
        return self._declared("accept", track, frame)

    def accept_frames(self, track: Track, span: Span) -> tuple[int, ...]:
        """Vouch for every frame of ``span`` that has a mask and is nobody's yet; return them.

        They are user anchors from now on. :meth:`cancel` ends it after the frame it is busy with.
        """
        self._check_span(span)
        provenances = track.masks.provenances
        frames = tuple(t for t in span if Provenance.EMPTY < provenances[t] < Provenance.CORRECTED)
        step, done = None, list[int]()
        for frame in self._until_halted(frames):
            step = step or self._history.begin("accept", track.track_id)
            self._history.keep(step, track.masks, frame)
            track.masks.commit(frame, Provenance.ACCEPTED)
            self._history.note_after(step, track.masks, frame)
            done.append(frame)
        frames = tuple(done)
        if frames:
            self._journal.write("accept", track.track_id, frames)
            self.save()
        return frames

    def mark_absent(self, track: Track, frame: int) -> Span:
        """Say that the object cannot be seen on ``frame``: its mask is emptied, and it is a user anchor from now on."""
        self._check_frame(frame)
        self._give("absent", track, {frame: np.zeros(self.shape[1:], np.bool_)})
        return self._declared("absent", track, frame)

    def give_mask(self, track: Track, frame: int, mask: NDArray[np.bool_]) -> Span:
        """Make a mask from outside, (H, W) bool or integer labels, the user anchor of ``frame``.

        Raises
        ------
        MaskError
            When it does not fit the video.
        """
        self._check_frame(frame)
        self._give("give", track, {frame: mask})
        return self._declared("give", track, frame)

    def give_masks(self, track: Track, masks: Mapping[int, NDArray[np.bool_]]) -> tuple[Span, ...]:
        """Make several masks, frame to (H, W) bool, user anchors at once, or none of them where one does not fit.

        Returns
        -------
        tuple of Span
            The frames that :meth:`repropagate` may change because of them, in order.

        Raises
        ------
        MaskError
            When one does not fit the video.
        """
        self._check_anchors(tuple(Anchor(frame, mask) for frame, mask in masks.items()))
        self._give("give", track, masks)
        self._journal.write("give", track.track_id, tuple(sorted(masks)))
        self.save()
        return tuple(sorted({track.span_of(frame) for frame in masks}))

    def _give(self, action: str, track: Track, masks: Mapping[int, NDArray[np.bool_]]) -> None:
        with self._step(action, track, *masks):
            for frame, mask in masks.items():
                track.masks.give(frame, mask, label=track.label)
        for frame in masks:
            self.frame_changed.emit(track.track_id, frame)

    def restore_prediction(self, track: Track, frame: int) -> bool:
        """Give ``frame`` back to the model, with the mask it had before a person took it; False where nobody had."""
        self._check_frame(frame)
        if not track.masks.provenance(frame).is_users:
            return False
        with self._step("restore", track, frame):
            track.masks.restore_prediction(frame)
        self.frame_changed.emit(track.track_id, frame)
        self._declared("restore", track, frame)
        return True

    def lock(self, track: Track, span: Span, locked: bool = True) -> None:
        """Have runs leave the frames of ``span`` alone, or no longer; see the head of this file."""
        self._check_span(span)
        track.locked[span.start : span.stop] = locked
        self._journal.write("lock" if locked else "unlock", track.track_id, start=span.start, stop=span.stop)
        self.save()

    def set_learning(self, track: Track, on: bool = True) -> bool:
        """Have a track learn from its corrections, or no longer; off by default, and kept in the project.

        It learns while nothing runs, after every run that ends, from the second correction on that shows the object;
        anything that is asked for ends that within a step, and it begins anew afterwards. What came of it is told by
        ``notice`` and used from the next run on; what does not help is dropped. The first time that it helps, as when
        it is switched off again, :meth:`repropagate` goes over the whole video, since any frame may come out anew.
        What was learned lives as long as the model; after reopening it is learned again.

        Returns
        -------
        bool
            Whether there is anything to learn now.
        """
        if track.learns == on:
            return False
        track.learns = on
        self._journal.write("learning on" if on else "learning off", track.track_id)
        self.save()
        if not on:
            self._runs.forget_lesson(track.track_id)
        elif not track.can_learn:
            self.notice.emit(sentences.too_few_to_learn())
        else:
            return self._learn(track)
        return False

    # -- anchors -------------------------------------------------------------------------------------------------

    def anchor_notes(self, track: Track) -> tuple[AnchorNote, ...]:
        """Tell of every anchor why it is there, what it governs, and whether it is in use; sorted by frame."""
        return track.anchors.notes(self.shape[0])

    def exclude_anchor(self, track: Track, frame: int, excluded: bool = True) -> Span:
        """Have the model anchor of ``frame`` used no more, or again."""
        self._check_frame(frame)
        (track.anchors.exclude if excluded else track.anchors.include)(frame)
        return self._declared("exclude" if excluded else "include", track, frame)

    def pin_anchor(self, track: Track, frame: int, pinned: bool = True) -> Span:
        """Have the model anchor of ``frame`` used even where user anchors contradict it, or no longer.

        Raises
        ------
        InputError
            When language has not found the object on that frame.
        """
        self._check_frame(frame)
        models = [note.frame for note in self.anchor_notes(track) if note.kind is AnchorKind.MODEL]
        if pinned and frame not in models:
            raise InputError(f"A pinned frame must be a model anchor; got {frame}; this track has {models or 'none'}.")
        (track.anchors.pin if pinned else track.anchors.unpin)(frame)
        return self._declared("pin" if pinned else "unpin", track, frame)

    def delete_anchor(self, track: Track, frame: int) -> Span:
        """Delete the anchor of ``frame``: a person's frame goes back to the model, a model anchor is used no more."""
        self._check_frame(frame)
        if not self.restore_prediction(track, frame):
            return self.exclude_anchor(track, frame)
        return track.span_of(frame)

    # -- review --------------------------------------------------------------------------------------------------

    def doubts(self, track: Track) -> NDArray[np.float64]:
        """Return (T,) the error to be expected of every frame, 0…1; see :func:`napari_virst.session.review.doubts`."""
        return review.doubts(track)

    def next_to_review(self, track: Track, after: int | None = None, passed: Collection[int] = ()) -> int | None:
        """Return the frame most worth looking at, or the most so behind ``after``; None where none is left.

        Frames that the person has ``passed`` by are not suggested again.
        """
        return review.next_to_review(track, after, passed)

    # -- undo ----------------------------------------------------------------------------------------------------

    def undo(self, track: Track | None = None) -> str | None:
        """Take back the last run, correction, acceptance or renaming of a track, or of any.

        Frames that a person has changed since keep their pixels; so do locked frames, whatever a run did to them.
        Strokes have the viewer's own undo.

        Returns
        -------
        str or None
            What was taken back, e.g. ``"run"``; None where there is nothing.
        """
        last = self._history.pop(None if track is None else track.track_id)
        if last is None:
            return None
        owner = self.track(last.track_id)
        is_run = last.run is not None
        if is_run:
            self._stop_runs(owner.track_id)
        withdrawn = history.frames_to_withdraw(last, owner.masks)
        frames = [t for t in history.frames_to_bring_back(last, owner.masks) if not (is_run and owner.locked[t])]
        for frame in withdrawn:
            owner.masks.withdraw_commitment(frame)
            owner.note_brought_back(frame)
        for frame in frames:
            history.bring_back(last, owner.masks, frame)
            owner.note_brought_back(frame)
        if last.run is not None:
            provenances = owner.masks.provenances
            owner.take_back_run(last.run, tuple(t for t in frames if provenances[t] == Provenance.EMPTY))
        if last.lineage is not None:
            owner.lineage = last.lineage[0]
        for frame in frames:
            self.frame_changed.emit(owner.track_id, frame)
        self._journal.write("undo", owner.track_id, tuple(sorted([*frames, *withdrawn])), undone=last.action)
        self.save()
        return last.action

    def _check_span(self, span: Span) -> None:
        if span.stop > self.shape[0]:
            raise InputError(f"A span must end by frame {self.shape[0] - 1}; got {span}; count from 0.")


def _iou(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    union = int(np.count_nonzero(a | b))
    return int(np.count_nonzero(a & b)) / union if union else 1.0
