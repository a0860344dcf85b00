"""Pictures of what a model answers while it learns: true outlines green, predicted ones red, the query above.

Shape legend: X queries, T frames, S side of the square input, H W rows and columns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw

from napari_virst.training.lessons import prepare_asked, prepare_follow
from napari_virst.training.mask_prompts import PERFECT
from napari_virst.training.steps import follow, listen

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from napari_virst.training.learner import Learner
    from napari_virst.training.lessons import ClipStyle, LessonSource

TRUE_COLOUR, PREDICTED_COLOUR, BOTH_COLOUR = (0, 220, 60), (255, 40, 40), (255, 220, 0)
_SIDE, _TEXT_HEIGHT = 160, 14


@torch.no_grad()
def picture_language(
    learner: Learner,
    source: LessonSource,
    num_frames: int,
    size: int,
    kinds: tuple[str, ...],
    seed: int = 1,
    num_scenes: int = 4,
) -> NDArray[np.uint8]:
    """Ask one query about each of a few clips; one row of frames per query, (H, W, 3) uint8."""
    generator = torch.Generator().manual_seed(seed)
    device = next(learner.parameters()).device
    scenes = source.asked(num_scenes, 1, num_frames, size, generator, kinds)
    lesson = prepare_asked(scenes, learner.processor, device)
    segmenter = learner.model.segmenter
    features = segmenter.encode(lesson.pixels_BT3SS.flatten(0, 1))
    maps = features.coarse_BCHW.unflatten(0, (-1, num_frames))
    heard = listen(learner.model, learner.processor, lesson, maps, tuple(range(num_frames)), show_video=num_frames > 1)
    decoded = segmenter.decode_prompted(features[heard.rows_Y(num_frames, range(num_frames))], heard.prompts_YNC)
    found_XTSS = _to_size(decoded.low_res_B1hw, size).unflatten(0, (-1, num_frames))
    frames = scenes.frames[scenes.scene_of]
    return _sheet(frames, scenes.masks, found_XTSS, [f'"{query}"' for query in scenes.queries])


@torch.no_grad()
def picture_following(
    learner: Learner,
    source: LessonSource,
    num_frames: int,
    size: int,
    style: ClipStyle,
    seed: int = 1,
    num_clips: int = 3,
) -> NDArray[np.uint8]:
    """Follow the first mask of a few clips; one row of frames per clip, (H, W, 3) uint8."""
    generator = torch.Generator().manual_seed(seed)
    device = next(learner.parameters()).device
    clips = source.clips(num_clips, num_frames, size, generator, style)
    lesson = prepare_follow(clips, learner.processor, PERFECT, generator, device)
    answers = follow(learner.model.segmenter, lesson)
    found = [lesson.masks_BTSS[:, 0] > 0, *(_to_size(answers[t].low_res_B1hw, size) for t in sorted(answers))]
    return _sheet(clips.frames, clips.masks, torch.stack(found, 1), ["the first mask is given"] * num_clips)


def _to_size(logits_B1hw: Tensor, size: int) -> Tensor:
    return F.interpolate(logits_B1hw.float(), size=(size, size), mode="bilinear")[:, 0] > 0


def _sheet(frames_XT3SS: Tensor, true_XTSS: Tensor, found_XTSS: Tensor, titles: list[str]) -> NDArray[np.uint8]:
    rows = []
    for frames_T3SS, true_TSS, found_TSS, title in zip(frames_XT3SS, true_XTSS, found_XTSS, titles, strict=True):
        cells = [
            outline(frame.permute(1, 2, 0).cpu().numpy(), true.cpu().numpy(), found.cpu().numpy())
            for frame, true, found in zip(frames_T3SS, true_TSS, found_TSS, strict=True)
        ]
        rows.append(np.concatenate([_title(title, _SIDE * len(cells)), np.concatenate(cells, axis=1)]))
    return np.concatenate(rows)


def outline(frame_HW3: NDArray[np.uint8], true_HW: NDArray[np.bool_], found_HW: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Draw both outlines on a frame (H, W, 3) uint8, brought to a side of 160 pixels."""
    size = (_SIDE, _SIDE)
    picture = np.array(Image.fromarray(frame_HW3).resize(size, Image.Resampling.BILINEAR))
    true, found = (
        _edge(np.array(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST))) for mask in (true_HW, found_HW)
    )
    for where, colour in ((true, TRUE_COLOUR), (found, PREDICTED_COLOUR), (true & found, BOTH_COLOUR)):
        picture[where] = colour
    return picture


def _edge(mask_HW: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the pixels of a mask that touch its background."""
    padded = np.pad(mask_HW, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    edge: NDArray[np.bool_] = mask_HW & ~inner
    return edge


def _title(text: str, width: int) -> NDArray[np.uint8]:
    strip = Image.new("RGB", (width, _TEXT_HEIGHT))
    ImageDraw.Draw(strip).text((2, 1), text, fill=(255, 255, 255))
    return np.array(strip)
