"""``napari-virst segment``: a video, queries and masks in, label stacks and a summary out."""

from __future__ import annotations

import json
import logging
import math
import re
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from napari_virst.cli.report import note, progress_bar
from napari_virst.cli.spool import MaskSpool
from napari_virst.engine.cropping import CroppedFrames, Region
from napari_virst.engine.protocol import LearningSegmenter, run_together
from napari_virst.errors import InputError, MaskError, QueryError, VideoError
from napari_virst.io.masks import read_mask, write_label_stack
from napari_virst.records import Anchor, Job, Query, Span
from napari_virst.session import sentences
from napari_virst.session.working import MAX_TOGETHER

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_virst.engine.protocol import Frames, Segmenter
    from napari_virst.records import FrameResult

logger = logging.getLogger(__name__)

ABSENT = "absent"


@dataclass(frozen=True)
class CorrectionArgument:
    """``FRAME=MASK`` as typed; MASK is a file, or "absent"."""

    frame: int
    mask: str

    @classmethod
    def parse(cls, text: str) -> CorrectionArgument:
        """Read ``FRAME=MASK``.

        Raises
        ------
        MaskError
            When it has another form.
        """
        match = re.fullmatch(r"\s*(\d+)\s*=\s*(.+)", text)
        if match is None:
            raise MaskError(f'--correct must be FRAME=MASK, e.g. 0=first.png or 12=absent; got "{text}".')
        return cls(int(match[1]), match[2].strip())


@dataclass(frozen=True)
class TrackSummary:
    """What became of one query."""

    query: str
    labels: str
    """File name of the label stack."""
    num_frames: int
    num_frames_done: int
    num_frames_with_object: int
    first_frame: int | None
    last_frame: int | None
    corrected_frames: tuple[int, ...]
    mean_presence: float | None
    not_in_video: bool
    unknown_words: tuple[str, ...]
    seconds: float
    frames_per_s: float


@dataclass(frozen=True)
class Summary:
    """What became of one video."""

    video: str
    shape: tuple[int, int, int]
    model: str
    device: str
    interrupted: bool = False
    notes: tuple[str, ...] = ()
    tracks: tuple[TrackSummary, ...] = field(default_factory=tuple)

    def write(self, folder: Path) -> None:
        """Write ``summary.json``.

        Raises
        ------
        InputError
            When it cannot be written.
        """
        text = json.dumps(asdict(self), indent=2, allow_nan=False) + "\n"
        try:
            (folder / "summary.json").write_text(text, encoding="utf-8")
        except OSError as error:
            raise InputError(
                f"The output folder must have room for summary.json; got {error.strerror} for {folder}; make room."
            ) from error


def read_anchors(
    corrections: list[CorrectionArgument], shape: tuple[int, int, int], label: int | None
) -> tuple[Anchor, ...]:
    """Read the masks of ``--correct`` as user anchors, one per frame, in order.

    Raises
    ------
    MaskError
        When a frame is outside the video or given twice, or a mask does not fit.
    """
    num_frames, height, width = shape
    anchors: dict[int, Anchor] = {}
    for correction in corrections:
        if correction.frame >= num_frames or correction.frame in anchors:
            problem = "given twice" if correction.frame in anchors else f"beyond the last frame, {num_frames - 1}"
            raise MaskError(f"--correct must name each frame once; frame {correction.frame} is {problem}.")
        if correction.mask == ABSENT:
            mask = np.zeros((height, width), np.bool_)
        else:
            mask = read_mask(correction.mask, (height, width), label=label)
            if not mask.any():
                raise MaskError(
                    f'The mask "{correction.mask}" must show the object; it is empty; '
                    f'say "{correction.frame}={ABSENT}" where the object cannot be seen.'
                )
        anchors[correction.frame] = Anchor(correction.frame, mask)
    return tuple(anchors[frame] for frame in sorted(anchors))


def plan_queries(texts: list[str], has_anchors: bool) -> list[Query]:
    """Turn what was typed into queries; a mask alone is followed under the name "object".

    Raises
    ------
    QueryError
        When there is nothing to follow, or masks come with several queries.
    """
    if has_anchors and len(texts) > 1:
        raise QueryError(f"--correct must come with one query; got {len(texts)}; run them one after the other.")
    if not texts and not has_anchors:
        raise QueryError('Give a query, e.g. "the red circle", or a mask, e.g. --correct 0=first.png; got neither.')
    return [Query(text) for text in texts] or [Query("", name="object")]


def file_name(query: Query, taken: set[str]) -> str:
    """Return a file name for a query's labels that no other query has."""
    stem = re.sub(r"[^\w]+", "-", query.name.lower()).strip("-")[:60] or "query"
    name, count = f"{stem}.tif", 2
    while name in taken:
        name, count = f"{stem}-{count}.tif", count + 1
    taken.add(name)
    return name


