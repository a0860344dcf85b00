"""Labels that are done, to be handed on: a project folder, a result folder of ``segment``, or one label TIFF."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_virst.errors import InputError, ProjectError
from napari_virst.io._images import TIFF_SUFFIXES
from napari_virst.io.mask_files import FRAME_RECORD
from napari_virst.io.masks import read_label_stack
from napari_virst.io.project import ProjectFolder
from napari_virst.records import Provenance, Query

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from types import TracebackType

    from numpy.typing import NDArray

    from napari_virst.io.masks import LabelStack
    from napari_virst.io.project import ProjectRecord, TrackRecord

_SUMMARY = "summary.json"


@dataclass(frozen=True, eq=False)
class LabelledTrack:
    """One query and its labels."""

    query: Query
    frame: Callable[[int], NDArray[np.uint16]]
    """Labels (H, W) uint16 of a frame, 0 = background, one value per instance."""
    is_known: NDArray[np.bool_]
    """(T,) bool: frames that a run reached or a person made; elsewhere an empty mask means nothing."""
    is_reviewed: NDArray[np.bool_] | None = None
    """(T,) bool: frames that a person corrected or accepted; None where nobody noted it."""
    parents: Mapping[int, int] = field(default_factory=dict)
    """Label of an instance to that of its parent, 0 = none."""
    file_name: str = ""
    """Of the label stack."""


@dataclass(frozen=True, eq=False)
class LabelledVideo:
    """The labels of one video. Made by :func:`open_labelled`; close it, or use it in a ``with`` statement."""

    name: str
    path: Path
    """What was opened, in full."""
    shape: tuple[int, int, int]
    """(T, H, W)."""
    tracks: tuple[LabelledTrack, ...]
    video_path: Path | None = None
    """Where the video itself was; None where that is not known."""
    view: Mapping[str, Any] = field(default_factory=dict)
    """Which "axes", "channel" and "z" of it were chosen, as typed; what is missing was not."""
    pixels: str | None = None
    """See :attr:`napari_virst.io.project.VideoRecord.pixels`."""
    notes: tuple[str, ...] = ()
    stacks: tuple[LabelStack, ...] = ()
    """Files that are open."""

    def __enter__(self) -> LabelledVideo:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the files; reading labels raises from now on, those of a project aside."""
        for stack in self.stacks:
            stack.close()

    def only(self, names: Collection[str]) -> LabelledVideo:
        """Return the same video with the tracks of some queries alone, by name, words or name of their file."""
        wanted = {name.strip() for name in names}
        chosen = (t for t in self.tracks if not wanted.isdisjoint({t.query.name, t.query.text, t.file_name}))
        return replace(self, tracks=tuple(chosen))


def open_labelled(path: str | Path) -> LabelledVideo:
    """Open labels to hand them on; nothing is written, and a session may have the project open meanwhile.

    Parameters
    ----------
    path
        A project folder, a folder that ``napari-virst segment`` wrote, or a label TIFF (T, H, W). A TIFF inside either
        folder is opened with what the folder knows of it.

    Raises
    ------
    InputError
        When it is none of them, or a file is missing or damaged (MaskError).
    ProjectError
        When the project is damaged.
    """
    path = Path(path).expanduser().resolve()
    if (path / "project.json").is_file():
        return _open_project(path)
    if (path / _SUMMARY).is_file():
        return _open_results(path)
    if problem := _problem(path):
        raise InputError(
            f'Labels must be a project folder, a folder of results or a label TIFF; got "{path}", but {problem}; '
            "give the folder in which they were saved."
        )
    return _open_within_folder(path) or _open_stack(path)


def _problem(path: Path) -> str | None:
    """Say why a path that is no folder of labels is no label TIFF either."""
    if path.is_file():
        return None if path.suffix.lower() in TIFF_SUFFIXES else "it is a file of another kind"
    if not path.is_dir():
        return "there is no such file"
    if any((child / name).is_file() for child in path.iterdir() for name in ("project.json", _SUMMARY)):
        return "it holds several of these folders; give each of them, all by */ behind it"
    return "it holds neither project.json nor summary.json"


def _open_within_folder(path: Path) -> LabelledVideo | None:
    """Open one track of the folder that a label TIFF belongs to; without it, frames never reached would look empty."""
    for folder in (path.parent, path.parent.parent):
        if (folder / "project.json").is_file() or (folder / _SUMMARY).is_file():
            whole = open_labelled(folder)
            if any(track.file_name == path.name for track in whole.tracks):
                return whole.only([path.name])
            whole.close()
    return None


