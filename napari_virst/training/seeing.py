"""What the video tower makes of a lesson, with the true masks riding along through the merging of tokens.

Shape legend: B clips or scenes, X queries, T frames, S side of the square input, V visual tokens, D width of the
language model, c clips of the video tower, N tokens of one of them, C channels, Q queries of one scene, G patches along
a side.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from napari_virst.model.video_tower import merge_tokens
from napari_virst.training.auxiliary import classes_of, owner_cells

if TYPE_CHECKING:
    from torch import Tensor

    from napari_virst.model.virst import VirstModel
    from napari_virst.training.auxiliary import Auxiliary
    from napari_virst.training.lessons import AskedLesson


@dataclass(frozen=True)
class SeenClips:
    """Visual tokens and what is known of them."""

    visual_BVD: Tensor
    tokens_cNC: Tensor
    """Tokens of every clip before merging: rows b·n + i are clip i of scene b. Empty where nothing was shown."""
    shares_BVQ: Tensor
    """Share of each visual token that the mask of its scene's query number Q covers. Empty where nothing was shown."""
    owners_BTSS: Tensor
    """Which object each pixel of the frames that were shown belongs to; the frames fill whole clips."""

    @property
    def is_video(self) -> bool:
        """Whether anything was shown."""
        return len(self.tokens_cNC) > 0

    def topics_loss(self, auxiliary: Auxiliary, lesson: AskedLesson) -> Tensor:
        """Read facts off the unmerged tokens."""
        batch, num_frames = self.owners_BTSS.shape[:2]
        num_tokens = self.tokens_cNC.shape[0] * self.tokens_cNC.shape[1]
        grid = round((num_tokens / (batch * num_frames)) ** 0.5)
        owners = owner_cells(self.owners_BTSS.flatten(0, 1), grid).unflatten(0, (batch, num_frames))
        classes = classes_of(owners, lesson.facts_BOK)
        loss: Tensor = auxiliary.video_topics(self.tokens_cNC.flatten(0, 1), classes.flatten(0, 3))
        return loss

    def shares(self, lesson: AskedLesson) -> Tensor:
        """(X, V): the share of each visual token that the answer covers."""
        return self.shares_BVQ[lesson.scene_of_X, :, number_in_scene(lesson.scene_of_X)]


def see_nothing(model: VirstModel, lesson: AskedLesson) -> SeenClips:
    """Return one blank visual token per clip."""
    nothing = lesson.pixels_BT3SS.new_zeros(len(lesson.pixels_BT3SS), 1, model.config.text_config.hidden_size)
    return SeenClips(nothing, nothing[:0], nothing[:0], lesson.owners_BTSS)


def see_clips(model: VirstModel, lesson: AskedLesson) -> SeenClips:
    """Encode clips as ``model.encode_clips`` does; the last frame is repeated until it fills a clip."""
    config = model.config.video_config
    lesson = _whole_clips(lesson, config.num_frames_per_clip)
    batch = len(lesson.pixels_BT3SS)
    frames = lesson.pixels_BT3SS.flatten(0, 1)
    if frames.shape[-1] != config.image_size:
        frames = F.interpolate(frames, size=(config.image_size,) * 2, mode="bilinear", antialias=True)
    tokens_cNC = model.video_tower(frames.unflatten(0, (-1, config.num_frames_per_clip)))
    shares_cNQ = _patch_shares(lesson, config.patch_grid).reshape(*tokens_cNC.shape[:2], -1)
    num_riders = shares_cNQ.shape[-1]
    ridden = torch.cat([tokens_cNC, shares_cNQ.to(tokens_cNC.dtype)], dim=-1)
    merged, _ = merge_tokens(ridden, config.num_tokens_per_clip, config.num_attention_heads, num_riders=num_riders)
    visual_cVD = model.projector.mlp(merged[..., :-num_riders])
    return SeenClips(
        visual_cVD.reshape(batch, -1, visual_cVD.shape[-1]),
        tokens_cNC,
        merged[..., -num_riders:].detach().reshape(batch, -1, num_riders),
        lesson.owners_BTSS,
    )


def _whole_clips(lesson: AskedLesson, num_frames_per_clip: int) -> AskedLesson:
    """Repeat the last frame as at inference, where a short video has fewer frames than a clip."""
    num_frames = lesson.pixels_BT3SS.shape[1]
    num_filled = -(-num_frames // num_frames_per_clip) * num_frames_per_clip
    if num_filled == num_frames:
        return lesson
    shown = [min(t, num_frames - 1) for t in range(num_filled)]
    return replace(
        lesson,
        pixels_BT3SS=lesson.pixels_BT3SS[:, shown],
        owners_BTSS=lesson.owners_BTSS[:, shown],
        masks_XTSS=lesson.masks_XTSS[:, shown],
    )


def number_in_scene(scene_of_X: Tensor) -> Tensor:
    """Return the place (X,) of each query among those of its scene, from 0."""
    return (scene_of_X[:, None] == scene_of_X).tril(-1).sum(1)


def _patch_shares(lesson: AskedLesson, grid: int) -> Tensor:
    """(B, T, G, G, Q): share of each patch that each query's mask covers; 0 where a scene has fewer queries."""
    number_X = number_in_scene(lesson.scene_of_X)
    batch, num_frames, *_, side = lesson.pixels_BT3SS.shape
    masks_BQTSS = lesson.masks_XTSS.new_zeros(batch, int(number_X.max()) + 1, num_frames, side, side)
    masks_BQTSS[lesson.scene_of_X, number_X] = lesson.masks_XTSS
    shares = F.adaptive_avg_pool2d(masks_BQTSS.flatten(0, 1), grid)
    return shares.unflatten(0, masks_BQTSS.shape[:2]).permute(0, 2, 3, 4, 1)
