"""Stages 2 and 3 of the published path: which frames are looked at, and their pixels."""

from __future__ import annotations

import json
from hashlib import sha256

import numpy as np
import pytest
from PIL import Image

from napari_virst.model.processing import RESIZE_PRESETS, sample_vlm_frames

pytestmark = pytest.mark.parity

# One division of 8-bit values and one normalisation in float32; the reference multiplies by 1/255 in float64 first.
# One unit in the last place of values up to 2.7 is 2.4e-7.
PIXEL_TOLERANCE = 2.4e-7


def test_sampled_frames_are_the_middles_of_the_references_segments(official_tables):
    for num_frames, expected in official_tables["vlm_sampling_by_video_length"].items():
        frames = sample_vlm_frames(int(num_frames))
        assert len(frames) == expected["n"]
        assert list(frames) == expected.get("ids", expected.get("deterministic_middle"))
        for frame, (low, high) in zip(frames, expected.get("segments", []), strict=False):
            assert low <= frame < high


def test_normalised_pixels_are_the_references(recording):
    processor, inputs = recording.processor, recording.inputs
    video = inputs["video_frames_u8"]
    found = {
        "vlm_pixels_check": processor.video_pixels(video[inputs["vlm_frame_ids"][:1]]),
        "sam_pixels_check": processor.segmenter_pixels(video[inputs["sam_frame_ids"][:1]], "prompter"),
        "sam_video_pixels_check": processor.segmenter_pixels(video[:1], "propagation"),
    }
    for name, pixels in found.items():
        stride = pixels.shape[-1] // inputs[name].shape[-1]
        strided = pixels[0, :, ::stride, ::stride].numpy()
        np.testing.assert_allclose(strided, inputs[name], rtol=0, atol=PIXEL_TOLERANCE, err_msg=name)


def test_resized_frames_have_the_references_hashes(any_recording):
    report_path = any_recording.folder / "report.json"
    if not report_path.exists():
        pytest.skip("this recording has no report.json")
    report = json.loads(report_path.read_text())
    hashes = report.get("sha256", {}) | {
        k.removeprefix("sha256_"): v for k, v in report.items() if k.startswith("sha256_")
    }
    video, ids = any_recording.inputs["video_frames_u8"], any_recording.inputs
    filters = RESIZE_PRESETS["reference"]
    sides = any_recording.config["vision_tower"]["image_size"], any_recording.config["sam2"]["image_size"]
    resized = {
        ("vlm_u8",): (ids["vlm_frame_ids"], sides[0], filters.video),
        ("sam_u8", "sam_prompter_u8"): (ids["sam_frame_ids"], sides[1], filters.prompter),
        ("vid_u8", "sam_video_u8"): (np.arange(len(video)), sides[1], filters.propagation),
    }
    for names, (frames, side, resample) in resized.items():
        expected = [hashes[name] for name in names if name in hashes]
        assert expected, f"the report names none of {names}"
        pixels = any_recording.resized(video[frames], side, Image.Resampling(resample))
        assert [sha256(pixels.tobytes()).hexdigest()] == expected, names
