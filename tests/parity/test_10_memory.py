"""Stage 10, memory: what is stored of a frame, and the map after a frame has read its memory.

Tolerance: five times the recorded noise of each array. Memory is compared unrounded: a difference of 1e-7 may flip a
rounding to bfloat16, which is 2e-2 at these values.
"""

from __future__ import annotations

import pytest
import torch
from fixtures.recorded_runs import RecordedRun, follow

pytestmark = pytest.mark.parity


def unrounded(recording, case: str):
    run = RecordedRun(recording, f"{case}_nobf16")
    if not run.is_recorded:
        pytest.skip(f"{recording.name} holds no {run.prefix}")
    return follow(run)


def test_memory_features(recording):
    frames = recording.array("fusion_nobf16_maskmem_frames").tolist()
    memories = unrounded(recording, "fusion").memories
    recording.assert_close(torch.cat([memories[frame].features for frame in frames]), "fusion_nobf16_maskmem_features")


def test_memory_features_at_official_geometry(native_recording):
    memories = unrounded(native_recording, "fusion").memories
    found = torch.cat([memories[frame].features for frame in (0, 1, -1)])[..., ::4, ::4]
    atol = native_recording.tolerance("fusion_nobf16_maskmem_features")
    native_recording.assert_close(found, "fusion_nobf16_maskmem_features_strided", atol)


def test_memory_features_of_a_users_mask(recording):
    frame = int(recording.inputs["maskcase_mask_frame"])
    found = unrounded(recording, "maskcase").memories[frame].features[0]
    recording.assert_close(found, "maskcase_nobf16_maskmem_features_maskframe")


def test_position_code_of_memory(recording):
    recording.assert_close(unrounded(recording, "fusion").memories[0].keys[0], "maskmem_pos_enc")


def test_position_code_of_memory_at_official_geometry(native_recording):
    found = unrounded(native_recording, "fusion").memories[0].keys[0][:, ::4, ::4]
    native_recording.assert_close(found, "maskmem_pos_enc_strided", native_recording.tolerance("maskmem_pos_enc"))


def test_map_after_reading_memory(recording):
    frames = recording.array("fusion_nobf16_memcond_frames").tolist()
    conditioned = unrounded(recording, "fusion").conditioned
    found = torch.cat([conditioned[frame] for frame in frames])
    recording.assert_close(found, "fusion_nobf16_memcond_features")


def test_rounding_is_the_only_difference_between_the_two_precisions(recording):
    exact = unrounded(recording, "fusion").memories[0].features
    rounded = follow(RecordedRun(recording, "fusion")).memories[0].features
    first = min(follow(RecordedRun(recording, "fusion")).anchors)
    if first == 0:  # an anchor's memory has read no other
        torch.testing.assert_close(rounded, exact.bfloat16().float(), rtol=0, atol=0)
    assert torch.equal(rounded, rounded.bfloat16().float())
