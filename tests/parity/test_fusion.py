"""Stages 7 and 8: initial fusion and prompter, from recorded hidden states and the segmenter's maps."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_virst.model.fusion import rotary_angles, rotary_split, rotate_pairs

pytestmark = [pytest.mark.parity, pytest.mark.shared]

# Five times the recorded noise of each array. Maps come from our own image encoder (noise 8.1e-6, not recorded in
# full), which is what most of it is.
FUSED_TOLERANCE = 5 * 1.9e-6
PROMPT_TOLERANCE = {"fusion": 5 * 2.3e-5, "nofusion": 5 * 6.5e-5}
SCORE_TOLERANCE = 5 * 2.8e-7
ROTARY_TOLERANCE = 1e-6  # float32 sin, cos and one product of values about 1
CASES = pytest.mark.parametrize("case", ["fusion", "nofusion"])


def st_embeddings(recording) -> torch.Tensor:
    return recording.model.language.st_embeddings(torch.from_numpy(recording.inputs["input_ids"]))


def test_initial_fusion(any_recording):
    found = any_recording.model.initial_fusion(st_embeddings(any_recording), any_recording.coarse_maps)
    any_recording.assert_close(found, "initial_seg_fusion_out", FUSED_TOLERANCE)


@CASES
def test_st_prompts_and_frame_scores(recording, case):
    hidden = recording.array(f"{case}_last_hidden_seg")[None]
    prompts, scores = recording.model.prompter(hidden, recording.coarse_maps)
    recording.assert_close(prompts, f"{case}_seg_prompts", PROMPT_TOLERANCE[case])
    recording.assert_close(scores, f"{case}_frame_scores", SCORE_TOLERANCE)


def test_st_prompts_at_official_geometry(native_recording):
    hidden = native_recording.array("last_hidden_seg")[None]
    prompts, scores = native_recording.model.prompter(hidden, native_recording.coarse_maps)
    native_recording.assert_close(prompts, "seg_prompts", PROMPT_TOLERANCE["fusion"])
    native_recording.assert_close(scores, "frame_scores", SCORE_TOLERANCE)


def test_rotary_table(official_constants):
    angles = rotary_angles(torch.arange(32)[:, None], 32)[:, :5].repeat_interleave(2, dim=1)
    np.testing.assert_allclose(angles.cos(), official_constants["prompter_rope_cos_T32_d10"], atol=ROTARY_TOLERANCE)
    np.testing.assert_allclose(angles.sin(), official_constants["prompter_rope_sin_T32_d10"], atol=ROTARY_TOLERANCE)
    assert rotary_split(32) == tuple(official_constants["prompter_rope_split_t_y_x_free"])


def test_rotary_memory_turns_with_time_y_and_x(official_constants):
    x = torch.from_numpy(official_constants["rope_test_q_in"])
    cells = torch.cartesian_prod(torch.arange(2), torch.arange(8), torch.arange(8))
    found = rotate_pairs(x, rotary_angles(cells, 32))
    expected = official_constants["rope_test_memory_out_T2_grid8"]
    np.testing.assert_allclose(found, expected, rtol=0, atol=ROTARY_TOLERANCE)


@pytest.mark.parametrize("num_frames", [2, 8])
def test_rotary_queries_turn_with_time_alone(official_constants, num_frames):
    x = torch.from_numpy(official_constants["rope_test_q_in"])
    time = torch.arange(num_frames).repeat(x.shape[2] // num_frames)
    found = rotate_pairs(x, rotary_angles(time[:, None], 32))
    expected = official_constants[f"rope_test_query_out_T{num_frames}"]
    np.testing.assert_allclose(found, expected, rtol=0, atol=ROTARY_TOLERANCE)
