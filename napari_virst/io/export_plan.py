"""What an export will hold, found out before anything is written: frames, objects, and what has to be left out."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from skimage.measure import regionprops

from napari_virst.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_virst.io.labelled import LabelledTrack, LabelledVideo

_NUM_LABELS = 1 << 16


@dataclass(frozen=True)
class ExportObject:
    """One instance of one query, the same in every frame."""

    number: int
    """1…, over all queries of the video."""
    track: int
    """Which query, from 0."""
    label: int
    """Its value in the labels of the query."""
    parent: int = 0
    """Number of the object that it came from by division; 0 = none."""
    mean_area_px: float = 0.0
    """Over the exported frames that show it."""


@dataclass(frozen=True, eq=False)
class ObjectMask:
    """Where a frame shows an object."""

    object: ExportObject
    mask: NDArray[np.bool_]
    """(h, w) bool, the smallest part of the frame that holds the object."""
    corner: tuple[int, int]
    """(y, x) of the part's upper left pixel."""

    @property
    def area_px(self) -> int:
        """Number of pixels."""
        return int(np.count_nonzero(self.mask))


@dataclass(frozen=True, eq=False)
class ExportPlan:
    """What is exported of one video."""

    video: LabelledVideo
    name: str
    """Fit for a file name, and no other video's."""
    frames: tuple[int, ...]
    """Numbers in the video, in order."""
    objects: tuple[ExportObject, ...]
    notes: tuple[str, ...] = ()

    @property
    def tracks(self) -> tuple[LabelledTrack, ...]:
        """The queries."""
        return self.video.tracks

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        return self.video.shape[1:]

    def objects_of(self, track: int) -> tuple[ExportObject, ...]:
        """Return the instances of a query."""
        return tuple(one for one in self.objects if one.track == track)

    def name_of(self, one: ExportObject) -> str:
        """Return what the query of an object is called."""
        return self.tracks[one.track].query.name

    def labels(self, frame: int) -> tuple[NDArray[np.uint16], ...]:
        """Return the labels (H, W) uint16 of every query on a frame."""
        return tuple(track.frame(frame) for track in self.tracks)

    def masks(self, frame: int) -> Iterator[ObjectMask]:
        """Yield the mask of every object that a frame shows, in order of number; masks may overlap."""
        for track, labels in enumerate(self.labels(frame)):
            for region in regionprops(labels):
                if (track, region.label) not in self._by_label:
                    raise self.changed(frame)
                yield ObjectMask(self._by_label[track, region.label], region.image, region.bbox[:2])

    def changed(self, frame: int) -> InputError:
        """Return what to say where a frame has labels that it had not when this plan was made."""
        return InputError(
            f'Labels must stay as they are while they are exported; frame {frame} of "{self.video.path}" has others '
            "now; export them again when the run or the change has ended."
        )

    @cached_property
    def _by_label(self) -> dict[tuple[int, int], ExportObject]:
        return {(one.track, one.label): one for one in self.objects}

    @cached_property
    def numbers_by_label(self) -> tuple[NDArray[np.uint16], ...]:
        """For every query (65536,) uint16: label to number of the object."""
        tables = tuple(np.zeros(_NUM_LABELS, np.uint16) for _ in self.tracks)
        for one in self.objects:
            tables[one.track][one.label] = one.number
        return tables