def _open_stack(path: Path) -> LabelledVideo:
    stack = read_label_stack(path)
    track = LabelledTrack(Query("", path.stem), stack.frame, np.ones(len(stack), np.bool_), file_name=path.name)
    return LabelledVideo(path.stem, path, stack.shape, (track,), stacks=(stack,))


def _open_project(root: Path) -> LabelledVideo:
    project = ProjectFolder(root)
    record = project.load()
    project.check_files(record)
    tracks = tuple(_project_track(project, record, track) for track in record.tracks)
    source = None if record.video.source is None else Path(record.video.source)
    return LabelledVideo(record.video.name, root, record.video.shape, tracks, source, pixels=record.video.pixels)


def _project_track(project: ProjectFolder, record: ProjectRecord, track: TrackRecord) -> LabelledTrack:
    import tifffile

    path = project.mask_path(track.track_id)
    try:
        labels = tifffile.memmap(path, mode="r")
        records = np.load(path.with_suffix(".npy"), mmap_mode="r")
        if labels.shape != record.video.shape or labels.dtype != np.uint16:
            raise ValueError(f"it holds {labels.shape} {labels.dtype}")
        if records.shape != record.video.shape[:1] or records.dtype != FRAME_RECORD:
            raise ValueError(f"the records hold {records.shape} {records.dtype}")
    except (OSError, ValueError, tifffile.TiffFileError) as error:
        raise ProjectError(
            f"A track must have a mask file of {record.video.shape} uint16 and its records; got {path} ({error}); "
            "restore the file from a copy."
        ) from error
    provenances = np.array(records["provenance"])
    return LabelledTrack(
        track.query,
        partial(_copied, labels),
        provenances != Provenance.EMPTY,
        provenances >= Provenance.CORRECTED,
        track.lineage or {},
        path.name,
    )


def _copied(labels: NDArray[np.uint16], frame: int) -> NDArray[np.uint16]:
    return np.array(labels[frame])


def _open_results(folder: Path) -> LabelledVideo:
    summary = _read_summary(folder)
    stacks: list[LabelStack] = []
    try:
        shape = tuple(int(size) for size in summary["shape"])
        tracks = tuple(_result_track(folder, entry, shape, stacks) for entry in summary["tracks"])
        name, source, options = str(summary["video"]), summary.get("source"), dict(summary.get("options", {}))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        for stack in stacks:
            stack.close()
        if isinstance(error, InputError):
            raise
        raise _not_a_summary(folder, repr(error)) from error
    view = {key: value for key, value in options.items() if key in ("axes", "channel", "z")}
    return LabelledVideo(
        name,
        folder,
        stacks[0].shape,
        tracks,
        None if source is None else Path(source),
        view,
        notes=_notes_on_results(name, tracks, options.get("region")),
        stacks=tuple(stacks),
    )


def _notes_on_results(name: str, tracks: tuple[LabelledTrack, ...], region: str | None) -> tuple[str, ...]:
    notes = [
        f"{name}: the run of “{track.query.name}” was stopped before it was done."
        for track in tracks
        if not track.is_known.all()
    ]
    if region is not None:
        notes.append(f"{name}: only the region {region} was looked at; beyond it nothing is labelled.")
    return tuple(notes)


def _read_summary(folder: Path) -> dict[str, Any]:
    try:
        summary = json.loads((folder / _SUMMARY).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _not_a_summary(folder, str(error)) from error
    if not isinstance(summary, dict) or not summary.get("tracks"):
        raise _not_a_summary(folder, "it tells of no query")
    return summary


def _not_a_summary(folder: Path, problem: str) -> InputError:
    return InputError(
        f'A folder of results must have the summary.json that "napari-virst segment" writes; got "{folder}": '
        f"{problem}; run it again."
    )


def _result_track(
    folder: Path, entry: dict[str, Any], shape: tuple[int, ...], stacks: list[LabelStack]
) -> LabelledTrack:
    file_name = Path(entry["labels"]).name
    stack = read_label_stack(folder / file_name)
    stacks.append(stack)
    if stack.shape != shape:
        raise InputError(
            f"The labels of a query must have the shape that summary.json says, {shape}; got {stack.shape} in "
            f'"{file_name}"; run it again.'
        )
    reviewed = np.zeros(shape[0], np.bool_)
    reviewed[list(entry["corrected_frames"])] = True
    is_known = reviewed.copy()
    for start, stop in entry["spans_done"]:
        is_known[start:stop] = True
    return LabelledTrack(Query(entry["query"]), stack.frame, is_known, reviewed, file_name=file_name)
