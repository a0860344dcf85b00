"""``napari-virst demo`` without a window: ask, correct one frame, let the video follow, look at the result."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from importlib.metadata import entry_points
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np

from napari_virst.cli.folders import check_folder
from napari_virst.cli.report import STDOUT, note, progress_bar
from napari_virst.engine.runner import InlineRunner
from napari_virst.evaluation.metrics import region_similarity
from napari_virst.io.masks import write_label_stack
from napari_virst.io.overlay import write_overlay
from napari_virst.io.video import open_video
from napari_virst.session.session import AnnotationSession

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_virst.engine.protocol import Segmenter
    from napari_virst.records import Progress, Span
    from napari_virst.session.track import Track


@dataclass(frozen=True)
class DemoReport:
    """What the demo did; J is the intersection over union with the sample's true masks, 0…1."""

    query: str
    num_frames: int
    seconds_to_first_mask: float | None
    seconds_total: float
    mean_j_asked: float | None
    """None of a question to which no true masks are known."""
    corrected_frame: int
    recomputed: str
    num_frames_changed: int
    mean_j_corrected: float | None
    labels: str
    overlay: str
    project: str

    def show(self) -> None:
        """Print one screen."""
        STDOUT.print(f"Asked      “{self.query}” of {self.num_frames} frames")
        if self.seconds_to_first_mask is not None:
            STDOUT.print(f"First mask {self.seconds_to_first_mask:.1f} s after asking, the model's start included")
        asked = "unknown, there are no true masks to this question"
        if self.mean_j_asked is not None:
            asked = f"{self.mean_j_asked:.2f} with the true masks (mean IoU)"
        STDOUT.print(f"Agreement  {asked}")
        STDOUT.print(f"Corrected  frame {self.corrected_frame}; recomputed {self.recomputed}")
        now = "" if self.mean_j_corrected is None else f"; agreement now {self.mean_j_corrected:.2f}"
        STDOUT.print(f"Followed   {self.num_frames_changed} other frames changed{now}")
        STDOUT.print(f"Masks      {self.labels}")
        STDOUT.print(f"Look at    {self.overlay}")
        STDOUT.print(f"Project    {self.project} (open it again in napari)")
        STDOUT.print(f"Time       {self.seconds_total:.1f} s")


def can_open_window() -> bool:
    """Whether napari is installed and there is a display to open it on."""
    if find_spec("napari") is None or find_spec("qtpy") is None:
        return False
    return not sys.platform.startswith("linux") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def open_window(query: str | None) -> None:
    """Open the demo window that is installed under the entry point "demo"; returns when it is closed."""
    (entry,) = entry_points(group="napari_virst.windows", name="demo")
    entry.load()(query)


def run_headless(out: Path, wake: Callable[[], Segmenter], query: str | None = None) -> DemoReport:
    """Segment the sample, correct its worst frame with the true mask, re-propagate, and write everything to ``out``."""
    check_folder(out, "-o")
    note("Drawing the sample.")
    from napari_virst.training.scenes import sample_scene

    sample = sample_scene()
    asked = query or sample.queries[0]
    truth = sample.masks[sample.queries.index(asked)] if asked in sample.queries else None
    start_s = time.monotonic()
    first_mask_s: list[float] = []
    folder = _fresh(out / "project")
    with open_video(sample.frames, name=sample.name) as video, video.reader() as frames:
        session = AnnotationSession(frames, wake, InlineRunner(), folder, video_name=sample.name)
        session.frame_changed.connect(lambda *_: first_mask_s.append(time.monotonic() - start_s))
        problems: list[str] = []
        session.failed.connect(problems.append)
        session.notice.connect(note)
        track = _ask(session, asked, video.num_frames)
        before = track.masks[:] > 0
        frame = _worst(before, truth)
        span = _correct(session, track, frame, truth if truth is not None else before)
        after = track.masks[:] > 0
        labels, overlay = out / "labels.tif", out / "overlay.gif"
        write_label_stack(labels, (f.astype(np.uint16) for f in after), after.shape)
        write_overlay(overlay, frames, after, corrected_frames=(frame,))
        session.close()
    changed = sum(bool((a != b).any()) for t, (a, b) in enumerate(zip(before, after, strict=True)) if t != frame)
    return DemoReport(
        query=asked,
        num_frames=len(after),
        seconds_to_first_mask=round(first_mask_s[0], 2) if first_mask_s else None,
        seconds_total=round(time.monotonic() - start_s, 2),
        mean_j_asked=_mean_j(before, truth),
        corrected_frame=frame,
        recomputed=str(span),
        num_frames_changed=changed,
        mean_j_corrected=_mean_j(after, truth),
        labels=str(labels),
        overlay=str(overlay),
        project=str(folder),
    )


def _ask(session: AnnotationSession, query: str, num_frames: int) -> Track:
    with progress_bar(f"“{query}”", num_frames) as update:
        return _watched(session, update, lambda: session.ask(query))


def _watched(session: AnnotationSession, update: Callable[[int], None], act: Callable[[], Track]) -> Track:
    def show_progress(progress: Progress) -> None:
        update(progress.num_done)

    session.progress.connect(show_progress)
    try:
        return act()
    finally:
        session.progress.disconnect(show_progress)


def _correct(session: AnnotationSession, track: Track, frame: int, truth: NDArray[np.bool_]) -> Span:
    span = session.give_mask(track, frame, truth[frame])
    with progress_bar(f"correcting frame {frame}", len(span)) as update:

        def follow_again() -> Track:
            session.repropagate(track, focus_frame=frame)
            return track

        _watched(session, update, follow_again)
    return span


def _worst(masks: NDArray[np.bool_], truth: NDArray[np.bool_] | None) -> int:
    """Return the frame that agrees least with the truth; the middle one where there is no truth."""
    if truth is None:
        return len(masks) // 2
    scores = [region_similarity(m, t) if t.any() else 1.0 for m, t in zip(masks, truth, strict=True)]
    return int(np.argmin(scores))


def _mean_j(masks: NDArray[np.bool_], truth: NDArray[np.bool_] | None) -> float | None:
    if truth is None:
        return None
    return round(float(np.mean([region_similarity(m, t) for m, t in zip(masks, truth, strict=True)])), 4)


def _fresh(folder: Path) -> Path:
    """Return ``folder``, or the first free name beside it: a project is never overwritten."""
    candidate, count = folder, 2
    while candidate.exists():
        candidate, count = folder.with_name(f"{folder.name}-{count}"), count + 1
    return candidate
