"""Stages 9 and 10: SAM's features, anchors, memory, every frame's answer, and the final masks.

Tolerances: five times the recorded noise in unrounded runs, where final masks must be equal pixel by pixel. With
memory rounded to bfloat16 a difference of 1e-7 may flip a rounding, so the published bounds of the recording hold:
object score 5e-4, IoU 2e-4, pointer 5e-4, and up to 10 pixels whose logit is next to zero.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_virst.model.anchors import spread_anchors
from napari_virst.model.memory import ObjectMemory
from napari_virst.model.processing import masks_from_logits
from napari_virst.model.windows import Window, cut

pytestmark = [pytest.mark.parity, pytest.mark.shared]

UNROUNDED = {"low_res_masks": 7e-4, "object_score_logits": 3e-5, "ious": 6e-6, "obj_ptr": 2e-5}
ROUNDED = {"low_res_masks": 0.2, "object_score_logits": 5e-4, "ious": 2e-4, "obj_ptr": 5e-4}
MAX_ROUNDED_PIXELS = 10
BOTH_PRECISIONS = pytest.mark.parametrize("rounded", [False, True], ids=["fp32-memory", "bf16-memory"])


def encode_video(recording):
    """Features of every frame, resized as the propagation loop of the reference does."""
    pixels = recording.processor.segmenter_pixels(recording.inputs["video_frames_u8"], "propagation")
    return [recording.model.segmenter.encode(p[None]) for p in pixels]


@pytest.fixture(scope="module")
def features_of():
    cache = {}

    def features(recording):
        if recording.name not in cache:
            with torch.no_grad():
                cache[recording.name] = encode_video(recording)
        return cache[recording.name]

    return features


@torch.no_grad()
def propagate(recording, features, anchors, rounded):
    """Follow from decoded anchors {frame: Decoded}, forward from frame 0, as published."""
    segmenter = recording.model.segmenter
    segmenter.readout.round_to_bf16 = rounded
    sizes = recording.config["sam2"]
    memory = ObjectMemory(
        len(features),
        max_anchors=sizes["max_cond_frames_in_attn"],
        num_fifo_frames=sizes["num_maskmem"] - 1,
        max_pointers=sizes["max_obj_ptrs_in_encoder"],
        prefer_user_anchors=False,
    )
    answers = dict(anchors)
    for frame, decoded in anchors.items():
        memory.add_anchor(frame, segmenter.remember(features[frame], decoded))
    for frame in range(len(features)):
        if frame not in anchors:
            answers[frame] = segmenter.decode_tracked(features[frame], memory.view(frame))
            memory.add_tracked(frame, segmenter.remember(features[frame], answers[frame]))
    return [answers[frame] for frame in range(len(features))]


def assert_same_answers(recording, answers, case, rounded):
    prefix, bounds = (case, ROUNDED) if rounded else (f"{case}_nobf16", UNROUNDED)
    found = {
        "low_res_masks": torch.cat([a.low_res_B1hw[:, 0] for a in answers]),
        "object_score_logits": torch.cat([a.score_B for a in answers]),
        "ious": torch.cat([a.iou_BM for a in answers]),
        "obj_ptr": torch.cat([a.pointer_BC for a in answers]),
    }
    for name, values in found.items():
        key = f"{prefix}_{name}"
        if key not in recording.outputs and f"{key}_s2" not in recording.outputs:
            continue
        if key not in recording.outputs:
            key, values = f"{key}_s2", values[..., ::2, ::2]
        expected = recording.array(key).float()
        torch.testing.assert_close(values, expected, rtol=0, atol=bounds[name], equal_nan=True)
    _, height, width, _ = recording.inputs["video_frames_u8"].shape
    masks = masks_from_logits(found["low_res_masks"], (height, width)).numpy()
    packed = recording.outputs[f"{prefix}_video_masks_packed"]
    expected = np.unpackbits(packed, axis=1)[:, : height * width].reshape(masks.shape).astype(bool)
    assert np.count_nonzero(masks != expected) <= (MAX_ROUNDED_PIXELS if rounded else 0)


def test_image_features_at_three_levels(recording, features_of):
    frame = recording.model.segmenter.encode(
        recording.processor.segmenter_pixels(
            recording.inputs["video_frames_u8"][recording.inputs["sam_frame_ids"][:1]], "prompter"
        )
    )
    for name, level in (("sam_fpn0_frame0", frame.fine_BCHW), ("sam_fpn1_frame0", frame.middle_BCHW)):
        if name in recording.outputs:
            torch.testing.assert_close(level[0], recording.array(name).reshape(level[0].shape), rtol=0, atol=1e-4)


@BOTH_PRECISIONS
@pytest.mark.parametrize("case", ["fusion", "nofusion"])
def test_language_to_masks(recording, features_of, case, rounded):
    features, ids = features_of(recording), recording.inputs["sam_frame_ids"]
    prompts = recording.array(f"{case}_seg_prompts") if f"{case}_seg_prompts" in recording.outputs else None
    if prompts is None:
        pytest.skip(f"{recording.name} holds no prompts of {case}")
    anchors = {}
    with torch.no_grad():
        for position in spread_anchors(len(ids)):
            frame = int(ids[position])
            anchors[frame] = recording.model.segmenter.decode_prompted(features[frame], prompts[:, :, position])
    answers = propagate(recording, features, anchors, rounded)
    assert_same_answers(recording, answers, case, rounded)


@BOTH_PRECISIONS
@pytest.mark.parametrize("case", ["maskcase", "maskempty"])
def test_user_mask_conditions_memory(recording, features_of, case, rounded):
    if f"{case}{'' if rounded else '_nobf16'}_object_score_logits" not in recording.outputs:
        pytest.skip(f"{recording.name} holds no {case} of this precision")
    features, segmenter, inputs = features_of(recording), recording.model.segmenter, recording.inputs
    size, mask_frame = recording.config["sam2"]["image_size"], int(inputs["maskcase_mask_frame"])
    mask = torch.from_numpy(inputs["maskcase_mask"]).float()[None, None] * (case == "maskcase")
    given = (cut(mask, Window.whole(*mask.shape[-2:]), size, 0.0) >= 0.5).float()
    prompts, frames = torch.from_numpy(inputs["maskcase_prompts"]), [int(f) for f in inputs["maskcase_prompt_frames"]]
    chosen = range(len(frames)) if case == "maskcase" else [len(frames) - 1]
    with torch.no_grad():
        anchors = {mask_frame: segmenter.decode_given(features[mask_frame], given)}
        for index in chosen:
            anchors[frames[index]] = segmenter.decode_prompted(features[frames[index]], prompts[index][None])
    answers = propagate(recording, features, anchors, rounded)
    assert_same_answers(recording, answers, case, rounded)


def test_second_prompt_on_a_frame_sees_the_first_answer(recording, features_of):
    if "dupprompt_nobf16_object_score_logits" not in recording.outputs:
        pytest.skip(f"{recording.name} holds no dupprompt")
    features, segmenter = features_of(recording), recording.model.segmenter
    prompts = torch.from_numpy(recording.inputs["maskcase_prompts"])
    frame = int(recording.inputs["maskcase_prompt_frames"][0])
    with torch.no_grad():
        first = segmenter.decode_prompted(features[frame], prompts[0][None])
        second = segmenter.decode_prompted(features[frame], prompts[1][None], first.low_res_B1hw)
    answers = propagate(recording, features, {frame: second}, rounded=False)
    assert_same_answers(recording, answers, "dupprompt", rounded=False)
