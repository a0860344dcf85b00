"""Any sequence of what a person can do: no pixel of theirs changes, and the masks are those of the anchors.

1 000 sequences: ``pytest tests/session/test_machine.py --hypothesis-profile=thorough``.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from fixtures.segmenter import DiscSegmenter
from fixtures.study import Study, paint, shifted, start_study
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from napari_virst.records import Provenance, Span
from napari_virst.session.anchors import governed_spans

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from napari_virst.engine.protocol import Frames
    from napari_virst.records import FrameResult, Job
    from napari_virst.session.track import Track

T = 12
MEMORY = Path("/dev/shm")
"""Every action waits for the disk, as it should; here nobody's work is at stake."""
frames = st.integers(0, T - 1)
spans = st.tuples(frames, frames).map(lambda ends: Span(min(ends), max(ends) + 1))


class ConvergingSegmenter(DiscSegmenter):
    """Goes outward from every anchor and ends early where it says what the track holds, as the engine does."""

    num_agreeing = 2

    def run(self, frames: Frames, job: Job, should_stop: Callable[[], bool]) -> Iterator[FrameResult]:
        if job.known_mask is None or not job.anchors:
            yield from super().run(frames, job, should_stop)
            return
        self.jobs.append(job)
        fixed = [anchor.frame for anchor in job.anchors]
        for anchor, cell in sorted(governed_spans(fixed, T).items()):
            for leg in (range(anchor + 1, cell.stop), range(anchor - 1, cell.start - 1, -1)):
                agreeing = 0
                for frame in leg:
                    if should_stop():
                        return
                    if frame not in job.span or agreeing == self.num_agreeing:
                        continue
                    self.before_frame(frame)
                    result, known = self.result(job, frame), job.known_mask(frame)
                    agreeing = agreeing + 1 if known is not None and np.array_equal(known, result.mask) else 0
                    yield result


