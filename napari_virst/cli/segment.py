"""``napari-virst segment``: a video, queries and masks in, label stacks and a summary out."""

from __future__ import annotations

import logging
import re
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from napari_virst.cli.folders import check_folder, check_unmixed
from napari_virst.cli.report import as_options, note, progress_bar
from napari_virst.cli.sampling import read_frame_sample
from napari_virst.cli.segment_request import (
    CorrectionArgument,
    SegmentRequest,
    check_excluded,
    plan_queries,
    read_anchors,
)
from napari_virst.cli.segment_summary import Summary, TrackSummary, summarise
from napari_virst.cli.spool import MaskSpool
from napari_virst.cli.stopping import heeding_ctrl_c
from napari_virst.engine.cropping import CroppedFrames, Region
from napari_virst.engine.protocol import LearningSegmenter, run_together
from napari_virst.engine.runner import readable
from napari_virst.errors import InputError, VideoError, VirstError
from napari_virst.io.masks import write_label_stack
from napari_virst.io.video import open_video
from napari_virst.records import Job, Span
from napari_virst.session import sentences
from napari_virst.session.working import MAX_TOGETHER

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from napari_virst.cli.stopping import CtrlC
    from napari_virst.engine.protocol import Frames, Segmenter
    from napari_virst.model.processing import FrameSample
    from napari_virst.records import Anchor, FrameResult, Query

logger = logging.getLogger(__name__)


def run_segment(request: SegmentRequest, wake: Callable[[FrameSample | None], Callable[[], Segmenter]]) -> Summary:
    """Check what was typed, open the video, and follow every query through it.

    Parameters
    ----------
    request
        What was typed.
    wake
        Takes the frames that grounding shall look at, None for its own choice; returns what loads the model.

    Raises
    ------
    InputError
        Or a child of it, when something typed cannot be used.
    """
    check_folder(request.out, "-o")
    check_unmixed(request.out, request.source)
    corrections = [CorrectionArgument.parse(text) for text in request.corrections]
    region = Region.parse(request.region) if request.region is not None else None
    queries = plan_queries(request.queries, corrections)
    opened = open_video(request.video, axes=request.axes, channel=request.channel, z=request.plane)
    with opened, opened.reader() as frames:
        remarks = tuple(as_options(remark) for remark in opened.notes)
        for remark in remarks:
            note(remark)
        anchors = read_anchors(corrections, opened.shape, request.label)
        sampled = request.frames_sampled
        sample = read_frame_sample(sampled, opened.num_frames) if sampled is not None else None
        excluded = check_excluded(request.excluded_anchors, opened.num_frames)
        return segment(
            frames,
            queries,
            anchors,
            wake(sample),
            request.out,
            video_name=opened.name,
            source=request.source,
            options=request.typed,
            remarks=remarks,
            region=region,
            excluded_anchors=excluded,
            learn=request.learn,
        )


def file_name(query: Query, taken: set[str]) -> str:
    """Return a file name for a query's labels that no other query has."""
    stem = re.sub(r"[^\w]+", "-", query.name.lower()).strip("-")[:60] or "query"
    name, count = f"{stem}.tif", 2
    while name in taken:
        name, count = f"{stem}-{count}.tif", count + 1
    taken.add(name)
    return name


@dataclass
class Followed:
    """One query at work: its job, its masks on disk, and what was said of its presence."""

    job: Job
    spool: MaskSpool
    presence: dict[int, float] = field(default_factory=dict)
    seconds: float = 0.0
    """Of its batch."""
    error: Exception | None = None
    """What ended it early."""

    def put(self, result: FrameResult, region: Region | None) -> None:
        """Keep one result."""
        mask: NDArray[np.bool_] = result.mask if region is None else region.paste(result.mask, self.spool.shape[1:])
        self.spool.put(result.frame, mask)
        self.presence[result.frame] = result.presence


