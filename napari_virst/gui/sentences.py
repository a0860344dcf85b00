"""What the window says: pure functions from records to short texts."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from napari_virst.records import Provenance

if TYPE_CHECKING:
    from napari_virst.records import Progress, Span

_PROVENANCE = {
    Provenance.EMPTY: "nothing here yet",
    Provenance.PREDICTED: "predicted (anchor)",
    Provenance.PROPAGATED: "propagated",
    Provenance.CORRECTED: "corrected",
    Provenance.ACCEPTED: "accepted",
}


def duration(seconds: float) -> str:
    """Say a duration as a person would.

    Examples
    --------
    >>> duration(0.4), duration(35.2), duration(260), duration(5400)
    ('1 s', '35 s', '4 min 20 s', '1 h 30 min')
    """
    whole = max(1, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def progress(now: Progress) -> str:
    """Say how far a job has come: stage, frames, speed, time left; what is not known is left out.

    Examples
    --------
    >>> from napari_virst.records import Progress
    >>> progress(Progress(num_done=40, num_total=120, elapsed_s=4.0, stage="following"))
    'following · 40/120 frames · 10.0 frames/s · 8 s left'
    >>> progress(Progress(num_done=0, num_total=120, elapsed_s=4.0, stage="waking the model"))
    'waking the model …'
    """
    if not now.num_done:
        return f"{now.stage or 'starting'} …"
    parts = [now.stage] if now.stage else []
    parts += [f"{now.num_done}/{now.num_total} frames", f"{now.frames_per_s:.1f} frames/s"]
    if now.num_done < now.num_total and math.isfinite(now.remaining_s):
        parts.append(f"{duration(now.remaining_s)} left")
    return " · ".join(parts)


def finished(now: Progress) -> str:
    """Say that a job has ended, and how long it took.

    Examples
    --------
    >>> from napari_virst.records import Progress
    >>> finished(Progress(num_done=120, num_total=120, elapsed_s=8.4))
    'done · 120 frames in 8 s'
    """
    if not now.num_done:
        return "stopped"
    state = "done" if now.num_done >= now.num_total else "stopped"
    return f"{state} · {now.num_done} frames in {duration(now.elapsed_s)}"


def frame(index: int, provenance: Provenance, presence: float, predicted_iou: float) -> str:
    """Say where the mask of a frame comes from; the model's estimates only where the mask is the model's.

    Examples
    --------
    >>> from napari_virst.records import Provenance
    >>> frame(12, Provenance.PROPAGATED, presence=0.93, predicted_iou=0.81)
    'frame 12: propagated, presence 0.93, predicted IoU 0.81'
    >>> frame(12, Provenance.CORRECTED, presence=0.93, predicted_iou=0.81)
    'frame 12: corrected'
    """
    text = f"frame {index}: {_PROVENANCE[provenance]}"
    if provenance in (Provenance.PREDICTED, Provenance.PROPAGATED):
        for name, value in (("presence", presence), ("predicted IoU", predicted_iou)):
            text += f", {name} {value:.2f}" if math.isfinite(value) else ""
    return text


def plan(span: Span | None, seconds: float | None) -> str:
    """Say what re-propagation would do, as "frames 312–488, about 35 s"; empty when there is nothing to do.

    Examples
    --------
    >>> from napari_virst.records import Span
    >>> plan(Span(312, 489), 35.0), plan(Span(312, 489), None), plan(None, None)
    ('frames 312–488, about 35 s', 'frames 312–488', '')
    """
    if span is None or not len(span):
        return ""
    return str(span) + (f", about {duration(seconds)}" if seconds is not None and math.isfinite(seconds) else "")
