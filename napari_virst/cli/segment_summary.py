"""What became of a video: ``summary.json``, and the table that is printed."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.table import Table

from napari_virst.cli.report import STDOUT, print_table
from napari_virst.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from napari_virst.cli.spool import MaskSpool
    from napari_virst.records import Anchor, Query


@dataclass(frozen=True)
class TrackSummary:
    """What became of one query."""

    query: str
    labels: str
    """File name of the label stack."""
    num_frames: int
    num_frames_done: int
    spans_done: tuple[tuple[int, int], ...]
    """(first, beyond the last) of the frames that were done, empty or not."""
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
    source: str | None
    """Path of the video, in full."""
    shape: tuple[int, int, int]
    model: str
    device: str
    options: dict[str, Any] = field(default_factory=dict)
    """What was typed beside video, queries and model: names of options and their values."""
    interrupted: bool = False
    notes: tuple[str, ...] = ()
    """What was chosen or is odd about the video, and what went wrong with a query."""
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


def summarise(
    query: Query,
    name: str,
    spool: MaskSpool,
    anchors: tuple[Anchor, ...],
    presence: list[float],
    unknown: tuple[str, ...],
    seconds: float,
) -> TrackSummary:
    """Sum up one query; `presence` is what was said of each frame that the model did, `seconds` what its batch took."""
    shown = sorted(frame for frame, area in spool.areas_px.items() if area)
    mean_presence = float(np.mean(presence)) if presence else math.nan
    return TrackSummary(
        query=query.name,
        labels=name,
        num_frames=spool.shape[0],
        num_frames_done=len(spool),
        spans_done=_spans(sorted(spool.areas_px)),
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


def _spans(frames: list[int]) -> tuple[tuple[int, int], ...]:
    starts = [frame for number, frame in enumerate(frames) if not number or frames[number - 1] < frame - 1]
    ends = [frame for number, frame in enumerate(frames) if frame == frames[-1] or frames[number + 1] > frame + 1]
    return tuple((start, end + 1) for start, end in zip(starts, ends, strict=True))


def show(summary: Summary, out: Path) -> None:
    """Print a summary as a table."""
    table = Table(title=f"{summary.video}: {summary.shape[0]} frames of {summary.shape[2]}×{summary.shape[1]}")
    for column in ("query", "found on", "frames", "presence", "frames/s", "labels"):
        table.add_column(column, overflow="fold")
    for track in summary.tracks:
        found = "not in this video" if track.not_in_video else f"{track.num_frames_with_object} of {track.num_frames}"
        where = "" if track.first_frame is None else f"{track.first_frame}–{track.last_frame}"
        presence = "" if track.mean_presence is None else f"{track.mean_presence:.2f}"
        table.add_row(track.query, found, where, presence, f"{track.frames_per_s:.1f}", track.labels)
    print_table(table)
    STDOUT.print(f"Label stacks (T, Y, X) and summary.json are in {out}", markup=False)
