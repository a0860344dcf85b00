"""Follows annotated clips: by a given mask and by language, beside copying and warping the first mask.

Layout of a folder of clips: ``<clip>/frames/`` or ``<clip>/video.mp4``, ``<clip>/masks/`` with label images of the
frames' stems, ``<clip>/meta.json`` with ``objects: [{id, expressions, mask_frames}]``.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from napari_virst.errors import InputError
from napari_virst.evaluation.flow import warp_masks
from napari_virst.evaluation.metrics import MeanScore, region_similarity, score_frames
from napari_virst.io.image_frames import frame_names
from napari_virst.io.masks import read_mask
from napari_virst.io.video import open_video
from napari_virst.records import Anchor, Job, Query, Span

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_virst.engine.protocol import Frames, Segmenter


@dataclass(frozen=True)
class ClipObject:
    """One annotated object of a clip."""

    label: int
    expressions: tuple[str, ...]
    first_frame: int


@dataclass(frozen=True)
class ObjectScore:
    """How well one object was followed; NaN where nothing could be scored."""

    mean_j: float
    """Mean J over the annotated frames after the first, whose true mask is given."""
    mean_j_copy: float
    """The same when the first mask is copied."""
    mean_j_flow: float
    """The same when it is warped by optical flow."""
    num_frames: int
    expressions: dict[str, MeanScore] = field(default_factory=dict)
    """Expression to J and F over all annotated frames, when language alone says what to follow."""


@dataclass(frozen=True)
class ClipScore:
    """How well one clip was followed."""

    name: str
    num_frames: int
    objects: dict[int, ObjectScore]

    @property
    def mean_j(self) -> float:
        """Mean J over all later annotated frames of all objects, first masks given."""
        return self._over_frames("mean_j")

    @property
    def mean_j_copy(self) -> float:
        """The same when the first masks are copied."""
        return self._over_frames("mean_j_copy")

    @property
    def mean_j_flow(self) -> float:
        """The same when they are warped by optical flow."""
        return self._over_frames("mean_j_flow")

    @property
    def language(self) -> MeanScore:
        """J and F by language alone, averaged over all expressions of all objects."""
        scores = [score for item in self.objects.values() for score in item.expressions.values() if score.num_frames]
        num_frames = sum(score.num_frames for score in scores)
        return MeanScore(num_frames, mean([score.j for score in scores]), mean([score.f for score in scores]))

    def _over_frames(self, name: str) -> float:
        scored = [item for item in self.objects.values() if item.num_frames]
        if not scored:
            return math.nan
        return float(np.average([getattr(item, name) for item in scored], weights=[item.num_frames for item in scored]))


class AnnotatedClip:
    """A clip with its video and true masks.

    Parameters
    ----------
    folder
        The clip's folder.

    Raises
    ------
    InputError
        When it is not such a folder.
    """

    def __init__(self, folder: Path) -> None:
        meta_file = folder / "meta.json"
        movies = sorted(folder.glob("video.*"))
        if not meta_file.is_file() or not ((folder / "frames").is_dir() or movies):
            raise InputError(
                f'A clip must be a folder with meta.json and frames/ or a video.* file; got "{folder}"; '
                "give one clip, or a folder of clips."
            )
        meta = json.loads(meta_file.read_text(encoding="utf-8"))
        self.name = folder.name
        self.video = folder / "frames" if (folder / "frames").is_dir() else movies[0]
        self.mask_files = {path.stem: path for path in sorted((folder / "masks").glob("*"))}
        stems = tuple(meta.get("stems") or ())
        self.stems = frame_names(self.video) if self.video.is_dir() else stems
        self.objects = tuple(_objects(meta)) if self.mask_files else ()

    def mask(self, frame: int, label: int, shape: tuple[int, int]) -> NDArray[np.bool_] | None:
        """Return the true mask (H, W) bool of an object, or None on a frame without annotation."""
        path = self.mask_files.get(self.stems[frame]) if frame < len(self.stems) else None
        return None if path is None else read_mask(path, shape, label=label)


def _objects(meta: dict[str, object]) -> Iterator[ClipObject]:
    for entry in meta["objects"]:  # type: ignore[attr-defined]
        spans = entry.get("mask_frames") or [[0, 0]]
        yield ClipObject(int(entry["id"]), tuple(entry["expressions"]), int(spans[0][0]))


def find_clips(folder: Path) -> list[AnnotatedClip]:
    """Return the clips of a folder of clips, or the one clip that ``folder`` is."""
    if (folder / "meta.json").is_file():
        return [AnnotatedClip(folder)]
    clips = [AnnotatedClip(path.parent) for path in sorted(folder.glob("*/meta.json"))]
    if not clips:
        raise InputError(f'A folder of clips must hold */meta.json; "{folder}" does not; choose another folder.')
    return clips


def score_clip(segmenter: Segmenter, clip: AnnotatedClip, *, with_language: bool = True) -> ClipScore:
    """Follow every listed object of a clip, by its first mask and by each of its expressions.

    Parameters
    ----------
    segmenter
        What follows.
    clip
        What is followed; its true masks are asked for on every frame, and only the first is shown.
    with_language
        Whether to ask each expression too, without any mask.
    """
    with open_video(clip.video) as video, video.reader() as frames:
        shape = frames.shape[1:3]
        first = {item.label: clip.mask(item.first_frame, item.label, shape) for item in clip.objects}
        given = {item.label: (item.first_frame, first[item.label]) for item in clip.objects}
        shown = {label: (start, mask) for label, (start, mask) in given.items() if mask is not None}
        flow = _flow_scores(frames, clip, shown)
        objects = {}
        for item in clip.objects:
            if item.label in shown:
                ours, copied = follow_object(segmenter, frames, clip, item)
                flowed = mean(flow.get(item.label, []))
                asked = item.expressions if with_language else ()
                language = {text: follow_words(segmenter, frames, clip, item.label, text) for text in asked}
                objects[item.label] = ObjectScore(mean(ours), mean(copied), flowed, len(ours), language)
        return ClipScore(clip.name, video.num_frames, objects)


def follow_object(
    segmenter: Segmenter, frames: Frames, clip: AnnotatedClip, item: ClipObject
) -> tuple[list[float], list[float]]:
    """Follow one object from its first frame on; return J per annotated frame, and J of copying the first mask."""
    shape = frames.shape[1:3]
    first = clip.mask(item.first_frame, item.label, shape)
    if first is None:
        return [], []
    span = Span(item.first_frame, frames.shape[0])
    job = Job(Query("", name=str(item.label)), span, (Anchor(item.first_frame, first),))
    masks = last_masks(segmenter, frames, job)
    truths = [(frame, clip.mask(frame, item.label, shape)) for frame in sorted(masks)]
    known = [(masks[frame], truth) for frame, truth in truths if truth is not None]
    ours = [region_similarity(mask, truth) for mask, truth in known]
    return ours, [region_similarity(first, truth) for _, truth in known]


def follow_words(segmenter: Segmenter, frames: Frames, clip: AnnotatedClip, label: int, text: str) -> MeanScore:
    """Follow an expression through the whole clip; return J and F over the annotated frames."""
    masks = last_masks(segmenter, frames, Job(Query(text), Span(0, frames.shape[0])))
    truths = ((mask, clip.mask(frame, label, frames.shape[1:3])) for frame, mask in sorted(masks.items()))
    return score_frames((mask, truth) for mask, truth in truths if truth is not None)


def last_masks(segmenter: Segmenter, frames: Frames, job: Job) -> dict[int, NDArray[np.bool_]]:
    """Run a job to its end; of a frame that is returned twice the last mask counts."""
    return {result.frame: result.mask for result in segmenter.run(frames, job, lambda: False)}


def _flow_scores(
    frames: Frames, clip: AnnotatedClip, given: dict[int, tuple[int, NDArray[np.bool_]]]
) -> dict[int, list[float]]:
    scores: dict[int, list[float]] = {label: [] for label in given}
    for frame, masks in warp_masks(frames, given):
        for label, mask in masks.items():
            truth = clip.mask(frame, label, frames.shape[1:3])
            if truth is not None:
                scores[label].append(region_similarity(mask, truth))
    return scores


def mean(values: list[float]) -> float:
    """Return the mean, or NaN where there is nothing."""
    return float(np.mean(values)) if values else math.nan