class Annotating(RuleBasedStateMachine):
    """One person, one track, and what has to hold after each thing they do."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(dir=MEMORY if MEMORY.is_dir() else None))
        self.study: Study = start_study(self.folder / "project")
        self.use(self.study)
        self.mine: dict[int, NDArray[np.uint16]] = {}
        self.strokes: list[tuple[int, NDArray[np.uint16]]] = []
        self.cancel_at: int | None = None

    def use(self, study: Study) -> None:
        self.study = study
        study.segmenter = ConvergingSegmenter(study.video, self.before_frame)
        study.session._runs._wake = lambda: study.segmenter

    def before_frame(self, frame: int) -> None:
        if frame == self.cancel_at:
            self.study.session.cancel()

    @property
    def track(self) -> Track:
        return self.study.session.tracks[-1]

    def own(self, frame: int) -> None:
        self.mine[frame] = self.track.masks.frame(frame)

    @initialize(text=st.sampled_from(["the red disc", "the disc"]))
    def query(self, text: str) -> None:
        self.study.session.ask(text)

    # -- strokes -----------------------------------------------------------------------------------------------

    @rule(frame=frames, rows=st.integers(-4, 4))
    def paint(self, frame: int, rows: int) -> None:
        before = self.track.masks.frame(frame)
        after = shifted(self.study.video, frame, rows).astype(np.uint16)
        paint(self.track, frame, after)
        if not np.array_equal(before, after):
            self.strokes.append((frame, before))
            self.after_edit(frame, after)

    @precondition(lambda self: self.strokes)
    @rule()
    def undo_stroke(self) -> None:
        frame, before = self.strokes.pop()
        changed = not np.array_equal(before, self.track.masks.frame(frame))
        self.track.masks[frame : frame + 1] = before[None]
        if changed:
            self.after_edit(frame, before)

    def after_edit(self, frame: int, pixels: NDArray[np.uint16]) -> None:
        np.testing.assert_array_equal(self.track.masks.frame(frame), pixels)
        if self.track.masks.provenance(frame).is_users:
            self.own(frame)
        else:  # undo brought back what the model had said
            self.mine.pop(frame, None)

    # -- declarations ------------------------------------------------------------------------------------------

    @rule(frame=frames)
    def correct(self, frame: int) -> None:
        before = self.track.masks.frame(frame)
        self.study.session.correct(self.track, frame)
        np.testing.assert_array_equal(self.track.masks.frame(frame), before)
        self.own(frame)

    @rule(span=spans)
    def accept(self, span: Span) -> None:
        before = np.array(self.track.masks)
        for frame in self.study.session.accept_frames(self.track, span):
            self.own(frame)
        np.testing.assert_array_equal(np.array(self.track.masks), before)

    @rule(frame=frames)
    def absent(self, frame: int) -> None:
        self.study.session.mark_absent(self.track, frame)
        self.own(frame)
        assert not self.mine[frame].any()

    @rule(chosen=st.dictionaries(frames, st.integers(-4, 4), min_size=1, max_size=3))
    def give(self, chosen: dict[int, int]) -> None:
        masks = {frame: shifted(self.study.video, frame, rows) for frame, rows in chosen.items()}
        self.study.session.give_masks(self.track, masks)
        for frame, mask in masks.items():
            self.own(frame)
            np.testing.assert_array_equal(self.mine[frame] != 0, mask)

    @rule(frame=frames)
    def delete_anchor(self, frame: int) -> None:
        self.study.session.delete_anchor(self.track, frame)
        self.mine.pop(frame, None)
        assert not self.track.masks.provenance(frame).is_users

    @rule(frame=frames, pinned=st.booleans())
    def pin(self, frame: int, pinned: bool) -> None:
        if not pinned or frame in self.track.anchors.model_anchors():
            self.study.session.pin_anchor(self.track, frame, pinned)

    @rule(span=spans, locked=st.booleans())
    def lock(self, span: Span, locked: bool) -> None:
        self.study.session.lock(self.track, span, locked)

    # -- runs --------------------------------------------------------------------------------------------------

    @rule(focus=st.none() | frames, cancel_at=st.none() | frames, everything=st.booleans())
    def run_again(self, focus: int | None, cancel_at: int | None, everything: bool) -> None:
        before, locked = np.array(self.track.masks), self.track.locked.copy()
        self.cancel_at = cancel_at
        (self.study.session.run if everything else self.study.session.repropagate)(self.track, focus)
        self.cancel_at = None
        assert not self.study.session.busy
        np.testing.assert_array_equal(np.array(self.track.masks)[locked], before[locked])
        assert not self.study.heard.failed

    @rule(everything=st.booleans())
    def run_to_the_end(self, everything: bool) -> None:
        """No anchor is stale: each mask is what an anchor that there is makes of it.

        After a run of everything it is the nearest one. A run that ends early, where an anchor only says what is held
        already, leaves frames to the anchor they have been followed from.
        """
        session, track = self.study.session, self.track
        (session.run if everything else session.repropagate)(track)
        anchors = track.jobs((Span(0, T),), None)[0].anchors
        for frame in range(T):
            if frame in self.mine or track.locked[frame]:
                continue
            groups = [anchors] if everything or not anchors else [(anchor,) for anchor in anchors]
            allowed = [self.study.segmenter.predict(group, frame) for group in groups]
            held = track.masks.mask(frame)
            assert any(np.array_equal(held, one) for one in allowed), f"frame {frame} is of no anchor"
        assert track.spans_to_run() == ()

    @rule()
    def undo(self) -> None:
        before = {frame: self.track.masks.frame(frame) for frame in self.mine}
        last = self.study.session._history.last
        kept = {} if last is None else {frame: kept.state() for frame, kept in last.frames.items()}
        is_run = last is not None and last.run is not None
        self.study.session.undo(self.track)
        for frame in range(T):
            owned, was_owned = self.track.masks.provenance(frame).is_users, frame in before
            if is_run or frame not in kept:
                assert owned == was_owned
            elif owned:
                allowed = [state for state in (kept[frame].labels, before.get(frame)) if state is not None]
                assert any(np.array_equal(self.track.masks.frame(frame), one) for one in allowed)
                self.own(frame)
            else:
                self.mine.pop(frame, None)

    @rule()
    def crash_and_reopen(self) -> None:
        before = np.array(self.track.masks), self.track.masks.provenances, self.track.record()
        self.use(self.study.reopen())
        np.testing.assert_array_equal(np.array(self.track.masks), before[0])
        np.testing.assert_array_equal(self.track.masks.provenances, before[1])
        assert self.track.record() == before[2]

    # -- what always holds -------------------------------------------------------------------------------------

    @invariant()
    def no_pixel_of_a_person_has_changed(self) -> None:
        if self.study.session.tracks:
            assert self.track.masks.owned_frames == tuple(sorted(self.mine))
            for frame, pixels in self.mine.items():
                np.testing.assert_array_equal(self.track.masks.frame(frame), pixels)

    @invariant()
    def spans_partition_time(self) -> None:
        if self.study.session.tracks:
            book = self.track.anchors
            gaps = [frame for gap in book.gaps(T) for frame in gap]
            assert sorted([*gaps, *book.user_anchors()]) == list(range(T))
            governed = [frame for note in book.notes(T) for frame in note.governs]
            assert sorted(governed) in (list(range(T)), [])

    @invariant()
    def suggestion_is_a_frame_that_may_change(self) -> None:
        if self.study.session.tracks:
            frame = self.study.session.next_to_review(self.track)
            if frame is not None:
                assert frame not in self.mine
                assert not self.track.locked[frame]
                assert self.track.masks.provenance(frame) is not Provenance.EMPTY

    def teardown(self) -> None:
        self.study.session.close()
        shutil.rmtree(self.folder, ignore_errors=True)


TestAnnotating = Annotating.TestCase
if settings().max_examples <= 100:  # the default profile; "thorough" has its own number
    TestAnnotating.settings = settings(
        max_examples=12, stateful_step_count=20, deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
