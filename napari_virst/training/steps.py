"""One forward pass of each kind of lesson.

Shape legend: B clips or scenes, X queries, Y their decoded frames (query-major), T frames, S side of the square
input, C channels, H W cells, N ST tokens, V visual tokens, D width of the language model, R rows of the expanded
prompt, W words.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from napari_virst.model.memory import ObjectMemory
from napari_virst.training.auxiliary import classes_of, owner_cells, pointing_loss, there_loss
from napari_virst.training.losses import LossWeights, segmentation_loss
from napari_virst.training.seeing import SeenClips, see_clips, see_nothing
from napari_virst.training.speaking import answer_loss

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from napari_virst.model.processing import VirstProcessor
    from napari_virst.model.readout import ImageFeatures
    from napari_virst.model.segmenter import Decoded, Segmenter
    from napari_virst.model.virst import Grounding, VirstModel
    from napari_virst.training.auxiliary import Auxiliary
    from napari_virst.training.lessons import AskedLesson, FollowLesson

Loss = tuple["Tensor", dict[str, float]]
"""The scalar to minimise, and its terms as plain numbers for the log."""


@dataclass(frozen=True)
class Heard:
    """What the language side makes of a lesson."""

    lesson: AskedLesson
    shown: tuple[int, ...]
    """The segmentation frames."""
    maps_BTCHW: Tensor
    """Coarse maps of the segmentation frames."""
    seen: SeenClips
    grounding: Grounding
    ids_XL: Tensor
    attention_mask_XL: Tensor
    places: tuple[int, ...]
    """Which of the segmentation frames are decoded."""

    @property
    def prompts_YNC(self) -> Tensor:
        """ST prompts of every query's decoded frames."""
        return self.grounding.prompts_BNTC[:, :, list(self.places)].transpose(1, 2).flatten(0, 1)

    @property
    def target_YSS(self) -> Tensor:
        """True masks of every query's decoded frames."""
        return self.lesson.masks_XTSS[:, [self.shown[place] for place in self.places]].flatten(0, 1)

    def rows_Y(self, num_frames: int, frames: Sequence[int]) -> Tensor:
        """Rows, in features of ``num_frames`` per scene, of ``frames`` of every query's scene."""
        asked_X = self.lesson.scene_of_X
        frames_T = torch.tensor(list(frames), device=asked_X.device)
        return (asked_X[:, None] * num_frames + frames_T).flatten()


def ground_step(
    model: VirstModel,
    processor: VirstProcessor,
    lesson: AskedLesson,
    weights: LossWeights,
    auxiliary: Auxiliary,
    *,
    segmentation_frames: tuple[int, ...],
    decoded_places: tuple[int, ...] | None = None,
    show_video: bool = True,
    freeze_encoder: bool = False,
    head_WD: Tensor | None = None,
) -> Loss:
    """Language to masks: segmentation frames are decoded as model anchors from their ST prompts.

    The language side sees all frames, the prompter only ``segmentation_frames`` of them, as at inference; of these, the
    ones at ``decoded_places`` are decoded, all where left out. Every frame is encoded once for all queries of its
    scene. Without ``show_video`` the visual tokens are blanked, so that words
    must be heard: at first what varies between videos is far louder than what varies between queries, and the prompter
    learns to ignore both. With ``freeze_encoder`` language learns to speak to image features as they are.
    """
    with torch.set_grad_enabled(torch.is_grad_enabled() and not freeze_encoder):
        features = model.segmenter.encode(lesson.pixels_BT3SS[:, list(segmentation_frames)].flatten(0, 1))
    maps_BTCHW = features.coarse_BCHW.unflatten(0, (-1, len(segmentation_frames)))
    heard = listen(
        model, processor, lesson, maps_BTCHW, segmentation_frames, show_video=show_video, places=decoded_places
    )
    asked_features = features[heard.rows_Y(len(segmentation_frames), heard.places)]
    decoded = model.segmenter.decode_prompted(asked_features, heard.prompts_YNC)
    loss, terms = segmentation_loss(decoded, heard.target_YSS, weights)
    return _with_language_losses(loss, terms, model, processor, heard, weights, auxiliary, head_WD)


