"""Stage 10, the image encoder: SAM's features of the prompter's frames at three levels.

Tolerance: five times the recorded noise of each array.
"""

from __future__ import annotations

import pytest
import torch

pytestmark = pytest.mark.parity


def test_finest_level_after_its_projection(recording):
    recording.assert_close(recording.prompter_features[0].fine_BCHW[0], "sam_fpn0_frame0")


def test_middle_level_after_its_projection(recording):
    recording.assert_close(recording.prompter_features[0].middle_BCHW[0], "sam_fpn1_frame0")


def test_coarse_level_of_first_and_last_frame(recording):
    recording.assert_close(recording.coarse_maps[0, [0, -1]], "sam_vision_features_first_last")


def test_coarse_level_of_every_frame(recording):
    recording.assert_close(recording.coarse_maps[0][:, ::8, ::4, ::4], "sam_vision_features_strided")


def test_three_levels_at_official_geometry(native_recording):
    first = native_recording.prompter_features[0]
    coarse = native_recording.coarse_maps[0, [0, -1]][:, ::4, ::4, ::4]
    found = {
        "sam_fpn0_strided": (first.fine_BCHW[0][:, ::8, ::8], "sam_fpn0_frame0"),
        "sam_fpn1_strided": (first.middle_BCHW[0][:, ::4, ::4], "sam_fpn1_frame0"),
        "sam_vision_features_strided": (coarse, "sam_vision_features_strided"),
    }
    for name, (values, noise_of) in found.items():
        native_recording.assert_close(values, name, native_recording.tolerance(noise_of))


def test_features_of_frames_encoded_together_or_alone_agree(recording):
    frames = recording.video[recording.segmentation_frames[:2]]
    together = recording.model.segmenter.encode(recording.processor.segmenter_pixels(frames, "prompter"))
    tolerance = recording.tolerance("sam_vision_features_strided")
    torch.testing.assert_close(together.coarse_BCHW, recording.coarse_maps[0, :2], rtol=0, atol=tolerance)
