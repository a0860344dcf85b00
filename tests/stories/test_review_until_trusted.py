"""Somebody who has to trust a result, and has no time to look at every frame.

1. Ask; the frame that is most in doubt is suggested, with a reason.
2. It is wrong: paint it, follow; only the frames that it can change are computed.
3. Go on: each suggestion is another frame; what was passed by is not suggested again.
4. A stretch is right: accept it at once; it is never changed, and nothing in it is suggested.
5. A stretch is to stay as it is, right or not: lock it; runs leave it alone.
6. The acceptance was rash: undo takes it back, and nothing else.
7. Close and open again: locks and corrections are as they were.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from fixtures.frames import disc, draw_moving_disc
from fixtures.segmenter import DiscSegmenter

from napari_virst.engine.runner import InlineRunner
from napari_virst.records import Provenance, Span
from napari_virst.session.session import AnnotationSession


class Unsure(DiscSegmenter):
    """Unsure of frame 17, where language and following disagree."""

    def result(self, job, frame):
        unsure = {"predicted_iou": 0.2, "agreement": 0.1} if frame == 17 else {}
        return dataclasses.replace(super().result(job, frame), **unsure)


def test_review_until_trusted(tmp_path):
    drawn = draw_moving_disc(num_frames=24)

    # 1
    session = AnnotationSession(drawn, lambda: Unsure(drawn), InlineRunner(), tmp_path / "project")
    track = session.ask("the red disc")
    first = session.next_to_review(track)
    assert first == 17

    # 2
    moved = disc((drawn.centers[17][0] + 3, drawn.centers[17][1]), drawn.radius, drawn.shape[1:3])
    session.give_mask(track, 4, drawn.masks[4])
    track.masks[17, :, :] = moved.astype(np.uint16)
    session.repropagate(track, focus_frame=17)
    np.testing.assert_array_equal(track.masks[17] > 0, moved)
    np.testing.assert_array_equal(track.masks[4] > 0, drawn.masks[4])
    assert session.doubts(track)[17] == 0

    # 3
    passed = []
    for _ in range(3):
        passed.append(session.next_to_review(track, passed=passed))
    assert len(set(passed)) == 3
    assert not {4, 17} & set(passed)

    # 4
    accepted = session.accept_frames(track, Span(0, 10))
    assert accepted == tuple(t for t in range(10) if t != 4)
    assert all(track.masks.provenance(t).is_users for t in range(10))
    assert session.next_to_review(track) >= 10

    # 5
    session.lock(track, Span(20, 24))
    held = track.masks[20:24].copy()
    session.mark_absent(track, 19)
    session.repropagate(track)
    np.testing.assert_array_equal(track.masks[20:24], held)
    assert session.next_to_review(track) < 20

    # 6
    assert [session.undo(track) for _ in range(3)] == ["run", "absent", "accept"]
    assert track.masks.provenance(3) in (Provenance.PREDICTED, Provenance.PROPAGATED)
    assert track.anchors.user_anchors() == (4, 17)
    np.testing.assert_array_equal(track.masks[17] > 0, moved)

    # 7
    before = track.masks[:].copy()
    session.close()
    again = AnnotationSession.open(tmp_path / "project", drawn, lambda: Unsure(drawn), InlineRunner())
    (reopened,) = again.tracks
    np.testing.assert_array_equal(reopened.masks[:], before)
    assert np.flatnonzero(reopened.locked).tolist() == [20, 21, 22, 23]
    assert reopened.anchors.user_anchors() == (4, 17)
    again.close()