class Flattening:
    """Puts all objects of a video into one value per pixel; where they overlap, the smaller one lies on top.

    Smaller is decided by the mean area over the exported frames, so that the order is the same on every frame; of
    equals, the later query lies on top.

    Parameters
    ----------
    plan
        Of the video.
    """

    def __init__(self, plan: ExportPlan) -> None:
        self._plan = plan
        by_rank = sorted(plan.objects, key=lambda one: (-one.mean_area_px, one.number))
        self._ranks = np.zeros(len(plan.objects) + 1, np.int64)
        self._ranks[[one.number for one in by_rank]] = np.arange(1, len(by_rank) + 1)
        self._tracks = np.array([0, *(one.track for one in plan.objects)])
        self._lost_px: Counter[int] = Counter()
        self._all_px: Counter[int] = Counter()
        self._overlapping: set[int] = set()

    def flat(self, frame: int) -> NDArray[np.uint16]:
        """Return the numbers of the objects of a frame, (H, W) uint16, 0 = background."""
        flat = np.zeros(self._plan.size, np.uint16)
        for number, labels in enumerate(self._plan.labels(frame)):
            table = self._plan.numbers_by_label[number]
            above = table[labels]
            num_px = int(np.count_nonzero(above))
            if num_px != np.count_nonzero(labels):
                raise self._plan.changed(frame)
            self._all_px[number] += num_px
            is_above = self._ranks[above] > self._ranks[flat]
            below = np.where(is_above, flat, above)[(above > 0) & (flat > 0)]
            if below.size:
                self._overlapping.add(frame)
                self._lost_px.update(self._tracks[below].tolist())
            flat = np.where(is_above, above, flat)
        return flat

    @property
    def notes(self) -> tuple[str, ...]:
        """What overlapped so far, one sentence or none."""
        if not self._overlapping:
            return ()
        lost = ", ".join(
            f"“{self._plan.tracks[track].query.name}” loses {px / self._all_px[track]:.1%} of its pixels"
            for track, px in sorted(self._lost_px.items())
        )
        return (
            f"{self._plan.name}: objects overlap on {len(self._overlapping)} frames, and this format has one value per "
            f"pixel: the object that is smaller on average lies on top; {lost}. coco, mevis and yolo keep overlaps.",
        )


def plan_export(videos: Sequence[LabelledVideo], only_reviewed: bool = False) -> tuple[ExportPlan, ...]:
    """Find out what an export of some videos will hold; reads every label once.

    A frame is exported where it is known for every query of its video: were it not for one of them, the frame would
    say that its object is not there. A video without such a frame is left out, where another has one.

    Raises
    ------
    InputError
        When there is no query, no frame to export, or nobody noted which frames a person reviewed.
    """
    taken: set[str] = set()
    plans: list[ExportPlan] = []
    without: list[_NoFrameError] = []
    for video, name in zip(videos, _tell_apart(videos), strict=True):
        try:
            plans.append(_plan(video, only_reviewed, _file_name(name, taken)))
        except _NoFrameError as error:
            without.append(error)
    if not plans:
        raise without[0]
    left_out = tuple(f"{error.path} is left out: {error.reason}." for error in without)
    return (replace(plans[0], notes=(*left_out, *_twice(plans), *plans[0].notes)), *plans[1:])


class _NoFrameError(InputError):
    """A video has no frame to export; another may have."""

    def __init__(self, path: Path, reason: str, way_out: str, every: str) -> None:
        super().__init__(f'An export must have a frame{every}; "{path}" has none: {reason}; {way_out} first.')
        self.path, self.reason = path, reason


def _tell_apart(videos: Sequence[LabelledVideo]) -> list[str]:
    """Return the names of videos; of those that share one, the names of their folders, where these differ."""
    paths: dict[str, list[str]] = {}
    for video in videos:
        paths.setdefault(video.name, []).append(video.path.name)
    is_told = {name: len(set(folders)) == len(folders) > 1 for name, folders in paths.items()}
    return [video.path.name if is_told[video.name] else video.name for video in videos]


def _twice(plans: Sequence[ExportPlan]) -> tuple[str, ...]:
    """Say which videos a data set holds more than once; a person may want other labels, or another view, of one."""
    names: dict[Path, list[str]] = {}
    for plan in plans:
        if plan.video.video_path is not None:
            names.setdefault(plan.video.video_path, []).append(plan.name)
    return tuple(
        f"{', '.join(several)} are labels of one and the same video, {path}."
        for path, several in names.items()
        if len(several) > 1
    )


