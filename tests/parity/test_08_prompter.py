"""Stage 8: the second fusion, from recorded hidden states and the segmenter's maps; its fixed tables.

Tolerance: five times the recorded noise. Most of it comes from the maps of the image encoder (8.1e-6), which are our
own, since they are recorded in part only.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_virst.model.fusion import rotary_angles, rotary_split, rotate_pairs

pytestmark = pytest.mark.parity

ROTARY_TOLERANCE = 1e-6  # float32 sin, cos and one product of values about 1
CASES = pytest.mark.parametrize("case", ["fusion", "nofusion"])


@CASES
def test_st_prompts(any_recording, case):
    prompts, _ = any_recording.model.prompter(any_recording.hidden_states(case), any_recording.coarse_maps)
    any_recording.assert_close(prompts, f"{case}_seg_prompts")


@CASES
def test_frame_scores(any_recording, case):
    _, scores = any_recording.model.prompter(any_recording.hidden_states(case), any_recording.coarse_maps)
    # One bound for both cases: the noise of a mean of softmax weights is that of its float32 sum.
    bound = max(any_recording.tolerance(f"{name}_frame_scores") for name in ("fusion", "nofusion"))
    any_recording.assert_close(scores, f"{case}_frame_scores", bound)


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
