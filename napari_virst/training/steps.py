"""One forward pass of each kind of lesson.

Shape legend: B clips, T frames, S side of the square input, C channels, N ST tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

from napari_virst.model.memory import ObjectMemory
from napari_virst.training.losses import LossWeights, segmentation_loss

if TYPE_CHECKING:
    from torch import Tensor

    from napari_virst.model.processing import VirstProcessor
    from napari_virst.model.readout import ImageFeatures
    from napari_virst.model.segmenter import Decoded, Segmenter
    from napari_virst.model.virst import VirstModel
    from napari_virst.training.scenes import SceneBatch


@dataclass(frozen=True)
class Lesson:
    """A batch ready for the model."""

    pixels_BT3SS: Tensor
    """Normalised frames, float32."""
    masks_BTSS: Tensor
    """True masks, float 0 or 1."""
    queries: tuple[str, ...]


def prepare(batch: SceneBatch, processor: VirstProcessor) -> Lesson:
    """Normalise the frames of a batch of scenes."""
    return Lesson(processor.normalise(batch.frames.float() / 255), batch.masks.float(), batch.queries)


def _encode_time_major(segmenter: Segmenter, pixels_BT3SS: Tensor) -> ImageFeatures:
    """Encode all frames at once; rows t·B … t·B + B - 1 are frame t."""
    return segmenter.encode(pixels_BT3SS.transpose(0, 1).flatten(0, 1))


def ground_step(
    model: VirstModel,
    processor: VirstProcessor,
    lesson: Lesson,
    weights: LossWeights,
    *,
    segmentation_frames: tuple[int, ...],
    alignment: Alignment,
    hide_video_B: Tensor | None = None,
    freeze_encoder: bool = False,
) -> tuple[Tensor, dict[str, float]]:
    """Language to masks: segmentation frames are decoded as model anchors from their ST prompts.

    The language side sees all frames, the segmenter only ``segmentation_frames`` of them, as at inference. Where
    ``hide_video_B`` (B,) bool says so the visual tokens are blanked, so that words must be heard: at first what varies
    between videos is far louder than what varies between queries, and the prompter learns to ignore both.
    ``freeze_encoder`` is the published first stage: language learns to speak to image features as they are.
    """
    batch, num_frames = len(lesson.queries), len(segmentation_frames)
    with torch.set_grad_enabled(not freeze_encoder):
        features = _encode_time_major(model.segmenter, lesson.pixels_BT3SS[:, list(segmentation_frames)])
    maps_BTCHW = features.coarse_BCHW.unflatten(0, (num_frames, batch)).transpose(0, 1)
    tokens = processor.text_ids(lesson.queries)
    visual_BVD = _visual_tokens(model, lesson.pixels_BT3SS, hide_video_B)
    grounding = model.ground(visual_BVD, tokens.input_ids, tokens.attention_mask, maps_BTCHW)
    prompts_XNC = grounding.prompts_BNTC.permute(2, 0, 1, 3).flatten(0, 1)
    target_XSS = lesson.masks_BTSS[:, list(segmentation_frames)].transpose(0, 1).flatten(0, 1)
    decoded = model.segmenter.decode_prompted(features, prompts_XNC)
    loss, terms = segmentation_loss(decoded, target_XSS, weights)
    aligned = alignment(prompts_XNC, features.coarse_BCHW, target_XSS)
    return loss + weights.alignment * aligned, {**terms, "alignment": aligned.item()}


def _visual_tokens(model: VirstModel, pixels_BT3SS: Tensor, hide_B: Tensor | None) -> Tensor:
    """Encode the clips that are shown; the others get zeros, and cost nothing."""
    if hide_B is None or not bool(hide_B.any()):
        return model.encode_clips(pixels_BT3SS)
    if bool(hide_B.all()):
        return pixels_BT3SS.new_zeros(len(hide_B), 1, model.config.text_config.hidden_size)
    shown_XVD = model.encode_clips(pixels_BT3SS[~hide_B])
    visual_BVD = shown_XVD.new_zeros(len(hide_B), *shown_XVD.shape[1:])
    visual_BVD[~hide_B] = shown_XVD
    return visual_BVD


class Alignment(nn.Module):
    """A short path from language to pixels, for training only.

    Does a ST prompt point at the cells of its object? Without it the only gradient to the language side passes the
    whole mask decoder, which is untrained too at first.
    """

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        self.prompt = nn.Linear(num_channels, num_channels)
        self.cell = nn.Conv2d(num_channels, num_channels, 1)
        self.bias = nn.Parameter(torch.tensor(-2.0))

    def forward(self, prompts_BNC: Tensor, maps_BCHW: Tensor, target_BSS: Tensor) -> Tensor:
        """Return the binary cross-entropy of cells against the true mask's share of each cell."""
        share_BHW = F.adaptive_avg_pool2d(target_BSS[:, None], (maps_BCHW.shape[-2], maps_BCHW.shape[-1]))[:, 0]
        point_BC = self.prompt(prompts_BNC.mean(1))
        cells_BCHW = self.cell(maps_BCHW)
        logits_BHW = torch.einsum("bc,bchw->bhw", point_BC, cells_BCHW) / cells_BCHW.shape[1] ** 0.5 + self.bias
        # Objects cover a few percent of the cells; without the weight "nowhere" is a good answer.
        return F.binary_cross_entropy_with_logits(logits_BHW, share_BHW, pos_weight=logits_BHW.new_tensor(5.0))


def follow_step(
    model: VirstModel, lesson: Lesson, weights: LossWeights, *, max_anchors: int = 3, num_fifo_frames: int = 2
) -> tuple[Tensor, dict[str, float]]:
    """Mask to masks: the first frame's true mask is a user anchor, the others are followed in order."""
    decoded = follow(model.segmenter, lesson, max_anchors=max_anchors, num_fifo_frames=num_fifo_frames)
    losses = [segmentation_loss(answer, lesson.masks_BTSS[:, t], weights) for t, answer in decoded.items()]
    terms = {name: sum(t[name] for _, t in losses) / len(losses) for name in losses[0][1]}
    return torch.stack([loss for loss, _ in losses]).mean(), terms


def follow(
    segmenter: Segmenter, lesson: Lesson, *, max_anchors: int = 3, num_fifo_frames: int = 2
) -> dict[int, Decoded]:
    """Follow the true mask of frame 0 through the clip; the model's own answers go into memory."""
    batch, num_frames = lesson.pixels_BT3SS.shape[:2]
    all_features = _encode_time_major(segmenter, lesson.pixels_BT3SS)
    frames = [all_features[slice(t * batch, (t + 1) * batch)] for t in range(num_frames)]
    memory = ObjectMemory(num_frames, max_anchors=max_anchors, num_fifo_frames=num_fifo_frames)
    given = segmenter.decode_given(frames[0], lesson.masks_BTSS[:, :1])
    memory.add_anchor(0, segmenter.remember(frames[0], given), is_user=True)
    answers = {}
    for t in range(1, num_frames):
        answers[t] = segmenter.decode_tracked(frames[t], memory.view(t))
        if t + 1 < num_frames:
            memory.add_tracked(t, segmenter.remember(frames[t], answers[t]))
    return answers
