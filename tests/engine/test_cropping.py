from __future__ import annotations

import numpy as np
import pytest
from fixtures.frames import draw_moving_disc

from napari_virst.engine.cropping import CroppedFrames, Region
from napari_virst.errors import InputError
from napari_virst.records import Anchor, Job, Query, Span


@pytest.mark.parametrize(
    "text", ["1,2,3", "a,b,c,d", "0,0,4,40", "30,0,10,40"], ids=["three", "words", "thin", "upside-down"]
)
def test_malformed_region_is_refused(text):
    with pytest.raises(InputError, match="y0,x0,y1,x1"):
        Region.parse(text)


def test_region_beyond_the_frame_is_refused():
    with pytest.raises(InputError, match="inside the frame"):
        Region.parse("0,0,50,500").check((60, 80))


def test_cropped_frames_are_the_part_of_the_video():
    frames = draw_moving_disc(3, (60, 80))
    region = Region(8, 10, 40, 50)
    cropped = CroppedFrames(frames, region)
    assert cropped.shape == (3, 32, 40, 3)
    np.testing.assert_array_equal(cropped[1], frames[1][8:40, 10:50])
    assert cropped.fingerprint != frames.fingerprint


def test_mask_goes_into_the_region_and_back():
    region, mask = Region(8, 10, 40, 50), np.zeros((60, 80), bool)
    mask[12:20, 14:30] = True
    job = region.crop_job(Job(Query("x"), Span(0, 1), (Anchor(0, mask),)))
    np.testing.assert_array_equal(region.paste(job.anchors[0].mask, (60, 80)), mask)