def propagate_step(
    model: VirstModel,
    processor: VirstProcessor,
    lesson: AskedLesson,
    weights: LossWeights,
    auxiliary: Auxiliary,
    *,
    segmentation_frames: tuple[int, ...],
    max_anchors: int = 3,
    num_fifo_frames: int = 2,
    head_WD: Tensor | None = None,
) -> Loss:
    """Language to masks to masks: segmentation frames become anchors, all other frames are followed from them."""
    batch, num_frames = lesson.pixels_BT3SS.shape[:2]
    features = model.segmenter.encode(lesson.pixels_BT3SS.flatten(0, 1))
    maps_BTCHW = features.coarse_BCHW.unflatten(0, (batch, num_frames))[:, list(segmentation_frames)]
    heard = listen(model, processor, lesson, maps_BTCHW, segmentation_frames)
    frames = [features[heard.rows_Y(num_frames, [t])] for t in range(num_frames)]
    memory = ObjectMemory(num_frames, max_anchors=max_anchors, num_fifo_frames=num_fifo_frames)
    answers: dict[int, Decoded] = {}
    for place, t in enumerate(segmentation_frames):
        answers[t] = model.segmenter.decode_prompted(frames[t], heard.grounding.prompts_BNTC[:, :, place])
        memory.add_anchor(t, model.segmenter.remember(frames[t], answers[t]))
    answers |= _follow_in_order(model.segmenter, frames, memory)
    loss, terms = _mean_loss(answers, lesson.masks_XTSS, weights)
    return _with_language_losses(loss, terms, model, processor, heard, weights, auxiliary, head_WD)


def watch_step(model: VirstModel, lesson: AskedLesson, auxiliary: Auxiliary) -> Loss:
    """Name colour, shape, course … of the objects off the video tower's tokens; no words, no masks.

    Ten times as many clips a second as with language, and what the tower sees first has to be there to be spoken of.
    """
    loss = see_clips(model, lesson).topics_loss(auxiliary, lesson)
    return loss, {"video_topics": loss.item()}


def follow_step(
    model: VirstModel, lesson: FollowLesson, weights: LossWeights, *, max_anchors: int = 3, num_fifo_frames: int = 2
) -> Loss:
    """Mask to masks: given frames are user anchors, the others are followed in order."""
    answers = follow(model.segmenter, lesson, max_anchors=max_anchors, num_fifo_frames=num_fifo_frames)
    return _mean_loss(answers, lesson.masks_BTSS, weights)


def follow(
    segmenter: Segmenter, lesson: FollowLesson, *, max_anchors: int = 3, num_fifo_frames: int = 2
) -> dict[int, Decoded]:
    """Follow what is given through the clip; the model's own answers go into memory.

    All given masks are remembered before the first frame is followed, as when a person has corrected and runs again.
    """
    batch, num_frames = lesson.pixels_BT3SS.shape[:2]
    features = segmenter.encode(lesson.pixels_BT3SS.transpose(0, 1).flatten(0, 1))
    frames = [features[slice(t * batch, (t + 1) * batch)] for t in range(num_frames)]
    memory = ObjectMemory(num_frames, max_anchors=max_anchors, num_fifo_frames=num_fifo_frames)
    for place, t in enumerate(lesson.given.frames):
        given = segmenter.decode_given(frames[t], lesson.given.masks_BGSS[:, place, None])
        memory.add_anchor(t, segmenter.remember(frames[t], given), is_user=True)
    return _follow_in_order(segmenter, frames, memory)


def listen(
    model: VirstModel,
    processor: VirstProcessor,
    lesson: AskedLesson,
    maps_BTCHW: Tensor,
    shown: tuple[int, ...],
    *,
    show_video: bool = True,
    places: tuple[int, ...] | None = None,
) -> Heard:
    """Let the language side look at a lesson and read its queries; ``maps_BTCHW`` are of the frames ``shown``."""
    seen = see_clips(model, lesson) if show_video else see_nothing(model, lesson)
    tokens = processor.text_ids(lesson.queries).to(lesson.pixels_BT3SS.device)
    asked_X = lesson.scene_of_X
    grounding = model.ground(seen.visual_BVD[asked_X], tokens.input_ids, tokens.attention_mask, maps_BTCHW[asked_X])
    decoded = tuple(range(len(shown))) if places is None else places
    return Heard(lesson, shown, maps_BTCHW, seen, grounding, tokens.input_ids, tokens.attention_mask, decoded)


