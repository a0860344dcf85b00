"""Follows given masks on annotated clips: ours beside copying the first mask.

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
from napari_virst.evaluation.metrics import mean_region_similarity, region_similarity
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
class ClipScore:
    """How well one clip was followed from the true mask of each object's first frame."""

    name: str
    num_frames: int
    mean_j: float
    """Mean J over all later annotated frames of all objects."""
    mean_j_copy: float
    """The same when the first mask is copied."""
    objects: dict[int, tuple[float, float]] = field(default_factory=dict)
    """Label to (J, J of copying)."""


class AnnotatedClip:
    """A clip with its video and true masks.

    Parameters
    ----------
    folder
        The clip's folder.
    """

    def __init__(self, folder: Path) -> None:
        meta_file = folder / "meta.json"
        if not meta_file.is_file():
            raise InputError(
                f'A clip must be a folder with a meta.json; got "{folder}"; give one clip, or a folder of clips.'
            )
        meta = json.loads(meta_file.read_text(encoding="utf-8"))
        self.name = folder.name
        self.video = folder / "frames" if (folder / "frames").is_dir() else next(folder.glob("video.*"))
        self.mask_files = {path.stem: path for path in sorted((folder / "masks").glob("*"))}
        self.stems = [p.stem for p in sorted(self.video.iterdir())] if self.video.is_dir() else []
        self.objects = tuple(_objects(meta)) if self.mask_files else ()

    def mask(self, frame: int, label: int, shape: tuple[int, int]) -> NDArray[np.bool_] | None:
        """Return the true mask (H, W) bool of an object, or None on a frame without annotation."""
        path = self.mask_files.get(self.stems[frame])
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
    ours, copied = [], []
    for result in segmenter.run(frames, job, lambda: False):
        truth = clip.mask(result.frame, item.label, shape)
        if truth is not None:
            ours.append(region_similarity(result.mask, truth))
            copied.append(region_similarity(first, truth))
    return ours, copied


def score_clip(segmenter: Segmenter, clip: AnnotatedClip) -> ClipScore:
    """Follow every listed object of a clip."""
    with open_video(clip.video) as video, video.reader() as frames:
        scores = {item.label: follow_object(segmenter, frames, clip, item) for item in clip.objects}
        objects = {label: (_mean(ours), _mean(copied)) for label, (ours, copied) in scores.items() if ours}
        everything = [[j for pair in scores.values() for j in pair[k]] for k in (0, 1)]
        return ClipScore(clip.name, video.num_frames, _mean(everything[0]), _mean(everything[1]), objects)


def _mean(values: list[float]) -> float:
    return float(np.mean(values)) if values else math.nan


__all__ = [
    "AnnotatedClip",
    "ClipObject",
    "ClipScore",
    "find_clips",
    "follow_object",
    "mean_region_similarity",
    "score_clip",
]
