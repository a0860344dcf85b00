"""Lessons drawn from real videos with true masks.

Shape legend: B clips, X queries, T frames, S side of the square input, H W rows and columns of a video.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F

from napari_virst.errors import InputError
from napari_virst.training.scene_lessons import ATOMS, TOPICS, AskedScenes
from napari_virst.training.scenes import SceneBatch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from napari_virst.engine.protocol import Frames
    from napari_virst.training.annotated import AnnotatedQuery, AnnotatedVideo
    from napari_virst.training.lessons import ClipStyle

Box = tuple[int, int, int, int]
"""Top, left, bottom, right in pixels of the video."""

_TRIES = 20
_MAX_OPEN = 16
_LONGEST_STRIDE = 3
_WINDOW_SCALES = (1.4, 2.6)
"""Side of a window over that of the object's box; inference uses 1.7."""


class VideoLessons:
    """Draws clips from annotated videos; what :class:`~napari_virst.training.lessons.SceneLessons` is for scenes.

    Where fewer frames are known than a clip has, frames come twice, each time seen by a slightly different window.

    Parameters
    ----------
    videos
        At least one, each with at least one query.

    Raises
    ------
    InputError
        When there is no video.
    """

    def __init__(self, videos: Sequence[AnnotatedVideo]) -> None:
        if not videos:
            raise InputError("Data to train on must have at least one annotated video; got none.")
        self.videos = tuple(videos)
        self._open = lru_cache(_MAX_OPEN)(self._open_frames)

    def asked(
        self,
        num_scenes: int,
        num_queries: int,
        num_frames: int,
        size: int,
        generator: torch.Generator,
        kinds: Sequence[str],
    ) -> AskedScenes:
        """Draw clips with up to ``num_queries`` of their own queries; ``kinds`` are those of scenes and not asked.

        Raises
        ------
        InputError
            When no video has a query in words.
        """
        rng = np.random.default_rng(int(torch.randint(1 << 62, (), generator=generator)))
        spoken = [number for number, video in enumerate(self.videos) if any(query.text for query in video.queries)]
        if not spoken:
            raise InputError("Language lessons must have queries in words; these videos have masks alone.")
        drawn = [self._ask(int(rng.choice(spoken)), num_queries, num_frames, size, rng) for _ in range(num_scenes)]
        rows = [(number, *pair) for number, (_, pairs) in enumerate(drawn) for pair in pairs]
        frames = torch.stack([frames for frames, _ in drawn])
        return AskedScenes(
            frames,
            torch.zeros(num_scenes, num_frames, size, size, dtype=torch.uint8),
            torch.full((num_scenes, 1, len(TOPICS)), -1, dtype=torch.int64),
            torch.stack([mask for *_, mask in rows]),
            tuple(text for _, text, _ in rows),
            ("video",) * len(rows),
            torch.tensor([number for number, *_ in rows]),
            torch.full((len(rows), len(ATOMS)), -1.0),
        )

    def clips(
        self, num_clips: int, num_frames: int, size: int, generator: torch.Generator, style: ClipStyle
    ) -> SceneBatch:
        """Draw clips of one object each, in windows or as whole frames; mirrored half of the time."""
        rng = np.random.default_rng(int(torch.randint(1 << 62, (), generator=generator)))
        drawn = [self._clip(num_frames, size, style, rng) for _ in range(num_clips)]
        frames, masks = (torch.stack(parts) for parts in zip(*drawn, strict=True))
        return SceneBatch(frames, masks, ("",) * num_clips, ("follow",) * num_clips)

    def _ask(
        self, number: int, num_queries: int, num_frames: int, size: int, rng: np.random.Generator
    ) -> tuple[Tensor, list[tuple[str, Tensor]]]:
        queries = [query for query in self.videos[number].queries if query.text]
        first = queries[int(rng.integers(len(queries)))]
        chosen = _choose_frames(first.frames, num_frames, rng)
        others = [query for query in queries if query is not first and set(chosen) <= set(query.frames)]
        asked = [first, *(others[i] for i in rng.permutation(len(others))[: num_queries - 1])]
        boxes = self._whole_boxes(number, chosen, rng)
        frames_T3SS = self._read(number, chosen, boxes, size)
        return frames_T3SS, [(query.text, _read_masks(query, chosen, boxes, size)) for query in asked]

    def _clip(self, num_frames: int, size: int, style: ClipStyle, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        for _ in range(_TRIES):
            number = int(rng.integers(len(self.videos)))
            queries = self.videos[number].queries
            query = queries[int(rng.integers(len(queries)))]
            chosen = _choose_frames(query.frames, num_frames, rng)
            first = query.mask(chosen[0])
            if not first.any():
                continue
            boxes = self._whole_boxes(number, chosen, rng)
            if style == "window":
                boxes = _window_boxes(first, chosen, rng)
            masks = _read_masks(query, chosen, boxes, size)
            if bool(masks[0].any()):
                frames = self._read(number, chosen, boxes, size)
                is_mirrored = rng.random() < 0.5
                return (frames.flip(-1), masks.flip(-1)) if is_mirrored else (frames, masks)
        raise InputError("Lessons in following must have objects to be seen; the known masks are nearly all empty.")

    def _whole_boxes(self, number: int, chosen: tuple[int, ...], rng: np.random.Generator) -> list[Box]:
        """Whole frames; a frame that comes again is seen by a window of 90 % or more."""
        _, height, width = self._open(number).shape[:3]
        boxes: list[Box] = []
        for place, frame in enumerate(chosen):
            margin = 0.1 * rng.random(4) * (frame in chosen[:place])
            top, left, bottom, right = (margin * (height, width, height, width)).astype(int)
            boxes.append((int(top), int(left), height - int(bottom), width - int(right)))
        return boxes

    def _read(self, number: int, chosen: tuple[int, ...], boxes: list[Box], size: int) -> Tensor:
        frames = self._open(number)
        return torch.stack([_resize(frames[t], box, size) for t, box in zip(chosen, boxes, strict=True)])

    def _open_frames(self, number: int) -> Frames:
        return self.videos[number].open_frames()


def _choose_frames(known: tuple[int, ...], num_frames: int, rng: np.random.Generator) -> tuple[int, ...]:
    """Choose frames in order, evenly spaced among the known ones where there are enough of them."""
    if len(known) < num_frames:
        return tuple(sorted(int(known[i]) for i in rng.integers(len(known), size=num_frames)))
    longest = max(1, min(_LONGEST_STRIDE, (len(known) - 1) // max(1, num_frames - 1)))
    stride = int(rng.integers(1, longest + 1))
    start = int(rng.integers(len(known) - stride * (num_frames - 1)))
    return tuple(known[start + stride * place] for place in range(num_frames))


def _window_boxes(mask_HW: NDArray[np.bool_], chosen: tuple[int, ...], rng: np.random.Generator) -> list[Box]:
    """Square windows about the object of the first frame that wander a little from frame to frame."""
    rows, columns = np.flatnonzero(mask_HW.any(1)), np.flatnonzero(mask_HW.any(0))
    middle = np.array([rows[0] + rows[-1] + 1, columns[0] + columns[-1] + 1]) / 2
    side = max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1
    half = max(8.0, side * rng.uniform(*_WINDOW_SCALES) / 2)
    boxes: list[Box] = []
    for _ in chosen:
        top, left = (middle + rng.normal(0, 0.08, 2) * half - half).round().astype(int)
        reach = round(2 * half * rng.uniform(0.95, 1.05))
        boxes.append((int(top), int(left), int(top) + reach, int(left) + reach))
    return boxes


def _read_masks(query: AnnotatedQuery, chosen: tuple[int, ...], boxes: list[Box], size: int) -> Tensor:
    """(T, S, S) bool."""
    known = {t: query.mask(t) for t in set(chosen)}
    return torch.stack([_resize_mask(known[t], box, size) for t, box in zip(chosen, boxes, strict=True)])


def _resize(image_HW3: NDArray[np.uint8], box: Box, size: int) -> Tensor:
    """Cut out a box, black where it reaches over the edge, and bring it to (3, S, S) uint8."""
    part_13HW = torch.from_numpy(np.ascontiguousarray(_cut(image_HW3, box))).permute(2, 0, 1)[None].float()
    resized = F.interpolate(part_13HW, size=(size, size), mode="bilinear", antialias=True)
    return resized[0].round().clamp(0, 255).byte()


def _resize_mask(mask_HW: NDArray[np.bool_], box: Box, size: int) -> Tensor:
    part_11HW = torch.from_numpy(np.ascontiguousarray(_cut(mask_HW, box)))[None, None].float()
    return F.interpolate(part_11HW, size=(size, size), mode="bilinear", antialias=True)[0, 0] >= 0.5


def _cut(image: NDArray[np.generic], box: Box) -> NDArray[np.generic]:
    top, left, bottom, right = box
    height, width = image.shape[:2]
    part = np.zeros((bottom - top, right - left, *image.shape[2:]), image.dtype)
    rows, columns = slice(max(0, top), min(height, bottom)), slice(max(0, left), min(width, right))
    part[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = image[rows, columns]
    return part
