"""What the window says: pure functions from records to short texts."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from napari_virst.records import Provenance, Span

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from napari_virst.io.exporting import ExportReport
    from napari_virst.records import Progress

NOTHING_TO_REPROPAGATE = "Nothing to re-propagate: paint or commit a frame first."
ALL_SETTLED = "Nothing to re-propagate: every frame is yours, or locked."
NONE_BESIDE = "Nothing to re-propagate: the frames that your correction could change are yours, or locked."
ALL_REVIEWED = "You have seen every frame that is worth a look; N begins anew."
NONE_REVIEWED_BEFORE = "No frame was suggested before this one; press N for one."
LEARNING = "Learning from your corrections in the background …"
UNTIL_REVIEWED = (NOTHING_TO_REPROPAGATE, ALL_SETTLED, NONE_BESIDE, ALL_REVIEWED, NONE_REVIEWED_BEFORE)
"""No longer true, or no longer to the point, as soon as a frame was gone to."""

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


def progress(now: Progress, *, waits: bool = False, of: Sequence[str] = ()) -> str:
    """Say how far a job has come: stage, frames, speed, time left; what is not known is left out.

    ``waits``: it is the job before the one that is looked at. ``of``: the queries it is of, where that is another.

    Examples
    --------
    >>> from napari_virst.records import Progress
    >>> progress(Progress(num_done=40, num_total=120, elapsed_s=4.0, stage="following"))
    'following · 40/120 frames · 10.0 frames/s · 8 s left'
    >>> progress(Progress(num_done=0, num_total=120, elapsed_s=4.0, stage="waking the model"))
    'waking the model …'
    >>> progress(Progress(num_done=0, num_total=120, elapsed_s=4.0, stage="following"), waits=True)
    'Waits for the run before it · following …'
    >>> progress(Progress(num_done=0, num_total=120, elapsed_s=4.0, stage="following"), of=("the star",))
    '“the star” · following …'
    """
    if waits:
        return f"Waits for the run before it · {progress(now)}"
    if of:
        return " · ".join([", ".join(f"“{name}”" for name in of), progress(now)])
    if not now.num_done:
        return f"{now.stage or 'starting'} …"
    parts = [now.stage] if now.stage else []
    parts += [f"{now.num_done}/{num_frames(now.num_total)}", f"{now.frames_per_s:.1f} frames/s"]
    if now.num_done < now.num_total and math.isfinite(now.remaining_s):
        parts.append(f"{duration(now.remaining_s)} left")
    return " · ".join(parts)


def finished(now: Progress, *, is_complete: bool = False) -> str:
    """Say that a job has ended, and how long it took.

    ``is_complete``: nothing is left to compute, also where fewer frames came than were asked for, since following
    ends where its answers agree with what is held.

    Examples
    --------
    >>> from napari_virst.records import Progress
    >>> finished(Progress(num_done=120, num_total=120, elapsed_s=8.4))
    'done · 120 frames in 8 s'
    >>> finished(Progress(num_done=30, num_total=120, elapsed_s=2.1), is_complete=True)
    'done · 30 frames in 2 s, the others agreed already'
    >>> finished(Progress(num_done=0, num_total=0, elapsed_s=0.1), is_complete=True)
    'done · nothing left to follow'
    """
    if not now.num_done:
        return "done · nothing left to follow" if is_complete else "stopped"
    is_whole = now.num_done >= now.num_total
    state = "done" if is_whole or is_complete else "stopped"
    text = f"{state} · {num_frames(now.num_done)} in {duration(now.elapsed_s)}"
    return text if is_whole or not is_complete else f"{text}, the others agreed already"


def frame(index: int, provenance: Provenance, presence: float, predicted_iou: float, *, is_locked: bool = False) -> str:
    """Say where the mask of a frame comes from; the model's estimates only where the mask is the model's.

    Examples
    --------
    >>> from napari_virst.records import Provenance
    >>> frame(12, Provenance.PROPAGATED, presence=0.93, predicted_iou=0.81)
    'frame 12: propagated, presence 0.93, predicted IoU 0.81'
    >>> frame(12, Provenance.CORRECTED, presence=0.93, predicted_iou=0.81)
    'frame 12: corrected'
    """
    text = f"frame {index}: {_PROVENANCE[provenance]}" + (", locked" if is_locked else "")
    if provenance in (Provenance.PREDICTED, Provenance.PROPAGATED):
        for name, value in (("presence", presence), ("predicted IoU", predicted_iou)):
            text += f", {name} {value:.2f}" if math.isfinite(value) else ""
    return text


def outside(index: int, count: int) -> str:
    """Say that the viewer is at none of a video's ``count`` frames.

    Examples
    --------
    >>> outside(30, 10), outside(30, 1)
    ('frame 30: outside this video, which has frames 0–9', 'frame 30: outside this video, which has frame 0 only')
    """
    return f"frame {index}: outside this video, which has {_frames_of(count)}{' only' * (count == 1)}"


def must_be_in_view(index: int, count: int) -> str:
    """Say that the frame to change must be in view, and is none of a video's ``count`` frames.

    Examples
    --------
    >>> must_be_in_view(30, 10)
    "The frame in view must be one of this video's 10; got 30; move the slider back to frames 0–9."
    """
    wanted = f"The frame in view must be one of this video's {count}"
    return f"{wanted}; got {index}; move the slider back to {_frames_of(count)}."


MUST_SEE_ONE_FRAME = (
    "One frame must be in view; got all of them at once; show two dimensions (Ctrl+Y), or roll the axes (Ctrl+E) until "
    "time has its slider again."
)


def must_see_plane(plane: str) -> str:
    """Say that the plane to change must be in view, and another is.

    Examples
    --------
    >>> must_see_plane("plane 2")
    'The plane in view must be plane 2, where the labels are; got another; move its slider back.'
    """
    return f"The plane in view must be {plane}, where the labels are; got another; move its slider back."


def beside_plane(told: str, plane: str) -> str:
    """Add to what is ``told`` of a frame that its labels are in a plane which is not in view.

    Examples
    --------
    >>> beside_plane("frame 12: corrected", "plane 2")
    'frame 12: corrected; its labels are in plane 2, another is in view'
    """
    return f"{told}; its labels are in {plane}, another is in view"


def follows_plane(volume: str, plane: str) -> str:
    """Say that of a volume one plane is followed.

    Examples
    --------
    >>> follows_plane("stack", "plane 2")
    "'stack' has several planes; the one in view, plane 2, is followed, and its labels show only there."
    """
    return f"'{volume}' has several planes; the one in view, {plane}, is followed, and its labels show only there."


def _frames_of(count: int) -> str:
    return "frame 0" if count == 1 else str(Span(0, count))


def plan(span: Span | None, seconds: float | None) -> str:
    """Say what re-propagation would do at most; empty when there is nothing to do.

    It may end earlier, where what is followed agrees again with what is held.

    Examples
    --------
    >>> from napari_virst.records import Span
    >>> plan(Span(312, 489), 35.0), plan(Span(312, 489), None), plan(None, None)
    ('frames 312–488 at most, about 35 s', 'frames 312–488 at most', '')
    """
    if span is None or not len(span):
        return ""
    is_known = seconds is not None and math.isfinite(seconds)
    return f"{span} at most" + (f", about {duration(seconds)}" if is_known and seconds is not None else "")


def is_open(name: str) -> str:
    """Say that a video was opened while another stays chosen."""
    return f"'{name}' is open; choose it under Image."


RUN_MUST_END = "A run must have ended before"
"""How what is refused during a run begins; no longer true when the run has ended."""


def run_must_end(doing: str) -> str:
    """Say that something cannot be done during a run.

    Examples
    --------
    >>> run_must_end("undoing")
    'A run must have ended before undoing; got one at work; wait, or cancel it (Esc).'
    """
    return f"{RUN_MUST_END} {doing}; got one at work; wait, or cancel it (Esc)."


def kept(name: str, folder: str) -> str:
    """Say where the queries are of an image that was taken out of the viewer.

    Examples
    --------
    >>> kept("frames", "/data/frames")
    "'frames' is gone, and its run with it; its queries are kept in /data/frames: Open project goes on with them."
    """
    return f"'{name}' is gone, and its run with it; its queries are kept in {folder}: Open project goes on with them."


def taken_over(layer_name: str, count: int) -> str:
    """Say what became of labels that something put into a query's layer in place of its masks.

    Examples
    --------
    >>> taken_over("the cell", 3), taken_over("the cell", 0)
    ("What was put into 'the cell' counts as painted by you: 3 frames.", "'the cell' keeps its masks.")
    """
    if not count:
        return f"'{layer_name}' keeps its masks."
    return f"What was put into '{layer_name}' counts as painted by you: {num_frames(count)}."


def exported(report: ExportReport, folder: Path) -> str:
    """Say what was exported, and the first of what is to be known of it.

    Examples
    --------
    >>> from pathlib import Path
    >>> from napari_virst.io.exporting import ExportReport
    >>> report = ExportReport("coco", 1, 48, 0, 2, ("the cell",), False, ())
    >>> exported(report, Path("/data/cells-coco"))
    'Exported 48 frames with 2 objects to /data/cells-coco.'
    """
    objects = "1 object" if report.num_objects == 1 else f"{report.num_objects} objects"
    told = f"Exported {num_frames(report.num_frames)} with {objects} to {folder}."
    more = f" {len(report.notes) - 1} more remarks are in export.json." if len(report.notes) > 1 else ""
    return told + (f" {report.notes[0]}" if report.notes else "") + more


def other_label(label: int, name: str) -> str:
    """Say that a label painted beside the track's own is no object of its own.

    Examples
    --------
    >>> other_label(5, "object")
    'Label 5 is followed as a part of “object”; for another object use Paint it.'
    """
    return f"Label {label} is followed as a part of “{name}”; for another object use Paint it."


def queries(typed: str) -> list[str]:
    r"""Take apart what was typed: queries are divided by ";" or line breaks, and each counts once.

    Examples
    --------
    >>> queries("the red circle; the  star;"), queries("the star\nthe star"), queries(" ")
    (['the red circle', 'the star'], ['the star'], [''])
    """
    parts = [" ".join(part.split()) for line in typed.splitlines() for part in line.split(";")]
    return list(dict.fromkeys(part for part in parts if part)) or [""]


_UNDONE = {
    "run": "the last run",
    "correct": "the correction",
    "accept": "the acceptance",
    "absent": "“absent here”",
    "give": "the given mask",
    "restore": "giving a frame back to the model",
    "split": "splitting into instances",
    "merge": "merging instances",
    "swap": "swapping instances",
    "parent": "the division",
}


def undone(action: str | None, query: str) -> str:
    """Say what undo has taken back.

    Examples
    --------
    >>> undone("run", "the cell"), undone(None, "the cell")
    ('Undone for “the cell”: the last run.', 'Nothing to undo for “the cell”; strokes are undone with Ctrl+Z.')
    """
    if action is None:
        return f"Nothing to undo for “{query}”; strokes are undone with Ctrl+Z."
    return f"Undone for “{query}”: {_UNDONE.get(action, action)}."


def accepted(span: Span, frames: tuple[int, ...], *, is_halted: bool = False) -> str:
    """Say which ``frames`` of those chosen a person vouches for now; ``is_halted``: it was cancelled before its end.

    Examples
    --------
    >>> from napari_virst.records import Span
    >>> accepted(Span(4, 5), (4,)), accepted(Span(4, 7), (4, 6))
    ('Frame 4 accepted.', '2 frames accepted; 1 frame had no mask, or was yours already.')
    >>> accepted(Span(0, 100), (0, 1), is_halted=True)
    'Cancelled; 2 frames accepted by then stay so, and Ctrl+Alt+Z takes it back.'
    >>> accepted(Span(0, 100), (), is_halted=True)
    'Cancelled before any frame was accepted.'
    """
    if is_halted and not frames:
        return "Cancelled before any frame was accepted."
    if is_halted:
        return f"Cancelled; {num_frames(len(frames))} accepted by then stay so, and Ctrl+Alt+Z takes it back."
    if not frames:
        return "Nothing to accept: no mask here, or it is yours already."
    left = len(span) - len(frames)
    rest = f"; {num_frames(left)} had no mask, or {'was' if left == 1 else 'were'} yours already" if left else ""
    what = f"Frame {frames[0]}" if len(span) == 1 else num_frames(len(frames))
    return f"{what} accepted{rest}."


def num_frames(count: int) -> str:
    """Count frames.

    Examples
    --------
    >>> num_frames(1), num_frames(3)
    ('1 frame', '3 frames')
    """
    return f"{count} frame{'s' * (count != 1)}"