def _plan(video: LabelledVideo, only_reviewed: bool, name: str) -> ExportPlan:
    if not video.tracks:
        raise InputError(f'Labels to export must hold a query; "{video.path}" has none; ask for something first.')
    frames, left_out = _choose_frames(video, only_reviewed)
    notes = [*video.notes, *left_out]
    objects: list[ExportObject] = []
    for number, track in enumerate(video.tracks):
        objects += _find_objects(track, number, frames, len(objects))
    shown = {one.track for one in objects}
    absent = [track.query.name for number, track in enumerate(video.tracks) if number not in shown]
    notes += [f"{name}: “{query}” shows nothing on the exported frames." for query in absent]
    return ExportPlan(video, name, frames, tuple(objects), tuple(notes))


def _choose_frames(video: LabelledVideo, only_reviewed: bool) -> tuple[tuple[int, ...], tuple[str, ...]]:
    known = np.logical_and.reduce([track.is_known for track in video.tracks])
    chosen = known.copy()
    if only_reviewed:
        for track in video.tracks:
            if track.is_reviewed is None:
                raise InputError(
                    f'Labels must say which frames a person reviewed to export these alone; "{video.path}" does not; '
                    "give the project folder, or export all frames."
                )
            chosen &= track.is_reviewed
    num_unreached, num_unreviewed = int(np.count_nonzero(~known)), int(np.count_nonzero(known & ~chosen))
    several = " of every query" if len(video.tracks) > 1 else ""
    notes = []
    if num_unreached:
        unfinished = ", ".join(f"“{track.query.name}”" for track in video.tracks if not track.is_known.all())
        notes.append(
            f"{video.name}: {num_unreached} of {known.size} frames are left out, since {unfinished} was not followed "
            "there: an empty mask would not be the truth."
        )
    if num_unreviewed:
        notes.append(
            f"{video.name}: {num_unreviewed} of {known.size} frames are left out, since nobody corrected or accepted "
            f"the mask{several} there."
        )
    if not chosen.any():
        counts = {"not reached": num_unreached, "not reviewed": num_unreviewed}
        reason = ", ".join(f"{count} frames were {what}" for what, count in counts.items() if count)
        every = " that is known for every query" if several else ""
        raise _NoFrameError(video.path, reason, _way_out(video, only_reviewed, num_unreached), every)
    return tuple(np.flatnonzero(chosen).tolist()), tuple(notes)


def _way_out(video: LabelledVideo, only_reviewed: bool, num_unreached: int) -> str:
    alone = [track.is_reviewed if only_reviewed else track.is_known for track in video.tracks]
    if len(alone) > 1 and any(frames is not None and frames.any() for frames in alone):
        return "export queries one by one (--track)"
    return "finish the run" if num_unreached else "review"


def _find_objects(
    track: LabelledTrack, track_number: int, frames: tuple[int, ...], num_before: int
) -> list[ExportObject]:
    areas_px, counts = np.zeros(_NUM_LABELS, np.int64), np.zeros(_NUM_LABELS, np.int64)
    for frame in frames:
        here = np.bincount(track.frame(frame).ravel(), minlength=_NUM_LABELS)
        areas_px += here
        counts += here > 0
    labels = [label for label in np.flatnonzero(counts).tolist() if label]
    numbers = {label: num_before + n for n, label in enumerate(labels, 1)}
    return [
        ExportObject(
            numbers[label],
            track_number,
            label,
            numbers.get(track.parents.get(label, 0), 0),
            float(areas_px[label] / counts[label]),
        )
        for label in labels
    ]


def _file_name(name: str, taken: set[str]) -> str:
    stem = re.sub(r"[^\w.-]+", "-", name).strip("-.") or "video"
    unique, count = stem, 2
    while unique.lower() in taken:
        unique, count = f"{stem}-{count}", count + 1
    taken.add(unique.lower())
    return unique
