"""What a person says of frames, and which frame to look at: between dock, timeline and session."""

from __future__ import annotations

import math
from functools import partial
from textwrap import fill
from typing import TYPE_CHECKING

import numpy as np

from napari_virst.evaluation.doubt import distance_to
from napari_virst.gui import layers, review, sentences
from napari_virst.gui.review import Clues, Tour
from napari_virst.gui.timeline_state import TimelineState
from napari_virst.records import Provenance, Span

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.components import ViewerModel
    from napari.layers import Labels

    from napari_virst.gui.desk import Desk
    from napari_virst.gui.desks import Desks
    from napari_virst.gui.widget import VirstWidget
    from napari_virst.session.session import AnnotationSession, Track

_TIP_CHARACTERS = 60


class Reviewing:
    """Carries out what is wished of single frames and of those selected on the timeline.

    Every method may raise what the session raises; the presenter turns that into sentences.

    Parameters
    ----------
    viewer : ViewerModel
        Whose frame in view is moved.
    dock : VirstWidget
        Where frames are selected.
    desks : Desks
        The annotated images.
    say, tell : callable
        Show a sentence; show anew what is known of the track.
    """

    def __init__(
        self, viewer: ViewerModel, dock: VirstWidget, desks: Desks, say: Callable[[str], None], tell: Callable[[], None]
    ) -> None:
        self._viewer, self._dock, self._desks = viewer, dock, desks
        self._say, self._tell = say, tell
        self._tours: dict[str, Tour] = {}

    # Where to look ----------------------------------------------------------------------------------------------

    def go_to(self, layer: Labels, frame: int) -> None:
        """Bring a frame into view, and of a volume the plane of the layer."""
        dims = self._viewer.dims
        if layer.ndim <= dims.ndim:
            axes = range(dims.ndim - layer.ndim, dims.ndim - 2)
            dims.set_point(axes, layers.world_place_of(frame, layer, dims.point))

    def review(self, layer: Labels, direction: int) -> None:
        """Go to the next frame worth a look, or back to the one before."""
        desk, track = self._desks.owner_of(layer)
        tour = self._tours[track.track_id] = self._tour(track)
        if direction > 0:
            frame = tour.forward(partial(desk.session.next_to_review, track, None))
        else:
            frame = tour.back(desk.view.frame())
        if frame is None:
            self._say(sentences.ALL_REVIEWED if direction > 0 else sentences.NONE_REVIEWED_BEFORE)
            return
        self.go_to(layer, frame)
        for text in sentences.UNTIL_REVIEWED:
            self._dock.clear_message(text)
        self._tell()

    def _tour(self, track: Track) -> Tour:
        return self._tours.get(track.track_id, Tour()).at(track.revision)

    def reason(self, session: AnnotationSession, track: Track, frame: int) -> str:
        """Say why the frame in view was suggested; empty where it was not, or is settled."""
        if self._tour(track).stop != frame or track.masks.provenance(frame).is_users:
            return ""
        doubt = float(session.doubts(track)[frame])
        return review.suggestion(frame, doubt, review.reasons(clues_of(track, frame)))

    # What a person says -----------------------------------------------------------------------------------------

    def commit(self, layer: Labels) -> None:
        """Take the frame in view as a user anchor."""
        desk, track = self._desks.owner_of(layer)
        frame = desk.view.frame_to_change()
        span = desk.session.correct(track, frame)
        said = f"Frame {frame} is an anchor now; re-propagating reaches {span}. {other_label(track, frame)}"
        self._say(said.rstrip())
        self._tell()

    def mark_absent(self, layer: Labels, frame: int | None = None) -> None:
        """Declare that the object cannot be seen on a frame, by default the one in view."""
        desk, track = self._desks.owner_of(layer)
        frame = desk.view.frame_to_change() if frame is None else frame
        span = desk.session.mark_absent(track, frame)
        self._say(f"'{track.query.name}' is absent on frame {frame}; re-propagating reaches {span}.")
        self._tell()

    def accept(self, layer: Labels) -> None:
        """Vouch for the selected frames, or the one in view."""
        desk, track = self._desks.owner_of(layer)
        span = self._chosen(desk)
        if len(span) == 1:  # 20 ms a frame at 512 × 512, most of it the disk
            self._on_accepted(span, desk.session.accept_frames(track, span))
            return
        accept = partial(desk.session.accept_frames, track, span)
        desk.do_in_background(
            f"accepting {span}",
            accept,
            lambda frames: self._on_accepted(span, frames, is_halted=desk.session.was_halted),
        )

    def _on_accepted(self, span: Span, frames: tuple[int, ...], *, is_halted: bool = False) -> None:
        self._say(sentences.accepted(span, frames, is_halted=is_halted))
        self._dock.timeline.clear_selection()
        self._tell()

    def lock(self, layer: Labels) -> None:
        """Have runs leave the selected frames, or the one in view, alone; or no longer, where all are locked."""
        desk, track = self._desks.owner_of(layer)
        span = self._chosen(desk)
        is_locked = bool(track.locked[span.start : span.stop].all())
        desk.session.lock(track, span, not is_locked)
        what = f"Frame {span.start}" if len(span) == 1 else str(span).capitalize()
        self._say(f"{what} unlocked." if is_locked else f"{what} locked: runs leave the masks alone; U unlocks.")
        self._dock.timeline.clear_selection()
        self._tell()

    def learn(self, layer: Labels, is_on: bool) -> None:
        """Have a track learn from its corrections while nothing runs, or no longer."""
        desk, track = self._desks.owner_of(layer)
        self._dock.clear_message(sentences.LEARNING)
        if desk.session.set_learning(track, is_on):
            self._say(sentences.LEARNING)
        self._tell()

    def _chosen(self, desk: Desk) -> Span:
        selected = self._dock.selected_frames
        if selected is not None:
            return selected
        frame = desk.view.frame_to_change()
        return Span(frame, frame + 1)

    # Anchors ----------------------------------------------------------------------------------------------------

    def delete_anchor(self, layer: Labels, frame: int) -> None:
        """Give a person's frame back to the model, or have a model anchor used no more."""
        desk, track = self._desks.owner_of(layer)
        span = desk.session.delete_anchor(track, frame)
        self._say(f"The anchor on frame {frame} is deleted; re-propagating reaches {span}.")
        self._tell()

    def reuse_anchor(self, layer: Labels, frame: int) -> None:
        """Use a deleted model anchor again."""
        desk, track = self._desks.owner_of(layer)
        span = desk.session.exclude_anchor(track, frame, False)
        self._say(f"The anchor on frame {frame} is used again; re-propagating reaches {span}.")
        self._tell()

    def pin_anchor(self, layer: Labels, frame: int, is_pinned: bool) -> None:
        """Have a model anchor used whatever user anchors say, or no longer."""
        desk, track = self._desks.owner_of(layer)
        span = desk.session.pin_anchor(track, frame, is_pinned)
        state = "pinned" if is_pinned else "no longer pinned"
        self._say(f"The anchor on frame {frame} is {state}; re-propagating reaches {span}.")
        self._tell()