def follow(
    segmenter: Segmenter,
    frames: Frames,
    followed: Sequence[Followed],
    title: str,
    region: Region | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> None:
    """Run the jobs as one batch into their spools, with a progress bar over the frames of all."""
    for one in followed:
        for anchor in one.job.anchors:
            one.spool.put(anchor.frame, anchor.mask)
    seen, start_s = CroppedFrames(frames, region) if region is not None else frames, time.monotonic()
    asked = [region.crop_job(one.job) if region is not None else one.job for one in followed]
    with progress_bar(title, sum(len(job.span) for job in asked)) as update:
        try:
            for job in asked:
                if job.learn:
                    _learn(segmenter, seen, job, should_stop)
            for index, result in run_together(segmenter, seen, asked, should_stop):
                followed[index].put(result, region)
                update(sum(len(one.spool) for one in followed))
        finally:
            for one in followed:
                one.seconds = time.monotonic() - start_s


def _follow_or_note(
    segmenter: Segmenter,
    frames: Frames,
    followed: Sequence[Followed],
    region: Region | None,
    should_stop: Callable[[], bool],
) -> None:
    """Run jobs as one batch, and where that fails each alone; what ends one early is noted in it."""
    try:
        follow(segmenter, frames, followed, _title([one.job.query for one in followed]), region, should_stop)
    except Exception as error:
        if len(followed) == 1 or isinstance(error, VideoError):  # a frame that cannot be read fails them all
            for one in followed:
                one.error = error
            return
        is_known = isinstance(error, VirstError)
        logger.warning("Queries failed together and are tried alone: %s", error, exc_info=not is_known)
        for one in followed:
            _follow_or_note(segmenter, frames, [one], region, should_stop)


def _learn(segmenter: Segmenter, frames: Frames, job: Job, should_stop: Callable[[], bool]) -> None:
    """Say what comes of learning from the corrections; the run uses it."""
    learned = segmenter.learn(frames, job, should_stop) if isinstance(segmenter, LearningSegmenter) else None
    if not should_stop():
        note(sentences.too_few_to_learn() if learned is None else sentences.learned(learned))


def _follow_all(
    segmenter: Segmenter, frames: Frames, followed: Sequence[Followed], region: Region | None, ctrl_c: CtrlC
) -> bool:
    """Follow in batches of a few; return whether Ctrl+C ended it."""
    with suppress(KeyboardInterrupt):
        for start in range(0, len(followed), MAX_TOGETHER):
            _follow_or_note(segmenter, frames, followed[start : start + MAX_TOGETHER], region, ctrl_c.is_pressed)
            if ctrl_c.is_pressed():
                return True
        return False
    return True


def segment(
    frames: Frames,
    queries: list[Query],
    anchors: tuple[Anchor, ...],
    wake: Callable[[], Segmenter],
    out: Path,
    *,
    video_name: str,
    source: str | None = None,
    options: dict[str, Any] | None = None,
    remarks: tuple[str, ...] = (),
    region: Region | None = None,
    excluded_anchors: frozenset[int] = frozenset(),
    learn: bool = False,
) -> Summary:
    """Follow every query through the whole video, in batches of a few.

    Writes one label stack each, and ``summary.json``; the time it says of a query is that of its batch. Where a query
    fails the others go on, and what is finished of all is written before the first error is raised again.
    """
    shape = frames.shape[:3]
    if region is not None:
        region.check(shape[1:])
    segmenter = wake()
    _make_folder(out)
    unknown = [segmenter.unknown_words(query.text) if query.text else () for query in queries]
    for word in dict.fromkeys(word for words in unknown for word in words):
        note(f"'{word}' is unknown to the {segmenter.name} model and was ignored; the full model knows it.")
    with heeding_ctrl_c() as ctrl_c, ExitStack() as stack:
        followed = [
            Followed(
                Job(query, Span(0, shape[0]), anchors, excluded_anchors, learn=learn),
                stack.enter_context(MaskSpool(shape, out)),
            )
            for query in queries
        ]
        interrupted = _follow_all(segmenter, frames, followed, region, ctrl_c)
        ctrl_c.start_writing()
        taken = set[str]()
        tracks = [_write(one, out, taken, words, interrupted) for one, words in zip(followed, unknown, strict=True)]
        errors = [(one.job.query.name, one.error) for one in followed if one.error is not None]
        notes = (*remarks, *(f"“{name}”: {error}" for name, error in errors))
        summary = Summary(
            video_name,
            source,
            shape,
            segmenter.name,
            segmenter.device,
            options or {},
            interrupted,
            notes,
            tuple(tracks),
        )
        summary.write(out)
    for _, error in errors:
        raise readable(error)
    return summary


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"-o must be a folder that can be made; got {error.strerror} for {out}; choose another."
        ) from error


def _title(queries: list[Query]) -> str:
    return queries[0].name if len(queries) == 1 else f"{len(queries)} queries"


def _write(one: Followed, out: Path, taken: set[str], unknown: tuple[str, ...], interrupted: bool) -> TrackSummary:
    """Write the label stack of a query; what is unfinished is empty there."""
    query, spool = one.job.query, one.spool
    name = file_name(query, taken)
    write_label_stack(out / name, spool.label_frames(), spool.shape)
    if interrupted or one.error is not None:
        note(f"Stopped; {len(spool)} of {spool.shape[0]} frames of “{query.name}” are in {out / name}.")
    return summarise(query, name, spool, one.job.anchors, list(one.presence.values()), unknown, one.seconds)
