"""Real videos with true masks: benchmarks with expressions, and what people painted in their projects."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import tifffile

from napari_virst.errors import InputError, ProjectError
from napari_virst.io.datasets import Benchmark, open_dataset
from napari_virst.io.project import ProjectFolder
from napari_virst.io.video import open_video
from napari_virst.records import Provenance

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_virst.engine.protocol import Frames
    from napari_virst.io.datasets import Expression, ExpressionDataset
    from napari_virst.io.project import ProjectRecord, TrackRecord

PROJECT = "project"
"""The kind of data that is a folder of annotation projects; the others are benchmarks."""


@dataclass(frozen=True, eq=False)
class AnnotatedQuery:
    """A query whose answer is known on some frames."""

    text: str
    """Empty where a mask alone was followed."""
    frames: tuple[int, ...]
    """Frames whose true mask is known, in order."""
    mask: Callable[[int], NDArray[np.bool_]]
    """The true mask (H, W) bool of one of them."""


@dataclass(frozen=True, eq=False)
class AnnotatedVideo:
    """A video with queries."""

    name: str
    open_frames: Callable[[], Frames]
    """Opens the frames, (H, W, 3) uint8 RGB each."""
    queries: tuple[AnnotatedQuery, ...]


def find_annotated(folder: Path, kind: str, split: str = "train") -> tuple[AnnotatedVideo, ...]:
    """Return the videos of a folder that have at least one known mask.

    Parameters
    ----------
    folder
        A benchmark's own folder; for "project" a project folder or a folder of such.
    kind
        "project", "mevis", "ref-youtube-vos", "ref-davis" or "revos".
    split
        Of a benchmark.

    Raises
    ------
    InputError, ProjectError
        When the folder holds nothing to learn from, or something in it is damaged.
    """
    kinds = (PROJECT, *Benchmark)
    if kind not in kinds:
        raise InputError(f'The kind of data must be one of {", ".join(kinds)}; got "{kind}"; choose one.')
    videos = tuple(_projects(folder) if kind == PROJECT else _benchmark(open_dataset(folder, kind, split)))
    known = tuple(video for video in videos if video.queries)
    if not known:
        raise InputError(
            f'Data to train on must have known masks; "{folder}" has none '
            + ("that a person painted or accepted." if kind == PROJECT else f'in its split "{split}".')
        )
    return known


def _benchmark(dataset: ExpressionDataset) -> Iterator[AnnotatedVideo]:
    by_video: dict[str, list[Expression]] = {}
    for expression in dataset.expressions:
        by_video.setdefault(expression.video, []).append(expression)
    for name, expressions in by_video.items():
        frames = dataset.annotated_frames(expressions[0])
        asked = tuple(
            AnnotatedQuery(expression.text, frames, partial(_truth, dataset, expression))
            for expression in expressions
            if frames and expression.targets is not None
        )
        yield AnnotatedVideo(name, partial(dataset.open_frames, expressions[0]), asked)


def _truth(dataset: ExpressionDataset, expression: Expression, frame: int) -> NDArray[np.bool_]:
    shape = dataset.open_frames(expression).shape
    mask = dataset.truth(expression, frame, (shape[1], shape[2]))
    assert mask is not None
    return mask


def _projects(folder: Path) -> Iterator[AnnotatedVideo]:
    roots = (
        [folder] if ProjectFolder(folder).exists else [path.parent for path in sorted(folder.glob("*/project.json"))]
    )
    if not roots:
        raise ProjectError(
            f'A folder of projects must hold a project.json, or folders that do; "{folder}" does not; '
            "give the folder in which a session was saved."
        )
    for root in roots:
        project = ProjectFolder(root)
        record = project.load()
        project.check_files(record)
        yield _project(project, record)


def _project(project: ProjectFolder, record: ProjectRecord) -> AnnotatedVideo:
    source = record.video.source
    if source is None:
        raise ProjectError(
            f"A project to learn from must know the file of its video; the one in {project.root} was made from an "
            "array; save the video as a file, open it, and annotate it there."
        )
    queries = [_track(project, track) for track in record.tracks]
    frames = partial(_open_frames, source, record.video.shape)
    return AnnotatedVideo(record.video.name, frames, tuple(query for query in queries if query.frames))


def _track(project: ProjectFolder, track: TrackRecord) -> AnnotatedQuery:
    """The frames of a track that belong to a person; the model's own answers are not the truth."""
    path = project.mask_path(track.track_id)
    provenance_T = np.load(path.with_suffix(".npy"), mmap_mode="r")["provenance"]
    owned = tuple(int(frame) for frame in np.flatnonzero(provenance_T >= Provenance.CORRECTED))
    return AnnotatedQuery(track.query.text, owned, partial(_painted, path))


def _painted(path: Path, frame: int) -> NDArray[np.bool_]:
    labels_THW = tifffile.memmap(path, mode="r")
    return np.asarray(labels_THW[frame] > 0)


def _open_frames(source: str, shape: tuple[int, int, int]) -> Frames:
    frames = open_video(source).reader()
    if tuple(frames.shape[:3]) != shape:
        raise ProjectError(
            f'The video of a project must be the one that was annotated, {shape}; "{source}" is {frames.shape[:3]}; '
            "put the right file back in its place."
        )
    return frames