class Interrupted(Exception):
    """Ctrl+C was pressed; what was finished is in the spool."""


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
    segmenter: Segmenter, frames: Frames, followed: Sequence[Followed], title: str, region: Region | None = None
) -> None:
    """Run the jobs as one batch into their spools, with a progress bar over the frames of all.

    Raises
    ------
    Interrupted
        When Ctrl+C is pressed.
    """
    for one in followed:
        for anchor in one.job.anchors:
            one.spool.put(anchor.frame, anchor.mask)
    seen, start_s = CroppedFrames(frames, region) if region is not None else frames, time.monotonic()
    asked = [region.crop_job(one.job) if region is not None else one.job for one in followed]
    with progress_bar(title, sum(len(job.span) for job in asked)) as update:
        try:
            for job in asked:
                if job.learn:
                    _learn(segmenter, seen, job)
            for index, result in run_together(segmenter, seen, asked, lambda: False):
                followed[index].put(result, region)
                update(sum(len(one.spool) for one in followed))
        except KeyboardInterrupt:
            raise Interrupted from None
        finally:
            for one in followed:
                one.seconds = time.monotonic() - start_s


def _follow_or_note(
    segmenter: Segmenter, frames: Frames, followed: Sequence[Followed], region: Region | None = None
) -> None:
    """Run jobs as one batch, and where that fails each alone; what ends one early is noted in it."""
    try:
        follow(segmenter, frames, followed, _title([one.job.query for one in followed]), region)
    except Interrupted:
        raise
    except Exception as error:
        if len(followed) == 1 or isinstance(error, VideoError):  # a frame that cannot be read fails them all
            for one in followed:
                one.error = error
            return
        logger.warning("Queries failed together and are tried alone", exc_info=True)
        for one in followed:
            _follow_or_note(segmenter, frames, [one], region)


def _learn(segmenter: Segmenter, frames: Frames, job: Job) -> None:
    """Say what comes of learning from the corrections; the run uses it."""
    learned = segmenter.learn(frames, job, lambda: False) if isinstance(segmenter, LearningSegmenter) else None
    note(sentences.too_few_to_learn() if learned is None else sentences.learned(learned))


def segment(
    frames: Frames,
    queries: list[Query],
    anchors: tuple[Anchor, ...],
    wake: Callable[[], Segmenter],
    out: Path,
    *,
    video_name: str,
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
    interrupted = False
    with ExitStack() as stack:
        followed = [
            Followed(
                Job(query, Span(0, shape[0]), anchors, excluded_anchors, learn=learn),
                stack.enter_context(MaskSpool(shape, out)),
            )
            for query in queries
        ]
        try:
            for start in range(0, len(followed), MAX_TOGETHER):
                _follow_or_note(segmenter, frames, followed[start : start + MAX_TOGETHER], region)
        except Interrupted:
            interrupted = True
        taken = set[str]()
        tracks = [_write(one, out, taken, words, interrupted) for one, words in zip(followed, unknown, strict=True)]
    errors = [(one.job.query.name, one.error) for one in followed if one.error is not None]
    notes = tuple(f"“{name}”: {error}" for name, error in errors)
    summary = Summary(video_name, shape, segmenter.name, segmenter.device, interrupted, notes, tuple(tracks))
    summary.write(out)
    for _, error in errors:
        raise error
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
    return _summarise(query, name, spool, one.job.anchors, list(one.presence.values()), unknown, one.seconds)


def _summarise(
    query: Query,
    name: str,
    spool: MaskSpool,
    anchors: tuple[Anchor, ...],
    presence: list[float],
    unknown: tuple[str, ...],
    seconds: float,
) -> TrackSummary:
    shown = sorted(frame for frame, area in spool.areas_px.items() if area)
    mean_presence = float(np.mean(presence)) if presence else math.nan
    return TrackSummary(
        query=query.name,
        labels=name,
        num_frames=spool.shape[0],
        num_frames_done=len(spool),
        num_frames_with_object=len(shown),
        first_frame=shown[0] if shown else None,
        last_frame=shown[-1] if shown else None,
        corrected_frames=tuple(anchor.frame for anchor in anchors),
        mean_presence=None if math.isnan(mean_presence) else round(mean_presence, 4),
        not_in_video=not shown and len(spool) == spool.shape[0],
        unknown_words=unknown,
        seconds=round(seconds, 3),
        frames_per_s=round(len(presence) / seconds, 2) if seconds else 0.0,
    )


def check_excluded(frames: list[int], num_frames: int) -> frozenset[int]:
    """Return the frames of ``--exclude-anchor``.

    Raises
    ------
    InputError
        When one is outside the video.
    """
    if outside := [frame for frame in frames if not 0 <= frame < num_frames]:
        raise InputError(f"--exclude-anchor must name frames from 0 to {num_frames - 1}; got {outside[0]}; correct it.")
    return frozenset(frames)


def check_output(out: Path) -> None:
    """Refuse an output folder that is a file.

    Raises
    ------
    InputError
        When ``out`` exists and is no folder.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f'-o must be a folder; "{out}" is a file; choose another name.')
