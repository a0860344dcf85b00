"""A biologist with a 16-bit stack, from the file to the exported labels.

1. Open a 16-bit TIFF; what the model sees is what the contrast shows.
2. Ask; labels fill every frame.
3. Paint one frame; it is marked corrected at once, and the model never touches it again.
4. Re-propagate; the neighbours follow, frames beyond another user anchor stay.
5. Say "absent here" on another frame.
6. Close, open the project again: everything is as it was.
7. Export a label stack that any tool reads.
"""

from __future__ import annotations

import numpy as np
import tifffile
from fixtures.frames import disc, draw_moving_disc
from fixtures.segmenter import DiscSegmenter

from napari_virst.engine.runner import InlineRunner
from napari_virst.io.masks import read_label_stack, write_label_stack
from napari_virst.io.video import open_video
from napari_virst.records import Provenance
from napari_virst.session.session import AnnotationSession


def test_describe_correct_follow_export(tmp_path):
    drawn = draw_moving_disc(num_frames=12)
    path = tmp_path / "cells.tif"
    tifffile.imwrite(path, drawn.pixels[..., 0].astype(np.uint16) * 9 + 400, metadata={"axes": "TYX"})

    # 1
    video = open_video(path)
    frames = video.reader()
    inside, outside = frames[0][drawn.masks[0]], frames[0][~drawn.masks[0]]
    assert video.dtype == np.uint16
    assert inside.min() > 200 > 50 > outside.max()

    # 2
    session = AnnotationSession(frames, lambda: DiscSegmenter(drawn), InlineRunner(), tmp_path / "project")
    track = session.ask("the red disc")
    np.testing.assert_array_equal(track.masks[:] > 0, drawn.masks)

    # 3
    track.masks[8, :, :] = 0
    moved = disc((drawn.centers[8][0] + 3, drawn.centers[8][1]), drawn.radius, drawn.shape[1:3])
    track.masks[8, moved] = 1
    assert track.masks.provenance(8) is Provenance.CORRECTED

    # 4
    session.give_mask(track, 4, drawn.masks[4])
    session.repropagate(track, focus_frame=8)
    np.testing.assert_array_equal(track.masks[8] > 0, moved)
    assert not np.array_equal(track.masks[7] > 0, drawn.masks[7])
    for frame in range(5):
        np.testing.assert_array_equal(track.masks[frame] > 0, drawn.masks[frame])

    # 5
    session.mark_absent(track, 11)
    session.repropagate(track)
    assert not track.masks[11].any()
    before = track.masks[:].copy()

    # 6
    session.close()
    again = AnnotationSession.open(tmp_path / "project", frames, lambda: DiscSegmenter(drawn), InlineRunner())
    (reopened,) = again.tracks
    np.testing.assert_array_equal(reopened.masks[:], before)
    assert reopened.anchors.user_anchors() == (4, 8, 11)

    # 7
    export = tmp_path / "labels.tif"
    write_label_stack(export, (reopened.masks[t] for t in range(12)), reopened.masks.shape)
    again.close()
    np.testing.assert_array_equal(tifffile.imread(export), before)
    with read_label_stack(export) as labels:
        assert labels.shape == (12, *drawn.shape[1:3])
    video.close()
