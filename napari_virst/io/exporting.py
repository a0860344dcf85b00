"""Labels in the formats that trainers read: COCO, DAVIS, YouTube-VOS, MeViS, YOLO, Cell Tracking Challenge.

>>> with open_labelled("project") as labels:
...     report = export_labels([labels], Path("dataset"), "coco")
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from napari_virst.errors import InputError
from napari_virst.io.export_folder import ExportFolder
from napari_virst.io.export_plan import ExportPlan, plan_export
from napari_virst.io.export_writing import FrameImages
from napari_virst.io.labelled import LabelledVideo, open_labelled

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from napari_virst.io.export_writing import ExportWriter
    from napari_virst.io.video import Video

__all__ = ["ExportFormat", "ExportReport", "LabelledVideo", "export_labels", "open_labelled"]

_SPLITS = ("train", "val", "valid", "test")


class ExportFormat(StrEnum):
    """Names of the formats."""

    COCO = "coco"
    DAVIS = "davis"
    YOUTUBE_VOS = "youtube-vos"
    MEVIS = "mevis"
    YOLO = "yolo"
    CTC = "ctc"


@dataclass(frozen=True)
class ExportReport:
    """What was exported."""

    format: str
    num_videos: int
    num_frames: int
    num_frames_left_out: int
    num_objects: int
    queries: tuple[str, ...]
    has_images: bool
    notes: tuple[str, ...]
    """What was left out, lost or chosen, one sentence each."""


def export_labels(
    videos: Sequence[LabelledVideo],
    out: Path,
    format: str | ExportFormat,
    *,
    only_reviewed: bool = False,
    images: Sequence[Video] | None = None,
    split: str = "train",
    overwrite: bool = False,
    on_frame: Callable[[int, int], None] = lambda num_done, num_frames: None,
) -> ExportReport:
    """Write labels as a data set, one frame in memory at a time; ``docs/export.md`` says what each format keeps.

    Parameters
    ----------
    videos
        One or more, from :func:`open_labelled`.
    out
        A folder that is new or empty. ``export.json`` in it says what was exported, and that all of it is there.
    format
        "coco", "davis", "youtube-vos", "mevis", "yolo" or "ctc".
    only_reviewed
        Only frames that a person corrected or accepted, for every query of the video. A video without any is left out.
    images
        The videos, open, in the same order, where their frames shall be written too.
    split
        "train", "val", "valid" or "test"; names folders and lists of davis, youtube-vos, mevis and yolo.
    overwrite
        Replace an export that is in ``out``.
    on_frame
        Told how many frames are done, and of how many.

    Raises
    ------
    InputError
        When something cannot be exported so, or written; nothing is left of a stopped export.
    """
    if format not in list(ExportFormat):
        raise InputError(f'The format must be one of {", ".join(ExportFormat)}; got "{format}"; choose one.')
    if split not in _SPLITS:
        raise InputError(f'The split must be one of {", ".join(_SPLITS)}; got "{split}"; choose one.')
    if not videos or (images is not None and len(images) != len(videos)):
        raise InputError("An export must have one or more videos, and images of all of them or none; check the lists.")
    folder = ExportFolder(out, overwrite)
    plans = plan_export(videos, only_reviewed)
    if images is not None:
        exported = {id(plan.video) for plan in plans}
        images = [image for video, image in zip(videos, images, strict=True) if id(video) in exported]
    with folder, ExitStack() as stack:
        writer = _open_writer(ExportFormat(format), folder.path, split, stack)
        _check_objects(plans, writer, format)
        shown = _open_images(plans, images, stack)
        notes = [note for plan in plans for note in plan.notes]
        notes += [note for image in shown if image is not None for note in image.notes]
        notes += _write(plans, shown, writer, on_frame)
        report = _report(plans, format, images is not None, tuple(notes))
        folder.keep({**asdict(report), "only_reviewed": only_reviewed, "videos": [_description(p) for p in plans]})
    return report


def _open_writer(format_: ExportFormat, root: Path, split: str, stack: ExitStack) -> ExportWriter:
    from napari_virst.io.export_coco import CocoWriter
    from napari_virst.io.export_ctc import CtcWriter
    from napari_virst.io.export_mevis import MevisWriter
    from napari_virst.io.export_palette import DavisWriter, YoutubeVosWriter
    from napari_virst.io.export_yolo import YoloWriter

    if format_ in (ExportFormat.COCO, ExportFormat.MEVIS):
        streaming = CocoWriter(root) if format_ is ExportFormat.COCO else MevisWriter(root, split)
        stack.callback(streaming.close)
        return streaming
    if format_ is ExportFormat.CTC:
        return CtcWriter(root)
    if format_ is ExportFormat.YOLO:
        return YoloWriter(root, split)
    return DavisWriter(root, split) if format_ is ExportFormat.DAVIS else YoutubeVosWriter(root, split)


def _check_objects(plans: Sequence[ExportPlan], writer: ExportWriter, format_: str) -> None:
    for plan in plans:
        if len(plan.objects) > writer.max_objects:
            raise InputError(
                f"A video must have {writer.max_objects} objects at most in the format {format_}; got "
                f"{len(plan.objects)} in {plan.name}; choose coco or mevis, or export queries one by one (--track)."
            )


def _open_images(
    plans: Sequence[ExportPlan], images: Sequence[Video] | None, stack: ExitStack
) -> list[FrameImages | None]:
    if images is None:
        return [None] * len(plans)
    shown = [FrameImages(video, plan) for video, plan in zip(images, plans, strict=True)]
    for image in shown:
        stack.callback(image.close)
    return list(shown)


def _write(
    plans: Sequence[ExportPlan],
    images: Sequence[FrameImages | None],
    writer: ExportWriter,
    on_frame: Callable[[int, int], None],
) -> list[str]:
    """Write all videos; return notes."""
    notes: list[str] = []
    num_done, num_frames = 0, sum(len(plan.frames) for plan in plans)
    for plan, image in zip(plans, images, strict=True):
        writer.begin(plan, image)
        for frame in plan.frames:
            writer.put(frame)
            num_done += 1
            on_frame(num_done, num_frames)
        notes += writer.end()
    return [*notes, *writer.finish()]


def _report(plans: Sequence[ExportPlan], format_: str, has_images: bool, notes: tuple[str, ...]) -> ExportReport:
    names = dict.fromkeys(track.query.name for plan in plans for track in plan.tracks)
    num_frames = sum(len(plan.frames) for plan in plans)
    return ExportReport(
        str(format_),
        len(plans),
        num_frames,
        sum(plan.video.shape[0] for plan in plans) - num_frames,
        sum(len(plan.objects) for plan in plans),
        tuple(names),
        has_images,
        notes,
    )


def _description(plan: ExportPlan) -> dict[str, Any]:
    return {
        "name": plan.name,
        "source": str(plan.video.path),
        "shape": plan.video.shape,
        "num_frames": len(plan.frames),
        "objects": [
            {
                "number": one.number,
                "query": plan.name_of(one),
                "label": one.label,
                "parent": one.parent,
                "mean_area_px": round(one.mean_area_px, 1),
            }
            for one in plan.objects
        ],
    }