def _follow_in_order(segmenter: Segmenter, frames: Sequence[ImageFeatures], memory: ObjectMemory) -> dict[int, Decoded]:
    """Decode every frame that is no anchor from memory."""
    anchors = frozenset(memory.anchor_frames)
    answers = {}
    for t in range(len(frames)):
        if t in anchors:
            continue
        answers[t] = segmenter.decode_tracked(frames[t], memory.view(t))
        if t + 1 < len(frames):
            memory.add_tracked(t, segmenter.remember(frames[t], answers[t]))
    return answers


def _mean_loss(answers: dict[int, Decoded], masks_BTSS: Tensor, weights: LossWeights) -> Loss:
    losses = [segmentation_loss(answer, masks_BTSS[:, t], weights) for t, answer in answers.items()]
    terms = {name: sum(terms[name] for _, terms in losses) / len(losses) for name in losses[0][1]}
    return torch.stack([loss for loss, _ in losses]).mean(), terms


def _with_language_losses(
    loss: Tensor,
    terms: dict[str, float],
    model: VirstModel,
    processor: VirstProcessor,
    heard: Heard,
    weights: LossWeights,
    auxiliary: Auxiliary,
    head_WD: Tensor | None,
) -> Loss:
    """Add what is asked of the language side alone."""
    extra: dict[str, Tensor] = {}
    if weights.alignment:
        maps_YCHW = heard.maps_BTCHW[heard.lesson.scene_of_X][:, list(heard.places)].flatten(0, 1)
        extra["alignment"] = weights.alignment * auxiliary.alignment(heard.prompts_YNC, maps_YCHW, heard.target_YSS)
    if weights.topics:
        extra["topics"] = weights.topics * _picture_topics(auxiliary, heard)
        if heard.seen.is_video:
            extra["video_topics"] = weights.topics * heard.seen.topics_loss(auxiliary, heard.lesson)
    if weights.path and heard.seen.is_video:
        extra["path"] = weights.path * auxiliary.path(heard.grounding.hidden_BND, heard.lesson.masks_XTSS)
    if weights.pointing and heard.seen.is_video and heard.grounding.pointed_BV is not None:
        shares_XV = heard.seen.shares(heard.lesson)
        extra["pointing"] = weights.pointing * pointing_loss(heard.grounding.pointed_BV, shares_XV)
    if weights.there and model.presence_reader is not None:
        # Of one blank token the pointer can be sure of nothing.
        pointed_XV = heard.grounding.pointed_BV if heard.seen.is_video else None
        present_X = model.presence_reader(heard.grounding.hidden_BND, pointed_XV)
        extra["there"] = weights.there * there_loss(present_X, heard.lesson.masks_XTSS)
    if weights.sentence:
        extra["sentence"] = weights.sentence * _sentence_loss(auxiliary, heard)
    if weights.token:
        head = model.language.model.embed_tokens.weight if head_WD is None else head_WD
        rows_XRD = heard.grounding.rows_BRD
        extra["token"] = weights.token * answer_loss(processor, heard.ids_XL, heard.attention_mask_XL, rows_XRD, head)
    total = torch.stack([loss, *extra.values()]).sum()
    return total, {**terms, **{name: value.item() for name, value in extra.items()}}


def _picture_topics(auxiliary: Auxiliary, heard: Heard) -> Tensor:
    """Read facts off the segmenter's maps."""
    owners = owner_cells(heard.lesson.owners_BTSS[:, list(heard.shown)].flatten(0, 1), heard.maps_BTCHW.shape[-1])
    classes = classes_of(owners.unflatten(0, heard.maps_BTCHW.shape[:2]), heard.lesson.facts_BOK)
    cells_PC = heard.maps_BTCHW.permute(0, 1, 3, 4, 2).flatten(0, 3)
    loss: Tensor = auxiliary.picture_topics(cells_PC, classes.flatten(0, 3))
    return loss


def _sentence_loss(auxiliary: Auxiliary, heard: Heard) -> Tensor:
    """Read what a query says off the hidden states of the ST tokens, where it is known what it says."""
    is_known_X = heard.lesson.atoms_XA[:, 0] >= 0
    hidden_BND = heard.grounding.hidden_BND
    if not bool(is_known_X.any()):
        return hidden_BND.sum() * 0
    loss: Tensor = auxiliary.sentence(hidden_BND[is_known_X], heard.lesson.atoms_XA[is_known_X])
    return loss