def plan_of(session: AnnotationSession, track: Track) -> str:
    """Say what re-propagating would do at most; empty where nothing is left to compute."""
    span, seconds = session.predict_span(track)
    return sentences.plan(span, seconds) if span is not None and track.num_to_compute((span,)) else ""


def no_plan(track: Track) -> str:
    """Say why re-propagating would do nothing."""
    is_open = track.num_to_compute((Span(0, track.num_frames),))
    if not is_open:
        return sentences.ALL_SETTLED
    return sentences.NONE_BESIDE if track.touched() else sentences.NOTHING_TO_REPROPAGATE


def other_label(track: Track, frame: int) -> str:
    """Say that a frame holds a label beside the track's own that is no instance; empty where it holds none."""
    found = set() if track.lineage is not None else set(np.unique(track.masks.frame(frame)).tolist())
    others = sorted(found - {0, track.label})
    return sentences.other_label(others[0], track.query.name) if others else ""


def timeline_state(session: AnnotationSession, track: Track) -> TimelineState:
    """Gather what the timeline shows of a track: a few milliseconds at 10 000 frames."""
    book, users = track.anchors, set(track.anchors.user_anchors())
    return TimelineState(
        track.masks.provenances,
        track.locked.copy(),
        session.doubts(track),
        user_anchors=tuple(sorted(users)),
        model_anchors=book.model_anchors(),
        demoted=tuple(sorted(book.demoted - book.excluded - users)),
        excluded=tuple(sorted(book.excluded - users)),
        pinned=book.pinned,
        describe=partial(describe, session, track),
    )


def describe(session: AnnotationSession, track: Track, frame: int) -> str:
    """Say what is known of a frame, and which anchor governs it, in lines."""
    presence, iou = float(track.last_presence[frame]), float(track.last_iou[frame])
    provenance = track.masks.provenance(frame)
    said = [sentences.frame(frame, provenance, presence, iou, is_locked=bool(track.locked[frame]))]
    if provenance in (Provenance.PREDICTED, Provenance.PROPAGATED):
        doubt, why = float(session.doubts(track)[frame]), review.reasons(clues_of(track, frame))
        said.append(f"doubt {doubt:.2f}" + (f": {why}" if why else ""))
    for note in session.anchor_notes(track):
        if note.frame == frame:
            state = "pinned" if note.is_pinned else note.state
            said.append(fill(f"{note.kind} anchor, {state}. {note.why}", _TIP_CHARACTERS))
        elif frame in note.governs:
            said.append(f"nearest anchor in use: frame {note.frame} ({note.kind})")
    return "\n".join(said)


def clues_of(track: Track, frame: int) -> Clues:
    """Gather what is known of one frame."""
    users = track.anchors.user_anchors()
    nearest = min(users, key=lambda one: abs(one - frame), default=None)
    areas = track.masks.areas_px
    ratio = math.nan if nearest is None else float((areas[frame] + 1) / (areas[nearest] + 1))
    return Clues(
        presence=float(track.last_presence[frame]),
        predicted_iou=float(track.last_iou[frame]),
        agreement=float(track.agreements[frame]),
        area_ratio=ratio if np.isfinite(ratio) else math.nan,
        distance=None if nearest is None else int(distance_to((nearest,), track.num_frames)[frame]),
    )
